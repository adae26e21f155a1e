"""R's loess() for one predictor, degree 2, as it interpolates: exact fits at a few vertices, cubics between.

Promises: the vertices of R's k-d tree, and so its values to rounding; the same bits on any machine. Refuses to know:
what is smoothed, weights, robustness, standard errors.

Cleveland and Grosse (1991), computational methods for local regression: cells are cut at their lower median until they
hold at most span n / 5 points; the box is half a per cent wider than the data at either end.
"""

from __future__ import annotations

import numpy as np

from secirls.numerics.arrays import Floats
from secirls.numerics.trend.local_trend import hermite, local_parabolas

_CELL = 0.2
_MARGIN = 0.005


def loess(x: Floats, y: Floats, span: float, at: Floats) -> Floats:
    """The smooth of y over sorted, distinct x, both ``(n,)``, evaluated within their range."""
    near = int(x.size * span + 1e-5)
    points = vertices(x, int(x.size * span * _CELL + 1e-5))
    values, slopes = local_parabolas(x, y, np.ones(x.size), points, near)
    return hermite(points, values, slopes, at)


def vertices(x: Floats, most: int) -> Floats:
    """Where R fits: the ends of the box, and the lower medians at which cells of more than `most` points are cut."""
    margin = _MARGIN * (x[-1] - x[0])
    cuts: list[float] = []
    cells = [(0, x.size - 1)]
    while cells:
        first, last = cells.pop()
        if last - first + 1 > most:
            middle = (first + last + 2) // 2 - 1  # the lower median, counted from one as R does
            cuts.append(float(x[middle]))
            cells += [(first, middle), (middle + 1, last)]
    return np.array([x[0] - margin, *sorted(cuts), x[-1] + margin])
