"""Which levels a factor has and in what order, from what sites and the configuration say.

Promises: the same levels in the same order for whoever finds them from the same public facts. Refuses to know: samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secirls.input_error import InputError, complain
from secirls.inputs.formulas.formula import parse
from secirls.inputs.formulas.labels import check_alike, is_plain, labels, merged

Levels = Mapping[str, tuple[str, ...]]

LARGEST_LEVELS = 1 << 12
"""Of a factor, at one site or all."""

SHOWN_ALONE = 5
"""Levels in a sentence on those of one site."""


@dataclass(frozen=True)
class Variable:
    """What one site says in public about one variable of the formula."""

    numeric: bool
    levels: tuple[str, ...] = ()
    """The levels seen at the site, in the order of its file; empty for a numeric variable."""
    numbered: bool = False
    """Of a numeric one: whether its values at the site may number groups, see `labels.numbered`. No more is said of a
    site's numbers."""


@dataclass(frozen=True)
class AgreedLevels:
    """What a formula's variables are."""

    levels: Levels
    """Of every factor, reference first."""
    order: Mapping[str, str]
    """In a few words, why they are in this order."""
    numeric: tuple[str, ...]
    """The other variables."""
    numbered: tuple[str, ...] = ()
    """Those of them that hold few whole numbers at every site."""
    alone: tuple[str, ...] = ()
    """In a sentence each: the levels of a factor that one site alone has, where others stand at several."""


def agree_levels(formula: str, declared: Levels, said: Mapping[str, Mapping[str, Variable]]) -> AgreedLevels:
    """Levels as declared, in the configuration or the formula, else the union of what sites hold.

    The union has the order of the files where no two contradict each other, as PyDESeq2's; else it is sorted. Raises
    `InputError` where sites differ in kind or hold a level that was not declared.
    """
    declared = declared_in(formula, declared)
    levels: dict[str, tuple[str, ...]] = {}
    order: dict[str, str] = {}
    alone: list[str] = []
    numeric: list[str] = []
    for name in parse(formula).variables:
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
        _check_no_function(formula, name)
        _check_few(name, [facts[name].levels for facts in said.values()])
        if declared.get(name):
            levels[name], order[name] = declared_levels(name, declared[name]), "declared"
        else:
            check_alike(name, {site: facts[name].levels for site, facts in said.items()})
            levels[name], order[name] = _ordered([facts[name].levels for facts in said.values()])
            alone += _alone(name, {site: facts[name].levels for site, facts in said.items()})
        for site, facts in said.items():
            _check_levels(site, name, facts[name], levels[name])
        if len(levels[name]) < 2:
            single = f"the single level {levels[name][0]!r}" if levels[name] else "no level"
            raise InputError(f"obs column {name!r} has {single} at all sites: there is nothing to compare")
    numbered = (name for name in numeric if all(facts[name].numbered for facts in said.values()))
    return AgreedLevels(levels, order, tuple(numeric), tuple(numbered), tuple(alone))


def declared_in(formula: str, declared: Levels) -> dict[str, tuple[str, ...]]:
    """Levels by variable, of a configuration and of its formula's ``C(...)``; none where they are as they come.

    Raises `InputError` for a variable that is not there, and where the two differ.
    """
    found = parse(formula).categorical
    for name, levels in declared.items():
        if name not in parse(formula).variables:
            raise InputError(f"levels are declared for {name!r}, which the design {formula!r} does not use")
        if found.get(name) and found[name] != declared_levels(name, levels):
            raise InputError(f"levels are declared for {name!r}, and the design {formula!r} lists others")
    return {**found, **declared}


def _check_few(name: str, told: Sequence[tuple[str, ...]]) -> None:
    """Raise `InputError`, before any is looked at, where what sites say has more than `LARGEST_LEVELS`."""
    if max(map(len, told)) > LARGEST_LEVELS or len({level for levels in told for level in levels}) > LARGEST_LEVELS:
        raise InputError(f"obs column {name!r} has more than {LARGEST_LEVELS} levels: its design is too large")


def _check_no_function(formula: str, name: str) -> None:
    """Raise `InputError` where a design has a function of a factor."""
    for factor in parse(formula).factors:
        if factor.variable == name and not factor.categorical and not factor.bare:
            raise InputError(f"design {formula!r}: {factor.expr!r} needs numbers, and obs column {name!r} is a factor")


def declared_levels(name: str, levels: Sequence[str]) -> tuple[str, ...]:
    """Declared levels as sites label theirs. Raises `InputError` where two of them are one."""
    named = tuple(labels(levels))
    if len(set(named)) != len(named):
        raise InputError(f"levels of {name!r}: {', '.join(map(repr, levels))} name a level twice")
    return named


def _ordered(told: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], str]:
    """The union of the levels that sites hold, and why it is in its order."""
    union = tuple(sorted({level for levels in told for level in levels}))
    found = merged(told)
    if found is None:
        return union, "sorted, for the files have them in different orders"
    return found, "sorted" if found == union else "in the order of the files"


def _alone(name: str, held: Mapping[str, tuple[str, ...]]) -> list[str]:
    """A sentence on the levels that one site alone ``held``: perhaps written otherwise there. None where all are."""
    at: dict[str, list[str]] = {}
    for site, levels in held.items():
        for level in levels:
            at.setdefault(level, []).append(site)
    told = [f"{level} ({sites[0]})" for level, sites in sorted(at.items()) if len(sites) == 1]
    if not told or len(told) == len(at):
        return []
    more = f" and {len(told) - SHOWN_ALONE:,} more" if len(told) > SHOWN_ALONE else ""
    shown = ", ".join(told[:SHOWN_ALONE]) + more
    which = "if one is only written otherwise there, correct it, or name the levels that there are (--levels)"
    return [f"levels of {name} at one site alone: {shown}; {which}"]


def _check_levels(site: str, name: str, said: Variable, levels: tuple[str, ...]) -> None:
    if unseen := [level for level in said.levels if not is_plain(level)]:
        raise complain(
            f"has the level {unseen[0]!a}, with a character that is not seen: write it in letters",
            site=site,
            field=f"obs column {name!r}",
        )
    unknown = [level for level in said.levels if level not in levels]
    if unknown:
        raise complain(
            f"has the level {unknown[0]!r}, declared are {', '.join(map(repr, levels))}",
            site=site,
            field=f"obs column {name!r}",
        )
