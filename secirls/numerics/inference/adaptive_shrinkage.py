"""ashr's prior on fold changes: a mixture of normal laws around zero, found from estimates and standard errors alone.

Promises: weights of the largest likelihood, with a bound on how far from it they are. Nothing is asked of anybody, so
the last bits may be a machine's own. Refuses to know: counts, designs, and which contrast it is.

Each estimate b is normal around its true value with its standard error s, and true values have the density
``sum_k w_k N(0, sigma_k^2)``, so b has ``sum_k w_k N(0, s^2 + sigma_k^2)`` (Stephens 2017). The sigma are a fixed grid,
ashr's; the log-likelihood is concave in the weights, which are found by sequential quadratic programming on the
positive orthant (Kim, Carbonetto, Stephens and Anitescu 2020).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from scipy.special import ndtr

from secirls.numerics.arrays import Floats

STEP = 2.0**0.5
"""From one standard deviation of the grid to the next."""
SETTLED = 1e-9
"""What the mean log-likelihood per gene may fall short of the largest one."""
MOST_ROUNDS = 500
_HOPELESS = -230.0
"""exp of it is 1e-100. Products of smaller numbers are denormal, with which processors are slow."""
_DAMPING = 1e-12
_HALVINGS = 30


class Mixture(NamedTuple):
    """The prior: so much weight on each normal law around zero."""

    deviations: Floats
    """Standard deviations, log2 as the estimates are, ``(laws,)``, rising."""
    weights: Floats
    """They add up to one, ``(laws,)``."""


class Posterior(NamedTuple):
    """What estimates become under a `Mixture`, ``(genes,)`` each."""

    mean: Floats
    deviation: Floats
    wrong: Floats
    """The chance that the sign is the other one."""


def fit_mixture(estimates: Floats, errors: Floats) -> Mixture:
    """The prior that estimates and their standard errors above zero, ``(genes,)``, are likeliest under.

    Raises `ValueError` without an estimate, `ArithmeticError` where the weights do not settle.
    """
    deviations = grid(estimates, errors)
    return Mixture(deviations, _likeliest(_relative_likelihoods(estimates, errors, deviations)))


def grid(estimates: Floats, errors: Floats) -> Floats:
    """Standard deviations from a tenth of the smallest error to twice what the farthest estimate asks for.

    Where no estimate exceeds its error, to eight times the first. Raises `ValueError` without an estimate.
    """
    if not estimates.size:
        raise ValueError("a prior needs an estimate")
    least, excess = float(errors.min()) / 10.0, float((estimates**2 - errors**2).max())
    most = 2.0 * excess**0.5 if excess > 0 else 8.0 * least
    steps = int(np.ceil(np.log2(most / least) / np.log2(STEP)))
    rising: Floats = most * STEP ** np.arange(-max(steps, 0), 1.0)
    return rising


def posterior(estimates: Floats, errors: Floats, prior: Mixture) -> Posterior:
    """Mean, standard deviation and chance of a wrong sign of each true value, ``(genes,)``."""
    parts = _relative_likelihoods(estimates, errors, prior.deviations) * prior.weights
    parts /= parts.sum(axis=1, keepdims=True)
    noise, spread = (errors**2)[:, None], prior.deviations**2
    kept = spread / (noise + spread)
    means, variances = estimates[:, None] * kept, noise * kept
    mean: Floats = (parts * means).sum(axis=1)
    deviation: Floats = np.sqrt((parts * (variances + (means - mean[:, None]) ** 2)).sum(axis=1))
    below: Floats = (parts * ndtr(-means / np.sqrt(variances))).sum(axis=1)
    return Posterior(mean, deviation, np.minimum(below, 1.0 - below))


def _relative_likelihoods(estimates: Floats, errors: Floats, deviations: Floats) -> Floats:
    """Of each estimate under each law, ``(genes, laws)``; the likeliest law of a gene has one, hopeless ones zero."""
    variances = (errors**2)[:, None] + deviations**2
    logs = -0.5 * (np.log(variances) + (estimates**2)[:, None] / variances)
    logs -= logs.max(axis=1, keepdims=True)
    likelihoods: Floats = np.where(logs < _HOPELESS, 0.0, np.exp(logs))
    return likelihoods


def _densities(likelihoods: Floats, weights: Floats) -> Floats:
    """Of each estimate under the mixture, ``(genes,)``; without BLAS, so that threads change no bit."""
    densities: Floats = np.einsum("gk,k->g", likelihoods, weights)
    return densities


def _likeliest(likelihoods: Floats) -> Floats:
    """The weights of the largest likelihood, ``(laws,)``.

    Minimised is ``sum(w) - mean(log(L w))`` over weights that need not add up to one: at the minimum they do. Each
    round goes to the minimum of its quadratic model over weights not below zero, or, should the way there lead upwards,
    takes a step of expectation and maximisation, which never does. By concavity the mean log-likelihood is short of the
    largest by at most ``max_k mean_i L_ik / (L w)_i - 1``, so that tells when to end. Raises `ArithmeticError`.
    """
    genes, laws = likelihoods.shape
    weights: Floats = np.full(laws, 1.0 / laws)
    for _ in range(MOST_ROUNDS):
        ratios = likelihoods / _densities(likelihoods, weights)[:, None]
        pull = ratios.mean(axis=0)
        if pull.max() - 1.0 <= SETTLED * 0.5:
            found: Floats = weights / weights.sum()
            return found
        curvature = np.einsum("gi,gj->ij", ratios, ratios) / genes
        curvature[np.diag_indices(laws)] += _DAMPING * np.trace(curvature)
        root = cholesky(curvature)
        wanted, _ = nnls(root, solve_triangular(root, 2.0 * pull - 1.0, trans="T"))
        weights = _downhill(likelihoods, weights, wanted, weights * pull)
    raise ArithmeticError(f"weights of {laws} normal laws did not settle in {MOST_ROUNDS} rounds")


def _downhill(likelihoods: Floats, weights: Floats, wanted: Floats, otherwise: Floats) -> Floats:
    """The first of the points halfway, a quarter of the way ... to the weights that are wanted with a lower value."""

    def value(at: Floats) -> float:
        return float(at.sum() - np.log(_densities(likelihoods, at)).mean())

    before = value(weights)
    for halvings in range(_HALVINGS):
        here: Floats = weights + (wanted - weights) * 0.5**halvings
        with np.errstate(divide="ignore"):
            if value(here) < before:
                return here
    return otherwise
