"""Trimmed means of counts that nobody may see: order statistics by counting, and one sum of what is left.

Promises: equal to sorting to about 1e-9; asked is only how many values lie at or below public thresholds, never for
fewer than all samples of a cell, and never in a cell whose kept values are fewer than the caller allows; thresholds
are whole numbers of steps between floats, the same bits on every machine. Refuses to know: why a mean is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.groundwork.normalisation import known_size_factors
from secirls.algorithms.outliers.cells import OfCells, cell_of, check_rows
from secirls.algorithms.query import Algorithm, Query, QueryError
from secirls.numerics.arithmetic.float_order import between
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples

THRESHOLDS = 7
"""Thresholds of an ask in one round, if not said otherwise."""
_COARSE_ROUNDS = 3
"""Rounds with no more thresholds than these: with many at once the first would show a cell's whole distribution."""
_FINE_THRESHOLDS = 63
"""Thresholds of an ask afterwards, when brackets are a 512th as wide and close on values that are equal."""
_FINE_VALUES = 1 << 14
"""Numbers of one such round, a tenth of what a round of IRLS has: where that is too few, fewer thresholds."""
NARROW = 2.0**-34
"""A bracket of this width, relative to its upper end, holds values that count as equal."""
_NOTHING = 2.0**-40
"""Values below this share of their scale count as zero."""
_FIRST_LOW, _FIRST_HIGH = 0.0497870683678639, 7.38905609893065
"""e^-3 and e^2: where, in scales, the first thresholds lie."""
_LARGEST_ASKS = 1 << 22
_LARGEST_ROUNDS = 200
_PART_VALUES = 1 << 17
"""Counts that are looked at at a time."""


@dataclass(frozen=True)
class _AskQuery(Query, OfCells):
    """About values of some genes in some cells; z = y / s, or its squared distance from a public centre."""

    rows: Floats
    """The cells of the design, ``(cells, params)``."""
    gene: Floats
    """Which of the genes asked about, ``(asks,)``: whole numbers."""
    cell: Floats
    """Which cell, ``(asks,)``: whole numbers; one beyond the last cell means all samples."""
    centre: Floats
    """What z is compared with, ``(asks,)``, or empty: then values are z itself."""

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_rows(self, self.rows, n_params)
        asks = self.gene.shape
        if len(asks) != 1 or self.cell.shape != asks or self.centre.shape not in (asks, (0,)):
            raise QueryError(f"query {self.kind!r}: asks do not fit each other")
        for numbers, most in ((self.gene, self.n_genes), (self.cell, self.rows.shape[0] + 1)):
            if not ((numbers >= 0) & (numbers < most) & (numbers == np.floor(numbers))).all():
                raise QueryError(f"query {self.kind!r}: asks are about no gene or no cell of this question")

    @property
    def values_per_gene(self) -> int:
        """Of the gene with the most asks."""
        asks = np.bincount(self.gene.astype(np.intp)).max(initial=0)
        return int(asks) * self.values // max(self.gene.size, 1)

    def values_of(self, samples: Samples) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        """Asks about one cell, in parts, and their values, ``(asks, samples of the cell)``."""
        s = known_size_factors(samples)
        cells = self.rows.shape[0]
        mine = cell_of(samples, self.rows) if cells else np.zeros(samples.n_samples, dtype=np.intp)
        for number in np.unique(self.cell):
            inside = np.flatnonzero(mine == number) if number < cells else np.arange(samples.n_samples)
            asks = np.flatnonzero(self.cell == number)
            for part in np.array_split(asks, asks.size * max(samples.n_samples, 1) // _PART_VALUES + 1):
                # Rows that are contiguous: else how a row is added up would depend on how many there are.
                z = np.take(samples.counts.T[self.gene[part].astype(np.intp)], inside, axis=1) / s[inside]
                if self.centre.size:
                    z = (z - self.centre[part, None]) ** 2
                yield part, z


@dataclass(frozen=True)
class BelowQuery(_AskQuery):
    """How many samples of a cell have a value at or below each of a few thresholds.

    Its sum shows a piece of the distribution of one gene's values in one cell, over all sites of the cell together, in
    seven steps and finer only near a cut: never whose they are, and by the rules that follow not of one sample or a
    small cell. Asked only about genes that
    may have an outlier, in cells at `min_contributors` sites or more in which `min_kept` values or more stay when the
    ends are cut off (`secirls.algorithms.outliers.cells.Cells.selectable`), or about all samples.
    """

    thresholds: Floats
    """Increasing, ``(asks, thresholds)``."""

    kind: ClassVar[str] = "below"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"below"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"below": self.thresholds.shape}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if len(self.thresholds.shape) != 2 or self.thresholds.shape[0] != self.gene.size:
            raise QueryError(f"query {self.kind!r}: thresholds do not fit the asks")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        below = np.empty(self.thresholds.shape)
        for asks, values in self.values_of(samples):
            for column, threshold in enumerate(self.thresholds[asks].T):
                below[asks, column] = (values <= threshold[:, None]).sum(axis=1)
        return {"below": below}


@dataclass(frozen=True)
class BetweenQuery(_AskQuery):
    """The sum of the values of a cell that lie above one threshold and at or below another.

    Its sum shows, with the counts known before, the mean of as many values as a trimmed mean keeps or more: the same
    rules keep a site, a small cell and one sample out as in `BelowQuery`. ``min_contributors`` holds for genes and
    cells.
    """

    low: Floats
    """``(asks,)``."""
    high: Floats
    """``(asks,)``."""
    unit: Floats
    """What the sum is counted in, ``(asks,)``: a power of two, so that squares of large counts can be sent."""

    kind: ClassVar[str] = "between"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"between"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"between": self.gene.shape}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if not self.low.shape == self.high.shape == self.unit.shape == self.gene.shape:
            raise QueryError(f"query {self.kind!r}: thresholds do not fit the asks")
        if (np.frexp(self.unit)[0] != 0.5).any():
            raise QueryError(f"query {self.kind!r}: units are powers of two")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        sums = np.zeros(self.gene.shape)
        for asks, values in self.values_of(samples):
            inside = (values > self.low[asks, None]) & (values <= self.high[asks, None])
            sums[asks] = np.where(inside, values, 0.0).sum(axis=1)
        return {"between": sums / self.unit}


@dataclass(frozen=True)
class Wanted:
    """Which trimmed means are wanted, arrays ``(pairs,)`` of a gene and a cell each."""

    genes: Mask
    """The genes asked about, ``(all genes,)``."""
    rows: Floats
    """The cells of the design, ``(cells, params)``."""
    gene: NDArray[np.intp]
    """Which of the genes asked about."""
    cell: NDArray[np.intp]
    """Which cell; one beyond the last for all samples."""
    samples: NDArray[np.intp]
    """Samples in it."""
    cut: NDArray[np.intp]
    """Values cut off at each end: one or more, and fewer than half."""
    scale: Floats
    """Where values are expected."""
    top: Floats
    """What no value exceeds."""
    centre: Floats
    """Of squared distances, or empty for z itself."""


@dataclass(frozen=True)
class _Ends:
    """Both ends of every pair, low ones first: where the cut may be, arrays ``(ends,)``."""

    goal: Floats
    """How many values the cut leaves at or below it."""
    low: Floats
    """A threshold with fewer values at or below it."""
    high: Floats
    """A threshold with more; or with just so many, where the cut was hit."""
    below_low: Floats
    below_high: Floats
    settled: Mask

    def narrowed(self, ends: NDArray[np.intp], thresholds: Floats, below: Floats, nothing: Floats) -> _Ends:
        """What is known after some ends were asked about, thresholds ``(ends asked, thresholds)``."""
        goal = self.goal[ends, None]
        few, many = below < goal, below >= goal
        least = np.where(few, thresholds, self.low[ends, None])
        low = least.max(axis=1)
        high = np.where(many, thresholds, self.high[ends, None]).min(axis=1)
        below_low = np.where(few, below, self.below_low[ends, None]).max(axis=1)
        below_high = np.where(many, below, self.below_high[ends, None]).min(axis=1)
        tied = (high - np.maximum(low, 0.0) <= NARROW * high) | (high <= nothing[ends])
        settled = self.settled.copy()
        settled[ends] = (below_high == goal[:, 0]) | tied
        changed = {"low": low, "high": high, "below_low": below_low, "below_high": below_high}
        for name, values in changed.items():
            array = getattr(self, name).copy()
            array[ends] = values
            changed[name] = array
        return replace(self, **changed, settled=settled)


def trimmed_means(wanted: Wanted, thresholds: int = THRESHOLDS) -> Algorithm[Floats]:
    """The mean of every pair's values without those cut off at the ends, ``(pairs,)``.

    A cut is where a threshold has exactly as many values at or below it as are cut off or kept. It is bracketed, and
    the bracket cut into `thresholds` + 1 parts a round, later into more. Where equal values leave no such threshold
    the bracket closes on them, and the ones cut off are a number times that value: so a mean is known to `NARROW` of
    itself for each value cut off.
    """
    pairs = wanted.gene.size
    if not pairs:
        return np.zeros(0)
    gene, cell = np.tile(wanted.gene, 2), np.tile(wanted.cell, 2)
    centre = np.tile(wanted.centre, 2)
    samples, nothing = np.tile(wanted.samples, 2).astype(np.float64), np.tile(_NOTHING * wanted.scale, 2)
    goal = np.concatenate([wanted.cut, wanted.samples - wanted.cut]).astype(np.float64)
    scale, top = np.tile(wanted.scale, 2), np.tile(wanted.top, 2)
    # Below zero there is no value: a cut that falls among zeros is bracketed by -1 and 0.
    ends = _Ends(goal, np.full(2 * pairs, -1.0), top, np.zeros(2 * pairs), samples, np.zeros(2 * pairs, dtype=bool))
    first = np.minimum(between(_FIRST_LOW * scale, _FIRST_HIGH * scale, thresholds - 1), top[:, None])
    for number in range(_LARGEST_ROUNDS):
        going = np.flatnonzero(~ends.settled)
        if not going.size:
            break
        if number == 0:
            tried = np.column_stack([np.zeros(going.size), first])
        else:
            points = thresholds if number < _COARSE_ROUNDS else finer(thresholds, going.size)
            tried = _inside(ends.low[going], ends.high[going], points)
        below = yield from _below(wanted, gene[going], cell[going], centre[going] if centre.size else centre, tried)
        ends = ends.narrowed(going, tried, below, nothing)
    low, high = slice(0, pairs), slice(pairs, 2 * pairs)
    # What lies in the brackets is summed with the rest, and what is cut off of it taken away again.
    hit = ends.below_high == ends.goal
    from_ = np.where(hit[low], ends.high[low], ends.low[low])
    unit = np.ldexp(1.0, np.frexp(np.maximum(wanted.scale, 1.0))[1])
    total = yield BetweenQuery(
        wanted.genes,
        wanted.rows,
        wanted.gene.astype(np.float64),
        wanted.cell.astype(np.float64),
        wanted.centre,
        from_,
        np.maximum(ends.high[high], from_),
        unit,
    )
    value = 0.5 * (np.maximum(ends.low, 0.0) + ends.high)
    spare_low = np.where(hit[low], 0.0, ends.goal[low] - ends.below_low[low])
    spare_high = ends.below_high[high] - ends.goal[high]
    kept = total["between"] * unit - spare_low * value[low] - spare_high * value[high]
    means: Floats = np.maximum(kept, 0.0) / (wanted.samples - 2 * wanted.cut)
    return means


def finer(thresholds: int, asks: int) -> int:
    """Thresholds of each of so many asks whose brackets are narrow: one less than a power of two, or `thresholds`."""
    room = min(_FINE_VALUES // asks, _FINE_THRESHOLDS) + 1
    return max(thresholds, (1 << (room.bit_length() - 1)) - 1)


def _inside(low: Floats, high: Floats, points: int) -> Floats:
    """Thresholds inside brackets, ``(brackets, points)``: next to zero by ratio, for no float is the first above it."""
    down = high[:, None] * np.ldexp(1.0, -3 * np.arange(points, 0, -1))
    return np.where((low == 0)[:, None], down, between(low, high, points))


def _below(
    wanted: Wanted, gene: NDArray[np.intp], cell: NDArray[np.intp], centre: Floats, thresholds: Floats
) -> Algorithm[Floats]:
    """Counts of one round; more asks than a question may hold take several."""
    parts = []
    size = max(1, _LARGEST_ASKS // thresholds.shape[1])
    for start in range(0, gene.size, size):
        asks = slice(start, start + size)
        total = yield BelowQuery(
            wanted.genes,
            wanted.rows,
            gene[asks].astype(np.float64),
            cell[asks].astype(np.float64),
            centre[asks],
            thresholds[asks],
        )
        parts.append(total["below"])
    return np.concatenate(parts)
