"""A matrix of counts, checked and taken in a tile at a time, wherever it lies.

Promises: of a matrix on the disk there is never more in memory than a tile and what is held of it; a refusal names the
gene and quotes no count. Refuses to know: files, and which layer is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secirls.input_error import complain
from secirls.inputs.files.held_matrix import Tile, hold
from secirls.inputs.files.stored_sparse import OutsideError
from secirls.numerics.arrays import Counts, Mask
from secirls.numerics.held.held_counts import HeldCounts, in_blocks
from secirls.numerics.held.samples import LARGEST_COUNT

TILE_VALUES = 1 << 18
"""Counts that are read and checked at a time (2 MiB as float64); more where the file's own chunks are larger."""
PLAIN_VALUES = 1 << 23
"""A matrix of fewer counts (32 MiB) is held as an array."""
_FRACTIONAL = "has a fractional count: raw counts are needed (round_counts rounds estimated ones, not normalised ones)"


def read_counts(
    matrix: Any,
    genes: Sequence[str],
    where: Mapping[str, str],
    *,
    rounded: bool,
    reading: Callable[[], AbstractContextManager[None]],
    beside: str = "",
) -> Counts | HeldCounts:
    """Dense or sparse, int or integer-valued float counts ``(samples, genes)``; others ``rounded``.

    ``where`` names the file and the field, ``beside`` where else counts may be; ``reading`` is entered while the matrix
    is read. Raises `InputError`.
    """
    kind = getattr(matrix, "dtype", np.dtype(object)).kind
    if kind == "b":
        raise complain("holds yes or no, not counts: raw counts are needed", **where)
    if kind not in "iuf":
        raise complain("does not hold numbers", **where)
    with entries_inside(where):
        _check_whole(matrix)

    def tiles() -> Iterator[Tile]:
        with reading(), entries_inside(where):
            for tile in _tiles(matrix):
                yield Tile(tile.samples, tile.genes, _checked(tile, genes, where, rounded=rounded, beside=beside))

    samples, n_genes = matrix.shape
    if samples * n_genes > PLAIN_VALUES:
        return hold(tiles, (samples, n_genes), where)
    counts = np.empty((samples, n_genes), dtype=np.int32, order="F")
    for tile in tiles():
        counts[tile.samples, tile.genes] = tile.counts
    return counts


def never_counted(counts: Counts | HeldCounts) -> Mask:
    """Which genes no sample has a count in, ``(genes,)``."""
    never = np.empty(counts.shape[1], dtype=np.bool_)
    for genes, block in in_blocks(counts):
        never[genes] = ~block.any(axis=1)
    return never


@contextmanager
def entries_inside(where: Mapping[str, str]) -> Iterator[None]:
    """Raise `InputError` where a sparse matrix turns out to point outside itself."""
    try:
        yield
    except OutsideError:
        raise complain("is a sparse matrix with entries outside of it, or in no order", **where) from None


def _check_whole(sparse: Any) -> None:
    """Raise `OutsideError` where a sparse matrix in memory points outside itself; others are as good as they look.

    SciPy takes its word for where entries are, and writes there.
    """
    if not hasattr(sparse, "check_format"):
        return
    try:
        sparse.check_format(full_check=True)
    except ValueError as error:
        raise OutsideError(str(error)) from None


def _tiles(matrix: Any) -> Iterator[Tile]:
    """A matrix in tiles that are read whole: samples of compressed rows, genes of compressed columns."""
    form = getattr(matrix, "format", None)  # of sparse ones alone
    if form not in (None, "csr", "csc"):
        matrix, form = matrix.tocsr(), "csr"
    down, across = _sides(matrix, form)
    for first in range(0, matrix.shape[0], down):
        samples = slice(first, min(first + down, matrix.shape[0]))
        for start in range(0, matrix.shape[1], across):
            genes = slice(start, min(start + across, matrix.shape[1]))
            tile = matrix[:, genes] if form == "csc" else matrix[samples] if form == "csr" else matrix[samples, genes]
            yield Tile(samples, genes, np.asarray(tile.toarray() if hasattr(tile, "toarray") else tile))


def _sides(matrix: Any, form: str | None) -> tuple[int, int]:
    """How many samples and genes a tile has: all genes, and whole chunks, where that is not too much."""
    samples, genes = matrix.shape
    if form == "csc":
        return max(samples, 1), max(TILE_VALUES // max(samples, 1), 1)
    chunks = getattr(matrix, "chunks", None)
    down, across = chunks if form is None and chunks and isinstance(chunks[0], int) else (1, max(genes, 1))
    many = max(TILE_VALUES // max(genes, 1) // down, 1) * down
    return many, genes if many * genes <= 4 * TILE_VALUES else max(TILE_VALUES // many // across, 1) * across


def _checked(tile: Tile, genes: Sequence[str], where: Mapping[str, str], *, rounded: bool, beside: str) -> NDArray[Any]:
    """The counts of a tile, if they are. Raises `InputError`."""
    counts = tile.counts
    if rounded and counts.dtype.kind == "f" and not (counts < 0).any():
        counts = np.rint(counts)
    for problem, wrong in _problems(counts):
        if wrong.any():
            gene = genes[tile.genes.start + int(np.flatnonzero(wrong.any(axis=0))[0])]
            raise complain(problem, **where, detail="; ".join(filter(None, (f"gene {gene!r}", beside))))
    return counts


def _problems(counts: NDArray[Any]) -> Iterator[tuple[str, Mask]]:
    if counts.dtype.kind == "f":
        yield "has a count that is not a number", ~np.isfinite(counts)
    yield "has a negative count", counts < 0
    if counts.dtype.kind == "f":
        yield _FRACTIONAL, counts != np.floor(counts)
    # In powers of two: as float32, the largest count itself rounds up to the first beyond it.
    yield f"has a count above {LARGEST_COUNT}", counts >= LARGEST_COUNT + 1
