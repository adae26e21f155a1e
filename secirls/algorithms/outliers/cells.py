"""Which cells a design has: how many samples share a design row, and at how many sites.

Promises: cells are enumerated from the declared levels of factors and from nothing else; where a column is numeric they
are never enumerated, and two numbers are summed. Refuses to know: what cells are needed for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.query import Algorithm, Query, QueryError, Total
from secirls.inputs.designs.design import Design
from secirls.inputs.designs.expansion import LARGEST_ENUMERATION
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers.trimming import FILTER_FROM, REPLACE_FROM, cell_cut


@dataclass(frozen=True)
class Cells:
    """The cells of a design in public: rows of X, and what the sites said of them."""

    rows: Floats
    """Distinct design rows, ``(cells, params)``; none where they are not enumerated."""
    samples: Floats
    """Samples of all sites in each, ``(cells,)``."""
    sites: Floats
    """Sites with a sample in each, ``(cells,)``."""
    counts: Floats
    """Samples in cells of 3 or more, and of `replace_from` or more, ``(2,)``."""
    n_samples: int
    min_contributors: int
    replace_from: int = REPLACE_FROM
    """Samples in a cell from which its outliers are replaced."""
    own: Floats = field(default_factory=lambda: np.zeros(3))
    """Of the cells with own columns, which are enumerated by nobody: samples in cells of 3 or more, and of
    `replace_from` or more; and how many such cells there are, ``(3,)``."""

    @property
    def distinct(self) -> int | None:
        """Distinct rows of the design over all sites; ``None`` where a numeric variable keeps them at home."""
        return int((self.samples > 0).sum() + self.own[2]) if self.enumerated else None

    @property
    def enumerated(self) -> bool:
        """Whether the cells are known one by one; else each site has its own, all of them lonely."""
        return bool(self.rows.shape[0] or self.own[2])

    @property
    def lonely(self) -> Mask:
        """Cells at one site, ``(cells,)``: what is robust there, the site computes by itself."""
        return np.equal(self.sites, 1.0)

    @property
    def shared(self) -> Mask:
        """Cells at as many sites as a sum needs, ``(cells,)``."""
        return np.asarray((self.sites >= self.min_contributors) & ~self.lonely & (self.sites > 0))

    @property
    def thin(self) -> Mask:
        """Cells at more than one site, but at too few for a sum about them alone, ``(cells,)``."""
        return np.asarray((self.sites > 0) & ~self.lonely & ~self.shared)

    def selectable(self, min_kept: int) -> Mask:
        """Shared cells of three or more in which so many values stay when the rest is cut off, ``(cells,)``."""
        kept = np.array([n - 2 * cell_cut(int(n)) if n >= FILTER_FROM else 0 for n in self.samples], dtype=np.float64)
        return np.asarray(self.shared & (kept >= max(min_kept, 1)))

    @property
    def any_lonely(self) -> bool:
        """Whether some site may have a cell of three or more to itself."""
        if not self.enumerated:
            return bool(self.counts[0] > 0)
        return bool(self.own[0] > 0 or (self.lonely & (self.samples >= FILTER_FROM)).any())

    def left_out(self, min_kept: int) -> Mask:
        """Cells of three or more that no robust variance is made of, ``(cells,)``: thin ones, and shared small ones."""
        return np.asarray((self.samples >= FILTER_FROM) & ~self.lonely & ~self.selectable(min_kept))

    def looked_into(self, min_kept: int) -> Cells:
        """The same without the samples of cells `left_out`: by other cells' variances none of them is told."""
        gone = self.left_out(min_kept)
        away = [float(self.samples[gone & (self.samples >= least)].sum()) for least in (FILTER_FROM, self.replace_from)]
        return replace(self, samples=np.where(gone, 0.0, self.samples), counts=self.counts - away)

    @property
    def filters(self) -> bool:
        """Whether any outlier can be told: some cell has three samples or more."""
        return bool(self.counts[0] > 0)

    @property
    def replaces(self) -> bool:
        """Whether any outlier can be replaced: some cell has `replace_from` samples or more."""
        return bool(self.counts[1] > 0)


class OfCells:
    """A question that names cells of the design one by one."""

    rows: Floats
    """Their design rows, ``(cells, params)``: all that the levels allow, or none where they are not enumerated."""


@dataclass(frozen=True)
class CellsQuery(Query, OfCells):
    """How many samples each cell of the design has, and at how many sites it has any.

    Its sum shows two numbers a cell, about all sites together, and nothing of a gene; never asked where a column is
    numeric. Of cells with a site's own column it shows three numbers for all such sites together. What keeps a small
    cell out of what is opened is the report's rule, which prints few samples as such, and
    ``min_total_samples_per_cell``; of a site or one sample it shows that somebody has it. What is asked later in a
    shared cell is asked where it is at ``min_contributors`` sites.
    """

    rows: Floats
    """The cells, ``(cells, params)``: every combination of declared levels."""
    replace_from: int = 0
    """Where sites have columns of their own: samples in a cell from which outliers are replaced. Cells with such
    columns are not among `rows`; of them three numbers are summed, as in `CellCountsQuery`, and how many there are."""

    kind: ClassVar[str] = "cells"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"cell_samples", "cell_sites", "own_cells"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        own = {"own_cells": (3,)} if self.replace_from else {}
        return {"cell_samples": (self.rows.shape[0],), "cell_sites": (self.rows.shape[0],), **own}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_rows(self, self.rows, n_params)
        if not (self.rows.shape[0] or self.replace_from):
            raise QueryError("query 'cells' asks about no cell")
        if self.replace_from:
            check_replace_from(self, self.replace_from)

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        cell = cell_of(samples, self.rows)
        mine = np.bincount(cell[cell >= 0], minlength=self.rows.shape[0]).astype(np.float64)
        found = {"cell_samples": mine, "cell_sites": (mine > 0).astype(np.float64)}
        if self.replace_from:
            number, sizes = own_cells(samples)
            alone = sizes[cell < 0]
            counts = [(alone >= least).sum() for least in (FILTER_FROM, self.replace_from)]
            found["own_cells"] = np.array([*counts, np.unique(number[cell < 0]).size], dtype=np.float64)
        return found


@dataclass(frozen=True)
class CellCountsQuery(Query):
    """How many samples are in a cell of 3 or more, and of `replace_from` or more, among those of their own site.

    Its sum shows these two numbers over all sites, and no row of the design: the covariates of one sample, of a small
    cell and of a site stay at home. It is the pool's two numbers that no rule needs to hold back. Cells at home take no
    ``min_contributors``: nothing is asked about one of them alone.
    """

    replace_from: int = REPLACE_FROM
    """Samples in a cell from which its outliers are replaced."""

    kind: ClassVar[str] = "cell_counts"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"cell_counts"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"cell_counts": (2,)}

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        _, sizes = own_cells(samples)
        return {"cell_counts": np.array([float((sizes >= least).sum()) for least in (FILTER_FROM, self.replace_from)])}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_replace_from(self, self.replace_from)


def cells(
    genes: Mask, design: Design, n_samples: int, min_contributors: int, replace_from: int = REPLACE_FROM
) -> Algorithm[Cells]:
    """Find out about the cells in one round; ``genes`` is any mask of the fit, ``(genes,)``: none is asked about."""
    none = np.zeros_like(genes)
    if not design.enumerable:
        total = yield CellCountsQuery(none, replace_from)
        unknown = np.zeros(0)
        rows = np.zeros((0, len(design.columns)))
        return Cells(rows, unknown, unknown, total["cell_counts"], n_samples, min_contributors, replace_from)
    total = yield CellsQuery(none, design.cells(), replace_from if design.own.of else 0)
    return told_cells(total, design, n_samples, min_contributors, replace_from)


def told_cells(
    total: Total, design: Design, n_samples: int, min_contributors: int, replace_from: int = REPLACE_FROM
) -> Cells:
    """What the opened sum of a `CellsQuery` says."""
    sizes = total["cell_samples"]
    counts = np.array([float(sizes[sizes >= least].sum()) for least in (FILTER_FROM, replace_from)])
    own = total["own_cells"] if design.own.of else np.zeros(3)
    counts += own[:2]
    return Cells(design.cells(), sizes, total["cell_sites"], counts, n_samples, min_contributors, replace_from, own)


def cell_of(samples: Samples, rows: Floats) -> NDArray[np.intp]:
    """Which cell each sample is in, ``(samples,)``; -1 for one with a column of its site's own, in a cell at home.

    Raises `QueryError` where another sample is in none.
    """
    alone = np.zeros(samples.n_samples, dtype=bool) if samples.own is None else samples.own.design.any(axis=1)
    same = (samples.design[:, None, :] == rows[None]).all(axis=2)
    if not (same.any(axis=1) | alone).all():
        raise QueryError("a sample at this site is in no cell of the declared levels")
    place = same.argmax(axis=1) if rows.shape[0] else np.zeros(samples.n_samples, dtype=np.intp)
    return np.where(alone, -1, place)


def own_cells(samples: Samples) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The cells among one site's own rows: which one each sample is in, and its size, each ``(samples,)``."""
    if not samples.n_samples:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    _, cell, sizes = np.unique(samples.joint.design, axis=0, return_inverse=True, return_counts=True)
    cell = cell.reshape(-1)
    return cell, sizes[cell]


def lonely_cells(samples: Samples, rows: Floats, lonely: Mask) -> NDArray[np.intp]:
    """Which cell at this site alone each sample is in, ``(samples,)``; -1 for samples in cells of several sites."""
    number, _ = own_cells(samples)
    if not rows.shape[0]:
        return number
    cell = cell_of(samples, rows)
    return np.where((cell < 0) | np.append(lonely, True)[cell], number, -1)


def sizes_of(samples: Samples, rows: Floats, sizes: Floats) -> NDArray[np.intp]:
    """How many samples each sample's cell has, over all sites or, for cells that are not enumerated, at its own."""
    at_home = own_cells(samples)[1]
    if not rows.shape[0]:
        return at_home
    cell = cell_of(samples, rows)
    return np.where(cell < 0, at_home, np.append(sizes, 0.0).astype(np.intp)[cell])


def check_replace_from(query: Query, replace_from: int) -> None:
    """Raise `QueryError` where cells so small that their outliers are not even told should have them replaced."""
    if replace_from < FILTER_FROM:
        raise QueryError(f"query {query.kind!r}: outliers are replaced in cells of {FILTER_FROM} samples or more")


def check_rows(query: Query, rows: Floats, n_params: int) -> None:
    """Raise `QueryError` unless a query's cells are distinct design rows of factors, that is of zeros and ones.

    So nobody can ask for the samples of a given age, whatever they call a cell.
    """
    if rows.ndim != 2 or rows.shape[1] != n_params or rows.shape[0] > LARGEST_ENUMERATION:
        raise QueryError(f"query {query.kind!r}: cells {rows.shape} do not fit {n_params} design columns")
    if not np.isin(rows, (0.0, 1.0)).all():
        raise QueryError(f"query {query.kind!r}: cells are rows of zeros and ones")
    if len(np.unique(rows, axis=0)) != rows.shape[0]:
        raise QueryError(f"query {query.kind!r}: two cells are the same")
