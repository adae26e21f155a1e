"""The profile of a gene at one dispersion with two derivatives in log alpha: what Newton's method needs of a site.

Promises: no cancellation where 1/alpha is large, no libm, no fused or reordered operation, a gene's bits by itself;
derivatives within 1e-9 for counts to four million and dispersions from 1e-9 to 300. Refuses to know: priors, steps.

With u = alpha y, v = alpha mu, r = 1/alpha and S the sum over k < y of log(1 + alpha k), one count adds

    l'  = S' + r log(1 + v) - (y + r) v / (1 + v)
    l'' = S'' - r log(1 + v) + 2 r v / (1 + v) - (y + r) v / (1 + v)^2

and for larger counts, where S comes from Stirling's series, the terms are gathered so that only (mu - y) is left of y.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import packed_params
from secirls.numerics.arithmetic.portable import exp, log1p, strictly
from secirls.numerics.arrays import Counts, Floats, Mask
from secirls.numerics.dispersion.kernel import SMALLEST_EXP_ETA, TABLE
from secirls.numerics.held.held_counts import in_blocks
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.likelihood import LARGEST_LOG_MU, STIRLING

_S0, _S1, _S2, _S3, _S4, _S5 = STIRLING


class CurvatureSums(NamedTuple):
    """One site's sums, by gene."""

    derivatives: Floats
    """First and second derivative of the log-likelihood in log alpha, ``(genes, 2)``."""
    powers: Floats
    """(1 + alpha) times the distinct products of X'WX, alpha X'W^2X and alpha^2 X'W^3X, ``(genes, 3, q)``.

    None is larger than the first, as alpha W < 1; the common factor is as in `profile_sums`.
    """


@strictly(inline=True)
def _rest_slopes(z: float) -> tuple[float, float]:
    """First and second derivative of what Stirling's formula leaves of lgamma at z >= 16."""
    over = 1.0 / z
    square = over * over
    p = 11.0 * _S5
    p = p * square + 9.0 * _S4
    p = p * square + 7.0 * _S3
    p = p * square + 5.0 * _S2
    p = p * square + 3.0 * _S1
    p = p * square + _S0
    q = 132.0 * _S5
    q = q * square + 90.0 * _S4
    q = q * square + 56.0 * _S3
    q = q * square + 30.0 * _S2
    q = q * square + 12.0 * _S1
    q = q * square + 2.0 * _S0
    return -p * square, q * square * over


@strictly(inline=True)
def _direct(y: int, alpha: float) -> tuple[float, float]:
    """S' and S'' of a small count, term by term."""
    first, second = 0.0, 0.0
    for k in range(1, y):
        u = alpha * float(k)
        share = u / (1.0 + u)
        first += share
        second += share / (1.0 + u)
    return first, second


@strictly(inline=True)
def _of_size(alpha: float) -> tuple[float, float]:
    """What Stirling's rest at 1/alpha adds to S' and S'' of every larger count: found at the first count with none."""
    y, size = float(TABLE - 1), 1.0 / alpha
    u = alpha * y
    first, second = _direct(TABLE - 1, alpha)
    share, growth = u / (1.0 + u), log1p(u)
    slope, bend = _rest_slopes(y + size)
    plain = (y - size * growth) - (0.5 * share + size * slope)
    bent = (size * growth - 2.0 * (y / (1.0 + u))) + y / (1.0 + u)
    bent += size * slope + size * size * bend - 0.5 * (share / (1.0 + u))
    return first - plain, second - bent


@strictly(inline=True)
def _small(y: int, mu: float, alpha: float) -> tuple[float, float]:
    """Both derivatives of a count of the table."""
    size, v = 1.0 / alpha, alpha * mu
    first, second = _direct(y, alpha)
    growth, over = size * log1p(v), 1.0 / (1.0 + v)
    scaled = mu * over  # r v / (1 + v)
    reach = (float(y) * alpha + 1.0) * scaled  # (y + r) v / (1 + v)
    return first + (growth - reach), second + ((2.0 * scaled - growth) - reach * over)


@strictly(inline=True)
def _large(y: float, mu: float, alpha: float, of_size: float, of_size_bent: float) -> tuple[float, float]:
    """Both derivatives of a larger count."""
    size, u, v = 1.0 / alpha, alpha * y, alpha * mu
    under_y, under_mu, gap = 1.0 / (1.0 + u), 1.0 / (1.0 + v), mu - y
    apart = size * log1p(alpha * gap * under_y)
    slope, bend = _rest_slopes(y + size)
    share = u * under_y
    first = (apart - gap * under_mu) - (0.5 * share + size * slope) + of_size
    middle = 2.0 * gap * (under_y * under_mu) - apart
    outer = gap * (1.0 - u * v) * (under_y * under_mu * under_mu)
    second = (middle - outer) + (size * slope + size * size * bend) - 0.5 * (share * under_y) + of_size_bent
    return first, second


@strictly()
def _fill(
    counts: Counts,
    coefficients: Floats,
    design: Floats,
    products: Floats,
    s: Floats,
    min_mu: float,
    linear: bool,
    alphas: Floats,
    derivatives: Floats,
    powers: Floats,
) -> None:
    genes, samples = counts.shape
    for g in range(genes):
        alpha = alphas[g]
        of_size, of_size_bent = _of_size(alpha)
        first, second = 0.0, 0.0
        powers[g] = 0.0
        for i in range(samples):
            eta = 0.0
            for k in range(design.shape[1]):
                eta += coefficients[g, k] * design[i, k]
            mu = s[i] * (eta if linear else exp(min(max(eta, SMALLEST_EXP_ETA), LARGEST_LOG_MU)))
            mu = max(min_mu, mu)
            if counts[g, i] < TABLE:
                one, two = _small(counts[g, i], mu, alpha)
            else:
                one, two = _large(float(counts[g, i]), mu, alpha, of_size, of_size_bent)
            first += one
            second += two
            weight = 1.0 / (1.0 / mu + alpha)
            share = alpha * weight
            for e in range(products.shape[1]):
                x = (1.0 + alpha) * (weight * products[i, e])
                powers[g, 0, e] += x
                powers[g, 1, e] += share * x
                powers[g, 2, e] += share * (share * x)
        derivatives[g, 0], derivatives[g, 1] = first, second


def curvature_sums(
    samples: Samples, coefficients: Floats, alpha: Floats, products: Products, *, linear: bool, min_mu: float
) -> CurvatureSums:
    """The sums of one site over its samples, at one dispersion a gene ``(genes,)``; means as in `profile_sums`."""
    if samples.size_factors is None:
        raise ValueError("profiles need size factors: ask for them first")
    pairs = products.of(samples.design)
    sums = CurvatureSums(np.empty((alpha.size, 2)), np.empty((alpha.size, 3, pairs.shape[1])))
    b = np.ascontiguousarray(coefficients, dtype=np.float64)
    design = np.ascontiguousarray(samples.design, dtype=np.float64)
    s = np.ascontiguousarray(samples.size_factors, dtype=np.float64)
    alpha = np.ascontiguousarray(alpha, dtype=np.float64)
    for block, counts in in_blocks(samples.counts):
        _fill(counts, b[block], design, pairs, s, min_mu, linear, alpha[block], *(each[block] for each in sums))
    return sums


def adjusted_derivatives(sums: CurvatureSums, products: Products) -> tuple[Floats, Floats, Mask]:
    """Both derivatives of L in log alpha from sums over all sites, and which genes have a singular X'WX (NaN there).

    With A = X'WX, A' = -alpha X'W^2X and A'' = A' + 2 alpha^2 X'W^3X: (log det A)' = tr inv(A) A', and
    (log det A)'' = tr inv(A) A'' - tr (inv(A) A')^2.
    """
    packed = products.packed(sums.powers)
    first, second = sums.derivatives[:, 0].copy(), sums.derivatives[:, 1].copy()
    singular = np.zeros(first.size, dtype=np.bool_)
    _adjust(packed, packed_params(packed.shape[2]), first, second, singular)
    return first, second, singular


@strictly()
def _adjust(packed: Floats, params: int, first: Floats, second: Floats, singular: Mask) -> None:
    a, b, c = np.empty((params, params)), np.empty((params, params)), np.empty((params, params))
    for g in range(first.size):
        entry = 0
        for i in range(params):
            for j in range(i, params):
                a[i, j] = a[j, i] = packed[g, 0, entry]
                b[i, j] = b[j, i] = -packed[g, 1, entry]
                c[i, j] = c[j, i] = b[i, j] + 2.0 * packed[g, 2, entry]
                entry += 1
        for i in range(params):  # a to the identity, b and c to inv(a) b and inv(a) c
            pivot = a[i, i]
            if not (1e-150 < pivot < 1e150):
                singular[g] = True
                break
            for k in range(params):
                if k != i:
                    share = a[k, i] / pivot
                    for j in range(params):
                        a[k, j] -= share * a[i, j]
                        b[k, j] -= share * b[i, j]
                        c[k, j] -= share * c[i, j]
        if singular[g]:
            first[g] = second[g] = np.nan
            continue
        trace, bent, squared = 0.0, 0.0, 0.0
        for i in range(params):
            trace += b[i, i] / a[i, i]
            bent += c[i, i] / a[i, i]
            for j in range(params):
                squared += (b[i, j] / a[i, i]) * (b[j, i] / a[j, j])
        first[g] -= 0.5 * trace
        second[g] -= 0.5 * (bent - squared)
