"""From a formula to design columns that are the same at every site: the one door to formulaic.

Promises: columns follow from the formula and the agreed levels alone, never from one site's data or
a hash order. Refuses expressions in formulas: a site evaluates no code from a message.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from secirls.input_error import InputError, complain
from secirls.inputs.labels import check_alike, label, labels
from secirls.inputs.own_columns import OwnColumns
from secirls.inputs.ranks import apart
from secirls.inputs.reduced_design import ReducedDesign, reduce, within_terms
from secirls.numerics.distinct_products import Products
from secirls.numerics.samples import Floats

Levels = Mapping[str, tuple[str, ...]]

LARGEST_GROUPS = 4096
"""Combinations of levels that a design may have where they are counted."""
LARGEST_ENUMERATION = 4096
"""Combinations of levels beyond which they are not gone through."""
LARGEST_ENUMERATIONS = 1 << 16
"""The same for all sites together."""
_PROBES = 3
"""Values of each numeric variable at which products of columns are told apart."""
_PRIMES = (2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0, 23.0)
"""Their square roots, and whole numbers added, stand for such values: no two variables take the same."""


@dataclass(frozen=True)
class Variable:
    """What one site says in public about one variable of the formula."""

    numeric: bool
    levels: tuple[str, ...] = ()
    """The levels seen at the site, sorted; empty for a numeric variable."""


def variables(formula: str) -> tuple[str, ...]:
    """The obs columns a formula needs, in order of appearance. Raises `InputError` for what can't be used."""
    names: dict[str, None] = {}
    for term in _terms(formula):
        for factor in term.factors:
            if factor.eval_method.name == "PYTHON":
                raise InputError(
                    f"design {formula!r}: {factor.expr!r} is an expression; sites evaluate no code, "
                    "so put the computed values into an obs column and name that"
                )
            if factor.eval_method.name == "LOOKUP":
                names[str(factor.expr)] = None
    return tuple(names)


def _terms(formula: str) -> Sequence[Any]:
    from formulaic import Formula, SimpleFormula
    from formulaic.errors import FormulaicError

    try:
        parsed = Formula(formula)
    except (FormulaicError, AttributeError, SyntaxError, TypeError, ValueError):
        raise InputError(f"design {formula!r} is not a formula like '~ batch + condition'") from None
    if not isinstance(parsed, SimpleFormula):
        raise InputError(f"design {formula!r} must have nothing left of '~' and a single part")
    if len(parsed) == 0:
        raise InputError(f"design {formula!r} has no terms")
    return list(parsed)


@dataclass(frozen=True)
class Design:
    """The agreed design: formula, levels of every categorical variable (reference first), numeric variables."""

    formula: str
    levels: Levels
    numeric: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=())
    shared: tuple[str, ...] = ()
    """Factors of which some level is at two or more sites; the levels of others name one site each."""
    own: OwnColumns = field(default_factory=OwnColumns)
    """Which columns are one site's alone, and stay there."""

    @classmethod
    def agree(
        cls, formula: str, declared: Levels, said: Mapping[str, Mapping[str, Variable]], *, own: bool = False
    ) -> Design:
        """Agree on levels from what every site said: as declared, else the sorted union.

        With ``own``, columns that only one site adds to stay with it.

        Raises `InputError` where sites differ in kind or hold a level that was not declared.
        """
        names = variables(formula)
        for name in declared:
            if name not in names:
                raise InputError(f"levels are declared for {name!r}, which the design {formula!r} does not use")
        levels: dict[str, tuple[str, ...]] = {}
        numeric: list[str] = []
        for name in names:
            kinds = {site: facts[name].numeric for site, facts in said.items()}
            if name not in declared and len(set(kinds.values())) == 2:
                odd = [site for site, is_numeric in kinds.items() if is_numeric]
                raise InputError(
                    f"obs column {name!r} is numeric at {', '.join(odd)} and categorical elsewhere: "
                    "declare its levels or make the files agree"
                )
            if name not in declared and all(kinds.values()):
                numeric.append(name)
                continue
            if name in declared:
                levels[name] = declared_levels(name, declared[name])
            else:
                check_alike(name, {site: facts[name].levels for site, facts in said.items()})
                levels[name] = tuple(sorted({level for facts in said.values() for level in facts[name].levels}))
            for site, facts in said.items():
                _check_levels(site, name, facts[name], levels[name])
            if len(levels[name]) < 2:
                raise InputError(
                    f"obs column {name!r} has the single level {levels[name]}: there is nothing to compare"
                )
        held = {name: Counter(level for facts in said.values() for level in facts[name].levels) for name in levels}
        shared = tuple(name for name in levels if max(held[name].values(), default=0) > 1)
        design = cls(formula, levels, tuple(numeric), names, shared)
        if not own:
            return design
        possible = design.possible_rows(said)
        if possible is None:
            return design
        found = OwnColumns.find(possible)
        if len(found.all) == design.size:
            raise InputError(
                f"design {formula!r}: every column is one site's alone, so there is nothing to estimate together"
            )
        return replace(design, own=found)

    @cached_property
    def all_columns(self) -> tuple[str, ...]:
        """Names of all design columns, in order."""
        return tuple(str(name) for name in self._materialise(self._frame({})).columns)

    @property
    def size(self) -> int:
        """How many design columns there are, own ones too."""
        return len(self.all_columns)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the design columns whose coefficients are estimated together, in order."""
        return tuple(self.all_columns[i] for i in self.at_the_table)

    @cached_property
    def at_the_table(self) -> NDArray[np.intp]:
        """Which of all columns those are."""
        own = self.own.all
        return np.array([i for i in range(self.size) if i not in own], dtype=np.intp)

    def matrix(self, obs: pd.DataFrame) -> Floats:
        """Design matrix ``(samples, all params)`` of one site's obs, whose columns were checked before."""
        if len(obs) == 0:
            return np.zeros((0, self.size))
        frame = {name: labels(obs[name]) for name in self.levels}
        numbers = {name: obs[name].to_numpy(dtype=np.float64) for name in self.numeric}
        return np.ascontiguousarray(self._materialise(self._frame({**frame, **numbers}, len(obs))), dtype=np.float64)

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Every combination of the levels of the shared factors, in order: one without factors, the empty one.

        Raises `InputError` for more than `LARGEST_GROUPS`.
        """
        count = math.prod(len(self.levels[name]) for name in self.shared)
        if count > LARGEST_GROUPS:
            raise InputError(f"design {self.formula!r} has {count} combinations of levels, more than {LARGEST_GROUPS}")
        return tuple(itertools.product(*(self.levels[name] for name in self.shared)))

    def group_sizes(self, obs: pd.DataFrame) -> Floats:
        """How many of one site's samples are in each of the `groups`, ``(groups,)``."""
        if not self.shared:
            return np.array([float(len(obs))])
        place = {group: number for number, group in enumerate(self.groups)}
        rows = zip(*(labels(obs[name]) for name in self.shared), strict=True)
        return np.bincount([place[row] for row in rows], minlength=len(place)).astype(np.float64)

    def cells_apart(self, sites: Floats, least: int) -> tuple[str, ...]:
        """Which `groups` at fewer than ``least`` sites have sums that follow from those of the columns; in words.

        ``sites`` have samples in each, ``(groups,)``. A lonely column shows such a group, but a reference cell has no
        column: see `secirls.inputs.ranks.apart`.
        """
        few = np.flatnonzero((sites > 0) & (sites < least))
        if not few.size:
            return ()
        rows = np.split(self._rows_at(self.groups, self.shared)[:, self.at_the_table], len(self.groups))
        cells = apart({int(number): rows[number] for number in np.flatnonzero(sites > 0)}, few.tolist())
        named = (zip(self.shared, self.groups[number], strict=True) for number in cells)
        return tuple("cell " + ", ".join(f"{factor}={level}" for factor, level in pairs) for pairs in named)

    def could_hold(self, said: Mapping[str, Variable]) -> NDArray[np.bool_]:
        """Which columns samples of a site with these levels can be non-zero in, ``(params,)``: from public facts."""
        rows = self.possible_rows({"": said})
        return np.ones(self.size, dtype=bool) if rows is None else np.asarray((rows[""] != 0).any(axis=0))

    def told_apart(self, said: Mapping[str, Mapping[str, Variable]]) -> tuple[str, ...]:
        """Sites whose own sums follow from those of the columns, by the levels that all have ``said``; in order.

        See `secirls.inputs.ranks.apart`. None where the levels have too many combinations to tell.
        """
        rows = self.possible_rows(said)
        if rows is None:
            return ()
        shared = {site: self.own.split(site, rows[site])[0] for site in sorted(rows)}
        return tuple(apart(shared, shared))

    def possible_rows(self, said: Mapping[str, Mapping[str, Variable]]) -> dict[str, Floats] | None:
        """The design rows that samples of sites with such levels can have, each ``(rows, all params)``: public facts.

        Numeric variables stand at a few fixed values. ``None`` where there are too many combinations to go through.
        """
        held = {
            site: tuple(tuple(x for x in self.levels[name] if x in told[name].levels) for name in self.levels)
            for site, told in said.items()
        }
        different = tuple(dict.fromkeys(held.values()))
        sizes = [math.prod(map(len, levels)) for levels in different]
        if max(sizes) > LARGEST_ENUMERATION or sum(sizes) > LARGEST_ENUMERATIONS:
            return None
        rows = self._rows_at([row for levels in different for row in itertools.product(*levels)])
        ends = np.cumsum(sizes) * (_PROBES if self.numeric else 1)
        parts = dict(zip(different, np.split(rows, ends[:-1]), strict=True))  # one call of formulaic for all sites
        return {site: parts[levels] for site, levels in held.items()}

    def _rows_at(self, levels: Sequence[tuple[str, ...]], names: Sequence[str] | None = None) -> Floats:
        """Design rows of combinations of levels, ``(rows, params)``, numeric variables at their probes.

        Of all factors, or of those with these ``names``: then the others are at their reference.
        """
        probes = range(_PROBES if self.numeric else 1)
        combined = [(row, probe) for row in levels for probe in probes]
        if not combined:
            return np.zeros((0, self.size))
        given: dict[str, Any] = {
            name: [row[i] for row, _ in combined] for i, name in enumerate(self.levels if names is None else names)
        }
        given |= self._probed([probe for _, probe in combined])
        return np.asarray(self._materialise(self._frame(given, len(combined))), dtype=np.float64)

    def _probed(self, probes: Sequence[int]) -> dict[str, Floats]:
        """Values of the numeric variables at each probe, such that no coincidence makes products of columns equal."""
        return {
            name: np.array([_PRIMES[(i + 3 * probe) % len(_PRIMES)] ** 0.5 + i + probe for probe in probes])
            for i, name in enumerate(self.numeric)
        }

    @property
    def enumerable(self) -> bool:
        """Whether cells follow from the levels, and are few enough to be gone through one by one."""
        return not self.numeric and math.prod(map(len, self.levels.values())) <= LARGEST_ENUMERATION

    def cells(self) -> Floats:
        """The distinct design rows that the declared levels allow, ``(cells, params)``, in the order of the levels.

        Those with a column of one site's own are left out: they are that site's cells. Raises `ValueError` where a
        variable is numeric: its cells are in the data.
        """
        if self.numeric:
            raise ValueError(f"the cells of a design with {self.numeric[0]!r} can't be told from its levels")
        rows = self._rows_at(list(itertools.product(*self.levels.values())))
        rows = rows[~rows[:, sorted(self.own.all)].any(axis=1)][:, self.at_the_table]
        distinct: Floats = np.ascontiguousarray(rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])])
        return distinct

    def products(self) -> Products:
        """Which products of design columns differ, for all samples that the formula and the levels allow.

        Every product by itself where the levels have too many combinations, and where sites have columns of their own:
        what is left once those are taken out is no sum of products.
        """
        if self.own.of or math.prod(map(len, self.levels.values())) > LARGEST_ENUMERATION:
            return Products.full(len(self.columns))
        return Products.among(self._rows_at(list(itertools.product(*self.levels.values()))))

    def reduced(self, formula: str) -> ReducedDesign:
        """A smaller design for a likelihood-ratio test. Raises `InputError` where it is not inside this one."""
        for name in variables(formula):
            if name not in self.names:
                raise InputError(
                    f"reduced design {formula!r} uses {name!r}, which the design {self.formula!r} does not use"
                )
        small = replace(self, formula=formula, own=OwnColumns())
        terms = [tuple(str(x.expr) for x in term.factors) for text in (self.formula, formula) for term in _terms(text)]
        numbers = {name: (0.0, *values) for name, values in self._probed(range(_PROBES)).items()}
        frame = self._frame(*within_terms(terms, self.levels, numbers))
        both = self._materialise(frame), small._materialise(frame)  # noqa: SLF001 - of the same class
        rows = np.asarray(both[0], dtype=np.float64), np.asarray(both[1], dtype=np.float64)
        columns = self.all_columns, small.all_columns
        return reduce((self.formula, formula), rows, columns, self.own, self.at_the_table)

    def contrast(self, factor: str, level: str, reference: str) -> Floats:
        """Coefficients of ``level`` against ``reference``, all else at reference or zero, ``(params,)``."""
        factor = factor.strip()
        if factor in self.levels:
            level, reference = label(level), label(reference)
        if factor not in self.names:
            raise InputError(f"contrast names {factor!r}, which the design {self.formula!r} does not use")
        for value in (level, reference):
            if factor in self.levels and value not in self.levels[factor]:
                raise InputError(
                    f"contrast: {value!r} is not a level of {factor!r}, which has {', '.join(self.levels[factor])}"
                )
        if factor in self.numeric:
            try:
                values: list[object] = [float(level), float(reference)]
            except ValueError:
                raise InputError(f"contrast: {factor!r} is numeric, so give two numbers") from None
        else:
            values = [level, reference]
        rows = np.asarray(self._materialise(self._frame({factor: values}, 2)), dtype=np.float64)
        difference: Floats = rows[0] - rows[1]
        if not difference.any():
            raise InputError(f"contrast {factor} {level} {reference} compares a level with itself")
        return self.together(difference, f"contrast {factor} {level} {reference}")

    def together(self, contrast: Floats, name: str) -> Floats:
        """A contrast of all columns ``(all params,)`` among those of the table. Raises `InputError`."""
        for site, columns in self.own.of.items():
            kept = next((column for column in columns if contrast[column]), None)
            if kept is not None:
                raise InputError(
                    f"{name} asks for {self.all_columns[kept]!r}, which {site} alone adds to and keeps: compare "
                    "what several sites have, or publish that site's sums with own_columns = 'shared'"
                )
        together: Floats = contrast[self.at_the_table]
        return together

    def default_contrast(self) -> tuple[Floats, str]:
        """Last level against reference where the last term is one factor, else the last column that is at the table.

        With its name. Raises `InputError` where one site alone adds to that level, and keeps it.
        """
        named = self.default_levels()
        if named is not None:
            name, level, reference = named
            return self.contrast(*named), f"{name}: {level} against {reference}"
        column = int(self.at_the_table[-1])
        unit = np.zeros(self.size)
        unit[column] = 1.0
        return self.together(unit, "the default contrast"), f"coefficient {self.all_columns[column]}"

    def default_levels(self) -> tuple[str, str, str] | None:
        """Factor, level and reference of the default contrast, if it compares levels."""
        last = _terms(self.formula)[-1].factors
        name = str(last[0].expr)
        if len(last) != 1 or name not in self.levels:
            return None
        return name, self.levels[name][-1], self.levels[name][0]

    def _frame(self, given: Mapping[str, Sequence[object] | Floats], rows: int = 1) -> pd.DataFrame:
        """A data frame of the formula's variables; those not given stand at reference level or zero."""
        columns: dict[str, Any] = {"": np.zeros(rows)}
        for name, levels in self.levels.items():
            columns[name] = pd.Categorical(list(given.get(name, [levels[0]] * rows)), categories=list(levels))
        for name in self.numeric:
            columns[name] = np.asarray(given.get(name, np.zeros(rows)), dtype=np.float64)
        return pd.DataFrame(columns)

    def _materialise(self, frame: pd.DataFrame) -> pd.DataFrame:
        from formulaic import Formula

        return pd.DataFrame(Formula(self.formula).get_model_matrix(frame, na_action="raise"))


def declared_levels(name: str, levels: Sequence[str]) -> tuple[str, ...]:
    """Declared levels as sites label theirs. Raises `InputError` where two of them are one."""
    named = tuple(labels(levels))
    if len(set(named)) != len(named):
        raise InputError(f"levels of {name!r}: {', '.join(map(repr, levels))} name a level twice")
    return named


def _check_levels(site: str, name: str, said: Variable, levels: tuple[str, ...]) -> None:
    unknown = [level for level in said.levels if level not in levels]
    if unknown:
        raise complain(
            f"has the level {unknown[0]!r}, declared are {', '.join(map(repr, levels))}",
            site=site,
            field=f"obs column {name!r}",
        )
