"""Genes whose outlier is no reason to drop them: three samples or more have a larger count than it.

Promises: R's decision for a design of one factor with two levels, without opening the outlier's count; a gene for
which it can't be made stays without a p-value, which is the careful side. Refuses to know: anything but numbers of
samples. Love, Huber and Anders (2014), in the form of DESeq2 1.38's `results`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secirls.algorithms.outliers.cooks import Outliers
from secirls.algorithms.outliers.distances import CooksConfig, DistanceQuery, distance_fields
from secirls.algorithms.outliers.robust_dispersion import SEARCHED
from secirls.algorithms.query import Algorithm, QueryError, some_of
from secirls.algorithms.regression.betas import Betas
from secirls.numerics.arithmetic.float_order import between, place
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import LARGEST_COUNT, Samples

ENOUGH = 3
"""Samples with a larger count than the outlier that keep a gene."""
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class FarthestQuery(DistanceQuery):
    """How many samples of a gene have a Cook's distance above each of a few thresholds.

    Its sum shows a number of samples; a search of these ends where one sample alone is above: so far the largest
    distance shows, not whose it is nor at which site. Asked only about genes with an outlier in a design of one factor
    with two levels, all of whose cells take part in the trimmed variances: the rule `min_kept` keeps a small cell out.
    ``min_contributors`` holds for the genes.
    """

    thresholds: Floats
    """``(genes asked, thresholds)``."""

    kind: ClassVar[str] = "farthest"
    sign: ClassVar[str] = "farther"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"farther": self.thresholds.shape}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if len(self.thresholds.shape) != 2 or self.thresholds.shape[0] != self.n_genes:
            raise QueryError(f"query {self.kind!r}: thresholds do not fit the genes asked about")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        farther = np.empty(self.thresholds.shape)
        for block, distance in self.distances(samples):
            farther[block] = (distance[:, None, :] > self.thresholds[block, :, None]).sum(axis=2)
        return {"farther": farther}


@dataclass(frozen=True)
class LargerQuery(DistanceQuery):
    """How many counts of a gene are larger than each of a few numbers, and whether the outlier's is at most that.

    Its sum shows the number of larger counts at a few numbers, up to the one that decides; and on which side of them
    the outlier's count lies. Only where that count and the third largest are the same do the numbers close in on that
    one sample, at no site that shows. Asked of the same genes as `FarthestQuery`, by the same rule.
    ``min_contributors`` holds for the genes.
    """

    above: Floats
    """A distance that one sample alone exceeds, ``(genes asked,)``."""
    numbers: Floats
    """``(genes asked, numbers)``."""

    kind: ClassVar[str] = "larger"
    sign: ClassVar[str] = "larger"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"larger": self.numbers.shape, "outlier_at_most": self.numbers.shape}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if len(self.numbers.shape) != 2 or self.numbers.shape[0] != self.n_genes:
            raise QueryError(f"query {self.kind!r}: numbers do not fit the genes asked about")
        if self.above.shape != (self.n_genes,):
            raise QueryError(f"query {self.kind!r}: distances do not fit the genes asked about")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        larger, at_most = np.empty(self.numbers.shape), np.empty(self.numbers.shape)
        for block, distance in self.distances(samples):
            more = samples.counts.T[block][:, None, :] > self.numbers[block, :, None]
            outlier = (distance > self.above[block, None])[:, None, :]
            larger[block], at_most[block] = more.sum(axis=2), (outlier & ~more).sum(axis=2)
        return {"larger": larger, "outlier_at_most": at_most}


def exceptions(genes: Mask, betas: Betas, found: Outliers, config: CooksConfig) -> Algorithm[Mask]:
    """Which of the filtered genes ``(genes,)`` keep their p-value all the same, ``(genes,)``.

    To be asked before counts are replaced, and only for a design of one factor with two levels. No query where a cell
    of three samples or more was left out of the trimmed variances.
    """
    kept = np.zeros_like(genes)
    if not genes.any() or found.left_out.any():
        return kept
    one, above = yield from _farthest(genes, betas, found, config)
    kept[one] = yield from _larger(one, above[one], betas, found, config)
    return kept


def _farthest(genes: Mask, betas: Betas, found: Outliers, config: CooksConfig) -> Algorithm[tuple[Mask, Floats]]:
    """Genes for which one sample is farthest, ``(genes,)``, and a distance below its own and above all others."""
    above = np.full(genes.size, found.cutoff)
    beyond = np.full(genes.size, _LARGEST)
    one = genes & (found.counts[:, 0] == 1)
    going = genes & ~one
    while going.any():
        tried = between(above[going], beyond[going], config.searching.search_thresholds)
        total = yield FarthestQuery(going, *distance_fields(going, betas, found.robust, found.cutoff, config), tried)
        farther = total["farther"]
        hit = (farther == 1).any(axis=1)
        first = np.take_along_axis(tried, (farther == 1).argmax(axis=1)[:, None], axis=1)[:, 0]
        above[going] = np.where(hit, first, np.where(farther > 1, tried, above[going, None]).max(axis=1))
        beyond[going] = np.where(farther < 1, tried, beyond[going, None]).min(axis=1)
        rows = np.flatnonzero(going)
        one[rows[hit]] = True
        going[rows[hit | (place(beyond[rows]) - place(above[rows]) <= SEARCHED)]] = False
    return one, above


def _larger(genes: Mask, above: Floats, betas: Betas, found: Outliers, config: CooksConfig) -> Algorithm[Mask]:
    """Whether `ENOUGH` counts are larger than the outlier's, ``(genes asked,)``.

    Kept if some number has so many counts above it and the outlier's not; filtered if some number has fewer above it,
    among them the outlier's. Until then the numbers close in from both sides.
    """
    kept = np.zeros(above.size, dtype=bool)
    low, high = np.full(above.size, -1.0), np.full(above.size, float(LARGEST_COUNT))
    rows = np.arange(above.size)
    while rows.size:
        asked = some_of(genes, rows)
        numbers = _whole_between(low[rows], high[rows], config.searching.search_thresholds)
        fields = distance_fields(asked, betas, found.robust, found.cutoff, config)
        total = yield LargerQuery(asked, *fields, above[rows], numbers)
        many, passed = total["larger"] >= ENOUGH, total["outlier_at_most"] > 0
        kept[rows] = (many & passed).any(axis=1)
        decided = kept[rows] | (~many & ~passed).any(axis=1)
        low[rows] = np.where(many & ~passed, numbers, low[rows, None]).max(axis=1)
        high[rows] = np.where(~many & passed, numbers, high[rows, None]).min(axis=1)
        rows = rows[~decided & (high[rows] - low[rows] > 1)]
    return kept


def _whole_between(low: Floats, high: Floats, points: int) -> Floats:
    """Whole numbers strictly between, ``(genes, points)``, spaced by ratio; some repeat where there are few."""
    spaced = np.floor(between(low + 2.0, high + 2.0, points)) - 2.0
    inside: Floats = np.clip(spaced, low[:, None] + 1.0, high[:, None] - 1.0)
    return inside
