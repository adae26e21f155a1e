"""Small systems by the thousand, and the table that is made from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secirls.inputs.simulate import simulate
from secirls.numerics.algebra.eigen import eigenvectors
from secirls.numerics.algebra.solve import inverses, pack, packed_params, packed_size, solve, times, unpack
from secirls.numerics.inference.wald import benjamini_hochberg, covariance, independent_filtering, wald


def systems(genes: int, p: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(genes, p, p + 2)) * np.exp(rng.normal(size=(genes, 1, 1)) * 4)
    return root @ root.swapaxes(1, 2), rng.normal(size=(genes, p))


@pytest.mark.parametrize("p", [1, 2, 3, 5, 12])
def test_solutions_are_those_of_linear_algebra(p):
    full, right = systems(200, p)
    upper = pack(full)
    np.testing.assert_array_equal(unpack(upper), unpack(pack(unpack(upper))))
    x, failed = solve(upper, right, 1e-6)
    assert not failed.any()
    with_ridge = full + 1e-6 * np.eye(p)
    expected = np.linalg.solve(with_ridge, right[..., None])[..., 0]
    scale = np.linalg.cond(with_ridge)[:, None] * np.abs(expected).max(axis=1, keepdims=True)
    assert np.max(np.abs(x - expected) / scale) < 1e-13
    inverse, failed = inverses(upper, 1e-6)
    assert not failed.any()
    assert np.max(np.abs(inverse @ with_ridge - np.eye(p)) / np.linalg.cond(with_ridge)[:, None, None]) < 1e-13
    np.testing.assert_allclose(times(upper, right), (full @ right[..., None])[..., 0], rtol=1e-9, atol=1e-6)


def test_as_many_genes_as_parameters_is_no_special_case():
    full, right = systems(3, 3)
    x, _ = solve(pack(full), right)
    for gene in range(3):
        np.testing.assert_allclose(full[gene] @ x[gene], right[gene], rtol=1e-8, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=30, max_size=30))
def test_a_solution_has_the_same_bits_in_any_company(chosen):
    full, right = systems(30, 4)
    genes = np.array(chosen)
    whole, _ = solve(pack(full), right, 1e-6)
    part, _ = solve(pack(full)[genes], right[genes], 1e-6)
    np.testing.assert_array_equal(part, whole[genes])


def test_blocks_do_not_change_a_bit(monkeypatch):
    full, right = systems(40, 5)
    whole, _ = solve(pack(full), right, 1e-6)
    every, _ = inverses(pack(full), 1e-6)
    monkeypatch.setattr("secirls.numerics.algebra.solve._BLOCK", 13)
    np.testing.assert_array_equal(solve(pack(full), right, 1e-6)[0], whole)
    np.testing.assert_array_equal(inverses(pack(full), 1e-6)[0], every)
    alone, _ = solve(pack(full)[7:8], right[7:8], np.full(1, 1e-6))
    np.testing.assert_array_equal(alone, whole[7:8])


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.ones((2, 2)), np.full((2, 2), np.nan), np.diag([1.0, np.inf])])
def test_one_bad_matrix_is_reported_and_harms_no_other(bad):
    full, right = systems(5, 2)
    expected, _ = solve(pack(full), right)
    full[2] = bad
    x, failed = solve(pack(full), right)
    assert failed.tolist() == [False, False, True, False, False]
    keep = ~failed
    np.testing.assert_array_equal(x[keep], expected[keep])
    assert not x[2].any()
    inverse, failed = inverses(pack(full))
    assert failed.tolist() == [False, False, True, False, False]
    assert np.isnan(inverse[2]).all()


def test_an_indefinite_but_regular_matrix_is_solved_by_the_fallback():
    full = np.array([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    x, failed = solve(pack(full), np.array([[2.0, 3.0], [5.0, 7.0]]))
    assert not failed.any()
    np.testing.assert_allclose(x, [[1.0, 3.0], [7.0, 5.0]])


def test_sizes_of_triangles():
    assert [packed_params(packed_size(p)) for p in range(1, 20)] == list(range(1, 20))
    with pytest.raises(ValueError):
        packed_params(4)


def test_wald_equals_pydeseq2_on_its_own_formula(fit):
    from pydeseq2.utils import wald_test

    samples = simulate(genes=40, samples=30, effects=2, seed=5).samples
    state = fit(samples)
    for contrast in (np.array([0.0, 1.0, 0.0]), np.array([0.0, 1.0, -1.0])):
        ours = wald(state.beta, state.xtwx, contrast)
        for gene in range(40):
            mu = np.maximum(samples.size_factors * np.exp(samples.design @ state.beta[gene]), 0.5)
            p, stat, error = wald_test(
                samples.design, samples.dispersions[gene], state.beta[gene], mu, 1e-6 * np.eye(3), contrast, 0.0, None
            )
            assert ours.pvalue[gene] == pytest.approx(p, rel=1e-7)
            assert ours.stat[gene] == pytest.approx(stat, rel=1e-9)
            assert ours.lfc_se[gene] == pytest.approx(error / np.log(2), rel=1e-9)
            assert ours.log2_fold_change[gene] == pytest.approx(contrast @ state.beta[gene] / np.log(2), rel=1e-12)
        assert ours.reasons == {}


def test_covariance_is_the_sandwich(fit):
    samples = simulate(genes=5, samples=12, seed=1).samples
    state = fit(samples)
    cov, failed = covariance(state.xtwx, 0.3)
    assert not failed.any()
    A = unpack(state.xtwx)
    inverse = np.linalg.inv(A + 0.3 * np.eye(2))
    np.testing.assert_allclose(cov, inverse @ A @ inverse, rtol=1e-10)
    assert not np.allclose(cov, inverse, rtol=1e-4)


def test_no_p_value_is_nan_without_a_sentence():
    beta = np.array([[1.0, 2.0], [np.nan, np.nan], [1.0, 2.0], [1.0, 0.0]])
    good = [3.0, 1.0, 2.0]
    xtwx = np.array([good, good, [0.0, 0.0, 0.0], [np.nan] * 3])
    test = wald(beta, xtwx, np.array([0.0, 1.0]))
    assert set(np.flatnonzero(np.isnan(test.pvalue))) == set(test.reasons) == {1, 2, 3}
    assert all(sentence.endswith(".") for sentence in test.reasons.values())
    for wrong in (np.array([1.0]), np.zeros(2), np.array([np.nan, 1.0])):
        with pytest.raises(ValueError, match="contrast"):
            wald(beta, xtwx, wrong)


def test_p_values_are_uniform_under_the_null(fit):
    simulation = simulate(genes=2000, samples=60, seed=11)
    null = simulation.beta[:, 1] == 0.0
    state = fit(simulation.samples)
    test = wald(state.beta, state.xtwx, np.array([0.0, 1.0]))
    high = null & (simulation.beta[:, 0] > 4)
    assert high.sum() > 80
    assert stats.kstest(test.pvalue[high], "uniform").pvalue > 1e-3
    assert stats.kstest(test.pvalue[high] ** 1.5, "uniform").pvalue < 0.05  # a wrong scale would be seen


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=40))
def test_an_adjusted_p_value_is_the_smallest_rate_at_which_it_is_rejected(values):
    p = np.array(values, dtype=np.float64)
    ours = benjamini_hochberg(p)
    known = p[~np.isnan(p)]
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(p))
    for value, adjusted in zip(known, ours[~np.isnan(p)], strict=True):
        rates = [q * known.size / (known <= q).sum() for q in known if q >= value]
        assert adjusted == pytest.approx(min(1.0, *rates), rel=1e-12)


def test_independent_filtering_raises_power_and_says_what_it_left_out():
    rng = np.random.default_rng(3)
    base_mean = np.exp(rng.uniform(-3, 8, 4000))
    signal = (base_mean > 20) & (rng.random(4000) < 0.2)
    p = np.where(signal, rng.random(4000) ** 12, rng.random(4000))
    p[:7] = np.nan
    filtered, cutoff = independent_filtering(p, base_mean, 0.05)
    plain = benjamini_hochberg(p)
    assert (filtered < 0.05).sum() > (plain < 0.05).sum()
    np.testing.assert_array_equal(np.isnan(filtered), np.isnan(p) | (base_mean < cutoff))
    few, none = independent_filtering(np.linspace(0.2, 1, 9), np.arange(1.0, 10.0))
    assert np.isfinite(few).all()
    assert none == 1.0


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1e-8, 1e8]))
def test_eigenvectors_diagonalise(n, seed, scale):
    random = np.random.default_rng(seed)
    A = random.normal(size=(3, n, n)) * scale ** random.uniform(0, 1, (3, 1, n))
    A = A @ A.transpose(0, 2, 1)
    A[2] = A[2, 0, 0] * np.eye(n)  # all alike
    values, vectors = eigenvectors(A)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(A), rtol=1e-12, atol=1e-13 * np.abs(A).max())
    np.testing.assert_allclose(vectors.transpose(0, 2, 1) @ vectors, np.broadcast_to(np.eye(n), A.shape), atol=1e-13)
    np.testing.assert_allclose(
        (vectors * values[:, None, :]) @ vectors.transpose(0, 2, 1), A, atol=1e-13 * np.abs(A).max()
    )
