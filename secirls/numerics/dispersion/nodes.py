"""At which dispersions a gene's profile likelihood is asked for: Chebyshev nodes in t = log(1 + C alpha).

Promises: nodes follow from public numbers alone (base mean, base variance, number of samples), so that a question tells
a site nothing new; every node's bits are the same at all parties. Refuses to know: counts, likelihoods.

In t the profile is analytic in a strip of half width pi around the real line: its singularities are at alpha = -1/y
and -1/mu, and C is twice a bound of both. So N nodes leave an error of about rho^-N, rho = h + sqrt(1 + h^2),
h = 2 pi / T (Trefethen 2013, chapter 8). The bound of the counts is Samuelson's (1968).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic import chebyshev, portable
from secirls.numerics.arithmetic.portable import expm1, log1p, strictly
from secirls.numerics.arrays import Floats

LARGEST_SIZE_FACTOR = 4.0
"""A count is at most this many times the bound of normalised counts; a gene with a larger one shows in its series."""
FEWEST, MOST = 8, 220
"""Nodes of one gene, whatever the formula says; a gene asked again may have twice as many."""
DIGITS, DET_DIGITS = 10.0, 8.0
"""Decimal digits of the likelihood and of the determinant, relative to their values off the real line.

Seven of the determinant's leave 2e-8 in airway's prior, and 1.5e-7 in a hundredth of bottomly's gene-wise estimates.
"""
LARGEST_LOG_ALPHA = 10.0
"""No path goes beyond this log dispersion."""
BEYOND = 2.0**20
"""So many times the scale where counts are beyond their bound: no size factor is, and a strip so wide takes but twice
the nodes."""
MORE_DIGITS = 6.0
"""Of these, where they may be large."""
_LN10 = 2.302585092994046


@dataclass(frozen=True)
class Nodes:
    """The nodes of some genes, arrays ``(genes,)``. Node j of N: t = T (1 + cos(pi (j + 1/2) / N)) / 2."""

    scale: Floats
    """C: alpha = (e^t - 1) / C."""
    reach: Floats
    """T, the largest t."""
    nodes: NDArray[np.intp]
    """N for the log-likelihood."""
    det_nodes: NDArray[np.intp]
    """N for X'WX, never more."""

    @cached_property
    def det_dispersions(self) -> Floats:
        """The dispersions at all nodes for X'WX, gene after gene: ``(sum of det_nodes,)``."""
        return node_dispersions(self.scale, self.reach, self.det_nodes)

    def take(self, genes: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Nodes:
        """The nodes of some of the genes."""
        return Nodes(self.scale[genes], self.reach[genes], self.nodes[genes], self.det_nodes[genes])

    def without(self, known: NDArray[np.bool_]) -> Nodes:
        """The same with none for X'WX of some genes."""
        return Nodes(self.scale, self.reach, self.nodes, np.where(known, 0, self.det_nodes))

    def values(self, products: int) -> NDArray[np.intp]:
        """How many numbers a site sends for each gene, with so many distinct products, ``(genes,)``."""
        counted: NDArray[np.intp] = self.nodes + products * self.det_nodes + 1
        return counted


def nodes_for(base_means: Floats, base_variances: Floats, n_samples: float, max_dispersion: float) -> Nodes:
    """Nodes from public moments.

    Parameters
    ----------
    base_means, base_variances
        Of y / s, over all samples, with n - 1 below the variance, ``(genes,)``.
    n_samples
        n.
    max_dispersion
        The largest dispersion that is an estimate; nodes go four times as far.
    """
    spread = np.sqrt((n_samples - 1.0) / n_samples * np.maximum(base_variances, 0.0))
    bound = base_means + np.sqrt(n_samples - 1.0) * spread
    scale = 2.0 * (LARGEST_SIZE_FACTOR * bound + 2.0)
    reach = portable.logs(1.0 + 4.0 * max_dispersion * scale)
    return _counted(scale, reach)


def farther(nodes: Nodes) -> Nodes:
    """The same scales up to where no path goes beyond."""
    largest = 1.05 * portable.exps(np.array([LARGEST_LOG_ALPHA]))[0]
    return _counted(nodes.scale, portable.logs(1.0 + largest * nodes.scale))


def finer(nodes: Nodes) -> Nodes:
    """`BEYOND` times the scale to the same dispersions, and six digits more: for counts beyond the bound."""
    scale = BEYOND * nodes.scale
    return _counted(scale, nodes.reach + portable.logs(np.full(scale.size, BEYOND)), MORE_DIGITS, 2 * MOST)


def _counted(scale: Floats, reach: Floats, more: float = 0.0, most: int = MOST) -> Nodes:
    half_width = 2.0 * np.pi / reach
    decay = portable.logs(half_width + np.sqrt(1.0 + half_width * half_width))
    wanted = [np.ceil((digits + more) * _LN10 / decay) for digits in (DIGITS, DET_DIGITS)]
    return Nodes(scale, reach, *(np.clip(counts, FEWEST, most).astype(np.intp) for counts in wanted))


def offsets(counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Where each gene's part of a flat array starts, and the array's length, ``(genes + 1,)``."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)


def node_dispersions(scale: Floats, reach: Floats, counts: NDArray[np.intp]) -> Floats:
    """The dispersions at all nodes, gene after gene: ``(sum of counts,)``."""
    starts = offsets(counts)
    out = np.empty(starts[-1])
    places = [_places(int(n)) for n in range(counts.max(initial=0) + 1)]
    _place(np.concatenate(places), offsets(np.array([place.size for place in places])), scale, reach, starts, out)
    return out


@cache
def _places(nodes: int) -> Floats:
    """Where so many nodes are, in shares of the reach."""
    return (1.0 + chebyshev.nodes(nodes)) / 2.0 if nodes else np.zeros(0)


@strictly()
def _place(
    places: Floats, at: NDArray[np.intp], scale: Floats, reach: Floats, starts: NDArray[np.intp], out: Floats
) -> None:
    """Fill in the dispersions; `at` is where the places of so many nodes start among all."""
    for g in range(scale.size):
        nodes = starts[g + 1] - starts[g]
        far, over = reach[g], 1.0 / scale[g]
        place, here = places[at[nodes] : at[nodes + 1]], out[starts[g] : starts[g + 1]]
        for j in range(nodes):
            here[j] = expm1(far * place[j]) * over


@strictly(inline=True)
def place_of(alpha: float, scale: float) -> tuple[float, float]:
    """The place t of a dispersion, and its derivative in log alpha."""
    growth = scale * alpha
    return log1p(growth), growth / (1.0 + growth)
