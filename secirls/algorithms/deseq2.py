"""The whole DESeq2 as one algorithm: from a census to coefficients with outliers dealt with.

Promises: R's order of things, each stage counted under its name; every gene ends with a status. Refuses to know: who
leads, who answers, how a sum is made, and how any stage finds what it finds.
Love, Huber and Anders (2014), in the form of DESeq2 1.38.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.beginning import (
    Begun,
    begin,
    check_degrees_of_freedom,
    eligible,
    size_factors,
    unclamped_information,
    where_genes_stand,
)
from secirls.algorithms.dispersion.dispersion_start import Moments, moments
from secirls.algorithms.dispersion.shrunken_dispersions import (
    Dispersions,
    TrendAndPrior,
    estimate_dispersions,
    leave_at_sites,
)
from secirls.algorithms.fitted import Fitted, GeneDispersions, Stages, Treatment
from secirls.algorithms.groundwork.normalisation import Normalisation
from secirls.algorithms.groundwork.sizing import Sizing
from secirls.algorithms.information import IN_A_FIT, IN_A_PROFILE, Told, ask_cells
from secirls.algorithms.outliers.cells import Cells, cells, told_cells
from secirls.algorithms.outliers.distances import CooksConfig
from secirls.algorithms.outliers.outlier_replacement import Plans
from secirls.algorithms.outliers.outlier_treatment import Treated, treat_outliers
from secirls.algorithms.outliers.robust_dispersion import Searching
from secirls.algorithms.query import Algorithm, some_of
from secirls.algorithms.regression.betas import Betas, WayOut, betas
from secirls.algorithms.regression.irls import State, least_squares_start
from secirls.algorithms.regression.known_information import KnownInformation
from secirls.algorithms.regression.plans import irls_plan, way_out
from secirls.algorithms.summands import EXACT
from secirls.config import Config
from secirls.inputs.designs.design import Design
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.regression.information import Information
from secirls.numerics.status import Reason, Status

_OF_THE_BEGINNING = {"drop_empty": "empty columns", "covariates": "covariates", "cross_products": "covariates"}
_OF_DISPERSIONS = {
    "residuals": "moments",
    "profile": "profile",
    "dispersion_newton": "profile",
    "adopt_dispersions": "handing out",
}
"""Stages within the estimate of dispersions; what is left makes the means that they are estimated at."""
_OF_OUTLIERS = {"replace_outliers": "refit"}
"""From this question on, outliers are replaced and their genes fitted again."""


@dataclass(frozen=True)
class Plan:
    """What the stages have in common: agreed beforehand, and what the census told."""

    config: Config
    begun: Begun
    products: Products
    around: Cells | None
    """The cells of the design; not asked for where no stage needs them."""
    information: Information | None = None
    """What X'WX follows from; ``None`` where it is asked for."""

    @property
    def n_samples(self) -> float:
        """Over all sites."""
        return self.begun.n_samples

    @property
    def params(self) -> int:
        """Design columns."""
        return int(self.begun.xtx.shape[0])

    @property
    def cells(self) -> int | None:
        """Distinct rows of the design over all sites; ``None`` where a numeric variable keeps them at home."""
        return None if self.around is None else self.around.distinct

    @property
    def own(self) -> bool:
        """Whether some site has columns of its own."""
        return self.begun.columns > self.params

    @property
    def way_out(self) -> WayOut:
        """Of the genes that IRLS does not settle."""
        return way_out(self.config, self.products, own=self.own)

    @property
    def plans(self) -> Plans:
        """Of IRLS, of the way out of it, and of Cook's distances."""
        config = self.config
        plan = irls_plan(config, self.products, own=self.own)
        searching = Searching(min_kept=config.min_kept)
        cooks = CooksConfig(config.ridge, config.min_mu, self.own, self.begun.columns, searching=searching)
        return plan, self.way_out, cooks

    def dispersions(
        self, genes: Mask, normalisation: Normalisation, towards: TrendAndPrior | None = None
    ) -> Algorithm[Dispersions]:
        """Those of the masked genes, at their own trend and prior or at an earlier fit's."""
        return estimate_dispersions(
            genes,
            self.begun.xtx,
            self.n_samples,
            normalisation,
            self.products,
            cells=self.cells,
            fit="deseq2" if self.config.dispersion_fit == "moments" else self.config.dispersion_fit,
            kind=self.config.trend,
            choices=self.config.choices,
            regression=self.plans[:2],
            towards=towards,
            fraction_bits=self.config.fraction_bits or EXACT,
            columns=self.begun.columns,
            information=self.information,
        )

    def moments(self, genes: Mask, normalisation: Normalisation) -> Algorithm[Moments]:
        """Those of the masked genes."""
        return moments(genes, self.begun.xtx, self.n_samples, normalisation, self.begun.columns)


_ESTIMATES = ("gene_wise", "trend", "maximum")


@dataclass
class _Found:
    """What is known of dispersions so far, arrays over all agreed genes; a refit overwrites its genes."""

    final: Floats
    base_variances: Floats
    reason: NDArray[np.int8]
    begun: Floats | None = None
    """Where the regression of the means began, ``(genes, params)``, if there was one: where that of the fit begins."""
    by_gene: GeneDispersions | None = None
    towards: TrendAndPrior | None = None

    @classmethod
    def nothing(cls, genes: int) -> _Found:
        """Before the first stage."""
        none = np.full(genes, np.nan)
        return cls(none, none.copy(), np.zeros(genes, dtype=np.int8))

    def take(self, genes: Mask, found: Dispersions) -> None:
        """Note the estimates of the masked genes."""
        count = genes.size
        before = self.by_gene or GeneDispersions(
            *(np.full(count, np.nan), np.zeros(count, dtype=np.int32), np.full(count, np.nan), np.full(count, np.nan)),
            *(np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)),
        )
        new = {
            "gene_wise": found.gene_wise,
            "iterations": found.gene_wise_iterations,
            "trend": found.trend,
            "maximum": found.maximum,
            "outlier": found.outlier,
            "rough": found.rough,
        }
        arrays = {name: getattr(before, name).copy() for name in new}
        for name, values in new.items():
            arrays[name][genes] = values
        self.by_gene = GeneDispersions(**arrays)
        self.towards = found.trend_and_prior
        self.final[genes], self.reason[genes] = found.final, found.reason
        self.base_variances[genes] = found.moments.base_variances
        if found.means.begun is not None:
            self.begun = np.full((count, found.means.begun.shape[1]), np.nan)
            self.begun[genes] = found.means.begun

    def leave(self, genes: Mask) -> None:
        """Forget the estimates of genes ``(genes,)`` that have nothing left to estimate them from."""
        self.final[genes] = np.nan
        if self.by_gene is not None:
            without = {name: np.where(genes, np.nan, getattr(self.by_gene, name)) for name in _ESTIMATES}
            self.by_gene = replace(self.by_gene, **without, outlier=self.by_gene.outlier & ~genes)


def deseq2(
    config: Config, design: Design, n_genes: int, stages: Stages, control: Mask | None = None
) -> Algorithm[Fitted]:
    """The whole fit. ``stages`` notes what each stage asked; ``control`` are the genes of size factors, ``(genes,)``.

    A gene that some site can't send a sum of, at any stage, fails with that reason, and the others go on.
    Raises `InputError` for a rank-deficient design or counts that can't be normalised.
    """
    begun = yield from stages.named("census", begin(config, design, n_genes), _OF_THE_BEGINNING)
    design = begun.design
    status, genes, n = begun.status, begun.genes, begun.n_samples
    base_means = begun.base_means
    normalisation, sizing = None, None
    if genes.any():
        normalisation = yield from stages.named("size factors", size_factors(config, begun, control))
        sizing = Sizing.of(normalisation)
        status, base_means = where_genes_stand(config, begun, normalisation)
        status[(status == Status.ACTIVE) & ~(base_means**2 > 0)] = Status.FAILED
        normalisation = normalisation.of(status[genes] == Status.ACTIVE)
        genes = status == Status.ACTIVE
    estimating = config.dispersions is None
    if estimating and genes.any():
        check_degrees_of_freedom(n, begun.columns)
    treating = config.cooks and n > begun.columns
    about_cells = treating or (estimating and config.dispersion_fit != "moments")
    asking = _cells(config, genes, design, int(n), about_cells=about_cells)
    around, told = yield from stages.named("cells", asking)
    plan = Plan(config, begun, design.products(), around, None if told is None else told.information)
    found = _Found.nothing(n_genes)
    if genes.any() and normalisation is not None:
        yield from _first_dispersions(plan, genes, normalisation, found, stages, treating=treating)
    if estimating:
        gone = genes & ~np.isfinite(found.final)
        status[gone] = Status.FAILED
    reason = np.where(found.reason != Reason.NONE, found.reason, Reason.LOST)
    reason = np.where(status == Status.FAILED, reason, Reason.NONE).astype(np.int8)
    known = None if told is None else told.known(found.final)
    fit = yield from stages.named("coefficients", _coefficients(plan, status, reason, found.begun, known))
    treatment = None
    if treating and around is not None and fit.state.fitted.any():
        fit, base_means, treatment = yield from _outliers(plan, around, fit, base_means, found, stages)
    information = fit.state.xtwx
    if config.se == "unclamped":
        information = yield from stages.named("standard errors", unclamped_information(fit.state, own=plan.own))
    ended = Fitted.of(begun, fit.state, base_means, found.final if estimating else None, information, sizing)
    return replace(ended, by_gene=found.by_gene, towards=found.towards, treatment=treatment)


def _cells(
    config: Config, genes: Mask, design: Design, n_samples: int, *, about_cells: bool
) -> Algorithm[tuple[Cells | None, Told | None]]:
    """In one round the cells, where wanted, and what else they tell of the masked genes; ``None`` where not asked."""
    if not genes.any():
        return None, None
    brought = config.dispersions is not None
    bits, times = config.fraction_bits or EXACT, IN_A_FIT if brought else IN_A_PROFILE
    told = yield from ask_cells(genes, design, design.products(), bits, times=times, brought=brought)
    rules = n_samples, config.min_contributors, config.min_replicates
    if not about_cells:
        return None, told
    around = (yield from cells(genes, design, *rules)) if told is None else told_cells(told.total, design, *rules)
    return around, told


def _first_dispersions(
    plan: Plan, genes: Mask, normalisation: Normalisation, found: _Found, stages: Stages, *, treating: bool
) -> Algorithm[None]:
    """Dispersions as the configuration wants them, and base variances where outliers are looked for."""
    config = plan.config
    if config.dispersions is None and config.dispersion_fit != "moments":
        estimated = yield from stages.named("means", plan.dispersions(genes, normalisation), _OF_DISPERSIONS)
        found.take(genes, estimated)
        return
    if config.dispersions is None or treating:
        start = yield from stages.named("moments", plan.moments(genes, normalisation))
        found.base_variances[genes] = start.base_variances
        if config.dispersions is None:
            found.final[genes] = yield from stages.named("moments", _by_moments(genes, start))


def _by_moments(genes: Mask, start: Moments) -> Algorithm[Floats]:
    """The starting dispersions themselves, adopted by the sites; NaN for genes that some site could not send."""
    final = np.where(np.isnan(start.base_variances), np.nan, start.start)
    yield from leave_at_sites(genes, final)
    return final


def _coefficients(
    plan: Plan,
    status: NDArray[np.int8],
    reason: NDArray[np.int8],
    begun: Floats | None,
    known: KnownInformation | None,
) -> Algorithm[Betas]:
    """IRLS from least squares, and the way out of it. Where it begins, ``(genes, params)``, is asked once in a fit."""
    regression, out, _ = plan.plans
    regression = replace(regression, known=known)
    if begun is not None and np.isfinite(begun[status == Status.ACTIVE]).all():
        start = State.begin(status, begun, reason)
    else:
        start = yield from least_squares_start(status, plan.params, regression, reason=reason)
    return (yield from betas(start, regression, out))


def _outliers(
    plan: Plan, around: Cells, fit: Betas, base_means: Floats, found: _Found, stages: Stages
) -> Algorithm[tuple[Betas, Floats, Treatment]]:
    """What becomes of outliers: the fit and the base means once they are dealt with, and what was done.

    Over fewer sites than were in the census they are not looked for: its numbers of samples are of all sites, and order
    statistics over fewer would be others.
    """
    if fit.state.parties != plan.begun.parties:
        nobody = np.zeros_like(fit.state.fitted)
        nothing = Treatment(nobody, nobody, nobody, nobody, 0, around, around.samples < 0, done=False, whole=False)
        return fit, base_means, nothing
    genes = fit.state.fitted & np.isfinite(found.base_variances)  # others are not looked into
    asking = _treated(plan, around, genes, fit, base_means, found)
    treated = yield from stages.named("outliers", asking, _OF_OUTLIERS, then="replace_outliers")
    fit = treated.refit.betas
    found.leave(treated.refit.genes & ~fit.state.fitted)
    treatment = _treatment(treated, around, around.left_out(plan.config.min_kept))
    return fit, treated.refit.base_means, treatment


def _treated(
    plan: Plan, around: Cells, genes: Mask, fit: Betas, base_means: Floats, found: _Found
) -> Algorithm[Treated]:
    """Outliers told, replaced, or a reason for no p-value; the genes that change are fitted again."""
    config = plan.config

    def again(some: Mask, normalisation: Normalisation) -> Algorithm[Floats]:
        """The dispersion stage of the second fit, with the trend and the prior of the first."""
        if config.dispersions is not None:  # as the sites brought them
            return np.ones(int(some.sum()))
        final = np.full(int(some.sum()), np.nan)
        known = normalisation.base_means**2 > 0
        chosen = some_of(some, known)
        if known.any() and found.towards is not None:
            estimated = yield from plan.dispersions(chosen, normalisation.of(known), found.towards)
            found.take(chosen, estimated)
            final[known] = estimated.final
        elif known.any():
            start = yield from plan.moments(chosen, normalisation.of(known))
            final[known] = yield from _by_moments(chosen, start)
            found.final[chosen] = final[known]
        return final

    dispersions = found.final if config.dispersions is None else np.ones(genes.size)
    return (
        yield from treat_outliers(
            genes,
            fit,
            dispersions,
            base_means,
            found.base_variances.copy(),
            plan.begun.design,
            around,
            lambda sites: eligible(sites, config.min_contributors),
            again,
            plan.plans,
            two_levels_only=config.choices.two_levels_only,
            emptied=config.choices.emptied,
        )
    )


def _treatment(treated: Treated, around: Cells, left_out: Mask) -> Treatment:
    refit, outliers = treated.refit, treated.found
    return Treatment(
        refit.genes,
        refit.emptied,
        treated.missing,
        treated.kept,
        0 if outliers is None else outliers.asked,
        around,
        left_out,
        outliers is not None,
    )
