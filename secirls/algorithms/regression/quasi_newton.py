"""One descent of the catch: a projected, Fisher-scaled quasi-Newton method over sums.

Promises: afterwards every gene it tried is caught, or failed with a reason, and none ends above where it began.
Refuses to know: protocols, sites, rounds, and where a descent should begin (see `catch`).
Kim, Sra and Dhillon (2010), "Tackling box-constrained optimization via a new projected quasi-Newton approach".

Minimised is ``f(beta) = nll(beta) + ridge |beta|^2 / 2`` inside the box ``|beta| <= max_beta``, with means clamped
at min_mu as in IRLS; the score is that of the clamped likelihood, to which clamped samples add nothing.

Fisher's information alone is a poor stand-in for the curvature where a dispersion does not fit its counts: the observed
weight of a count is ``mu (1 + alpha y) / (1 + alpha mu)^2``, and its ratio to the expected one, mu / (1 + alpha mu),
runs from 1 / (1 + alpha mu) at y = 0 to any size. So the differences of scores along the last steps correct the
information at the newest coefficients by BFGS (Nocedal and Wright 2006, equation 6.19): all from sums opened anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.query import LARGEST_CANDIDATES, Algorithm, Query, QueryError, Total, portions
from secirls.algorithms.regression.irls import State, update_rows
from secirls.algorithms.regression.irls_queries import keep_constants, sums_at
from secirls.algorithms.sent_products import check_expand, expand_field, opened, sent, sent_entries
from secirls.algorithms.summands import EXACT, lost, resolution
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import pack, packed_size, solve, unpack
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import kernels
from secirls.numerics.regression.kernel_task import Sums
from secirls.numerics.status import Reason, Status

Rows: TypeAlias = NDArray[np.intp]

_LARGEST_CANDIDATES = 64
_RIDGE_FALLS, _RIDGE_RISES = 0.1, 100.0
_LONG_STEPS = 4
"""So many step sizes are asked about first: mostly one of them will do, and the shorter ones leave no number. Which is
taken, the longest that lowers f enough, is the same."""
_CREEPING = 1e-6
"""A step that lowers f by no more than this, relative to max(|f|, 1), leads nowhere worth the round."""
_LEAST_CURVATURE = 1e-10
"""A step along which the score turned by less than this share of what is expected corrects nothing."""


@dataclass(frozen=True)
class CatchConfig:
    """Settings of the catch. `ridge` is also that of the objective."""

    min_mu: float = 0.5
    """Means are clamped below at this: the same as in IRLS, or another objective is minimised."""
    max_beta: float = 30.0
    """The box."""
    first_ridge: float = 1.0
    """Added to the diagonal of X'WX in the first steps; falls tenfold with every step taken ..."""
    ridge: float = 1e-6
    """... down to this."""
    halvings: int = 20
    """Step sizes 1, 1/2, 1/4 ... tried, in one round or two."""
    armijo: float = 1e-4
    """A step must lower f by this share of what its slope promises."""
    ftol: float = 1e-12
    """Settled when f falls, or is predicted to fall, by no more than this relative to max(|f|, 1)."""
    max_iter: int = 100
    memory: int = 10
    """How many of the last steps correct the information; 0 for Fisher's alone."""
    polls: int = 8
    """How often, at most, a gene is asked whether another valley of the clamped f is deeper; see `catch`."""

    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""
    products: Products | None = field(default=None, compare=False)
    """Which entries of X'WX are sent, the same for everyone; all if not given."""

    def __post_init__(self) -> None:
        if not (self.min_mu >= 0 and self.max_beta > 0 and 0 < self.ridge <= self.first_ridge and self.ftol >= 0):
            raise ValueError("min_mu and ftol are zero or more, max_beta above zero, and 0 < ridge <= first_ridge")
        if not (
            1 <= self.halvings < _LARGEST_CANDIDATES
            and 0 < self.armijo < 1
            and min(self.max_iter - 1, self.memory, self.polls) >= 0
        ):
            raise ValueError("max_iter is 1 or more, memory and polls 0 or more")

    @classmethod
    def fedpydeseq2(cls) -> CatchConfig:
        """FedPyDESeq2's: no clamp, ftol 1e-7, Fisher's information alone."""
        return cls(min_mu=0.0, ftol=1e-7, memory=0)


@dataclass(frozen=True)
class Step:
    """One step of every gene, for the correction of the information: arrays over all agreed genes."""

    move: Floats
    """Change of beta, ``(genes, params)``; zero for genes that did not move."""
    turn: Floats
    """Change of the gradient of f, ``(genes, params)``."""


Steps: TypeAlias = tuple[Step, ...]
"""The last steps, oldest first."""


@dataclass(frozen=True)
class QuasiNewtonQuery(Query):
    """X'WX, score and negative log-likelihood of each gene at several candidates for its coefficients.

    Its sum shows, per gene and candidate, what `IrlsQuery` shows per gene, and the same rules keep a site, a small cell
    or one sample out of it: ``min_contributors``, lonely columns, thin cells. A step asks at five candidates, and where
    none will do at 17, so the budget of values per gene ends this first. A candidate whose sums can't be sent is lost
    by itself.
    """

    candidates: Floats
    """Natural-log coefficients, ``(genes asked, candidates, params)``."""
    min_mu: float
    """Means are clamped below at this; 0 for none."""
    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""
    expand: Floats = field(default_factory=lambda: np.zeros(0))
    """Which products of columns are sent, as in `IrlsQuery`."""

    kind: ClassVar[str] = "quasi_newton"
    may_shrink: ClassVar[bool] = True
    sign: ClassVar[str] = "nll"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed, by gene and candidate."""
        genes, tried, params = self.candidates.shape
        entries = sent_entries(self.expand, params)
        return {"xtwx": (genes, tried, entries), "score": (genes, tried, params), "nll": (genes, tried)}

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site, candidate by candidate."""
        sums = candidate_sums(samples, self.candidates, self.min_mu, right="score")
        return {"xtwx": sent(self, sums.xtwx, samples, self.expand), "score": sums.right, "nll": sums.nll}

    def apply(self, samples: Samples) -> Samples:
        """Keep the constants of the likelihood (all genes)."""
        return keep_constants(samples)

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_candidates(self, self.candidates, self.min_mu, n_params, _LARGEST_CANDIDATES)
        check_expand(self, self.expand, n_params)


def candidate_sums(samples: Samples, candidates: Floats, min_mu: float, *, right: kernels.RightSide) -> Sums:
    """The sums of one site at candidates ``(genes, candidates, params)``: arrays ``(genes, candidates, ...)``.

    Own columns are at the best of their coefficients for each candidate, found for all of them at once.
    """
    genes, tried, params = candidates.shape
    if samples.own is not None:
        flat = sums_at(
            samples.at(np.repeat(np.arange(genes), tried)), candidates.reshape(-1, params), min_mu, right="score"
        )
        return Sums(*(array.reshape(genes, tried, *array.shape[1:]) for array in flat))
    parts = [sums_at(samples, np.ascontiguousarray(candidates[:, i]), min_mu, right=right) for i in range(tried)]
    return Sums(*(np.stack(arrays, axis=1) for arrays in zip(*parts, strict=True)))


def check_candidates(query: Query, candidates: Floats, min_mu: float, n_params: int, most: int) -> None:
    """Raise `QueryError` unless candidates ``(genes asked, candidates, params)`` fit, and are not too many."""
    shape = candidates.shape
    if len(shape) != 3 or shape[::2] != (query.n_genes, n_params) or not 1 <= shape[1] <= most:
        raise QueryError(f"query {query.kind!r}: candidates {shape} for {query.n_genes} genes, {n_params} params")
    if shape[0] * shape[1] > LARGEST_CANDIDATES:
        raise QueryError(f"query {query.kind!r}: more than {LARGEST_CANDIDATES} candidates for all genes together")
    if min_mu < 0:
        raise QueryError(f"query {query.kind!r}: min_mu is zero or more")


def descend(state: State, genes: Mask, starts: Floats, config: CatchConfig) -> Algorithm[State]:
    """Minimise f for some genes from the best of their starts ``(genes asked, starts, params)``."""
    state = replace(state, status=np.where(genes, Status.ACTIVE, state.status).astype(np.int8))
    values = packed_size(starts.shape[2]) + starts.shape[2] + 1
    fields = config.min_mu, config.fraction_bits, expand_field(config.products)
    for asked in portions(genes, starts.shape[1], values):
        here = starts[asked[genes]]
        total = yield QuasiNewtonQuery(asked, here, *fields)
        state = _begin(state, np.flatnonzero(asked), here, _whole(total, config), config)
    ridge = np.full(genes.size, config.first_ridge)
    steps: Steps = ()
    for left in reversed(range(config.max_iter)):
        state = _settle_flat(state, steps, config)
        active = state.active
        if not active.any():
            return state
        before = state
        for asked in portions(active, min(_LONG_STEPS, config.halvings) + 1, values):
            rows = np.flatnonzero(asked)
            candidates = _candidates(state, rows, ridge, steps, config)
            here = candidates[:, : _LONG_STEPS + 1]
            total = yield QuasiNewtonQuery(asked, here, *fields)
            whole = _whole(total, config)
            known = _decided(state, rows, here, whole, config)
            if known.any():
                some = replace(whole, arrays={name: array[known] for name, array in whole.arrays.items()})
                state, ridge = _advance(state, rows[known], ridge, here[known], some, config, last=left == 0)
            shorter = np.delete(candidates, np.s_[1 : _LONG_STEPS + 1], axis=1)
            waiting = asked.copy()
            waiting[rows[known]] = False
            for again in portions(waiting, shorter.shape[1], values):
                here = shorter[again[asked]]
                total = yield QuasiNewtonQuery(again, here, *fields)
                whole = _whole(total, config)
                state, ridge = _advance(state, np.flatnonzero(again), ridge, here, whole, config, last=left == 0)
        steps = _remember(steps, before, state, config)
    state = _settle_flat(state, steps, config)
    unsettled = np.flatnonzero(state.active)
    return update_rows(state, unsettled, status=Status.FAILED, reason=Reason.CATCH_OUT_OF_ITERATIONS)


def _whole(total: Total, config: CatchConfig) -> Total:
    """The sums with all entries of X'WX."""
    return replace(total, arrays={**total.arrays, "xtwx": opened(total["xtwx"], config.products)})


def _begin(state: State, asked: Rows, starts: Floats, total: Total, config: CatchConfig) -> State:
    """The values at the best start. A gene that is lost at all of them has nowhere to begin."""
    here = np.arange(asked.size)
    away = lost(total["nll"], len(total.cohort), config.fraction_bits)
    best = np.where(away, np.inf, objective(total["nll"], starts, config)).argmin(axis=1)
    gone: Mask = np.asarray(away.all(axis=1))
    return update_rows(
        replace(state, cohorts=(*state.cohorts, total.parties)),
        asked,
        status=np.where(gone, Status.FAILED, Status.ACTIVE),
        reason=np.where(gone, Reason.LOST, Reason.NONE),
        beta=starts[here, best],
        nll=np.where(gone, np.nan, total["nll"][here, best]),
        xtwx=np.where(gone[:, None], np.nan, total["xtwx"][here, best]),
        score=np.where(gone[:, None], np.nan, total["score"][here, best]),
        evaluated=len(state.cohorts),
    )


def objective(nll: Floats, beta: Floats, config: CatchConfig) -> Floats:
    """f, from the likelihoods ``(...)`` at coefficients ``(..., params)``."""
    value: Floats = nll + 0.5 * config.ridge * (beta * beta).sum(axis=-1)
    return value


def _descent(
    state: State, rows: Rows, ridge: Floats | float, steps: Steps, config: CatchConfig
) -> tuple[Floats, Floats, Mask]:
    """Gradient of f, direction, and which coefficients are held by the box, each ``(rows, params)``.

    A coefficient is held where it lies on the box and the gradient presses it outwards. The direction solves the
    Newton system of the free ones with the corrected information, or is the negative gradient if that fails.
    """
    beta = state.beta[rows]
    gradient = config.ridge * beta - state.score[rows]
    held = ((beta >= config.max_beta) & (gradient < 0)) | ((beta <= -config.max_beta) & (gradient > 0))
    information = _corrected(unpack(state.xtwx[rows]), rows, steps)
    information[held[:, :, None] | held[:, None, :]] = 0.0
    information += held[:, :, None] * np.eye(beta.shape[1])
    downhill = np.where(held, 0.0, -gradient)
    direction, failed = solve(pack(information), downhill, ridge)
    direction[failed] = downhill[failed]
    return gradient, np.where(held, 0.0, direction), held


def _corrected(information: Floats, rows: Rows, steps: Steps) -> Floats:
    """Fisher's information ``(rows, params, params)``, made to agree with what the score did along the last steps."""
    for step in steps:
        move, turn = step.move[rows], step.turn[rows]
        along = (information * move[:, None, :]).sum(axis=2)
        expected, observed = (move * along).sum(axis=1), (move * turn).sum(axis=1)
        use = np.flatnonzero((observed > _LEAST_CURVATURE * expected) & (expected > 0))
        along, turn = along[use], turn[use]
        information[use] += turn[:, :, None] * turn[:, None, :] / observed[use, None, None]
        information[use] -= along[:, :, None] * along[:, None, :] / expected[use, None, None]
    return information


def _remember(steps: Steps, before: State, after: State, config: CatchConfig) -> Steps:
    """The last steps with the newest; a gene that did not move forgets its own, for they led nowhere."""
    if config.memory == 0:
        return ()
    asked = before.active[:, None]
    move = np.where(asked, after.beta - before.beta, 0.0)
    turn = np.where(asked, config.ridge * move - (after.score - before.score), 0.0)
    stays = np.asarray(np.isfinite(turn).all(axis=1) & move.any(axis=1))[:, None]
    kept = [Step(np.where(stays, step.move, 0.0), np.where(stays, step.turn, 0.0)) for step in steps]
    newest = Step(np.where(stays, move, 0.0), np.where(stays, turn, 0.0))
    return (*kept, newest)[-config.memory :]


def _settle_flat(state: State, steps: Steps, config: CatchConfig) -> State:
    """Genes from which the full step promises less than ftol are caught: no difference of likelihoods is taken.

    Both by Fisher's information and by the corrected one, so that neither's mistake ends a fit.
    """
    rows = np.flatnonzero(state.active)
    rounding = resolution(len(state.parties), config.fraction_bits)
    flat: Mask = np.ones(rows.size, dtype=bool)
    at_box: Mask = np.zeros(rows.size, dtype=bool)
    for known in ((), steps) if steps else ((),):
        gradient, direction, held = _descent(state, rows, config.ridge, known, config)
        at_box = np.asarray(held.any(axis=1))
        promised = -(gradient * direction).sum(axis=1)
        least = np.maximum(config.ftol * np.maximum(np.abs(state.nll[rows]), 1.0), rounding)
        flat = np.asarray(flat & (promised <= least))
    return _caught(state, rows[flat], at_box[flat])


def _caught(state: State, rows: Rows, held: Mask) -> State:
    reason = np.where(held, Reason.CAUGHT_AT_BOX, Reason.CAUGHT_INSIDE)
    return update_rows(state, rows, status=Status.CAUGHT, reason=reason)


def _candidates(state: State, rows: Rows, ridge: Floats, steps: Steps, config: CatchConfig) -> Floats:
    """Where to look: here, so that all values compared are over the same parties, and along ever shorter steps.

    A step longer than the box is shortened to it first, or the halvings of a step from a mean of 1 towards a count
    of a billion, which is a billion long, would all end outside.
    """
    _, direction, _ = _descent(state, rows, ridge[rows], steps, config)
    longest = np.abs(direction).max(axis=1, keepdims=True, initial=0.0)
    direction *= np.minimum(1.0, 2.0 * config.max_beta / np.maximum(longest, config.max_beta))
    sizes = np.concatenate([[0.0], np.ldexp(1.0, -np.arange(config.halvings))])
    path = state.beta[rows, None, :] + sizes[:, None] * direction[:, None, :]
    return np.clip(path, -config.max_beta, config.max_beta)


def _judged(
    state: State, rows: Rows, candidates: Floats, total: Total, config: CatchConfig
) -> tuple[Mask, Floats, Mask]:
    """Which candidates are lost, f at each, and which lower it enough, ``(rows, candidates)`` each."""
    gone = lost(total["nll"], len(total.cohort), config.fraction_bits)
    gradient = config.ridge * state.beta[rows] - state.score[rows]
    value = objective(total["nll"], candidates, config)
    slope = ((candidates - candidates[:, :1]) * gradient[:, None, :]).sum(axis=-1)
    return gone, value, np.asarray(~gone & (value <= value[:, :1] + config.armijo * slope) & (slope < 0))


def _decided(state: State, rows: Rows, candidates: Floats, total: Total, config: CatchConfig) -> Mask:
    """Rows that need no shorter steps, ``(rows,)``: one of these lowers f, there are no others, or the gene is lost."""
    gone, _, enough = _judged(state, rows, candidates, total, config)
    return np.asarray(enough.any(axis=1) | gone[:, 0] | (candidates.shape[1] > config.halvings))


def _advance(
    state: State, rows: Rows, ridge: Floats, candidates: Floats, total: Total, config: CatchConfig, *, last: bool
) -> tuple[State, Floats]:
    """Take the longest step that lowers f enough (Armijo along the projected path); without one, damp more.

    Along a kink of the clamped f steps lower it less and less: who creeps or stands in the last one has arrived.
    """
    here = np.arange(rows.size)
    gone, value, enough = _judged(state, rows, candidates, total, config)
    moved = enough.any(axis=1) & ~gone[:, 0]
    chosen = np.where(moved, enough.argmax(axis=1), 0)

    fell = value[:, 0] - value[here, chosen]
    damped = ridge[rows]
    scale = np.maximum(np.abs(value[:, 0]), 1.0)
    rounding = resolution(len(total.parties), config.fraction_bits)
    settled = moved & (fell <= np.maximum(config.ftol * scale, rounding)) & (damped <= config.ridge)
    stuck = ~moved & ~gone[:, 0] & (damped >= config.first_ridge)
    creeps = ~gone[:, 0] & ~(fell > _CREEPING * scale) & last
    at_clamp = (stuck | creeps) & (config.min_mu > 0)
    states = [(gone[:, 0], Status.FAILED, Reason.LOST), (settled, Status.CAUGHT, Reason.CAUGHT_INSIDE)]
    states += [(at_clamp, Status.CAUGHT, Reason.CAUGHT_AT_CLAMP), (stuck, Status.FAILED, Reason.NO_DESCENT)]
    conditions = [condition for condition, _, _ in states]
    ridge = ridge.copy()
    ridge[rows] = np.where(
        moved,
        np.maximum(damped * _RIDGE_FALLS, config.ridge),
        np.minimum(damped * _RIDGE_RISES, config.first_ridge),
    )
    known = ~gone[:, 0]
    return (
        update_rows(
            replace(state, cohorts=(*state.cohorts, total.parties)),
            rows,
            status=np.select(conditions, [status for _, status, _ in states], Status.ACTIVE),
            reason=np.select(conditions, [reason for _, _, reason in states], Reason.NONE),
            beta=candidates[here, chosen],
            nll=np.where(known, total["nll"][here, chosen], np.nan),
            xtwx=np.where(known[:, None], total["xtwx"][here, chosen], np.nan),
            score=np.where(known[:, None], total["score"][here, chosen], np.nan),
            iterations=state.iterations[rows] + moved,
            evaluated=len(state.cohorts),
        ),
        ridge,
    )
