"""The true maximum of a gene's profile, with or without a prior, or the best point of grids: choices beside R's path.

Promises: the best of 65 points over the whole range, refined by bisection of the slope; or FedPyDESeq2's search, the
best of 100 points, of 100 more around it, and again; the same bits on any machine. Refuses to know: counts, sites,
trends.

Where a profile is flat, the maximum is known no better than the interpolant's error allows: 1e-9 in L.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic import portable
from secirls.numerics.arithmetic.portable import exp, log, strictly
from secirls.numerics.arrays import Floats
from secirls.numerics.dispersion.interpolant import Profiles, profile_at
from secirls.numerics.dispersion.path import MIN_DISPERSION, best_of_grid, posterior

_POINTS = 65
_HALVINGS = 60
_GRIDS, _GRID = 3, 100
"""How many grids, and their points (Muzellec, Marteau-Ferey and Marchand 2024)."""


@strictly()
def _climb(
    coefficients: Floats,
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    scale: Floats,
    reach: Floats,
    centre: Floats,
    precision: float,
    max_dispersion: float,
    found: Floats,
) -> None:
    low, high = log(MIN_DISPERSION), log(max_dispersion)
    spacing = (high - low) / (_POINTS - 1)
    for g in range(starts.size):
        c = coefficients[starts[g] : starts[g] + sizes[g]]
        best, _ = best_of_grid(c, scale[g], reach[g], low, spacing, _POINTS, centre[g], precision)
        left, right = low + max(best - 1, 0) * spacing, low + min(best + 1, _POINTS - 1) * spacing
        for _ in range(_HALVINGS):
            middle = 0.5 * (left + right)
            if posterior(c, scale[g], reach[g], middle, centre[g], precision)[1] > 0.0:
                left = middle
            else:
                right = middle
        found[g] = min(max(exp(0.5 * (left + right)), MIN_DISPERSION), max_dispersion)


@strictly()
def _first_steps(
    coefficients: Floats,
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    scale: Floats,
    reach: Floats,
    begin: Floats,
    least_rise: float,
    max_dispersion: float,
    found: Floats,
) -> None:
    low, high = log(MIN_DISPERSION), log(max_dispersion)
    for g in range(starts.size):
        c, a = coefficients[starts[g] : starts[g] + sizes[g]], log(begin[g])
        value, slope, _ = profile_at(c, scale[g], reach[g], a)
        step = min(max(a + slope, low), high) - a
        if step * slope <= least_rise * max(abs(value), 1.0):
            found[g] = min(max(exp(a + step), MIN_DISPERSION), max_dispersion)


@strictly()
def _grids(
    coefficients: Floats,
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    scale: Floats,
    reach: Floats,
    centre: Floats,
    precision: float,
    max_dispersion: float,
    found: Floats,
) -> None:
    low, high = log(MIN_DISPERSION), log(max_dispersion)
    for g in range(starts.size):
        c = coefficients[starts[g] : starts[g] + sizes[g]]
        left, right, best = low, high, low
        for _ in range(_GRIDS):
            spacing = (right - left) / (_GRID - 1)
            k, _ = best_of_grid(c, scale[g], reach[g], left, spacing, _GRID, centre[g], precision)
            best = left + k * spacing
            left, right = max(low, best - spacing), min(high, best + spacing)
        found[g] = min(max(exp(best), MIN_DISPERSION), max_dispersion)


def maximise(
    profiles: Profiles, max_dispersion: float, trend: Floats | None = None, prior_variance: float = 1.0
) -> Floats:
    """The dispersion of the highest L in [1e-8, largest], under a prior around log `trend` if given, ``(genes,)``."""
    return _searched(_climb, profiles, max_dispersion, trend, prior_variance)


def first_steps(profiles: Profiles, start: Floats, least_rise: float, max_dispersion: float) -> Floats:
    """One step along the slope from a start ``(genes,)``; NaN where L promises to rise by more than its share."""
    found = np.full(start.size, np.nan)
    for genes, series in profiles.by_lot():
        part = np.full(genes.size, np.nan)
        _first_steps(*series, np.asarray(start[genes], dtype=np.float64), least_rise, max_dispersion, part)
        found[genes] = part
    return found


def search_grids(
    profiles: Profiles, max_dispersion: float, trend: Floats | None = None, prior_variance: float = 1.0
) -> Floats:
    """The best point of the last of three grids, arguments and range as for `maximise`, ``(genes,)``."""
    return _searched(_grids, profiles, max_dispersion, trend, prior_variance)


def _searched(
    search: Callable[..., None], profiles: Profiles, max_dispersion: float, trend: Floats | None, variance: float
) -> Floats:
    genes = profiles.scale.size
    found, centre = np.empty(genes), np.zeros(genes) if trend is None else portable.logs(trend)
    precision = 0.0 if trend is None else 1.0 / variance
    for lot, series in profiles.by_lot():
        part = np.empty(lot.size)
        search(*series, centre[lot], precision, max_dispersion, part)
        found[lot] = part
    return found
