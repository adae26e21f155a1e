"""The negative-binomial likelihood of one count, written so that nothing cancels and nothing overflows.

Promises: elementwise functions of counts y, log means and dispersions alpha, with a relative error of
the negative log-likelihood below 1e-10 for alpha in [1e-8, 1e5], y in [0, 1e9] and log mu in [-700, 700].
Refuses to know: designs, samples, sums.

The textbook form subtracts numbers of size y log y to leave a few units. Here the value at mu = y, which
Stirling's series gives without any subtraction, stands apart from the half deviance, which is exactly
zero at mu = y (Loader 2000, "Fast and accurate computation of binomial probabilities", for the idea).
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from secirls.numerics.arrays import Floats

LARGEST_LOG_MU = 600.0
"""Beyond this log mean exp() is not taken: there alpha mu >> 1, and every formula is its limit."""
SMALLEST_LOG_MU = -700.0
"""A log mean is never taken below this."""

_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)
SERIES_FROM = 16.0
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def nll(y: Floats, log_mu: Floats, alpha: Floats | float) -> Floats:
    """Negative log-likelihood of each count, with all its constants.

    Love, Huber and Anders (2014), equation 1, with size 1 / alpha. Arguments broadcast.
    """
    return saturated_nll(y, alpha) + half_deviance(y, log_mu, alpha)


def saturated_nll(y: Floats, alpha: Floats | float) -> Floats:
    """Negative log-likelihood at mu = y: ``log(2 pi y (1 + alpha y)) / 2 + d(y) + d(1/alpha) - d(y + 1/alpha)``.

    d is what Stirling's formula leaves of lgamma. All terms are of the size of the result.
    """
    y, alpha = np.broadcast_arrays(np.asarray(y, dtype=np.float64), np.asarray(alpha, dtype=np.float64))
    size = 1.0 / alpha
    positive = np.maximum(y, 1.0)
    value = _HALF_LOG_2PI + 0.5 * (np.log(positive) + np.log1p(alpha * positive))
    value += stirling_rest(positive) + (stirling_rest(size) - stirling_rest(positive + size))
    return np.where(y > 0, value, 0.0)


def half_deviance(y: Floats, log_mu: Floats, alpha: Floats | float) -> Floats:
    """``nll(mu) - nll(mu = y)``, never negative beyond rounding.

    With t = log(mu / y), p = y / (y + 1/alpha), q = 1 - p, two equal forms are used, each where it does not cancel::

        y (log1p(p expm1(t)) / p - t)                      where y <= 1/alpha
        t / alpha + (y + 1/alpha) log1p(q expm1(-t))       where y > 1/alpha, or t is large
    """
    y, log_mu, alpha = np.broadcast_arrays(
        np.asarray(y, dtype=np.float64), np.asarray(log_mu, dtype=np.float64), np.asarray(alpha, dtype=np.float64)
    )
    size = 1.0 / alpha
    positive = np.maximum(y, 1.0)
    t = log_mu - np.log(positive)
    p = positive / (positive + size)
    q = size / (positive + size)
    by_q = ((positive > size) & (t > -300.0)) | (t > 600.0)
    far_below = (positive > size) & (t <= -300.0)

    t_p = np.where(by_q | far_below, 0.0, t)
    value = positive * (np.log1p(p * np.expm1(t_p)) / p - t_p)
    t_q = np.where(by_q, t, 0.0)
    value = np.where(by_q, size * t_q + (positive + size) * np.log1p(q * np.expm1(-t_q)), value)
    value = np.where(far_below, (positive + size) * np.log(q) - positive * t, value)
    return np.where(y > 0, value, size * softplus(log_mu, alpha))


def constants(y: Floats, alpha: Floats | float) -> Floats:
    """The part of `nll` that does not depend on the mean: what is left beside `moving_nll`."""
    y = np.asarray(y, dtype=np.float64)
    return saturated_nll(y, alpha) - moving_nll(y, np.log(np.maximum(y, 1.0)), alpha) * (y > 0)


def moving_nll(y: Floats, log_mu: Floats, alpha: Floats | float) -> Floats:
    """The part of `nll` that depends on the mean: ``(y + 1/alpha) log(1 + alpha mu) - y log mu``.

    Its error is a rounding of y log mu: enough for counts up to about 1e5, where it saves `half_deviance`.
    """
    return (y + 1.0 / alpha) * softplus(log_mu, alpha) - y * log_mu


def score(y: Floats, log_mu: Floats, alpha: Floats | float) -> Floats:
    """Derivative of the log-likelihood in log mu: ``(y - mu) / (1 + alpha mu)``."""
    mu = np.exp(np.minimum(log_mu, LARGEST_LOG_MU))
    return (y - mu) / (1.0 + alpha * mu)


def information(log_mu: Floats, alpha: Floats | float) -> Floats:
    """Expected second derivative of `nll` in log mu, the IRLS weight w: ``mu / (1 + alpha mu)``."""
    mu = np.exp(np.minimum(log_mu, LARGEST_LOG_MU))
    return mu / (1.0 + alpha * mu)


def softplus(log_mu: Floats, alpha: Floats | float) -> Floats:
    """``log(1 + alpha mu)`` for any log mean."""
    shallow = np.minimum(log_mu, LARGEST_LOG_MU)
    return np.log1p(alpha * np.exp(shallow)) + (log_mu - shallow)


def stirling_rest(z: Floats) -> Floats:
    """``lgamma(z) - (z - 1/2) log z + z - log(2 pi) / 2`` for z > 0: positive and falling to zero."""
    large = np.maximum(z, SERIES_FROM)
    square = 1.0 / (large * large)
    series = np.zeros_like(large)
    for coefficient in reversed(STIRLING):
        series = series * square + coefficient
    small = np.minimum(z, SERIES_FROM)
    direct = gammaln(small) - (small - 0.5) * np.log(small) + small - _HALF_LOG_2PI
    return np.where(z >= SERIES_FROM, series / large, direct)
