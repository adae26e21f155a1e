"""How much of sums over size factors is one site's, or one sample's: bounded from what the census tells of all sites'.

Promises: a bound that holds whatever the other sites' size factors are, if their logs have the sum that is told.
Refuses to know: what is too much; see `Policy`.
"""

from __future__ import annotations

import numpy as np

from secirls.numerics.arrays import Floats


def size_shares(size_factors: Floats, log_sum: float, samples: float) -> tuple[float, float]:
    """The largest part that this site, and one of its samples, can have in the sum of 1 / s^2 over all samples.

    ``size_factors`` are the site's, ``(samples,)``; ``log_sum`` is the sum of log s over so many ``samples`` of all
    sites. By the inequality of arithmetic and geometric means that of the others is at least their number times the
    square of one over their geometric mean.
    """
    logs = np.log(size_factors[np.isfinite(size_factors) & (size_factors > 0)])
    others = samples - size_factors.size
    if not logs.size or not others > 0:
        return (1.0, 1.0) if logs.size else (0.0, 0.0)
    mean = (log_sum - float(logs.sum())) / others
    largest = max(float(-logs.min()), -mean)
    weights = np.exp(2.0 * (-logs - largest))
    own = float(weights.sum())
    every = own + others * float(np.exp(2.0 * (-mean - largest)))
    return own / every, float(weights.max()) / every
