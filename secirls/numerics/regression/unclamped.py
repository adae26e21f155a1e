"""The likelihood of a site's counts without a floor under the means: value, slope and observed curvature by gene.

Promises: a gene's sums are the same bits whichever genes are beside it; no difference of large numbers is taken, so
that values at two coefficients can be compared; nothing overflows for any finite beta. Refuses to know: who asks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from secirls.numerics.algebra.solve import packed_size
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood


class UnclampedSums(NamedTuple):
    """One site's sums, by gene."""

    nll: Floats
    """Negative log-likelihood with all its constants, ``(genes,)``."""
    score: Floats
    """``X' (y - mu) / (1 + alpha mu)``, ``(genes, params)``."""
    information: Floats
    """Upper triangles of ``X'VX`` with ``V = (1 + alpha y) mu / (1 + alpha mu)^2``, ``(genes, params (params+1) / 2)``:
    the second derivative of nll as it is, not as it is expected."""


def unclamped_sums(samples: Samples, beta: Floats) -> UnclampedSums:
    """The sums of one site at natural-log coefficients ``(genes, params)``; log mu = X beta + log s.

    Love, Huber and Anders (2014), equation 1; Lawless (1987), "Negative binomial and mixed Poisson regression", for the
    derivatives.
    """
    if samples.size_factors is None or samples.dispersions is None:
        raise ValueError("sums need size factors and dispersions: ask for them first")
    genes, params = beta.shape
    columns, log_s = np.ascontiguousarray(samples.design.T), np.log(samples.size_factors)
    nll, score = np.empty(genes), np.empty((genes, params))
    information = np.empty((genes, packed_size(params)))
    for block in samples.gene_blocks():
        y, alpha = samples.counts.T[block].astype(np.float64), samples.dispersions[block, None]
        log_mu = np.zeros_like(y) + log_s
        for column in range(params):  # without BLAS, whose bits depend on how many genes are asked about
            log_mu += beta[block, column, None] * columns[column]
        log_mu = np.maximum(log_mu, likelihood.SMALLEST_LOG_MU)
        mu = np.exp(np.minimum(log_mu, likelihood.LARGEST_LOG_MU))
        over = 1.0 / (1.0 + alpha * mu)
        nll[block] = likelihood.nll(y, log_mu, alpha).sum(axis=1)
        pull, weight = (y - mu) * over, (1.0 + alpha * y) * (mu * over) * over
        for entry, (i, j) in enumerate(zip(*np.triu_indices(params), strict=True)):
            information[block, entry] = (weight * (columns[i] * columns[j])).sum(axis=1)
        for column in range(params):
            score[block, column] = (pull * columns[column]).sum(axis=1)
    return UnclampedSums(nll, score, information)
