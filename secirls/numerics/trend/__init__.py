"""The trend of dispersions over means, the prior around it, and counts on the scale that it gives."""
