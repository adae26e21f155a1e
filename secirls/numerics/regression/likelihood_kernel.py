"""The negative log-likelihood of a gene's counts, compiled: what does not depend on means, and the whole without loss.

Promises: the formulas of `likelihood`, one vector loop over the counts that Stirling's series serves and one logarithm
for all equal counts below; a gene's bits are its own. Refuses to know: designs, who asks.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
from scipy.special import gammaln

from secirls.numerics.arithmetic import portable
from secirls.numerics.arithmetic.elementary import compiled, exp, log1p_and_inverse, log_and_inverse
from secirls.numerics.arrays import Counts, Floats
from secirls.numerics.regression.design_products import plus
from secirls.numerics.regression.likelihood import SERIES_FROM, STIRLING, stirling_rest

LARGEST_CALM_LOG_MU = 300.0
"""Log means of larger magnitude are left to `likelihood.nll`."""
_TABLE = int(SERIES_FROM)
"""Counts below this are counted, and have their rising products taken once."""
_LOG_FACTORIALS = gammaln(np.arange(1.0, SERIES_FROM + 1.0))
_S0, _S1, _S2, _S3, _S4, _S5 = STIRLING
_HALF_LOG_2PI = 0.5 * log(2.0 * pi)


@compiled(inline=True)
def _stirling_series(over: float) -> float:
    """What Stirling's formula leaves of lgamma at 1 / over >= 16."""
    square = over * over
    p = _S5
    p = p * square + _S4
    p = p * square + _S3
    p = p * square + _S2
    p = p * square + _S1
    p = p * square + _S0
    return p * over


@compiled(inline=True)
def _sort_out(y: Counts, equal: Floats, large: Floats) -> int:
    """Count the small counts by value, and gather the others; gives how many these are."""
    equal[:] = 0.0
    found = 0
    for i in range(y.size):
        large[found] = float(y[i])
        if y[i] < _TABLE:
            equal[y[i]] += 1.0
        else:
            found += 1
    return found


@compiled(inline=True)
def _of_small(equal: Floats, alpha: float, log_factorials: Floats) -> float:
    """Sum of log y! - log((1 + alpha) ... (1 + (y - 1) alpha)) over small counts; those of 0 and 1 are nothing."""
    total, rising = 0.0, 1.0
    for c in range(2, equal.size):
        rising *= 1.0 + float(c - 1) * alpha
        if equal[c] > 0.0:
            total += equal[c] * (log_factorials[c] - log_and_inverse(rising)[0])
    return total


@compiled()
def _constants(counts: Counts, alphas: Floats, rest_of_size: Floats, log_factorials: Floats, sums: Floats) -> None:
    """Sums of `likelihood.constants` over a gene's samples."""
    genes, samples = counts.shape
    equal, gathered = np.empty(_TABLE), np.empty(samples)
    for gene in range(genes):
        alpha = alphas[gene]
        size = 1.0 / alpha
        found = _sort_out(counts[gene], equal, gathered)
        total, large = 0.0, gathered[:found]
        for i in range(large.size):
            x = large[i]
            log_x, over = log_and_inverse(x)
            softplus = log1p_and_inverse(alpha * x)[0]
            rests = _stirling_series(over) - _stirling_series(1.0 / (x + size))
            total = plus(total, (x + 0.5) * log_x - (x + size - 0.5) * softplus + rests)
        total += float(found) * (_HALF_LOG_2PI + rest_of_size[gene])
        sums[gene] = total + _of_small(equal, alpha, log_factorials)


@compiled()
def _whole(
    counts: Counts, log_mu: Floats, alphas: Floats, rest_of_size: Floats, log_factorials: Floats, sums: Floats
) -> None:
    """Sums of `likelihood.nll` over a gene's samples, at log means ``(genes, samples)`` of calm magnitude."""
    genes, samples = counts.shape
    equal, gathered, means = np.empty(_TABLE), np.empty(samples), np.empty(samples)
    for gene in range(genes):
        alpha, y, at = alphas[gene], counts[gene], log_mu[gene]
        size = 1.0 / alpha
        total, found = 0.0, 0
        for i in range(samples):
            means[found] = at[i]
            if y[i] < _TABLE:
                total += (float(y[i]) + size) * log1p_and_inverse(alpha * exp(at[i]))[0] - float(y[i]) * at[i]
            else:
                found += 1
        found = _sort_out(y, equal, gathered)
        large, log_means = gathered[:found], means[:found]
        for i in range(large.size):
            x = large[i]
            log_x, over = log_and_inverse(x)
            growth, over_growth = log1p_and_inverse(alpha * x)
            t = log_means[i] - log_x
            by_size = x > size
            toward = portable.expm1(-t if by_size else t)
            inner = toward * over_growth * (1.0 if by_size else alpha * x)
            deviance = (x + size) * portable.log1p(inner) + (size * t if by_size else -x * t)
            rests = _stirling_series(over) - _stirling_series(1.0 / (x + size))
            total = plus(total, 0.5 * (log_x + growth) + rests + deviance)
        total += float(found) * (_HALF_LOG_2PI + rest_of_size[gene])
        sums[gene] = total + _of_small(equal, alpha, log_factorials)


def nll_constants(counts: Counts, alpha: Floats) -> Floats:
    """The part of the likelihood that does not depend on beta, for counts ``(genes, samples)``: ``(genes,)``."""
    sums = np.empty(alpha.size)
    _constants(counts, alpha, stirling_rest(1.0 / alpha), _LOG_FACTORIALS, sums)
    return sums


def whole_nll(counts: Counts, log_mu: Floats, alpha: Floats) -> Floats:
    """The likelihood with its constants, and without cancellation, of counts and log means ``(genes, samples)``."""
    sums = np.empty(alpha.size)
    _whole(counts, log_mu, alpha, stirling_rest(1.0 / alpha), _LOG_FACTORIALS, sums)
    return sums
