"""Which products of two design columns are different numbers: each is summed once.

Promises: the map is public; what it calls equal or zero is checked on a site's own rows. Refuses to know: formulas,
weights, sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.samples import Floats
from secirls.numerics.solve import packed_size


@dataclass(frozen=True)
class Products:
    """The distinct non-zero products of design columns, and how the upper triangle of X'WX is made of their sums."""

    rows: NDArray[np.intp]
    """First column of each product, ``(q,)``."""
    columns: NDArray[np.intp]
    """Second column of each, ``(q,)``."""
    expand: NDArray[np.intp]
    """For each entry of the upper triangle its product, or -1 where it is zero, ``(params (params + 1) / 2,)``."""

    @classmethod
    def full(cls, params: int) -> Products:
        """All products of so many columns."""
        rows, columns = np.triu_indices(params)
        return cls(rows, columns, np.arange(packed_size(params)))

    def of(self, design: Floats) -> Floats:
        """The products of each row of a design matrix, ``(samples, q)``."""
        return np.ascontiguousarray(design[:, self.rows] * design[:, self.columns])

    def hold(self, design: Floats) -> bool:
        """Whether the products called equal or zero are so in every row of this design matrix."""
        rows, columns = np.triu_indices(design.shape[1])
        every = design[:, rows] * design[:, columns]
        mine = np.concatenate([self.of(design), np.zeros((design.shape[0], 1))], axis=1)
        return bool((every == mine[:, self.expand]).all())

    def packed(self, sums: Floats) -> Floats:
        """Upper triangles ``(..., params (params + 1) / 2)`` from sums of the products ``(..., q)``."""
        padded = np.concatenate([sums, np.zeros((*sums.shape[:-1], 1))], axis=-1)
        packed: Floats = np.ascontiguousarray(padded[..., self.expand])
        return packed
