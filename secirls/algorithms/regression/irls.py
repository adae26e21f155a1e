"""FedIRLS: one negative-binomial regression per gene by iteratively reweighted least squares over sums.

Promises: a round asks for X'WX, X'Wz and the negative log-likelihood of the active genes and for nothing
else; every gene leaves with a status; no gene harms another. Refuses to know: protocols, sites, rounds.
Love, Huber and Anders (2014); Muzellec, Marteau-Ferey and Marchand (2024) for the federated form.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.query import Algorithm, Total, portions
from secirls.algorithms.regression.irls_queries import IrlsQuery, LeastSquaresQuery
from secirls.algorithms.regression.known_information import KnownInformation, ask_the_rest
from secirls.algorithms.sent_products import expand_field, opened
from secirls.algorithms.summands import EXACT, lost, resolution
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import packed_size, solve, times
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.own.coefficients import BEST
from secirls.numerics.status import EXCLUDED, Reason, Status, sentences
from secirls.presets import R_RIDGE

NOISE = 64 * np.finfo(np.float64).eps
STANDSTILL = 1e-11
"""When beta no longer moves: see `step`."""


@dataclass(frozen=True)
class IrlsConfig:
    """When IRLS stops, and what it never goes beyond."""

    min_mu: float = 0.5
    """Means are clamped below at this."""
    beta_tol: float = 1e-8
    """A gene is converged when its deviance changes relatively by no more than this."""
    max_beta: float = 30.0
    """A gene with a larger coefficient (natural log) has diverged."""
    ridge: float = 1e-6
    """Added to the diagonal of X'WX at the solve."""
    max_iter: int = 250
    """Updates of beta; one evaluation more than that."""
    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""
    compare_from: int = 1
    """The first update whose deviance is compared with the one before."""
    by_deviance_alone: bool = False
    """Whether a gene settles by its deviance before its last update, and by nothing else."""
    products: Products | None = field(default=None, compare=False)
    """Which entries of X'WX are sent, the same for everyone; all if not given."""
    own: bool = False
    """Whether some site has columns of its own, whose coefficients follow the table's step by step."""
    known: KnownInformation | None = field(default=None, compare=False)
    """What X'WX follows from, if it need not be asked for."""
    columns: int = 0
    """Design columns that sites answer about, if they are more than the coefficients (see `restricted`)."""

    def __post_init__(self) -> None:
        if not (self.min_mu >= 0 and self.beta_tol >= 0 and self.max_beta > 0 and self.ridge >= 0):
            raise ValueError("min_mu, beta_tol and ridge are zero or more, max_beta is above zero")
        if self.max_iter < 0:
            raise ValueError(f"max_iter is zero or more, not {self.max_iter}")

    @classmethod
    def deseq2(cls) -> IrlsConfig:
        """As R's DESeq2: up to 100 updates, the deviance of the start is not looked at; the rest goes to `newton`."""
        return cls(ridge=R_RIDGE, max_iter=100, compare_from=2, by_deviance_alone=True)


@dataclass(frozen=True)
class State:
    """A fit in progress, over all agreed genes. Public by construction: it is made of sums and of nothing else."""

    status: NDArray[np.int8]
    """`Status` of each gene, ``(genes,)``."""
    reason: NDArray[np.int8]
    """`Reason` of each gene, ``(genes,)``."""
    start: Floats
    """beta_0, where the catch starts again, ``(genes, params)``; NaN for excluded genes."""
    beta: Floats
    """Coefficients, natural log, ``(genes, params)``: the next to evaluate while active, then the last evaluated."""
    nll: Floats
    """Negative log-likelihood at the beta last evaluated, ``(genes,)``; NaN before the first round."""
    xtwx: Floats
    """Upper triangle of X'WX at the beta last evaluated, ``(genes, params (params + 1) / 2)``."""
    score: Floats
    """X'Wz - X'WX beta at the beta last evaluated, ``(genes, params)``: how far from settled."""
    iterations: NDArray[np.int32]
    """Updates of beta so far, ``(genes,)``."""
    evaluated: NDArray[np.int32]
    """Which of `cohorts` the gene's last sums are over, ``(genes,)``; -1 before the first round."""
    cohorts: tuple[tuple[str, ...], ...] = ()
    """The parties in each round's sum."""

    @classmethod
    def begin(cls, status: NDArray[np.int8], start: Floats, reason: NDArray[np.int8] | None = None) -> State:
        """The state before the first round; genes that are excluded, or failed before, keep status and ``reason``."""
        genes, params = start.shape
        reason = np.zeros(genes, dtype=np.int8) if reason is None else reason.astype(np.int8)
        for excluded, why in EXCLUDED.items():
            reason[status == excluded] = why
        start = np.where((status == Status.ACTIVE)[:, None], start, np.nan)
        return cls(
            status=status.astype(np.int8),
            reason=reason,
            start=start,
            beta=start,
            nll=np.full(genes, np.nan),
            xtwx=np.full((genes, packed_size(params)), np.nan),
            score=np.full((genes, params), np.nan),
            iterations=np.zeros(genes, dtype=np.int32),
            evaluated=np.full(genes, -1, dtype=np.int32),
        )

    @property
    def active(self) -> Mask:
        """Genes still being fitted, ``(genes,)``."""
        return np.equal(self.status, Status.ACTIVE)

    @property
    def irls_diverged_mask(self) -> Mask:
        """The reference's mask of genes that IRLS lost, ``(genes,)``."""
        return np.equal(self.status, Status.DIVERGED)

    @property
    def fitted(self) -> Mask:
        """Genes whose coefficients are an answer, ``(genes,)``."""
        return np.isin(self.status, (Status.CONVERGED, Status.CAUGHT))

    @property
    def parties(self) -> tuple[str, ...]:
        """Who is in the last sum."""
        return self.cohorts[-1] if self.cohorts else ()

    def reasons(self) -> dict[int, str]:
        """A sentence for every gene that did not simply converge, by index."""
        return sentences(self.reason)

    def counts(self) -> dict[str, int]:
        """How many genes have which status, by its word in the results table."""
        return {status.label: int((self.status == status).sum()) for status in Status}

    def replaced(self, other: State, genes: Mask) -> State:
        """This fit with some genes taken from another fit of the same genes (refit mode)."""
        mine, theirs = len(self.cohorts), other.evaluated
        shifted = replace(other, evaluated=np.where(theirs < 0, theirs, theirs + mine).astype(np.int32))
        fields = ("status", "reason", "start", "beta", "nll", "xtwx", "score", "iterations", "evaluated")
        chosen = {}
        for name in fields:
            array = getattr(self, name).copy()
            array[genes] = getattr(shifted, name)[genes]
            chosen[name] = array
        return replace(self, **chosen, cohorts=self.cohorts + other.cohorts)


def steps_field(state: State, genes: Mask, *, own: bool) -> Floats:
    """What a query says of where own coefficients are: at the step its gene is at, or the best, after Newton."""
    if not own:
        return np.zeros(0)
    caught = state.status[genes] == Status.CAUGHT
    return np.where(caught, float(BEST), state.iterations[genes].astype(np.float64))


def least_squares_start(
    status: NDArray[np.int8],
    params: int,
    config: IrlsConfig,
    reason: NDArray[np.int8] | None = None,
) -> Algorithm[State]:
    """Where IRLS starts, in one round: the least-squares coefficients of log(y / s + 0.1).

    Parameters
    ----------
    status
        `Status` of each agreed gene, ``(genes,)``: those not ``ACTIVE`` are never asked about.
    params
        Columns of the design.
    reason
        `Reason` of the genes that failed before, ``(genes,)``.

    Raises
    ------
    ValueError
        If the design is rank-deficient over all samples.
    """
    active = status == Status.ACTIVE
    start = np.full((status.size, params), np.nan)
    if not active.any():
        return State.begin(status, start, reason)
    query = LeastSquaresQuery(active, params, expand_field(config.products))
    total = yield query
    gone = query.lost(total).any(axis=1)
    known = active.copy()
    known[active] = ~gone
    repeated = np.broadcast_to(opened(total["xtx"], config.products), (int(known.sum()), packed_size(params)))
    start[known], failed = solve(np.ascontiguousarray(repeated), total["xty"][~gone])
    if failed.any():
        raise ValueError("the design is rank-deficient over all samples: its X'X can't be inverted")
    state = State.begin(status, np.clip(start, -config.max_beta, config.max_beta), reason)
    return update_rows(state, np.flatnonzero(active & ~known), status=Status.FAILED, reason=Reason.LOST)


def irls(state: State, config: IrlsConfig) -> Algorithm[State]:
    """Run IRLS until no gene is active or the iterations are used up; such genes stay ``ACTIVE``, for the catch."""
    for _ in range(config.max_iter + 1):
        if not state.active.any():
            break
        state = yield from one_round(state, config)
    return state


def one_round(state: State, config: IrlsConfig, last: NDArray[np.int32] | None = None) -> Algorithm[State]:
    """Evaluate the active genes and step, in as many questions as their number needs.

    ``last`` is the update after which each gene is out of iterations, ``(genes,)``, where some are earlier than others.
    """
    params = max(state.beta.shape[1], config.columns)
    fields = config.min_mu, config.fraction_bits, expand_field(config.products)
    known = config.known
    if known is not None and state.cohorts and not known.information.over(state.parties):
        known = None
    for genes in portions(state.active, 1, packed_size(params) + params + 1):
        query = IrlsQuery(genes, state.beta[genes], *fields, steps_field(state, genes, own=config.own))
        total = yield from _ask(query, known)
        waiting = replace(state, status=np.where(genes, state.status, Status.DIVERGED).astype(np.int8))
        after = step(waiting, total, config, last)
        state = replace(after, status=np.where(genes, after.status, state.status).astype(np.int8))
    return state


def _ask(query: IrlsQuery, known: KnownInformation | None) -> Algorithm[Total]:
    """The total of a question, of which what is known is not asked."""
    if known is None:
        return (yield query)
    xtwx, follows = known.at(query.genes, query.beta, query.min_mu)
    rest = replace(query, with_xtwx=~follows)
    return (yield from ask_the_rest(known.information, query, rest, "xtwx", xtwx, follows))


def step(state: State, total: Total, config: IrlsConfig, last: NDArray[np.int32] | None = None) -> State:
    """One round: judge the beta that was evaluated, and update the genes that go on.

    A gene is converged when its deviance and the one before, over the same parties, differ by at most
    beta_tol relative to ``|deviance| + 0.1``; the first evaluation, or the first over other parties, has
    nothing to compare with.

    Below about 1e-12 deviances are equal to rounding and can't be compared. What can is the step itself: with
    the update d, ``sqrt(d' X'WX d)`` is its length in standard errors (Newton's decrement), and takes no difference
    of large numbers. A gene stands still, and is converged, when that length is at most 1e-11, or at most
    64 roundings of ``sqrt(beta' X'WX beta)``, the length of beta itself, which is what solving for
    beta leaves of precision. Such a step changes nll by less than its rounding.

    Where R's DESeq2 is followed (`IrlsConfig.by_deviance_alone`), standing still is not looked for, and a gene that
    uses its last update is not settled by it; deviances are compared from `IrlsConfig.compare_from` on.

    With fewer fraction bits two likelihoods that differ by no more than the sites' roundings are equal.

    A gene whose own coefficients have left the box at some site is told as lost; it keeps the sums of the step before.
    """
    asked = np.flatnonzero(state.active)
    most = np.full(asked.size, config.max_iter) if last is None else last[asked]
    xtwx, xtwz, nll = opened(total["xtwx"], config.products), total["xtwz"], total["nll"]
    beta, cohorts = state.beta[asked], (*state.cohorts, total.parties)
    earlier = [i for i, parties in enumerate(state.cohorts) if set(parties) == set(total.parties)]
    comparable = np.isin(state.evaluated[asked], earlier)
    gone = lost(nll, len(total.cohort), config.fraction_bits)
    flat = resolution(len(total.parties), config.fraction_bits)

    with np.errstate(invalid="ignore"):
        change = np.abs(2.0 * nll - 2.0 * state.nll[asked]) / (np.abs(2.0 * nll) + 0.1)
        close = (change <= config.beta_tol) | (np.abs(nll - state.nll[asked]) <= flat)
        settled = comparable & close & ~gone & (state.iterations[asked] >= config.compare_from)
    if config.by_deviance_alone:
        settled &= state.iterations[asked] < most
    moving = ~settled & ~gone
    following, singular = beta.copy(), np.zeros_like(gone)
    following[moving], singular[moving] = solve(xtwx[moving], xtwz[moving], config.ridge)
    still = moving & ~singular & _stands_still(xtwx, beta, following - beta)
    if config.by_deviance_alone:
        still[:] = False
    settled |= still
    beyond = moving & ~still & ~singular & (np.abs(following) > config.max_beta).any(axis=1)
    exhausted = moving & ~still & ~singular & ~beyond & (state.iterations[asked] >= most)
    goes_on = moving & ~still & ~singular & ~beyond & ~exhausted

    status = np.select([settled, gone | singular | beyond], [Status.CONVERGED, Status.DIVERGED], Status.ACTIVE)
    away = gone & (state.iterations[asked] > 0) & config.own
    reasons = [Reason.OWN_BEYOND_BOX, Reason.LOST, Reason.SINGULAR, Reason.BEYOND_BOX, Reason.OUT_OF_ITERATIONS]
    reason = np.select([away, gone, singular, beyond, exhausted], reasons, Reason.NONE)
    unknown = np.where(away, state.nll[asked], np.nan), np.where(away[:, None], state.xtwx[asked], np.nan)
    return update_rows(
        replace(state, cohorts=cohorts),
        asked,
        status=status,
        reason=reason,
        beta=np.where(goes_on[:, None], following, beta),
        nll=np.where(gone, unknown[0], nll),
        xtwx=np.where(gone[:, None], unknown[1], xtwx),
        score=np.where(gone[:, None], np.nan, xtwz - times(xtwx, beta)),
        iterations=state.iterations[asked] + goes_on,
        evaluated=len(cohorts) - 1,
    )


def _stands_still(xtwx: Floats, beta: Floats, move: Floats) -> Mask:
    """Whether a step is shorter than 1e-11 standard errors, or than the roundings of beta: see `step`."""
    moved = np.sqrt(np.maximum((move * times(xtwx, move)).sum(axis=1), 0.0))
    length = np.sqrt(np.maximum((beta * times(xtwx, beta)).sum(axis=1), 0.0))
    still: Mask = moved <= np.maximum(STANDSTILL, NOISE * length)
    return still


def update_rows(state: State, rows: NDArray[np.intp], **values: Any) -> State:
    """The state with some fields changed for some genes, given by index."""
    changed = {}
    for name, value in values.items():
        changed[name] = getattr(state, name).copy()
        changed[name][rows] = value
    return replace(state, **changed)
