"""Profiles from few points in place of samples: as exact, the same in any company, and left where they would fail."""

from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest

from secirls.algorithms.dispersion.profile import ProfileQuery
from secirls.algorithms.regression.refit import ReplaceCountsQuery
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.dispersion import sums as sums_module
from secirls.numerics.dispersion.nodes import Nodes, node_dispersions, nodes_for
from secirls.numerics.dispersion.points import LANES, MOST_POINTS, _compress, fill_points, places
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.held import level_nodes
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.kernels import Choice, level_moments
from tests.numerics.test_profile_kernel import exactly


def make(n=150, genes=40, least=-1.0, groups=2, seed=0):
    """Counts, means and nodes of a design of few rows; with `least` below 1, rows that are clamped in part."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), np.arange(n) % groups == 1, np.arange(n) % 4 > 1]).astype(float)
    s = np.exp(0.3 * rng.uniform(-2.5, 2.5, n))
    b = np.column_stack([rng.uniform(least, 9.0, genes), 0.3 * rng.normal(size=(genes, 2))])
    alpha = 10.0 ** rng.uniform(-3, 0.5, (genes, 1))
    y = rng.poisson(np.exp(b @ X.T) * s * rng.gamma(1 / alpha, alpha, (genes, n))).astype(np.int32)
    y[0], y[1], y[2] = 0, 40, np.arange(n) < 5
    z = y / s
    samples = Samples(X, y.T, s)
    places_of = nodes_for(z.mean(axis=1), z.var(axis=1, ddof=1), n, max(10.0, n))
    return replace(samples, moments=level_moments(samples)), b, places_of


def both(samples, b, nodes, *, linear=False, products=None):
    """The sums by nodes and by samples."""
    products = Products.full(b.shape[1]) if products is None else products
    few = profile_sums(samples, b, nodes, products, linear=linear, min_mu=0.5)
    every = profile_sums(replace(samples, moments=None), b, nodes, products, linear=linear, min_mu=0.5)
    return few, every


def largest_errors(few, every):
    """Of log-likelihoods, products and constants, relative to each gene's largest where they differ by gene."""
    scale = np.abs(every.xwx).max(axis=1, keepdims=True)
    return (
        np.max(np.abs(few.loglik - every.loglik) / (1.0 + np.abs(every.loglik))),
        np.max(np.abs(few.xwx - every.xwx) / scale),
        np.max(np.abs(few.constant - every.constant) / (1.0 + np.abs(every.constant))),
    )


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(("n", "groups"), [pytest.param(150, 2, marks=pytest.mark.slow), (300, 3)])
def test_few_points_give_the_sums_over_samples(n, groups, linear):
    samples, b, nodes = make(n, groups=groups)
    assert samples.moments is not None
    if linear:
        b = np.exp(b[:, :1]) * np.array([1.0, 0.2, -0.3])
        b[3] = -1.0, 0.5, 0.0  # means below zero
    few, every = both(samples, b, nodes, linear=linear)
    loglik, xwx, constant = largest_errors(few, every)
    assert loglik < 1e-12
    assert xwx < 1e-14
    assert constant < 1e-11
    assert not np.array_equal(few.loglik, every.loglik)


def test_rows_of_few_samples_have_no_slopes_and_are_as_exact():
    samples, b, nodes = make(300)
    design = samples.design.copy()
    design[:, 2] = np.arange(300) < 9
    samples = replace(samples, design=design, moments=None)
    samples = replace(samples, moments=level_moments(samples))
    assert (samples.moments.nodes.centres == 0.0).tolist() == [False, True, False, True]
    assert (np.array(largest_errors(*both(samples, b, nodes))) < [1e-12, 1e-14, 1e-11]).all()


def test_slopes_that_are_wrong_would_be_seen(monkeypatch):
    right = level_nodes.chebyshev_integrals
    monkeypatch.setattr(level_nodes, "chebyshev_integrals", lambda n: right(n) * (1.0 + 1e-9))
    loglik, xwx, _ = largest_errors(*both(*make()))
    assert loglik > 1e-12
    assert xwx < 1e-14


def test_rows_clamped_in_part_take_nodes_for_the_rest():
    """Means of which a tenth to nine tenths are clamped; that nodes stood for all samples of a row would be seen."""
    samples, b, nodes = make(n=300, genes=30)
    b[:, 0], b[:, 1:] = np.log(0.5) + np.linspace(-0.6, 0.6, 30), 0.0
    share = (np.exp(b @ samples.design.T) * samples.size_factors <= 0.5).mean(axis=1)
    assert share.min() > 0.05
    assert share.max() < 0.95
    few, every = both(samples, b, nodes)
    assert (np.array(largest_errors(few, every)) < [1e-12, 1e-14, 1e-11]).all()
    assert (few.loglik != every.loglik).mean() > 0.5  # not summed over samples
    free = profile_sums(samples, b, nodes, Products.full(3), linear=False, min_mu=1e-9)
    assert largest_errors(free, every)[1] > 1e-3


def test_few_points_are_right_to_twelve_digits_of_mpmath():
    """Counts from 0 to four million, dispersions from 1e-9 to 300."""
    rng = np.random.default_rng(3)
    n = 80
    s = np.exp(rng.uniform(-0.7, 0.7, n))
    means = np.array([2.0, 30.0, 3e3, 2e6])
    y = rng.poisson(means[:, None] * s * rng.gamma(4.0, 0.25, (4, n)))
    y[1, :6] = 0, 1, 2, 16, 17, 18
    samples = Samples(np.ones((n, 1)), y.astype(np.int32).T, s)
    samples = replace(samples, moments=level_moments(samples))
    few = np.full(4, 9, dtype=np.intp)
    nodes = Nodes(np.full(4, 10.0), np.log1p(10.0 * np.full(4, 300.0)), few, few)
    tiny = Nodes(np.full(4, 1e9), np.log1p(1e9 * np.full(4, 0.1)), few, few)
    for places_of in (nodes, tiny):
        ours = profile_sums(samples, np.log(means)[:, None], places_of, Products.full(1), linear=False, min_mu=0.5)
        alphas = node_dispersions(places_of.scale, places_of.reach, few).reshape(4, 9)
        for gene in range(4):
            for j in range(9):
                mu = [mp.exp(mp.log(mp.mpf(float(means[gene])))) * mp.mpf(float(v)) for v in s]
                exact = mp.fsum(exactly(int(c), m, alphas[gene, j]) for c, m in zip(y[gene], mu, strict=True))
                assert abs(float(ours.loglik.reshape(4, 9)[gene, j] / exact - 1)) < 1e-12


def test_too_few_nodes_would_be_seen(monkeypatch):
    monkeypatch.setattr(level_nodes, "DIGITS", 5.0)
    samples, b, nodes = make()
    loglik, xwx, _ = largest_errors(*both(samples, b, nodes))
    assert loglik > 1e-12
    assert xwx > 1e-14


@pytest.mark.parametrize(("largest", "n"), [(18, 300), (60, 300), (3000, 300), (100_000, 70)])
def test_points_stand_for_counts(largest, n):
    """In a sum of log(1 + alpha y) (y + 1 / alpha), for dispersions on both sides of the counts."""
    y = np.sort(np.exp(np.random.default_rng(1).uniform(np.log(17), np.log(largest), n)).round())
    points, numbers, room = np.empty(MOST_POINTS), np.empty(MOST_POINTS), np.empty((MOST_POINTS + 3) * LANES)
    used = fill_points(y, np.log(y), *places(), room, points, numbers)
    assert 0 < used <= MOST_POINTS
    at, how_many = points[:used], numbers[:used]

    def worst(at, how_many):
        sizes = 1 / np.geomspace(1e-7, 100, 30)
        pairs = [[(v + r) * np.log1p(v / r) for v in (y, at)] for r in sizes]
        return max(abs((how_many * few).sum() / every.sum() - 1) for every, few in pairs)

    assert worst(at, how_many) < 1e-13
    if used > 6:  # fewer would be seen
        some, starts = places()
        x = (2 * np.log(y) - np.log(y[0] * y[-1])) / np.log(y[-1] / y[0])
        rough = np.empty(6)
        _compress(x, some[starts[5] : starts[6]], room, rough)
        middle, half = 0.5 * np.log(y[0] * y[-1]), 0.5 * np.log(y[-1] / y[0])
        assert worst(np.exp(middle + half * some[starts[5] : starts[6]]), rough) > 1e-13


def test_what_points_cannot_do_is_done_over_samples_to_the_bit():
    samples, b, nodes = make(genes=8, least=3.0)
    counts = samples.counts.copy()
    counts[:, 4] = np.geomspace(17, 2e9, samples.n_samples).astype(np.int32)
    samples = replace(samples, counts=counts, moments=None)
    samples = replace(samples, moments=level_moments(samples))
    b[5, 0] = 50.0
    few, every = both(samples, b, nodes)
    gene = np.repeat(np.arange(8), nodes.nodes)
    alike = [bool(np.array_equal(few.loglik[gene == g], every.loglik[gene == g])) for g in range(8)]
    assert alike[4:6] == [True, True]
    assert not any(alike[6:])


def test_company_blocks_and_threads_do_not_change_a_bit(monkeypatch):
    samples, b, nodes = make()
    products = Products.full(3)

    def run(some, jobs=1):
        here = samples.take(some)
        how = {"linear": False, "min_mu": 0.5, "choice": Choice("fused", jobs)}
        return profile_sums(here, b[some], nodes.take(some), products, **how)

    whole, chosen = run(np.ones(40, dtype=bool)), np.random.default_rng(2).random(40) < 0.3
    part = run(chosen)
    np.testing.assert_array_equal(part.loglik, whole.loglik[np.repeat(chosen, nodes.nodes)])
    np.testing.assert_array_equal(part.xwx, whole.xwx[np.repeat(chosen, nodes.det_nodes)])
    np.testing.assert_array_equal(part.constant, whole.constant[chosen])
    monkeypatch.setattr(sums_module, "_CALL_VALUES", 5 * samples.n_samples * int(nodes.nodes.max()))
    for one, other in zip(run(np.ones(40, dtype=bool), 3), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_question_keeps_the_points_and_replaced_counts_drop_them():
    samples, b, nodes = make(genes=4)
    samples = replace(samples, moments=None, replacement=samples.counts)
    genes, products = np.ones(4, dtype=bool), Products.full(3)
    fields = (products.rows, products.columns, products.expand)
    places_of = (nodes.scale, nodes.reach, nodes.nodes, nodes.det_nodes)
    arrays = (np.asarray(array, dtype=np.float64) for array in places_of + fields)
    kept = ProfileQuery(genes, b, *arrays, 0, 0.5).apply(samples)
    assert kept.moments is not None
    assert ReplaceCountsQuery(genes).apply(kept).moments is None
