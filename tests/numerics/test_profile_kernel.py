"""The profile kernel: against mpmath on its range, against the plain kernel, and the same bits however it is cut."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.dispersion import nodes as nodes_module
from secirls.numerics.dispersion import sums
from secirls.numerics.dispersion.kernel import LOG_FACTORIALS, profile
from secirls.numerics.dispersion.nodes import Nodes, farther, finer, node_dispersions, nodes_for, offsets
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.kernels import Choice

COUNTS = [0, 1, 2, 3, 5, 15, 16, 17, 18, 40, 131, 1000, 65_537, 4_000_000]
ALPHAS = np.array([1e-9, 1e-8, 1e-6, 1e-4, 3e-3, 0.05, 0.0625, 0.07, 0.5, 1.0, 10.0, 63.0, 300.0])
FUSED, PLAIN = Choice("fused"), Choice("numpy")


def one_count(y, mu, alphas=ALPHAS, kernel=profile):
    """Log-likelihood and weight of one count with one mean at given dispersions, and its constant."""
    loglik, xwx, constant = np.empty(alphas.size), np.empty((alphas.size, 1)), np.empty(1)
    ends = np.array([0, alphas.size])
    one = np.ones((1, 1))
    counts, b = np.array([[y]], dtype=np.int32), np.array([[mu]])
    kernel(
        counts,
        b,
        one,
        one,
        np.zeros(1, dtype=np.intp),
        np.ones(1),
        0.5,
        True,
        alphas,
        ends,
        alphas,
        ends,
        loglik,
        xwx,
        constant,
    )
    return loglik, xwx[:, 0], float(constant[0])


def exactly(y, mu, alpha):
    with mpmath.workdps(60):
        y, mu, r = mpmath.mpf(y), mpmath.mpf(mu), 1 / mpmath.mpf(float(alpha))
        binomial = mpmath.loggamma(y + r) - mpmath.loggamma(y + 1) - mpmath.loggamma(r)
        return binomial + r * mpmath.log(r / (r + mu)) + y * mpmath.log(mu / (r + mu))


@pytest.mark.parametrize("ratio", [1e-7, 0.01, 0.5, 0.999, 1.0, 1.01, 2.0, 30.0])
@pytest.mark.parametrize("y", COUNTS)
def test_likelihoods_are_those_of_mpmath(y, ratio):
    mu = max(ratio * max(y, 1), 0.5)
    loglik, weight, constant = one_count(y, mu)
    for alpha, ours, w in zip(ALPHAS, loglik, weight, strict=True):
        exact = exactly(y, mu, alpha)
        # Beyond 2e7 no float64 is within 1e-8: there the last four units count.
        assert abs(float(exact - ours)) <= max(1e-8, 4 * np.spacing(abs(ours)))
        assert w == pytest.approx(mu * (1 + alpha) / (1 + alpha * mu), rel=1e-15)
    with mpmath.workdps(40):
        exact = y * mpmath.log(mu) - mpmath.loggamma(y + 1)
    assert constant == pytest.approx(float(exact), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("y", [3, 40, 1000])
def test_a_count_near_its_mean_keeps_twelve_digits(y):
    loglik, _, _ = one_count(y, float(y) + 0.5)
    for alpha, ours in zip(ALPHAS, loglik, strict=True):
        exact = float(exactly(y, float(y) + 0.5, alpha))
        assert ours == pytest.approx(exact, rel=1e-12)


def test_the_textbook_form_would_be_caught():
    def textbook(y, mu, alpha):
        r = 1 / alpha
        return gammaln(y + r) - gammaln(y + 1) - gammaln(r) + r * np.log(r / (r + mu)) + y * np.log(mu / (r + mu))

    wrong = [abs(float(exactly(1000, 1001.0, alpha)) - textbook(1000, 1001.0, alpha)) for alpha in ALPHAS]
    assert max(wrong) > 1e-8


def test_log_factorials_are_correctly_rounded():
    assert LOG_FACTORIALS.tolist() == [float(mpmath.log(mpmath.factorial(k))) for k in range(17)]


def make(genes, n, p, seed=0, largest=6.0):
    rng = np.random.default_rng(seed)
    X = np.ones((n, p))
    X[:, 1:] = rng.integers(0, 2, (n, p - 1))
    s = np.exp(0.3 * rng.normal(size=n))
    b = np.column_stack([rng.uniform(-2, largest, genes), 0.3 * rng.normal(size=(genes, p - 1))])
    alpha = rng.uniform(0.01, 1.0, genes)
    mu = np.exp(b @ X.T) * s
    y = rng.poisson(mu * rng.gamma(1 / alpha[:, None], alpha[:, None], mu.shape)).astype(np.int32)
    z = y / s
    return Samples(X, y.T, s), b, nodes_for(z.mean(axis=1), z.var(axis=1, ddof=1), n, max(10.0, n))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(("n", "p"), [(2, 1), (6, 2), (33, 4), (8, 12)])
def test_both_kernels_agree(n, p, linear):
    samples, b, places = make(60, n, p)
    b = np.abs(b) if linear else b
    products = Products.full(p)
    ours = profile_sums(samples, b, places, products, linear=linear, min_mu=0.5, choice=FUSED)
    plain = profile_sums(samples, b, places, products, linear=linear, min_mu=0.5, choice=PLAIN)
    for mine, theirs in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-11)


def test_distinct_products_are_the_sums_of_all_products():
    samples, b, places = make(20, 12, 3)
    products = Products(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1, 3, 2]))
    assert products.hold(samples.design)
    few = profile_sums(samples, b, places, products, linear=False, min_mu=0.5)
    every = profile_sums(samples, b, places, Products.full(3), linear=False, min_mu=0.5)
    np.testing.assert_array_equal(products.packed(few.xwx), every.xwx)
    wrong = replace(products, expand=np.array([0, 1, 2, 0, 3, 2]))
    assert not wrong.hold(samples.design)


@pytest.mark.parametrize("kernel", ["fused", "numpy"])
def test_a_genes_bits_depend_on_nothing_around_it(kernel, monkeypatch):
    samples, b, places = make(97, 21, 2)
    products = Products.full(2)

    def asked(genes, n_jobs=1):
        mask = np.zeros(97, dtype=bool)
        mask[genes] = True
        return profile_sums(
            samples.take(mask), b[genes], places.take(genes), products, linear=False, min_mu=0.5,
            choice=Choice(kernel, n_jobs),
        )  # fmt: skip

    whole = asked(np.arange(97))
    monkeypatch.setattr(sums, "_CALL_VALUES", 5000)
    for other in (asked(np.arange(97)), asked(np.arange(97), 2)):
        for mine, theirs in zip(whole, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    some = np.array([3, 50, 96])
    part = asked(some)
    starts, det_starts = offsets(places.nodes), offsets(places.det_nodes)
    np.testing.assert_array_equal(part.loglik, np.concatenate([whole.loglik[starts[g] : starts[g + 1]] for g in some]))
    np.testing.assert_array_equal(
        part.xwx, np.concatenate([whole.xwx[det_starts[g] : det_starts[g + 1]] for g in some])
    )
    np.testing.assert_array_equal(part.constant, whole.constant[some])


@settings(max_examples=50)
@given(
    mean=st.floats(0.01, 1e6),
    relative_variance=st.floats(0.0, 100.0),
    n=st.integers(3, 2000),
)
def test_nodes_follow_from_moments_and_stay_within_their_reach(mean, relative_variance, n):
    most = max(10.0, n)
    places = nodes_for(np.array([mean]), np.array([relative_variance * mean**2]), n, most)
    assert nodes_module.FEWEST <= places.det_nodes[0] <= places.nodes[0] <= nodes_module.MOST
    alphas = node_dispersions(places.scale, places.reach, places.nodes)
    assert (np.diff(alphas) < 0).all()
    assert 0 < alphas[-1] < most < alphas[0] <= 4.0001 * most
    far = farther(places)
    alphas = node_dispersions(far.scale, far.reach, far.nodes)
    assert alphas[0] > np.exp(10.0)
    again = finer(places)
    assert again.scale[0] == nodes_module.BEYOND * places.scale[0]
    assert 2 * places.nodes[0] <= again.nodes[0] <= 2 * nodes_module.MOST
    assert 2 * places.det_nodes[0] <= again.det_nodes[0] <= again.nodes[0]
    assert node_dispersions(again.scale, again.reach, again.nodes)[0] == pytest.approx(4 * most, rel=1e-2)


def test_a_count_is_never_beyond_samuelsons_bound():
    rng = np.random.default_rng(3)
    for _ in range(200):
        n = int(rng.integers(3, 40))
        z = rng.gamma(0.05, 1.0, n) * 10 ** rng.uniform(-2, 5)
        places = nodes_for(np.array([z.mean()]), np.array([z.var(ddof=1)]), n, 10.0)
        assert places.scale[0] >= 2 * 4 * z.max()


def test_warming_up_leaves_nothing_to_compile():
    sums.warm_up()
    compiled = len(profile.signatures)
    samples, b, places = make(5, 9, 3)
    profile_sums(samples, b, places, Products.full(3), linear=False, min_mu=0.5, choice=FUSED)
    assert len(profile.signatures) == compiled


def test_values_are_counted():
    places = Nodes(np.ones(2), np.ones(2), np.array([10, 20]), np.array([8, 9]))
    assert places.values(3).tolist() == [35, 48]
