"""What becomes of outliers: found by Cook's distances that stay at home, replaced, or left without a p-value."""
