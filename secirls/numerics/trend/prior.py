"""How far genes' log dispersions scatter around the trend, and the variance of the prior that follows from it.

Promises: DESeq2's two rules: subtract the sampling variance from a robust variance of the residuals; with three or
fewer residual degrees of freedom match their histogram with simulated ones. Refuses to know: profiles, sites.

The simulated histograms are R's own, which depend on the degrees of freedom alone: ``data/prior_dof?.csv.gz`` holds,
for 200 prior variances in [0, 8], the counts of 10,000 draws of log chi-squared + normal - log(degrees of freedom) in
40 bins of width 1/2. They ship because R's answer depends on its draws: the exact law gives 0.44 where R has 0.53.
Love, Huber and Anders (2014, methods, empirical prior estimate).
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from scipy.special import polygamma

from secirls.numerics.arithmetic import portable
from secirls.numerics.arithmetic.portable import log, strictly
from secirls.numerics.arrays import Floats
from secirls.numerics.trend.loess import loess
from secirls.numerics.trend.trend import LEAST_FITTED

MIN_PRIOR_VARIANCE = 0.25
MOST_SIMULATED = 3
"""Residual degrees of freedom up to which histograms are matched."""
MAD_PER_SIGMA = 1.4826
_LARGEST_VARIANCE = 8.0
_FINE = 1000
_SPAN = 0.2
_BREAKS = np.arange(-20, 21) / 2.0
_FUZZ = 1e-7 * 0.5
"""R's hist() counts a value this little above a break as on it."""

SHA256: Final = {
    1: "780f706d59069b60851c302c0c843e6e41cd55f833c0b81a5f2cd9a5a726d0a8",
    2: "d19f8556fbc9749aa7e3fe6654112a1128b2a54579d48135c97d513f10a46d6d",
    3: "73a0d4f4b7c16ccea7d5d4691da78ec8a92c923df5f3f93146e8883d08a87770",
}
"""Of the decompressed tables."""


def residuals(estimates: Floats, trend: Floats) -> Floats:
    """Log estimate - log trend of the genes whose estimate is 1e-6 or more."""
    used = estimates >= LEAST_FITTED
    return portable.logs(estimates[used]) - portable.logs(trend[used])


def log_variance(rest: Floats, mad_per_sigma: float = MAD_PER_SIGMA) -> float:
    """A robust variance of residuals: so many times the median absolute deviation, squared."""
    spread = mad_per_sigma * float(np.median(np.abs(rest - np.median(rest))))
    return spread * spread


def prior_variance(
    rest: Floats, degrees: int, mad_per_sigma: float = MAD_PER_SIGMA, *, simulated: bool = True
) -> float:
    """The variance of the normal prior of log dispersions, from residuals and n - p > 0; never below 1/4.

    `simulated`: by matching with R's draws where n - p is 3 or less.
    """
    if degrees < 1:
        raise ValueError("a prior needs more samples than design columns")
    if simulated and degrees <= MOST_SIMULATED:
        return max(matched_variance(rest, degrees), MIN_PRIOR_VARIANCE)
    return max(log_variance(rest, mad_per_sigma) - sampling_variance(degrees), MIN_PRIOR_VARIANCE)


def sampling_variance(degrees: int) -> float:
    """Variance of the log of a chi-squared over its degrees of freedom: trigamma(degrees / 2), rounded to 2^-48.

    The rounding makes it the same number wherever a library's last bit differs.
    """
    return float(np.round(float(polygamma(1, degrees / 2.0)) * 2.0**48) / 2.0**48)


def matched_variance(rest: Floats, degrees: int) -> float:
    """The prior variance whose simulated residuals are nearest, by smoothed Kullback-Leibler divergence."""
    grid = np.arange(200, dtype=np.float64) * (_LARGEST_VARIANCE / 199)
    inside = rest[(rest > _BREAKS[0]) & (rest < _BREAKS[-1])]
    bins = np.searchsorted(_BREAKS + _FUZZ, inside, side="left") - 1
    observed = np.bincount(np.maximum(bins, 0), minlength=40)[:40].astype(np.float64)
    divergences = np.empty(grid.size)
    _divergences(observed, simulated(degrees), divergences)
    fine = np.arange(_FINE, dtype=np.float64) * (_LARGEST_VARIANCE / (_FINE - 1))
    smooth = loess(grid, divergences, _SPAN, fine)
    return float(fine[int(np.argmin(smooth))])


@strictly()
def _divergences(observed: Floats, drawn: Floats, out: Floats) -> None:
    """Of the observed density from each drawn one; the smallest positive density is added to both."""
    bins = observed.size
    width = 0.5
    p, q = np.empty(bins), np.empty(bins)
    seen = 0.0
    for i in range(bins):
        seen += observed[i]
    for k in range(drawn.shape[0]):
        total = 0.0
        for i in range(bins):
            total += drawn[k, i]
        small = np.inf
        for i in range(bins):
            p[i], q[i] = observed[i] / (seen * width), drawn[k, i] / (total * width)
            if p[i] > 0.0:
                small = min(small, p[i])
            if q[i] > 0.0:
                small = min(small, q[i])
        divergence = 0.0
        for i in range(bins):
            divergence += p[i] * (log(p[i] + small) - log(q[i] + small))
        out[k] = divergence


@cache
def simulated(degrees: int) -> Floats:
    """R's histograms for so many residual degrees of freedom, ``(200 variances, 40 bins)``, checked and read-only."""
    packed = files("secirls.numerics.trend").joinpath(f"data/prior_dof{degrees}.csv.gz").read_bytes()
    text = gzip.decompress(packed)
    if hashlib.sha256(text).hexdigest() != SHA256[degrees]:
        raise RuntimeError("the simulated priors in this installation are damaged: install secirls again")
    rows = [line.split(",") for line in text.decode().splitlines()[1:]]
    table = np.array([[float(value) for value in row] for row in rows])
    table.flags.writeable = False
    return table
