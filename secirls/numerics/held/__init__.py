"""What a site holds, as arrays: counts, covariates, columns of its own, and few points in place of samples."""
