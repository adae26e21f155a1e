"""Many small symmetric systems at once: one Cholesky, vectorised over genes.

Promises: a gene's solution depends on that gene alone, to the last bit; a matrix that cannot be
factored is reported for its gene and harms no other. Refuses to know: what the matrices mean.

Symmetric matrices travel as their upper triangle, row by row: ``(genes, params (params + 1) / 2)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secirls.samples import Floats

Failed = NDArray[np.bool_]

_SMALLEST_PIVOT = 64 * np.finfo(np.float64).eps
"""A pivot below this share of its diagonal entry holds rounding errors and nothing else."""

_BLOCK = 4096
"""Genes whose factors stay in the processor's cache."""


def packed_size(params: int) -> int:
    """Entries of the upper triangle."""
    return params * (params + 1) // 2


def packed_params(size: int) -> int:
    """The number of parameters whose upper triangle has so many entries."""
    params = int((np.sqrt(8 * size + 1) - 1) / 2)
    if packed_size(params) != size:
        raise ValueError(f"{size} entries are no upper triangle")
    return params


def unpack(upper: Floats) -> Floats:
    """Upper triangles ``(genes, params (params + 1) / 2)`` to full matrices ``(genes, params, params)``."""
    params = packed_params(upper.shape[-1])
    rows, columns = np.triu_indices(params)
    full = np.empty((*upper.shape[:-1], params, params))
    full[..., rows, columns] = upper
    full[..., columns, rows] = upper
    return full


def pack(full: Floats) -> Floats:
    """Upper triangle of symmetric matrices ``(..., params, params)``."""
    rows, columns = np.triu_indices(full.shape[-1])
    packed: Floats = np.ascontiguousarray(full[..., rows, columns])
    return packed


def times(upper: Floats, vectors: Floats) -> Floats:
    """The product of each gene's symmetric matrix and vector: ``(genes, params)``."""
    params = vectors.shape[1]
    out = np.zeros_like(vectors)
    for entry, (i, j) in enumerate(zip(*np.triu_indices(params), strict=True)):
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
        factor, failed[block] = _cholesky(upper[block], ridges[block])
        with np.errstate(all="ignore"):
            x[block] = _substitute(factor, np.ascontiguousarray(right[block].T)).T
    failed |= ~np.isfinite(x).all(axis=1)
    for gene in np.flatnonzero(failed):
        x[gene], failed[gene] = _solve_one(upper[gene], right[gene], float(ridges[gene]))
    return x, failed


def inverses(upper: Floats, ridge: float = 0.0) -> tuple[Floats, Failed]:
    """``inv(A + ridge I)`` for each gene ``(genes, params, params)``, and which genes have none (NaN there)."""
    genes, params = upper.shape[0], packed_params(upper.shape[1])
    factor, failed = _cholesky(upper, ridge)
    inverse = np.empty((genes, params, params))
    with np.errstate(all="ignore"):
        for column in range(params):
            unit = np.zeros((params, genes))
            unit[column] = 1.0
            inverse[:, :, column] = _substitute(factor, unit).T
    failed |= ~np.isfinite(inverse).all(axis=(1, 2))
    inverse[failed] = np.nan
    return (inverse + inverse.swapaxes(1, 2)) / 2, failed


def _cholesky(upper: Floats, ridge: Floats | float) -> tuple[list[list[Floats]], Failed]:
    """Lower factor as arrays ``L[i][j]`` over genes; the diagonal holds reciprocals. And which genes fail."""
    params = packed_params(upper.shape[1])
    entries = np.ascontiguousarray(upper.T)
    failed = np.zeros(upper.shape[0], dtype=bool)
    factor: list[list[Floats]] = [[] for _ in range(params)]
    with np.errstate(all="ignore"):
        start = 0
        for j in range(params):
            diagonal = entries[start] + ridge
            pivot = diagonal.copy()
            for k in range(j):
                pivot -= factor[j][k] * factor[j][k]
            failed |= ~(pivot > _SMALLEST_PIVOT * diagonal)
            reciprocal = 1.0 / np.sqrt(pivot)
            factor[j].append(reciprocal)
            for i in range(j + 1, params):
                rest = entries[start + i - j].copy()
                for k in range(j):
                    rest -= factor[i][k] * factor[j][k]
                rest *= reciprocal
                factor[i].append(rest)
            start += params - j
    return factor, failed


def _substitute(factor: list[list[Floats]], right: Floats) -> Floats:
    """Forward and back substitution; ``right`` is ``(params, genes)``."""
    params = len(factor)
    x = right.copy()
    for i in range(params):
        for k in range(i):
            x[i] -= factor[i][k] * x[k]
        x[i] *= factor[i][i]
    for i in reversed(range(params)):
        for k in range(i + 1, params):
            x[i] -= factor[k][i] * x[k]
        x[i] *= factor[i][i]
    return x


def _solve_one(upper: Floats, right: Floats, ridge: float) -> tuple[Floats, bool]:
    """The fallback for one gene: pivoted elimination, accepted only if it solves the system."""
    full = unpack(upper) + ridge * np.eye(right.size)
    if not (np.isfinite(full).all() and np.isfinite(right).all()):
        return np.zeros_like(right), True
    try:
        x = np.linalg.solve(full, right).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        return np.zeros_like(right), True
    with np.errstate(all="ignore"):
        residual = np.abs(full @ x - right)
        solved = bool(np.all(residual <= 1e-6 * (np.abs(full) @ np.abs(x) + np.abs(right))))
    return (x, False) if solved and np.isfinite(x).all() else (np.zeros_like(right), True)
