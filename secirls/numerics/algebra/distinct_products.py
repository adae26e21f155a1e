"""Which products of design columns are different functions of a sample: what of ``X'VX`` has to be sent.

Promises: a matrix is made whole again from its distinct entries, exactly; which entries those are follows from design
rows that are public, never from anybody's samples, and a site can tell whether they fit its own. Refuses to know:
formulas.

Every matrix that is summed is ``X'VX`` with V diagonal, so entry (i, j) is the sum of ``v x_i x_j``. Two levels of one
factor have no sample in common, a dummy is its own square and its own product with the intercept: of
p (p + 1) / 2 entries few are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.algebra.solve import packed_params, packed_size, triangle
from secirls.numerics.arrays import Floats


@dataclass(frozen=True, eq=False)
class Products:
    """The distinct products of design columns that are not zero everywhere."""

    rows: NDArray[np.intp]
    """One column of each, ``(q,)``."""
    columns: NDArray[np.intp]
    """The other, at or after it, ``(q,)``."""
    expand: NDArray[np.intp]
    """Which of the q an entry of the upper triangle is, ``(params (params + 1) / 2,)``; -1 where it is always zero."""

    @classmethod
    def full(cls, params: int) -> Products:
        """Every entry by itself."""
        return cls.numbered(np.arange(packed_size(params)))

    @classmethod
    def among(cls, rows: Floats) -> Products:
        """The products that differ on public design rows ``(rows, params)`` which stand for all that can occur.

        For factors these are the combinations of declared levels; for a numeric variable a few values that no
        coincidence makes equal.
        """
        first, second = triangle(rows.shape[1])
        seen: dict[bytes, int] = {}
        expand = np.empty(first.size, dtype=np.intp)
        for entry, product in enumerate((rows[:, first] * rows[:, second]).T):
            expand[entry] = seen.setdefault((product + 0.0).tobytes(), len(seen)) if product.any() else -1
        return cls.numbered(expand)

    @classmethod
    def numbered(cls, expand: NDArray[np.intp]) -> Products:
        """From `expand` alone. Raises `ValueError` unless its numbers appear in order, each at its first entry."""
        return _numbered(expand.astype(np.intp).tobytes())

    @property
    def size(self) -> int:
        """How many there are: q."""
        return int(self.rows.size)

    @property
    def params(self) -> int:
        """Design columns."""
        return packed_params(self.expand.size)

    def of(self, design: Floats) -> Floats:
        """The products of each row of a design matrix, ``(samples, q)``."""
        return np.ascontiguousarray(design[:, self.rows] * design[:, self.columns])

    def hold(self, design: Floats) -> bool:
        """Whether products called equal, or zero, are so in these rows ``(samples, params)``."""
        if design.shape[1] != self.params:
            return False
        first, second = triangle(self.params)
        distinct = np.column_stack([self.of(design), np.zeros(design.shape[0])])
        return bool((design[:, first] * design[:, second] == distinct[:, self.expand]).all())

    def chosen(self, upper: Floats) -> Floats:
        """The distinct entries ``(..., q)`` of upper triangles ``(..., params (params + 1) / 2)``."""
        i, j = self.rows, self.columns
        found: Floats = upper[..., i * self.params - i * (i - 1) // 2 + j - i]
        return found

    def packed(self, distinct: Floats) -> Floats:
        """Upper triangles made whole again from their distinct entries, or from sums of the products."""
        if self.expand.min(initial=0) < 0:
            distinct = np.concatenate([distinct, np.zeros((*distinct.shape[:-1], 1))], axis=-1)
        whole: Floats = np.take(distinct, self.expand, axis=-1)
        return whole


@lru_cache(maxsize=2)
def _numbered(told: bytes) -> Products:
    """Of the one numbering that a fit's questions share: each site looks at it in each of them."""
    expand = np.frombuffer(told, dtype=np.intp)
    params = packed_params(expand.size)
    known, where = np.unique(expand[expand >= 0], return_index=True)
    if not np.array_equal(known, np.arange(known.size)) or (np.diff(where) < 0).any() or (expand < -1).any():
        raise ValueError("products are numbered in the order of their first entries")
    first, second = triangle(params)
    entries = np.flatnonzero(expand >= 0)[where]
    rows, columns = first[entries], second[entries]
    rows.flags.writeable = columns.flags.writeable = False
    return Products(rows, columns, expand)
