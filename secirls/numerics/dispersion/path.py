"""R's way to a dispersion: a short gradient ascent in log alpha that stops early, and the grids it falls back to.

Promises: given a gene's profile, the estimate of DESeq2 1.38 with its number of iterations, and its rules for when the
start is kept and when a grid is searched; the same bits on any machine. Refuses to know: counts, sites, trends.

What R reports is the end of this path and no optimum: in real data a quarter to three quarters of the genes keep their
start. Love, Huber and Anders (2014, methods, estimation of dispersions); Armijo (1966) for the rule of a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic import portable
from secirls.numerics.arithmetic.portable import exp, log, strictly
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.dispersion.interpolant import Profiles, profile_at

MIN_DISPERSION = 1e-8
MAX_ITERATIONS = 100
_TOLERANCE = 1e-6
_SUFFICIENT = 1e-4
"""Of the increase that the slope promises, a step must bring this share."""
_LOWEST, _HIGHEST = -30.0, 10.0
_GRID = 20
_LEAST_INCREASE = 1e-6
"""Relative to R's log-likelihood; a smaller one keeps the start."""
_ABOVE_FLOOR = 10.0 * MIN_DISPERSION


@dataclass(frozen=True)
class Walked:
    """Where the paths of some genes ended, arrays ``(genes,)``."""

    dispersions: Floats
    """In [1e-8, largest dispersion]."""
    iterations: NDArray[np.int32]
    """Steps tried."""
    beyond: Mask
    """Genes whose path went beyond their nodes' reach: to be asked for again, farther."""


@strictly(inline=True)
def posterior(
    c: Floats, scale: float, reach: float, a: float, centre: float, precision: float
) -> tuple[float, float, bool]:
    """L and its slope with a normal prior of log alpha; no prior if its precision is 0."""
    value, slope, beyond = profile_at(c, scale, reach, a)
    off = a - centre
    return value - 0.5 * (off * off) * precision, slope - off * precision, beyond


@strictly(inline=True)
def _ascend(
    c: Floats, scale: float, reach: float, start: float, centre: float, precision: float, lowest: float
) -> tuple[float, float, float, int, bool]:
    """Walk from a log dispersion: the end, the first and the last L, the steps tried, and whether ever beyond reach."""
    a, kappa, accepted, tried = start, 1.0, 0, 0
    value, slope, beyond = posterior(c, scale, reach, a, centre, precision)
    first = value
    while tried < MAX_ITERATIONS:
        tried += 1
        if a + kappa * slope < _LOWEST:
            kappa = (_LOWEST - a) / slope
        if a + kappa * slope > _HIGHEST:
            kappa = (_HIGHEST - a) / slope
        proposed = a + kappa * slope
        new, new_slope, out = posterior(c, scale, reach, proposed, centre, precision)
        beyond |= out
        if -new > -value - kappa * _SUFFICIENT * (slope * slope):
            kappa /= 2.0
            continue
        accepted += 1
        a = proposed
        if new - value < _TOLERANCE:
            value = new
            break
        if a < lowest:
            break
        value, slope = new, new_slope
        kappa = min(1.1 * kappa, 1.0)
        if accepted % 5 == 0:
            kappa /= 2.0
    return a, first, value, tried, beyond


@strictly(inline=True)
def best_of_grid(
    c: Floats, scale: float, reach: float, low: float, spacing: float, points: int, centre: float, precision: float
) -> tuple[int, bool]:
    """Which of equally spaced log dispersions from ``low`` on is the first best, and whether any lay beyond reach."""
    best, highest, beyond = 0, -np.inf, False
    for k in range(points):
        value, _, out = posterior(c, scale, reach, low + k * spacing, centre, precision)
        beyond |= out
        if value > highest:
            best, highest = k, value
    return best, beyond


@strictly(inline=True)
def _by_grids(
    c: Floats, scale: float, reach: float, lowest: float, highest: float, centre: float, precision: float
) -> tuple[float, bool]:
    """The best of a grid over the whole range, refined once around itself."""
    spacing = (highest - lowest) / (_GRID - 1)
    best, beyond = best_of_grid(c, scale, reach, lowest, spacing, _GRID, centre, precision)
    begin, fine = lowest + best * spacing - spacing, 2.0 * spacing / (_GRID - 1)
    best, out = best_of_grid(c, scale, reach, begin, fine, _GRID, centre, precision)
    return begin + best * fine, beyond | out


@strictly()
def _walk(
    coefficients: Floats,
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    scale: Floats,
    reach: Floats,
    constant: Floats,
    begin: Floats,
    centre: Floats,
    precision: float,
    gene_wise: bool,
    max_dispersion: float,
    found: Floats,
    iterations: NDArray[np.int32],
    beyond: Mask,
) -> None:
    low, high, lowest = log(MIN_DISPERSION), log(max_dispersion), log(MIN_DISPERSION / 10.0)
    for g in range(starts.size):
        c = coefficients[starts[g] : starts[g] + sizes[g]]
        a, first, last, tried, out = _ascend(c, scale[g], reach[g], log(begin[g]), centre[g], precision, lowest)
        estimate = exp(a)
        again = tried == MAX_ITERATIONS
        if gene_wise:
            estimate = min(estimate, max_dispersion)
            if last < first + _LEAST_INCREASE * abs(first - constant[g]):
                estimate = begin[g]
            again = (again or tried == 1) and estimate > _ABOVE_FLOOR
        if again:
            a, farther = _by_grids(c, scale[g], reach[g], low, high, centre[g], precision)
            estimate = exp(a)
            out |= farther
        found[g] = min(max(estimate, MIN_DISPERSION), max_dispersion)
        iterations[g] = tried
        beyond[g] = out


def walk_gene_wise(profiles: Profiles, start: Floats, max_dispersion: float) -> Walked:
    """Gene-wise estimates from moment starts ``(genes,)``: the start is kept where L hardly rose."""
    return _walked(profiles, start, np.zeros(start.size), 0.0, max_dispersion, gene_wise=True)


def walk_map(
    profiles: Profiles, gene_wise: Floats, trend: Floats, prior_variance: float, max_dispersion: float
) -> Walked:
    """Maximum a posteriori estimates under a normal prior of log alpha around log trend, ``(genes,)``.

    From the gene-wise estimate where it exceeds a tenth of the trend, else from the trend.
    """
    start = np.where(gene_wise > 0.1 * trend, gene_wise, trend)
    return _walked(profiles, start, portable.logs(trend), 1.0 / prior_variance, max_dispersion, gene_wise=False)


def outliers(gene_wise: Floats, trend: Floats, log_variance: float) -> Mask:
    """Genes that keep their gene-wise estimate: above the trend by more than two of the residuals' spreads."""
    above: Mask = portable.logs(gene_wise) > portable.logs(trend) + 2.0 * np.sqrt(log_variance)
    return above


def _walked(
    profiles: Profiles, start: Floats, centre: Floats, precision: float, max_dispersion: float, *, gene_wise: bool
) -> Walked:
    def ends(genes: int) -> tuple[Floats, NDArray[np.int32], Mask]:
        return np.empty(genes), np.empty(genes, dtype=np.int32), np.zeros(genes, dtype=np.bool_)

    dispersions, iterations, beyond = ends(start.size)
    for genes, series in profiles.by_lot():
        begin, part = np.asarray(start[genes], dtype=np.float64), ends(genes.size)
        _walk(*series, profiles.constant[genes], begin, centre[genes], precision, gene_wise, max_dispersion, *part)
        dispersions[genes], iterations[genes], beyond[genes] = part
    return Walked(dispersions, iterations, beyond)
