"""Few points in log y that stand for the larger counts of a gene, in every sum of a function of y and alpha alone.

Promises: a sum over counts of log(1 + alpha y), (y + 1/alpha) log(1 + alpha y) or what Stirling's formula leaves is one
over the points, to about 1e-13 of the largest term times the number of counts; no libm, no fused or reordered
operation. Refuses to know: means, dispersions.

These functions are analytic in log y but for alpha y = -1, as those of `level_nodes` are in the log size factor: the
number of Chebyshev points follows in the same way. How many counts a point stands for is found from the sums of
Chebyshev's polynomials at the log counts.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic import chebyshev
from secirls.numerics.arithmetic.portable import exp, log, strictly
from secirls.numerics.arrays import Floats
from secirls.numerics.dispersion.kernel import _stirling_rest
from secirls.numerics.dispersion.nodes import offsets

MOST_POINTS = 48
"""Points of one gene; one whose counts span more has none."""
LANES = 32
"""Counts whose polynomials are found side by side."""
_DIGITS = 13.0
"""Decimal digits of a function of log y, relative to its largest value."""
_LN10 = 2.302585092994046
_HALF_LOG_2PI = 0.9189385332046728


@cache
def places() -> tuple[Floats, NDArray[np.intp]]:
    """Chebyshev nodes of 1, 2, ... `MOST_POINTS` points, one after another, and where each begins."""
    every = [chebyshev.nodes(n) for n in range(1, MOST_POINTS + 1)]
    return np.concatenate(every), offsets(np.arange(1, MOST_POINTS + 1))


@strictly(inline=True)
def _points_needed(half_range: float) -> int:
    """How many points a range of log counts of this half width takes."""
    h = np.pi / half_range
    return 1 + int(np.ceil(_DIGITS * _LN10 / log(h + np.sqrt(1.0 + h * h))))


@strictly(inline=True)
def sum_of(values: Floats) -> float:
    """In order."""
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


@strictly()
def _compress(x: Floats, places_here: Floats, scratch: Floats, numbers: Floats) -> None:
    """How many of the counts at x, in [-1, 1], each Chebyshev point stands for: the sums of its polynomial.

    Moments of Chebyshev's polynomials by their recurrence, many counts at a time, and their transform.
    """
    points = places_here.size
    moments, lanes = scratch[: MOST_POINTS * LANES], scratch[MOST_POINTS * LANES :]
    twice, before, here = lanes[:LANES], lanes[LANES : 2 * LANES], lanes[2 * LANES : 3 * LANES]
    moments[:] = 0.0
    for first in range(0, x.size, LANES):
        width = min(LANES, x.size - first)
        lanes[:] = 0.0
        for lane in range(width):
            twice[lane], before[lane], here[lane] = 2.0 * x[first + lane], x[first + lane], 1.0
        for m in range(0, points, 4):
            sums = moments[m * LANES : (m + 4) * LANES]
            for lane in range(LANES):
                even, odd, factor = here[lane], before[lane], twice[lane]
                sums[lane] += even
                odd = factor * even - odd
                sums[lane + LANES] += odd
                even = factor * odd - even
                sums[lane + 2 * LANES] += even
                odd = factor * even - odd
                sums[lane + 3 * LANES] += odd
                here[lane], before[lane] = factor * odd - even, odd
    for m in range(points):
        moments[m] = sum_of(moments[m * LANES : (m + 1) * LANES])
    for k in range(points):
        at, total, low, high = places_here[k], 0.0, 1.0, places_here[k]
        for m in range(points):
            total += (1.0 if m == 0 else 2.0) * low * moments[m]
            low, high = high, 2.0 * at * high - low
        numbers[k] = total / float(points)


@strictly()
def fill_logs(large: Floats, log_mean: float, x: Floats) -> tuple[float, float, float]:
    """Log counts; the sums of y, of y log(y / m), and of log(2 pi y) / 2 with what Stirling's formula leaves at y."""
    total, logs, around = 0.0, 0.0, 0.0
    for i in range(x.size):
        x[i] = log(large[i])
    for i in range(x.size):
        total += large[i]
        logs += large[i] * (x[i] - log_mean)
        around += _HALF_LOG_2PI + 0.5 * x[i] + _stirling_rest(1.0 / large[i])
    return total, logs, around


@strictly()
def fill_points(
    large: Floats,
    x: Floats,
    places_of: Floats,
    places_at: NDArray[np.intp],
    room: Floats,
    points: Floats,
    numbers: Floats,
) -> int:
    """Points in place of larger counts, and how many of these each stands for; gives how many, -1 if too many.

    `x`, the log counts, are turned into places in [-1, 1].
    """
    if x.size == 0:
        return 0
    low, high = x[0], x[0]
    for i in range(x.size):
        low, high = min(low, x[i]), max(high, x[i])
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    needed = 1 if half == 0.0 else _points_needed(half)
    if needed >= x.size and x.size <= MOST_POINTS:
        points[: x.size], numbers[: x.size] = large, 1.0
        return int(x.size)
    if needed > MOST_POINTS:
        return -1
    for i in range(x.size):
        x[i] = (x[i] - middle) / half if half > 0.0 else 0.0
    here = places_of[places_at[needed - 1] : places_at[needed]]
    _compress(x, here, room, numbers)
    for k in range(needed):
        points[k] = exp(middle + half * here[k])
    return needed
