"""Coefficients that are a linear function of fewer: ``beta = T gamma``, and what sums over beta are about gamma.

Promises: products are added in a written order, without BLAS, so whoever repeats them gets their bits; zeros of T cost
nothing, and T may have no columns. Refuses to know: where T comes from.
"""

from __future__ import annotations

import itertools

import numpy as np

from secirls.numerics.algebra.solve import packed_size
from secirls.numerics.arrays import Floats

SMALLEST_SHARE = 1e-9
"""Of a column's largest entry: what is left of it by elimination, if no more than this, is rounding."""


def lifted(gamma: Floats, basis: Floats) -> Floats:
    """``T gamma`` of every gene: from ``(genes, q)`` to ``(genes, params)``; the basis T is ``(params, q)``."""
    beta = np.zeros((gamma.shape[0], basis.shape[0]))
    for i, k in np.argwhere(basis):
        beta[:, i] += basis[i, k] * gamma[:, k]
    return beta


def projected(right: Floats, basis: Floats) -> Floats:
    """``T' b`` of every gene, such as a score: from ``(genes, params)`` to ``(genes, q)``."""
    return lifted(right, np.ascontiguousarray(basis.T))


def projected_upper(upper: Floats, basis: Floats) -> Floats:
    """``T' A T`` of every gene, such as X'WX: upper triangles of A to those of ``(genes, q (q + 1) / 2)``."""
    params, q = basis.shape
    left = [np.flatnonzero(column) for column in basis.T]
    found = np.zeros((upper.shape[0], packed_size(q)))
    for entry, (a, b) in enumerate(zip(*np.triu_indices(q), strict=True)):
        for i, j in itertools.product(left[a], left[b]):
            here = upper[:, _place(int(min(i, j)), int(max(i, j)), params)]
            found[:, entry] += (basis[i, a] * basis[j, b]) * here
    return found


def expressed(columns: Floats, others: Floats) -> tuple[Floats, Floats]:
    """The T with ``others = columns T``, and by how much each of the others misses the span, in its largest entry.

    Parameters
    ----------
    columns, others
        ``(rows, params)`` and ``(rows, q)``.

    Returns
    -------
    T ``(params, q)``, whole numbers where they are so to rounding, with zeros for columns that depend on those before;
    and the misses ``(q,)``. Gauss's elimination with row exchanges (Golub and Van Loan 2013, section 3.4).
    """
    params = columns.shape[1]
    rows = np.hstack([columns, others]).astype(np.float64)
    pivots = _eliminate(rows, params)
    basis = np.zeros((params, others.shape[1]))
    basis[pivots] = rows[: len(pivots), params:]
    return nearly_whole(basis), np.abs(rows[len(pivots) :, params:]).max(axis=0, initial=0.0)


def nearly_whole(basis: Floats) -> Floats:
    """The same with whole numbers where it has them to rounding."""
    whole = np.rint(basis)
    return np.where(np.abs(basis - whole) <= SMALLEST_SHARE, whole, basis) + 0.0


def independent(columns: Floats) -> list[int]:
    """The first columns of ``(rows, columns)`` that depend on none before them."""
    return _eliminate(columns.astype(np.float64), columns.shape[1])


def _eliminate(rows: Floats, params: int) -> list[int]:
    """Bring the first so many columns to unit vectors, in place: those that it finds, in the order of their rows."""
    scale = np.maximum(np.abs(rows[:, :params]).max(axis=0, initial=0.0), np.finfo(np.float64).tiny)
    pivots: list[int] = []
    for column in range(params):
        done = len(pivots)
        if done == rows.shape[0]:
            break
        pivot = done + int(np.abs(rows[done:, column]).argmax())
        if not abs(rows[pivot, column]) > SMALLEST_SHARE * scale[column]:
            continue
        rows[[done, pivot]] = rows[[pivot, done]]
        rows[done] /= rows[done, column]
        shares = rows[:, column].copy()
        shares[done] = 0.0
        rows -= shares[:, None] * rows[done]
        pivots.append(column)
    return pivots


def _place(i: int, j: int, params: int) -> int:
    """Where entry (i, j) of an upper triangle stands, i no larger than j."""
    return i * params - i * (i - 1) // 2 + j - i
