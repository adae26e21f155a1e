"""The size factors of a cell as one function: its Stieltjes transform S(u), the sum of s / (1 + u s) over its samples.

Promises: what is summed over sites are values at fixed places, the same for everybody; between them (1 + u) S(u) is
known to a rounding, in IEEE operations of a written order. Refuses to know: genes, dispersions.

In t = log u the singularities of (1 + u) S(u) lie at t = -log s + pi i, whatever the size factors are, and it stays
between sums of s and of 1. So on pieces of width one N Chebyshev nodes leave an error of rho^-N, rho = 12.6 (Trefethen
2013, chapter 8): sixteen are enough. Widder (1938) for the transform.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.algebra.subspace import product
from secirls.numerics.arithmetic import chebyshev, portable
from secirls.numerics.arrays import Floats

LOWEST, PIECES, NODES = -24.0, 56, 16
"""Where log u begins, how many pieces of width one there are, and the places of each."""
PLACES = PIECES * NODES
"""Numbers that stand for one cell."""
BINS = 42
"""Of log2 s, half a unit wide each, about zero; the first and the last are open."""
_TOGETHER = 1 << 20
"""Samples times places at once."""


@cache
def places() -> Floats:
    """All u, piece after piece, ``(places,)``."""
    inside = (1.0 + chebyshev.nodes(NODES)) / 2.0
    return portable.exps((LOWEST + np.arange(PIECES)[:, None] + inside).ravel())


def transforms(size_factors: Floats, cell: NDArray[np.intp], cells: int) -> Floats:
    """(1 + u) S(u) at all places over the samples of each cell, ``(cells, places)``; samples in cell -1 are in none."""
    u, out = places(), np.zeros((cells, PLACES))
    for number in range(cells):
        s = size_factors[cell == number]
        for start in range(0, s.size, _TOGETHER // PLACES):
            here = s[start : start + _TOGETHER // PLACES, None]
            out[number] += (here * ((1.0 + u) / (1.0 + u * here))).sum(axis=0)
    return out


def spread(size_factors: Floats, cell: NDArray[np.intp], cells: int) -> Floats:
    """How many samples of each cell have a size factor in each bin, ``(cells, bins)``."""
    known = (cell >= 0) & np.isfinite(size_factors)
    number = np.searchsorted(_edges(), size_factors[known], side="right")
    return np.bincount(cell[known] * BINS + number, minlength=cells * BINS).reshape(cells, BINS).astype(np.float64)


@cache
def _edges() -> Floats:
    """Between the bins, ``(bins - 1,)``: powers of the root of two."""
    half = np.arange(BINS - 1) - (BINS - 2) // 2
    return np.ldexp(np.where(half % 2, 1.4142135623730951, 1.0), half // 2)


@dataclass(frozen=True, eq=False)
class Transforms:
    """The transforms of all cells, over all sites."""

    series: Floats
    """Polynomials of each piece in (-1, 1), lowest power first, ``(cells, pieces, nodes)``."""
    samples: Floats
    """In each cell, ``(cells,)``."""
    least: Floats
    """No size factor of a cell is below this, ``(cells,)``."""
    most: Floats
    """None is above it; infinite where some lie in the last bin, ``(cells,)``."""

    @classmethod
    def of(cls, values: Floats, numbers: Floats) -> Transforms:
        """From sums of `transforms` and of `spread`."""
        edges = np.concatenate([[0.0], _edges(), [np.inf]])
        held = numbers > 0.5
        first, last = held.argmax(axis=1), BINS - 1 - held[:, ::-1].argmax(axis=1)
        pieces = np.full(values.shape[0] * PIECES, NODES)
        coefficients = chebyshev.series(values.ravel(), pieces, NODES * np.arange(pieces.size + 1))
        series = product(coefficients.reshape(-1, NODES), _powers())
        return cls(series.reshape(-1, PIECES, NODES), numbers.sum(axis=1), edges[first], edges[last + 1])


@cache
def _powers() -> Floats:
    """Chebyshev's polynomials in powers, lowest first: whole numbers, ``(nodes, nodes)``."""
    powers = np.zeros((NODES, NODES))
    powers[0, 0] = powers[1, 1] = 1.0
    for k in range(2, NODES):
        powers[k, 1:] = 2.0 * powers[k - 1, :-1]
        powers[k] -= powers[k - 2]
    return powers
