"""From estimates to p-values, and to fold changes drawn towards zero; from public sums alone."""
