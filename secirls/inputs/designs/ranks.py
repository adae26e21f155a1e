"""What a design's rows determine: columns that depend on each other, and parts whose sums follow from those of all.

Promises: public rows or their products alone are looked at. Refuses to know: formulas, sites, samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.algebra.eigen import eigenvectors
from secirls.numerics.algebra.solve import inverses, pack
from secirls.numerics.arrays import Floats, Mask

Part = TypeVar("Part")

_DEPENDENT = 1e-10
"""Eigenvalues of the correlation-scaled X'X below this are of columns that depend on each other."""
_NO_PART = 1e-6
"""Columns that weigh less have no part in a combination."""
MOST_INFLATED = 100.0
"""By how much nearly dependent columns may inflate each other's coefficients. R's bound of 30 on those that it lets go
of would hold back any that tell apart more than exp of 0.2 or 0.3 in a standard deviation of what they do not share."""
_LITTLE = 0.05
"""Of the largest weight: columns that weigh less need not be named with the others."""


def apart(parts: Mapping[Part, Floats], some: Iterable[Part]) -> list[Part]:
    """Which of ``some`` parts of a design, rows ``(rows, columns)`` each, have sums that follow from the columns'.

    Some combination of columns is zero in all rows of the others and not in theirs: without them the design would have
    a lower rank. That can't be where every row of a part is another's too.
    """
    distinct = {part: {(row + 0.0).tobytes(): row for row in rows} for part, rows in parts.items()}
    holders = Counter(row for rows in distinct.values() for row in rows)
    every = {row: values for rows in distinct.values() for row, values in rows.items()}

    def rank(without: frozenset[bytes]) -> int:
        left = [values for row, values in every.items() if row not in without]
        return int(np.linalg.matrix_rank(np.array(left))) if left else 0

    alone = {part: frozenset(row for row in distinct[part] if holders[row] == 1) for part in some}
    whole = rank(frozenset())
    return [part for part, rows in alone.items() if rows and rank(rows) < whole]


def largest_share(some: Floats, every: Floats) -> tuple[float, list[int]]:
    """How much of all rows' X'X ``every`` is that of ``some`` rows, along the combination of columns where it is most.

    Both ``(params, params)``; 1 where that combination is zero in all other rows. And the columns in it. It is the
    largest eigenvalue of ``some v = share every v``; combinations that all rows have nothing in are left out. None of
    what is no X'X, for numbers were too large to be added.
    """
    if not np.isfinite(some).all():
        return 0.0, []
    kept, scale, root = _combinations(every)
    if not kept.size:
        return 0.0, []
    shares, combinations = np.linalg.eigh(root.T @ (some[np.ix_(kept, kept)] / np.outer(scale, scale)) @ root)
    weights = np.abs(root @ combinations[:, -1])
    return float(shares[-1]), [int(kept[i]) for i in np.flatnonzero(weights > _LITTLE * weights.max())]


def largest_leverage(rows: Floats, every: Floats) -> float:
    """The same of the one of some ``rows``, ``(rows, params)``, that has most: its leverage x' inv(X'X) x."""
    kept, scale, root = _combinations(every)
    if not (kept.size and np.isfinite(rows).all()):
        return 0.0
    return float((((rows[:, kept] / scale) @ root) ** 2).sum(axis=1).max(initial=0.0))


def _combinations(every: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Combinations of columns along which X'X ``every`` is one, at right angles: ``(columns, combinations)``.

    Which columns they are of, those that any row is in, and by what each is divided first. None of what is no X'X.
    """
    if not (np.isfinite(every).all() and (np.diag(every) >= 0).all()):
        return np.zeros(0, dtype=np.intp), np.zeros(0), np.zeros((0, 0))
    scale = np.sqrt(np.diag(every))
    kept = np.flatnonzero(scale)
    values, vectors = np.linalg.eigh(every[np.ix_(kept, kept)] / np.outer(scale[kept], scale[kept]))
    there = values > _DEPENDENT
    return kept, scale[kept], vectors[:, there] / np.sqrt(values[there])


def dependent_columns(xtx: Floats, columns: Sequence[str]) -> list[list[str]]:
    """Groups of linearly dependent design columns, from the summed X'X ``(params, params)``; empty at full rank.

    Eigenvectors of the correlation-scaled X'X with next to no eigenvalue span the null space; a column belongs to a
    group where it has a weight.
    """
    scale = np.sqrt(np.diag(xtx))
    zero = scale == 0
    groups = [[columns[int(i)]] for i in np.flatnonzero(zero)]
    kept = np.flatnonzero(~zero)
    if kept.size == 0:
        return groups
    scaled = xtx[np.ix_(kept, kept)] / np.outer(scale[kept], scale[kept])
    values, vectors = (array[0] for array in eigenvectors(scaled[None]))
    null = vectors[:, values < _DEPENDENT]
    involved = np.flatnonzero((np.abs(null) > _NO_PART).any(axis=1))
    if involved.size:
        groups.append([columns[int(kept[i])] for i in involved])
    return groups


def inflated_columns(xtx: Floats, columns: Sequence[str], which: Mask) -> list[str]:
    """Those of the columns ``which (params,)`` that nearly depend on others, by the summed X'X of full rank.

    What a column has in common with all others leaves so little of it that its coefficient is `MOST_INFLATED` times
    that of an equally long column by itself, or more: the root of its variance inflation factor.
    """
    scale = np.sqrt(np.diag(xtx))
    inverse, _ = inverses(pack(xtx / np.outer(scale, scale))[None])
    inflation = np.diag(inverse[0])
    return [columns[int(k)] for k in np.flatnonzero(which & ~(inflation < MOST_INFLATED**2))]
