"""Both kernels against high precision, against each other, and against themselves under any cut."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secirls.inputs.simulate import rows, simulate
from secirls.numerics.arithmetic import elementary
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import kernels, likelihood
from secirls.numerics.regression.fused_kernel import BLOCK
from secirls.numerics.regression.kernels import Choice, summands

FUSED, PLAIN = Choice("fused"), Choice("numpy")
DESIGNS = {"by level": {"effects": 1}, "general": {"effects": 3, "continuous": True}}


@pytest.fixture(params=DESIGNS, scope="module")
def simulation(request):
    return simulate(genes=60, samples=37, seed=3, **DESIGNS[request.param])


@pytest.fixture(params=[FUSED, PLAIN], ids=["fused", "numpy"])
def choice(request):
    return request.param


def exact_sums(samples: Samples, beta, gene: int, min_mu: float):
    """One gene in 40 digits: X'WX (upper triangle), X'Wz, score and nll."""
    with mp.workdps(40):
        p = samples.n_params
        alpha = mp.mpf(float(samples.dispersions[gene]))
        xtwx, xtwz, score, nll = [mp.mpf(0)] * (p * (p + 1) // 2), [mp.mpf(0)] * p, [mp.mpf(0)] * p, mp.mpf(0)
        for i in range(samples.n_samples):
            x = [mp.mpf(float(v)) for v in samples.design[i]]
            s, y = mp.mpf(float(samples.size_factors[i])), mp.mpf(int(samples.counts[i, gene]))
            eta = mp.fsum(a * mp.mpf(float(b)) for a, b in zip(x, beta[gene], strict=True))
            free = s * mp.exp(eta)
            mu = max(free, mp.mpf(min_mu))
            w, pull = mu / (1 + alpha * mu), (y - mu) / (1 + alpha * mu)
            z = mp.log(mu / s) + (y - mu) / mu
            e = 0
            for j in range(p):
                xtwz[j] += w * z * x[j]
                score[j] += pull * x[j] * (free > mu * (1 - mp.mpf(10) ** -30))
                for k in range(j, p):
                    xtwx[e] += w * x[j] * x[k]
                    e += 1
            size = 1 / alpha
            binomial = mp.loggamma(y + size) - mp.loggamma(size) - mp.loggamma(y + 1)
            nll -= binomial - (y + size) * mp.log1p(alpha * mu) + y * mp.log(alpha * mu)
        return [np.array([float(v) for v in array]) for array in (xtwx, xtwz, score)] + [float(nll)]


def scales(samples, beta, gene, min_mu):
    """Sums of magnitudes, what rounding errors are measured by."""
    absolute = replace(samples, design=np.abs(samples.design))
    log_mu = kernels.clamped_log_mu(samples, beta, min_mu)[gene]
    w = likelihood.information(log_mu, samples.dispersions[gene])
    z = np.abs(log_mu) + np.abs(np.log(samples.size_factors)) + samples.counts[:, gene] / np.exp(log_mu) + 1
    return kernels.upper_products(absolute.design).T @ w, absolute.design.T @ (w * z)


def test_sums_are_right_to_14_digits_and_likelihood_to_10(simulation, choice):
    samples = simulation.samples
    alphas = np.array([1e-8, 1e-6, 1e-3, 1.0, 1e3, 1e5])
    samples = replace(samples, dispersions=np.resize(alphas, samples.n_genes))
    beta = simulation.beta + 0.05
    sums = summands(samples, beta, 0.5, choice=choice)
    scores = summands(samples, beta, 0.5, right="score", choice=choice)
    for gene in range(20):
        xtwx, xtwz, score, nll = exact_sums(samples, beta, gene, 0.5)
        scale_xx, scale_xz = scales(samples, beta, gene, 0.5)
        assert np.max(np.abs(sums.xtwx[gene] - xtwx) / scale_xx) < 1e-14
        assert np.max(np.abs(sums.right[gene] - xtwz) / scale_xz) < 1e-14
        assert np.max(np.abs(scores.right[gene] - score) / scale_xz) < 1e-14
        assert abs(sums.nll[gene] / nll - 1) < 1e-10
        assert abs(scores.nll[gene] / nll - 1) < 1e-10


@pytest.mark.parametrize("eta", [-700.0, -60.0, 41.0, 300.0, 700.0])
@pytest.mark.parametrize("min_mu", [0.0, 0.5])
def test_extreme_predictors_stay_finite_and_right(eta, min_mu, choice):
    samples = Samples(
        design=np.ones((6, 1)),
        counts=np.array([[0, 1], [3, 0], [2, 10**9], [0, 5], [1, 1], [7, 10**6]], dtype=np.int32),
        size_factors=np.array([0.5, 1.0, 2.0, 1e-6, 1e6, 1.0]),
        dispersions=np.array([1e-8, 1e5]),
    )
    beta = np.full((2, 1), eta)
    sums = summands(samples, beta, min_mu, choice=choice)
    for gene in range(2):
        floor = mp.exp(likelihood.SMALLEST_LOG_MU)  # no clamp still means a positive mean
        xtwx, xtwz, _, nll = exact_sums(samples, beta, gene, max(mp.mpf(min_mu), floor))
        np.testing.assert_allclose(sums.xtwx[gene], xtwx, rtol=1e-12)
        np.testing.assert_allclose(sums.right[gene], xtwz, rtol=1e-12)
        assert abs(sums.nll[gene] / nll - 1) < 1e-10


def test_large_counts_keep_ten_digits(choice):
    rng = np.random.default_rng(5)
    mu = np.exp(rng.uniform(13, 20.5, (8, 5)))
    samples = Samples(np.ones((8, 1)), rng.poisson(mu).astype(np.int32), np.exp(rng.normal(size=8)), np.full(5, 1e-8))
    beta = np.log(mu.mean(axis=0))[:, None]
    sums = summands(samples, beta, 0.5, choice=choice)
    careless = likelihood.constants(samples.counts.T * 1.0, 1e-8) + likelihood.moving_nll(
        samples.counts.T * 1.0, kernels.clamped_log_mu(samples, beta, 0.5), 1e-8
    )
    exact = np.array([exact_sums(samples, beta, gene, 0.5)[3] for gene in range(5)])
    assert np.max(np.abs(sums.nll / exact - 1)) < 1e-10
    # Samples at their own mean, where nll is a few units, show what the plain sum loses.
    own = likelihood.nll(samples.counts.T * 1.0, np.log(samples.counts.T), 1e-8)
    plain = likelihood.constants(samples.counts.T * 1.0, 1e-8) + likelihood.moving_nll(
        samples.counts.T * 1.0, np.log(samples.counts.T), 1e-8
    )
    assert np.max(np.abs(plain / own - 1)) > 1e-10
    assert careless.shape == own.shape


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_gene_has_the_same_bits_in_any_company(data):
    name = data.draw(st.sampled_from(sorted(DESIGNS)))
    choice = data.draw(st.sampled_from([FUSED, PLAIN]))
    simulation = simulate(genes=40, samples=data.draw(st.integers(1, 70)), seed=1, **DESIGNS[name])
    samples = replace(simulation.samples, nll_constants=kernels.nll_constants(simulation.samples, choice=choice))
    whole = summands(samples, simulation.beta, 0.5, choice=choice)
    genes = np.array(data.draw(st.lists(st.booleans(), min_size=40, max_size=40)), dtype=bool)
    part = summands(samples.take(genes), simulation.beta[genes], 0.5, choice=choice)
    assert same(part, [array[genes] for array in whole])


@pytest.mark.parametrize("jobs", [2, 5])
def test_threads_and_blocks_do_not_change_a_bit(simulation, choice, jobs, monkeypatch):
    samples, beta = simulation.samples, simulation.beta
    whole = summands(samples, beta, 0.5, choice=choice)
    monkeypatch.setattr(kernels, "_BLOCK_VALUES", 37 * 7)
    monkeypatch.setattr(kernels, "_CALL_VALUES", 37 * 7)
    assert same(summands(samples, beta, 0.5, choice=choice), whole)
    assert same(summands(samples, beta, 0.5, choice=replace(choice, n_jobs=jobs)), whole)


@pytest.mark.parametrize("ones", [True, False])
@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("n", [3, 67, BLOCK + 5])
def test_every_pair_of_columns_is_summed(n, p, ones):
    rng = np.random.default_rng(p)
    X = rng.normal(size=(n, p))
    if ones:
        X[:, 0] = 1.0
    samples = Samples(X, rng.poisson(9.0, (n, 4)).astype(np.int32), np.exp(0.3 * rng.normal(size=n)), np.full(4, 0.2))
    beta = 0.3 * rng.normal(size=(4, p))
    mu = np.maximum(samples.size_factors[:, None] * np.exp(X @ beta.T), 0.5)
    w = mu / (1.0 + 0.2 * mu)
    z = np.log(mu / samples.size_factors[:, None]) + (samples.counts - mu) / mu
    for choice in (FUSED, PLAIN):
        sums = summands(samples, beta, 0.5, choice=choice)
        for gene in range(4):
            scale_xx, scale_xz = scales(samples, beta, gene, 0.5)
            xtwx = (X.T * w[:, gene]) @ X
            assert np.max(np.abs(sums.xtwx[gene] - xtwx[np.triu_indices(p)]) / scale_xx) < 1e-14
            assert np.max(np.abs(sums.right[gene] - X.T @ (w[:, gene] * z[:, gene])) / scale_xz) < 1e-14


@pytest.mark.parametrize("alike", [True, False])
def test_a_product_of_tiles_gives_each_row_its_own_bits(alike, monkeypatch):
    """Whether tiles are used, or rows by themselves as where a library treats a tile's rows differently."""
    monkeypatch.setattr(kernels, "_rows_are_alike", lambda _inner, _outer: alike)
    rng = np.random.default_rng(0)
    W, X = rng.normal(size=(50, 301)), rng.normal(size=(301, 15))
    whole = kernels._per_gene_product(W, X)
    np.testing.assert_allclose(whole, W @ X, rtol=1e-12, atol=1e-12)
    for genes in (slice(0, 1), slice(3, 20), slice(7, 50), np.arange(50)[::-1]):
        np.testing.assert_array_equal(kernels._per_gene_product(W[genes], X), whole[genes])


def test_one_product_over_the_whole_block_would_be_caught():
    """Why the reference kernel multiplies tiles of one shape: a product's bits may depend on its shape."""
    rng = np.random.default_rng(0)
    W, X = rng.normal(size=(257, 301)), rng.normal(size=(301, 5))
    whole = W @ X
    assert any(not np.array_equal(W[:k] @ X, whole[:k]) for k in range(1, 20))


def test_kernels_agree(simulation):
    for right in ("xtwz", "score"):
        for min_mu in (0.0, 0.5):
            one = summands(simulation.samples, simulation.beta, min_mu, right=right, choice=FUSED)
            two = summands(simulation.samples, simulation.beta, min_mu, right=right, choice=PLAIN)
            np.testing.assert_allclose(one.xtwx, two.xtwx, rtol=1e-13, atol=1e-12)
            np.testing.assert_allclose(one.right, two.right, rtol=1e-12, atol=1e-9)
            np.testing.assert_allclose(one.nll, two.nll, rtol=1e-11)


def test_read_only_arrays_are_welcome(simulation, choice):
    samples, beta = simulation.samples, simulation.beta.copy()
    expected = summands(samples, beta, 0.5, choice=choice)
    frozen = replace(samples, nll_constants=kernels.nll_constants(samples, choice=choice))
    for array in (frozen.design, frozen.counts, frozen.size_factors, frozen.dispersions, frozen.nll_constants, beta):
        array.flags.writeable = False
    try:
        assert same(summands(frozen, beta, 0.5, choice=choice), expected)
    finally:
        for array in (frozen.design, frozen.counts, frozen.size_factors, frozen.dispersions):
            array.flags.writeable = True


def test_empty_site_and_no_genes(simulation, choice):
    samples, beta = simulation.samples, simulation.beta
    nobody = rows(samples, np.arange(0))
    for array in summands(nobody, beta, 0.5, choice=choice):
        assert array.shape[0] == samples.n_genes
        assert not array.any()
    nothing = np.zeros(samples.n_genes, dtype=bool)
    for array in summands(samples.take(nothing), beta[nothing], 0.5, choice=choice):
        assert array.shape[0] == 0


def test_unsorted_and_sorted_levels_agree():
    simulation = simulate(genes=20, samples=48, seed=2)
    order = np.argsort(simulation.samples.design[:, 1], kind="stable")
    assert (np.diff(order) < 0).any()
    one = summands(simulation.samples, simulation.beta, 0.5, choice=FUSED)
    two = summands(rows(simulation.samples, order), simulation.beta, 0.5, choice=FUSED)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_exp_and_log_are_right_to_the_last_place():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-700, 600, 3000), rng.uniform(-1, 1, 3000), [0.0, -700.0, 600.0]])
    ours = np.array([elementary.exp(v) for v in x])
    with mp.workdps(40):
        error = [float(abs(mp.mpf(o) / mp.exp(mp.mpf(float(v))) - 1)) for o, v in zip(ours, x, strict=True)]
    assert max(error) < 2.3e-16
    u = np.concatenate([np.exp(rng.uniform(0, 600, 3000)), 1 + 10.0 ** rng.uniform(-15, 0, 3000), [1.0, 2.0]])
    pairs = np.array([elementary.log_and_inverse(v) for v in u])
    with mp.workdps(40):
        logs = [mp.log(mp.mpf(float(v))) for v in u]
        error = [float(abs(mp.mpf(o) - e) / e) if e else float(o) for o, e in zip(pairs[:, 0], logs, strict=True)]
    assert max(error) < 3e-16
    assert np.max(np.abs(pairs[:, 1] * u - 1)) < 8e-16


def test_coefficients_of_the_polynomials_are_chebyshev():
    with mp.workdps(40):
        half = mp.log(2) / 2 * (1 + mp.mpf(2) ** -30)

        def bend(r):
            return (mp.exp(r) - 1 - r) / r**2 if abs(r) > 1e-12 else mp.mpf(1) / 2

        top = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * (1 + mp.mpf(2) ** -30)

        def rest(q):
            s = mp.sqrt(q)
            return 2 * (mp.atanh(s) / s - 1) / q if q > 1e-14 else mp.mpf(2) / 3

        with warnings.catch_warnings():  # mpmath 1.4 is about to turn the order of coefficients round
            warnings.simplefilter("ignore", DeprecationWarning)
            e, c = mp.chebyfit(bend, [-half, half], 10), mp.chebyfit(rest, [0, top], 7)
    for fitted, name in ((e, "_E"), (c, "_L")):
        used = [getattr(elementary, f"{name}{n}") for n in range(len(fitted))]
        np.testing.assert_allclose(used, [float(v) for v in fitted[::-1]], rtol=1e-15)


def test_warming_up_leaves_nothing_to_compile():
    """In a process of its own, because a kernel that any test before has used is compiled."""
    program = """
from dataclasses import replace
from secirls.numerics.regression import fused_kernel, kernels, likelihood_kernel, nodes_kernel
from secirls.numerics.held import level_nodes
from secirls.inputs.simulate import simulate

def compiled():
    by_round = (fused_kernel._general, fused_kernel._by_level, nodes_kernel.by_nodes)
    by_fit = (level_nodes._fill_moments, likelihood_kernel._constants, likelihood_kernel._whole)
    return [len(kernel.signatures) for kernel in by_round + by_fit]

assert compiled() == [0] * 6
kernels.warm_up()
assert compiled() == [1] * 6, compiled()
for made in (simulate(5, 40), simulate(5, 40, effects=3, continuous=True), simulate(5, 120)):
    samples = replace(made.samples, moments=kernels.level_moments(made.samples))
    kernels.summands(samples, made.beta, 0.5)
    kernels.summands(samples, made.beta, 0.5, right="score")
assert samples.moments is not None
kernels.summands(samples, made.beta + 40.0, 0.5)
assert compiled() == [1] * 6, compiled()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_choice_is_explicit():
    with pytest.raises(ValueError, match="fused"):
        Choice("quick")
    with pytest.raises(ValueError, match="n_jobs"):
        Choice("fused", 0)
    before = kernels.chosen()
    with kernels.using("numpy", 2):
        assert kernels.chosen() == Choice("numpy", 2)
    assert kernels.chosen() == before


def test_what_is_missing_is_said():
    samples = simulate(genes=3, samples=4).samples
    with pytest.raises(ValueError, match="size factors"):
        summands(replace(samples, size_factors=None), np.zeros((3, 2)), 0.5)
    with pytest.raises(ValueError, match="does not fit"):
        summands(samples, np.zeros((2, 2)), 0.5)
