"""Genes with an outlier, by Cook's distances: how many samples of a gene are too influential, never which.

Promises: a distance is computed where its count is and stays there; what is summed are numbers of samples. Genes that
can't have an outlier by a public bound cost one number. Refuses to know: what is done about outliers.
Cook (1977); Love, Huber and Anders (2014), methods, Cook's distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import fdtri

from secirls.algorithms.outliers.bracketing import bracketed_dispersions
from secirls.algorithms.outliers.cells import Cells, OfCells, check_replace_from, check_rows, sizes_of
from secirls.algorithms.outliers.distances import CooksConfig, DistanceQuery, distance_fields
from secirls.algorithms.outliers.robust_dispersion import robust_dispersions
from secirls.algorithms.query import Algorithm, QueryError
from secirls.algorithms.regression.betas import Betas
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers.cooks import SMALLEST_ROBUST_DISPERSION
from secirls.numerics.outliers.trimming import FILTER_FROM, REPLACE_FROM


@dataclass(frozen=True)
class CooksBoundQuery(DistanceQuery):
    """How many samples of a gene may be outliers: at the smallest robust dispersion, where distances are largest.

    Its sum shows, by gene, a number of samples over all sites; zero ends the gene. That a gene has an extreme sample
    somewhere is what a table of adjusted p-values says too. One sample, a small cell or a site shows in that number and
    nowhere else, and ``min_contributors`` is the rule for the genes.
    """

    kind: ClassVar[str] = "cooks_bound"
    sign: ClassVar[str] = "cooks_bound"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"cooks_bound": (self.n_genes,)}

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        above = np.empty(samples.n_genes)
        for block, distance in self.distances(samples):
            above[block] = (distance > self.cutoff).sum(axis=1)
        return {"cooks_bound": above}


@dataclass(frozen=True)
class OutliersQuery(DistanceQuery, OfCells):
    """How many samples of a gene are outliers: of all, in cells of three or more, and in those that are not replaced.

    Its sum shows three numbers of samples by gene, over all sites; which sample it is, in which small cell and at which
    site, stays with the site that has it. Asked only about genes that the bound left, ``min_contributors`` being the
    rule for all.
    """

    rows: Floats
    """The cells of the design, ``(cells, params)``; none if they are not enumerated: a site uses its own."""
    sizes: Floats
    """Samples of all sites in each, ``(cells,)``; zero of a cell that is not looked into."""
    replace_from: int = REPLACE_FROM
    """Samples in a cell from which its outliers are replaced."""

    kind: ClassVar[str] = "outliers"
    sign: ClassVar[str] = "outliers"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"outliers": (self.n_genes, 3)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_rows(self, self.rows, n_params)
        if self.sizes.shape != self.rows.shape[:1]:
            raise QueryError(f"query {self.kind!r}: cells and their sizes do not fit each other")
        check_replace_from(self, self.replace_from)

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        size = sizes_of(samples, self.rows, self.sizes)
        three, few = size >= FILTER_FROM, (size >= FILTER_FROM) & (size < self.replace_from)
        counts = np.empty((samples.n_genes, 3))
        for block, distance in self.distances(samples):
            flagged = distance > self.cutoff
            counts[block] = np.stack([(flagged & group).sum(axis=1) for group in (size > 0, three, few)], axis=1)
        return {"outliers": counts}


@dataclass(frozen=True)
class Outliers:
    """What is known about a fit's outliers, over all agreed genes."""

    counts: Floats
    """Samples that are outliers: of all, in cells of 3 or more, in those not replaced, ``(genes, 3)``; else zero."""
    robust: Floats
    """Robust dispersions, ``(genes,)``; NaN where the bound said enough."""
    cutoff: float
    """Of the distances."""
    asked: int
    """Genes that the bound left."""
    cells: Cells
    """As they were looked into."""
    left_out: Mask
    """Cells of three or more that no robust variance was made of: no sample of theirs is told, ``(cells,)``."""

    @property
    def any(self) -> Mask:
        """Genes with an outlier, in whatever cell, ``(genes,)``."""
        return np.asarray(self.counts[:, 0] > 0)

    def filtered(self, *, replaced: bool) -> Mask:
        """Genes without a p-value, ``(genes,)``, but for the exception: once outliers were replaced, or before."""
        return np.asarray(self.counts[:, 2 if replaced else 1] > 0)


def cutoff(quantile: float, params: int, n_samples: int) -> float:
    """The largest distance that is no outlier's: a quantile of F, rounded to 32 binary places.

    Rounded, so that it is the same number whatever library computed it.
    """
    return float(np.round(np.ldexp(fdtri(params, n_samples - params, quantile), 32)) / 2.0**32)


def outliers(
    genes: Mask, betas: Betas, base_means: Floats, base_variances: Floats, cells: Cells, config: CooksConfig
) -> Algorithm[Outliers | None]:
    """Find the genes with outliers; ``None``, and no query, where the design or `min_kept` leaves nothing to compare.

    Parameters
    ----------
    genes
        Fitted genes, ``(genes,)``; the others have no outliers.
    betas
        Their fit, at the dispersions that the sites hold.
    base_means, base_variances
        Of y / s over all samples, ``(genes,)``.
    cells
        Of the design.
    config
        Of the fit and of the search.
    """
    params = config.columns or betas.state.beta.shape[1]
    min_kept = config.searching.min_kept
    if not (cells.n_samples > params and cells.filters and genes.any()):
        return None
    if not (cells.any_lonely or cells.selectable(min_kept).any()):
        return None
    limit, looked = cutoff(config.quantile, params, cells.n_samples), cells.looked_into(min_kept)
    counts, robust = np.zeros((genes.size, 3)), np.full(genes.size, np.nan)
    floor = np.full(genes.size, SMALLEST_ROBUST_DISPERSION)
    total = yield CooksBoundQuery(genes, *distance_fields(genes, betas, floor, limit, config))
    left = np.zeros_like(genes)
    left[genes] = total["cooks_bound"] > 0
    if left.any():
        if config.own:
            robust[left] = yield from bracketed_dispersions(
                left, betas, base_means, base_variances, cells, limit, config
            )
        else:
            robust[left] = yield from robust_dispersions(
                left, base_means[left], base_variances[left], cells, config.searching
            )
        total = yield OutliersQuery(
            left, *distance_fields(left, betas, robust, limit, config), looked.rows, looked.samples, looked.replace_from
        )
        counts[left] = total["outliers"]
    return Outliers(counts, robust, limit, int(left.sum()), looked, cells.left_out(min_kept))
