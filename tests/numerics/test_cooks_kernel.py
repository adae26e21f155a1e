"""The compiled Cook's distances: against mpmath, against the plain ones, and the same bits whatever is beside them."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from secirls.numerics.algebra.solve import inverses
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers import cooks_kernel
from secirls.numerics.outliers.cooks import Fit, cooks_distances, fitted_means, leverages, warm_up
from secirls.numerics.regression import kernels
from secirls.numerics.regression.kernels import Choice

FUSED, PLAIN = Choice("fused"), Choice("numpy")
RIDGE = 1e-6


def made(genes, n, p, *, distinct=False, seed=0):
    """Samples, a fit a little off where IRLS left it, and robust dispersions; some counts far out, some means small."""
    rng = np.random.default_rng(seed)
    X = np.ones((n, p))
    X[:, 1:] = rng.normal(size=(n, p - 1)) if distinct else rng.integers(0, 2, (n, p - 1))
    s = np.exp(0.3 * rng.normal(size=n))
    beta = np.column_stack([rng.uniform(-2, 7, genes), 0.3 * rng.normal(size=(genes, p - 1))])
    alpha = rng.uniform(0.01, 1.0, genes)
    mu = np.exp(beta @ X.T) * s
    y = rng.poisson(mu * rng.gamma(1 / alpha[:, None], alpha[:, None], mu.shape)).astype(np.int32)
    y[::3, n // 2] = 40 * y[::3, n // 2] + 100
    samples = Samples(X, y.T, s, alpha)
    hat = beta + 0.01 * rng.normal(size=beta.shape)
    xtwx = kernels.summands(samples, hat, 0.5).xtwx
    return samples, Fit(beta, hat, xtwx, RIDGE, 0.5), np.maximum(alpha, 0.04)


def units(samples, fit, distance, other):
    """How far two distances are apart, in roundings of what cancels: y - mu and 1 - h."""
    mu, h = fitted_means(samples, fit), leverages(samples, fit)
    with np.errstate(divide="ignore"):
        cancelled = 1 + 2 * mu / np.abs(samples.counts.T - mu) + 2 / (1 - h)
    return np.abs(distance - other) / np.abs(other) / cancelled / np.finfo(float).eps


def exactly(samples, fit, robust, inverse, gene, sample):
    """A distance by its definition, from the same inverse ``(params, params)``."""
    with mpmath.workdps(40):
        x = [mpmath.mpf(v) for v in samples.design[sample]]
        s, y = mpmath.mpf(samples.size_factors[sample]), int(samples.counts[sample, gene])
        alpha, rho = mpmath.mpf(samples.dispersions[gene]), mpmath.mpf(robust[gene])
        mu, hat_mu = (s * mpmath.exp(mpmath.fdot(x, map(mpmath.mpf, b[gene]))) for b in (fit.beta, fit.hat_beta))
        hat_mu = max(hat_mu, mpmath.mpf(fit.min_mu))
        form = sum(x[i] * mpmath.mpf(inverse[i, j]) * x[j] for i in range(len(x)) for j in range(len(x)))
        h = hat_mu / (1 + alpha * hat_mu) * form
        return float((y - mu) ** 2 / (mu + rho * mu**2) / samples.n_columns * h / (1 - h) ** 2)


@pytest.mark.parametrize(("n", "p", "distinct"), [(12, 2, False), (9, 4, True), (20, 3, False)])
def test_distances_are_those_of_mpmath(n, p, distinct):
    samples, fit, robust = made(6, n, p, distinct=distinct)
    inverse = inverses(fit.hat_xtwx, fit.ridge)[0]
    exact = np.array([[exactly(samples, fit, robust, inverse[g], g, i) for i in range(n)] for g in range(6)])
    ours = cooks_distances(samples, fit, robust, choice=FUSED)
    assert units(samples, fit, ours, exact).max() <= 16
    assert exact.max() > 4 > np.median(exact)


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize(("n", "p"), [(3, 2), (17, 1), (64, 2), (33, 5)])
def test_both_kernels_agree(n, p, distinct):
    samples, fit, robust = made(60, n, p, distinct=distinct, seed=n)
    ours, plain = (cooks_distances(samples, fit, robust, choice=choice) for choice in (FUSED, PLAIN))
    assert units(samples, fit, ours, plain).max() <= 100  # log s + x beta is rounded before it is an exponent


@pytest.mark.parametrize(
    "wrong",
    [
        lambda samples, fit: (samples, replace(fit, min_mu=0.0)),
        lambda samples, fit: (samples, replace(fit, beta=fit.hat_beta)),
        lambda samples, fit: (samples, replace(fit, hat_beta=fit.beta)),
        lambda samples, fit: (samples, replace(fit, ridge=0.0)),
        lambda samples, fit: (replace(samples, columns=3), fit),
    ],
)
def test_another_clamp_fit_or_number_of_columns_would_be_seen(wrong):
    samples, fit, robust = made(60, 30, 2)
    plain = cooks_distances(samples, fit, robust, choice=PLAIN)
    other = cooks_distances(*wrong(samples, fit), robust, choice=FUSED)
    assert units(samples, fit, other, plain).max() > 1e4


@pytest.mark.parametrize("distinct", [False, True])
def test_bits_of_a_distance_depend_on_its_gene_and_sample_alone(distinct):
    samples, fit, robust = made(50, 37, 3, distinct=distinct)
    whole = cooks_distances(samples, fit, robust, choice=FUSED)
    some = np.array([3, 20, 49])
    part = Fit(fit.beta[some], fit.hat_beta[some], fit.hat_xtwx[some], RIDGE, 0.5)
    np.testing.assert_array_equal(cooks_distances(samples.at(some), part, robust[some], choice=FUSED), whole[some])
    turned = np.random.default_rng(1).permutation(37)[:30]
    here = Samples(samples.design[turned], samples.counts[turned], samples.size_factors[turned], samples.dispersions)
    np.testing.assert_array_equal(cooks_distances(here, fit, robust, choice=FUSED), whole[:, turned])


def test_a_gene_without_a_fit_has_no_distance_and_no_outlier():
    samples, fit, robust = made(6, 20, 2)
    beta, hat_beta, xtwx = fit.beta.copy(), fit.hat_beta.copy(), fit.hat_xtwx.copy()
    beta[1, 1], hat_beta[2, 0], xtwx[3] = np.nan, np.nan, 0.0
    lacking = Fit(beta, hat_beta, xtwx, 0.0, 0.5)
    for choice in (FUSED, PLAIN):
        with np.errstate(invalid="ignore"):
            distance = cooks_distances(samples, lacking, robust, choice=choice)
        assert np.isnan(distance[1:4]).all()
        assert np.isfinite(distance[[0, 4, 5]]).all()


@pytest.mark.parametrize("intercept", [-3000.0, -800.0, 500.0, 650.0, 3000.0])
def test_predictors_beyond_the_exponentials_range_flag_the_same_samples(intercept):
    samples, fit, robust = made(4, 20, 2)
    counts = samples.counts.copy()
    counts[::2, 0] = 0
    samples = replace(samples, counts=counts)
    far = replace(fit, beta=np.column_stack([np.full(4, intercept), fit.beta[:, 1]]))
    with np.errstate(all="ignore"):
        ours, plain = (cooks_distances(samples, far, robust, choice=choice) > 4 for choice in (FUSED, PLAIN))
    np.testing.assert_array_equal(ours, plain)
    assert ours.any() == (intercept < 0)


def test_warming_up_leaves_nothing_to_compile():
    warm_up()
    compiled = cooks_kernel._fill_distances
    before = len(compiled.signatures)
    samples, fit, robust = made(5, 9, 3)
    for array in (samples.counts, samples.design, samples.dispersions, samples.size_factors, robust):
        array.flags.writeable = False  # as what came in a message is
    cooks_distances(samples, fit, robust, choice=FUSED)
    assert len(compiled.signatures) == before
