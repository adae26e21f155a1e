"""How a site holds its counts: an array, or what gives a few genes' counts as one when they are needed.

Promises: what is given are the same integers however they are held, so that no sum depends on it; nothing held is
copied where some genes are chosen, some counts replaced, or some genes' counts put in the place of others.
Refuses to know: what is computed from them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Counts, Mask

Index = NDArray[np.intp]
Genes: TypeAlias = "slice | Index | Mask"

FEW_VALUES = 1 << 22
"""Counts that are an array at once (16 MiB): a fifth of a round's time goes into putting them into one each time."""
BLOCK_VALUES = 1 << 20
"""Counts that are put into an array at a time where all are gone through."""


class GeneRows(ABC):
    """Counts genes first, ``(genes, samples)``: indexed by genes, or by genes and a slice of samples, as an array is.

    What they give is int32, and is not to be written to.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Numbers of genes and samples."""

    @abstractmethod
    def _rows(self, genes: slice | Index, samples: slice) -> Counts:
        """Counts of some genes at some samples; slices have a step of one."""

    def __getitem__(self, asked: Genes | tuple[Genes, slice]) -> Counts:
        genes, samples = asked if isinstance(asked, tuple) else (asked, slice(None))
        if isinstance(genes, slice):
            return self._rows(slice(*genes.indices(self.shape[0])), samples)
        index: Index = np.flatnonzero(genes) if genes.dtype == np.bool_ else np.asarray(genes, dtype=np.intp)
        return self._rows(index, samples)


@dataclass(frozen=True)
class HeldCounts:
    """Counts ``(samples, genes)`` that are no array; ``T`` gives some genes' as one."""

    T: GeneRows

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of samples and genes."""
        genes, samples = self.T.shape
        return samples, genes


@dataclass(frozen=True)
class Chosen(GeneRows):
    """Some genes of others, by index, each as often as it stands there."""

    among: Counts | GeneRows
    genes: Index

    @classmethod
    def of(cls, rows: Counts | GeneRows, genes: Index) -> Chosen:
        """The genes of rows; of chosen ones, those of what they were chosen from."""
        return cls(rows.among, rows.genes[genes]) if isinstance(rows, Chosen) else cls(rows, genes)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of genes and samples."""
        return self.genes.size, self.among.shape[1]

    def _rows(self, genes: slice | Index, samples: slice) -> Counts:
        return _at(self.among, _together(self.genes[genes]), samples)


@dataclass(frozen=True)
class Entered(GeneRows):
    """Counts entered one by one, over others or over zeros, in pieces of so many samples."""

    under: Counts | NDArray[np.uint8] | NDArray[np.uint16] | GeneRows | None
    """``(genes, samples)``; zeros if not given."""
    samples: int
    starts: NDArray[Any]
    """Where the entries of each gene's pieces begin, gene after gene, and the last one's end,
    ``(genes * pieces + 1,)``."""
    sample: NDArray[Any]
    """Of every entry, counted from where its piece begins; as unsigned integers."""
    value: NDArray[Any]
    piece: int
    """Samples in a piece; fewer in a gene's last."""

    @classmethod
    def over(cls, under: Counts | GeneRows, gene: Index, sample: Index, value: NDArray[np.int32]) -> Entered:
        """Counts with others in the place of a few, which are given gene after gene."""
        genes, samples = under.shape
        starts = np.searchsorted(gene, np.arange(genes + 1)).astype(np.int64)
        return cls(under, samples, starts, sample.astype(smallest(samples)), value, max(samples, 1))

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of genes and samples."""
        return (self.starts.size - 1) // self._pieces, self.samples

    @property
    def _pieces(self) -> int:
        """Of a gene."""
        return max(-(-self.samples // self.piece), 1)

    def _rows(self, genes: slice | Index, samples: slice) -> Counts:
        first, last, _ = samples.indices(self.samples)
        by_piece = (-1, self._pieces)
        starts, stops = (ends.reshape(by_piece)[genes].astype(np.int64) for ends in (self.starts[:-1], self.starts[1:]))
        width, number, lengths = last - first, len(starts), stops - starts
        if self.under is None:
            counts = np.zeros((number, width), dtype=np.int32)
        else:
            counts = np.array(_at(self.under, genes, samples), dtype=np.int32, order="C")
        of_gene = lengths.sum(axis=1)
        where: slice | Index
        if isinstance(genes, slice):
            where = slice(starts[0, 0], stops[-1, -1]) if number else slice(0)
        else:
            where = np.repeat(starts[:, 0] - (np.cumsum(of_gene) - of_gene), of_gene) + np.arange(of_gene.sum())
        row, piece, value = np.arange(number) * width, np.arange(self._pieces) * self.piece, self.value[where]
        place = np.repeat((row[:, None] + piece).reshape(-1), lengths.reshape(-1))
        place += self.sample[where]
        if width < self.samples:
            sample = place - np.repeat(row, of_gene)
            inside = np.flatnonzero((sample >= first) & (sample < last))
            place, value = place[inside] - first, value[inside]
        counts.reshape(-1)[place] = value
        return counts


@dataclass(frozen=True)
class Spliced(GeneRows):
    """Some genes' counts in the place of theirs among others."""

    rows: Counts | GeneRows
    other: Counts | GeneRows
    genes: Mask
    """Which are the other's, ``(genes,)``."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of genes and samples."""
        return self.genes.size, self.rows.shape[1]

    def _rows(self, genes: slice | Index, samples: slice) -> Counts:
        other = self.genes[genes]
        if not other.any():
            return _at(self.rows, genes, samples)
        counts = np.array(_at(self.other, genes, samples), dtype=np.int32, order="C")
        if not other.all():
            index = np.arange(other.size) + genes.start if isinstance(genes, slice) else genes
            counts[~other] = self.rows[index[~other], samples]
        return counts


def smallest(numbers: int) -> np.dtype[Any]:
    """The smallest unsigned integers that count so many, from zero."""
    return np.min_scalar_type(max(numbers - 1, 0))


def held(rows: Counts | GeneRows) -> Counts | HeldCounts:
    """Counts ``(samples, genes)`` of rows of genes; as an array where they are few."""
    if isinstance(rows, np.ndarray):
        return rows.T
    genes, samples = rows.shape
    return rows[:].T if genes * samples <= FEW_VALUES else HeldCounts(rows)


def whole(counts: Counts | HeldCounts) -> Counts:
    """All counts as one array ``(samples, genes)``, gene-major: for whoever has room for it."""
    return counts if isinstance(counts, np.ndarray) else counts.T[:].T


def in_blocks(counts: Counts | HeldCounts, values: int = BLOCK_VALUES) -> Iterator[tuple[slice, Counts]]:
    """Some genes at a time and their counts, ``(genes, samples)`` and contiguous: all of them, in order."""
    samples, genes = counts.shape
    size = max(1, values // max(samples, 1))
    for start in range(0, genes, size):
        block = slice(start, min(start + size, genes))
        yield block, np.ascontiguousarray(counts.T[block])


def _at(rows: Counts | NDArray[Any] | GeneRows, genes: slice | Index, samples: slice) -> NDArray[Any]:
    """``rows[genes, samples]``; whole rows of an array are taken as such, in a fraction of the time."""
    if isinstance(rows, np.ndarray) and samples == slice(None):
        return rows[genes] if isinstance(genes, slice) else rows.take(genes, axis=0)
    return rows[genes, samples]


def _together(index: Index) -> slice | Index:
    """The slice that genes make, where they stand together."""
    if index.size and index[-1] - index[0] == index.size - 1 and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index
