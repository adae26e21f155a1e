"""A matrix of counts held in as few bytes as it goes, from its tiles.

Promises: the integers are those of the tiles; beside what is held there is one tile. Refuses to know: files, and
whether tiles hold counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from secirls.input_error import complain
from secirls.numerics.arrays import Counts, Mask
from secirls.numerics.held.held_counts import Entered, HeldCounts, smallest

PIECE = 256
"""Samples in a piece: an entry's place in one takes a byte."""
_LARGEST = {kind: int(np.iinfo(kind).max) for kind in (np.uint8, np.uint16)}


class Tile(NamedTuple):
    """Part of a matrix."""

    samples: slice
    genes: slice
    counts: NDArray[Any]
    """``(samples, genes)``."""

    def pieces(self, size: int) -> Iterator[tuple[int, slice, int]]:
        """Which pieces of so many samples it is in: number, samples of the tile, and where in the piece they begin."""
        first, last = self.samples.start, self.samples.stop
        for piece in range(first // size, -(-last // size)):
            begin = max(piece * size, first)
            yield piece, slice(begin - first, min((piece + 1) * size, last) - first), begin - piece * size


class _Entries:
    """Counts that are entered one by one, tile after tile."""

    def __init__(self, numbers: NDArray[np.unsignedinteger[Any]], piece: int, kind: DTypeLike) -> None:
        """Make room for so many in each gene's pieces, ``(genes, pieces)``."""
        total = int(numbers.sum(dtype=np.int64))
        self._numbers, self._piece, self._filled = numbers, piece, np.zeros_like(numbers)
        self._starts = np.zeros(numbers.size + 1, dtype=smallest(total + 1))
        np.cumsum(numbers, dtype=self._starts.dtype, out=self._starts[1:])
        self._sample, self._value = np.empty(total, dtype=smallest(piece)), np.empty(total, dtype=kind)

    @property
    def full(self) -> bool:
        """Whether all that there is room for were entered."""
        return np.array_equal(self._filled, self._numbers)

    def enter(self, tile: Tile, rows: Counts, entered: Mask) -> bool:
        """Enter some of a tile's counts, ``(genes, samples)``; whether there was room for them."""
        starts = self._starts[:-1].reshape(self._numbers.shape)
        for piece, part, begin in tile.pieces(self._piece):
            chosen, filled = entered[:, part], self._filled[tile.genes, piece]
            here = np.count_nonzero(chosen, axis=1)
            if (filled + here > self._numbers[tile.genes, piece]).any():
                return False
            at = starts[tile.genes, piece].astype(np.int64) + filled - (np.cumsum(here) - here)
            place = np.arange(here.sum()) + np.repeat(at, here)
            self._sample[place] = begin + np.nonzero(chosen)[1]
            self._value[place] = rows[:, part][chosen]
            filled += here.astype(filled.dtype)
        return True

    def over(self, under: Counts | NDArray[Any] | Entered | None, samples: int) -> Entered:
        """They stand over others, or over zeros."""
        return Entered(under, samples, self._starts, self._sample, self._value, self._piece)


def hold(tiles: Callable[[], Iterator[Tile]], shape: tuple[int, int], where: Mapping[str, str]) -> HeldCounts:
    """Counts of tiles ``(samples, genes)``: all in one byte or two, or, in two, those above zero; larger ones by place.

    The matrix is gone through twice: to count what is to be held, and to hold it. Raises `InputError` where it changes
    meanwhile; ``where`` names the file and the field.
    """
    samples, genes = shape
    small = np.zeros((genes, -(-samples // PIECE)), dtype=np.uint16)
    large, largest = {kind: np.zeros((genes, 1), dtype=np.uint32) for kind in _LARGEST}, 0
    for tile in tiles():
        for kind, most in _LARGEST.items():
            large[kind][tile.genes, 0] += np.count_nonzero(tile.counts > most, axis=0).astype(np.uint32)
        entered = (tile.counts > 0) & (tile.counts <= _LARGEST[np.uint8])
        for piece, part, _ in tile.pieces(PIECE):
            small[tile.genes, piece] += np.count_nonzero(entered[part], axis=0).astype(np.uint16)
        largest = max(largest, int(tile.counts.max(initial=0)))
    width = smallest(largest + 1)
    by_place = {kind: (smallest(samples).itemsize + width.itemsize) * int(large[kind].sum()) for kind in _LARGEST}
    all_of_them = {kind: np.dtype(kind).itemsize * samples * genes + by_place[kind] for kind in _LARGEST}
    kind = min(all_of_them, key=all_of_them.__getitem__)
    above_zero = 2 * int(small.sum(dtype=np.int64)) + 4 * small.size + by_place[np.uint8]
    few = None
    if above_zero < all_of_them[kind]:
        few, kind = _Entries(small, PIECE, np.uint8), np.uint8
    under = np.zeros((genes, samples), dtype=kind) if few is None else None
    by_hand = _Entries(large[kind], max(samples, 1), width)
    for tile in tiles():
        rows = np.ascontiguousarray(tile.counts.T, dtype=np.int32)
        over = rows > _LARGEST[kind]
        if under is not None:
            under[tile.genes, tile.samples] = np.where(over, 0, rows)
        if not by_hand.enter(tile, rows, over) or not (few is None or few.enter(tile, rows, (rows > 0) & ~over)):
            break
    if not by_hand.full or not (few is None or few.full):
        raise complain("was changed while it was read", **where)
    return HeldCounts(by_hand.over(under if few is None else few.over(None, samples), samples))
