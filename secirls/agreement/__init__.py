"""What all know before a session, and what a session leaves."""
