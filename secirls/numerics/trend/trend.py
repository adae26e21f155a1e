"""The trend of gene-wise dispersions over base means, from public numbers: parametric, local, or one mean for all.

Promises: DESeq2's rules for which genes count, when the parametric fit has failed and what is fitted instead; the
parametric trend and the mean have the same bits on any machine. Refuses to know: profiles, sites.

Parametric: dispersion = asymptotic + extra-Poisson / mean, a gamma regression with identity link, refitted without
the genes far from it until it stands (Love, Huber and Anders 2014, eq. 6; iteratively reweighted least squares).
PyDESeq2 chooses genes and what follows a failure otherwise: `dropping_trend`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from secirls.numerics.arithmetic import portable
from secirls.numerics.arithmetic.portable import exp, log, strictly
from secirls.numerics.arrays import Floats
from secirls.numerics.dispersion.path import MIN_DISPERSION
from secirls.numerics.trend.local_trend import LocalTrend, local_trend

TrendType: TypeAlias = Literal["parametric", "local", "mean"]

Parametric: TypeAlias = Literal["reselected", "dropped"]
"""Whether genes far from a parametric trend are chosen anew for each fit, as in R, or dropped for good."""

LEAST_FITTED = 100.0 * MIN_DISPERSION
"""Estimates above this make the trend."""
_LEAST_AVERAGED = 10.0 * MIN_DISPERSION
_TRIMMED = 0.001
_NEAR, _FAR = 1e-4, 15.0
"""A gene whose estimate is not between these multiples of the trend is left out of the next fit."""
_REFITS = 11
_GLM_ITERATIONS = 25
_GLM_TOLERANCE = 1e-8
_STANDS = 1e-6
_ONE_MEAN = 1e-22
"""Where x varies by no more than this, in squares, a slope is rounding: R's glm() finds a rank of one (1e-11)."""
_LEAST_COEFFICIENT = 1e-10
"""Where PyDESeq2 takes a coefficient for none."""
_DESCENTS = 1000
_LONGEST_STEP, _SHORTEST_STEP = 2.0, 1e-12
"""Of log a and log b, in a descent."""
_LEVEL = 1e-16
"""A step that promises the deviance less than this is none."""


class NoTrendError(ValueError):
    """No gene-wise estimate is above the floor: there is no trend to fit."""


@dataclass(frozen=True)
class Trend:
    """A function from base mean to dispersion."""

    kind: TrendType
    """What was fitted in the end."""
    asymptotic: float = np.nan
    """Parametric: the dispersion of a large mean."""
    extra_poisson: float = np.nan
    """Parametric: what a small mean adds, over the mean."""
    mean: float = np.nan
    """Mean: the one dispersion."""
    local: LocalTrend | None = None

    def at(self, base_means: Floats) -> Floats:
        """The trend at base means above zero, ``(genes,)``."""
        if self.kind == "parametric":
            return self.asymptotic + self.extra_poisson / base_means
        if self.kind == "mean" or self.local is None:
            return np.full(base_means.shape, self.mean)
        return self.local.at(base_means)


def fit_trend(
    base_means: Floats, estimates: Floats, kind: TrendType = "parametric", parametric: Parametric = "reselected"
) -> Trend:
    """The trend of gene-wise estimates over base means, both ``(genes,)``.

    A parametric fit that fails gives the local trend, as in R, or the mean where genes are dropped, as in PyDESeq2.
    Raises `NoTrendError` where no estimate is above 1e-6.
    """
    fitted = estimates > LEAST_FITTED
    if not fitted.any():
        raise NoTrendError("every gene-wise dispersion is at its floor")
    if kind == "parametric" and parametric == "dropped":
        coefficients = dropping_trend(base_means, estimates)
        if coefficients is not None:
            return Trend("parametric", *coefficients)
        kind = "mean"
    if kind == "mean":
        averaged = np.sort(estimates[estimates > _LEAST_AVERAGED])
        cut = int(averaged.size * _TRIMMED)
        return Trend("mean", mean=_in_order(averaged[cut : averaged.size - cut]) / (averaged.size - 2 * cut))
    means, chosen = base_means[fitted], estimates[fitted]
    if kind == "parametric":
        coefficients = parametric_trend(means, chosen)
        if coefficients is not None:
            return Trend("parametric", *coefficients)
    return Trend("local", local=local_trend(means, chosen))


def parametric_trend(means: Floats, estimates: Floats) -> tuple[float, float] | None:
    """Asymptotic dispersion and extra-Poisson, or ``None`` where the fit fails."""
    inverse = 1.0 / means
    coefficients = 0.1, 1.0
    for _ in range(_REFITS):
        ratios = estimates / (coefficients[0] + coefficients[1] * inverse)
        good = (ratios > _NEAR) & (ratios < _FAR)
        if not good.any():
            return None
        following = _gamma_regression(inverse[good], estimates[good], *coefficients)
        a, b, converged = following
        if not (a > 0.0 and b > 0.0):
            return None
        steps = portable.logs(np.array([a / coefficients[0], b / coefficients[1]]))
        coefficients = a, b
        if steps[0] * steps[0] + steps[1] * steps[1] < _STANDS and converged:
            return coefficients
    return None


def dropping_trend(means: Floats, estimates: Floats) -> tuple[float, float] | None:
    """As `parametric_trend`, but PyDESeq2's way: of all genes, each fit from (1, 1), without those ever far before.

    Its own optimiser stops a little before the maximum of the same likelihood, and finds it too where least squares go
    round in circles, as they do about few genes with small means: R's regression has failed then, PyDESeq2's has not.
    """
    inverse, before = 1.0 / means, (1.0, 1.0)
    while inverse.size:
        a, b, converged = _gamma_regression(inverse, estimates, 1.0, 1.0)
        for _ in range(_REFITS):
            if converged or not (a > 0.0 and b > 0.0):
                break
            a, b, converged = _gamma_regression(inverse, estimates, a, b)
        if not (converged and a > 0.0 and b > 0.0):
            a, b, converged = _gamma_descent(inverse, estimates, 1.0, 1.0)
        if not (converged and a > _LEAST_COEFFICIENT and b > _LEAST_COEFFICIENT):
            return None
        ratios = estimates / (a + b * inverse)
        near = (ratios >= _NEAR) & (ratios < _FAR)
        inverse, estimates = inverse[near], estimates[near]
        steps = portable.logs(np.array([a / before[0], b / before[1]]))
        before = a, b
        if steps[0] * steps[0] + steps[1] * steps[1] < _STANDS:
            return before
    return None


@strictly()
def _in_order(x: Floats) -> float:
    """A sum in the order given."""
    total = 0.0
    for i in range(x.size):
        total += x[i]
    return total


@strictly(inline=True)
def _deviance(x: Floats, y: Floats, a: float, b: float) -> float:
    """Of the gamma distribution; infinite where a mean is not positive."""
    total = 0.0
    for i in range(x.size):
        mu = a + b * x[i]
        if not mu > 0.0:
            return np.inf
        total += (y[i] - mu) / mu - log(y[i] / mu)
    return 2.0 * total


@strictly()
def _gamma_regression(x: Floats, y: Floats, a: float, b: float) -> tuple[float, float, bool]:
    """The gamma regression of y on (1, x), identity link, from a start; whether it converged in 25 iterations.

    A step that makes a mean negative is halved. Each least squares is solved around the weighted mean of x.
    """
    before = _deviance(x, y, a, b)
    for _ in range(_GLM_ITERATIONS):
        weights, to_x, to_y = 0.0, 0.0, 0.0
        for i in range(x.size):
            mu = a + b * x[i]
            w = 1.0 / (mu * mu)
            weights += w
            to_x += w * x[i]
            to_y += w * y[i]
        x_mean, y_mean = to_x / weights, to_y / weights
        squares, products = 0.0, 0.0
        for i in range(x.size):
            mu = a + b * x[i]
            w = 1.0 / (mu * mu)
            off = x[i] - x_mean
            squares += w * (off * off)
            products += w * (off * (y[i] - y_mean))
        if not squares > _ONE_MEAN * (weights * (x_mean * x_mean)):
            return -1.0, -1.0, False
        slope = products / squares
        new_a, new_b = y_mean - slope * x_mean, slope
        now = _deviance(x, y, new_a, new_b)
        for _ in range(_GLM_ITERATIONS):
            if now < np.inf:
                break
            new_a, new_b = 0.5 * (new_a + a), 0.5 * (new_b + b)
            now = _deviance(x, y, new_a, new_b)
        if not now < np.inf:
            return -1.0, -1.0, False
        a, b = new_a, new_b
        if abs(now - before) / (abs(now) + 0.1) < _GLM_TOLERANCE:
            return a, b, True
        before = now
    return a, b, False


@strictly()
def _gamma_descent(x: Floats, y: Floats, a: float, b: float) -> tuple[float, float, bool]:
    """The regression of `_gamma_regression` by steps that never raise the deviance, a and b above zero all the way.

    Fisher's steps in log a and log b, halved until the deviance falls: they end at a minimum, where there is one.
    """
    now = _deviance(x, y, a, b)
    for _ in range(_DESCENTS):
        constant, both, slope, to_a, to_b = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(x.size):
            along = b * x[i]
            mu = a + along
            w = 1.0 / (mu * mu)
            constant += w * (a * a)
            both += w * (a * along)
            slope += w * (along * along)
            to_a += w * (a * (y[i] - mu))
            to_b += w * (along * (y[i] - mu))
        determinant = constant * slope - both * both
        if not determinant > _ONE_MEAN * (constant * slope):
            return -1.0, -1.0, False
        step_a = (slope * to_a - both * to_b) / determinant
        step_b = (constant * to_b - both * to_a) / determinant
        if step_a * to_a + step_b * to_b < _LEVEL:
            return a, b, True
        longest = max(abs(step_a), abs(step_b))
        size = min(1.0, _LONGEST_STEP / longest)
        while True:
            new_a, new_b = a * exp(size * step_a), b * exp(size * step_b)
            after = _deviance(x, y, new_a, new_b)
            if after < now:
                break
            size *= 0.5
            if size * longest < _SHORTEST_STEP:
                return a, b, True
        a, b, now = new_a, new_b, after
        if min(a, b) <= _LEAST_COEFFICIENT:
            return a, b, False
    return a, b, False
