"""Numeric columns of a design, centred and scaled: what becomes of its columns, and the way back to the user's scale.

Promises: a scaled design spans what the user's spans, so its fit is the same one, and is well conditioned wherever the
numbers stand. Refuses to know: formulas, sums, and how centres and scales are found.

A design column is a product: of a part that follows from factors alone, and of numeric columns v. With ``z = (v -
centre) / scale`` in the place of each v the columns become ``X~ = X T``, with T from public facts alone; so ``beta =
T beta~``, and a contrast c of beta is ``T' c`` of beta~.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.own_columns import orthogonal, spans

Term: TypeAlias = tuple[int, int, tuple[int, ...], float]
"""Where column j adds to column k: ``(k, j, numeric columns left out of the product, coefficient)``."""


@dataclass(frozen=True)
class Expansion:
    """How a design's columns hold its numeric columns: public, and the same at every site."""

    holds: Mask
    """Which numeric columns are in the product that a design column is, ``(params, numeric)``."""
    centrable: Mask
    """Which numeric columns the design spans the centring of, ``(numeric,)``; others are scaled alone."""
    terms: tuple[Term, ...]
    """Of T, one for every product that centring makes."""

    def matrix(self, offsets: Floats, scales: Floats) -> Floats:
        """T with ``X~ = X T``, ``(params, params)``; ``offsets`` are from what the user's columns are centred at."""
        T = np.zeros((self.holds.shape[0], self.holds.shape[0]))
        for k, j, out, coefficient in self.terms:
            value = coefficient
            for f in out:
                value *= -float(offsets[f])
            for f, inside in enumerate(self.holds[j]):
                value /= float(scales[f]) if inside else 1.0
            T[k, j] += value
        return T


@dataclass(frozen=True)
class Back:
    """From own coefficients of scaled columns to those of the user's: ``delta = own delta~ + shared beta~``."""

    own: Floats
    """``(own, own)``."""
    shared: Floats
    """``(own, params)``."""


@dataclass(frozen=True)
class Covariates:
    """One site's numeric columns beside what makes a design of them. Never leaves the site's process."""

    numbers: Floats = field(repr=False)
    """v, ``(samples, numeric)``, as the formula has them, not centred."""
    parts: Floats = field(repr=False)
    """What follows from factors alone, ``(samples, all params)``."""
    expansion: Expansion
    table: tuple[int, ...]
    """Columns whose coefficients are estimated together, of all."""
    own: tuple[int, ...] = ()
    """Columns that are this site's own."""

    def with_columns(self, kept: Mask) -> Covariates:
        """The same with some of the table's columns."""
        return replace(self, table=tuple(k for k, stays in zip(self.table, kept, strict=True) if stays))

    def design(self, centres: Floats, scales: Floats) -> Floats:
        """The design's columns with ``(v - centre) / scale`` for each v, ``(samples, all params)``."""
        X = self.parts.copy()
        for f, (centre, scale) in enumerate(zip(centres, scales, strict=True)):
            X[:, self.expansion.holds[:, f]] *= ((self.numbers[:, f] - centre) / scale)[:, None]
        return X

    def split(self, centres: Floats, scales: Floats, base: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Scaled columns ``(samples, params)`` of the table and own ones, then both as the user has them.

        The table's are zero where own columns make up for them, which is looked for among the scaled ones: those of
        numbers far from zero are all the same to within rounding. ``base`` is what the user's are centred at.
        """
        scaled, plain = self.design(centres, scales), self.design(base, np.ones_like(scales))
        table, own = list(self.table), list(self.own)
        shared, mine, left = scaled[:, table], scaled[:, own], plain[:, table]
        if own:
            kinds = zip(shared.T, left.T, strict=True)
            made_up = [spans(mine, column if column.any() else user) for column, user in kinds]
            shared[:, made_up] = left[:, made_up] = 0.0
        return np.ascontiguousarray(shared), np.ascontiguousarray(mine), left, plain[:, own]

    def back(self, centres: Floats, scales: Floats, base: Floats) -> Back:
        """From own coefficients of the scaled columns to those of the user's."""
        shared, mine, left, plain = self.split(centres, scales, base)
        table = np.array(self.table, dtype=np.intp)
        T = self.expansion.matrix(centres - base, scales)[np.ix_(table, table)]
        return Back(_coefficients(plain, mine), _coefficients(plain, shared - product(left, T)))

    def at_home(self) -> tuple[Floats, Floats]:
        """Centres and scales from this site's samples alone: enough to tell which of its columns depend on which."""
        count = self.numbers.shape[1]
        centres, scales = np.zeros(count), np.ones(count)
        for f in range(count):
            v = self.numbers[:, f]
            if v.size and self.expansion.centrable[f]:
                centres[f] = v.mean()
            spread = np.abs(v - centres[f]).max(initial=0.0)
            scales[f] = spread if spread > 0 else 1.0
        return centres, scales


def to_user(coefficients: Floats, T: Floats) -> Floats:
    """``T beta`` of every gene, ``(genes, params)``."""
    return product(coefficients, T.T)


def of_scaled(contrast: Floats, T: Floats) -> Floats:
    """The contrast of scaled coefficients that one of the user's is, ``T' c``, ``(params,)``."""
    found: Floats = product(contrast[None], T)[0]
    return found


def nearest(centre: float, spread: float) -> tuple[float, float]:
    """A centre and a scale near these with few digits: a power of two, and a multiple of its sixteenth.

    So numbers with few digits are centred and scaled without rounding.
    """
    mantissa, exponent = math.frexp(spread)
    scale = math.ldexp(1.0, exponent - (mantissa * mantissa < 0.5))
    return float(np.rint(centre / (scale / 16.0))) * (scale / 16.0), scale


def combination(columns: Floats, other: Floats) -> dict[int, float]:
    """Whole numbers with which columns ``(rows, k)`` add up to another ``(rows,)``, by column; none if there are none.

    Exact, and so the same on every machine.
    """
    if not columns.shape[1]:
        return {}
    found = np.rint(_coefficients(columns, other[:, None])[:, 0])
    if not np.array_equal(product(columns, found[:, None])[:, 0], other):
        return {}
    return {int(k): float(found[k]) for k in np.flatnonzero(found)}


def product(left: Floats, right: Floats) -> Floats:
    """A matrix product without BLAS."""
    total: Floats = np.zeros((left.shape[0], right.shape[1]))
    for k in range(left.shape[1]):
        total += left[:, k, None] * right[k]
    return total


def _coefficients(columns: Floats, values: Floats) -> Floats:
    """Least squares of values ``(rows, m)`` on columns ``(rows, k)``: ``(k, m)``; zero for columns that depend."""
    basis, triangle = orthogonal(columns)
    found: Floats = np.zeros((columns.shape[1], values.shape[1]))
    for j in range(columns.shape[1]):
        found[j] = (basis[:, j, None] * values).sum(axis=0)
    for j in reversed(range(columns.shape[1])):
        for k in range(j + 1, columns.shape[1]):
            found[j] -= triangle[j, k] * found[k]
        found[j] *= 0.0 if triangle[j, j] == 0.0 else 1.0 / triangle[j, j]
    return found
