"""Few points in the log size factor that stand for all samples of one design row, in every sum over them.

Promises: a sum over a row's samples of f(t) or y f(t), t the log size factor, is a sum over its nodes with weights that
do not depend on f, within a few roundings of the sum of magnitudes for every f of a round: mu / (1 + alpha mu),
log(1 + alpha mu), log mu. Weights have the same bits on every machine, and a gene's whichever genes are beside it.
Refuses to know: dispersions, coefficients.

At a fixed linear predictor eta these functions are analytic in t but for alpha mu = -1, t = -eta - log alpha + i pi: in
a strip. tanh((t - m) / 4) makes a unit disc of it, and of the samples' range [m - a, m + a] an interval, where
K Chebyshev nodes leave an error of about rho^-K, rho = h + sqrt(h^2 - 1), h = 1 / tanh(a / 4) (Trefethen 2013,
"Approximation theory and approximation practice", theorem 8.2; Hale and Trefethen 2008 on maps of strips). A tenth
fewer than without the map. Weights are sums of Lagrange's polynomials at the samples (Berrut and Trefethen 2004,
equation 4.2).

A logarithm is dearer than its derivative, 1 - 1 / (1 + alpha mu), which a round needs in any case. So sums of
log(1 + alpha mu) are also f(c) sum of y + sum over nodes of f' times slopes: c is the middle of the samples' range, and
slopes are sums over samples of the integrals of Lagrange's polynomials from c on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic import chebyshev, portable
from secirls.numerics.arithmetic.portable import strictly
from secirls.numerics.arrays import Counts, Floats, Mask
from secirls.numerics.held.held_counts import HeldCounts, in_blocks
from secirls.numerics.held.lagrange import bent, chebyshev_integrals, fill_basis, fill_weights

DIGITS = 15.6
"""Decimal digits of a function at nodes, relative to its value there."""
_LN10 = 2.302585092994046
_VECTOR = 8
"""Numbers in the widest vectors: polynomials of a sample are filled up to whole ones."""
_TOGETHER = 128
"""Genes whose counts at a row's nodes stay in the cache."""
_LARGEST_SHARE = 0.65
"""Of nodes in samples, beyond which weights would not be repaid within a fit."""
_LOGS = 1e-150, 1e150
"""Size factors whose logarithm has the same bits everywhere."""


@dataclass(frozen=True, eq=False)
class LevelNodes:
    """The nodes of a site's samples, row by row of its design."""

    order: NDArray[np.intp]
    """The samples, those of a row together, ``(samples,)``."""
    starts: NDArray[np.intp]
    """Where in `order` each row's samples begin, and their number, ``(rows + 1,)``."""
    node_starts: NDArray[np.intp]
    """The same of nodes, ``(rows + 1,)``."""
    log_s: Floats
    """Log size factors at nodes, ``(nodes,)``."""
    lowest: Floats
    """The least log size factor of each row, ``(rows,)``."""
    highest: Floats
    """The largest, ``(rows,)``."""
    basis: Floats
    """Lagrange's polynomials of a row's nodes at its samples, in `order`, filled up: ``(samples, width)``."""
    numbers: Floats
    """Their sums over samples: what a node counts for, ``(nodes,)``."""
    centres: Floats
    """The size factor in the middle of each row's range, from which its slopes begin, ``(rows,)``.

    0 where samples stand for themselves: such a row has no slopes.
    """
    integrals: Floats
    """Integrals of a row's polynomials from its centre to each node, filled up: ``(nodes, width)``."""
    slopes: Floats
    """Their sums over samples: what a derivative at a node counts for, ``(nodes,)``."""
    shift: Floats
    """Sums of log size factors, ``(rows,)``."""
    design: Floats
    """What the nodes were made for, ``(samples, params)``."""
    size_factors: Floats
    """And this, ``(samples,)``."""

    @cached_property
    def s(self) -> Floats:
        """Size factors at nodes, ``(nodes,)``."""
        return np.exp(self.log_s)

    @cached_property
    def sample_log_s(self) -> Floats:
        """Log size factors, ``(samples,)``."""
        return np.log(np.ascontiguousarray(self.size_factors, dtype=np.float64))

    @cached_property
    def middle(self) -> Floats:
        """Mean log size factors, ``(rows,)``."""
        return self.shift / self.samples

    @cached_property
    def samples(self) -> Floats:
        """How many samples each row has, ``(rows,)``."""
        return np.diff(self.starts).astype(np.float64)

    @property
    def size(self) -> int:
        """How many nodes."""
        return int(self.log_s.size)

    @property
    def pay(self) -> bool:
        """Whether sums over nodes repay their weights."""
        return self.size <= _LARGEST_SHARE * self.order.size

    @classmethod
    def of(cls, design: Floats, size_factors: Floats) -> LevelNodes | None:
        """Those of design rows ``(samples, params)`` and size factors ``(samples,)``; none where they don't pay."""
        if not design.size or not ((size_factors > _LOGS[0]) & (size_factors < _LOGS[1])).all():
            return None
        rows, level = np.unique(design, axis=0, return_inverse=True)
        if _VECTOR * len(rows) > _LARGEST_SHARE * level.size:
            return None
        order = np.argsort(level.reshape(-1), kind="stable")
        starts = np.searchsorted(level.reshape(-1)[order], np.arange(len(rows) + 1)).astype(np.intp)
        t = portable.logs(size_factors)[order]
        parts = [_interpolate(t[first:last]) for first, last in pairwise(starts)]
        sizes = np.array([at.size for at, *_ in parts])
        node_starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
        width = _filled_up(int(sizes.max()))
        basis, integrals = np.zeros((t.size, width)), np.zeros((node_starts[-1], width))
        for row, (at, values, rises, _) in enumerate(parts):
            basis[starts[row] : starts[row + 1], : at.size] = values
            integrals[node_starts[row] : node_starts[row + 1], : at.size] = rises
        numbers = [np.add.accumulate(values)[-1] for _, values, *_ in parts]
        slopes = [
            np.add.accumulate(number[:, None] * rises)[-1]
            for number, (_, _, rises, _) in zip(numbers, parts, strict=True)
        ]
        nodes = cls(
            order=order,
            starts=starts,
            node_starts=node_starts,
            log_s=np.concatenate([at for at, *_ in parts]),
            lowest=np.minimum.reduceat(t, starts[:-1]),
            highest=np.maximum.reduceat(t, starts[:-1]),
            basis=basis,
            numbers=np.concatenate(numbers),
            centres=np.array([centre for *_, centre in parts]),
            integrals=integrals,
            slopes=np.concatenate(slopes),
            shift=np.array([np.add.accumulate(t[first:last])[-1] for first, last in pairwise(starts)]),
            design=design,
            size_factors=size_factors,
        )
        return nodes if nodes.pay else None

    def rows(self, design: Floats) -> Floats:
        """The design row of each level, ``(rows, params)``."""
        return self._rows if design is self.design else np.ascontiguousarray(design[self._firsts])

    @cached_property
    def _firsts(self) -> NDArray[np.intp]:
        return self.order[self.starts[:-1]]

    @cached_property
    def _rows(self) -> Floats:
        return np.ascontiguousarray(self.design[self._firsts])

    def fit(self, design: Floats, size_factors: Floats) -> bool:
        """Whether samples that share nodes share a row of this design, and the size factors are these."""
        if design is self.design and size_factors is self.size_factors:
            return True
        rows = np.repeat(self.rows(design), np.diff(self.starts), axis=0)
        return np.array_equal(size_factors, self.size_factors) and np.array_equal(rows, design[self.order])


@dataclass(frozen=True, eq=False)
class LevelMoments:
    """The counts of some genes at nodes."""

    nodes: LevelNodes
    sums: Floats
    """`counts`, `slopes`, `totals` and `shifts`, one below the other, ``(2 nodes + 2 rows, genes)``."""
    largest: NDArray[np.int32]
    """The largest count of each gene, ``(genes,)``."""

    @property
    def counts(self) -> Floats:
        """Sums over a row's samples of y times its polynomials, ``(nodes, genes)``."""
        return self.sums[: self.nodes.size]

    @property
    def slopes(self) -> Floats:
        """Of y times their integrals, ``(nodes, genes)``."""
        return self.sums[self.nodes.size : 2 * self.nodes.size]

    @property
    def totals(self) -> Floats:
        """Sums of counts, ``(rows, genes)``."""
        return self.sums[2 * self.nodes.size : -self.nodes.samples.size]

    @property
    def shifts(self) -> Floats:
        """Sums of counts times log size factors, ``(rows, genes)``."""
        return self.sums[-self.nodes.samples.size :]

    @classmethod
    def of(cls, counts: Counts | HeldCounts, nodes: LevelNodes) -> LevelMoments:
        """Those of counts ``(samples, genes)``."""
        genes = counts.shape[1]
        sums = np.empty((2 * nodes.size + 2 * nodes.samples.size, genes))
        moments = cls(nodes, sums, np.empty(genes, dtype=np.int32))
        for block, some in in_blocks(counts):
            _fill_moments(
                some,
                nodes.order,
                nodes.log_s,
                nodes.starts,
                nodes.node_starts,
                nodes.basis,
                block.start,
                moments.counts,
                moments.totals,
                moments.shifts,
                moments.largest,
            )
        _fill_slopes(moments.counts, nodes.integrals, nodes.node_starts, moments.slopes)
        return moments

    def take(self, genes: NDArray[np.intp] | Mask | slice) -> LevelMoments:
        """Those of some of the genes."""
        if isinstance(genes, slice):
            return LevelMoments(self.nodes, self.sums[:, genes], self.largest[genes])
        places = np.flatnonzero(genes) if genes.dtype == np.bool_ else genes
        return LevelMoments(self.nodes, self.sums.take(places, axis=1), self.largest[places])


def nodes_needed(half_range: float) -> int:
    """How many nodes a range of log size factors of this half width takes: 1 where it is a point."""
    if half_range == 0.0:
        return 1
    h = 1.0 / bent(np.array([half_range]))[0]
    decay = portable.logs(np.array([h + np.sqrt(h * h - 1.0)]))[0]
    least = 1.4 + 0.75 * half_range + 0.2 * half_range * half_range  # what small functions add, by their worst poles
    return int(np.ceil((DIGITS * _LN10 + least) / decay))


def _filled_up(nodes: int) -> int:
    """As many places as whole vectors have."""
    return -(-nodes // _VECTOR) * _VECTOR


def _interpolate(t: Floats) -> tuple[Floats, Floats, Floats, float]:
    """Nodes ``(K,)`` of points ``(n,)``, the points themselves if fewer; Lagrange's polynomials there, ``(n, K)``.

    And their integrals ``(K, K)`` from a centre to each node, and the centre's size factor; if fewer, 0.
    """
    low, high = t.min(), t.max()
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    n = nodes_needed(half)
    if n >= t.size:
        return t, np.eye(t.size), np.zeros((t.size, t.size)), 0.0
    if n == 1:
        return t[:1], np.ones((t.size, 1)), np.zeros((1, 1)), _exp(float(t[0]))
    reach = bent(np.array([half]))[0]
    places = reach * chebyshev.nodes(n)
    at = np.clip(middle + 2.0 * portable.logs((1.0 + places) / (1.0 - places)), low, high)
    integrals = chebyshev_integrals(n) * (4.0 * reach / (1.0 - places * places))  # dt = 4 dx / (1 - x^2)
    weights, values, places = np.ones(n), np.empty((t.size, n)), bent(at - middle)
    fill_weights(places, 2.0 / reach, weights)
    fill_basis(bent(t - middle), places, weights, values)
    return at, values, integrals, _exp(float(middle))


def _exp(x: float) -> float:
    return float(portable.exps(np.array([x]))[0])


@strictly()
def _fill_moments(
    counts: Counts,
    order: NDArray[np.intp],
    log_s: Floats,
    starts: NDArray[np.intp],
    node_starts: NDArray[np.intp],
    basis: Floats,
    first: int,
    sums: Floats,
    totals: Floats,
    shifts: Floats,
    largest: NDArray[np.int32],
) -> None:
    """Sum counts ``(genes, samples)`` times their polynomials, in the order of the samples, four at a time.

    Sums are those of `LevelMoments`, of the genes from `first` on.
    """
    samples, width = basis.shape
    values, part = np.empty(samples), np.empty(width)
    for gene in range(counts.shape[0]):
        y = counts[gene]
        most = 0
        for i in range(samples):
            most = max(most, y[i])
        largest[first + gene] = most
        for i in range(samples):
            values[i] = float(y[order[i]])
        for row in range(starts.size - 1):
            here, polynomials = values[starts[row] : starts[row + 1]], basis[starts[row] : starts[row + 1]]
            fours = here.size // 4
            part[:] = 0.0
            for i in range(fours):
                a, b, c, d = here[4 * i], here[4 * i + 1], here[4 * i + 2], here[4 * i + 3]
                of_a, of_b = polynomials[4 * i], polynomials[4 * i + 1]
                of_c, of_d = polynomials[4 * i + 2], polynomials[4 * i + 3]
                for k in range(width):
                    part[k] += (a * of_a[k] + b * of_b[k]) + (c * of_c[k] + d * of_d[k])
            for i in range(4 * fours, here.size):
                a, of_a = here[i], polynomials[i]
                for k in range(width):
                    part[k] += a * of_a[k]
            total, shift = 0.0, 0.0
            for k in range(node_starts[row + 1] - node_starts[row]):
                node = node_starts[row] + k
                sums[node, first + gene] = part[k]
                total += part[k]
                shift += part[k] * log_s[node]
            totals[row, first + gene], shifts[row, first + gene] = total, shift


@strictly()
def _fill_slopes(counts: Floats, integrals: Floats, starts: NDArray[np.intp], slopes: Floats) -> None:
    """Sums of counts at a row's nodes ``(nodes, genes)`` times the integrals of each polynomial to there."""
    genes = counts.shape[1]
    for first in range(0, genes, _TOGETHER):
        here = slice(first, min(first + _TOGETHER, genes))
        for row in range(starts.size - 1):
            for j in range(starts[row + 1] - starts[row]):
                out = slopes[starts[row] + j][here]
                out[:] = 0.0
                for node in range(starts[row], starts[row + 1]):
                    part, integral = counts[node][here], integrals[node, j]
                    for gene in range(part.size):
                        out[gene] += part[gene] * integral
