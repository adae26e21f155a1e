"""What could be learned from what is told."""
