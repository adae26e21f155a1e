"""Cook's distances of a site's counts: how far one sample moves its gene's coefficients.

Promises: what is computed here stays inside the site; callers send numbers of samples. Refuses to know: queries, and
how the robust dispersions were found.
Cook (1977), "Detection of influential observation in linear regression"; Love, Huber and Anders (2014), methods.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from secirls.numerics import likelihood
from secirls.numerics.samples import Floats, Samples
from secirls.numerics.solve import inverses

SMALLEST_ROBUST_DISPERSION = 0.04
"""The floor of the robust dispersions; the largest Cook's distance a sample can have is the one at this floor."""


@dataclass(frozen=True)
class Fit:
    """The public fit that leverages and residuals are computed from, arrays by gene."""

    beta: Floats
    """Natural-log coefficients, ``(genes, params)``: residuals are from their means, not clamped."""
    hat_beta: Floats
    """Where IRLS left the gene, ``(genes, params)``: weights are from their means, clamped."""
    hat_xtwx: Floats
    """Upper triangles of X'WX there, ``(genes, params (params + 1) / 2)``."""
    ridge: float
    min_mu: float


def log_means(samples: Samples, beta: Floats) -> Floats:
    """``X beta + log s`` of every count, ``(genes, samples)``; without BLAS, so each gene by itself."""
    if samples.size_factors is None:
        raise ValueError("means need size factors: ask for them first")
    log_mu = np.zeros((beta.shape[0], samples.n_samples)) + np.log(samples.size_factors)
    for column in range(samples.n_params):
        log_mu += beta[:, column, None] * samples.design[:, column]
    return log_mu


def leverages(samples: Samples, fit: Fit) -> Floats:
    """Diagonal of ``W^1/2 X inv(X'WX + ridge) X' W^1/2``, ``(genes, samples)``; NaN for a gene without an inverse."""
    if samples.dispersions is None:
        raise ValueError("leverages need dispersions: ask for them first")
    inverse, _ = inverses(fit.hat_xtwx, fit.ridge)
    log_mu = log_means(samples, fit.hat_beta)
    if fit.min_mu > 0:
        log_mu = np.maximum(log_mu, np.log(fit.min_mu))
    form = np.zeros_like(log_mu)
    for i in range(samples.n_params):
        for j in range(samples.n_params):
            form += inverse[:, i, j, None] * (samples.design[:, i] * samples.design[:, j])
    return likelihood.information(log_mu, samples.dispersions[:, None]) * form


def cooks_distances(samples: Samples, fit: Fit, robust: Floats) -> Floats:
    """``(y - mu)^2 / (mu + rho mu^2) / params * h / (1 - h)^2`` of every count, ``(genes, samples)``.

    ``robust`` holds rho ``(genes,)``. Not finite where a leverage is one; such a sample is no outlier.
    """
    h = leverages(samples, fit)
    mu = np.exp(np.minimum(log_means(samples, fit.beta), likelihood.LARGEST_LOG_MU))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pearson = (samples.counts.T - mu) ** 2 / (mu + robust[:, None] * mu**2)
        distance: Floats = pearson / samples.n_params * h / (1.0 - h) ** 2
    return distance
