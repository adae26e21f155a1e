"""Robust dispersions by gene, that an outlier cannot raise: from trimmed variances within the cells of the design.

Promises: the largest trimmed variance of a gene over its cells, as R's DESeq2 takes it; shared cells are asked by
counts, what a cell at one site gives is computed there and only the largest is looked for. Refuses to know: Cook's
distances. Love, Huber and Anders (2014), methods, Cook's distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secirls.algorithms.groundwork.normalisation import known_size_factors
from secirls.algorithms.outliers.cells import Cells, OfCells, check_rows, lonely_cells
from secirls.algorithms.outliers.selection import THRESHOLDS, Wanted, trimmed_means
from secirls.algorithms.query import Algorithm, Query, QueryError, some_of
from secirls.numerics.arithmetic.float_order import between, place
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers.cooks import SMALLEST_ROBUST_DISPERSION
from secirls.numerics.outliers.trimming import FILTER_FROM, cell_cut, cell_scale, trimmed_variance

SEARCH_THRESHOLDS = 15
"""Thresholds a gene in one round of the search for the largest variance, if not said otherwise."""
SEARCHED = 1 << 12
"""Floats between which a search stops: 2^-40 relative."""
_SLACK = 1.0 + 1e-9
"""What rounding may add to a bound."""


@dataclass(frozen=True)
class CellsAboveQuery(Query, OfCells):
    """In how many cells that one site has to itself a gene's trimmed variance exceeds each of a few thresholds.

    Its sum shows a number of cells; a search of these ends at the largest variance, to 2^-40: a figure of one site and
    one cell of three samples or more (that is the rule), like the site's own coefficient in such a design; not whose,
    and no one sample's value. It begins at the largest variance already known, or at what would change nothing, so that
    smaller ones are never looked for. Asked only about genes that may have an outlier; a site counts only cells that no
    other site has samples in. ``min_contributors`` holds for the genes.
    """

    rows: Floats
    """The cells of the design, ``(cells, params)``; none if they are not enumerated: a site counts its own."""
    lonely: Mask
    """Which cells are at one site, ``(cells,)``."""
    thresholds: Floats
    """``(genes asked, thresholds)``."""

    kind: ClassVar[str] = "cells_above"
    sign: ClassVar[str] = "cells_above"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"cells_above": self.thresholds.shape}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_rows(self, self.rows, n_params)
        if self.lonely.shape != self.rows.shape[:1]:
            raise QueryError(f"query {self.kind!r}: cells do not fit each other")
        if len(self.thresholds.shape) != 2 or self.thresholds.shape[0] != self.n_genes:
            raise QueryError(f"query {self.kind!r}: thresholds do not fit the genes asked about")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        s = known_size_factors(samples)
        above = np.zeros(self.thresholds.shape)
        for variance in lonely_variances(samples, s, self.rows, self.lonely):
            above += variance[:, None] > self.thresholds
        return {"cells_above": above}


def lonely_variances(samples: Samples, s: Floats, rows: Floats, lonely: Mask) -> Iterator[Floats]:
    """The trimmed variance ``(genes,)`` of every cell of three samples or more that this site has to itself."""
    cell = lonely_cells(samples, rows, lonely)
    for number in np.unique(cell[cell >= 0]):
        inside = np.flatnonzero(cell == number)
        if inside.size >= FILTER_FROM:
            variance = np.empty(samples.n_genes)
            for block in samples.gene_blocks():
                variance[block] = trimmed_variance(np.take(samples.counts.T[block], inside, axis=1) / s[inside])
            yield variance


@dataclass(frozen=True)
class Searching:
    """How trimmed variances are found."""

    min_kept: int = 3
    """A shared cell takes part if so many values or more stay when its ends are cut off; 1 is R."""
    thresholds: int = THRESHOLDS
    """Of one ask in one round, where order statistics are counted."""
    search_thresholds: int = SEARCH_THRESHOLDS
    """Of one gene in one round, where a largest value is searched."""

    def __post_init__(self) -> None:
        if self.min_kept < 1 or self.thresholds < 2 or self.search_thresholds < 1:
            raise ValueError("min_kept and search_thresholds are 1 or more, thresholds 2 or more")


def robust_dispersions(
    genes: Mask, base_means: Floats, base_variances: Floats, cells: Cells, searching: Searching
) -> Algorithm[Floats]:
    """``max((v - m) / m^2, 0.04)`` of the masked genes, ``(genes asked,)``, with v the largest trimmed variance.

    Parameters
    ----------
    genes
        Which are asked about, ``(all genes,)``; none of them all zero.
    base_means, base_variances
        Of y / s over all samples, ``(genes asked,)``: m, and where variances are first looked for.
    cells
        Those of three samples or more take part, but for `Cells.left_out`.
    searching
        Which shared cells take part, and how many thresholds a round has.
    """
    v = yield from shared_variances(genes, base_means, base_variances, cells, searching)
    if cells.any_lonely and genes.any():
        v = yield from _lonely(genes, v, cells, largest_variance(base_means, cells), searching)
    return robust_dispersion(v, base_means)


def robust_dispersion(v: Floats, base_means: Floats) -> Floats:
    """The robust dispersion at a variance of y / s, ``(genes,)`` all."""
    found: Floats = np.maximum((v - base_means) / base_means**2, SMALLEST_ROBUST_DISPERSION)
    return found


def largest_variance(base_means: Floats, cells: Cells) -> Floats:
    """What no cell's trimmed variance exceeds, ``(genes,)``."""
    return _SLACK * cell_scale(FILTER_FROM) * (cells.n_samples * base_means) ** 2


def shared_variances(
    genes: Mask, base_means: Floats, base_variances: Floats, cells: Cells, searching: Searching
) -> Algorithm[Floats]:
    """The largest trimmed variance over cells of several sites, or what changes nothing, ``(genes asked,)``."""
    # Below this a variance changes nothing: the robust dispersion is at its floor.
    v = base_means + SMALLEST_ROBUST_DISPERSION * base_means**2
    if not genes.any():
        return v
    shared = yield from _shared(genes, base_means, base_variances, cells, searching)
    return np.maximum(v, shared)


def _shared(
    genes: Mask, base_means: Floats, base_variances: Floats, cells: Cells, searching: Searching
) -> Algorithm[Floats]:
    """The largest trimmed variance of each gene over the cells of several sites; zero where there is none."""
    count, chosen = base_means.size, np.flatnonzero(cells.selectable(searching.min_kept))
    if not chosen.size:
        return np.zeros(count)
    gene, cell = np.repeat(np.arange(count), chosen.size), np.tile(chosen, count)
    sizes = cells.samples[cell].astype(np.intp)
    top = _SLACK * cells.n_samples * base_means[gene]
    wanted = Wanted(
        genes=genes,
        rows=cells.rows,
        gene=gene,
        cell=cell,
        samples=sizes,
        cut=np.array([cell_cut(int(n)) for n in sizes], dtype=np.intp),
        scale=base_means[gene],
        top=top,
        centre=np.zeros(0),
    )
    centre = yield from trimmed_means(wanted, searching.thresholds)
    squares = Wanted(
        genes=genes,
        rows=cells.rows,
        gene=gene,
        cell=cell,
        samples=sizes,
        cut=wanted.cut,
        scale=base_variances[gene],
        top=top**2,
        centre=centre,
    )
    spread = yield from trimmed_means(squares, searching.thresholds)
    scaled = spread * np.array([cell_scale(int(n)) for n in sizes])
    largest: Floats = scaled.reshape(count, chosen.size).max(axis=1)
    return largest


def _lonely(genes: Mask, start: Floats, cells: Cells, top: Floats, searching: Searching) -> Algorithm[Floats]:
    """The larger of ``start`` and the largest variance of a cell at one site, ``(genes asked,)``."""
    low, high = start.copy(), np.maximum(top, start)
    going = np.arange(start.size)
    lonely = cells.lonely if cells.enumerated else np.zeros(0, dtype=bool)
    first = True
    while going.size:
        tried = between(low[going], high[going], searching.search_thresholds - first)
        if first:  # most genes have nothing above where the search begins
            tried = np.column_stack([low[going], tried])
        total = yield CellsAboveQuery(some_of(genes, going), cells.rows, lonely, tried)
        some = total["cells_above"] > 0
        none_at_all = ~some[:, 0] if first else np.zeros(going.size, dtype=bool)
        low[going] = np.where(some, tried, low[going, None]).max(axis=1)
        high[going] = np.where(some, high[going, None], tried).min(axis=1)
        high[going[none_at_all]] = low[going[none_at_all]]
        going = going[place(high[going]) - place(low[going]) > SEARCHED]
        first = False
    return high
