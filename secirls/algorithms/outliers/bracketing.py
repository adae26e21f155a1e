"""Outliers where sites have cells of their own: what is compared with a variance at home, without opening it.

Promises: the outliers are those of the largest trimmed variance of all cells, which nobody learns: a bracket of it is
narrowed until no sample's answer depends on where in it the variance is. Refuses to know: how distances are computed.
Love, Huber and Anders (2014), methods, Cook's distances.

A Cook's distance falls with the robust variance v, so sample i is an outlier just where ``v < v_i``, which its site
finds by itself. Two numbers are summed at each threshold: cells whose variance is above, and samples whose v_i is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secirls.algorithms.groundwork.normalisation import known_size_factors
from secirls.algorithms.outliers.cells import Cells, OfCells, check_rows
from secirls.algorithms.outliers.distances import CooksConfig, DistanceQuery, distance_fields
from secirls.algorithms.outliers.robust_dispersion import (
    SEARCHED,
    largest_variance,
    lonely_variances,
    robust_dispersion,
    shared_variances,
)
from secirls.algorithms.query import Algorithm, QueryError, some_of
from secirls.algorithms.regression.betas import Betas
from secirls.numerics.arithmetic.float_order import between, place
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers.cooks import critical_variances


@dataclass(frozen=True)
class VarianceQuery(DistanceQuery, OfCells):
    """At each of a few variances: how many cells at one site exceed it, and how many samples would be outliers above.

    Its sum shows two numbers a threshold, of cells and of samples over all sites: neither whose they are, nor a
    variance but for a bracket that ends where no sample lies in it. Asked only about genes that may have an outlier, of
    cells of three samples or more; ``min_contributors`` holds for the genes.
    """

    base_means: Floats
    """m, ``(genes asked,)``."""
    rows: Floats
    """The cells of several sites, ``(cells, params)``; none if they are not enumerated."""
    lonely: Mask
    """Which of them are at one site, ``(cells,)``."""
    thresholds: Floats
    """``(genes asked, thresholds)``."""

    kind: ClassVar[str] = "variances"
    sign: ClassVar[str] = "cells_above"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"cells_above": self.thresholds.shape, "samples_above": self.thresholds.shape}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_rows(self, self.rows, n_params)
        if self.lonely.shape != self.rows.shape[:1] or self.base_means.shape != (self.n_genes,):
            raise QueryError(f"query {self.kind!r}: cells or means do not fit the question")
        if len(self.thresholds.shape) != 2 or self.thresholds.shape[0] != self.n_genes:
            raise QueryError(f"query {self.kind!r}: thresholds do not fit the genes asked about")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        cells = np.zeros(self.thresholds.shape)
        for variance in lonely_variances(samples, known_size_factors(samples), self.rows, self.lonely):
            cells += variance[:, None] > self.thresholds
        above = np.empty(self.thresholds.shape)
        for block, here, fit in self.fits(samples):
            critical = critical_variances(here, fit, self.base_means[block], self.cutoff)
            above[block] = (critical[:, None, :] > self.thresholds[block, :, None]).sum(axis=2)
        return {"cells_above": cells, "samples_above": above}


def bracketed_dispersions(
    genes: Mask,
    betas: Betas,
    base_means: Floats,
    base_variances: Floats,
    cells: Cells,
    limit: float,
    config: CooksConfig,
) -> Algorithm[Floats]:
    """A robust dispersion ``(genes asked,)`` at which the same samples are outliers as at that of all cells.

    ``base_means`` and ``base_variances`` are of all genes; ``limit`` is the largest distance that is no outlier's.
    """
    m, searching = base_means[genes], config.searching
    low = yield from shared_variances(genes, m, base_variances[genes], cells, searching)
    if not cells.any_lonely or not genes.any():
        return robust_dispersion(low, m)
    high = np.maximum(largest_variance(m, cells), low)
    few, many = np.full(low.size, -1.0), np.full(low.size, -2.0)  # samples above the bracket's ends
    lonely = cells.lonely if cells.enumerated else np.zeros(0, dtype=bool)
    going, floor = np.arange(low.size), np.full(genes.size, np.nan)
    floor[genes] = robust_dispersion(low, m)
    while going.size:
        asked = some_of(genes, going)
        inside = between(low[going], high[going], searching.search_thresholds - 2)
        tried = np.column_stack([low[going], inside, high[going]])
        fields = distance_fields(asked, betas, floor, limit, config)
        total = yield VarianceQuery(asked, *fields, m[going], cells.rows, lonely, tried)
        above, samples = total["cells_above"] > 0, total["samples_above"]
        at = np.arange(going.size)
        last = np.minimum(above.sum(axis=1), tried.shape[1] - 1)  # the first threshold that no cell exceeds
        first = np.maximum(last - 1, 0)
        high[going], few[going] = tried[at, last], samples[at, last]
        low[going], many[going] = tried[at, first], samples[at, first]
        settled = (few[going] == many[going]) | (place(high[going]) - place(low[going]) <= SEARCHED)
        going = going[~settled]
    return robust_dispersion(high, m)
