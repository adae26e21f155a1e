"""The likelihood-ratio test: a fitted design beside a smaller one inside it, at the dispersions of the larger.

Promises: the smaller design is fitted as the larger was, in R's order of things; statistics are of means that are not
clamped, both over the same sites, or missing with a reason. Refuses to know: how the larger design was fitted.
Love, Huber and Anders (2014), methods, in the form of DESeq2 1.38; Wilks (1938).

It comes last, when outliers have been replaced at the sites, so each gene is fitted once, on the counts that its
coefficients are of; and after sites have noted their own coefficients, which the smaller fit moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.fitted import Fitted, LikelihoodRatio
from secirls.algorithms.query import Algorithm, portions
from secirls.algorithms.regression.betas import betas
from secirls.algorithms.regression.irls import IrlsConfig, State, steps_field, update_rows
from secirls.algorithms.regression.plans import irls_plan, newton_plan
from secirls.algorithms.regression.restricted import LikelihoodAtQuery, restricted
from secirls.algorithms.regression.unclamped import newton
from secirls.config import Config
from secirls.inputs.designs.design import Design
from secirls.inputs.designs.reduced_design import ReducedDesign
from secirls.numerics.algebra.restriction import lifted, projected, projected_upper
from secirls.numerics.algebra.solve import pack, solve, times
from secirls.numerics.arithmetic import portable
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.inference.likelihood_ratio import statistics
from secirls.numerics.status import Reason, Status


@dataclass(frozen=True)
class _Likelihoods:
    """Of one fit, arrays over all agreed genes."""

    nll: Floats
    """Negative log-likelihoods; NaN for genes without."""
    sites: NDArray[np.intp]
    """How many are in the sum: whoever falls silent stays out, so they are the same where they are as many."""
    same: Mask
    """Whether those are the sites that the gene was settled over."""


def likelihood_ratio(
    config: Config, design: Design, reduced: ReducedDesign, fitted: Fitted
) -> Algorithm[LikelihoodRatio]:
    """Compare a fit with that of a reduced design. Genes without coefficients are not asked about."""
    own, products = bool(design.own.of), design.products()
    full = fitted.state
    if config.choices.lost != "newton":  # the catch clamps means, and ends beside the minimum that is wanted here
        plan = replace(newton_plan(config, products, own=own), errors=False)
        full = yield from newton(full, full.status == Status.CAUGHT, plan)
    large = yield from _likelihoods(full, full.beta, own=own)
    plans = (
        replace(irls_plan(config, own=own), columns=full.beta.shape[1]),
        replace(newton_plan(config, own=own), errors=False),
    )
    if not reduced.columns:  # nothing at the table that could stand still: a gene settles by its deviance
        plans = replace(plans[0], by_deviance_alone=True), plans[1]
    fit = _start(reduced, fitted, full, plans[0])
    if reduced.intercept_alone:
        fit = _of_means(fit, fitted.base_means)
    else:
        found = yield from restricted(betas(fit, *plans), reduced.basis, products)
        fit = found.state
    small = yield from _likelihoods(fit, lifted(fit.beta, reduced.basis), own=own)
    stat, reason = _compared(full, fit, large, small)
    return LikelihoodRatio(reduced, stat, fit, reason)


def _start(reduced: ReducedDesign, fitted: Fitted, full: State, plan: IrlsConfig) -> State:
    """Where the smaller fit begins, as R's does: the least squares of log(y / s + 0.1) on its columns.

    Those follow from the least squares on all columns, where the larger fit began, and X'X: no round is needed.
    """
    genes = full.fitted
    count = int(genes.sum())
    upper = pack(fitted.xtx)[None]
    right = times(np.broadcast_to(upper, (count, upper.shape[1])), full.start[genes])
    inner = np.repeat(projected_upper(upper, reduced.basis), count, axis=0)
    gamma = np.full((genes.size, reduced.basis.shape[1]), np.nan)
    gamma[genes], _ = solve(inner, projected(right, reduced.basis))
    status = np.where(genes, Status.ACTIVE, full.status).astype(np.int8)
    return State.begin(status, np.clip(gamma, -plan.max_beta, plan.max_beta), np.where(genes, 0, full.reason))


def _of_means(start: State, base_means: Floats) -> State:
    """The smaller fit where all samples have one mean: its logarithm, as R has it, and no round.

    Where size factors differ it is near the most likely one and not that.
    """
    rows = np.flatnonzero(start.active & (base_means > 0))
    left = np.flatnonzero(start.active & ~(base_means > 0))
    fit = update_rows(
        start, rows, status=Status.CONVERGED, beta=portable.logs(np.maximum(base_means[rows], 1e-150))[:, None]
    )
    return update_rows(fit, left, status=Status.FAILED, reason=Reason.LOST)


def _likelihoods(state: State, beta: Floats, *, own: bool) -> Algorithm[_Likelihoods]:
    """Those of fitted genes at ``(genes, params)``, means not clamped."""
    genes = state.status.size
    found = _Likelihoods(np.full(genes, np.nan), np.zeros(genes, dtype=np.intp), np.zeros(genes, dtype=bool))
    sizes = np.array([*map(len, state.cohorts), 0])[state.evaluated]
    for asked in portions(state.fitted, 1, 1):
        query = LikelihoodAtQuery(asked, beta[asked], 0.0, steps=steps_field(state, asked, own=own))
        total = yield query
        found.nll[asked] = np.where(query.lost(total), np.nan, total["nll"])
        found.sites[asked] = len(total.parties)
        found.same[asked] = (state.evaluated[asked] < 0) | (sizes[asked] == len(total.parties))
    return found


def _compared(full: State, fit: State, large: _Likelihoods, small: _Likelihoods) -> tuple[Floats, NDArray[np.int8]]:
    """Statistics ``(genes,)``, and the `Reason` of those that are missing among genes of the larger fit."""
    both = full.fitted & fit.fitted
    same = large.same & small.same & (large.sites == small.sites)
    stat = np.where(both & same, statistics(large.nll, small.nll), np.nan)
    reason = np.select(
        [np.isfinite(stat), ~full.fitted, ~fit.fitted, ~same],
        [np.int8(Reason.NONE), full.reason, fit.reason, np.int8(Reason.OTHER_SITES)],
        np.int8(Reason.LOST),
    )
    return stat, reason.astype(np.int8)
