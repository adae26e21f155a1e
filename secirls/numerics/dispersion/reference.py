"""A gene's likelihood at many dispersions in plain NumPy: the formulas that `kernel` is held to.

Promises: `likelihood.nll` at every count and node. Refuses to know: blocks, who asks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from secirls.numerics.arrays import Counts, Floats
from secirls.numerics.regression import likelihood


def profile(
    counts: Counts,
    coefficients: Floats,
    design: Floats,
    levels: Floats,
    level: NDArray[np.intp],
    s: Floats,
    min_mu: float,
    linear: bool,
    alphas: Floats,
    starts: NDArray[np.intp],
    det_alphas: Floats,
    det_starts: NDArray[np.intp],
    loglik: Floats,
    xwx: Floats,
    constant: Floats,
) -> None:
    """Fill `loglik`, `xwx` and `constant`, one gene at a time; see `sums.profile_sums` for the meaning."""
    for gene in range(counts.shape[0]):
        eta = (coefficients[gene] * design).sum(axis=1)
        mu = np.maximum(s * (eta if linear else np.exp(np.clip(eta, -700.0, likelihood.LARGEST_LOG_MU))), min_mu)
        y, log_mu = counts[gene].astype(np.float64), np.log(mu)
        here, det_here = slice(starts[gene], starts[gene + 1]), slice(det_starts[gene], det_starts[gene + 1])
        loglik[here] = -likelihood.nll(y[:, None], log_mu[:, None], alphas[here]).sum(axis=0)
        alpha = det_alphas[det_here, None]
        weight = mu * ((1.0 + alpha) / (1.0 + alpha * mu))
        xwx[det_here] = (weight[:, :, None] * levels[level]).sum(axis=1)
        constant[gene] = (y * log_mu - gammaln(y + 1.0)).sum()
