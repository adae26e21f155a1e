"""What a whole fit and a round cost, by part and by size, and beside other packages."""
