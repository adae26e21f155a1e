"""Newton's method on the likelihood without a floor under the means, for genes that clamped IRLS does not settle.

Promises: no query when no gene needs it; afterwards every gene it tried is caught, or failed with a reason; what it
finds is the one minimum of a convex function in a box, so it does not depend on where it begins. Refuses to know:
protocols, sites, rounds.

Minimised is ``f(beta) = nll(beta) + ridge |beta|^2 / 2`` over ``|beta| <= box``, with the observed information as
curvature and a step that is optimal inside the box (`algebra.box_step`). R's DESeq2 gives these genes to a
general optimiser, which looks for the same minimum and mostly stops before it. `descend` does the same for whatever
stands beside nll.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.groundwork.normalisation import known_size_factors
from secirls.algorithms.query import Algorithm, Query, QueryError, Total, portions
from secirls.algorithms.regression.irls import State, update_rows
from secirls.algorithms.regression.irls_queries import IrlsQuery, check_beta
from secirls.algorithms.sent_products import check_expand, expand_field, opened, sent, sent_entries
from secirls.algorithms.summands import EXACT, lost, resolution
from secirls.numerics.algebra.box_step import box_step
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import packed_size, with_ridge
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.inference.shrinkage import OTHERS_CURVATURE
from secirls.numerics.own.coefficients import BEST, R_BOX, best_sums
from secirls.numerics.regression.unclamped import unclamped_sums
from secirls.numerics.status import Reason, Status
from secirls.presets import R_RIDGE

_ROUNDING = 64 * np.finfo(np.float64).eps
"""Relative to max(|f|, 1): by how much a value may seem to rise from rounding alone."""
_EDGE = 1.0 - 1e-12
"""Coefficients beyond this share of the box are on it: a sum of floats need not end where it should."""
_SMALLEST_SHARE = 0.5**40
"""Of a step; a gene that needs less has nowhere to go."""
OWN_RIDGES = (0.0, OTHERS_CURVATURE)
"""Of own columns: none, or that of shrinkage; a stronger one would hold their coefficients where no fit looks."""
Cohorts: TypeAlias = tuple[tuple[str, ...], ...]
"""The parties in each round's sum."""


@dataclass(frozen=True)
class Descending(ABC):
    """What stands beside nll in the function that is minimised, and when a descent stops."""

    decrement: float = 1e-11
    """A gene is settled when its step promises to lower f by less than about this."""
    armijo: float = 1e-4
    """A step must lower f by this share of what its slope promises."""
    max_iter: int = 200
    """Rounds."""
    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""
    products: Products | None = field(default=None, compare=False)
    """Which entries of matrices are sent, the same for everyone; all if not given."""

    own_ridge: ClassVar[float] = 0.0
    """Precision of the normal prior on coefficients of sites' own columns, which sites add to what they send."""

    def __post_init__(self) -> None:
        if not (self.decrement > 0 and 0 < self.armijo < 0.5):
            raise ValueError("decrement is above zero, armijo is below one half")
        if self.max_iter < 1:
            raise ValueError("max_iter is 1 or more")

    @abstractmethod
    def penalty(self, beta: Floats) -> Floats:
        """What is added to nll at coefficients ``(genes, params)``: ``(genes,)``."""

    @abstractmethod
    def step(self, beta: Floats, score: Floats, information: Floats) -> tuple[Floats, Floats, Mask]:
        """The step from coefficients ``(genes, params)``, the slope of f along it, and which genes the box holds.

        From the score of the likelihood there and the upper triangles of nll's second derivative.
        """

    def within(self, beta: Floats) -> Floats:
        """Coefficients about to be tried, in the box if there is one."""
        return beta


@dataclass(frozen=True)
class NewtonConfig(Descending):
    """A ridge, in a box."""

    ridge: float = R_RIDGE
    """Of the objective."""
    box: float = R_BOX
    """Largest magnitude of a coefficient, natural log."""
    min_mu: float = 0.5
    """Means are clamped below at this in the X'WX that is left for standard errors."""
    own: bool = False
    """Whether some site has columns of its own."""
    errors: bool = True
    """Whether X'WX for standard errors is asked for afterwards."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.ridge > 0 and self.box > 0 and self.min_mu >= 0):
            raise ValueError("ridge and box are above zero, min_mu is zero or more")

    def penalty(self, beta: Floats) -> Floats:
        """Half the ridge times the squares."""
        half: Floats = 0.5 * self.ridge * (beta * beta).sum(axis=1)
        return half

    def step(self, beta: Floats, score: Floats, information: Floats) -> tuple[Floats, Floats, Mask]:
        """Newton's step, optimal inside the box."""
        gradient = self.ridge * beta - score
        step, held = box_step(with_ridge(information, self.ridge, beta.shape[1]), gradient, beta, self.box)
        return step, np.asarray((gradient * step).sum(axis=1)), np.asarray(held.any(axis=1))

    def within(self, beta: Floats) -> Floats:
        """On the box where nearly there."""
        return np.where(np.abs(beta) > _EDGE * self.box, np.copysign(self.box, beta), beta)


@dataclass(frozen=True)
class UnclampedQuery(Query):
    """Negative log-likelihood, its slope and its observed curvature at given coefficients, means not clamped.

    Its sum shows, by gene, a value and derivatives that are sums over all samples of all sites, as `IrlsQuery` does;
    the same rules keep a site, a small cell and one sample out of it: ``min_contributors``, lonely columns, thin cells,
    and the budget of values per gene. A prior on own coefficients is added at home, where they are eliminated, so that
    neither they nor it can be seen in the sum.
    """

    beta: Floats
    """Natural-log coefficients, ``(genes asked, params)``."""
    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""
    expand: Floats = field(default_factory=lambda: np.zeros(0))
    """Which products of columns are sent, as in `IrlsQuery`."""
    own_ridge: float = 0.0
    """Precision of a normal prior around zero on coefficients of a site's own columns; zero for none."""

    kind: ClassVar[str] = "unclamped"
    may_shrink: ClassVar[bool] = True
    sign: ClassVar[str] = "nll"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed, by gene."""
        genes, params = self.beta.shape
        return {"nll": (genes,), "score": (genes, params), "information": (genes, sent_entries(self.expand, params))}

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site: NaN, which is signed as lost, where it has no size factors."""
        s = known_size_factors(samples)
        if samples.dispersions is None:
            raise QueryError("this site has no dispersions yet: the query that brings them was not asked")
        if np.isnan(s).any():
            return {name: np.full(shape, np.nan) for name, shape in self.shapes().items()}
        if samples.own is None:
            nll, score, information = unclamped_sums(samples, self.beta)
        else:  # at the best coefficients of this site's own columns
            information, score, nll = best_sums(samples, self.beta, ridge=self.own_ridge)
        return {"nll": nll, "score": score, "information": sent(self, information, samples, self.expand)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_beta(self, self.beta, n_params)
        check_expand(self, self.expand, n_params)
        if self.own_ridge not in OWN_RIDGES:
            raise QueryError(f"query {self.kind!r}: own_ridge is one of {', '.join(map(repr, OWN_RIDGES))}")


@dataclass(frozen=True)
class Descent:
    """A descent in progress or done: arrays by row of the genes it is about."""

    beta: Floats
    """The point last accepted, ``(rows, params)``."""
    value: Floats
    """f there, ``(rows,)``; infinite before the first, and where other parties answered since."""
    nll: Floats
    score: Floats
    information: Floats
    """Upper triangles of nll's second derivative there, ``(rows, params (params + 1) / 2)``."""
    step: Floats
    """From there, ``(rows, params)``."""
    slope: Floats
    """Along the step, ``(rows,)``."""
    size: Floats
    """The share of the step that is tried next, ``(rows,)``: a power of one half."""
    status: NDArray[np.int8]
    reason: NDArray[np.int8]
    evaluated: NDArray[np.int32]
    """Which of the cohorts the accepted values are over, ``(rows,)``."""

    @classmethod
    def begin(cls, beta: Floats) -> Descent:
        """Before the first round."""
        rows, params = beta.shape
        none, zero, whole = np.full(rows, np.nan), np.zeros(rows), np.zeros(rows, dtype=np.int8)
        return cls(
            beta=beta,
            value=np.full(rows, np.inf),
            nll=none,
            score=np.full_like(beta, np.nan),
            information=np.full((rows, packed_size(params)), np.nan),
            step=np.zeros_like(beta),
            slope=zero,
            size=np.ones(rows),
            status=whole,
            reason=whole,
            evaluated=np.full(rows, -1, dtype=np.int32),
        )

    def changed(self, rows: NDArray[np.intp], **values: Any) -> Descent:
        """The descent with some fields changed in some rows."""
        arrays = {}
        for name, value in values.items():
            arrays[name] = getattr(self, name).copy()
            arrays[name][rows] = value
        return replace(self, **arrays)


def newton(state: State, genes: Mask, config: NewtonConfig) -> Algorithm[State]:
    """Bring some genes ``(genes,)`` to their minimum, from beta where it lies in the box; others are not asked about.

    Afterwards `State.nll` and `State.score` are those of the likelihood without a clamp, `State.xtwx` is clamped.
    """
    chosen = np.flatnonzero(genes)
    if not chosen.size:
        return state
    inside = (np.abs(state.beta[chosen]) <= config.box).all(axis=1, keepdims=True)
    begin = np.where(inside, state.beta[chosen], state.start[chosen])
    begin = np.clip(begin, -config.box, config.box)
    descent, cohorts = yield from descend(begin, genes, config, state.cohorts)
    names = ("beta", "nll", "score", "status", "reason", "evaluated")
    values = {name: getattr(descent, name) for name in names}
    return (yield from _information(update_rows(replace(state, cohorts=cohorts), chosen, **values), genes, config))


def descend(
    begin: Floats, genes: Mask, config: Descending, cohorts: Cohorts = ()
) -> Algorithm[tuple[Descent, Cohorts]]:
    """Minimise nll and what `config` puts beside it, for some genes ``(genes,)`` from ``begin``, ``(rows, params)``.

    Afterwards no gene is active: settled ones are ``CAUGHT``, others ``FAILED`` with a reason. Gives also the parties
    in every round's sum, after those in ``cohorts``.
    """
    chosen, descent = np.flatnonzero(genes), Descent.begin(begin)
    params = begin.shape[1]
    row_of = np.zeros(genes.size, dtype=np.intp)
    row_of[chosen] = np.arange(chosen.size)
    for _ in range(config.max_iter):
        asked = np.zeros(genes.size, dtype=bool)
        asked[chosen[descent.status == Status.ACTIVE]] = True
        for some in portions(asked, 1, 1 + params + packed_size(params)):
            going = row_of[some]
            tried = config.within(descent.beta[going] + descent.size[going, None] * descent.step[going])
            entries = expand_field(config.products)
            total = yield UnclampedQuery(some, tried, config.fraction_bits, entries, config.own_ridge)
            cohorts = (*cohorts, total.parties)
            # A value over others can't be compared with: go on from where it was looked.
            same = np.array([parties == total.parties for parties in cohorts])
            descent = descent.changed(going[~same[descent.evaluated[going]]], value=np.inf)
            descent = _judge(descent, going, tried, total, len(cohorts) - 1, config)
    left = np.flatnonzero(descent.status == Status.ACTIVE)
    return descent.changed(left, status=Status.FAILED, reason=Reason.NEWTON_OUT_OF_ITERATIONS), cohorts


def _judge(
    descent: Descent, going: NDArray[np.intp], tried: Floats, total: Total, cohort: int, config: Descending
) -> Descent:
    """Take the points that are low enough and find their next steps; halve the steps of the others."""
    flat = resolution(len(total.parties), config.fraction_bits)
    gone = lost(total["nll"], len(total.cohort), config.fraction_bits)
    value = total["nll"] + config.penalty(tried)
    before, size = descent.value[going], descent.size[going]
    with np.errstate(invalid="ignore"):
        slack = 2.0 * flat + _ROUNDING * np.maximum(np.abs(value), 1.0)
        taken = ~gone & (value <= before + config.armijo * size * descent.slope[going] + slack)
    stuck = ~taken & (~np.isfinite(before) | (size < _SMALLEST_SHARE))
    descent = descent.changed(going, size=np.where(taken, 1.0, 0.5 * size))
    descent = descent.changed(
        going[stuck],
        status=Status.FAILED,
        reason=np.where(gone[stuck], Reason.LOST, Reason.NO_DESCENT),
    )
    here, at = np.flatnonzero(taken), going[taken]
    beta, score = tried[here], total["score"][here]
    information = opened(total["information"][here], config.products)
    step, slope, held = config.step(beta, score, information)
    settled = -slope <= max(config.decrement, flat)
    at_box = np.where(held, Reason.NEWTON_AT_BOX, Reason.NEWTON_INSIDE)
    return descent.changed(
        at,
        beta=beta,
        value=value[here],
        nll=total["nll"][here],
        score=score,
        information=information,
        step=step,
        slope=slope,
        status=np.where(settled, Status.CAUGHT, Status.ACTIVE),
        reason=np.where(settled, at_box, Reason.NONE),
        evaluated=cohort,
    )


def _information(state: State, genes: Mask, config: NewtonConfig) -> Algorithm[State]:
    """The state with X'WX at clamped means for the genes that were caught, in one round."""
    asked = genes & (state.status == Status.CAUGHT)
    if not asked.any() or not config.errors:
        return state
    entries = expand_field(config.products)
    steps = np.full(int(asked.sum()), float(BEST)) if config.own else np.zeros(0)
    total = yield IrlsQuery(asked, state.beta[asked], config.min_mu, config.fraction_bits, entries, steps)
    rows = np.flatnonzero(asked)
    gone = lost(total["nll"], len(total.cohort), config.fraction_bits)
    state = update_rows(
        replace(state, cohorts=(*state.cohorts, total.parties)),
        rows,
        xtwx=np.where(gone[:, None], np.nan, opened(total["xtwx"], config.products)),
    )
    return update_rows(state, rows[gone], status=Status.FAILED, reason=Reason.LOST)
