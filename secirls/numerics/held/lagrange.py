"""Lagrange's polynomials of Chebyshev nodes in a disc: their values at samples, and their integrals.

Promises: the same bits on every machine. Refuses to know: samples, counts.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from secirls.numerics.arithmetic import portable
from secirls.numerics.arithmetic.portable import strictly
from secirls.numerics.arrays import Floats


@cache
def chebyshev_integrals(n: int) -> Floats:
    """Integrals from 0 to each Chebyshev node of Lagrange's polynomial of each, ``(n, n)``, read-only.

    That polynomial is (1 + 2 sum over m of T_m(node) T_m) / n, and the integral of T_m is
    (T_(m+1) / (m + 1) - T_(m-1) / (m - 1)) / 2 (Mason and Handscomb 2003, "Chebyshev polynomials", equation 2.43).
    """
    cosines, angles = portable.cosines(n), np.arange(1, 2 * n, 2)

    def risen(m: int) -> Floats:
        rise: Floats = cosines[m * angles % (4 * n)] - cosines[m * n % (4 * n)]  # of T_m, from 0 on
        return rise

    total: Floats = np.tile(risen(1)[:, None], n)
    for m in range(1, n):
        integral = risen(m + 1) / (m + 1.0) - (risen(m - 1) / (m - 1.0) if m > 1 else 0.0)
        total += integral[:, None] * cosines[m * angles % (4 * n)]
    total /= n
    total.flags.writeable = False
    return total


@strictly()
def bent(x: Floats) -> Floats:
    """tanh(x / 4)."""
    out = np.empty(x.size)
    for i in range(x.size):
        grown = portable.expm1(0.5 * x[i])
        out[i] = grown / (grown + 2.0)
    return out


@strictly()
def fill_weights(at: Floats, scale: float, weights: Floats) -> None:
    """Barycentric weights of the nodes as they were rounded; `scale` keeps the products of gaps within range."""
    for k in range(at.size):
        product = 1.0
        for m in range(at.size):
            if m != k:
                product *= scale * (at[k] - at[m])
        weights[k] = 1.0 / product


@strictly()
def fill_basis(t: Floats, at: Floats, weights: Floats, values: Floats) -> None:
    """Lagrange's polynomials of the nodes at each point, ``(points, nodes)``; `t` and `at` are places in the disc."""
    for i in range(t.size):
        total, hit = 0.0, -1
        for k in range(at.size):
            gap = t[i] - at[k]
            if gap == 0.0:
                hit = k
            else:
                values[i, k] = weights[k] / gap
                total += values[i, k]
        for k in range(at.size):
            if hit < 0:
                values[i, k] /= total
            else:
                values[i, k] = 1.0 if k == hit else 0.0
