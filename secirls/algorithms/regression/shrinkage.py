"""Fold changes drawn towards zero: the maximum a posteriori of one coefficient of every gene under apeglm's prior.

Promises: one kind of question, that of `unclamped`, and no other; coefficients of the fit stay as they are; a gene that
can't be brought to a minimum has NaN and a reason, and the others go on. Refuses to know: protocols, sites, rounds.
Zhu, Ibrahim and Love (2019); see `secirls.numerics.inference.shrinkage` for the prior.

The Cauchy prior makes f bimodal where data and prior disagree. With the other coefficients at their best, the rest of
f is convex in this one, so every minimum lies between zero, where the prior has its own, and the maximum likelihood
estimate. Each gene descends from both, and where it ends lower is the estimate. (apeglm begins at (0.1, -0.1, ...)
alone, from where more steps lead to the same minima.)

Coefficients of sites' own columns have the normal prior of all others, around zero, and so much of it as belongs to
a site is added and eliminated there. What comes out is the joint fit in which each of these columns is a column with
its own coefficient: that of ``~ 0 + site + condition``, where the formula says ``~ site + condition``. In the latter's
dummies the prior would be on differences to the reference site, whose coefficient every other site would have to know.

With numeric columns the prior is on coefficients of the user's, own ones too. What those are, a site follows from its
scaled ones and the table's, ``delta = A delta~ + B beta~`` (`covariates.Back`), so that half the ridge
times ``|delta|^2`` is a quadratic of what it eliminates and of what it is asked about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.groundwork.scaling import Scaled
from secirls.algorithms.query import Algorithm
from secirls.algorithms.regression.irls import State
from secirls.algorithms.regression.unclamped import Cohorts, Descending, Descent, descend
from secirls.algorithms.summands import EXACT, resolution
from secirls.inputs.designs.design import Design
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.inference.shrinkage import OTHERS_CURVATURE, Prior
from secirls.numerics.status import Reason, Status

DEEPER = 1e-8
"""A minimum is another one where f is lower by more than this: descents stop that near to theirs."""


@dataclass(frozen=True)
class ShrinkageConfig(Descending):
    """apeglm's prior beside nll, and when a descent stops."""

    decrement: float = 1e-10
    prior: Prior = field(default_factory=lambda: Prior(1.0, 0))

    own_ridge: ClassVar[float] = OTHERS_CURVATURE

    def penalty(self, beta: Floats) -> Floats:
        """The prior's negative log density, constants aside."""
        return self.prior.penalty(beta)

    def step(self, beta: Floats, score: Floats, information: Floats) -> tuple[Floats, Floats, Mask]:
        """Newton's step, or that of the majorant; there is no box."""
        step, slope = self.prior.step(beta, score, information)
        return step, slope, np.zeros(slope.shape, dtype=bool)


@dataclass(frozen=True)
class Shrinkage:
    """What becomes of one coefficient, arrays over all agreed genes."""

    coefficient: int
    """Which, among the columns of the table."""
    scale: float
    """Of the Cauchy prior, natural log; NaN where no gene has an estimate."""
    estimate: Floats
    """Maximum a posteriori, natural log, ``(genes,)``; NaN where there is none."""
    deviation: Floats
    """Posterior standard deviation, by the curvature there, natural log, ``(genes,)``."""
    reason: NDArray[np.int8]
    """`Reason` of the genes that were asked about and have none, ``(genes,)``."""
    second: Mask
    """Genes whose lower minimum is the one next to zero, ``(genes,)``."""

    @classmethod
    def nothing(cls, genes: int, coefficient: int) -> Shrinkage:
        """Of no gene."""
        none = np.full(genes, np.nan)
        return cls(coefficient, np.nan, none, none, np.zeros(genes, dtype=np.int8), np.zeros(genes, dtype=bool))


def check_shrinkage(name: str, design: Design) -> None:
    """Raise `InputError` unless the coefficient of this column can be drawn towards zero."""
    design.column(name, "shrink")


def shrink(
    state: State,
    variances: Floats,
    coefficient: int,
    products: Products | None = None,
    fraction_bits: int = EXACT,
    scaled: Scaled | None = None,
) -> Algorithm[Shrinkage]:
    """Draw one coefficient of every fitted gene towards zero, at the dispersions that sites hold.

    ``variances`` are the squared standard errors of its estimates, natural log, ``(genes,)``; genes without one are
    neither asked about nor part of the prior. With columns ``scaled`` in the fit, steps are as long as
    those in its coefficients, and zero is gone to as there: a slope turns about the centre of its column.
    """
    with np.errstate(invalid="ignore"):
        genes = state.fitted & (variances > 0) & np.isfinite(variances)
    none = Shrinkage.nothing(genes.size, coefficient)
    if not genes.any():
        return none
    estimates = state.beta[genes]
    prior = Prior.adapted(
        estimates[:, coefficient], variances[genes], coefficient, None if scaled is None else scaled.from_user
    )
    config = ShrinkageConfig(prior=prior, products=products, fraction_bits=fraction_bits)
    first, cohorts = yield from descend(estimates, genes, config)
    begin = first.beta.copy()
    if scaled is not None:
        turned = scaled.to_user[:, coefficient] / scaled.to_user[coefficient, coefficient]
        begin -= begin[:, [coefficient]] * turned
    begin[:, coefficient] = 0.0
    other, cohorts = yield from descend(begin, genes, config, cohorts)
    lower = _is_lower(other, first, cohorts, fraction_bits)
    ours, theirs = _ends(first, prior), _ends(other, prior)
    estimate, deviation, reason = none.estimate.copy(), none.deviation.copy(), none.reason.copy()
    # Where a descent did not settle though it got below the other's minimum, the lower minimum is not known.
    above = ~lower & _is_deeper(other, first, cohorts, fraction_bits) & (first.status == Status.CAUGHT)
    below = lower & _is_deeper(first, other, cohorts, fraction_bits)
    known = ~(above | below)
    estimate[genes] = np.where(known, np.where(lower, theirs.estimate, ours.estimate), np.nan)
    deviation[genes] = np.where(known, np.where(lower, theirs.deviation, ours.deviation), np.nan)
    reason[genes] = np.select([above, below], [other.reason, first.reason], np.where(lower, theirs.reason, ours.reason))
    lower &= known
    second = none.second.copy()
    second[genes] = lower
    return Shrinkage(coefficient, prior.scale, estimate, deviation, reason, second)


def _is_lower(other: Descent, first: Descent, cohorts: Cohorts, fraction_bits: int) -> Mask:
    """Where the other descent is settled and the first is not, or ended higher over the same parties, ``(rows,)``."""
    both = (other.status == Status.CAUGHT) & (first.status == Status.CAUGHT)
    return np.where(both, _is_deeper(other, first, cohorts, fraction_bits), other.status == Status.CAUGHT)


def _is_deeper(one: Descent, than: Descent, cohorts: Cohorts, fraction_bits: int) -> Mask:
    """Where one descent got lower than another over the same parties, by more than rounding, ``(rows,)``."""
    flat = max(resolution(len(parties), fraction_bits) for parties in cohorts)
    same = np.array([cohorts[a] == cohorts[b] for a, b in zip(one.evaluated, than.evaluated, strict=True)])
    with np.errstate(invalid="ignore"):
        slack = 2.0 * flat + DEEPER * np.maximum(1e-3 * np.abs(than.value), 1.0)
        return np.asarray(same & (one.value < than.value - slack))


class _Ends(NamedTuple):
    """Where descents ended, arrays by row: as in `Shrinkage`."""

    estimate: Floats
    deviation: Floats
    reason: NDArray[np.int8]


def _ends(descent: Descent, prior: Prior) -> _Ends:
    """Estimate, deviation and reason of each row: NaN for genes that did not settle, or where f is not curved.

    The last step, which promised less than the decrement, is taken: it costs no round and squares the error.
    """
    at = prior.coefficient
    settled = descent.status == Status.CAUGHT
    variances = prior.variances(descent.beta, np.where(settled[:, None], descent.information, 1.0))
    known = settled & np.isfinite(variances)
    return _Ends(
        np.where(known, descent.beta[:, at] + descent.step[:, at], np.nan),
        np.where(known, np.sqrt(np.where(known, variances, 0.0)), np.nan),
        np.where(known, Reason.NONE, np.where(settled, Reason.SINGULAR, descent.reason)).astype(np.int8),
    )
