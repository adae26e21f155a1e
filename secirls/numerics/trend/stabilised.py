"""Normalised counts on a scale on which their variance hardly depends on their mean, by the trend of dispersions.

Promises: R's ``varianceStabilizingTransformation(blind=FALSE)`` for the parametric trend and the mean; for large counts
log2 of the normalised count. For the local trend, the integral that R approximates on a grid of the data's own range:
here it follows from public numbers alone, so that all sites transform alike. Refuses to know: samples, size factors.

Anders and Huber (2010), eq. 9: the integral of one over the standard deviation, var(q) = q mean(1 / s) + alpha(q) q^2.
"""

from __future__ import annotations

import numpy as np

from secirls.numerics.arrays import Floats
from secirls.numerics.trend.trend import Trend

_LOW, _HIGH = 0.95, 0.999
"""Quantiles of base means at which the transform of a local trend equals log2."""
_PIECES, _NODES = 4096, 8
"""Of the integral: pieces, equal in asinh of the root, and points of Gauss and Legendre in each."""
LARGEST_NORMALISED = 2.0**62
"""No normalised count is larger."""


class NoTransformError(ValueError):
    """The trend gives no transform of these genes."""


def stabilised(normalised: Floats, trend: Trend, base_means: Floats, mean_inverse: float) -> Floats:
    """The transform of normalised counts, in the shape they have.

    Parameters
    ----------
    normalised
        Counts over size factors, zero or more.
    trend
        Of dispersions over base means.
    base_means, mean_inverse
        Of the fit: mean normalised count ``(genes,)`` and mean of 1 / s; a local trend alone needs them.

    Raises
    ------
    NoTransformError
        Where a local trend's scale can't be fixed, the large base means being one.
    """
    if trend.kind == "parametric":
        a, e = trend.asymptotic, trend.extra_poisson
        root = np.sqrt(a * normalised * (1.0 + e + a * normalised))
        closed: Floats = np.log2((1.0 + e + 2.0 * a * normalised + 2.0 * root) / (4.0 * a))
        return closed
    if trend.kind == "mean":
        a = trend.mean
        negative_binomial: Floats = (2.0 * np.arcsinh(np.sqrt(a * normalised)) - np.log(4.0 * a)) / np.log(2.0)
        return negative_binomial
    known = base_means[np.isfinite(base_means)]
    low, high = np.quantile(known, [_LOW, _HIGH]) if known.size else (0.0, 0.0)
    if not 0.0 < low < high:
        raise NoTransformError("the genes' base means are too alike to fix the scale of a local trend's transform")
    values = _integrals(trend, mean_inverse, np.array([low, high, *np.ravel(normalised)]))
    slope = (np.log2(high) - np.log2(low)) / (values[1] - values[0])
    integrated: Floats = np.log2(low) + slope * (values[2:] - values[0])
    return integrated.reshape(np.shape(normalised))


def _integrals(trend: Trend, mean_inverse: float, ends: Floats) -> Floats:
    """The integrals from 0 of 1 / sqrt(alpha(q) q^2 + q mean(1 / s)), each to the ends ``(n,)``.

    With q = sinh(v)^2 nothing in them is singular.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)

    def density(v: Floats) -> Floats:
        root = np.sinh(v)
        squared = root * root
        some = squared > 0
        rest = np.where(some, trend.at(np.where(some, squared, 1.0)), 0.0) * squared
        found: Floats = 2.0 * np.cosh(v) / np.sqrt(mean_inverse + rest)
        return found

    width = np.arcsinh(np.sqrt(LARGEST_NORMALISED)) / _PIECES
    starts = np.arange(_PIECES) * width
    whole = np.zeros(_PIECES)
    for node, weight in zip(nodes, weights, strict=True):
        whole += 0.5 * width * weight * density(starts + 0.5 * width * (node + 1.0))
    before = np.concatenate([[0.0], np.cumsum(whole)])
    v = np.arcsinh(np.sqrt(ends))
    piece = np.minimum((v / width).astype(np.intp), _PIECES - 1)
    part = v - piece * width
    found: Floats = before[piece]
    for node, weight in zip(nodes, weights, strict=True):
        found = found + 0.5 * part * weight * density(piece * width + 0.5 * part * (node + 1.0))
    return found
