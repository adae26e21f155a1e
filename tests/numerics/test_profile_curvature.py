"""Derivatives of a profile in log alpha: against mpmath count by count, and against differences of the profile."""

import mpmath
import numpy as np
import pytest

from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arithmetic.portable import strictly
from secirls.numerics.dispersion.curvature import _large, _of_size, _small, adjusted_derivatives, curvature_sums
from secirls.numerics.dispersion.kernel import TABLE
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood

COUNTS = [0, 1, 2, 7, 16, 17, 18, 60, 1000, 65_537, 4_000_000]
ALPHAS = [1e-9, 1e-8, 1e-6, 1e-4, 3e-3, 0.0625, 0.07, 0.5, 1.0, 10.0, 300.0]


@strictly(keep=False)
def ours(y, mu, alpha):
    if y < TABLE:
        return _small(y, mu, alpha)
    first, second = _of_size(alpha)
    return _large(float(y), mu, alpha, first, second)


def exactly(y, mu, alpha):
    """Both derivatives by the polygamma functions, in 60 digits."""
    with mpmath.workdps(60):
        a, mu, y = mpmath.mpf(alpha), mpmath.mpf(mu), mpmath.mpf(y)
        r = 1 / a
        psi = [mpmath.polygamma(k, y + r) - mpmath.polygamma(k, r) for k in (0, 1)]
        v = a * mu
        slope = -r * psi[0] + r * mpmath.log1p(v) + y - (y + r) * v / (1 + v)
        bend = r * psi[0] + r * r * psi[1] - r * mpmath.log1p(v) + 2 * r * v / (1 + v) - (y + r) * v / (1 + v) ** 2
        return slope, bend


@pytest.mark.parametrize("ratio", [0.5, 0.99, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("y", COUNTS)
def test_derivatives_are_those_of_mpmath(y, ratio):
    mu = max(ratio * y, 0.5)
    for alpha in ALPHAS:
        for mine, exact in zip(ours(y, mu, alpha), exactly(y, mu, alpha), strict=True):
            # 8 million apart, no difference of a count and its mean is known to 1e-9
            assert abs(float(exact - mine)) <= max(1e-9, 2 * np.spacing(abs(mu - y))), (y, mu, alpha)


def test_the_textbook_form_would_be_caught():
    from scipy.special import psi

    y, mu, alpha = 1000, 1010.0, 1e-8
    r = 1 / alpha
    wrong = -r * (psi(y + r) - psi(r)) + r * np.log1p(alpha * mu) + y - (y + r) * alpha * mu / (1 + alpha * mu)
    assert abs(float(exactly(y, mu, alpha)[0]) - wrong) > 1e-9


@pytest.mark.parametrize("p", [1, 2, 4])
def test_adjusted_derivatives_are_differences_of_the_profile(p):
    rng = np.random.default_rng(p)
    n, genes = 14, 25
    X = np.ones((n, p))
    X[:, 1:] = rng.normal(size=(n, p - 1))
    s, b = (
        np.exp(0.2 * rng.normal(size=n)),
        np.column_stack([rng.uniform(0, 6, genes), rng.normal(size=(genes, p - 1))]),
    )
    mu = np.maximum(s * np.exp(b @ X.T), 0.5)
    counts = rng.poisson(mu * rng.gamma(4.0, 0.25, mu.shape)).astype(np.int32)
    alpha = 10 ** rng.uniform(-4, 1, genes)
    products = Products.full(p)
    sums = curvature_sums(Samples(X, counts.T, s), b, alpha, products, linear=False, min_mu=0.5)
    first, second, singular = adjusted_derivatives(sums, products)
    assert not singular.any()

    def value(a):
        alpha = np.exp(a)[:, None]
        information = np.einsum("gn,ni,nj->gij", mu / (1 + alpha * mu), X, X)
        return -likelihood.nll(counts, np.log(mu), alpha).sum(axis=1) - 0.5 * np.linalg.slogdet(information)[1]

    a, step = np.log(alpha), 2e-3
    v = [value(a + k * step) for k in (-2, -1, 0, 1, 2)]
    np.testing.assert_allclose(first, (8 * (v[3] - v[1]) - (v[4] - v[0])) / (12 * step), rtol=1e-7, atol=1e-7)
    bent = (16 * (v[3] + v[1]) - (v[4] + v[0]) - 30 * v[2]) / (12 * step**2)
    np.testing.assert_allclose(second, bent, rtol=1e-4, atol=1e-4)


def test_a_singular_gene_is_told_and_harms_no_other():
    X = np.ones((6, 2))
    X[:, 1] = np.arange(6) % 2
    samples = Samples(X, np.full((6, 2), 20, dtype=np.int32), np.ones(6))
    alpha, products = np.array([0.1, 0.1]), Products.full(2)
    sums = curvature_sums(samples, np.array([[3.0, 0.0]] * 2), alpha, products, linear=False, min_mu=0.5)
    sums.powers[1, 0] = 0.0
    first, second, singular = adjusted_derivatives(sums, products)
    assert singular.tolist() == [False, True]
    assert np.isfinite([first[0], second[0]]).all()
    assert np.isnan([first[1], second[1]]).all()
