"""The negative-binomial likelihood of counts, and the kernels that make a round's sums over a site's samples."""
