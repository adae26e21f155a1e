"""Eigenvalues and eigenvectors of small symmetric matrices, with the same bits on every machine.

Promises: plain arithmetic and square roots in a written order, one matrix at a time. Refuses to know: what the matrices
mean. Jacobi (1846), by cyclic rotations; Golub and Van Loan (2013), section 8.5.
"""

from __future__ import annotations

import numpy as np

from secirls.numerics.arithmetic.portable import strictly
from secirls.numerics.arrays import Floats

_SWEEPS = 30
"""Convergence is quadratic: ten are many."""


def eigenvectors(symmetric: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues ``(matrices, n)``, in no order, and eigenvectors as columns, of ``(matrices, n, n)``."""
    rotated = np.array(symmetric, dtype=np.float64, order="C")
    vectors = np.empty_like(rotated)
    _rotate(rotated, vectors)
    return np.ascontiguousarray(np.diagonal(rotated, axis1=1, axis2=2)), vectors


@strictly()
def _rotate(A: Floats, V: Floats) -> None:
    n = A.shape[1]
    for m in range(A.shape[0]):
        for i in range(n):
            for j in range(n):
                V[m, i, j] = 1.0 if i == j else 0.0
        for _ in range(_SWEEPS):
            moved = False
            for p in range(n - 1):
                for q in range(p + 1, n):
                    off, low, high = A[m, p, q], abs(A[m, p, p]), abs(A[m, q, q])
                    # An entry that adds nothing to its neighbours on the diagonal is none.
                    if off == 0.0 or (low + 0.01 * abs(off) == low and high + 0.01 * abs(off) == high):
                        continue
                    moved = True
                    ratio = (A[m, q, q] - A[m, p, p]) / (2.0 * off)
                    t = 1.0 / (abs(ratio) + np.sqrt(ratio * ratio + 1.0))
                    t = t if ratio >= 0.0 else -t
                    c = 1.0 / np.sqrt(t * t + 1.0)
                    s = t * c
                    for k in range(n):
                        a, b = A[m, k, p], A[m, k, q]
                        A[m, k, p], A[m, k, q] = c * a - s * b, s * a + c * b
                    for k in range(n):
                        a, b = A[m, p, k], A[m, q, k]
                        A[m, p, k], A[m, q, k] = c * a - s * b, s * a + c * b
                    A[m, p, q] = 0.0
                    A[m, q, p] = 0.0
                    for k in range(n):
                        a, b = V[m, k, p], V[m, k, q]
                        V[m, k, p], V[m, k, q] = c * a - s * b, s * a + c * b
            if not moved:
                break
