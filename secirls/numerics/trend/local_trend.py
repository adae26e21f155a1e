"""A trend of log dispersions over log means by local regression, for data that the parametric form does not fit.

Promises: weighted parabolas through the nearest seven tenths of the genes at 200 points, cubics between, straight
lines below and above; the same bits on any machine. It is not R's to the digit: R's *locfit* puts its points
elsewhere, and the two differ by less than a per cent for most genes. Refuses to know: profiles, sites.

Cleveland (1979), locally weighted regression; Love, Huber and Anders (2014) for when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from secirls.numerics.arithmetic import portable
from secirls.numerics.arithmetic.portable import strictly
from secirls.numerics.arrays import Floats

_SHARE = 0.7
_POINTS = 200


@dataclass(frozen=True)
class LocalTrend:
    """The curve at its points, arrays ``(points,)``."""

    log_means: Floats
    """Equally spaced."""
    values: Floats
    """Log dispersions there."""
    slopes: Floats

    def at(self, base_means: Floats) -> Floats:
        """The trend at base means above zero, ``(genes,)``."""
        return portable.exps(hermite(self.log_means, self.values, self.slopes, portable.logs(base_means)))


def local_trend(means: Floats, estimates: Floats) -> LocalTrend:
    """The local regression of log estimates on log means, weighted by the means, all ``(genes,)``."""
    order = np.argsort(means, kind="stable")
    x, y, weights = portable.logs(means[order]), portable.logs(estimates[order]), means[order]
    if x[0] == x[-1]:  # one mean: a constant
        level = np.array([float(np.median(y))])
        return LocalTrend(x[:1], level, np.zeros(1))
    points = x[0] + np.arange(_POINTS) * ((x[-1] - x[0]) / (_POINTS - 1))
    near = max(min(int(_SHARE * x.size), x.size), min(3, x.size))
    values, slopes = local_parabolas(x, y, weights, points, near)
    return LocalTrend(points, values, slopes)


def local_parabolas(x: Floats, y: Floats, weights: Floats, points: Floats, near: int) -> tuple[Floats, Floats]:
    """Values and slopes at `points` of weighted parabolas through the `near` nearest of sorted x, tricube weights.

    Where fewer than three different x have weight, the polynomial is of the degree they allow.
    """
    values, slopes = np.empty(points.size), np.empty(points.size)
    _local_parabolas(x, y, np.ascontiguousarray(weights, dtype=np.float64), points, near, values, slopes)
    return values, slopes


@strictly()
def _local_parabolas(
    x: Floats, y: Floats, weights: Floats, points: Floats, near: int, values: Floats, slopes: Floats
) -> None:
    """By orthogonal polynomials of the weights: constant, line, parabola."""
    n = x.size
    w = np.empty(near)
    first = 0
    for k in range(points.size):
        at = points[k]
        while first + near < n and abs(x[first + near] - at) < abs(x[first] - at):
            first += 1
        reach = max(abs(x[first] - at), abs(x[first + near - 1] - at))
        total, x_mean, y_mean = 0.0, 0.0, 0.0
        for i in range(near):
            u = abs(x[first + i] - at) / reach if reach > 0.0 else 0.0
            cubed = 1.0 - u * u * u
            w[i] = weights[first + i] * (cubed * cubed * cubed)
            total += w[i]
            x_mean += w[i] * (x[first + i] - at)
            y_mean += w[i] * y[first + i]
        x_mean, y_mean = x_mean / total, y_mean / total
        s2, s3, to_y = 0.0, 0.0, 0.0
        for i in range(near):
            off = x[first + i] - at - x_mean
            s2 += w[i] * (off * off)
            s3 += w[i] * (off * off * off)
            to_y += w[i] * (off * (y[first + i] - y_mean))
        value, slope = y_mean, 0.0
        if s2 > 1e-24 * total:
            line, skew, spread = to_y / s2, s3 / s2, s2 / total
            value, slope = y_mean - line * x_mean, line
            square, to_rest = 0.0, 0.0
            for i in range(near):
                off = x[first + i] - at - x_mean
                bend = off * off - skew * off - spread
                square += w[i] * (bend * bend)
                to_rest += w[i] * (bend * (y[first + i] - y_mean - line * off))
            if square > 1e-24 * (s2 * spread):
                curve = to_rest / square
                value += curve * (x_mean * x_mean + skew * x_mean - spread)
                slope += curve * (-2.0 * x_mean - skew)
        values[k], slopes[k] = value, slope


def hermite(points: Floats, values: Floats, slopes: Floats, x: Floats) -> Floats:
    """Cubics between points of known values and slopes, straight lines beyond the first and the last, at x ``(n,)``."""
    if points.size == 1:
        line: Floats = values[0] + slopes[0] * (x - points[0])
        return line
    cell = np.clip(np.searchsorted(points, x, side="right") - 1, 0, points.size - 2)
    width = points[cell + 1] - points[cell]
    u = np.clip((x - points[cell]) / width, 0.0, 1.0)
    v = 1.0 - u
    inside = v * v * (1.0 + 2.0 * u) * values[cell] + u * u * (1.0 + 2.0 * v) * values[cell + 1]
    inside = inside + (u * v) * width * (v * slopes[cell] - u * slopes[cell + 1])
    below, above = np.minimum(x - points[0], 0.0), np.maximum(x - points[-1], 0.0)
    curve: Floats = inside + below * slopes[0] + above * slopes[-1]
    return curve
