"""The interpolant of a profile: within 1e-6 of the likelihood itself, or flagged; and its slope is its derivative."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import pack
from secirls.numerics.dispersion.interpolant import LARGEST_TAIL, interpolate, log_determinants
from secirls.numerics.dispersion.nodes import farther, finer, nodes_for
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood


@dataclass
class Case:
    """One gene, its coefficients and its nodes."""

    samples: Samples
    b: np.ndarray
    nodes: object

    @property
    def largest(self):
        return max(10.0, self.samples.n_samples)

    def profiles(self, nodes=None):
        nodes, products = nodes or self.nodes, Products.full(self.samples.n_params)
        sums = profile_sums(self.samples, self.b, nodes, products, linear=False, min_mu=0.5)
        return interpolate(*sums, nodes, products)

    def exactly(self, alpha):
        """The objective from `likelihood.nll` and a determinant of LAPACK."""
        X, s = self.samples.design, self.samples.size_factors
        mu = np.maximum(s * np.exp(X @ self.b[0]), 0.5)
        y = self.samples.counts[:, 0].astype(float)
        information = (X.T * (mu / (1 + alpha * mu))) @ X
        return -likelihood.nll(y, np.log(mu), alpha).sum() - 0.5 * np.linalg.slogdet(information)[1]


def moments_of(counts, s):
    z = counts / s
    return np.array([z.mean()]), np.array([z.var(ddof=1)])


@st.composite
def cases(draw):
    """A gene of up to a million counts a sample under any full-rank design of factors or a numeric covariate."""
    n = draw(st.integers(3, 40))
    p = draw(st.integers(1, min(4, n - 1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = np.ones((n, p))
    X[:, 1:] = rng.normal(size=(n, p - 1)) if draw(st.booleans()) else rng.integers(0, 2, (n, p - 1))
    assume(np.linalg.matrix_rank(X) == p)
    s = np.exp(draw(st.floats(0, 0.6)) * rng.normal(size=n))
    b = np.array([[draw(st.floats(-3, 13.0)), *rng.normal(size=p - 1) * 0.5]])
    alpha = 10 ** draw(st.floats(-6, 1))
    mu = np.minimum(s * np.exp(X @ b[0]), 1e6)
    counts = rng.poisson(np.minimum(mu * rng.gamma(1 / alpha, alpha, n), 1e6)).astype(np.int32)
    assume(counts.any())
    largest = max(10.0, n)
    return Case(Samples(X, counts[:, None], s), b, nodes_for(*moments_of(counts, s), n, largest))


@settings(max_examples=300)
@given(cases(), st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_an_error_above_a_millionth_is_flagged(case, places):
    profiles = case.profiles()
    assert not profiles.singular[0]
    low, high = np.log(1e-8), np.log(case.largest)
    alphas = np.exp(low + np.array([0.0, *places, 1.0]) * (high - low))
    value, _ = profiles.evaluate(alphas[None, :])
    exact = np.array([case.exactly(alpha) for alpha in alphas])
    error = np.abs(value[0] - exact)
    assert (error <= 1e-6).all() or profiles.tail[0] > LARGEST_TAIL


@settings(max_examples=60)
@given(cases(), st.floats(0.02, 0.98))
def test_the_slope_is_the_derivative(case, place):
    a = np.log(1e-8) + place * (np.log(case.largest) - np.log(1e-8))
    profiles, step = case.profiles(), 1e-4
    value, slope = profiles.evaluate(np.exp(a + step * np.array([[-2.0, -1.0, 0.0, 1.0, 2.0]])))
    v = value[0]
    expected = (8 * (v[3] - v[1]) - (v[4] - v[0])) / (12 * step)
    assert slope[0, 2] == pytest.approx(expected, rel=1e-6, abs=1e-6 + 1e-11 * np.abs(v).max())


def fixed(counts, b=(3.0, 0.3), n=12):
    X = np.column_stack([np.ones(n), np.arange(n) % 2])
    s = np.exp(0.2 * np.sin(np.arange(n)))
    counts = np.asarray(counts, dtype=np.int32)
    case = Case(Samples(X, counts[:, None], s), np.array([b]), None)
    return replace(case, nodes=nodes_for(*moments_of(counts, s), n, case.largest))


COUNTS = [25, 31, 12, 44, 60, 18, 22, 9, 35, 41, 27, 30]


def test_half_the_nodes_would_be_caught():
    case = fixed(COUNTS)
    few = replace(case.nodes, nodes=case.nodes.nodes // 2, det_nodes=case.nodes.det_nodes // 2)
    alphas = np.geomspace(1e-8, 10, 50)
    exact = np.array([case.exactly(alpha) for alpha in alphas])
    good, bad = (np.abs(case.profiles(nodes).evaluate(alphas[None])[0][0] - exact).max() for nodes in (None, few))
    assert good < 1e-8
    assert bad > 1e-6
    assert case.profiles(few).tail[0] > LARGEST_TAIL > case.profiles().tail[0]


def test_counts_beyond_the_bound_are_flagged_and_finer_nodes_hold_them():
    case = fixed([120, *COUNTS[1:]])
    low = replace(case, nodes=nodes_for(np.array([1.0]), np.array([1.0]), 12, 10.0))  # as with a huge size factor
    assert low.profiles().tail[0] > LARGEST_TAIL
    alphas = np.geomspace(1e-8, 10, 50)
    exact = np.array([case.exactly(alpha) for alpha in alphas])
    again = finer(low.nodes)
    assert np.abs(low.profiles(again).evaluate(alphas[None])[0][0] - exact).max() < 1e-6


def deep(times):
    """One sample is sequenced so many times as deeply as the others, which its gene's public moments do not say."""
    s = np.where(np.arange(12) == 4, 0.5 * times, 0.5)
    counts = np.random.default_rng(1).poisson(np.exp(3.0 + 0.3 * (np.arange(12) % 2)) * s).astype(np.int32)
    X = np.column_stack([np.ones(12), np.arange(12) % 2])
    case = Case(Samples(X, counts[:, None], s), np.array([[3.0, 0.3]]), None)
    return replace(case, nodes=nodes_for(*moments_of(counts, s), 12, case.largest))


def eight_times(nodes):
    """The twin of `finer`: size factors up to 32 are within its bound."""
    reach = nodes.reach + np.log(8.0)
    return replace(nodes, scale=8.0 * nodes.scale, reach=reach, nodes=2 * nodes.nodes, det_nodes=2 * nodes.det_nodes)


@pytest.mark.parametrize("times", [1e3, 1e4, 1e5, 1e7])
def test_finer_nodes_hold_a_sample_of_any_depth_and_the_twins_do_not(times):
    case, alphas = deep(times), np.geomspace(1e-8, 10, 50)
    assert case.profiles().tail[0] > LARGEST_TAIL
    exact = np.array([case.exactly(alpha) for alpha in alphas])
    again, twin = case.profiles(finer(case.nodes)), case.profiles(eight_times(case.nodes))
    assert np.abs(again.evaluate(alphas[None])[0][0] - exact).max() < 1e-9
    assert again.tail[0] < LARGEST_TAIL
    assert (np.abs(twin.evaluate(alphas[None])[0][0] - exact).max() > 1e-4) == (times > 1e3)


def test_beyond_its_reach_a_profile_is_a_line_and_farther_nodes_are_right():
    case = fixed(COUNTS)
    near, far = case.profiles(), case.profiles(farther(case.nodes))
    alphas = np.array([[1e-6, 1.0, 30.0, 5000.0, 20000.0]])
    exact = np.array([case.exactly(alpha) for alpha in alphas[0]])
    np.testing.assert_allclose(far.evaluate(alphas)[0][0], exact, rtol=0, atol=1e-6)
    assert abs(near.evaluate(alphas)[0][0, -1] - exact[-1]) > 1e-6
    t = np.log1p(case.nodes.scale[0] * alphas[0, -2:])
    value, slope = near.evaluate(alphas[:, -2:])
    growth = case.nodes.scale[0] * alphas[0, -2:] / (1 + case.nodes.scale[0] * alphas[0, -2:])
    np.testing.assert_allclose((value[0, 1] - value[0, 0]) / (t[1] - t[0]), slope[0] / growth, rtol=1e-9)


def test_profiles_replaced_and_taken_are_the_genes_own():
    two = [fixed(COUNTS), fixed(COUNTS[::-1], b=(2.5, -0.2))]
    counts = np.concatenate([case.samples.counts for case in two], axis=1)
    both = Case(replace(two[0].samples, counts=counts), np.concatenate([case.b for case in two]), None)
    means, variances = zip(*(moments_of(c.samples.counts[:, 0], c.samples.size_factors) for c in two), strict=True)
    places = nodes_for(np.concatenate(means), np.concatenate(variances), 12, 12.0)
    profiles = both.profiles(places)
    alphas = np.array([[1e-3, 0.1]])
    for gene, case in enumerate(two):
        alone = case.profiles(places.take(np.array([gene])))
        for ours, theirs in zip(profiles.take(np.array([gene])).evaluate(alphas), alone.evaluate(alphas), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    other = two[1].profiles(farther(places.take(np.array([1]))))
    mixed = profiles.replaced(np.array([1]), other)
    np.testing.assert_array_equal(
        mixed.take(np.array([0])).evaluate(alphas), profiles.take(np.array([0])).evaluate(alphas)
    )
    np.testing.assert_array_equal(mixed.take(np.array([1])).evaluate(alphas), other.evaluate(alphas))


def test_determinants_are_those_of_lapack_and_singular_matrices_are_told():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(30, 5, 9))
    full = root @ root.swapaxes(1, 2)
    ours, bad = log_determinants(pack(full))
    np.testing.assert_allclose(ours, np.linalg.slogdet(full)[1], rtol=1e-12, atol=1e-12)
    assert not bad.any()
    full[3] = 0.0
    full[4, 0, 0] = -1.0
    full[5, 0, 0] = np.nan
    assert np.flatnonzero(log_determinants(pack(full))[1]).tolist() == [3, 4, 5]
