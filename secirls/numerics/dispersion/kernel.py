"""One gene's likelihood at many dispersions, compiled: complete log-likelihoods, and X'WX, node by node.

Promises: the formulas of `reference`, without cancellation, without libm and without a fused or reordered operation:
a gene's bits depend on its own counts alone, not on its neighbours, blocks or threads. The interpreter's lock is
released. Refuses to know: where the means came from, who asks, what the dispersions are for.

Samples are the outer loop and nodes the inner one, so that vectors are full for 8 samples as for 800, and each
node's sum is in the order of the samples. A count up to 16 takes (1 + alpha) (1 + 2 alpha) ... (1 + (y - 1) alpha)
from a table of its gene, whose logarithm is taken once for all equal counts; a larger one Stirling's series and, for
its deviance, a logarithm that is exact where mu is near y (Loader 2000, for the idea). What stands alone in logarithms
is multiplied first, eight counts at a time: one logarithm and one or two divisions a count and node.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.portable import exp, log1p, log_and_inverse, strictly
from secirls.numerics.arrays import Counts, Floats
from secirls.numerics.regression.likelihood import LARGEST_LOG_MU, SERIES_FROM, STIRLING

TABLE = int(SERIES_FROM) + 1
"""Counts below this have their rising products in a table."""
SMALLEST_EXP_ETA = -700.0
_VECTOR = 8
"""Numbers in the widest vectors."""
_MULTIPLIED = 8
"""Factors 1 + alpha y whose product still has a logarithm: each is below 1e15."""
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
        rising, pair, square = 1.0 + 0.5 * _LAST * alpha[j], 1.0 + _LAST * alpha[j], alpha[j] * alpha[j]
        for k in range(1, (TABLE - 1) // 2):  # (1 + k alpha) (1 + (16 - k) alpha)
            rising *= pair + float(k * (TABLE - 1 - k)) * square
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
def _add_small(y: float, mu: float, alpha: Floats, size: Floats, out: Floats) -> None:
    """Add the log-likelihoods of a count of the table, but for y log mu - log y! and its rising product."""
    for j in range(alpha.size):
        out[j] -= (y + size[j]) * log1p(alpha[j] * mu)


@strictly(inline=True)
def _add_rising(equal: Floats, highest: int, rising: Floats, out: Floats) -> None:
    """Add the logarithms of rising products, each for as many counts as are equal; those of 0 and 1 are nothing."""
    nodes = out.size
    for c in range(2, highest + 1):
        if equal[c] > 0.0:
            here = rising[c * nodes : (c + 1) * nodes]
            for j in range(nodes):
                out[j] += equal[c] * log_and_inverse(here[j])[0]


@strictly(inline=True)
def _add_growth(grown: Floats, out: Floats) -> None:
    """Take off half the logarithms of products of 1 + alpha y, which are then one again."""
    for j in range(out.size):
        out[j] -= 0.5 * log_and_inverse(grown[j])[0]
        grown[j] = 1.0


@strictly(inline=True)
def _add_large(y: float, mu: float, alpha: Floats, size: Floats, grown: Floats, out: Floats, log_ratio: float) -> None:
    """Add the log-likelihoods of a larger count, but for what Stirling's formula leaves at y and at 1/alpha.

    `log_ratio` is log(mu / y). The half deviance has two equal forms, each without cancellation on its side of
    y = 1/alpha, as in `likelihood.half_deviance`. `grown` is multiplied with 1 + alpha y.
    """
    gap, below, to_mean = mu - y, (y - mu) / mu, y * log_ratio
    for j in range(alpha.size):
        growth = 1.0 + alpha[j] * y
        grown[j] *= growth
        over = 1.0 / growth
        part = alpha[j] * over  # 1 / (y + 1/alpha)
        by_size = y > size[j]
        inner = below * over if by_size else gap * part
        outer = size[j] * log_ratio if by_size else -to_mean
        deviance = (y + size[j]) * log1p(inner) + outer
        out[j] -= deviance - _stirling_rest(part)


@strictly(inline=True)
def _fill_means(b: Floats, design: Floats, s: Floats, min_mu: float, linear: bool, mu: Floats) -> None:
    """The means of one gene, ``(samples,)``."""
    for i in range(mu.size):
        eta = 0.0
        for k in range(b.size):
            eta += b[k] * design[i, k]
        mu[i] = eta
    if not linear:
        for i in range(mu.size):
            mu[i] = exp(min(max(mu[i], SMALLEST_EXP_ETA), LARGEST_LOG_MU))
    for i in range(mu.size):
        mu[i] = max(min_mu, s[i] * mu[i])


@strictly(inline=True)
def _fill_fixed(y: Counts, mu: Floats, log_ratio: Floats, around: Floats) -> tuple[float, float]:
    """What of a gene's counts does not depend on alpha: sums of y log mu - log y!, and of what is left to add.

    Of larger counts, log(mu / y), and log(2 pi y) / 2 with what Stirling's formula leaves at y, both ``(samples,)``; of
    the table's, log mu.
    """
    for i in range(y.size):
        count = max(float(y[i]), 1.0)
        log_y, over = log_and_inverse(count)
        log_mu = log_and_inverse(mu[i])[0]
        near = (0.5 * count < mu[i]) & (mu[i] < 2.0 * count)
        ratio = log1p((mu[i] - count) * over) if near else log_mu - log_y
        log_ratio[i] = log_mu if y[i] < TABLE else ratio
        around[i] = _HALF_LOG_2PI + 0.5 * log_y + _stirling_rest(over)
    total, fixed = 0.0, 0.0
    for i in range(y.size):
        if y[i] < TABLE:
            shift = float(y[i]) * log_ratio[i] - LOG_FACTORIALS[y[i]]
            total += shift
            fixed += shift
        else:
            total += (float(y[i]) * log_ratio[i] + float(y[i])) - around[i]
            fixed -= around[i]
    return total, fixed


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
    distinct = levels.shape[1]
    most, det_most = 0, 0
    for gene in range(genes):
        most = max(most, _filled_up(starts[gene + 1] - starts[gene]))
        det_most = max(det_most, _filled_up(det_starts[gene + 1] - det_starts[gene]))
    scratch = np.empty((TABLE + 5) * most)
    equal, mu, log_ratio, around = np.empty(TABLE), np.empty(samples), np.empty(samples), np.empty(samples)
    det_scratch = np.empty((distinct + 2) * det_most)
    for gene in range(genes):
        first, nodes = starts[gene], starts[gene + 1] - starts[gene]
        det_first, det_nodes = det_starts[gene], det_starts[gene + 1] - det_starts[gene]
        width, det_width = _filled_up(nodes), _filled_up(det_nodes)
        alpha, size, rest = scratch[:width], scratch[width : 2 * width], scratch[2 * width : 3 * width]
        out, grown = scratch[3 * width : 4 * width], scratch[4 * width : 5 * width]
        rising = scratch[5 * width : (TABLE + 5) * width]
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
        det_scratch[det_width:] = 0.0
        out[:], grown[:], equal[:] = 0.0, 1.0, 0.0
        _fill_means(coefficients[gene], design, s, min_mu, linear, mu)
        constant[gene], fixed = _fill_fixed(counts[gene], mu, log_ratio, around)
        larger = 0
        for i in range(samples):
            y = float(counts[gene, i])
            if counts[gene, i] < TABLE:
                equal[counts[gene, i]] += 1.0
                _add_small(y, mu[i], alpha, size, out)
            else:
                _add_large(y, mu[i], alpha, size, grown, out, log_ratio[i])
                larger += 1
                if larger % _MULTIPLIED == 0:
                    _add_growth(grown, out)
            _add_weights(mu[i], det_alpha, weights)
            if i + 1 == samples or level[i + 1] != level[i]:
                _add_products(weights, levels[level[i]], sums)
                weights[:] = 0.0
        _add_rising(equal, highest, rising, out)
        if large:
            _add_growth(grown, out)
            for j in range(width):
                out[j] -= float(larger) * rest[j]
        for j in range(nodes):
            loglik[first + j] = out[j] + fixed
        for j in range(det_nodes):
            for e in range(distinct):
                xwx[det_first + j, e] = (1.0 + det_alpha[j]) * sums[e * det_width + j]
