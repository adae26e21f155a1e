"""What a notebook shows of a fit: its progress, and its end."""
