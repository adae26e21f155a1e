"""Coefficients over sums: IRLS, who takes the genes that it does not settle, and fits in fewer of them."""
