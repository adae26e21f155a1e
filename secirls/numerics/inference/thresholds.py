"""Tests of a fold change against a threshold rather than zero, from an estimate and its standard error.

Promises: with threshold 0 and `greaterAbs` the test is Wald's, and is left as it is. Refuses to know: contrasts, genes.
Love, Huber and Anders (2014), methods, composite null hypotheses, in the form of DESeq2 1.38: under `greaterAbs` twice
the smaller tail, at most 1, beyond the threshold; under `lessAbs` the larger of two one-sided p-values.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from secirls.numerics.inference.alternatives import Alternative, check_threshold
from secirls.numerics.inference.wald import WaldTest


def against_threshold(test: WaldTest, threshold: float, alternative: Alternative) -> WaldTest:
    """The same estimates with statistic and p-value of another null hypothesis; log2 like the ``threshold``.

    The alternatives: the fold change is beyond it on either side (`greaterAbs`), within it (`lessAbs`), above it
    (`greater`), or below minus it (`less`). Raises `ValueError`.
    """
    check_threshold(threshold, alternative)
    if threshold == 0 and alternative == "greaterAbs":
        return test
    change, error = test.log2_fold_change, test.lfc_se
    with np.errstate(divide="ignore", invalid="ignore"):
        above, below = (change - threshold) / error, (change + threshold) / error
        match alternative:
            case "greaterAbs":
                beyond = (np.abs(change) - threshold) / error
                stat, pvalue = np.sign(change) * np.maximum(beyond, 0.0), np.minimum(2.0 * ndtr(-beyond), 1.0)
            case "lessAbs":
                stat = np.minimum(np.maximum(-above, 0.0), np.maximum(below, 0.0))
                pvalue = np.maximum(ndtr(above), ndtr(-below))
            case "greater":
                stat, pvalue = np.maximum(above, 0.0), ndtr(-above)
            case "less":
                stat, pvalue = np.minimum(below, 0.0), ndtr(below)
    return replace(test, stat=stat, pvalue=pvalue)
