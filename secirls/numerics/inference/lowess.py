"""Robust locally weighted regression of a few points, as R's `lowess` computes it, and as PyDESeq2 does.

Promises: every point is fitted by itself, on its nearest points including the point. Refuses to know: what the
points are.
"""

from __future__ import annotations

import numpy as np

from secirls.numerics.arrays import Floats

_SAME, _FAR = 0.001, 0.999
"""Shares of a bandwidth below which a weight is one, and beyond which it is zero."""
_FLAT = 0.001
"""No slope is fitted where the weighted spread of x is below this share of the range of x."""
_EXACT = 1e-7
"""Residuals are not looked at again once six medians are below this share of the mean one."""
_BANDWIDTH = 6.0
"""Of the bisquare weights, in medians of the absolute residuals."""


def lowess(x: Floats, y: Floats, share: float, passes: int = 3) -> Floats:
    """Smooth y at each x by local lines with tricube weights, made robust by bisquare weights.

    Cleveland (1979), "Robust locally weighted regression and smoothing scatterplots", with the cutoffs of his program.

    Parameters
    ----------
    x
        In increasing order, ``(points,)``.
    y
        ``(points,)``.
    share
        Of the points that a local line is fitted to; the bandwidth reaches to the farthest of them.
    passes
        Fits after the first, each with the weights that the residuals of the one before give.

    Returns
    -------
    The smooth curve at each x, ``(points,)``.
    """
    if x.size < 2:
        return y.astype(np.float64)
    nearest = min(max(int(share * x.size + 1e-7), 2), x.size)
    distance = np.abs(x[:, None] - x)
    reach = np.sort(distance, axis=1)[:, nearest - 1, None]
    near = _fade(distance, reach, 3)
    span = float(x[-1] - x[0])
    trusted = np.ones_like(x)
    for _ in range(passes):
        smooth = _lines(x, y, near * trusted, span)
        rest = np.abs(y - smooth)
        scale = _BANDWIDTH * float(np.median(rest))
        if scale < _EXACT * rest.mean():
            return smooth
        trusted = _fade(rest, np.asarray(scale), 2)
    return _lines(x, y, near * trusted, span)


def pydeseq2_lowess(x: Floats, y: Floats, share: float) -> Floats:
    """As `lowess`, but as PyDESeq2 fits it: bandwidths reach one point farther, weights have no cutoffs, three fits."""
    if x.size < 2:
        return y.astype(np.float64)
    beyond = min(int(np.ceil(share * x.size)), x.size - 1)
    distance = np.abs(x[:, None] - x)
    reach = np.maximum(np.sort(distance, axis=1)[:, beyond], 1e-12)
    near = (1.0 - np.minimum(distance / reach[:, None], 1.0) ** 3) ** 3
    trusted, smooth = np.ones_like(x), np.zeros_like(x)
    for _ in range(3):
        smooth = _lines(x, y, near * trusted, 0.0)
        rest = y - smooth
        scale = 6.0 * float(np.median(np.abs(rest)))
        off = (rest != 0).astype(np.float64) if scale == 0 else np.clip(rest / scale, -1.0, 1.0)
        trusted = (1.0 - off**2) ** 2
    return smooth


def _fade(distance: Floats, reach: Floats, power: int) -> Floats:
    """``(1 - (distance / reach)^power)^power``, one next to the point and zero at the edge: tricube or bisquare."""
    share = np.divide(distance, reach, out=np.zeros_like(distance), where=np.broadcast_to(reach > 0, distance.shape))
    weight = (1.0 - np.minimum(share, 1.0) ** power) ** power
    weight = np.where(distance <= _SAME * reach, 1.0, weight)
    return np.where(distance > _FAR * reach, 0.0, weight)


def _lines(x: Floats, y: Floats, weight: Floats, span: float) -> Floats:
    """The value at each x of a line fitted by weighted least squares; y itself where no weight is left."""
    total = weight.sum(axis=1)
    share = weight / np.where(total > 0, total, 1.0)[:, None]
    centre = (share * x).sum(axis=1)
    apart = x - centre[:, None]
    spread = (share * apart**2).sum(axis=1)
    slanted = np.sqrt(spread) > _FLAT * span
    slope = np.where(slanted, (x - centre) / np.where(slanted, spread, 1.0), 0.0)
    value = (share * (slope[:, None] * apart + 1.0) * y).sum(axis=1)
    return np.where(total > 0, value, y)
