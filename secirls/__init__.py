"""Federated negative-binomial regression under secure sums."""
