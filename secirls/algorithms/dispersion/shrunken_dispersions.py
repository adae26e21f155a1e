"""Dispersions as DESeq2 estimates them: gene by gene, a trend over base means, and each gene drawn towards it.

Promises: one round of profiles, a second for the few genes whose path leads far, and otherwise nothing but public
arithmetic, which has the same bits for whoever repeats it; every gene has an estimate or a reason. Refuses to know:
coefficients of the final fit, outlying counts, protocols, sites.
Love, Huber and Anders (2014, methods, estimation of dispersions).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.dispersion.dispersion_newton import polish
from secirls.algorithms.dispersion.dispersion_start import Means, Moments, fitted_means, largest_dispersion, moments
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery
from secirls.algorithms.dispersion.profile import Fetched, fetch_again, fetch_profiles
from secirls.algorithms.groundwork.normalisation import Normalisation
from secirls.algorithms.query import Algorithm, some_of
from secirls.algorithms.regression.betas import WayOut
from secirls.algorithms.regression.irls import IrlsConfig
from secirls.algorithms.regression.unclamped import NewtonConfig
from secirls.algorithms.summands import EXACT
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.dispersion.nodes import farther, nodes_for
from secirls.numerics.dispersion.optimum import first_steps, maximise, search_grids
from secirls.numerics.dispersion.path import Walked, outliers, walk_gene_wise, walk_map
from secirls.numerics.regression.information import Information
from secirls.numerics.status import Reason
from secirls.numerics.trend.prior import log_variance, prior_variance, residuals
from secirls.numerics.trend.trend import NoTrendError, Trend, TrendType, fit_trend
from secirls.presets import CHOICES, Choices

FitType: TypeAlias = Literal["deseq2", "optimum", "grid"]
"""The end of R's path, the maximum, or the best of FedPyDESeq2's grids."""

FLAT = 1e-7
"""Everybody's dispersion where no gene-wise estimate is above 1e-6."""


@dataclass(frozen=True)
class Question:
    """What stays the same while the profiles of some genes are searched."""

    genes: Mask
    """Which of the agreed genes are asked about, ``(genes,)``."""
    means: Means
    """Of the genes asked about."""
    products: Products
    n_samples: float
    fit: FitType = "deseq2"
    fraction_bits: int = EXACT
    least_rise: float = 0.0
    """See `Choices`."""
    information: Information | None = None
    """What X'WX follows from, if it need not be asked for."""

    @property
    def largest(self) -> float:
        """The largest dispersion that is an estimate."""
        return largest_dispersion(self.n_samples)


@dataclass(frozen=True)
class GeneWise:
    """Gene-wise estimates, arrays ``(genes asked,)``."""

    dispersions: Floats
    """NaN where `Fetched.reason` says why."""
    iterations: NDArray[np.int32]
    """Steps tried; 0 for genes without, and for optima; 1 where `Choices.least_rise` ended the search of one."""
    fetched: Fetched
    """The profiles they were found on."""


@dataclass(frozen=True)
class TrendAndPrior:
    """What one gene's dispersion is drawn towards, and how strongly."""

    trend: Trend
    log_variance: float
    """Robust variance of log gene-wise estimate - log trend."""
    prior_variance: float
    """Of log alpha around log trend."""
    flat: bool = False
    """No gene-wise estimate was above 1e-6: every dispersion is 1e-7, which deserves a warning."""


@dataclass(frozen=True)
class MapDispersions:
    """Final estimates, arrays ``(genes asked,)``; NaN and False for genes without a profile."""

    trend: Floats
    """The trend at each gene's base mean."""
    maximum: Floats
    """Maximum a posteriori."""
    iterations: NDArray[np.int32]
    outlier: Mask
    """Genes that keep their gene-wise estimate, being too far above the trend."""
    final: Floats
    fetched: Fetched


@dataclass(frozen=True)
class Dispersions:
    """All stages together, arrays ``(genes asked,)``."""

    moments: Moments
    means: Means
    gene_wise: Floats
    gene_wise_iterations: NDArray[np.int32]
    trend_and_prior: TrendAndPrior
    trend: Floats
    maximum: Floats
    map_iterations: NDArray[np.int32]
    outlier: Mask
    final: Floats
    """NaN where `reason` says why."""
    reason: NDArray[np.int8]
    """`Reason.NONE`, `Reason.LOST` or `Reason.SINGULAR`."""
    rough: Mask
    """Genes whose profile could not be interpolated to 1e-6."""
    cohort: tuple[str, ...]
    """Who is in every sum of the profiles."""


def gene_wise(question: Question, start: Moments) -> Algorithm[GeneWise]:
    """Gene-wise estimates of the question's genes, from their moments."""
    nodes = nodes_for(start.base_means, start.base_variances, question.n_samples, question.largest)
    fetched = yield from fetch_profiles(
        question.genes, question.means, nodes, question.products, question.fraction_bits, question.information
    )
    walked, fetched = yield from _search(question, fetched, start.start, None, 0.0)
    return GeneWise(walked.dispersions, walked.iterations, fetched)


def trend_and_prior(
    base_means: Floats,
    estimates: Floats,
    n_samples: int,
    params: int,
    kind: TrendType = "parametric",
    choices: Choices = CHOICES["deseq2"],
) -> TrendAndPrior:
    """Trend, spread around it and prior from gene-wise estimates ``(genes,)``, NaN for genes without; asks nothing."""
    known = np.isfinite(estimates)
    means, found = base_means[known], estimates[known]
    try:
        trend = fit_trend(means, found, kind, choices.parametric)
    except NoTrendError:
        return TrendAndPrior(Trend("mean", mean=FLAT), 0.0, 1.0, flat=True)
    rest = residuals(found, trend.at(means))
    per_sigma = choices.mad_per_sigma
    prior = prior_variance(rest, n_samples - params, per_sigma, simulated=choices.simulated_prior)
    return TrendAndPrior(trend, log_variance(rest, per_sigma), prior)


def map_dispersions(
    question: Question, found: GeneWise, base_means: Floats, towards: TrendAndPrior
) -> Algorithm[MapDispersions]:
    """Final estimates of the question's genes, from their gene-wise ones and any trend and prior.

    A refit passes the trend and prior of the first fit, and base means of its own.
    """
    trend = towards.trend.at(base_means)
    genes = trend.size
    if towards.flat:
        flat = np.where(found.fetched.known, FLAT, np.nan)
        none = np.zeros(genes, dtype=np.int32)
        return MapDispersions(trend, flat, none, np.zeros(genes, dtype=bool), flat, found.fetched)
    start = np.where(np.isfinite(found.dispersions), found.dispersions, trend)
    walked, fetched = yield from _search(question, found.fetched, start, trend, towards.prior_variance)
    outlier = outliers(start, trend, towards.log_variance) & fetched.known
    final = np.where(outlier, found.dispersions, walked.dispersions)
    return MapDispersions(trend, walked.dispersions, walked.iterations, outlier, final, fetched)


def estimate_dispersions(
    genes: Mask,
    xtx: Floats,
    n_samples: float,
    normalisation: Normalisation,
    products: Products,
    *,
    cells: int | None,
    fit: FitType = "deseq2",
    kind: TrendType = "parametric",
    choices: Choices = CHOICES["deseq2"],
    regression: tuple[IrlsConfig, WayOut] | None = None,
    towards: TrendAndPrior | None = None,
    fraction_bits: int = EXACT,
    columns: int | None = None,
    information: Information | None = None,
) -> Algorithm[Dispersions]:
    """All stages for the masked genes, ``(genes,)``; sites keep the final dispersions.

    Parameters
    ----------
    genes
        Those at enough sites.
    xtx
        Summed X'X, ``(params, params)``, of full rank; n exceeds params.
    normalisation
        Of the masked genes.
    products
        The distinct products of the design's columns.
    cells
        How many distinct rows the design has over all sites, or ``None`` if it has a numeric covariate.
    fit
        What is searched for on each profile.
    kind
        The trend.
    choices
        How the trend is fitted, and the prior.
    regression
        How means come about that are not linear; R's way if not given.
    towards
        Trend and prior of an earlier fit, in which these genes were; their own if not given.
    columns
        Of the whole design, those that are one site's alone too; the columns of X'X if not given.
    information
        What X'WX follows from; it is asked for if not given.
    """
    params = columns or xtx.shape[0]
    start = yield from moments(genes, xtx, n_samples, normalisation, params)
    lost = np.isnan(start.base_variances)
    plan, way_out = regression or (
        replace(IrlsConfig.deseq2(), fraction_bits=fraction_bits, products=products),
        NewtonConfig(fraction_bits=fraction_bits, products=products),
    )
    means = yield from fitted_means(
        genes,
        start,
        plan,
        way_out,
        linear=cells == params,
        min_mu=choices.regression_min_mu,
        information=information,
    )
    if lost.any():
        means = replace(means, lost=np.where(lost, Reason.LOST, means.lost).astype(np.int8))
        start = replace(start, base_variances=np.where(lost, 0.0, start.base_variances))
    question = Question(genes, means, products, n_samples, fit, fraction_bits, choices.least_rise, information)
    found = yield from gene_wise(question, start)
    if towards is None:
        towards = trend_and_prior(start.base_means, found.dispersions, int(n_samples), params, kind, choices)
    last = yield from map_dispersions(question, found, start.base_means, towards)
    yield from leave_at_sites(genes, last.final)
    fetched = last.fetched
    return Dispersions(
        moments=start,
        means=means,
        gene_wise=found.dispersions,
        gene_wise_iterations=found.iterations,
        trend_and_prior=towards,
        trend=last.trend,
        maximum=last.maximum,
        map_iterations=last.iterations,
        outlier=last.outlier,
        final=last.final,
        reason=fetched.reason,
        rough=fetched.rough,
        cohort=fetched.cohort,
    )


def leave_at_sites(genes: Mask, final: Floats) -> Algorithm[None]:
    """Have the sites keep final dispersions for the rest of the fit; genes without one, NaN, are left out."""
    known = np.isfinite(final)
    if known.any():
        yield AdoptDispersionsQuery(some_of(genes, known), final[known])


def _search(
    question: Question, fetched: Fetched, start: Floats, trend: Floats | None, variance: float
) -> Algorithm[tuple[Walked, Fetched]]:
    """Search every profile; where the path led beyond the nodes, ask again, farther, and search again.

    Optima and grids lie within the nodes' reach; Newton's method adds the digits that the interpolant leaves open.
    """
    walked = _walk(question, fetched, np.flatnonzero(fetched.known), start, trend, variance)
    if question.fit == "optimum":
        best = yield from polish(
            question.genes,
            question.means,
            np.where(walked.iterations == 0, walked.dispersions, np.nan),
            question.products,
            question.largest,
            trend=trend,
            prior_variance=variance,
            fraction_bits=question.fraction_bits,
        )
        return replace(walked, dispersions=np.where(walked.iterations == 0, best, walked.dispersions)), fetched
    again = np.flatnonzero(walked.beyond)
    if again.size:
        fetched = yield from fetch_again(
            question.genes,
            question.means,
            fetched,
            again,
            farther(fetched.nodes.take(again)),
            question.products,
            question.fraction_bits,
            question.information,
        )
        new = _walk(question, fetched, again[fetched.known[again]], start, trend, variance)
        dispersions, iterations = walked.dispersions.copy(), walked.iterations.copy()
        dispersions[again], iterations[again] = new.dispersions[again], new.iterations[again]
        walked = replace(walked, dispersions=dispersions, iterations=iterations)
    return walked, fetched


def _walk(
    question: Question, fetched: Fetched, rows: NDArray[np.intp], start: Floats, trend: Floats | None, variance: float
) -> Walked:
    """Search the profiles of some genes, by index; the others get NaN."""
    profiles = fetched.profiles.take(rows)
    towards = None if trend is None else trend[rows]
    if question.fit != "deseq2":
        search = maximise if question.fit == "optimum" else search_grids
        best = search(profiles, question.largest, towards, variance)
        stays = np.zeros(rows.size, dtype=bool)
        if towards is None and question.least_rise > 0 and question.fit == "optimum":
            near = first_steps(profiles, start[rows], question.least_rise, question.largest)
            stays = np.isfinite(near)
            best = np.where(stays, near, best)
        walked = Walked(best, stays.astype(np.int32), np.zeros(rows.size, dtype=bool))
    elif towards is None:
        walked = walk_gene_wise(profiles, start[rows], question.largest)
    else:
        walked = walk_map(profiles, start[rows], towards, variance, question.largest)
    genes = start.size
    whole = Walked(np.full(genes, np.nan), np.zeros(genes, dtype=np.int32), np.zeros(genes, dtype=bool))
    for name in ("dispersions", "iterations", "beyond"):
        getattr(whole, name)[rows] = getattr(walked, name)
    return whole
