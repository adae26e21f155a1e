"""What centring a design's numeric columns adds to which of its other columns: from its formula and levels alone.

Promises: whole numbers that add up exactly, or a numeric column is not centred at all; so every party finds the same.
Refuses to know: samples, and where columns are centred.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Floats
from secirls.numerics.held.covariates import Expansion, Term, combination

LARGEST_ENUMERATION = 4096
"""Combinations of levels beyond which they are not gone through."""
Rows: TypeAlias = Callable[[Mapping[str, Sequence[str]], int], Floats]
"""Design rows ``(rows, params)`` at levels by variable, so many, with every numeric column at one."""


@dataclass(frozen=True)
class Made:
    """What a design's columns are made of."""

    columns: Sequence[tuple[str, ...]]
    """The factors in the product that each is."""
    numeric: tuple[str, ...]
    """Factors that are numbers."""
    variables: Mapping[str, str]
    """Of the other factors, the obs column."""
    levels: Mapping[str, tuple[str, ...]]
    own: frozenset[int]
    """Columns that are some site's own."""

    def expansion(self, centred: NDArray[np.bool_], rows: Rows) -> Expansion:
        """How the columns hold the numeric ones. Those that the formula has ``centred``, ``(numeric,)``, stay there."""
        holds = np.array([[name in names for name in self.numeric] for names in self.columns], dtype=bool)
        holds = holds.reshape(len(self.columns), len(self.numeric))
        centrable = np.ones(len(self.numeric), dtype=bool)
        while True:
            terms, missing = self._terms(holds, centrable & ~centred, rows)
            if not missing:
                return Expansion(holds, centrable, tuple(terms))
            centrable[list(missing)] = False

    def _terms(
        self, holds: NDArray[np.bool_], moved: NDArray[np.bool_], rows: Rows
    ) -> tuple[list[Term], tuple[int, ...]]:
        """The terms of an `Expansion` where some numeric columns are moved, or those that can't be."""
        terms: list[Term] = []
        for j in range(len(self.columns)):
            terms.append((j, j, (), 1.0))
            inside = [int(f) for f in np.flatnonzero(holds[j] & moved)]
            for count in range(1, len(inside) + 1):
                for out in itertools.combinations(inside, count):
                    left = holds[j].copy()
                    left[list(out)] = False
                    sums = self._combined(j, [int(k) for k in np.flatnonzero((holds == left).all(axis=1))], rows)
                    if not sums or any(j in self.own and k not in self.own for k in sums):
                        return terms, out
                    terms += [(k, j, out, value) for k, value in sums.items()]
        return terms, ()

    def _combined(self, column: int, among: list[int], rows: Rows) -> dict[int, float]:
        """Whole numbers with which some columns' parts without numbers add up to another's; none if none do."""
        made = [{self.variables[name] for name in names if name in self.variables} for names in self.columns]
        for chosen in ([k for k in among if made[k] <= made[column]], among):
            names = sorted(made[column].union(*(made[k] for k in chosen)))
            if math.prod(len(self.levels[name]) for name in names) > LARGEST_ENUMERATION:
                continue
            held = list(itertools.product(*(self.levels[name] for name in names)))
            found = rows({name: [row[i] for row in held] for i, name in enumerate(names)}, len(held))
            sums = combination(found[:, chosen], found[:, column])
            if sums:
                return {chosen[k]: value for k, value in sums.items()}
        return {}
