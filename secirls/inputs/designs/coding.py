"""The columns that a formula has at given levels: their names, what each is made of, and rows of them.

Promises: all of it follows from public facts, so that the sites in one process expand them once. Refuses to know: who
has which levels, and which columns are whose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from secirls.inputs.designs.probes import PROBES, probed
from secirls.inputs.formulas.formula import Factor, Formula, parse
from secirls.inputs.formulas.levels import Levels
from secirls.inputs.formulas.model_matrix import Coded, Terms
from secirls.numerics.arrays import Floats


@dataclass(frozen=True)
class Coding:
    """A formula, levels by factor, numeric variables: the same at all sites."""

    formula: str
    levels: tuple[tuple[str, tuple[str, ...]], ...]
    """Reference first."""
    numeric: tuple[str, ...]

    @classmethod
    def of(cls, formula: str, levels: Levels, numeric: tuple[str, ...]) -> Coding:
        """As a design has them."""
        return cls(formula, tuple((name, tuple(held)) for name, held in levels.items()), numeric)

    @property
    def parsed(self) -> Formula:
        """The formula, read."""
        return parse(self.formula)

    @cached_property
    def features(self) -> tuple[Factor, ...]:
        """The numeric factors of the formula, such as ``age`` and ``log(dose)``, in order of appearance."""
        return tuple(factor for factor in self.parsed.factors if factor.variable in self.numeric)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns, in order."""
        return _columns(self)[0]

    @property
    def terms(self) -> Terms:
        """Of which factors each column is made."""
        return _columns(self)[1]

    def rows(self, levels: Mapping[str, Sequence[str]], values: Floats) -> Floats:
        """Rows ``(rows, all params)`` at levels by variable and values of the `features` ``(rows, numeric)``.

        Variables that are not given stand at reference level.
        """
        return self.parsed.materialise(self.factors(levels, values), values.shape[0]).matrix

    def rows_at(self, levels: Sequence[tuple[str, ...]], names: Sequence[str] | None = None) -> Floats:
        """Rows of combinations of levels, ``(rows, all params)``, numeric factors at their probes; read-only.

        Of all factors, or of those with these ``names``: then the others are at their reference.
        """
        return _rows(self, tuple(levels), tuple(dict(self.levels) if names is None else names))

    def factors(self, given: Mapping[str, Sequence[str]], values: Floats) -> dict[str, Coded | Floats]:
        """The values of the formula's factors; variables that are not given stand at reference level."""
        found: dict[str, Coded | Floats] = {}
        held = dict(self.levels)
        for factor in self.parsed.factors:
            if factor.variable in held:
                levels = held[factor.variable]
                found[factor.expr] = Coded.of(given.get(factor.variable, [levels[0]] * values.shape[0]), levels)
        for f, factor in enumerate(self.features):
            found[factor.expr] = values[:, f]
        return found


@lru_cache(maxsize=64)
def _columns(coding: Coding) -> tuple[tuple[str, ...], Terms]:
    made = coding.parsed.materialise(coding.factors({}, np.zeros((1, len(coding.features)))), 1)
    return made.names, made.terms


@lru_cache(maxsize=16)
def _rows(coding: Coding, levels: tuple[tuple[str, ...], ...], names: tuple[str, ...]) -> Floats:
    combined = [(row, probe) for row in levels for probe in range(PROBES if coding.numeric else 1)]
    if not combined:
        return np.zeros((0, len(coding.names)))
    given = {name: [row[i] for row, _ in combined] for i, name in enumerate(names)}
    rows = coding.rows(given, probed([probe for _, probe in combined], len(coding.features)))
    rows.flags.writeable = False
    return rows
