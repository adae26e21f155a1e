"""What a design's rows determine: columns that depend on each other, and parts whose sums follow from those of all.

Promises: public rows or their products alone are looked at. Refuses to know: formulas, sites, samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from secirls.numerics.eigen import eigenvectors
from secirls.numerics.samples import Floats

Part = TypeVar("Part")


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


def dependent_columns(xtx: Floats, columns: Sequence[str]) -> list[list[str]]:
    """Groups of linearly dependent design columns, from the summed X'X ``(params, params)``; empty at full rank.

    Eigenvectors of the correlation-scaled X'X with an eigenvalue below 1e-10 span the null space; a
    column belongs to a group where its weight is above 1e-6.
    """
    scale = np.sqrt(np.diag(xtx))
    zero = scale == 0
    groups = [[columns[int(i)]] for i in np.flatnonzero(zero)]
    kept = np.flatnonzero(~zero)
    if kept.size == 0:
        return groups
    scaled = xtx[np.ix_(kept, kept)] / np.outer(scale[kept], scale[kept])
    values, vectors = (array[0] for array in eigenvectors(scaled[None]))
    null = vectors[:, values < 1e-10]
    involved = np.flatnonzero((np.abs(null) > 1e-6).any(axis=1))
    if involved.size:
        groups.append([columns[int(kept[i])] for i in involved])
    return groups
