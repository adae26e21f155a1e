"""Designs that all sites agree on, what follows from them without a sample, and what is compared in them."""
