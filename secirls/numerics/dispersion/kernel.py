"""One gene's likelihood at many dispersions, compiled: complete log-likelihoods, and X'WX, node by node.

Promises: the formulas of `reference`, without cancellation, without libm and without a fused or reordered operation:
a gene's bits depend on its own counts alone, not on its neighbours, blocks or threads. The interpreter's lock is
released. Refuses to know: where the means came from, who asks, what the dispersions are for.

Samples are the outer loop and nodes the inner one, so that vectors are full for 8 samples as for 800, and each
node's sum is in the order of the samples. A count up to 16 takes (1 + alpha) (1 + 2 alpha) ... (1 + (y - 1) alpha)
from a table of its gene; a larger one Stirling's series and, for its deviance, log(1 + (mu - y) / (y + 1/alpha)),
which is exact where mu is near y (Loader 2000, for the idea). Two logarithms and two divisions a count and node.
"""

from __future__ import annotations

from math import lgamma, log, pi

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.likelihood import LARGEST_LOG_MU, SERIES_FROM, STIRLING
from secirls.numerics.portable import exp, log1p, log_and_inverse, strictly
from secirls.numerics.samples import Counts, Floats

TABLE = int(SERIES_FROM) + 1
"""Counts below this have their rising products in a table."""
SMALLEST_EXP_ETA = -700.0

_S0, _S1, _S2, _S3, _S4, _S5 = STIRLING
_HALF_LOG_2PI = 0.5 * log(2.0 * pi)
_LAST = float(TABLE - 1)
_AT_LAST = lgamma(TABLE) - _LAST * log(_LAST)
"""log 16! - 16 log 16."""


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
def _fill(alpha: Floats, size: Floats, rest: Floats, rising: Floats) -> None:
    """1 / alpha, what Stirling's formula leaves of it, and the rising products of each count in the table.

    The rest at 1/alpha follows from the table's last count, so that no small 1/alpha needs a gamma function.
    """
    nodes = alpha.size
    for j in range(nodes):
        size[j] = 1.0 / alpha[j]
        rising[j] = 1.0
    for k in range(1, TABLE):
        before, here = rising[(k - 1) * nodes : k * nodes], rising[k * nodes : (k + 1) * nodes]
        for j in range(nodes):
            here[j] = before[j] * (1.0 + float(k - 1) * alpha[j])
    last = rising[(TABLE - 1) * nodes : TABLE * nodes]
    for j in range(nodes):
        growth = log1p(_LAST * alpha[j])
        saturated = (_LAST + size[j]) * growth - log_and_inverse(last[j])[0] + _AT_LAST
        stirling = _HALF_LOG_2PI + 0.5 * (log_and_inverse(_LAST)[0] + growth) + _stirling_rest(1.0 / _LAST)
        rest[j] = saturated - stirling + _stirling_rest(1.0 / (_LAST + size[j]))


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
def _add_large(y: float, mu: float, shift: float, alpha: Floats, size: Floats, rest: Floats, out: Floats) -> None:
    """Add the log-likelihoods of a larger count; `shift` is y log(mu / y) - log(2 pi y) / 2 - Stirling's rest at y."""
    gap = mu - y
    for j in range(alpha.size):
        log_growth, over = log_and_inverse(1.0 + alpha[j] * y)
        part = alpha[j] * over  # 1 / (y + 1/alpha)
        deviance = (y + size[j]) * log1p(gap * part)
        out[j] += (shift - deviance) - (0.5 * log_growth + (rest[j] - _stirling_rest(part)))


@strictly(inline=True)
def _add_information(mu: float, products: Floats, alpha: Floats, weight: Floats, sums: Floats) -> None:
    """Add one sample's weights, times each of its products, to the sums ``(q, nodes)`` as one flat array."""
    nodes = alpha.size
    over = 1.0 / mu
    for j in range(nodes):
        weight[j] = 1.0 / (over + alpha[j])
    for e in range(products.size):
        x = products[e]
        if x != 0.0:
            here = sums[e * nodes : (e + 1) * nodes]
            for j in range(nodes):
                here[j] += weight[j] * x


@strictly()
def profile(
    counts: Counts,
    coefficients: Floats,
    design: Floats,
    products: Floats,
    s: Floats,
    min_mu: float,
    linear: bool,
    alphas: Floats,
    starts: NDArray[np.intp],
    det_alphas: Floats,
    det_starts: NDArray[np.intp],
    log_factorials: Floats,
    loglik: Floats,
    xwx: Floats,
    constant: Floats,
) -> None:
    """Fill `loglik`, `xwx` and `constant` for counts ``(genes, samples)``; see `sums.profile_sums` for the meaning."""
    genes, samples = counts.shape
    params, distinct = design.shape[1], products.shape[1]
    most, det_most = 0, 0
    for gene in range(genes):
        most = max(most, starts[gene + 1] - starts[gene])
        det_most = max(det_most, det_starts[gene + 1] - det_starts[gene])
    scratch = np.empty((TABLE + 2) * most)
    det_scratch = np.empty((distinct + 1) * det_most)
    for gene in range(genes):
        alpha, out = alphas[starts[gene] : starts[gene + 1]], loglik[starts[gene] : starts[gene + 1]]
        det_alpha = det_alphas[det_starts[gene] : det_starts[gene + 1]]
        nodes, det_nodes = alpha.size, det_alpha.size
        size, rest = scratch[:nodes], scratch[nodes : 2 * nodes]
        rising = scratch[2 * nodes : (TABLE + 2) * nodes]
        weight, sums = det_scratch[:det_nodes], det_scratch[det_nodes : (distinct + 1) * det_nodes]
        _fill(alpha, size, rest, rising)
        out[:] = 0.0
        sums[:] = 0.0
        total = 0.0
        for i in range(samples):
            eta = 0.0
            for k in range(params):
                eta += coefficients[gene, k] * design[i, k]
            mu = s[i] * (eta if linear else exp(min(max(eta, SMALLEST_EXP_ETA), LARGEST_LOG_MU)))
            mu = max(min_mu, mu)
            y = float(counts[gene, i])
            if counts[gene, i] < TABLE:
                shift = y * log_and_inverse(mu)[0] - log_factorials[counts[gene, i]]
                total += shift
                row = rising[counts[gene, i] * nodes : (counts[gene, i] + 1) * nodes]
                _add_small(y, mu, shift, alpha, size, row, out)
            else:
                log_y, over = log_and_inverse(y)
                around = _HALF_LOG_2PI + 0.5 * log_y + _stirling_rest(over)
                to_mean = y * log1p((mu - y) * over)
                total += (to_mean + y) - around
                _add_large(y, mu, to_mean - around, alpha, size, rest, out)
            _add_information(mu, products[i], det_alpha, weight, sums)
        constant[gene] = total
        first = det_starts[gene]
        for j in range(det_nodes):
            for e in range(distinct):
                xwx[first + j, e] = sums[e * det_nodes + j]
