"""Chebyshev's nodes, and the series of a function from its values there.

Promises: IEEE operations in a written order, on cosines that are the same everywhere: everybody has the same bits.
Refuses to know: what function it is. Trefethen (2013), chapters 2 and 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic import portable
from secirls.numerics.arithmetic.portable import strictly
from secirls.numerics.arrays import Floats


def nodes(n: int) -> Floats:
    """``cos(pi (j + 1/2) / n)`` for j = 0 .. n - 1, falling, read-only, ``(n,)``."""
    return portable.cosines(n)[1 : 2 * n : 2]


def series(values: Floats, counts: NDArray[np.intp], starts: NDArray[np.intp]) -> Floats:
    """Chebyshev coefficients of many functions, one behind the other, from values at so many nodes of each.

    `starts` is where each begins in `values` and in what is given, and their length.
    """
    out = np.empty(starts[-1])
    for n in np.unique(counts):
        table, degrees = portable.cosines(int(n)), np.arange(n)
        matrix = np.ascontiguousarray(table[np.outer(2 * degrees + 1, degrees) % (4 * n)])
        _transform(values, matrix, starts[:-1][counts == n], out)
    return out


@strictly()
def _transform(values: Floats, matrix: Floats, starts: NDArray[np.intp], out: Floats) -> None:
    n = matrix.shape[0]
    for start in starts:
        sums = out[start : start + n]
        sums[:] = 0.0
        for j in range(n):
            value, row = values[start + j], matrix[j]
            for k in range(n):
                sums[k] += value * row[k]
        for k in range(n):
            sums[k] *= 2.0 / n
        sums[0] *= 0.5
