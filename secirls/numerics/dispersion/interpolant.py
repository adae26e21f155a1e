"""The adjusted profile likelihood of every gene between its nodes: Chebyshev series, evaluated with their slope.

Promises: IEEE operations in a written order and nothing else, so that two machines that open the same sums walk
the same paths; a gene's series depends on that gene alone. Refuses to know: counts, how a path is walked.

L(a) = complete log-likelihood - 1/2 log det X'WX (Cox and Reid 1987), as a function of t = log(1 + C alpha) on [0, T];
beyond T it goes on as a straight line in t. Coefficients by the discrete cosine transform, values and slopes by
Clenshaw's recurrence (Trefethen 2013, chapters 3 and 19).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import packed_params
from secirls.numerics.arithmetic import chebyshev, portable
from secirls.numerics.arithmetic.portable import exp, log, strictly
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.dispersion.nodes import Nodes, offsets, place_of

Series: TypeAlias = tuple[Floats, NDArray[np.intp], NDArray[np.intp], Floats, Floats]
"""A lot's coefficients, and of some of its genes where each starts, how many it has, C and T."""

LARGEST_TAIL = 1e-6
"""A series is too short if one of its last three coefficients is larger."""


@dataclass(frozen=True)
class Profiles:
    """The series of some genes; arrays ``(genes,)`` but for `lots`."""

    scale: Floats
    """C."""
    reach: Floats
    """T."""
    lots: tuple[Floats, ...]
    """All series, lowest degree first, flat and as they came: no lot is ever copied to stand beside another."""
    lot: NDArray[np.intp]
    """In which of `lots` a gene's series is."""
    starts: NDArray[np.intp]
    """Where it starts there."""
    sizes: NDArray[np.intp]
    """How many coefficients it has."""
    constant: Floats
    """Sum of y log mu - log y!: the complete log-likelihood minus this is R's."""
    tail: Floats
    """The largest of a series' last three coefficients, of the likelihood or of the determinant."""
    singular: Mask
    """Genes whose X'WX has no positive determinant at some node: they have no profile."""

    @classmethod
    def joined(cls, parts: Sequence[Profiles]) -> Profiles:
        """The profiles of several lots of genes, one or more, as those of all; the series are shared."""
        before = np.cumsum([0, *(len(part.lots) for part in parts[:-1])])
        shifted = [replace(part, lot=part.lot + lots) for part, lots in zip(parts, before, strict=True)]
        arrays = {name: np.concatenate([getattr(part, name) for part in shifted]) for name in _BY_GENE}
        return cls(lots=tuple(chain.from_iterable(part.lots for part in parts)), **arrays)

    def replaced(self, genes: NDArray[np.intp], others: Profiles) -> Profiles:
        """These profiles with those of some genes, by index, taken from others, which hold those genes in order."""
        moved, changed = replace(others, lot=others.lot + len(self.lots)), {}
        for name in _BY_GENE:
            changed[name] = getattr(self, name).copy()
            changed[name][genes] = getattr(moved, name)
        return Profiles(lots=self.lots + others.lots, **changed)

    def take(self, genes: NDArray[np.intp] | Mask) -> Profiles:
        """The profiles of some of the genes; the series are shared."""
        return Profiles(lots=self.lots, **{name: getattr(self, name)[genes] for name in _BY_GENE})

    def by_lot(self) -> Iterator[tuple[NDArray[np.intp], Series]]:
        """The genes of one lot after another, by index, and their series."""
        for lot, coefficients in enumerate(self.lots):
            genes = np.flatnonzero(self.lot == lot)
            if genes.size:
                yield genes, (coefficients, self.starts[genes], self.sizes[genes], self.scale[genes], self.reach[genes])

    def evaluate(self, alpha: Floats) -> tuple[Floats, Floats]:
        """L and dL/d(log alpha) of each gene at dispersions ``(genes, k)``: two arrays of that shape."""
        value, slope = np.empty(alpha.shape), np.empty(alpha.shape)
        for genes, series in self.by_lot():
            part = np.empty((2, genes.size, alpha.shape[1]))
            _evaluate(*series, np.ascontiguousarray(alpha[genes]), *part)
            value[genes], slope[genes] = part
        return value, slope


_BY_GENE = tuple(item.name for item in fields(Profiles) if item.name != "lots")


def interpolate(loglik: Floats, xwx: Floats, constant: Floats, nodes: Nodes, products: Products) -> Profiles:
    """The series through the sums over all sites.

    Parameters
    ----------
    loglik
        Complete log-likelihoods, ``(sum of nodes,)``.
    xwx
        Distinct products of (1 + alpha) X'WX, ``(sum of det_nodes, q)``.
    constant
        ``(genes,)``.
    """
    starts, det_starts = offsets(nodes.nodes), offsets(nodes.det_nodes)
    log_det, bad = log_determinants(products.packed(xwx))
    genes, params = nodes.scale.size, packed_params(products.expand.size)
    log_det -= params * portable.logs(1.0 + nodes.det_dispersions)
    singular = np.zeros(genes, dtype=bool)
    singular[np.repeat(np.arange(genes), nodes.det_nodes)[bad]] = True
    series = chebyshev.series(loglik, nodes.nodes, starts)
    det_series = chebyshev.series(log_det, nodes.det_nodes, det_starts)
    tail = np.maximum(_tails(series, starts), 0.5 * _tails(det_series, det_starts))
    _add_halves(series, starts, det_series, det_starts)
    lot = np.zeros(genes, dtype=np.intp)
    return Profiles(nodes.scale, nodes.reach, (series,), lot, starts[:-1], nodes.nodes, constant, tail, singular)


def log_determinants(packed: Floats) -> tuple[Floats, Mask]:
    """Log det of symmetric matrices given as upper triangles ``(n, p (p + 1) / 2)``, and which have none (0 there)."""
    params = packed_params(packed.shape[1])
    out, bad = np.empty(packed.shape[0]), np.zeros(packed.shape[0], dtype=np.bool_)
    _log_determinants(np.ascontiguousarray(packed), params, out, bad)
    return out, bad


@strictly()
def _log_determinants(packed: Floats, params: int, out: Floats, bad: Mask) -> None:
    """By elimination in the order of the columns; the determinant is the product of the pivots."""
    a = np.empty((params, params))
    for m in range(packed.shape[0]):
        entry = 0
        for i in range(params):
            for j in range(i, params):
                a[i, j] = packed[m, entry]
                entry += 1
        total = 0.0
        for i in range(params):
            pivot = a[i, i]
            if not (1e-150 < pivot < 1e150):
                bad[m] = True
                total = 0.0
                break
            total += log(pivot)
            for k in range(i + 1, params):
                share = a[i, k] / pivot
                for j in range(k, params):
                    a[k, j] -= share * a[i, j]
        out[m] = total


def _tails(series: Floats, starts: NDArray[np.intp]) -> Floats:
    """The largest magnitude of each gene's last three coefficients."""
    last = starts[1:, None] - np.arange(1, 4)
    largest: Floats = np.abs(series[last]).max(axis=1, initial=0.0)
    return largest


@strictly()
def _add_halves(series: Floats, starts: NDArray[np.intp], det: Floats, det_starts: NDArray[np.intp]) -> None:
    """Take half of the determinants' series from the likelihoods', degree by degree."""
    for g in range(starts.size - 1):
        for k in range(min(det_starts[g + 1] - det_starts[g], starts[g + 1] - starts[g])):
            series[starts[g] + k] -= 0.5 * det[det_starts[g] + k]


@strictly(inline=True)
def clenshaw(c: Floats, x: float) -> tuple[float, float]:
    """A series and its derivative at x in [-1, 1].

    Doubling is exact: twice ``b1 + x d1`` is added from parts that do not wait for it, and so a sixth faster.
    """
    b1, b2, d1, d2, twice = 0.0, 0.0, 0.0, 0.0, 2.0 * x
    for k in range(c.size - 1, 0, -1):
        d1, d2 = ((b1 + b1) + twice * d1) - d2, d1
        b1, b2 = c[k] + twice * b1 - b2, b1
    return c[0] + x * b1 - b2, b1 + x * d1 - d2


@strictly(inline=True)
def profile_at(c: Floats, scale: float, reach: float, a: float) -> tuple[float, float, bool]:
    """L and dL/da at a log dispersion in [-700, 300], and whether it lies beyond the nodes' reach."""
    t, growth = place_of(exp(a), scale)
    beyond = t > reach
    value, slope = clenshaw(c, 1.0 if beyond else 2.0 * t / reach - 1.0)
    slope *= 2.0 / reach
    if beyond:
        value += slope * (t - reach)
    return value, slope * growth, beyond


@strictly()
def _evaluate(
    coefficients: Floats,
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    scale: Floats,
    reach: Floats,
    alpha: Floats,
    value: Floats,
    slope: Floats,
) -> None:
    for g in range(starts.size):
        c = coefficients[starts[g] : starts[g] + sizes[g]]
        for k in range(alpha.shape[1]):
            value[g, k], slope[g, k], _ = profile_at(c, scale[g], reach[g], log(alpha[g, k]))
