"""What every experiment stands on: its record, the pages that tell it, and its data."""
