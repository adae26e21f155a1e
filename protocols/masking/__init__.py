"""Sums under pairwise masks: the two ends, what both know, their keys, their bytes, and who shares masks."""
