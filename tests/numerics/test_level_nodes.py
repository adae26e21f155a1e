"""Sums over nodes in place of samples: as exact as sums over samples, and theirs to the bit where nodes can't do it."""

from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest

from secirls.inputs.simulate import rows
from secirls.numerics.held import level_nodes
from secirls.numerics.held.level_nodes import LevelNodes, nodes_needed
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import kernels
from secirls.numerics.regression.kernels import Choice, level_moments, summands
from tests.numerics.test_kernels import exact_sums, same, scales

ALPHAS = [1e-8, 1e-6, 1e-4, 1e-2, 0.1, 1.0, 10.0, 1e3, 1e5]


def make(n=240, genes=27, spread=0.3, least=2.5, seed=0):
    """Two factors of two levels, without counts too large or means that are clamped."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), np.arange(n) % 2, np.arange(n) % 3 == 0]).astype(float)
    s = np.exp(spread * rng.uniform(-3.0, 3.0, n))
    beta = np.column_stack([rng.uniform(least, 8.0, genes), 0.3 * rng.normal(size=(genes, 2))])
    y = rng.poisson(np.exp(beta @ X.T) * s * rng.gamma(2.0, 0.5, (genes, n))).astype(np.int32)
    samples = Samples(X, y.T, s, np.resize(ALPHAS, genes))
    return samples, beta + 0.05


def with_nodes(samples):
    return replace(samples, moments=level_moments(samples))


def worst(samples, beta, genes, **how):
    """The largest errors of X'WX, X'Wz, the score and nll against 40 digits, relative to magnitudes."""
    sums, scores = summands(samples, beta, 0.5, **how), summands(samples, beta, 0.5, right="score", **how)
    found = np.zeros(4)
    for gene in range(genes):
        xtwx, xtwz, score, nll = exact_sums(samples, beta, gene, 0.5)
        scale_xx, scale_xz = scales(samples, beta, gene, 0.5)
        errors = (
            np.abs(sums.xtwx[gene] - xtwx) / scale_xx,
            np.abs(sums.right[gene] - xtwz) / scale_xz,
            np.abs(scores.right[gene] - score) / scale_xz,
            max(abs(sums.nll[gene] / nll - 1), abs(scores.nll[gene] / nll - 1)),
        )
        found = np.maximum(found, [np.max(error) for error in errors])
    return found


@pytest.mark.parametrize(
    ("n", "spread"), [(120, 0.1), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((240, 0.3), (480, 1.0)))]
)
def test_sums_over_nodes_are_exact(n, spread):
    samples, beta = make(n, spread=spread, least=2.5 + 3 * spread)
    samples = with_nodes(samples)
    assert samples.moments.nodes.size <= n / 2
    errors, by_sample = worst(samples, beta, len(ALPHAS)), worst(replace(samples, moments=None), beta, len(ALPHAS))
    assert (errors < [8e-16, 2e-15, 2e-15, 2e-11]).all()
    assert (errors[:3] < 2 * by_sample[:3]).all()


def test_too_few_nodes_would_be_seen(monkeypatch):
    samples, beta = make(300)
    monkeypatch.setattr(level_nodes, "DIGITS", 10.0)
    assert worst(with_nodes(samples), beta, len(ALPHAS))[0] > 8e-16


@pytest.mark.parametrize("n", [2, 3, 20])
def test_integrals_of_polynomials_are_exact(n):
    x = np.cos(np.pi * np.arange(1, 2 * n, 2) / (2 * n))
    integrals = level_nodes.chebyshev_integrals(n)
    for degree in range(n):
        np.testing.assert_allclose(integrals @ x**degree, x ** (degree + 1) / (degree + 1), atol=3e-16)
    assert np.abs(integrals @ x**n - x ** (n + 1) / (n + 1)).max() > 1e-9


def test_integrals_that_are_wrong_would_be_seen_in_the_likelihood(monkeypatch):
    samples, beta = make(300)
    right = level_nodes.chebyshev_integrals
    monkeypatch.setattr(level_nodes, "chebyshev_integrals", lambda n: right(n) * (1.0 + 1e-8))
    errors = worst(with_nodes(samples), beta, len(ALPHAS))
    assert errors[0] < 8e-16
    assert errors[3] > 2e-11


def test_predictors_keep_what_rounding_takes():
    """A mean of 2,000 is wrong by what an eta of 7.6 loses, and with a small alpha its weight: over samples it is."""
    samples, beta = make()
    samples = replace(samples, dispersions=np.full(27, 1e-8))
    beta[:] = np.linspace(7.5, 7.9, 27)[:, None] * [1.0, 1 / 3, 1 / 7]
    assert worst(with_nodes(samples), beta, 9)[0] < 6e-16
    assert worst(samples, beta, 9)[0] > 8e-16


def test_rows_of_few_samples_have_no_slopes_and_are_as_exact():
    samples, beta = make()
    design = samples.design.copy()
    design[:, 2] = np.arange(240) < 9
    samples = with_nodes(replace(samples, design=design))
    assert (samples.moments.nodes.centres == 0.0).tolist() == [False, True, False, True]
    assert (worst(samples, beta, len(ALPHAS)) < [8e-16, 2e-15, 2e-15, 2e-11]).all()


def by_samples(samples, beta, **how):
    return summands(replace(samples, moments=None), beta, 0.5, **how)


def test_what_nodes_cannot_sum_is_summed_over_samples_to_the_bit():
    samples, beta = make(genes=6)
    counts = samples.counts.copy()
    counts[5, 1] = kernels.LARGEST_PLAIN_COUNT + 1
    samples = with_nodes(replace(samples, counts=counts))
    beta[2, 0] = 0.0  # some samples below the least mean
    beta[3] = -45.0, 90.0, 0.0  # not clamped in a group, but beyond what is plain
    for right in ("xtwz", "score"):
        nodes, old = summands(samples, beta, 0.5, right=right), by_samples(samples, beta, right=right)
        for gene, alike in enumerate([False, True, True, True, False, False]):
            assert (
                all(np.array_equal(a[gene], b[gene], equal_nan=True) for a, b in zip(nodes, old, strict=True)) == alike
            )


def test_groups_clamped_as_a_whole_are_summed_over_nodes():
    samples, beta = make(genes=9)
    samples = with_nodes(samples)
    beta[:, 0], beta[:, 1:] = -5.0, [12.0, -3.0]
    one, two = kernels.Task.of(samples, beta, 0.5, score=False), samples.moments.nodes
    from secirls.numerics.regression import nodes_kernel

    assert not nodes_kernel.prepare(one, two)(one)[1].any()
    assert (worst(samples, beta, 9) < [1e-15, 2e-15, 2e-15, 2e-11]).all()


@pytest.mark.parametrize("jobs", [1, 3])
def test_threads_blocks_and_company_do_not_change_a_bit(jobs, monkeypatch):
    samples, beta = make(genes=150, least=0.0)  # some clamped in part
    samples = with_nodes(samples)
    whole = summands(samples, beta, 0.5)
    chosen = np.random.default_rng(1).random(150) < 0.4  # in fewer than all lanes, others than before
    part = summands(samples.take(chosen), beta[chosen], 0.5)
    assert same(part[:2], [array[chosen] for array in whole[:2]])
    monkeypatch.setattr(kernels, "_CALL_VALUES", 7 * samples.moments.nodes.size)
    assert same(summands(samples, beta, 0.5, choice=Choice("fused", jobs)), whole)
    some = np.flatnonzero(chosen)
    alone = level_moments(replace(samples, moments=None).at(some))
    assert np.array_equal(alone.counts, samples.moments.counts[:, some])
    assert np.array_equal(alone.totals, samples.moments.totals[:, some])


def test_nodes_of_other_samples_are_not_used():
    samples, beta = make(genes=5)
    samples = with_nodes(samples)
    assert not same(summands(samples, beta, 0.5), by_samples(samples, beta))
    other_s = replace(samples, size_factors=samples.size_factors[::-1].copy())
    other_x = replace(samples, design=samples.design[::-1].copy())
    for other in (other_s, other_x):
        assert same(summands(other, beta, 0.5), by_samples(other, beta))
    assert rows(samples, np.arange(50)).moments is None


def test_nodes_only_where_they_pay():
    samples, _ = make()
    assert level_moments(samples) is not None
    assert level_moments(samples, choice=Choice("numpy")) is None
    assert level_moments(make(30)[0]) is None
    assert level_moments(replace(samples, size_factors=None)) is None
    for bad in (np.nan, 0.0, np.inf):
        s = samples.size_factors.copy()
        s[3] = bad
        assert level_moments(replace(samples, size_factors=s)) is None
    distinct = np.column_stack([np.ones(240), np.arange(240.0)])
    assert level_moments(replace(samples, design=distinct)) is None


def test_equal_size_factors_take_one_node_and_few_samples_stand_for_themselves():
    X = np.column_stack([np.ones(64), np.arange(64) < 3]).astype(float)
    s = np.where(np.arange(64) < 3, [*range(1, 65)], 2.0).astype(float)
    nodes = LevelNodes.of(X, s)
    assert np.diff(nodes.node_starts).tolist() == [1, 3]
    np.testing.assert_array_equal(nodes.numbers[:4], [61.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(nodes.log_s[:4], np.log([2.0, 1.0, 2.0, 3.0]), rtol=1e-15)


@pytest.mark.parametrize("half", [0.1, 0.5, 1.0, 2.5, 4.0])
def test_the_worst_function_is_interpolated_to_the_last_place(half):
    """1 / (1 + alpha mu) at every place of its pole, in 40 digits: what is left is rounding, not nodes."""
    n = nodes_needed(half)
    with mp.workdps(40):
        reach = mp.tanh(mp.mpf(half) / 4)
        at = [4 * mp.atanh(reach * mp.cos(mp.pi * (2 * k + 1) / (2 * n))) for k in range(n)]
        weights = [(-1) ** k * mp.sin(mp.pi * (2 * k + 1) / (2 * n)) for k in range(n)]
        largest = mp.mpf(0)
        for centre in (-2 * half, -half, 0, half / 2, half, 2 * half):
            values = [1 / (1 + mp.exp(t - centre)) for t in at]
            for t in mp.linspace(-half, half, 41):
                terms = [w / (mp.tanh(t / 4) - mp.tanh(node / 4)) for w, node in zip(weights, at, strict=True)]
                interpolated = mp.fsum(a * v for a, v in zip(terms, values, strict=True)) / mp.fsum(terms)
                exact = 1 / (1 + mp.exp(t - centre))
                largest = max(largest, abs(interpolated / exact - 1))
    assert largest < 3e-16
