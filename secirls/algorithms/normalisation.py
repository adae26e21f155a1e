"""Before the regression: who expresses what, size factors by median of ratios, and base means.

Promises: every step needs sums over sites and public broadcasts only; medians are per sample and stay
home; sums are taken without BLAS, so that they are the same bits for any number of threads.
Median of ratios as in Anders and Huber (2010, eq. 5).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from secirls.algorithms.query import Query, QueryError, Total
from secirls.numerics.samples import Floats, Mask, Samples

LARGEST_LOG_SCALE = 21.0
"""No size factors are divided by more than exp of this (1.3e9, a library of reads), or less than exp of minus it."""
AROUND_ONE = 2.0
"""Size factors whose geometric mean is within this factor of one are taken as they were brought."""


@dataclass(frozen=True)
class CensusQuery(Query):
    """Who has what: the first question of a fit, and the one that the sites' rules are about.

    Its sum shows how many sites a gene is counted at and a design column has samples at, not which, and sizes of the
    pool: samples in all, in every combination of levels of the shared factors, and by X'X those with each pair of
    levels; and the sums of log s and of its square, zero where the sites bring no size factors. The sites are told the
    total, check it, and hold their rules against it: ``min_contributors`` for genes, levels and columns,
    ``min_total_samples_per_cell`` for combinations (`secirls.site.policy`).
    """

    params: int
    groups: int = 1
    """Combinations of levels of shared factors; see `secirls.inputs.design`."""

    kind: ClassVar[str] = "census"
    verified: ClassVar[bool] = True
    sign: ClassVar[str] = "presence"
    not_by_gene: ClassVar[frozenset[str]] = frozenset(
        {"xtx", "samples", "column_sites", "group_samples", "log_size_factors"}
    )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {
            "presence": (self.n_genes,),
            "xtx": (self.params, self.params),
            "samples": (1,),
            "column_sites": (self.params,),
            "group_samples": (self.groups,),
            "log_size_factors": (2,),
        }

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_params(self, self.params, n_params)

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        X = samples.design
        n = np.array([float(samples.n_samples)])
        sizes = n if samples.group_sizes is None else samples.group_sizes
        if sizes.shape != (self.groups,):
            raise QueryError(f"query 'census' is about {self.groups} groups of samples, the fit has {sizes.size}")
        log_s = np.zeros(1) if samples.size_factors is None else np.log(samples.size_factors)
        log_s = np.where(np.isfinite(log_s), log_s, 0.0)  # others lose genes, not the census
        return {
            "presence": _presence(samples),
            "xtx": np.einsum("ni,nj->ij", X, X),
            "samples": n,
            "column_sites": (X != 0).any(axis=0).astype(np.float64),
            "group_samples": sizes,
            "log_size_factors": np.array([log_s.sum(), (log_s**2).sum()]),
        }


@dataclass(frozen=True)
class PresenceQuery(Query):
    """At how many sites a gene has any count, once more: after counts were replaced. Told and checked as the census.

    Its sum shows at how many sites a gene is counted, not at which; ``min_contributors`` holds for it from then on.
    """

    kind: ClassVar[str] = "presence"
    verified: ClassVar[bool] = True
    sign: ClassVar[str] = "presence"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"presence": (self.n_genes,)}

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        return {"presence": _presence(samples)}


def _presence(samples: Samples) -> Floats:
    presence = np.empty(samples.n_genes)
    for block in samples.gene_blocks():
        presence[block] = (samples.counts[:, block] > 0).any(axis=0)
    return presence


@dataclass(frozen=True)
class LogCountsQuery(Query):
    """Sum of log counts over samples with a count, and the number of samples without.

    Its sum shows two numbers per gene: the geometric mean over the pool, and how many samples have no count, not which.
    Where all samples but one have none, the first is that sample's count: ``min_contributors`` keeps such a gene out,
    for that sample's site is the only one that counts it.
    """

    kind: ClassVar[str] = "log_counts"
    sign: ClassVar[str] = "zeros"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"log_counts": (self.n_genes,), "zeros": (self.n_genes,)}

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        sums = {name: np.empty(samples.n_genes) for name in ("log_counts", "zeros")}
        for block in samples.gene_blocks():
            counts = samples.counts.T[block]
            zero = counts == 0
            sums["log_counts"][block] = sum_by_gene(np.log(np.where(zero, 1, counts)))
            sums["zeros"][block] = zero.sum(axis=1)
        return sums


@dataclass(frozen=True)
class NormalisedQuery(Query):
    """Sums of counts over size factors, by gene and by gene and design column.

    With `log_means`, a site first keeps each sample's size factor: exp of the median, over the genes
    asked about that have one, of log count - log mean. With none (empty), it uses its own, divided by `scale`. A
    factor that is not finite or zero makes whatever is divided by it NaN, and so every gene of that site lost.

    Its sum shows, per gene, the normalised total over the pool and one per design column: of a group's indicator, that
    group's total. A column that one site alone fills would give that site's own total, and is its own for that reason;
    a group of few samples is kept out by the rule about thin cells, a gene of few sites by ``min_contributors``. The
    sum of inverse size factors belongs to the pool.
    """

    log_means: Floats
    """Mean log count of every gene asked about, ``(genes asked,)``, or empty."""
    usable: Mask
    """Which of them have no zero count anywhere, so that the mean exists."""
    params: int
    scale: float = 1.0
    """What the sites' own size factors are divided by."""

    kind: ClassVar[str] = "normalised"
    sign: ClassVar[str] = "normalised"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"inverse_size_factors"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        g = self.n_genes
        return {"normalised": (g,), "xt_normalised": (g, self.params), "inverse_size_factors": (1,)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_params(self, self.params, n_params)
        given = self.log_means.shape
        if given not in ((self.n_genes,), (0,)) or self.usable.shape != given:
            raise QueryError("query 'normalised': log means and usable genes do not fit the genes asked about")
        if given != (0,) and not self.usable.any():
            raise QueryError("query 'normalised': no gene can be used for size factors")
        if not (self.scale > 0 and np.isfinite(self.scale)):
            raise QueryError("query 'normalised': the scale of size factors is a number above zero")

    @np.errstate(all="ignore")
    def apply(self, samples: Samples) -> Samples:
        """What the site keeps."""
        if not self.log_means.size:
            own = samples.size_factors
            return samples if own is None or self.scale == 1.0 else replace(samples, size_factors=own / self.scale)
        chosen, means = np.flatnonzero(self.genes)[self.usable], self.log_means[self.usable]
        size_factors = np.empty(samples.n_samples)
        for sample in range(samples.n_samples):
            ratios = np.log(np.maximum(samples.counts[sample, chosen], 1)) - means
            size_factors[sample] = np.exp(np.median(ratios))
        return replace(samples, size_factors=size_factors)

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        s = known_size_factors(samples)
        normalised, products = np.empty(samples.n_genes), np.empty((samples.n_genes, samples.n_params))
        for block in samples.gene_blocks():
            values = samples.counts.T[block] / s
            normalised[block] = sum_by_gene(values)
            for column in range(samples.n_params):
                products[block, column] = sum_by_gene(values * samples.design[:, column])
        return {
            "normalised": normalised,
            "xt_normalised": products,
            "inverse_size_factors": np.array([(1.0 / s).sum()]),
        }


@dataclass(frozen=True)
class Normalisation:
    """What the first rounds leave in public."""

    base_means: Floats
    """Mean of y / s over all samples, ``(genes asked,)``; NaN for genes that are `lost`."""
    xt_normalised: Floats
    """X'(y / s), ``(genes asked, params)``; zero for genes that are `lost`."""
    mean_inverse_size_factor: float

    @property
    def lost(self) -> Mask:
        """Genes whose sums some site could not send, ``(genes asked,)``."""
        return np.isnan(self.base_means)


class NoCommonGeneError(ValueError):
    """Median of ratios needs a gene with a count in every sample, and there is none."""


def scale_of(logs: Floats, n_samples: float) -> tuple[float, float]:
    """What brought size factors are divided by, and how far they spread: the standard deviation of log s.

    ``logs`` is the census's sum of log s and of its square. Factors around one are taken as they are, as DESeq2 takes
    them. Others (library sizes, say) are divided by their geometric mean: what is multiplied by all of them changes no
    fold change, but moment estimates of dispersions compare normalised counts with one.
    """
    mean = float(np.clip(logs[0] / n_samples, -LARGEST_LOG_SCALE, LARGEST_LOG_SCALE))
    spread = float(np.sqrt(max(float(logs[1] / n_samples) - mean**2, 0.0)))
    return (float(np.exp(mean)) if abs(mean) > np.log(AROUND_ONE) else 1.0), spread


def normalise(
    genes: Mask, params: int, n_samples: float, *, own_size_factors: bool, scale: float = 1.0
) -> Generator[Query, Total, Normalisation]:
    """Size factors (unless the sites have their own, of a ``scale``) and base means of the masked genes.

    A gene that is lost at the first question is not asked about at the second, as if it were not in the fit.
    Raises `NoCommonGeneError` where no gene has a count in every sample.
    """
    gone = np.zeros(int(genes.sum()), dtype=bool)
    log_means, usable = np.zeros(0), np.zeros(0, dtype=bool)
    if not own_size_factors:
        counts = LogCountsQuery(genes)
        total = yield counts
        gone = counts.lost(total)
        usable = total["zeros"][~gone] == 0
        if usable.size and not usable.any():
            raise NoCommonGeneError("every gene has a sample without a count, so median of ratios is undefined")
        log_means = np.where(usable, total["log_counts"][~gone] / n_samples, 0.0)
    base_means, xt_normalised = np.full(gone.size, np.nan), np.zeros((gone.size, params))
    if gone.all():
        return Normalisation(base_means, xt_normalised, np.nan)
    kept = genes.copy()
    kept[genes] = ~gone
    query = NormalisedQuery(kept, log_means, usable, params, scale)
    total = yield query
    sent = ~query.lost(total)
    known = np.flatnonzero(~gone)[sent]
    base_means[known] = total["normalised"][sent] / n_samples
    xt_normalised[known] = total["xt_normalised"][sent]
    return Normalisation(base_means, xt_normalised, float(total["inverse_size_factors"][0] / n_samples))


def known_size_factors(samples: Samples) -> Floats:
    """A site's size factors, ``(samples,)``; NaN where one divides nothing. Raises `QueryError` if it has none yet."""
    if samples.size_factors is None:
        raise QueryError("this site has no size factors yet: the query that brings them was not asked")
    s = samples.size_factors
    return np.where(np.isfinite(s) & (s > 0), s, np.nan)


def sum_by_gene(values: Floats) -> Floats:
    """Sums over samples of ``(genes, samples)``: each gene's own pairwise sum, the same bits in any block."""
    total: Floats = np.ascontiguousarray(values).sum(axis=1)
    return total


def check_params(query: Query, params: int, n_params: int) -> None:
    """Raise `QueryError` unless a query's number of design columns is the agreed one."""
    if params != n_params:
        raise QueryError(f"query {query.kind!r} is about {params} design columns, the fit has {n_params}")
