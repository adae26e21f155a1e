"""Many small symmetric systems at once: one elimination without square roots (LDL'), vectorised over genes.

Promises: a gene's solution depends on that gene alone, to the last bit; a matrix that cannot be
factored is reported for its gene and harms no other. Refuses to know: what the matrices mean.

Symmetric matrices travel as their upper triangle, row by row: ``(genes, params (params + 1) / 2)``.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.portable import strictly
from secirls.numerics.arrays import Floats

Failed = NDArray[np.bool_]

SMALLEST_PIVOT = 64 * np.finfo(np.float64).eps
"""A pivot below this share of its diagonal entry holds rounding errors and nothing else."""

_BLOCK = 8192
"""Genes eliminated at a time: few enough for the processor's cache, enough to forget the cost of a call."""


def packed_size(params: int) -> int:
    """Entries of the upper triangle."""
    return params * (params + 1) // 2


def packed_params(size: int) -> int:
    """The number of parameters whose upper triangle has so many entries."""
    params = int((np.sqrt(8 * size + 1) - 1) / 2)
    if packed_size(params) != size:
        raise ValueError(f"{size} entries are no upper triangle")
    return params


@cache
def triangle(params: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of every entry of an upper triangle; not to be written to."""
    rows, columns = np.triu_indices(params)
    rows.setflags(write=False)
    columns.setflags(write=False)
    return rows, columns


def diagonal_entries(params: int) -> list[int]:
    """Where the diagonal stands in an upper triangle."""
    return [j * params - j * (j - 1) // 2 for j in range(params)]


def with_ridge(upper: Floats, ridge: float, columns: int) -> Floats:
    """Upper triangles with a number added to the first few entries of the diagonal."""
    ridged = upper.copy()
    ridged[:, diagonal_entries(packed_params(upper.shape[1]))[:columns]] += ridge
    return ridged


def unpack(upper: Floats) -> Floats:
    """Upper triangles ``(genes, params (params + 1) / 2)`` to full matrices ``(genes, params, params)``."""
    params = packed_params(upper.shape[-1])
    rows, columns = triangle(params)
    full = np.empty((*upper.shape[:-1], params, params))
    full[..., rows, columns] = upper
    full[..., columns, rows] = upper
    return full


def pack(full: Floats) -> Floats:
    """Upper triangle of symmetric matrices ``(..., params, params)``."""
    rows, columns = triangle(full.shape[-1])
    packed: Floats = np.ascontiguousarray(full[..., rows, columns])
    return packed


def times(upper: Floats, vectors: Floats) -> Floats:
    """The product of each gene's symmetric matrix and vector: ``(genes, params)``."""
    params = vectors.shape[1]
    out = np.zeros_like(vectors)
    for entry, (i, j) in enumerate(zip(*triangle(params), strict=True)):
        out[:, i] += upper[:, entry] * vectors[:, j]
        if i != j:
            out[:, j] += upper[:, entry] * vectors[:, i]
    return out


def solve(upper: Floats, right: Floats, ridge: Floats | float = 0.0) -> tuple[Floats, Failed]:
    """Solve ``(A + ridge I) x = b`` for each gene.

    Parameters
    ----------
    upper
        Upper triangles of A, ``(genes, params (params + 1) / 2)``.
    right
        b, ``(genes, params)``.
    ridge
        One number, or one per gene ``(genes,)``.

    Returns
    -------
    x ``(genes, params)``, and which genes have no solution ``(genes,)``; their x is zero.
    """
    genes = right.shape[0]
    ridges = np.broadcast_to(np.asarray(ridge, dtype=np.float64), (genes,))
    x, failed = np.empty_like(right), np.empty(genes, dtype=bool)
    for start in range(0, genes, _BLOCK):
        block = slice(start, start + _BLOCK)
        solutions, failed[block] = _eliminate(upper[block], right[block, :, None], ridges[block])
        for i, solution in enumerate(solutions):
            x[block, i] = solution[0]
    for gene in np.flatnonzero(failed):
        x[gene], failed[gene] = _solve_one(upper[gene], right[gene], float(ridges[gene]))
    return x, failed


def inverses(upper: Floats, ridge: float = 0.0) -> tuple[Floats, Failed]:
    """``inv(A + ridge I)`` for each gene ``(genes, params, params)``, and which genes have none (NaN there)."""
    genes, params = upper.shape[0], packed_params(upper.shape[1])
    inverse, failed = np.empty((genes, params, params)), np.empty(genes, dtype=bool)
    for start in range(0, genes, _BLOCK):
        block = slice(start, start + _BLOCK)
        here = upper[block]
        units = np.broadcast_to(np.eye(params), (here.shape[0], params, params))
        solutions, failed[block] = _eliminate(here, units, ridge)
        for i, solution in enumerate(solutions):
            inverse[block, i] = solution.T
    inverse[failed] = np.nan
    return (inverse + inverse.swapaxes(1, 2)) / 2, failed


def _eliminate(upper: Floats, right: Floats, ridge: Floats | float) -> tuple[list[Floats], Failed]:
    """Solve ``(A + ridge I) x = b`` for every column of ``right``, ``(genes, params, columns)``.

    Returns x as one array ``(columns, genes)`` per parameter, and which genes have a pivot or a solution that is none.
    """
    genes, params, columns = right.shape
    rows: list[Floats] = []  # row j holds A[j, j:], then b[j, :]; genes last
    start = 0
    for j in range(params):
        width = params - j
        row = np.empty((width + columns, genes))
        row[:width] = upper[:, start : start + width].T
        row[width:] = right[:, j].T
        row[0] += ridge
        rows.append(row)
        start += width
    failed = np.zeros(genes, dtype=bool)
    product = np.empty((params + columns, genes))
    with np.errstate(all="ignore"):
        least = [SMALLEST_PIVOT * row[0] for row in rows]
        for j, row in enumerate(rows):
            failed |= ~(row[0] > least[j])
            shares = row[1:] * (1.0 / row[0])
            for i in range(j + 1, params):
                rows[i] -= np.multiply(shares[i - j - 1], row[i - j :], out=product[: params - i + columns])
            rows[j] = shares
        solutions = [row[params - i - 1 :] for i, row in enumerate(rows)]
        for i in reversed(range(params)):
            for k in range(i + 1, params):
                solutions[i] -= rows[i][k - i - 1] * solutions[k]
            failed |= ~np.isfinite(solutions[i]).all(axis=0)
    return solutions, failed


@strictly()
def _pivoted(A: Floats, b: Floats) -> bool:
    """Gauss's elimination with row exchanges, in place: b becomes the solution. False where a pivot is zero."""
    n = b.size
    for j in range(n):
        pivot = j
        for i in range(j + 1, n):
            if abs(A[i, j]) > abs(A[pivot, j]):
                pivot = i
        if A[pivot, j] == 0.0:
            return False
        for k in range(j, n):
            A[j, k], A[pivot, k] = A[pivot, k], A[j, k]
        b[j], b[pivot] = b[pivot], b[j]
        for i in range(j + 1, n):
            share = A[i, j] / A[j, j]
            for k in range(j, n):
                A[i, k] -= share * A[j, k]
            b[i] -= share * b[j]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            b[i] -= A[i, k] * b[k]
        b[i] /= A[i, i]
    return True


def _solve_one(upper: Floats, right: Floats, ridge: float) -> tuple[Floats, bool]:
    """The fallback for one gene: pivoted elimination, accepted only if it solves the system."""
    full = unpack(upper) + ridge * np.eye(right.size)
    if not (np.isfinite(full).all() and np.isfinite(right).all()):
        return np.zeros_like(right), True
    x = np.array(right, dtype=np.float64)
    with np.errstate(all="ignore"):
        if not _pivoted(full.copy(), x):
            return np.zeros_like(right), True
        residual = np.abs((full * x).sum(axis=1) - right)
        solved = bool(np.all(residual <= 1e-6 * ((np.abs(full) * np.abs(x)).sum(axis=1) + np.abs(right))))
    return (x, False) if solved and np.isfinite(x).all() else (np.zeros_like(right), True)
