"""What outliers are measured by: Cook's distances, and moments that are trimmed."""
