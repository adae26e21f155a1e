"""Cook's distances of a site's counts: how far one sample moves its gene's coefficients.

Promises: what is computed here stays inside the site; callers send numbers of samples. The formulas here are those that
`cooks_kernel` is held to. Refuses to know: queries, and how the robust dispersions were found.
Cook (1977), "Detection of influential observation in linear regression"; Love, Huber and Anders (2014), methods.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from secirls.numerics.algebra.solve import inverses
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers import cooks_kernel
from secirls.numerics.own.coefficients import joint_coefficients
from secirls.numerics.own.elimination import own_leverages
from secirls.numerics.regression import kernels, likelihood
from secirls.numerics.regression.kernels import Choice

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
    """Upper triangles of X'WX there, ``(genes, params (params + 1) / 2)``; without own columns, of what is left."""
    ridge: float
    min_mu: float
    steps: Floats = field(default_factory=lambda: np.zeros(0))
    """Where own coefficients are at `beta`, see `secirls.numerics.own.coefficients`, ``(genes,)``; or empty."""
    hat_steps: Floats = field(default_factory=lambda: np.zeros(0))
    """The same at `hat_beta`."""


def log_means(samples: Samples, beta: Floats) -> Floats:
    """``X beta + log s`` of every count, ``(genes, samples)``; without BLAS, so each gene by itself."""
    if samples.size_factors is None:
        raise ValueError("means need size factors: ask for them first")
    log_mu = np.zeros((beta.shape[0], samples.n_samples)) + np.log(samples.size_factors)
    for column in range(samples.n_params):
        log_mu += beta[:, column, None] * samples.design[:, column]
    return log_mu


def leverages(samples: Samples, fit: Fit) -> Floats:
    """Diagonal of ``W^1/2 X inv(X'WX + ridge) X' W^1/2``, ``(genes, samples)``; NaN for a gene without an inverse.

    With own columns Z, beside the table's X: ``w (z' inv(D) z + u' inv(S + ridge) u)`` with ``u = x - B' inv(D) z``.
    NaN too for samples that Z alone fits: theirs is one but for rounding, and so is their distance all rounding.
    """
    if samples.dispersions is None:
        raise ValueError("leverages need dispersions: ask for them first")
    joint, at = samples.joint, joint_coefficients(samples, fit.hat_beta, fit.hat_steps)
    log_mu = log_means(joint, at)
    if fit.min_mu > 0:
        log_mu = np.maximum(log_mu, np.log(fit.min_mu))
    w = likelihood.information(log_mu, samples.dispersions[:, None])
    inverse, _ = inverses(fit.hat_xtwx, fit.ridge)
    if samples.own is not None:
        form, beside = own_leverages(w, samples.own.design, samples.design)
    else:
        form, beside = np.zeros_like(log_mu), samples.design.T[None]
    for i in range(samples.n_params):
        for j in range(samples.n_params):
            form += inverse[:, i, j, None] * (beside[:, i] * beside[:, j])
    if samples.own is not None:
        form[:, samples.own.fitted_exactly] = np.nan
    return w * form


def cooks_distances(samples: Samples, fit: Fit, robust: Floats, *, choice: Choice | None = None) -> Floats:
    """``(y - mu)^2 / (mu + rho mu^2) / columns * h / (1 - h)^2`` of every count, ``(genes, samples)``.

    ``robust`` holds rho ``(genes,)``. Not finite where a leverage is one; such a sample is no outlier. Compiled unless
    the kernel, the thread's own if not given, is ``numpy``, or the site has own columns.
    """
    if samples.own is None and (choice or kernels.chosen()).kernel == "fused":
        return _compiled(samples, fit, robust)
    h = leverages(samples, fit)
    mu = fitted_means(samples, fit)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pearson = (samples.counts.T[:] - mu) ** 2 / (mu + robust[:, None] * mu**2)
        distance: Floats = pearson / samples.n_columns * h / (1.0 - h) ** 2
    return distance


def _compiled(samples: Samples, fit: Fit, robust: Floats) -> Floats:
    """The same by the compiled kernel."""
    if samples.dispersions is None or samples.size_factors is None:
        raise ValueError("distances need size factors and dispersions: ask for them first")
    return cooks_kernel.distances(
        samples.counts.T[:],
        fit.beta,
        fit.hat_beta,
        inverses(fit.hat_xtwx, fit.ridge)[0],
        samples.dispersions,
        robust,
        samples.design,
        samples.size_factors,
        fit.min_mu,
        samples.n_columns,
    )


def warm_up() -> None:
    """Compile the kernel, or load it from the cache: a second the first time on a machine, then instant."""
    one, two = np.ones((1, 2)), np.array([[1.0, 0.0], [1.0, 1.0]])
    samples = Samples(two, np.ones((2, 1), dtype=np.int32), np.ones(2), np.ones(1))
    cooks_distances(samples, Fit(one, one, np.array([[2.0, 1.0, 1.0]]), 1.0, 0.5), np.ones(1), choice=Choice("fused"))


def fitted_means(samples: Samples, fit: Fit) -> Floats:
    """The means of every count at the fit, not clamped, ``(genes, samples)``."""
    at = joint_coefficients(samples, fit.beta, fit.steps)
    return np.exp(np.minimum(log_means(samples.joint, at), likelihood.LARGEST_LOG_MU))


def critical_variances(samples: Samples, fit: Fit, base_means: Floats, cutoff: float) -> Floats:
    """The variance of y / s below which each count is an outlier, ``(genes, samples)``; -inf for one that never is.

    A distance falls with the robust dispersion ``max((v - m) / m^2, 0.04)``, so it exceeds the cutoff for all v below
    one. ``base_means`` are m, ``(genes,)``.
    """
    h, mu, m = leverages(samples, fit), fitted_means(samples, fit), base_means[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        top = (samples.counts.T[:] - mu) ** 2 / samples.n_columns * h / (1.0 - h) ** 2
        rho = (top / cutoff - mu) / mu**2
        found: Floats = np.where(rho > SMALLEST_ROBUST_DISPERSION, m + rho * m**2, -np.inf)
    return found
