"""A sparse matrix on the disk, read some rows or columns at a time, without SciPy.

Promises: what is read is an array, equal entries of one place added up; a matrix whose parts do not fit raises
`ValueError`, one that points outside itself `OutsideError`, before anything is read beyond them. Refuses to know: what
the numbers mean.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMATS = {"csr_matrix": "csr", "csc_matrix": "csc"}
"""How AnnData's files name them."""


class OutsideError(ValueError):
    """Where a sparse matrix says that its entries are is outside of it, or in no order."""


class StoredSparse:
    """Compressed rows, of which ``matrix[rows]`` reads some, or compressed columns: ``matrix[:, columns]``."""

    def __init__(self, group: Any) -> None:
        """Take the open group of an h5ad or zarr store. Nothing but its shape is read."""
        self.format = FORMATS[group.attrs["encoding-type"]]
        rows, columns = map(int, group.attrs["shape"])
        self.shape = rows, columns
        self._values, self._places = group["data"], group["indices"]
        self.dtype: np.dtype[Any] = np.dtype(self._values.dtype)
        self._begins = group["indptr"]

    @cached_property
    def _starts(self) -> NDArray[Any]:
        """Where its rows or columns begin, and the last ends: read when lines are, as the shape is the file's word."""
        lines, across = self.shape if self.format == "csr" else self.shape[::-1]
        if self._begins.shape != (lines + 1,):
            raise ValueError("the parts of a sparse matrix do not fit each other")
        starts = np.asarray(self._begins[:])
        if not self._values.shape == self._places.shape == (starts[-1],):
            raise ValueError("the parts of a sparse matrix do not fit each other")
        if starts[0] != 0 or (starts[1:] < starts[:-1]).any():
            raise OutsideError("its rows or columns do not follow each other")
        if (starts[1:] - starts[:-1] > across).any():
            raise ValueError("a row or column has more entries than places")
        return starts

    def __getitem__(self, asked: slice | tuple[slice, slice]) -> NDArray[Any]:
        """Rows, or all rows of some columns; slices have both ends, and a step of one."""
        if self.format == "csr":
            return self._lines(asked[0] if isinstance(asked, tuple) else asked, self.shape[1])
        return self._lines(asked[1] if isinstance(asked, tuple) else slice(0, self.shape[1]), self.shape[0]).T

    def _lines(self, lines: slice, across: int) -> NDArray[Any]:
        """Some of what is compressed, ``(lines, across)``."""
        starts = self._starts[lines.start : lines.stop + 1].astype(np.int64)
        part = slice(int(starts[0]), int(starts[-1]))
        places = np.asarray(self._places[part]).astype(np.int64)
        if places.size and not 0 <= places.min() <= places.max() < across:
            raise OutsideError("an entry lies outside of it")
        out = np.zeros((starts.size - 1, across), dtype=self.dtype)
        places += np.repeat(np.arange(starts.size - 1) * across, np.diff(starts))
        np.add.at(out.reshape(-1), places, np.asarray(self._values[part]))
        return out
