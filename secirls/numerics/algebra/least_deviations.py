"""In how few samples columns can differ from a combination of others: least absolute deviations, of many at once.

Promises: each column's number is what it would be alone. Refuses to know: what is few, and whose samples they are.
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
        self.samples = len(columns)
        self.free: int = self.samples - self._basis.shape[1]
        """By how many samples there are more than columns that count."""

    @property
    def leverages(self) -> Floats:
        """The largest part of each sample in the squares of any of them, ``(samples,)``."""
        found: Floats = (self._basis**2).sum(axis=1)
        return found

    def pairs(self, most: float) -> set[tuple[int, int]]:
        """Which two samples have more than that part in the squares of one of them."""
        alone = self.leverages
        first = np.flatnonzero(alone > most / 2.0)  # of two that have so much together one has half of it
        across = self._basis[first] @ self._basis.T
        mean, apart = (alone[first, None] + alone) / 2.0, (alone[first, None] - alone) / 2.0
        one, other = np.nonzero(mean + np.hypot(apart, across) > most)
        both = np.sort(np.column_stack([first[one], other]), axis=1).tolist()
        return {(i, j) for i, j in both if i != j}

    def differing(self, columns: Floats) -> NDArray[np.intp]:
        """In how few samples each column, ``(samples, columns)``, can differ from one of them."""
        few: NDArray[np.intp] = np.count_nonzero(self.left(columns), axis=0)
        return few

    def left(self, columns: Floats) -> Floats:
        """What then is left of each column, ``(samples, columns)``, in the few samples that make up all of it."""
        step = max(1, _BLOCK_VALUES // max(1, self._basis.size))
        blocks = [self._left(columns.T[at : at + step]).T for at in range(0, columns.shape[1], step)]
        return np.concatenate(blocks, axis=1) if blocks else np.zeros(columns.shape)

    def _left(self, columns: Floats) -> Floats:
        """Of columns ``(columns, samples)``, by weights that are made anew (Schlossmacher 1973)."""
        signed, weights = columns, np.ones(columns.shape)
        for _ in range(_STEPS):
            weighted = self._basis.T * weights[:, None, :]
            # Weights are from 1e-6 to one, on columns at right angles: what rounding leaves is taken out once more.
            squares, signed = weighted @ self._basis, columns
            for _ in range(2):
                along = np.linalg.solve(squares, weighted @ signed[:, :, None])[:, :, 0]
                signed = signed - along @ self._basis.T
            left = np.abs(signed)
            weights = 1.0 / np.maximum(left, np.maximum(_SMOOTH * left.max(axis=1, keepdims=True), _TINY))
            weights /= weights.max(axis=1, keepdims=True)
        order = np.argsort(-left, axis=1, kind="stable")
        squares = np.cumsum(np.take_along_axis(left**2, order, axis=1), axis=1)
        few = 1 + (squares < _ALL_BUT * squares[:, -1:]).sum(axis=1)
        few = np.where(left.max(axis=1) <= _ROUNDING * np.abs(columns).max(axis=1), 0, few)
        place = np.argsort(order, axis=1, kind="stable")
        return np.where(place < few[:, None], signed, 0.0)
