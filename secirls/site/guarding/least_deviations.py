"""In how few samples columns can differ from a combination of others: least absolute deviations, of many at once.

Promises: each column's number is what it would be alone. Refuses to know: what is few; see `Likeness`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Floats

_ALL_BUT = 0.999
"""Samples that make up so much of what is left of a column's squares are all that is in it."""
_ROUNDING = 1e-9
"""Of a column's largest entry: what is left of it, if no more than this, is nothing."""
_STEPS = 30
_SMOOTH = 1e-6
_TINY = float(np.finfo(np.float64).tiny)
_BLOCK_VALUES = 1 << 18
"""At a time, which stay in a processor's cache."""


class Combinations:
    """All combinations of some columns, ``(samples, columns)``."""

    def __init__(self, columns: Floats) -> None:
        basis, lengths, _ = np.linalg.svd(columns, full_matrices=False)
        least = lengths.max(initial=0.0) * max(columns.shape) * np.finfo(np.float64).eps
        self._basis = np.ascontiguousarray(basis[:, lengths > least])
        self.free: int = len(columns) - self._basis.shape[1]
        """By how many samples there are more than columns that count."""

    def differing(self, columns: Floats) -> NDArray[np.intp]:
        """In how few samples each column, ``(samples, columns)``, can differ from one of them."""
        step = max(1, _BLOCK_VALUES // max(1, self._basis.size))
        blocks = [self._differing(columns.T[at : at + step]) for at in range(0, columns.shape[1], step)]
        return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.intp)

    def _differing(self, columns: Floats) -> NDArray[np.intp]:
        """Of columns ``(columns, samples)``, by weights that are made anew (Schlossmacher 1973)."""
        left, weights = np.abs(columns), np.ones(columns.shape)
        for _ in range(_STEPS):
            weighted = self._basis.T * weights[:, None, :]
            # Weights are from 1e-6 to one, on columns at right angles: what rounding leaves is taken out once more.
            squares, left = weighted @ self._basis, columns
            for _ in range(2):
                along = np.linalg.solve(squares, weighted @ left[:, :, None])[:, :, 0]
                left = left - along @ self._basis.T
            left = np.abs(left)
            weights = 1.0 / np.maximum(left, np.maximum(_SMOOTH * left.max(axis=1, keepdims=True), _TINY))
            weights /= weights.max(axis=1, keepdims=True)
        squares = np.cumsum(np.sort(left**2, axis=1)[:, ::-1], axis=1)
        few = 1 + (squares < _ALL_BUT * squares[:, -1:]).sum(axis=1)
        nothing = left.max(axis=1) <= _ROUNDING * np.abs(columns).max(axis=1)
        return np.where(nothing, 0, few)
