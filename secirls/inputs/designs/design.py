"""From a formula and the agreed levels to design columns that are the same at every site.

Promises: columns follow from the formula and the agreed levels alone, never from one site's data or
a hash order. Refuses to know: how a formula is read (`secirls.inputs.formulas.formula`) and becomes columns
(`secirls.inputs.designs.coding`), and what is summed.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from secirls.input_error import InputError
from secirls.inputs.annotation import Columns
from secirls.inputs.designs.coding import Coding
from secirls.inputs.designs.expansion import LARGEST_ENUMERATION, Made
from secirls.inputs.designs.own_columns import OwnColumns
from secirls.inputs.designs.probes import PROBES
from secirls.inputs.designs.ranks import apart
from secirls.inputs.formulas.formula import Factor, Formula, parse
from secirls.inputs.formulas.labels import label, labels
from secirls.inputs.formulas.levels import Levels, Variable, agree_levels
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arrays import Floats
from secirls.numerics.held.covariates import Covariates, Expansion

__all__ = ["Design", "Levels", "Variable", "variables"]

LARGEST_GROUPS = 4096
"""Combinations of levels that a design may have where they are counted."""
LARGEST_ENUMERATIONS = 1 << 16
"""The same for all sites together."""
LARGEST_ROWS = 1 << 25
"""Numbers in their rows: 256 MiB."""
LARGEST_WORK = 1 << 27
"""Products of numbers by which one site's columns are told from others': of five hundred levels, seconds."""


def variables(formula: str) -> tuple[str, ...]:
    """The obs columns a formula needs, in order of appearance. Raises `InputError` for what can't be used."""
    return parse(formula).variables


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
    dropped: tuple[int, ...] = ()
    """Columns without any sample that were left out."""
    order: Mapping[str, str] = field(default_factory=dict)
    """Of every factor, in a few words, why its levels are in this order."""
    numbered: tuple[str, ...] = ()
    """Numeric variables that hold few whole numbers at every site, and may be factors whose levels are numbered."""
    alone: tuple[str, ...] = ()
    """In a sentence each: the levels of a factor that one site alone has, where others stand at several."""

    @classmethod
    def agree(
        cls, formula: str, declared: Levels, said: Mapping[str, Mapping[str, Variable]], *, own: bool = False
    ) -> Design:
        """Agree on levels from what every site said: as declared, else the union.

        It has the order of the files where no two contradict each other, as PyDESeq2's; else it is sorted.

        With ``own``, columns that only one site adds to stay with it.

        Raises `InputError` where sites differ in kind or hold a level that was not declared.
        """
        agreed = agree_levels(formula, declared, said)
        levels = agreed.levels
        held = {name: Counter(level for facts in said.values() for level in facts[name].levels) for name in levels}
        shared = tuple(name for name in levels if max(held[name].values(), default=0) > 1)
        design = cls(formula, levels, agreed.numeric, variables(formula), shared)
        design = replace(design, order=agreed.order, numbered=agreed.numbered, alone=agreed.alone)
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

    @property
    def told(self) -> tuple[str, ...]:
        """In words: levels of every factor and why they are in their order, those of one site, what is a slope."""
        factors = (f"{name}: {', '.join(self.levels[name])} ({why})" for name, why in self.order.items())
        slopes = (
            f"{factor.expr}: numbers, fitted as a slope"
            + (f"; if they number groups, say C({factor.expr})" if factor in self.perhaps_groups else "")
            for factor in self.features
        )
        return (*factors, *self.alone, *slopes)

    @property
    def perhaps_groups(self) -> tuple[Factor, ...]:
        """The `features` that stand for themselves and may be factors whose levels are numbered."""
        return tuple(factor for factor in self.features if factor.bare and factor.variable in self.numbered)

    @cached_property
    def all_columns(self) -> tuple[str, ...]:
        """Names of all design columns, in order."""
        return self.coding.names

    @property
    def size(self) -> int:
        """How many design columns there are, own and dropped ones too."""
        return len(self.all_columns)

    def without(self, columns: tuple[int, ...]) -> Design:
        """The same without some of all columns, which no sample is in."""
        return replace(self, dropped=(*self.dropped, *columns))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the design columns whose coefficients are estimated together, in order."""
        return tuple(self.all_columns[i] for i in self.at_the_table)

    @cached_property
    def at_the_table(self) -> NDArray[np.intp]:
        """Which of all columns those are."""
        away = self.own.all.union(self.dropped)
        return np.array([i for i in range(self.size) if i not in away], dtype=np.intp)

    def matrix(self, obs: Columns) -> Floats:
        """Design matrix ``(samples, all params)`` of one site's obs, whose columns were checked before; not centred."""
        here = self.covariates(obs, "")
        return here.design(np.zeros(len(self.features)), np.ones(len(self.features)))

    def covariates(self, obs: Columns, site: str) -> Covariates:
        """What one site's design is made of, centred and scaled or not."""
        values = np.empty((len(obs), len(self.features)))
        for f, factor in enumerate(self.features):
            values[:, f] = factor.values(obs[factor.variable].to_numpy(dtype=np.float64))
        held = {name: labels(obs[name]) for name in self.levels}
        parts = self.rows(held, np.ones_like(values)) if len(obs) else np.zeros((0, self.size))
        table, own = tuple(map(int, self.at_the_table)), tuple(self.own.at(site))
        return Covariates(values, parts, self.expansion, table, own)

    @property
    def features(self) -> tuple[Factor, ...]:
        """The numeric factors of the formula, such as ``age`` and ``log(dose)``, in order of appearance."""
        return self.coding.features

    @cached_property
    def centred(self) -> NDArray[np.bool_]:
        """Which of the `features` the formula itself centres, ``(numeric,)``."""
        return np.array([factor.centred for factor in self.features], dtype=bool)

    @cached_property
    def expansion(self) -> Expansion:
        """How the columns hold the `features`, and what centring those adds to which others: from public facts."""
        made = Made(
            self.coding.terms,
            tuple(factor.expr for factor in self.features),
            {factor.expr: factor.variable for factor in self.parsed.factors if factor.variable in self.levels},
            self.levels,
            self.own.all,
        )
        return made.expansion(self.centred, lambda held, rows: self.rows(held, np.ones((rows, len(self.features)))))

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Every combination of the levels of the shared factors, in order: one without factors, the empty one.

        Raises `InputError` for more than `LARGEST_GROUPS`.
        """
        count = math.prod(len(self.levels[name]) for name in self.shared)
        if count > LARGEST_GROUPS:
            raise InputError(f"design {self.formula!r} has {count} combinations of levels, more than {LARGEST_GROUPS}")
        return tuple(itertools.product(*(self.levels[name] for name in self.shared)))

    def group_sizes(self, obs: Columns) -> Floats:
        """How many of one site's samples are in each of the `groups`, ``(groups,)``."""
        if not self.shared:
            return np.array([float(len(obs))])
        place = {group: number for number, group in enumerate(self.groups)}
        rows = zip(*(labels(obs[name]) for name in self.shared), strict=True)
        return np.bincount([place[row] for row in rows], minlength=len(place)).astype(np.float64)

    def cells_apart(self, sites: Floats, least: int) -> tuple[str, ...]:
        """Which `groups` at fewer than ``least`` sites have sums that follow from those of the columns; in words.

        ``sites`` have samples in each, ``(groups,)``. A lonely column shows such a group, but a reference cell has no
        column: see `secirls.inputs.designs.ranks.apart`.
        """
        few = np.flatnonzero((sites > 0) & (sites < least))
        if not few.size:
            return ()
        rows = np.split(self.coding.rows_at(self.groups, self.shared)[:, self.at_the_table], len(self.groups))
        cells = apart({int(number): rows[number] for number in np.flatnonzero(sites > 0)}, few.tolist())
        named = (zip(self.shared, self.groups[number], strict=True) for number in cells)
        return tuple("cell " + ", ".join(f"{factor}={level}" for factor, level in pairs) for pairs in named)

    def could_hold(self, said: Mapping[str, Variable]) -> NDArray[np.bool_]:
        """Which columns samples of a site with these levels can be non-zero in, ``(params,)``: from public facts."""
        rows = self.possible_rows({"": said})
        return np.ones(self.size, dtype=bool) if rows is None else np.asarray((rows[""] != 0).any(axis=0))

    def told_apart(self, said: Mapping[str, Mapping[str, Variable]]) -> tuple[str, ...] | None:
        """Sites whose own sums follow from those of the columns, by the levels that all have ``said``; in order.

        See `secirls.inputs.designs.ranks.apart`. ``None`` where the levels have too many combinations to tell.
        """
        rows = self.possible_rows(said)
        if rows is None:
            return None
        alike: dict[int, list[str]] = {}
        for site in sorted(rows):
            alike.setdefault(id(rows[site]), []).append(site)
        # Nobody is apart whose rows all are another's too, and a third with the same rows adds nothing.
        shared = {site: self.own.split(site, rows[site])[0] for same in alike.values() for site in same[:2]}
        return tuple(apart(shared, [same[0] for same in alike.values() if len(same) == 1]))

    def possible_rows(self, said: Mapping[str, Mapping[str, Variable]]) -> dict[str, Floats] | None:
        """The design rows that samples of sites with such levels can have, each ``(rows, all params)``: public facts.

        Numeric variables stand at a few fixed values. ``None`` where there are too many combinations to go through.
        Sites with the same levels have one and the same array. Raises `InputError` for more than `LARGEST_WORK`.
        """
        in_order: dict[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]] = {}
        held = {}
        for site, told in said.items():
            levels = tuple(tuple(told[name].levels) for name in self.levels)
            if levels not in in_order:
                known = zip(self.levels.values(), levels, strict=True)
                in_order[levels] = tuple(tuple(x for x in all_ if x in mine) for all_, mine in known)
            held[site] = in_order[levels]
        different = tuple(dict.fromkeys(held.values()))
        sizes = [math.prod(map(len, levels)) for levels in different]
        if max(sizes) > LARGEST_ENUMERATION or sum(sizes) > LARGEST_ENUMERATIONS:
            return None
        probes = PROBES if self.numeric else 1
        if sum(sizes) * probes * self.size > LARGEST_ROWS:
            return None
        if sum(probes * size * min(probes * size, self.size) ** 2 for size in sizes) > LARGEST_WORK:
            raise InputError(f"design {self.formula!r} has too many columns at one site: its levels are too many")
        rows = self.coding.rows_at([row for levels in different for row in itertools.product(*levels)])
        ends = np.cumsum(sizes) * probes
        parts = dict(zip(different, np.split(rows, ends[:-1]), strict=True))
        return {site: parts[levels] for site, levels in held.items()}

    @cached_property
    def coding(self) -> Coding:
        """All that the columns follow from."""
        return Coding.of(self.formula, self.levels, self.numeric)

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
        return self._cells

    @cached_property
    def _cells(self) -> Floats:
        rows = self.coding.rows_at(list(itertools.product(*self.levels.values())))
        rows = rows[~rows[:, sorted(self.own.all.union(self.dropped))].any(axis=1)][:, self.at_the_table]
        distinct: Floats = np.ascontiguousarray(rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])])
        return distinct

    def products(self) -> Products:
        """Which products of design columns differ, for all samples that the formula and the levels allow.

        Every product by itself where the levels have too many combinations, and where sites have columns of their own:
        what is left once those are taken out is no sum of products.
        """
        if self.own.of or math.prod(map(len, self.levels.values())) > LARGEST_ENUMERATION:
            return Products.full(len(self.columns))
        rows = self.coding.rows_at(list(itertools.product(*self.levels.values())))
        return Products.among(rows[~rows[:, list(self.dropped)].any(axis=1)][:, self.at_the_table])

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
        values = np.zeros((2, len(self.features)))
        given: dict[str, list[str]] = {}
        if factor in self.numeric:
            try:
                ends = [float(level), float(reference)]
            except ValueError:
                raise InputError(f"contrast: {factor!r} is numeric, so give two numbers") from None
            for f, feature in enumerate(self.features):
                if feature.variable == factor:
                    values[:, f] = feature.values(ends)
            if not np.isfinite(values).all():
                raise InputError(f"contrast: the design has no finite values for {factor!r} at {level} and {reference}")
        else:
            given[factor] = [level, reference]
        rows = self.rows(given, values)
        difference: Floats = rows[0] - rows[1]
        if not difference.any():
            raise InputError(f"contrast {factor} {level} {reference} compares a level with itself")
        return self.together(difference, f"contrast {factor} {level} {reference}")

    def column(self, name: str, asking: str) -> int:
        """Which of the table's columns has this name. Raises `InputError` for one that is not there."""
        if name in self.columns:
            return self.columns.index(name)
        if name in self.all_columns:
            self.together(np.array([column == name for column in self.all_columns], dtype=np.float64), asking)
        raise InputError(f"{asking} names {name!r}; the coefficients are {', '.join(map(repr, self.columns))}")

    def together(self, contrast: Floats, name: str) -> Floats:
        """A contrast of all columns ``(all params,)`` among those of the table. Raises `InputError`."""
        for site, columns in self.own.of.items():
            kept = next((column for column in columns if contrast[column]), None)
            if kept is not None:
                raise InputError(
                    f"{name} asks for {self.all_columns[kept]!r}, which {site} alone adds to and keeps: compare "
                    "what several sites have, or publish that site's sums with own_columns = 'shared'"
                )
        for column in self.dropped:
            if contrast[column]:
                raise InputError(f"{name} asks for {self.all_columns[column]!r}, which was dropped: no sample is in it")
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
        """Factor, level and reference of the default contrast, if it compares levels.

        The level is the last that has samples, as far as columns without any were dropped.
        """
        last = self.parsed.terms[-1]
        if len(last) != 1 or last[0].variable not in self.levels:
            return None
        name = last[0].variable
        levels = self.levels[name]
        rows = self.rows({name: levels}, np.zeros((len(levels), len(self.features))))
        gone = (rows - rows[0])[:, list(self.dropped)].any(axis=1)
        held = [level for level, dropped in zip(levels[1:], gone[1:], strict=True) if not dropped]
        return name, held[-1] if held else levels[-1], levels[0]

    @property
    def parsed(self) -> Formula:
        """The formula, read."""
        return parse(self.formula)

    def rows(self, levels: Mapping[str, Sequence[str]], values: Floats) -> Floats:
        """Design rows ``(rows, all params)`` at levels by variable and values of the `features` ``(rows, numeric)``.

        Variables that are not given stand at reference level.
        """
        return self.coding.rows(levels, values)
