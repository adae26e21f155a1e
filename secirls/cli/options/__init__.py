"""Options that several commands have alike."""
