"""Own columns out of many small symmetric systems at once: what is left of each is about the table's columns alone.

Promises: a gene's numbers depend on that gene alone, to the last bit; a system whose own block can't be factored gives
NaN for its gene and harms no other. Refuses to know: what the matrices mean.

For ``[[D, B], [B', A]]`` and ``(d, a)``, own columns first: ``S = A - B' inv(D) B``, ``s = a - B' inv(D) d``, and own
coefficients ``inv(D) (d - B beta)`` whatever beta is (block elimination: Golub and Van Loan 2013, section 3.2.6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from secirls.numerics.algebra.solve import SMALLEST_PIVOT, packed_params, packed_size
from secirls.numerics.arrays import Floats, Mask

_BLOCK_VALUES = 1 << 19
"""Entries of matrices eliminated at a time: few enough for the processor's cache."""


@dataclass(frozen=True)
class Eliminated:
    """What is left, arrays by gene; NaN where D can't be factored."""

    upper: Floats
    """Upper triangles of S, ``(genes, shared (shared + 1) / 2)``."""
    right: Floats
    """s, ``(genes, shared)``."""
    constant: Floats
    """``inv(D) d``, ``(genes, own)``."""
    slope: Floats
    """``inv(D) B``, ``(genes, own, shared)``."""
    log_det: Floats
    """Of D, ``(genes,)``."""


def eliminate(upper: Floats, right: Floats, own: int) -> Eliminated:
    """Take the first ``own`` columns out of ``(genes, params (params + 1) / 2)`` and ``(genes, params)``."""
    genes, params = right.shape
    shared = params - own
    found = Eliminated(
        np.empty((genes, packed_size(shared))),
        np.empty((genes, shared)),
        np.empty((genes, own)),
        np.empty((genes, own, shared)),
        np.empty(genes),
    )
    size = max(16, _BLOCK_VALUES // max(upper.shape[1], 1))
    for start in range(0, genes, size):
        _eliminate(slice(start, start + size), upper, right, own, found)
    return found


@np.errstate(all="ignore")
def _eliminate(block: slice, upper: Floats, right: Floats, own: int, found: Eliminated) -> None:
    """One block of genes, as in `algebra.solve`: row j holds the entries from its diagonal on, then b_j."""
    params, start = packed_params(upper.shape[1]), 0
    rows: list[Floats] = []
    for j in range(params):
        width = params - j
        rows.append(np.concatenate([upper[block, start : start + width].T, right[block, j][None]]))
        start += width
    failed = np.zeros(rows[0].shape[1], dtype=bool)
    log_det = np.zeros(failed.size)
    least = [SMALLEST_PIVOT * row[0] for row in rows[:own]]
    for j in range(own):
        row = rows[j]
        failed |= ~(row[0] > least[j])
        log_det += np.log(row[0])
        shares = row[1:] * (1.0 / row[0])
        for i in range(j + 1, params):
            rows[i] -= shares[i - j - 1] * row[i - j :]
        rows[j] = shares
    solved = [row[own - j - 1 :].copy() for j, row in enumerate(rows[:own])]
    for j in reversed(range(own)):
        for k in range(j + 1, own):
            solved[j] -= rows[j][k - j - 1] * solved[k]
        found.slope[block, j], found.constant[block, j] = solved[j][:-1].T, solved[j][-1]
    left = rows[own:]
    found.upper[block] = np.concatenate([row[:-1] for row in left]).T if left else 0.0
    for j, row in enumerate(left):
        found.right[block, j] = row[-1]
    found.log_det[block] = log_det
    for array in (found.upper, found.right, found.constant, found.slope, found.log_det):
        array[block][failed] = np.nan


def hold(upper: Floats, right: Floats, held: Mask) -> tuple[Floats, Floats]:
    """The systems with some own columns ``(genes, own)`` held where they are: elimination leaves them out."""
    if not held.any():
        return upper, right
    upper, right = upper.copy(), right.copy()
    params = packed_params(upper.shape[1])
    first, second = np.triu_indices(params)
    fixed = np.zeros((held.shape[0], params), dtype=bool)
    fixed[:, : held.shape[1]] = held
    upper[fixed[:, first] | fixed[:, second]] = 0.0
    right[fixed] = 0.0
    diagonal = np.flatnonzero(first == second)
    upper[:, diagonal] += fixed
    return upper, right


def own_leverages(weights: Floats, own: Floats, shared: Floats) -> tuple[Floats, Floats]:
    """Of each sample, ``z' inv(Z'WZ) z`` ``(genes, samples)``, and what is left of x: ``(genes, shared, samples)``.

    The latter is ``x - X'WZ inv(Z'WZ) z``, with ``weights`` W ``(genes, samples)``. NaN where Z'WZ can't be factored.
    """
    samples, k = own.shape
    form = np.empty((weights.shape[0], samples))
    beside = np.empty((weights.shape[0], shared.shape[1], samples))
    size = max(1, _BLOCK_VALUES // (k * samples + k * k))
    for start in range(0, weights.shape[0], size):
        block = slice(start, start + size)
        weighted = weights[block, None, :] * own.T
        inner, cross = weighted @ own, weighted @ shared
        usable: Mask = np.asarray((inner.diagonal(axis1=1, axis2=2) > 0).all(axis=1))
        inner[~usable] = np.eye(k)
        solved = np.linalg.solve(inner, np.broadcast_to(own.T, weighted.shape))
        form[block] = np.where(usable[:, None], (own.T * solved).sum(axis=1), np.nan)
        beside[block] = shared.T - cross.swapaxes(1, 2) @ solved
    return form, beside
