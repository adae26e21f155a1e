"""A whole fit as one algorithm: DESeq2 (see `deseq2`), or census, size factors, moments, IRLS, the catch, the refit.

Promises: every gene ends with a status; a design or counts that can't be fitted end in one sentence.
Refuses to know: who leads, who answers, and how a sum is made.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from secirls.algorithms.beginning import (
    begin,
    check_degrees_of_freedom,
    eligible,
    size_factors,
    unclamped_information,
    where_genes_stand,
)
from secirls.algorithms.components.component_queries import Scale
from secirls.algorithms.components.principal_components import Components, Ending, Plan, principal_components
from secirls.algorithms.deseq2 import deseq2
from secirls.algorithms.dispersion.dispersions import moments_dispersions
from secirls.algorithms.fitted import Fitted, Stages
from secirls.algorithms.groundwork.sizing import Sizing
from secirls.algorithms.information import IN_A_FIT, ask_cells
from secirls.algorithms.likelihood_ratio import likelihood_ratio
from secirls.algorithms.query import Algorithm, Query, Total
from secirls.algorithms.regression.catch import catch
from secirls.algorithms.regression.irls import State, irls, least_squares_start, steps_field, update_rows
from secirls.algorithms.regression.irls_queries import OwnCoefficientsQuery
from secirls.algorithms.regression.plans import catch_plan, irls_plan
from secirls.algorithms.regression.refit import refit
from secirls.algorithms.regression.restricted import restricted
from secirls.algorithms.regression.shrinkage import Shrinkage, check_shrinkage, shrink
from secirls.algorithms.summands import EXACT
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.designs.design import Design
from secirls.inputs.designs.reduced_design import reduced_design
from secirls.numerics.arrays import Mask
from secirls.numerics.held.covariates import of_scaled, to_user
from secirls.numerics.inference.wald import contrast_variances
from secirls.numerics.status import Reason, Status

_STAGES = {
    "census": "census",
    "drop_empty": "empty columns",
    "covariates": "covariates",
    "cross_products": "covariates",
    "log_counts": "size factors",
    "normalised": "size factors",
    "residuals": "moments",
    "adopt_dispersions": "moments",
    "least_squares": "coefficients",
    "cell_transforms": "cells",
    "irls": "coefficients",
    "quasi_newton": "catch",
    "likelihood": "catch",
    "replace_counts": "refit",
    "presence": "refit",
}
"""The stage of each kind of question where dispersions are given or by moments."""


def refit_genes(config: Config, genes: tuple[str, ...]) -> Mask | None:
    """Which of the agreed genes are fitted again, ``(genes,)``. Raises `InputError` for one that is not there."""
    return _marked("refit_genes", config.refit_genes, genes)


def control_genes(config: Config, genes: tuple[str, ...]) -> Mask | None:
    """Which of the agreed genes size factors are estimated from, ``(genes,)``; ``None`` for all.

    Raises `InputError` for one that is not there.
    """
    return _marked("control_genes", config.control_genes, genes)


def _marked(field: str, named: tuple[str, ...], genes: tuple[str, ...]) -> Mask | None:
    """A mask of named genes, or ``None`` where none is."""
    if not named:
        return None
    position = {gene: i for i, gene in enumerate(genes)}
    for gene in named:
        if gene not in position:
            raise InputError(f"{field} names {gene!r}, which is not among the {len(genes)} agreed genes")
    mask = np.zeros(len(genes), dtype=bool)
    mask[[position[gene] for gene in named]] = True
    return mask


def agreed_fit(config: Config, design: Design, genes: tuple[str, ...]) -> Algorithm[Fitted]:
    """The algorithm that all agreed on: who runs it with the same totals asks the same questions, to the bit.

    Raises `InputError` where the configuration names a gene that is not there.
    """
    return fit(config, design, len(genes), refit_genes(config, genes), control_genes(config, genes))


def fit(
    config: Config, design: Design, n_genes: int, again: Mask | None = None, control: Mask | None = None
) -> Generator[Query, Total, Fitted]:
    """The whole fit as one algorithm, as the configuration's preset has it.

    ``again`` marks the genes to refit on the second layer of counts, ``(genes,)``; a whole fit has none.
    ``control`` marks those that size factors are estimated from; all if not given.
    A gene that some site can't send a sum of, at any stage, fails with that reason, and the others go on.
    Raises `InputError` for a rank-deficient design, counts that can't be normalised, and, before the first question, a
    coefficient to shrink that is not there.
    """
    stages = Stages()
    if config.shrink is not None:
        check_shrinkage(config.shrink, design)
    if config.choices.whole:
        fitted = yield from deseq2(config, design, n_genes, stages, control)
    else:
        fitted = yield from stages.named("fit", _irls_fit(config, design, n_genes, again, control), _STAGES)
    if design.own.of:
        yield from stages.named("own coefficients", _own_coefficients(fitted.state))
    design = design.without(fitted.dropped)
    if config.reduced is not None:
        reduced = reduced_design(design, config.reduced)
        if fitted.scaled is not None:
            reduced = fitted.scaled.reduced(reduced)
        ratio = likelihood_ratio(config, design, reduced, fitted)
        fitted = replace(fitted, ratio=(yield from stages.named("likelihood ratio", ratio)))
    if config.shrink is not None:  # last, so that a fit without it asks the same until then, and is counted once
        shrinkage = yield from stages.named("shrinkage", _shrinkage(config, design, fitted, config.shrink))
        fitted = replace(fitted, shrinkage=shrinkage)
    if config.components:  # last too, and after it the sites have the counts of their files again
        parties = [set(stage.parties) for stage in stages.done]
        whole = all(present == parties[0] for present in parties)
        asking = _components(config, fitted, fitted.n_samples - len(parties[0]), whole=whole)
        components = yield from stages.named("components", asking)
        fitted = replace(fitted, components=components)
    return replace(fitted, stages=tuple(stages.done), stage_of_rounds=tuple(stages.of_rounds))


def _shrinkage(config: Config, design: Design, fitted: Fitted, name: str) -> Algorithm[Shrinkage]:
    """One coefficient drawn towards zero, from its estimates and their errors as the table of results has them.

    The prior is on coefficients of the user's columns: where those were scaled, sites are asked about the scaled ones.
    """
    coefficient, scaled, state, products = design.column(name, "shrink"), fitted.scaled, fitted.state, design.products()
    unit = np.zeros(len(design.columns))
    unit[coefficient] = 1.0
    if scaled is not None:
        state, unit = replace(state, beta=to_user(state.beta, scaled.to_user)), of_scaled(unit, scaled.to_user)
    variances = contrast_variances(fitted.information, unit, config.ridge)
    bits = config.fraction_bits or EXACT
    if scaled is None:
        return (yield from shrink(state, variances, coefficient, products, bits))
    shrinking = shrink(state, variances, coefficient, None, bits, scaled)
    return (yield from restricted(shrinking, scaled.from_user, products))


def _components(config: Config, fitted: Fitted, degrees: int, *, whole: bool) -> Algorithm[Components]:
    """Principal components over the genes that were fitted, on the scale of the fit's trend; of all sites or none.

    ``degrees`` are samples less sites.
    """
    if not whole:
        return Components.nothing(Ending.NOT_ALL)
    if fitted.towards is None or fitted.towards.flat or fitted.sizing is None:
        return Components.nothing(Ending.NO_TRANSFORM)
    plan = Plan(
        config.components,
        config.component_genes,
        config.component_tolerance,
        config.directions_per_sample,
        config.sample_share,
    )
    scale = Scale.of(fitted.towards, fitted.base_means, fitted.sizing.mean_inverse)
    emptied = np.zeros_like(fitted.state.fitted) if fitted.treatment is None else fitted.treatment.emptied
    genes = fitted.state.fitted & ~emptied
    return (yield from principal_components(plan, scale, genes, degrees))


def _own_coefficients(state: State) -> Algorithm[None]:
    """Tell the sites where the fit ended, so that they can note what their own columns come to."""
    genes = state.fitted
    if genes.any():
        yield OwnCoefficientsQuery(genes, state.beta[genes], steps_field(state, genes, own=True))


def all_are_left(state: State, parties: tuple[str, ...]) -> bool:
    """Whether all who were in the census are in the last sum of a regression, if there was one."""
    return not state.cohorts or state.parties == parties


def _irls_fit(
    config: Config, design: Design, n_genes: int, again: Mask | None, control: Mask | None
) -> Generator[Query, Total, Fitted]:
    """Census, size factors, dispersions by moments unless given, IRLS, the catch, the refit."""
    begun = yield from begin(config, design, n_genes)
    columns = begun.design.columns
    status, genes, n_samples = begun.status, begun.genes, begun.n_samples
    base_means = begun.base_means
    dispersions = None if config.dispersions is not None else np.full(n_genes, np.nan)
    sizing = None
    if genes.any():
        normalisation = yield from size_factors(config, begun, control)
        sizing = Sizing.of(normalisation)
        status, base_means = where_genes_stand(config, begun, normalisation)
        kept = np.isin(status, (Status.ACTIVE, Status.FAILED))
        normalisation, genes = normalisation.of(kept[genes]), genes & kept
    if dispersions is not None and genes.any():
        check_degrees_of_freedom(n_samples, begun.columns)
        dispersions[genes] = yield from moments_dispersions(genes, begun.xtx, n_samples, normalisation, begun.columns)
        status[genes] = np.where(np.isnan(dispersions[genes]), Status.FAILED, Status.ACTIVE)
    products = begun.design.products()
    plan = irls_plan(config, products, own=begun.columns > len(columns))
    reason = np.where(status == Status.FAILED, Reason.LOST, Reason.NONE).astype(np.int8)
    state = yield from least_squares_start(status, len(columns), plan, reason=reason)
    active, bits, brought = status == Status.ACTIVE, config.fraction_bits or EXACT, dispersions is None
    told = yield from ask_cells(active, begun.design, products, bits, times=IN_A_FIT, brought=brought)
    state = yield from irls(state, plan if told is None else replace(plan, known=told.known(dispersions)))
    state = yield from catch(state, catch_plan(config, products))
    if again is not None and all_are_left(state, begun.parties):
        state = yield from refit(
            state, again, lambda sites: eligible(sites, config.min_contributors), plan, catch_plan(config, products)
        )
    elif again is not None:  # the same sums over fewer sites would differ by those of who fell silent
        rows = np.flatnonzero(again & state.fitted)
        state = update_rows(state, rows, status=Status.FAILED, reason=Reason.OTHER_SITES)
    information = state.xtwx
    if config.se == "unclamped":
        information = yield from unclamped_information(state, own=plan.own)
    return Fitted.of(begun, state, base_means, dispersions, information, sizing)
