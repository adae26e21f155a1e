"""Whether sums are exact, what those of other packages cost, and what is left when sites vanish."""
