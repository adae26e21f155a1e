"""Likelihood-ratio tests of many genes: from two likelihoods to a p-value. At the aggregator, from public sums.

Promises: a statistic below zero is reported as it is, with a p-value of one. Refuses to know: how either was fitted.
Wilks (1938) for the distribution; Love, Huber and Anders (2014) for the test.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincc

from secirls.numerics.arrays import Floats


def statistics(full: Floats, reduced: Floats) -> Floats:
    """Twice the difference of negative log-likelihoods, each ``(genes,)``."""
    stat: Floats = 2.0 * (reduced - full)
    return stat


def chi_squared_pvalues(stat: Floats, degrees_of_freedom: int) -> Floats:
    """Upper tails of the chi-squared distribution, ``(genes,)``; one below zero, as in R, and NaN at NaN."""
    known = np.isfinite(stat)
    pvalue = np.full(stat.shape, np.nan)
    pvalue[known] = gammaincc(0.5 * degrees_of_freedom, 0.5 * np.maximum(stat[known], 0.0))
    return pvalue
