"""Dispersions as pure functions of arrays: a gene's profile likelihood, the paths over it, the trend, the prior."""
