"""Before the regression: who expresses what, size factors by median of ratios, and base means.

Promises: every step needs sums over sites and public broadcasts only; medians are per sample and stay
home; sums are taken without BLAS, so that they are the same bits for any number of threads.
Median of ratios as in Anders and Huber (2010, eq. 5); for genes with zeros too, its form of DESeq2's ``poscounts``.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from secirls.algorithms.query import Query, QueryError, Total, check_params
from secirls.numerics.arithmetic import portable
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples

SizeFactors: TypeAlias = Literal["ratio", "poscounts"]
"""How size factors are estimated: over the genes with a count in every sample, or over positive counts."""
LARGEST_LOG_SIZE = 100.0
"""Counts are below 2^31, so no mean of their logs is farther from zero."""

LARGEST_LOG_SCALE = 21.0
"""No size factors are divided by more than exp of this (1.3e9, a library of reads), or less than exp of minus it."""
LOG_AROUND_ONE = 0.6931471805599453
"""log 2. Size factors whose geometric mean is within a factor of two of one are taken as they were brought."""


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

    @np.errstate(all="ignore")
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
        for sample, counts in enumerate(samples.by_sample(chosen)):
            size_factors[sample] = np.exp(np.median(np.log(np.maximum(counts, 1)) - means))
        return replace(samples, size_factors=size_factors)

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        s = known_size_factors(samples)
        design = samples.beside_own
        ones = (design == 1.0).all(axis=0)
        normalised, products = np.empty(samples.n_genes), np.empty((samples.n_genes, samples.n_params))
        for block in samples.gene_blocks():
            values = samples.counts.T[block] / s
            normalised[block] = sum_by_gene(values)
            for column in range(samples.n_params):
                products[block, column] = normalised[block] if ones[column] else sum_by_gene(values * design[:, column])
        return {
            "normalised": normalised,
            "xt_normalised": products,
            "inverse_size_factors": np.array([(1.0 / s).sum()]),
        }


@dataclass(frozen=True)
class LogSizeQuery(Query):
    """The sum over all samples of the log of a size factor that is not yet scaled: one number.

    At home, a sample's is the median, over the usable genes that have a count in it, of log count - log mean. Its sum
    shows one number over the pool and nothing of a gene; a site, a small cell or one sample is in it with all others,
    and the pool's least number of samples is the rule that keeps them there. ``min_contributors`` holds for its genes.
    """

    log_means: Floats
    """Sum of log positive counts over the number of samples, of every gene asked about, ``(genes asked,)``."""
    usable: Mask
    """Which of them count, ``(genes asked,)``."""

    kind: ClassVar[str] = "log_size"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"log_size"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"log_size": (1,)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        _check_log_means(self, self.log_means, self.usable)

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        return {"log_size": np.array([_log_sizes(samples, self.log_means, self.usable).sum()])}


@dataclass(frozen=True)
class PositiveNormalisedQuery(NormalisedQuery):
    """As `NormalisedQuery`; but a site first keeps size factors from positive counts, scaled to a geometric mean of 1.

    Its sum shows what `NormalisedQuery` shows, sums by gene over all samples, and the same rules keep a site, a small
    cell or one sample out of it. ``min_contributors``, lonely columns, thin cells.
    """

    log_scale: float = 0.0
    """Mean over all samples of the log size factors before scaling."""

    kind: ClassVar[str] = "positive_normalised"

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        _check_log_means(self, self.log_means, self.usable)
        if not abs(self.log_scale) <= LARGEST_LOG_SIZE:
            raise QueryError(f"query {self.kind!r}: no size factors have a scale of exp({self.log_scale:g})")

    @np.errstate(all="ignore")
    def apply(self, samples: Samples) -> Samples:
        """What the site keeps."""
        about = samples.take(self.genes)
        logs = _log_sizes(about, self.log_means, self.usable)
        return replace(samples, size_factors=np.exp(logs) / np.exp(self.log_scale))


@dataclass(frozen=True)
class Normalisation:
    """What the first rounds leave in public."""

    base_means: Floats
    """Mean of y / s over all samples, ``(genes asked,)``; NaN for genes that are `lost`."""
    xt_normalised: Floats
    """X'(y / s), ``(genes asked, params)``; zero for genes that are `lost`."""
    mean_inverse_size_factor: float
    asked: NormalisedQuery | None = None
    """What brought the sites' size factors; ``None`` where no gene was left to ask about."""

    @property
    def lost(self) -> Mask:
        """Genes whose sums some site could not send, ``(genes asked,)``."""
        return np.isnan(self.base_means)

    def of(self, chosen: Mask) -> Normalisation:
        """That of some of its genes, ``(genes asked,)``."""
        return Normalisation(self.base_means[chosen], self.xt_normalised[chosen], self.mean_inverse_size_factor)


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
    return (float(portable.exps(np.array([mean]))[0]) if abs(mean) > LOG_AROUND_ONE else 1.0), spread


def normalise(
    genes: Mask,
    params: int,
    n_samples: float,
    *,
    own_size_factors: bool,
    estimate: SizeFactors = "ratio",
    control: Mask | None = None,
    counts_of_one: bool = True,
    scale: float = 1.0,
) -> Generator[Query, Total, Normalisation]:
    """Size factors (unless the sites have their own, of a ``scale``) and base means of the masked genes.

    A gene that is lost at one question is not asked about at the next, as if it were not in the fit.

    Parameters
    ----------
    genes
        Whose base means are wanted, ``(genes,)``.
    params, n_samples
        Of the design, and over all sites.
    own_size_factors
        The sites have brought theirs: only base means are asked for.
    estimate
        ``ratio`` uses the genes with a count in every sample; ``poscounts`` every gene, by its positive counts, one
        round more.
    control
        Public mask of the genes that size factors are estimated from, ``(genes,)``; all if not given.
    counts_of_one
        ``poscounts``: whether genes without any count above one are among them.

    Raises
    ------
    NoCommonGeneError
        Where no gene has a count in every sample (``ratio``), or no gene asked about is a control gene.
    """
    gone, log_means, usable = np.zeros(int(genes.sum()), dtype=bool), np.zeros(0), np.zeros(0, dtype=bool)
    if not own_size_factors:
        gone, log_means, usable = yield from _pooled_logs(genes, n_samples, estimate, control, counts_of_one)
    base_means, xt_normalised = np.full(gone.size, np.nan), np.zeros((gone.size, params))
    if gone.all() or not (own_size_factors or usable.any()):
        return Normalisation(base_means, xt_normalised, np.nan)
    kept = genes.copy()
    kept[genes] = ~gone
    if not own_size_factors:
        log_means, usable = log_means[~gone], usable[~gone]
    query = NormalisedQuery(kept, log_means, usable, params, scale)
    if not own_size_factors and estimate == "poscounts":
        sizes = LogSizeQuery(kept, log_means, usable)
        total = yield sizes
        if sizes.lost(total).any():
            raise NoCommonGeneError("a sample has no count in any gene that size factors are estimated from")
        log_scale = float(total["log_size"][0] / n_samples)
        query = PositiveNormalisedQuery(kept, log_means, usable, params, log_scale=log_scale)
    total = yield query
    here = ~query.lost(total)
    known = np.flatnonzero(~gone)[here]
    base_means[known] = total["normalised"][here] / n_samples
    xt_normalised[known] = total["xt_normalised"][here]
    return Normalisation(base_means, xt_normalised, float(total["inverse_size_factors"][0] / n_samples), query)


def _pooled_logs(
    genes: Mask, n_samples: float, estimate: SizeFactors, control: Mask | None, counts_of_one: bool
) -> Generator[Query, Total, tuple[Mask, Floats, Mask]]:
    """What size factors are estimated from, of the masked genes, ``(genes asked,)`` each, in one round.

    Which were lost; the mean log counts over all samples; and which of these are used: zero is the mean of the others.
    Raises `NoCommonGeneError` where there are none to use, though not for being lost.
    """
    chosen = genes if control is None else genes & control
    if not chosen.any():
        raise NoCommonGeneError("none of the control genes is among the genes of the fit")
    counts = LogCountsQuery(chosen)
    total = yield counts
    among, unsent = np.flatnonzero(chosen[genes]), counts.lost(total)
    gone = np.zeros(int(genes.sum()), dtype=bool)
    usable, log_means = np.zeros_like(gone), np.zeros(gone.size)
    gone[among] = unsent
    usable[among] = ~unsent & (total["zeros"] < (1 if estimate == "ratio" else n_samples))
    if estimate == "poscounts" and not counts_of_one:
        usable[among] &= total["log_counts"] > 0
    log_means[among] = total["log_counts"] / n_samples
    log_means[~usable] = 0.0
    if not usable.any() and not unsent.all():
        raise NoCommonGeneError(
            "every gene has a sample without a count (an empty sample does that to all): there is no median of ratios"
        )
    return gone, log_means, usable


def _log_sizes(samples: Samples, log_means: Floats, usable: Mask) -> Floats:
    """Log size factors from positive counts before they are scaled, ``(samples,)``; NaN without any."""
    logs, means = np.full(samples.n_samples, np.nan), log_means[usable]
    for sample, counts in enumerate(samples.by_sample(np.flatnonzero(usable))):
        some = counts > 0
        if some.any():
            logs[sample] = np.median(np.log(counts[some]) - means[some])
    return logs


def _check_log_means(query: Query, log_means: Floats, usable: Mask) -> None:
    """Raise `QueryError` unless there are log means for the genes asked about."""
    if log_means.shape != (query.n_genes,) or usable.shape != (query.n_genes,) or not usable.any():
        raise QueryError(f"query {query.kind!r}: log means and usable genes do not fit the genes asked about")


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
