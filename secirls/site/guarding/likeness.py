"""How like the design columns of one fit are to those of others at a site: whether a difference tells of few samples.

Promises: of two fits whose columns differ in a few samples of this site, or in what each site takes out of columns as
its own, the likeness is counted. Refuses to know: where columns are kept, and what is done about it; see `Policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secirls.numerics.arrays import Floats
from secirls.site.guarding.least_deviations import Combinations

_ROUNDING = 1e-9
"""Of a column's largest entry: what is left of it, if no more than this, is nothing."""
_FREE = 3
"""With fewer samples more than columns, what is left of any column is a few samples."""
_FEW_OF = 5
"""One in so many samples, or a single one: other columns of theirs differ in more."""
_ALONE = 3
"""In fewer samples a column is itself a few samples', beside a constant; levels that are told have as many."""


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
            return few_differ(one.columns, fit.columns, least) or few_stand_out(one, fit, least)

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


def few_differ(earlier: Floats, now: Floats, least: int) -> bool:
    """Whether some column of one fit is a combination of another's but for a few samples, fewer than ``least``.

    Both ``(samples, columns)``, over size factors, the first column that of all samples. Combinations within one fit
    are left to the rule about X'X of all sites. A column is held against each of the other fit's, and all together.
    """
    weights = np.where(now[:, 0] > 0, now[:, 0], 1.0)[:, None]
    former, later = _unit(earlier / weights), _unit(now / weights)
    news, olds = _beyond(later, former), _beyond(former, later)
    if not (news and olds):
        return False  # one fit's columns are all combinations of the other's
    beside = [former, *(former[:, [old]] for old in olds)]
    return _few(later, news, beside, least) or _few(former, olds, [later], least)


def few_stand_out(earlier: Summed, now: Summed, least: int) -> bool:
    """Whether a column of one fit is, but for a few samples, one that is nothing of its own at this site in the other.

    A column may be a constant here, or another of its fit, and vary elsewhere. One of the other fit's that is the same
    but for a few samples here may be the same elsewhere, unless both fits have the column, by its name and values.
    """
    weights = np.where(now.columns[:, 0] > 0, now.columns[:, 0], 1.0)[:, None]
    one, two = (_by_name(fit, fit.columns / weights) for fit in (earlier, now))
    both = one.keys() & two.keys()
    old, new = (np.array([column for key, column in fit.items() if key not in both]).T for fit in (one, two))
    if not (old.size and new.size):
        return False
    former, later = (_unit(fit.columns / weights) for fit in (earlier, now))
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


def _few(side: Floats, columns: Sequence[int], beside: Sequence[Floats], least: int) -> bool:
    """Whether one of some columns of a fit, beside that of all samples, is few samples' beside one of the others."""
    for chosen, every in (
        ([column for column in columns if not column], side[:, :0]),
        ([column for column in columns if column], side[:, :1]),
    ):
        by_itself = Combinations(every).differing(side[:, chosen])
        for others in beside if chosen else ():
            combinations = Combinations(np.hstack([every, others]))
            if combinations.free < _FREE:
                continue
            left = combinations.differing(side[:, chosen])
            if ((left > 0) & (left < np.minimum(least, by_itself)) & (left <= _most(combinations))).any():
                return True
    return False


def _most(combinations: Combinations) -> int:
    """In how many samples a column may differ and be few samples'."""
    return max(1, combinations.free // _FEW_OF)


def _beyond(columns: Floats, others: Floats) -> list[int]:
    """Which columns are no combination of others."""
    return np.flatnonzero(_left(columns, others).any(axis=0)).tolist()
