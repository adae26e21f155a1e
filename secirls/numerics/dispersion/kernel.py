"""One gene's likelihood at many dispersions, compiled: complete log-likelihoods, and X'WX, node by node.

Promises: the formulas of `reference`, without cancellation, without libm and without a fused or reordered operation:
a gene's bits depend on its own counts alone, not on its neighbours, blocks or threads. The interpreter's lock is
released. Refuses to know: where the means came from, who asks, what the dispersions are for.

Samples are the outer loop and nodes the inner one, so that vectors are full for 8 samples as for 800, and each
node's sum is in the order of the samples. A count up to 16 takes (1 + alpha) (1 + 2 alpha) ... (1 + (y - 1) alpha)
from a table of its gene; a larger one Stirling's series and, for its deviance, a logarithm that is exact where mu is
near y (Loader 2000, for the idea). Two logarithms and two divisions a count and node.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.likelihood import LARGEST_LOG_MU, SERIES_FROM, STIRLING
from secirls.numerics.portable import exp, log1p, log_and_inverse, strictly
from secirls.numerics.samples import Counts, Floats

TABLE = int(SERIES_FROM) + 1
"""Counts below this have their rising products in a table."""
SMALLEST_EXP_ETA = -700.0
_VECTOR = 8
"""Numbers in the widest vectors."""
LOG_FACTORIALS = np.array(
    [
        0.0,
        0.0,
        0.6931471805599453,
        1.791759469228055,
        3.1780538303479458,
        4.787491742782046,
        6.579251212010101,
        8.525161361065415,
        10.60460290274525,
        12.801827480081469,
        15.104412573075516,
        17.502307845873887,
        19.987214495661885,
        22.552163853123425,
        25.19122118273868,
        27.89927138384089,
        30.671860106080672,
    ]
)
"""Of the counts in the table, ``(17,)``."""

_S0, _S1, _S2, _S3, _S4, _S5 = STIRLING
_HALF_LOG_2PI = 0.9189385332046728
_LAST = float(TABLE - 1)
_AT_LAST = -13.689559449755826
"""log 16! - 16 log 16."""
_STIRLING_AT_LAST = 2.310440550244173
"""log(2 pi 16) / 2, and what Stirling's formula leaves at 16."""


@strictly(inline=True)
def _stirling_rest(over: float) -> float:
    """What Stirling's formula leaves of lgamma at 1 / over >= 16."""
    square = over * over
    p = _S5
    p = p * square + _S4
    p = p * square + _S3
    p = p * square + _S2
    p = p * square + _S1
    p = p * square + _S0
    return p * over


@strictly(inline=True)
def _fill_rising(alpha: Floats, highest: int, rising: Floats) -> None:
    """The rising products of the counts up to `highest`, ``(highest + 1, nodes)`` as one flat array."""
    nodes = alpha.size
    rising[:nodes] = 1.0
    for k in range(1, highest + 1):
        before, here = rising[(k - 1) * nodes : k * nodes], rising[k * nodes : (k + 1) * nodes]
        for j in range(nodes):
            here[j] = before[j] * (1.0 + float(k - 1) * alpha[j])


@strictly(inline=True)
def _fill_rest(alpha: Floats, size: Floats, rest: Floats) -> None:
    """What Stirling's formula leaves of lgamma at 1 / alpha.

    It follows from the rising product of the table's last count, so that no small 1 / alpha needs a gamma function.
    """
    for j in range(alpha.size):
        rising = 1.0
        for k in range(1, TABLE - 1):
            rising *= 1.0 + float(k) * alpha[j]
        growth = log1p(_LAST * alpha[j])
        saturated = (_LAST + size[j]) * growth - log_and_inverse(rising)[0] + _AT_LAST
        stirling = _STIRLING_AT_LAST + 0.5 * growth
        rest[j] = (saturated - stirling) + _stirling_rest(1.0 / (_LAST + size[j]))


@strictly(inline=True)
def _ranges(y: Counts) -> tuple[int, bool]:
    """The largest count that has a place in the table, and whether any has none."""
    highest, large = 0, False
    for i in range(y.size):
        if y[i] >= TABLE:
            large = True
        elif y[i] > highest:
            highest = y[i]
    return highest, large


@strictly(inline=True)
def _add_small(y: float, mu: float, shift: float, alpha: Floats, size: Floats, rising: Floats, out: Floats) -> None:
    """Add the log-likelihoods of a count of the table; `shift` is y log mu - log y!."""
    if y < 2.0:  # its rising product is 1
        for j in range(alpha.size):
            out[j] += shift - (y + size[j]) * log1p(alpha[j] * mu)
    else:
        for j in range(alpha.size):
            out[j] += shift + (log_and_inverse(rising[j])[0] - (y + size[j]) * log1p(alpha[j] * mu))


@strictly(inline=True)
def _add_large(
    y: float, mu: float, around: float, alpha: Floats, size: Floats, rest: Floats, out: Floats, log_ratio: float
) -> None:
    """Add the log-likelihoods of a larger count.

    `around` is log(2 pi y) / 2 and Stirling's rest at y, `log_ratio` log(mu / y). The half deviance has two equal
    forms, each without cancellation on its side of y = 1/alpha, as in `likelihood.half_deviance`.
    """
    gap, below, to_mean = mu - y, (y - mu) / mu, y * log_ratio
    for j in range(alpha.size):
        log_growth, over = log_and_inverse(1.0 + alpha[j] * y)
        part = alpha[j] * over  # 1 / (y + 1/alpha)
        by_size = y > size[j]
        inner = below * over if by_size else gap * part
        outer = size[j] * log_ratio if by_size else -to_mean
        deviance = (y + size[j]) * log1p(inner) + outer
        out[j] -= (around + deviance) + (0.5 * log_growth + (rest[j] - _stirling_rest(part)))


@strictly(inline=True)
def _add_weights(mu: float, alpha: Floats, sums: Floats) -> None:
    """Add one sample's weights."""
    over = 1.0 / mu
    for j in range(alpha.size):
        sums[j] += 1.0 / (over + alpha[j])


@strictly(inline=True)
def _add_products(weights: Floats, products: Floats, sums: Floats) -> None:
    """Add weights ``(nodes,)`` times each product that is not zero to the sums, ``(q, nodes)`` as one flat array."""
    nodes = weights.size
    for e in range(products.size):
        x = products[e]
        if x != 0.0:
            here = sums[e * nodes : (e + 1) * nodes]
            for j in range(nodes):
                here[j] += weights[j] * x


@strictly(inline=True)
def _filled_up(nodes: int) -> int:
    """As many places as whole vectors have: what is left over of a vector costs as much as a whole one, or more."""
    return (nodes + _VECTOR - 1) // _VECTOR * _VECTOR


@strictly(inline=True)
def _fill_places(given: Floats, alpha: Floats) -> None:
    """Copy dispersions into places filled up with the last one."""
    for j in range(alpha.size):
        alpha[j] = given[min(j, given.size - 1)]


@strictly()
def profile(
    counts: Counts,
    coefficients: Floats,
    design: Floats,
    levels: Floats,
    level: NDArray[np.intp],
    s: Floats,
    min_mu: float,
    linear: bool,
    alphas: Floats,
    starts: NDArray[np.intp],
    det_alphas: Floats,
    det_starts: NDArray[np.intp],
    loglik: Floats,
    xwx: Floats,
    constant: Floats,
) -> None:
    """Fill `loglik`, `xwx` and `constant` for counts ``(genes, samples)``; see `sums.profile_sums` for the meaning.

    `levels` ``(levels, q)`` are the different rows of products, in each of which the samples stand together; `level` is
    the row of each sample.
    """
    genes, samples = counts.shape
    params, distinct = design.shape[1], levels.shape[1]
    most, det_most = 0, 0
    for gene in range(genes):
        most = max(most, _filled_up(starts[gene + 1] - starts[gene]))
        det_most = max(det_most, _filled_up(det_starts[gene + 1] - det_starts[gene]))
    scratch = np.empty((TABLE + 4) * most)
    det_scratch = np.empty((distinct + 2) * det_most)
    for gene in range(genes):
        first, nodes = starts[gene], starts[gene + 1] - starts[gene]
        det_first, det_nodes = det_starts[gene], det_starts[gene + 1] - det_starts[gene]
        width, det_width = _filled_up(nodes), _filled_up(det_nodes)
        alpha, size, rest = scratch[:width], scratch[width : 2 * width], scratch[2 * width : 3 * width]
        out, rising = scratch[3 * width : 4 * width], scratch[4 * width : (TABLE + 4) * width]
        det_alpha, weights = det_scratch[:det_width], det_scratch[det_width : 2 * det_width]
        sums = det_scratch[2 * det_width : (distinct + 2) * det_width]
        _fill_places(alphas[first : first + nodes], alpha)
        _fill_places(det_alphas[det_first : det_first + det_nodes], det_alpha)
        highest, large = _ranges(counts[gene])
        _fill_rising(alpha, highest, rising)
        for j in range(width):
            size[j] = 1.0 / alpha[j]
        if large:
            _fill_rest(alpha, size, rest)
        out[:] = 0.0
        sums[:] = 0.0
        weights[:] = 0.0
        total = 0.0
        for i in range(samples):
            eta = 0.0
            for k in range(params):
                eta += coefficients[gene, k] * design[i, k]
            mu = s[i] * (eta if linear else exp(min(max(eta, SMALLEST_EXP_ETA), LARGEST_LOG_MU)))
            mu = max(min_mu, mu)
            y = float(counts[gene, i])
            if counts[gene, i] < TABLE:
                shift = y * log_and_inverse(mu)[0] - LOG_FACTORIALS[counts[gene, i]]
                total += shift
                row = rising[counts[gene, i] * width : (counts[gene, i] + 1) * width]
                _add_small(y, mu, shift, alpha, size, row, out)
            else:
                log_y, over = log_and_inverse(y)
                around = _HALF_LOG_2PI + 0.5 * log_y + _stirling_rest(over)
                near = 0.5 * y < mu < 2.0 * y
                log_ratio = log1p((mu - y) * over) if near else log_and_inverse(mu)[0] - log_y
                total += (y * log_ratio + y) - around
                _add_large(y, mu, around, alpha, size, rest, out, log_ratio)
            _add_weights(mu, det_alpha, weights)
            if i + 1 == samples or level[i + 1] != level[i]:
                _add_products(weights, levels[level[i]], sums)
                weights[:] = 0.0
        constant[gene] = total
        for j in range(nodes):
            loglik[first + j] = out[j]
        for j in range(det_nodes):
            for e in range(distinct):
                xwx[det_first + j, e] = (1.0 + det_alpha[j]) * sums[e * det_width + j]
