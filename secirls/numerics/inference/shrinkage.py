"""apeglm's prior on one coefficient of every gene: its scale, what it adds to a Newton step, and what it leaves.

Promises: plain arithmetic in a written order, the same bits on every machine, but for `s_values`, which nothing follows
from; a gene's numbers depend on that gene and the scale alone. Refuses to know: samples, sites and rounds.

Minimised is ``f(beta) = nll(beta) + (sum of the others' beta_j^2) / 450 + log(1 + (beta_c / S)^2)``: a Cauchy prior of
scale S on the coefficient c, a normal one of standard deviation 15 on each of the others (Zhu, Ibrahim and Love 2019);
all natural logs. S is found from all genes (Efron and Morris 1975).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from secirls.numerics.algebra.restriction import lifted
from secirls.numerics.algebra.solve import diagonal_entries, solve
from secirls.numerics.arithmetic.portable import logs, strictly
from secirls.numerics.arrays import Floats

OTHERS_DEVIATION = 15.0
"""Standard deviation of the normal prior on every other coefficient, natural log."""
OTHERS_CURVATURE = 1.0 / (OTHERS_DEVIATION * OTHERS_DEVIATION)
"""What that prior adds to the diagonal of the curvature: beta^2 / 450 is half of it times beta^2."""
LEAST_VARIANCE, MOST_VARIANCE = 1e-6, 400.0
"""Between these the variance of the true coefficients is looked for."""
LARGEST_SCALE = 1.0
LONGEST_STEP = 4.0
"""Natural-log units that a coefficient of a scaled column moves at a time: a longer step of Newton's leaves what its
model is good for."""
_FARTHER = 1024.0
"""So many times as far a coefficient beside scaled columns may go before the step is cut."""
_LEAST_SHARE = 1e-8
"""Of the determinant with the majorant: with less left, f is not taken for curved upwards."""
_HALVINGS = 60


@strictly()
def _excess(squares: Floats, variances: Floats, A: float) -> float:
    """``sum (b^2 - d) / (A + d)^2 - A sum (A + d)^-2``, over its last factor: by how much the variance exceeds A."""
    above, below = 0.0, 0.0
    for i in range(squares.size):
        spread = A + variances[i]
        weight = 1.0 / (spread * spread)
        above += (squares[i] - variances[i]) * weight
        below += weight
    return above / below - A


def prior_variance(estimates: Floats, variances: Floats) -> float:
    """The variance A of true coefficients around zero, from estimates b and their squared standard errors d, ``(n,)``.

    The root of ``sum (b^2 - d) / (A + d)^2 = A sum (A + d)^-2`` in [1e-6, 400], to the last bit; an end of the interval
    where the root is beyond it. `ValueError` without an estimate.
    """
    if not estimates.size:
        raise ValueError("a prior's variance needs an estimate")
    squares, spreads = estimates * estimates, np.ascontiguousarray(variances)
    low, high = LEAST_VARIANCE, MOST_VARIANCE
    if _excess(squares, spreads, low) <= 0:
        return low
    if _excess(squares, spreads, high) >= 0:
        return high
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            return low
        if _excess(squares, spreads, middle) > 0:
            low = middle
        else:
            high = middle


@strictly(inline=True)
def _level(x: float, b: float, gradient: float, curvature: float, square: float) -> float:
    """The slope at x of a parabola and the Cauchy prior together; ``gradient`` is that at b."""
    return gradient + curvature * (x - b) + 2.0 * x / (square + x * x) - 2.0 * b / (square + b * b)


@strictly()
def _move(b: float, gradient: float, curvature: float, square: float, longest: float) -> float:
    """How far b goes down to the first point where parabola and Cauchy prior together are level, at most `longest`.

    Their slope is monotone between the roots of its derivative, ``k (S^2 + x^2)^2 + 2 (S^2 - x^2) = 0`` for a parabola
    of curvature k: a quadratic equation for x^2. In the first of these intervals at whose end the slope has another
    sign, bisection finds where.
    """
    if gradient == 0.0 or not np.isfinite(gradient):
        return 0.0
    down = -1.0 if gradient > 0.0 else 1.0
    last = b + down * longest
    turns = np.full(5, last)
    inner = 1.0 - 4.0 * curvature * square
    if curvature > 0.0 and inner >= 0.0:
        root = np.sqrt(inner)
        far = (1.0 + root) / curvature - square
        near = 4.0 * square / (1.0 + root) - square
        turns[0], turns[1] = np.sqrt(max(far, 0.0)), np.sqrt(max(near, 0.0))
    elif curvature <= 0.0:
        turns[0], turns[1] = np.sqrt(square), np.sqrt(square)
    turns[2], turns[3] = -turns[0], -turns[1]
    turns = np.sort(down * turns)
    low = b
    high = last
    for turn in turns:
        high = down * turn
        if down * (high - b) > longest:
            high = last
        if down * (high - low) <= 0.0:
            continue
        if down * _level(high, b, gradient, curvature, square) >= 0.0:
            break
        low = high
        if high == last:
            return last - b
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if down * _level(middle, b, gradient, curvature, square) >= 0.0:
            high = middle
        else:
            low = middle
    moved: float = high - b
    return moved


@strictly()
def _each_move(b: Floats, gradient: Floats, majorised: Floats, scale: float, longest: float, out: Floats) -> None:
    """`_move` of each gene; the curvature is given with the Cauchy prior's majorant in it."""
    square = scale * scale
    for i in range(b.size):
        curvature = majorised[i] - 2.0 / (square + b[i] * b[i])
        out[i] = _move(b[i], gradient[i], max(curvature, 0.0), square, longest)


class _Curved(NamedTuple):
    """The second derivative of f, ``M - m e e'`` with e the unit vector of the coefficient; arrays by gene."""

    majorised: Floats
    """M: with ``2 / (S^2 + b^2)`` for the Cauchy prior, the curvature of the parabola that touches it from above, upper
    triangles; positive definite where nll's is not less than zero."""
    column: Floats
    """``inv(M) e``, ``(genes, params)``; zero where there is none."""
    along: Floats
    """Its entry of the coefficient, ``(genes,)``."""
    share: Floats
    """``1 - m e' inv(M) e``, the determinant over that of M: above zero where f is positive definite, ``(genes,)``."""


@dataclass(frozen=True)
class Prior:
    """The prior of all coefficients of a gene: public, the same for every gene."""

    scale: float
    """S, of the Cauchy prior, natural log."""
    coefficient: int
    """Which coefficient it is on, among those of the table."""
    scaled: Floats | None = field(default=None, repr=False, compare=False)
    """To coefficients of scaled columns, in which the length of a step is measured, ``(params, params)``; if others."""

    @classmethod
    def adapted(cls, estimates: Floats, variances: Floats, coefficient: int, scaled: Floats | None = None) -> Prior:
        """With the scale that all genes' estimates ``(n,)`` and squared standard errors ask for: min(sqrt A, 1)."""
        found = float(np.sqrt(prior_variance(estimates, variances)))
        return cls(min(found, LARGEST_SCALE), coefficient, scaled)

    def penalty(self, beta: Floats) -> Floats:
        """What it adds to nll at coefficients ``(genes, params)``: ``(genes,)``."""
        ratio = beta[:, self.coefficient] / self.scale
        total = logs(1.0 + ratio * ratio)
        for j in self._others(beta):
            total += 0.5 * OTHERS_CURVATURE * (beta[:, j] * beta[:, j])
        return total

    def gradient(self, beta: Floats) -> Floats:
        """Its slope, ``(genes, params)``."""
        b = beta[:, self.coefficient]
        slope = OTHERS_CURVATURE * beta
        slope[:, self.coefficient] = 2.0 * b / (self.scale * self.scale + b * b)
        return slope

    def step(self, beta: Floats, score: Floats, information: Floats) -> tuple[Floats, Floats]:
        """The step from coefficients ``(genes, params)``, and the slope of f along it, ``(genes,)``.

        Newton's model for nll and the normal priors, the Cauchy prior as it is: their sum goes down from here to the
        first point where it is level (a proximal step: Lee, Sun and Saunders 2014). Newton's model of the Cauchy prior
        too would be no model where f is not convex, and a parabola above it creeps where f is nearly level. No
        coefficient moves by more than `LONGEST_STEP`.

        ``score`` is that of the likelihood, ``(genes, params)``; ``information`` the upper triangles of nll's second
        derivative.
        """
        at = self.coefficient
        gradient = self.gradient(beta) - score
        curved = self._curved(beta, information)
        newton, _ = solve(curved.majorised, -gradient)
        along = np.where(curved.along > 0, curved.along, np.inf)
        moved = np.empty(along.size)
        _each_move(beta[:, at].copy(), -newton[:, at] / along, 1.0 / along, self.scale, self._longest(), moved)
        step = newton + curved.column * ((moved - newton[:, at]) / along)[:, None]
        moves = step if self.scaled is None else lifted(step, self.scaled)
        largest = np.maximum(np.abs(moves).max(axis=1), LONGEST_STEP)
        step *= (LONGEST_STEP / largest)[:, None]
        slope = gradient[:, 0] * step[:, 0]
        for j in range(1, beta.shape[1]):
            slope += gradient[:, j] * step[:, j]
        return step, slope

    def variances(self, beta: Floats, information: Floats) -> Floats:
        """Posterior variance of the coefficient at a minimum of f, ``(genes,)``; NaN where f is not curved upwards.

        Laplace's approximation: the coefficient's entry of the inverse of f's second derivative, ``(M - m e e')`` with
        M and m as in `_curved`; by Sherman and Morrison's formula that is the entry of ``inv(M)`` over the share.
        """
        curved = self._curved(beta, information)
        upwards = (curved.share > _LEAST_SHARE) & (curved.along > 0)
        return np.where(upwards, curved.along / np.where(upwards, curved.share, 1.0), np.nan)

    def _curved(self, beta: Floats, information: Floats) -> _Curved:
        b = beta[:, self.coefficient]
        spread = self.scale * self.scale + b * b
        majorised, diagonal = information.copy(), diagonal_entries(beta.shape[1])
        for j in self._others(beta):
            majorised[:, diagonal[j]] += OTHERS_CURVATURE
        majorised[:, diagonal[self.coefficient]] += 2.0 / spread
        unit = np.zeros_like(beta)
        unit[:, self.coefficient] = 1.0
        column, _ = solve(majorised, unit)
        along, excess = column[:, self.coefficient], 4.0 * (b * b) / (spread * spread)
        return _Curved(majorised, column, along, 1.0 - excess * along)

    def _longest(self) -> float:
        """How far the coefficient itself goes at a time, in its own unit; the whole step is held to `LONGEST_STEP`.

        Of a user's columns it may go far while no scaled coefficient does, where numbers are small (a slope per unit of
        1e-6) or far from zero (an intercept follows the slope): held back here, it would creep.
        """
        if self.scaled is None:
            return LONGEST_STEP
        return max(1.0, _FARTHER / abs(float(self.scaled[self.coefficient, self.coefficient]))) * LONGEST_STEP

    def _others(self, beta: Floats) -> list[int]:
        return [j for j in range(beta.shape[1]) if j != self.coefficient]


def s_values(estimates: Floats, deviations: Floats) -> Floats:
    """Those of normal posteriors, whose chance of a wrong sign is ``Phi(-|b| / sd)``: see `running_shares`."""
    known = np.isfinite(estimates) & np.isfinite(deviations)
    wrong = np.full(estimates.size, np.nan)
    wrong[known] = ndtr(-np.abs(estimates[known]) / deviations[known])
    return running_shares(wrong)


def running_shares(wrong: Floats) -> Floats:
    """The share of wrong signs among the genes at least as sure as each, ``(genes,)``, from each gene's own chance.

    s-values are running means of these, the surest first (Stephens 2017); NaN stays NaN.
    """
    known = np.flatnonzero(~np.isnan(wrong))
    order = np.argsort(wrong[known], kind="stable")
    found = np.full(wrong.size, np.nan)
    found[known[order]] = np.cumsum(wrong[known[order]]) / np.arange(1, known.size + 1)
    return found
