"""How like the design columns of one fit are to those of others at a site: whether a difference tells of few samples.

Promises: of two fits whose columns differ in a few samples of this site, or in what each site takes out of columns as
its own, the likeness is counted. Refuses to know: where columns are kept, and what is done about it; see `Policy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from secirls.numerics.algebra.least_deviations import Combinations
from secirls.numerics.arrays import Floats, Mask

_ROUNDING = 1e-9
"""Of a column's largest entry: what is left of it, if no more than this, is nothing."""
_FREE = 3
"""With fewer samples more than columns, what is left of any column is a few samples."""
_FEW_OF = 5
"""One in so many samples, or a single one: other columns of theirs differ in more."""
_NEARLY = 1e-4
"""The same of what least absolute deviations leave, which are found in steps."""
_NEARLY_ALONE, _ALONE_IN = 0.9, 0.999
"""Of the squares of a combination of columns: a sample that has so much has nearly all, or all."""
_RIDGE = 1e-10
"""On squares of columns no larger than one: of several that are one combination any may go."""
_NO_PART = 1e-6
"""Of what the column takes with it by which a sample is alone most: one that takes less it is not alone by."""
_ALONE = 3
"""In fewer samples a column is itself a few samples', beside a constant; levels that are told have as many."""


_Columns: TypeAlias = Mapping[tuple[str, bytes], Floats]
"""By their names and values."""


@dataclass(frozen=True)
class Summed:
    """What one fit summed with."""

    columns: Floats
    """Over size factors: one of ones, the site's own, the table's; ``(samples, 1 + own + table's)``."""
    own: int
    names: tuple[str, ...] = ()
    """Of the columns after the first; none where they are not known."""
    samples: tuple[str, ...] = ()
    """What names each row."""

    def over(self, samples: tuple[str, ...]) -> Summed:
        """The same over some samples in this order: nothing was summed of those that the fit did not have."""
        if samples == self.samples:
            return self
        row = {sample: number for number, sample in enumerate(self.samples)}
        columns = np.zeros((len(samples), self.columns.shape[1]))
        there = [(to, row[sample]) for to, sample in enumerate(samples) if sample in row]
        columns[[to for to, _ in there]] = self.columns[[at for _, at in there]]
        return Summed(columns, self.own, self.names, samples)

    def is_the_same(self, other: Summed) -> bool:
        """Whether both summed with the same columns, called the same."""
        return (self.own, self.names) == (other.own, other.names) and np.array_equal(self.columns, other.columns)

    def beside(self, *others: Summed) -> Summed:
        """All columns of these and others over the same samples, as if one fit had them."""
        fits = (self, *others)
        names = [name for one in fits for name in ("", *(one.names or ("",) * (one.columns.shape[1] - 1)))]
        return Summed(np.hstack([one.columns for one in fits]), self.own, tuple(names[1:]), self.samples)

    def at_the_table(self) -> tuple[Floats, Floats]:
        """The own columns, and what is left of the table's beside them, but for constants: without size factors."""
        ones = self.columns[:, :1]
        plain = self.columns[:, 1:] / np.where(ones > 0, ones, 1.0)
        own, table = _unit(plain[:, : self.own]), _unit(plain[:, self.own :])
        return own, table[:, np.ptp(table, axis=0) > _ROUNDING]


@dataclass(frozen=True)
class Likeness:
    """To how many earlier fits of the same data columns are too like."""

    few_differ: int
    """They differ in a few samples."""
    other_own: int
    """They are the same beside other columns of the site's own: the difference is of whole sites."""

    @classmethod
    def of(cls, told: Sequence[Summed], now: Summed, least: int) -> Likeness:
        """Of a fit to those before, of which some may be about other samples too."""

        def differ(*fits: Summed) -> bool:
            first, *others, fit = _over_all(*fits, now)
            one = first.beside(*others)
            return (
                few_differ(one, fit, least)
                or few_stand_out(one, fit, least)
                or (least > 1 and one_is_alone(one, fit))
                or (least > 2 and two_are_alone(one, fit))
            )

        few = sum(map(differ, told))
        if len(told) > 1 and not few:
            few += differ(*told)
        return cls(few, sum(tells_sites(*_in_common(one, now)) for one in told))


def _over_all(*fits: Summed) -> list[Summed]:
    """Fits over the samples of all of them."""
    every = tuple(sorted({sample for one in fits for sample in one.samples}))
    return [one.over(every) for one in fits]


def _in_common(*fits: Summed) -> list[Summed]:
    """Fits over the samples that each of them has."""
    both = tuple(sorted(set[str].intersection(*(set(one.samples) for one in fits))))
    return [one.over(both) for one in fits]


def tells_sites(earlier: Summed, now: Summed) -> bool:
    """Whether some difference of two fits' columns is a combination of own columns, such as a site's indicator.

    With a column beside the sites' own indicators its mean at each site is taken off: the same column without them,
    less this, is the mean at each site, and summed it is each site's total times a number that people may know.
    """
    (one, former), (other, later) = earlier.at_the_table(), now.at_the_table()
    beside = np.hstack([one, other])
    if not beside.shape[1]:
        return False

    def inside(columns: Floats) -> int:
        """How many combinations of columns are combinations of own ones."""
        return _rank(columns) - _rank(_left(columns, beside))

    former, later = _left(former, one), _left(later, other)
    return inside(np.hstack([former, later])) > inside(former) + inside(later)


def _without_sizes(earlier: Summed, now: Summed) -> tuple[Floats, Floats]:
    """Both fits' columns, by the same size factors."""
    sizes = np.where(now.columns[:, 0] > 0, now.columns[:, 0], 1.0)[:, None]
    return earlier.columns / sizes, now.columns / sizes


def _unit(columns: Floats) -> Floats:
    """Columns whose largest entry is one; those that are nothing at this site are left out."""
    largest = np.abs(columns).max(axis=0, initial=0.0)
    unit: Floats = columns[:, largest > 0] / largest[largest > 0]
    return unit


def _left(columns: Floats, others: Floats) -> Floats:
    """What is left of columns once others are taken out by least squares; nothing where that is rounding."""
    if not others.shape[1]:
        return columns
    left = columns - others @ np.linalg.lstsq(others, columns, rcond=None)[0]
    return np.where(np.abs(left).max(axis=0, initial=0.0) > _ROUNDING, left, 0.0)


def _rank(columns: Floats) -> int:
    return int(np.linalg.matrix_rank(columns, tol=_ROUNDING)) if columns.size else 0


def few_differ(earlier: Summed, now: Summed, least: int) -> bool:
    """Whether some column of one fit is a combination of another's but for a few samples, fewer than ``least``.

    Combinations within one fit are left to the rule about X'X of all sites: columns that both fits have, by their names
    and values, tell nothing new. A column is held against each of the other fit's, and all together.
    """
    plain = _without_sizes(earlier, now)
    former, later = map(_unit, plain)
    news, olds = _beyond(later, former), _beyond(former, later)
    one, two = map(_by_name, (earlier, now), plain)
    again = one.keys() & two.keys()
    old, new = (np.array([fit[key] for key in fit if key not in again]).T for fit in (one, two))
    # A column that is a combination here may be so by few samples, those of a cell, and be another elsewhere. It may be
    # a level merged with another too, which has as many as a level that is told.
    known = old.size and new.size and len(news) + len(olds) < old.shape[1] + new.shape[1]
    if known and _one_apart(old, new, former[:, :1], least if news and olds else min(least, _ALONE)):
        return True
    if not (news and olds):
        return False  # one fit's columns are all combinations of the other's
    both = np.column_stack([np.zeros(len(former)), *(one[key] for key in again if key[0])])
    return _few(later, news, former, olds, both, least) or _few(former, olds, later, [], both, least)


def _one_apart(old: Floats, new: Floats, every: Floats, least: int) -> bool:
    """Whether one of some columns is one of others but for fewer samples than ``least``, beside that of all samples."""
    by_itself = Combinations(every).differing(new)
    for column in old.T:
        combinations = Combinations(np.hstack([every, column[:, None]]))
        left = combinations.differing(new)
        few = (left > 0) & (left < np.minimum(least, by_itself)) & (left <= _most(combinations))
        if combinations.free >= _FREE and few.any():
            return True
    return False


def one_is_alone(earlier: Summed, now: Summed) -> bool:
    """Whether all columns together have a combination that is one sample's, and those of neither fit have it.

    It is the sample whose leverage is one: levels of two factors, say, that are the same taken two by two but for it.
    Or nearly one, where there are no more columns than half as many as samples: with more, some are so by chance. One
    that a fit has here, in a cell of one sample, it may not have elsewhere: see `_alone_besides`.
    """
    plain = _without_sizes(earlier, now)
    former, later = map(_unit, plain)
    alone, within = _alone(former, later)
    if alone.any() or not within.any():
        return bool(alone.any())
    one, two = map(_by_name, (earlier, now), plain)
    return _alone_besides(one, two, np.hstack([former[:, :1], later[:, :1]]), within)


def two_are_alone(earlier: Summed, now: Summed) -> bool:
    """Whether all columns together have a combination that is two samples', and those of neither fit have it.

    They are no more than one in five of the samples that columns leave free: with fewer, some are so by chance.
    """
    former, later = map(_unit, _without_sizes(earlier, now))
    whole = Combinations(np.hstack([former, later]))
    if _most(whole) < 2:
        return False
    within = (Combinations(columns).pairs(_ALONE_IN) for columns in (former, later))
    return bool(whole.pairs(_ALONE_IN).difference(*within))


def _alone_besides(one: _Columns, two: _Columns, ones: Floats, among: Mask) -> bool:
    """Whether one ``among`` samples is alone in all columns of two fits but those by which it is in either's.

    It is by a few of them, such as an interaction and its factors, of which one is left out, each in turn; ``ones``,
    those of all samples of a fit, stay.
    """
    every = {**one, **two}
    stay = [key for key, column in every.items() if not key[0] or (column[:, None] == ones).all(axis=0).any()]
    columns = np.column_stack([ones, *(every.pop(key) for key in stay), *every.values()])
    first = columns.shape[1] - len(every)
    sides = [{number for number, key in enumerate(every, first) if key in side} for side in (one, two)]
    squares = columns.T @ columns + _RIDGE * np.eye(columns.shape[1])
    everything = set(range(first, columns.shape[1]))

    def within(sample: int, kept: set[int]) -> dict[int, float]:
        """Columns left by which it is alone in a fit, and how much of its leverage would go with each; or none."""
        for side in sides:
            these = [*range(first), *sorted(side & kept)]
            inverse = np.linalg.inv(squares[np.ix_(these, these)])
            along = inverse @ columns[sample, these]
            if columns[sample, these] @ along > _NEARLY_ALONE:
                gone = along**2 / np.diag(inverse)
                told = dict(zip(these[first:], gone[first:].tolist(), strict=True))
                most = max(told.values(), default=0.0)
                return {number: part for number, part in told.items() if part >= _NO_PART * most}
        return {}

    for sample in np.flatnonzero(among).tolist():
        rests = set()
        for out in within(sample, everything):
            kept = everything - {out}
            while told := within(sample, kept):
                kept.remove(max(told, key=lambda number: told[number]))
            rests.add(tuple(sorted(kept)))
        for rest in rests:
            beside = Combinations(columns[:, [*range(first), *rest]])
            if beside.leverages[sample] > _most_of_squares(beside):
                return True
    return False


def _alone(former: Floats, later: Floats) -> tuple[Mask, Mask]:
    """Which samples are alone in columns of two fits together and in neither's, and which in one's, ``(samples,)``."""
    whole, *parts = (Combinations(columns) for columns in (np.hstack([former, later]), former, later))
    most = _most_of_squares(whole)
    within = np.any([part.leverages > most for part in parts], axis=0)
    return (whole.leverages > most) & ~within, within


def _most_of_squares(columns: Combinations) -> float:
    """What a sample may have of any of them: with more than half as many as samples some have nearly all by chance."""
    return _NEARLY_ALONE if 2 * columns.free >= columns.samples else _ALONE_IN


def few_stand_out(earlier: Summed, now: Summed, least: int) -> bool:
    """Whether a column of one fit is, but for a few samples, one that is nothing of its own at this site in the other.

    A column may be a constant here, or another of its fit, and vary elsewhere. One of the other fit's that is the same
    but for a few samples here may be the same elsewhere, unless both fits have the column, by its name and values.
    """
    plain = _without_sizes(earlier, now)
    one, two = map(_by_name, (earlier, now), plain)
    both = one.keys() & two.keys()
    old, new = (np.array([column for key, column in fit.items() if key not in both]).T for fit in (one, two))
    if not (old.size and new.size):
        return False
    former, later = map(_unit, plain)
    return _stand_out(old, new, former, least) or _stand_out(new, old, later, least)


def _stand_out(alone: Floats, others: Floats, beside: Floats, least: int) -> bool:
    """Whether one of some columns of a fit is one of the ``others`` but for a few samples: see `few_stand_out`.

    ``beside`` are all columns of the fit, the first that of all samples.
    """
    every = beside[:, :1]
    varies, own = (_directions(_left(columns, every)) for columns in (others, beside))
    again = varies.any(axis=0) & (np.abs(varies.T @ own) > 1.0 - _ROUNDING).any(axis=1)
    idle = [every] if not varies.any(axis=0).all() else []
    idle += [np.hstack([every, column[:, None]]) for column in others[:, again].T]
    if not idle:
        return False
    by_itself = Combinations(every).differing(alone)
    for constants in map(Combinations, idle):
        left = constants.differing(alone)
        most = np.where(left < by_itself, least, min(least, _ALONE))
        if constants.free >= _FREE and ((left > 0) & (left < most) & (left <= _most(constants))).any():
            return True
    return False


def _by_name(fit: Summed, columns: Floats) -> dict[tuple[str, bytes], Floats]:
    """A fit's columns but the first, ``(samples,)``, each no larger than one, by their names and values."""
    names = fit.names or ("",) * (columns.shape[1] - 1)
    largest = np.maximum(np.abs(columns).max(axis=0, initial=0.0), np.finfo(np.float64).tiny)
    return {
        (name, column.tobytes()): column / most
        for name, column, most in zip(names, columns[:, 1:].T, largest[1:], strict=True)
    }


def _directions(columns: Floats) -> Floats:
    """Columns of length one; those that are nothing stay nothing."""
    lengths = np.sqrt((columns**2).sum(axis=0))
    return columns / np.where(lengths > 0, lengths, 1.0)


def _few(side: Floats, columns: Sequence[int], former: Floats, olds: Sequence[int], both: Floats, least: int) -> bool:
    """Whether one of some columns of a fit, beside that of all samples, is few samples' beside the ``former``'s.

    Beside all of them, if what is left is no combination of it and of those that ``both`` have; and beside each of the
    ``olds``.
    """
    for chosen, every in (
        ([column for column in columns if not column], side[:, :0]),
        ([column for column in columns if column], side[:, :1]),
    ):
        if not chosen:
            continue
        these = side[:, chosen]
        by_itself = Combinations(every).differing(these)
        for others, told in ((former, both), *((former[:, [old]], None) for old in olds)):
            combinations = Combinations(np.hstack([every, others]))
            if combinations.free < _FREE:
                continue
            left = combinations.left(these)
            differing = np.count_nonzero(left, axis=0)
            few = (differing > 0) & (differing < np.minimum(least, by_itself)) & (differing <= _most(combinations))
            if any(
                told is None or not _is_of(np.column_stack([every, told, these[:, k]]), left[:, k])
                for k in np.flatnonzero(few)
            ):
                return True
    return False


def _is_of(columns: Floats, left: Floats) -> bool:
    """Whether what is left of a column, ``(samples,)``, is a combination of columns but for rounding."""
    beyond = left - columns @ np.linalg.lstsq(columns, left, rcond=None)[0]
    return bool(np.abs(beyond).max() <= _NEARLY * np.abs(left).max())


def _most(combinations: Combinations) -> int:
    """In how many samples a column may differ and be few samples'."""
    return max(1, combinations.free // _FEW_OF)


def _beyond(columns: Floats, others: Floats) -> list[int]:
    """Which columns are no combination of others."""
    return np.flatnonzero(_left(columns, others).any(axis=0)).tolist()
