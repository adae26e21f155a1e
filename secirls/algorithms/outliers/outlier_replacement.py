"""Outliers replaced by what the other samples say, and their genes fitted again.

Promises: size factors, trend and prior stay as they were; which samples were replaced stays with their sites; a gene
whose replaced counts are at too few sites is not fitted. Refuses to know: how dispersions are found, which is given to
it. Love, Huber and Anders (2014), methods, automatic treatment of outliers.

What the sums show: with one replaced sample the sums before and after differ by little more than its part, and its
count follows from the change of the base mean, up to its size factor. Whoever reports such a fit must say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.groundwork.census import PresenceQuery
from secirls.algorithms.groundwork.normalisation import Normalisation, known_size_factors, normalise
from secirls.algorithms.outliers.cells import Cells, OfCells, check_replace_from, check_rows, sizes_of
from secirls.algorithms.outliers.cooks import Outliers
from secirls.algorithms.outliers.distances import CooksConfig, DistanceQuery, distance_fields
from secirls.algorithms.outliers.selection import NARROW, Wanted, trimmed_means
from secirls.algorithms.query import Algorithm, QueryError
from secirls.algorithms.regression.betas import Betas, WayOut, betas
from secirls.algorithms.regression.irls import IrlsConfig, least_squares_start, update_rows
from secirls.algorithms.regression.refit import ReplaceCountsQuery
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.held_counts import Entered, held
from secirls.numerics.held.samples import LARGEST_COUNT, Samples
from secirls.numerics.outliers.trimming import REPLACE_FROM, REPLACEMENT_SHARE, cut
from secirls.numerics.status import Reason, Status

LEAST_SAMPLES = 10
"""Samples over all sites below which nothing is replaced: the trimmed mean of fewer says too much of each."""


@dataclass(frozen=True)
class ReplaceOutliersQuery(DistanceQuery, OfCells):
    """Sites put trimmed means where their outliers are, in cells of seven samples or more, and keep it to themselves.

    Its sum shows how many sites there are, and is the same whatever they hold: neither a small cell nor one sample
    shows. The counts themselves change with `ReplaceCountsQuery`, and what is asked afterwards counts against the
    budget of values per gene. Refused by a policy that does not list it: that is the rule for it.
    """

    means: Floats
    """Trimmed mean of y / s over all samples, ``(genes asked,)``."""
    rows: Floats
    """The cells of the design, ``(cells, params)``; none if they are not enumerated: a site uses its own."""
    sizes: Floats
    """Samples of all sites in each, ``(cells,)``; zero of a cell that is not looked into."""
    replace_from: int = REPLACE_FROM
    """Samples in a cell from which its outliers are replaced."""

    kind: ClassVar[str] = "replace_outliers"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"sites"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"sites": (1,)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_rows(self, self.rows, n_params)
        if self.sizes.shape != self.rows.shape[:1] or self.means.shape != (self.n_genes,):
            raise QueryError(f"query {self.kind!r}: cells or means do not fit the question")
        check_replace_from(self, self.replace_from)

    @np.errstate(all="ignore")
    def apply(self, samples: Samples) -> Samples:
        """What the site keeps: the replaced counts, beside its own."""
        gene, sample, value = self._entries(samples.take(self.genes))
        counts = Entered.over(samples.counts.T, np.flatnonzero(self.genes)[gene], sample, value)
        return replace(samples, replacement=held(counts))

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        return {"sites": np.ones(1)}

    def _entries(self, samples: Samples) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32]]:
        """Where the outliers are, as genes asked about and samples; and trimmed means, times size factors, for them."""
        replaceable = sizes_of(samples, self.rows, self.sizes) >= self.replace_from
        s = known_size_factors(samples)
        genes, outliers = [np.zeros(0, dtype=np.intp)], [np.zeros(0, dtype=np.intp)]
        for block, distance in self.distances(samples):
            gene, sample = np.nonzero((distance > self.cutoff) & replaceable)
            genes.append(gene + block.start)
            outliers.append(sample)
        gene, sample = np.concatenate(genes), np.concatenate(outliers)
        usual = np.minimum(np.floor(self.means[gene] * s[sample]), LARGEST_COUNT)
        return gene, sample, usual.astype(np.int32)


Dispersions: TypeAlias = Callable[[Mask, Normalisation], Algorithm[Floats]]
"""The dispersion stage of a refit: from genes ``(genes,)`` and their new means to alpha ``(genes asked,)``, which the
sites have adopted when it returns; with the trend and the prior of the first fit."""


Plans: TypeAlias = tuple[IrlsConfig, WayOut, CooksConfig]
"""Of IRLS, of the way out of it, and of Cook's distances."""


@dataclass(frozen=True)
class Refit:
    """What replacing changed, over all agreed genes."""

    betas: Betas
    """The fit, with the genes that were fitted again."""
    genes: Mask
    """Genes with an outlier, whose counts were replaced where their cells allow: they were fitted again, or emptied."""
    emptied: Mask
    """Those that have no count left: fold change, its error and the statistic are 0, the p-value is 1 or missing."""
    base_means: Floats
    """Mean of y / s over all samples, ``(genes,)``: new for the genes that changed."""
    dispersions: Floats
    """alpha, ``(genes,)``: new for the genes that were fitted again, NaN for emptied ones."""


def replaces(cells: Cells) -> bool:
    """Whether outliers can be replaced in a design: a cell of seven samples or more, and ten samples over all sites."""
    return cells.replaces and cells.n_samples >= LEAST_SAMPLES


def replace_outliers(
    fit: Betas,
    dispersions: Floats,
    base_means: Floats,
    found: Outliers,
    eligible: Callable[[Floats], NDArray[np.int8]],
    again: Dispersions,
    plans: Plans,
) -> Algorithm[Refit]:
    """Replace the outliers of a fit and fit their genes again; no query where nothing is replaced.

    Parameters
    ----------
    fit, dispersions, base_means
        Of the first fit, ``(genes, ...)``.
    found
        Its outliers.
    eligible
        Gives the statuses genes begin with, from the number of sites that have counts for them.
    again
        The dispersion stage, for the genes and normalisation it is given.
    plans
        Of IRLS, of the way out of it, and of Cook's distances.
    """
    irls_plan, way_out, cooks_plan = plans
    genes, cells = found.any, found.cells
    if not genes.any() or not replaces(cells):
        none = np.zeros_like(genes)
        return Refit(fit, none, none, base_means, dispersions)
    count, n, params = int(genes.sum()), cells.n_samples, fit.state.beta.shape[1]
    wanted = Wanted(
        genes=genes,
        rows=cells.rows,
        gene=np.arange(count),
        cell=np.full(count, cells.rows.shape[0]),
        samples=np.full(count, n),
        cut=np.full(count, cut(n, REPLACEMENT_SHARE)),
        scale=base_means[genes],
        top=(1.0 + 1e-9) * n * base_means[genes],
        centre=np.zeros(0),
    )
    means = yield from trimmed_means(wanted, cooks_plan.searching.thresholds)
    means *= 1.0 + 2.0 * NARROW * wanted.cut  # one that is a whole number must not become the one below it
    fields = distance_fields(genes, fit, found.robust, found.cutoff, cooks_plan)
    yield ReplaceOutliersQuery(genes, *fields, means, cells.rows, cells.samples, cells.replace_from)
    yield ReplaceCountsQuery(genes)
    census = PresenceQuery(genes)
    total = yield census
    status = np.full(genes.size, Status.TOO_FEW_SITES, dtype=np.int8)
    status[genes] = np.where(census.lost(total), Status.FAILED, eligible(total["presence"]))
    failed = genes & (status == Status.FAILED)
    emptied, left = genes & (status == Status.ALL_ZERO), genes & (status == Status.ACTIVE)
    base_means, dispersions = base_means.copy(), dispersions.copy()
    base_means[genes], dispersions[genes] = np.nan, np.nan
    base_means[emptied] = 0.0
    if left.any():
        normalisation = yield from normalise(left, params, float(n), own_size_factors=True)
        base_means[left] = normalisation.base_means
        dispersions[left] = yield from again(left, normalisation)
    without = (left & ~(dispersions > 0)) | failed
    start = yield from least_squares_start(np.where(without, Status.FAILED, status).astype(np.int8), params, irls_plan)
    start = update_rows(start, np.flatnonzero(without), reason=Reason.LOST)
    fitted = yield from betas(start, irls_plan, way_out)
    return Refit(fit.replaced(fitted, genes), genes, emptied, base_means, dispersions)
