"""One scientific question per module, run from the checkout with ``python -m experiments``; never installed."""
