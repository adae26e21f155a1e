"""From coefficients to a table: standard errors, Wald tests, adjusted p-values. At the aggregator, from public sums.

Promises: a p-value is NaN only where `reasons` says why. Refuses to know: samples, sites and rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr

from secirls.numerics.algebra.solve import inverses, times, unpack
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.inference.lowess import lowess

LN2 = 0.6931471805599453
Smooth: TypeAlias = Callable[[Floats, Floats, float], Floats]
"""A smooth curve through y at each x, each local line fitted to a share of the points."""


@dataclass(frozen=True)
class WaldTest:
    """One contrast of every gene, arrays ``(genes,)``; NaN where `reasons` has a sentence."""

    log2_fold_change: Floats
    """c'beta / ln 2."""
    lfc_se: Floats
    """Its standard error, log2 like it."""
    stat: Floats
    """Their ratio."""
    pvalue: Floats
    """Two-sided, from the normal distribution."""
    reasons: dict[int, str]
    """Why a gene has no p-value, by index."""


def covariance(xtwx: Floats, ridge: float) -> tuple[Floats, Mask]:
    """Covariance of beta, ``inv(A + ridge) A inv(A + ridge)`` with A = X'WX.

    Returns ``(genes, params, params)``, and which genes have none (NaN there).
    Love, Huber and Anders (2014), methods, Wald test.
    """
    inverse, failed = inverses(xtwx, ridge)
    with np.errstate(invalid="ignore", over="ignore"):
        return inverse @ unpack(xtwx) @ inverse, failed


def wald(beta: Floats, xtwx: Floats, contrast: Floats, ridge: float = 1e-6) -> WaldTest:
    """Test whether a contrast of the coefficients is zero.

    Parameters
    ----------
    beta
        Natural-log coefficients, ``(genes, params)``; NaN for genes that have none.
    xtwx
        Upper triangles of X'WX at those coefficients, ``(genes, params (params + 1) / 2)``.
    contrast
        c, ``(params,)``.
    ridge
        As in the fit.
    """
    if contrast.shape != beta.shape[1:] or not np.isfinite(contrast).all() or not contrast.any():
        raise ValueError(f"a contrast is {beta.shape[1]} finite numbers, not all zero")
    known = np.asarray(np.isfinite(beta).all(axis=1) & np.isfinite(xtwx).all(axis=1))
    variance = np.full(beta.shape[0], np.nan)
    variance[known] = contrast_variances(xtwx[known], contrast, ridge)
    positive = np.isfinite(variance) & (variance > 0)
    error = np.sqrt(np.where(positive, variance, np.nan))
    estimate = np.where(known, (np.where(known[:, None], beta, 0.0) * contrast).sum(axis=1), np.nan)
    stat = estimate / error
    reasons = {int(gene): "The gene has no coefficients." for gene in np.flatnonzero(~known)}
    reasons |= {
        int(gene): "The information matrix at the coefficients gives no variance for this contrast."
        for gene in np.flatnonzero(known & ~positive)
    }
    return WaldTest(estimate / LN2, error / LN2, stat, 2.0 * ndtr(-np.abs(stat)), reasons)


def contrast_variances(xtwx: Floats, contrast: Floats, ridge: float) -> Floats:
    """The variance of a contrast ``(params,)`` of every gene's coefficients, ``(genes,)``: c' `covariance` c.

    NaN where upper triangles of X'WX ``(genes, params (params + 1) / 2)`` are not known or give none.
    """
    known = np.asarray(np.isfinite(xtwx).all(axis=1))
    variances = np.full(xtwx.shape[0], np.nan)
    inverse, failed = inverses(xtwx[known], ridge)
    with np.errstate(invalid="ignore", over="ignore"):
        direction = (inverse * contrast).sum(axis=2)
        length = (direction * times(xtwx[known], direction)).sum(axis=1)
    variances[known] = np.where(failed, np.nan, length)
    return variances


def standard_score(beta: Floats, score: Floats, xtwx: Floats, ridge: float = 1e-6) -> Floats:
    """Length of the next step in standard errors, ``sqrt(g' inv(X'WX + ridge) g)`` with g = score - ridge beta.

    ``(genes,)``; zero where beta is settled, NaN where there is no beta.
    """
    inverse, _ = inverses(xtwx, ridge)
    with np.errstate(invalid="ignore", over="ignore"):
        rest = score - ridge * beta
        size: Floats = np.sqrt(np.maximum((rest * (inverse * rest[:, None, :]).sum(axis=2)).sum(axis=1), 0.0))
    return size


def benjamini_hochberg(pvalue: Floats) -> Floats:
    """Adjusted p-values (Benjamini and Hochberg 1995); NaN stays NaN and is not counted."""
    known = np.flatnonzero(~np.isnan(pvalue))
    descending = known[np.argsort(pvalue[known])[::-1]]
    inflated = pvalue[descending] * (known.size / np.arange(known.size, 0, -1))
    adjusted = np.full_like(pvalue, np.nan)
    adjusted[descending] = np.minimum(np.minimum.accumulate(inflated), 1.0)
    return adjusted


def independent_filtering(
    pvalue: Floats, base_mean: Floats, alpha: float = 0.05, smooth: Smooth = lowess
) -> tuple[Floats, float]:
    """Adjusted p-values where genes below the best base mean are not tested at all.

    Love, Huber and Anders (2014), methods, automatic independent filtering, in the form of DESeq2 1.38:
    among 50 quantiles of the base mean, the smallest that rejects nearly as many hypotheses
    as a smooth curve through all of them does at its top.

    Parameters
    ----------
    pvalue, base_mean
        ``(genes,)``; every gene has a base mean, all-zero genes too, whose p-value is NaN.
    alpha
        The false discovery rate to optimise for.
    smooth
        The curve: `lowess`, or PyDESeq2's.

    Returns
    -------
    Adjusted p-values ``(genes,)``, NaN for genes filtered out, and the base mean they fall short of.
    """
    if pvalue.size == 0:
        return pvalue.copy(), 0.0
    lowest = float(np.mean(base_mean == 0))
    theta = np.linspace(lowest, 0.95 if lowest < 0.95 else 1.0, 50)
    cutoffs = _quantiles(base_mean, theta)
    adjusted = [benjamini_hochberg(np.where(base_mean >= cutoff, pvalue, np.nan)) for cutoff in cutoffs]
    rejected = np.array([int((trial < alpha).sum()) for trial in adjusted])
    best = 0
    if rejected.max() > 10:
        curve = smooth(theta, rejected.astype(np.float64), 0.2)
        some = rejected > 0
        spread = np.sqrt(np.mean((rejected[some] - curve[some]) ** 2))
        enough = np.flatnonzero(rejected > curve.max() - spread)
        best = int(enough[0]) if enough.size else 0
    return adjusted[best], float(cutoffs[best])


def _quantiles(values: Floats, shares: Floats) -> Floats:
    """Quantiles of type 7 (Hyndman and Fan 1996), rounded as R does: a quantile at a value is that value."""
    ordered = np.sort(values)
    index = (values.size - 1) * shares
    low = np.floor(index).astype(np.intp)
    below, above = ordered[low], ordered[np.minimum(low + 1, values.size - 1)]
    part = index - low
    return np.where((part > 0) & (above != below), (1.0 - part) * below + part * above, below)
