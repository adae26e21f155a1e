"""Secure sums over a ring: arrays and bytes, nothing of genes, nothing of Ray. See ``README.md`` here."""
