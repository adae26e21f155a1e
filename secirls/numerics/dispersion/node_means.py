"""What the means of one design row are worth at many dispersions, from the row's nodes in place of its samples.

Promises: no fused or reordered operation. Refuses to know: counts but for their sums at nodes, and who asks.

`LevelNodes` that have slopes take one logarithm a row and dispersion, others one a node.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.portable import log, log1p, strictly
from secirls.numerics.arrays import Counts, Floats

NONE, SOME, ALL = 0, 1, 2
"""Of a row's means are clamped."""


@strictly(inline=True)
def _add_weights(mu: float, number: float, alpha: Floats, sums: Floats) -> None:
    """Add the weights of as many samples."""
    over = 1.0 / mu
    for j in range(alpha.size):
        sums[j] += number / (over + alpha[j])


@strictly(inline=True)
def add_point(
    v: float, mean: float, number: float, mass: float, size: Floats, part: Floats, over: Floats, out: Floats
) -> None:
    """Add (mass + number r) X(v), without log(v / m) where that is taken out."""
    gap, below = v - mean, mean / v - 1.0
    for j in range(out.size):
        out[j] += (mass + number * size[j]) * log1p(gap * part[j] + below * over[j])


@strictly(inline=True)
def _add_slope(mu: float, number: float, mass: float, alpha: Floats, size: Floats, over: Floats, out: Floats) -> None:
    """Add (mass + number r) times the derivative of X in log mu, or of what is left of X where log(mu / m) is out."""
    for j in range(out.size):
        growth = alpha[j] * mu
        rise = -1.0 if over[j] > 0.0 else growth
        out[j] += (mass + number * size[j]) * (rise / (1.0 + growth))


@strictly(inline=True)
def _fill_slopes(values: Floats, integrals: Floats, slopes: Floats) -> None:
    """Values at nodes times the integrals to there, ``(nodes, width)``."""
    slopes[:] = 0.0
    for k in range(values.size):
        here = integrals[k]
        for j in range(slopes.size):
            slopes[j] += values[k] * here[j]


@strictly(inline=True)
def _fill_free(
    y: Counts,
    order: NDArray[np.intp],
    s: Floats,
    basis: Floats,
    q: float,
    min_mu: float,
    masses: Floats,
    numbers: Floats,
) -> tuple[float, float]:
    """What a row's nodes stand for where some of its means are clamped: the samples whose are not.

    Gives how many the others are, and the sum of their counts.
    """
    number, mass = 0.0, 0.0
    masses[:], numbers[:] = 0.0, 0.0
    for i in range(order.size):
        free, count = 1.0 if q * s[i] > min_mu else 0.0, float(y[order[i]])
        number += 1.0 - free
        mass += (1.0 - free) * count
        here = basis[i]
        for k in range(masses.size):
            masses[k] += (free * count) * here[k]
        for k in range(numbers.size):
            numbers[k] += free * here[k]
    return number, mass


@strictly(inline=True)
def add_means(
    y: Counts,
    order: NDArray[np.intp],
    s: Floats,
    basis: Floats,
    masses: Floats,
    mass_slopes: Floats,
    numbers: Floats,
    slopes: Floats,
    node_s: Floats,
    centre: float,
    integrals: Floats,
    total: float,
    q: float,
    clamped: int,
    free: Floats,
    min_mu: float,
    mean: float,
    log_mean: float,
    alpha: Floats,
    size: Floats,
    part: Floats,
    over: Floats,
    out: Floats,
    det_alpha: Floats,
    weights: Floats,
) -> float:
    """Take a row's means off, those at its nodes and the clamped as one; add its weights.

    Gives the sum of log(mu / m). `total` is the sum of the row's counts, `centre` the size factor that slopes begin at,
    or 0, `free` room for four numbers a node.
    """
    nodes, others, of_others, logs = node_s.size, 0.0, 0.0, 0.0
    by_slope = centre > 0.0
    if clamped == SOME:
        masses, numbers, mass_slopes, slopes = free[0, :nodes], free[1, :nodes], free[2, :nodes], free[3, :nodes]
        others, of_others = _fill_free(y, order, s, basis, q, min_mu, masses, numbers)
        if by_slope:
            _fill_slopes(masses, integrals, mass_slopes)
            _fill_slopes(numbers, integrals, slopes)
    elif clamped == ALL:
        nodes, others, of_others = 0, float(order.size), total
    if by_slope & (nodes > 0):
        number, mass = others - float(order.size), of_others - total
        add_point(q * centre, mean, number, mass, size, part, over, out)
    for k in range(nodes + (others > 0.0)):
        mu = q * node_s[k] if k < nodes else min_mu
        number, mass = (numbers[k], masses[k]) if k < nodes else (others, of_others)
        if by_slope & (k < nodes):
            _add_slope(mu, -slopes[k], -mass_slopes[k], alpha, size, over, out)
        else:
            add_point(mu, mean, -number, -mass, size, part, over, out)
        _add_weights(mu, number, det_alpha, weights)
        logs += number * (log(mu) - log_mean)
    return logs
