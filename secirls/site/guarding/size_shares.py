"""How much of sums over size factors is one site's, or one sample's: bounded from what the census tells of all sites'.

Promises: what is said of all samples holds whatever the other sites' size factors are, if their logs have the sum told.
Refuses to know: what is too much; see `Policy`.
"""

from __future__ import annotations

import numpy as np

from secirls.inputs.designs.ranks import largest_share
from secirls.numerics.arrays import Floats


def size_shares(
    size_factors: Floats, log_sum: float, samples: float, rows: Floats, every: Floats
) -> tuple[float, float]:
    """The largest parts of this site along any combination of design columns, and of one sample, in sums of 1 / s^2.

    ``size_factors`` are the site's, ``(samples,)``, and ``rows`` its design ``(samples, params)``; ``log_sum`` is the
    sum of log s over so many ``samples`` of all sites, whose X'X is ``every``.

    From the logs follows the geometric mean of the other sites' size factors, and no more. Over all samples, their sum
    of 1 / s^2 is at least their number over the square of it (arithmetic means are no smaller than geometric ones).
    Along other combinations of columns there is no such bound, and each of them is taken to have that mean as its own.
    """
    known = np.isfinite(size_factors) & (size_factors > 0)
    logs, others = np.log(size_factors[known]), samples - size_factors.size
    if not logs.size or not others > 0:
        return (1.0, 1.0) if logs.size else (0.0, 0.0)
    mean = (log_sum - float(logs.sum())) / others
    largest = max(float(-logs.min()), -mean)
    weights, usual = np.exp(2.0 * (-logs - largest)), float(np.exp(2.0 * (-mean - largest)))
    own, here = float(weights.sum()), rows[known]
    with np.errstate(all="ignore"):  # what is too large has no share, and is lost in the sums
        some = here.T @ (here * weights[:, None])
        along, _ = largest_share(some, some + usual * (every - rows.T @ rows))
    return max(own / (own + others * usual), along), float(weights.max()) / (own + others * usual)
