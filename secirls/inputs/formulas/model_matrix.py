"""From a formula's terms to columns: which of a factor's levels have one, their names and their values.

Promises: columns span what the terms span and are none of them a combination of the others, whatever the data (the
rule of S, R, patsy and formulaic). Refuses to know: how a formula is written, and what its factors are made of.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Floats

Terms: TypeAlias = tuple[tuple[str, ...], ...]
"""Products of factors by name; the intercept is the empty one."""
_Spanned: TypeAlias = tuple[tuple[str, bool], ...]
"""A product of factors, each with whether it is without its first level."""


@dataclass(frozen=True)
class Coded:
    """A factor's values."""

    codes: NDArray[np.intp]
    """Which level each row has, ``(rows,)``."""
    levels: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[str], levels: tuple[str, ...]) -> Coded:
        """Code values. Raises `ValueError` for one that is no level."""
        place = {level: number for number, level in enumerate(levels)}
        codes = np.array([place.get(value, -1) for value in values], dtype=np.intp)
        if (codes < 0).any():
            raise ValueError("a value is none of its factor's levels")
        return cls(codes, levels)


@dataclass(frozen=True)
class ModelMatrix:
    """The columns of a formula."""

    matrix: Floats
    """``(rows, params)``."""
    names: tuple[str, ...]
    terms: Terms
    """The term that each belongs to."""


def width(terms: Terms, factors: Mapping[str, Coded | Floats]) -> int:
    """How many columns the model matrix has; none of them is made."""
    return sum(
        math.prod(len(coded.levels) - reduced for name, reduced in product if isinstance(coded := factors[name], Coded))
        for spanned in _products(terms, factors)
        for product in spanned
    )


def model_matrix(terms: Terms, factors: Mapping[str, Coded | Floats], rows: int) -> ModelMatrix:
    """The columns of terms whose factors are levels or numbers, ``(rows,)`` each. Raises `ValueError` for a NaN."""
    made: dict[tuple[int, str], Floats] = {}
    for number, spanned in enumerate(_products(terms, factors)):
        for product in spanned:
            parts = [_columns(name, factors[name], reduced=reduced) for name, reduced in product]
            for chosen in itertools.product(*(part.items() for part in reversed(parts))):  # the first changes fastest
                name = ":".join(name for name, _ in reversed(chosen)) or "Intercept"
                made[number, name] = reduce(np.multiply, [x for _, x in reversed(chosen)] or [np.ones(rows)])
    matrix = np.ascontiguousarray(np.array(list(made.values())).reshape(len(made), rows).T)
    if np.isnan(matrix).any():
        raise ValueError("a numeric factor has no value in some row")
    return ModelMatrix(matrix, tuple(name for _, name in made), tuple(terms[number] for number, _ in made))


def _products(terms: Terms, factors: Mapping[str, Coded | Floats]) -> tuple[tuple[_Spanned, ...], ...]:
    """Those of each term, by what of its factors is levels."""
    return _scoped(terms, frozenset(name for name in factors if isinstance(factors[name], Coded)))


def _columns(name: str, factor: Coded | Floats, *, reduced: bool) -> dict[str, Floats]:
    """A factor's own columns by name."""
    if not isinstance(factor, Coded):
        return {name: factor}
    return {
        f"{name}[{'T.' if reduced else ''}{level}]": (factor.codes == number).astype(np.float64)
        for number, level in enumerate(factor.levels)
        if number or not reduced
    }


@lru_cache(maxsize=256)
def _scoped(terms: Terms, categorical: frozenset[str]) -> tuple[tuple[_Spanned, ...], ...]:
    """The products of each term that those before it do not span, in as few as they can be written."""
    before: set[frozenset[tuple[str, bool]]] = set()
    found = []
    for term in terms:
        ways = [((name, True), None) if name in categorical else ((name, False),) for name in term]
        products = [tuple(part for part in parts if part) for parts in itertools.product(*ways)]
        new = [product for product in products if frozenset(product) not in before]
        before.update(map(frozenset, new))
        found.append(tuple(_merged(new)))
    return tuple(found)


def _merged(products: Iterable[_Spanned]) -> list[_Spanned]:
    """The same span by fewer products: a factor without its first level times b, and b, are the whole factor times b.

    The order is that of the smaller products, as far as it can be.
    """
    kept: list[_Spanned] = []
    for product in sorted(products, key=len):
        for other in kept:
            more = set(product) - set(other)
            if len(other) == len(product) - 1 and len(more) == 1 and next(iter(more))[1]:
                whole = tuple((name, reduced and (name, reduced) not in more) for name, reduced in product)
                kept = _merged([*(x for x in kept if x != other), whole])
                break
        else:
            kept.append(product)
    return kept
