"""Dispersions over sites: questions refused, genes lost or singular, blocks, far genes, and what the sites keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secirls.algorithms import query
from secirls.algorithms.dispersion import profile
from secirls.algorithms.dispersion.dispersion_start import Means, Moments, fitted_means, moments
from secirls.algorithms.dispersion.profile import ProfileQuery, fetch_profiles
from secirls.algorithms.dispersion.shrunken_dispersions import (
    Question,
    estimate_dispersions,
    gene_wise,
    map_dispersions,
    trend_and_prior,
)
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import normalise
from secirls.algorithms.query import QueryError, query_from_bytes
from secirls.algorithms.regression.irls import IrlsConfig, irls, least_squares_start
from secirls.algorithms.regression.unclamped import NewtonConfig
from secirls.algorithms.summands import EXACT
from secirls.inputs.simulate import simulate
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.dispersion.curvature import adjusted_derivatives, curvature_sums
from secirls.numerics.dispersion.nodes import BEYOND, Nodes, nodes_for
from secirls.numerics.held.samples import Samples
from secirls.numerics.status import Reason, Status


def made(genes=60, n=24, seed=1, covariate=False):
    """Samples without size factors or dispersions, of two groups or one numeric covariate."""
    samples = simulate(genes, n, seed=seed).samples
    design = samples.design.copy()
    if covariate:
        design[:, 1] = np.linspace(-1, 1, n)
    counts = samples.counts + (np.arange(genes) == 0)  # one gene has counts everywhere
    return Samples(design, counts)


def everything(samples, **options):
    """Census to final dispersions."""
    asked = np.ones(samples.n_genes, dtype=bool)
    census = yield CensusQuery(asked, samples.n_params)
    asked = census["presence"] > 0
    n = float(census["samples"][0])
    normalisation = yield from normalise(asked, samples.n_params, n, own_size_factors=False)
    cells = len(np.unique(samples.design, axis=0))
    options = {"cells": cells, "products": Products.full(samples.n_params), **options}
    products = options.pop("products")
    return (yield from estimate_dispersions(asked, census["xtx"], n, normalisation, products, **options))


def thirds(n):
    return [np.arange(n) % 3 == k for k in range(3)]


@pytest.mark.parametrize("covariate", [False, True])
def test_three_sites_find_what_one_finds(drive, split, covariate):
    samples = made(covariate=covariate)
    with_factors = replace(samples, size_factors=np.ones(24))
    three = [replace(part, size_factors=None) for part in split(with_factors, thirds(24))]
    options = {"cells": None} if covariate else {}
    one = drive(samples)(everything(samples, **options))
    many = drive(*three)
    result = many(everything(samples, **options))
    assert result.means.linear is not covariate
    for name in ("gene_wise", "trend", "maximum", "final"):
        np.testing.assert_allclose(getattr(result, name), getattr(one, name), rtol=1e-6)
    np.testing.assert_array_equal(result.outlier, one.outlier)
    for site in many.sites:
        np.testing.assert_array_equal(site.dispersions, result.final)
    kinds = [query.kind for query in many.queries]
    assert kinds.count("profile") <= 3
    assert kinds[-1] == "adopt_dispersions"
    assert result.cohort == ("site0", "site1", "site2")


def test_the_same_sums_give_the_same_bits_in_any_order_of_genes(drive):
    samples = made()
    order = np.random.default_rng(0).permutation(60)
    plain = drive(samples)(everything(samples))
    mixed = drive(replace(samples, counts=samples.counts[:, order]))(everything(samples))
    np.testing.assert_array_equal(mixed.gene_wise, plain.gene_wise[order])
    np.testing.assert_array_equal(mixed.gene_wise_iterations, plain.gene_wise_iterations[order])


def test_blocks_of_a_long_question_change_no_bit(drive, monkeypatch):
    samples = made()
    whole = drive(samples)
    one = whole(everything(samples))
    monkeypatch.setattr(profile, "LARGEST_QUESTION", 700)
    blocks = drive(samples)
    many = blocks(everything(samples))
    asked = [query for query in blocks.queries if query.kind == "profile"]
    assert len(asked) > 5
    assert all(sum(np.prod(shape) for shape in query.shapes().values()) <= 700 for query in asked)
    for name in ("gene_wise", "gene_wise_iterations", "maximum", "map_iterations", "final"):
        np.testing.assert_array_equal(getattr(many, name), getattr(one, name))


def test_where_genes_are_many_questions_are_shorter(drive, monkeypatch):
    """Sixty genes are no more than sixty, and more than fifty-nine."""
    samples = made()
    monkeypatch.setattr(profile, "LARGEST_QUESTION", 4000)
    longest = []
    for many in (60, 59):
        monkeypatch.setattr(profile, "MANY_GENES", many)
        driven = drive(samples)
        driven(everything(samples))
        asked = [query for query in driven.queries if query.kind == "profile"]
        longest.append(max(sum(np.prod(shape) for shape in query.shapes().values()) for query in asked))
    assert 1000 < longest[0] <= 4000
    assert 700 < longest[1] <= 1000


def test_a_block_is_one_gene_at_least():
    assert [block.stop - block.start for block in profile._blocks(np.array([5, 5, 20, 5]), 10)] == [2, 1, 1]


def test_newton_asks_of_many_genes_in_portions(drive, monkeypatch):
    samples = made()
    whole = drive(samples)
    one = whole(everything(samples, fit="optimum"))
    monkeypatch.setattr(profile, "LARGEST_QUESTION", 400)
    monkeypatch.setattr(query, "LARGEST_ANSWER", 400)
    portions = drive(samples)
    many = portions(everything(samples, fit="optimum"))
    asked = [[asked for asked in run.queries if asked.kind == "dispersion_newton"] for run in (whole, portions)]
    assert len(asked[1]) > len(asked[0])
    assert max(asked.values for asked in asked[0]) > 400
    for name in ("gene_wise", "maximum", "final"):
        np.testing.assert_array_equal(getattr(many, name), getattr(one, name))


@pytest.mark.parametrize(("bits", "tolerance"), [(30, 1e-4), (20, 0.1)])
def test_a_narrow_ring_is_enough(drive, bits, tolerance):
    samples = made()
    exact = drive(samples)(everything(samples))
    narrow = drive(samples)(everything(samples, fraction_bits=bits))
    np.testing.assert_allclose(narrow.final, exact.final, rtol=tolerance)


@pytest.mark.parametrize("rows", [3, 4, 5])
def test_few_samples_still_have_a_prior(drive, rows):
    """Residual degrees of freedom 1, 2 and 3."""
    samples = made(genes=200, n=24)
    few = Samples(samples.design[:rows], samples.counts[:rows])
    few = replace(few, design=np.column_stack([np.ones(rows), np.arange(rows) % 2]))
    result = drive(few)(everything(few))
    assert result.trend_and_prior.prior_variance >= 0.25
    assert np.isfinite(result.final).all()


def test_optima_are_a_choice(drive):
    samples = made()
    path = drive(samples)(everything(samples))
    best = drive(samples)(everything(samples, fit="optimum"))
    assert not best.gene_wise_iterations.any()
    assert (best.gene_wise != path.gene_wise).any()
    assert best.trend_and_prior.trend.asymptotic == pytest.approx(path.trend_and_prior.trend.asymptotic, rel=1.0)


def test_newton_brings_optima_to_where_the_slope_is_zero(drive, split):
    samples = made()
    with_factors = replace(samples, size_factors=np.ones(24))
    run = drive(*[replace(part, size_factors=None) for part in split(with_factors, thirds(24))])
    best = run(everything(samples, fit="optimum"))
    asked = [query for query in run.queries if query.kind == "dispersion_newton"]
    assert 1 <= len(asked) <= 8
    pooled = replace(samples, size_factors=np.concatenate([site.size_factors for site in run.sites])[restored(24)])
    for alpha, trend in ((best.gene_wise, None), (best.maximum, best.trend)):
        inside = (alpha > 2e-8) & (alpha < 0.9 * 24)
        sums = curvature_sums(
            pooled, best.means.coefficients, alpha, Products.full(2), linear=best.means.linear, min_mu=0.5
        )
        first, second, _ = adjusted_derivatives(sums, Products.full(2))
        if trend is not None:
            first = first - np.log(alpha / trend) / best.trend_and_prior.prior_variance
            second = second - 1 / best.trend_and_prior.prior_variance
        assert inside.sum() > 30
        assert (np.abs(first / second)[inside] <= 1e-8).all()
    with pytest.raises(QueryError, match="no path comes to"):
        replace(asked[0], dispersions=np.full(asked[0].n_genes, 1e9)).check(60, 2)
    with pytest.raises(QueryError, match="do not fit"):
        replace(asked[0], dispersions=np.full(3, 1.0)).check(60, 2)
    with pytest.raises(QueryError, match="not there"):
        replace(asked[0], rows=np.array([0.0, 0.0, 7.0])).check(60, 2)
    with pytest.raises(QueryError, match="kind of means"):
        replace(asked[0], linear=5).check(60, 2)


def restored(n):
    """Where each sample stands once thirds are put in a row."""
    return np.argsort(np.concatenate([np.flatnonzero(part) for part in thirds(n)]))


def poisson(genes=40, n=6):
    """Counts with less scatter than any dispersion explains."""
    counts = np.tile(np.arange(20, 20 + genes, dtype=np.int32), (n, 1))
    return Samples(np.column_stack([np.ones(n), np.arange(n) % 2]), counts)


def test_dispersions_all_at_their_floor_are_one_and_said_to_be(drive):
    samples = poisson()
    result = drive(samples)(everything(samples))
    assert result.trend_and_prior.flat
    assert (result.gene_wise == 1e-8).all()
    assert (result.final == 1e-7).all()


def asked_of(samples, coefficients, *, linear=True, nodes=None):
    """A question about all genes of samples with size factors."""
    genes = samples.n_genes
    z = (samples.counts / samples.size_factors[:, None]).T
    nodes = nodes or nodes_for(z.mean(axis=1), z.var(axis=1, ddof=1), samples.n_samples, 24.0)
    means = Means(coefficients, linear=linear, lost=np.zeros(genes, dtype=np.int8))
    return np.ones(genes, dtype=bool), means, nodes


def ready(**options):
    samples = replace(made(**options), size_factors=np.ones(24))
    b = np.linalg.lstsq(samples.design, samples.counts, rcond=None)[0].T.copy()
    return samples, b


def test_a_gene_whose_sums_are_too_large_is_lost_and_harms_no_other(drive, split, monkeypatch):
    # What a float64 holds of a likelihood nearly always fits into the ring: so a smaller ring is imagined.
    monkeypatch.setattr(profile, "largest_summand", lambda parties, _bits: 4e5 * parties)
    samples, b = ready()
    good = drive(*split(samples, thirds(24)))(fetch_profiles(*asked_of(samples, b), Products.full(2)))
    wild = b.copy()
    wild[5] = 1e60
    run = drive(*split(samples, thirds(24)))
    bad = run(fetch_profiles(*asked_of(samples, wild), Products.full(2)))
    assert np.flatnonzero(bad.reason).tolist() == [5]
    assert bad.reason[5] == Reason.LOST
    rest = np.delete(np.arange(60), 5)
    alphas = np.full((59, 1), 0.3)
    for ours, theirs in zip(
        bad.profiles.take(rest).evaluate(alphas), good.profiles.take(rest).evaluate(alphas), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    asked, means, _ = asked_of(samples, wild)
    z = samples.counts.T
    start = Moments(z.mean(axis=1), z.var(axis=1, ddof=1), b, np.full(60, 0.2))
    found = run(gene_wise(Question(asked, means, Products.full(2), 24.0), start))
    assert np.flatnonzero(np.isnan(found.dispersions)).tolist() == [5]
    towards = trend_and_prior(start.base_means, found.dispersions, 24, 2)
    last = run(map_dispersions(Question(asked, means, Products.full(2), 24.0), found, start.base_means, towards))
    assert np.flatnonzero(np.isnan(last.final)).tolist() == [5]
    assert not last.outlier[5]


def test_a_design_that_says_nothing_about_a_column_is_singular(drive):
    samples, b = ready()
    samples = replace(samples, design=np.ones((24, 2)))
    fetched = drive(samples)(fetch_profiles(*asked_of(samples, b), Products.full(2)))
    assert (fetched.reason == Reason.SINGULAR).all()
    assert not fetched.known.any()


def test_a_gene_beyond_its_bound_is_asked_again_with_finer_nodes(drive):
    samples, b = ready()
    low = nodes_for(np.full(60, 0.5), np.full(60, 0.5), 24.0, 24.0)
    run = drive(samples)
    asked, means, _ = asked_of(samples, b)
    fetched = run(fetch_profiles(asked, means, low, Products.full(2)))
    first, second = run.queries
    assert 0 < second.n_genes < first.n_genes
    assert (second.scale == BEYOND * low.scale[second.genes]).all()
    proper = run(fetch_profiles(*asked_of(samples, b), Products.full(2)))
    alphas = np.tile(np.geomspace(1e-6, 20, 30), (60, 1))
    gap = np.abs(fetched.profiles.evaluate(alphas)[0] - proper.profiles.evaluate(alphas)[0]).max(axis=1)
    assert (gap[~fetched.rough] < 2e-6).all()


def test_a_path_that_leads_far_is_asked_for_again(drive):
    counts = np.zeros((24, 8), dtype=np.int32)
    counts[3] = [200, 90, 500, 3, 5, 40, 1000, 60]
    samples = Samples(np.column_stack([np.ones(24), np.arange(24) % 2]), counts, np.ones(24))
    z = samples.counts.T
    b = np.linalg.lstsq(samples.design, samples.counts, rcond=None)[0].T.copy()
    start = Moments(z.mean(axis=1), z.var(axis=1, ddof=1), b, np.full(8, 20.0))
    asked, means, _ = asked_of(samples, b)
    run = drive(samples)
    found = run(gene_wise(Question(asked, means, Products.full(2), 24.0), start))
    assert len(run.queries) == 2
    assert (run.queries[1].reach > run.queries[0].reach[run.queries[1].genes]).all()
    assert np.isfinite(found.dispersions).all()
    assert (found.dispersions > 10).any()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"nodes": np.full(60, 20.5)}, "numbers of nodes"),
        ({"nodes": np.full(60, 1e3)}, "numbers of nodes"),
        ({"det_nodes": np.full(60, 100.0), "nodes": np.full(60, 50.0)}, "impossible nodes"),
        ({"scale": np.zeros(60)}, "impossible nodes"),
        ({"reach": np.full(60, 1e4)}, "reach"),
        ({"linear": 2}, "kind of means"),
        ({"coefficients": np.zeros((60, 3))}, "do not fit"),
        ({"scale": np.ones(59)}, "do not fit"),
        ({"rows": np.array([0.0, 0.0, 2.0])}, "columns that are not there"),
        ({"expand": np.array([0.0, 1.0, 3.0])}, "columns that are not there"),
        ({"expand": np.array([0.0, 1.0])}, "products do not fit"),
        ({"fraction_bits": 3}, "fraction bits"),
    ],
)
def test_a_question_that_fits_no_fit_is_refused(change, told):
    samples, b = ready()
    asked, means, nodes = asked_of(samples, b)
    query = ProfileQuery.about(asked, means, nodes, Products.full(2), EXACT)
    query_from_bytes(query.to_bytes()).check(60, 2)
    with pytest.raises(QueryError, match=told):
        replace(query, **change).check(60, 2)


def test_a_question_longer_than_a_block_is_refused(monkeypatch):
    samples, b = ready()
    query = ProfileQuery.about(*asked_of(samples, b), Products.full(2), EXACT)
    query.check(60, 2)
    monkeypatch.setattr(profile, "LARGEST_QUESTION", 700)
    with pytest.raises(QueryError, match="numbers at once"):
        query.check(60, 2)


def test_a_site_refuses_products_that_are_not_equal_in_its_rows():
    samples, b = ready()
    wrong = Products(np.array([0]), np.array([0]), np.array([0, 0, 0]))
    query = ProfileQuery.about(*asked_of(samples, b), wrong, EXACT)
    with pytest.raises(QueryError, match="differ at this site"):
        query.summands(samples, 1)
    with pytest.raises(QueryError, match="no size factors"):
        query.summands(replace(samples, size_factors=None), 1)


def test_what_a_site_sends_is_as_long_as_the_question_says():
    samples, b = ready()
    asked, means, nodes = asked_of(samples, b)
    for products in (Products.full(2), Products(np.array([0, 0]), np.array([0, 1]), np.array([0, 1, 1]))):
        query = ProfileQuery.about(asked, means, nodes, products, EXACT)
        sent = query.summands(samples, 1)
        assert {name: array.shape for name, array in sent.items()} == query.shapes()
        assert sum(array.size for array in sent.values()) == nodes.values(products.rows.size).sum()


def test_the_narrow_ring_keeps_few_bits_of_the_constants_alone():
    samples, b = ready()
    query = ProfileQuery.about(*asked_of(samples, b), Products.full(2), 24)
    layout = query.layout(3)
    assert [field.fraction_bits for field in layout.fields] == [24, 24, profile.CONSTANT_BITS]
    layout.check_headroom(3)
    assert {field.fraction_bits for field in replace(query, fraction_bits=EXACT).layout(3).fields} == {EXACT}


def test_means_are_those_of_irls_at_the_start(drive):
    samples, b = ready(covariate=True)
    z = samples.counts.T
    start = Moments(z.mean(axis=1), z.var(axis=1, ddof=1), b, np.full(60, 0.3))
    run = drive(samples)
    means = run(fitted_means(np.ones(60, dtype=bool), start, IrlsConfig.deseq2(), NewtonConfig(), linear=False))
    at_start = replace(samples, dispersions=np.full(60, 0.3))
    plan = IrlsConfig(beta_tol=1e-12, ridge=1e-6 / np.log(2) ** 2)
    other = drive(at_start)
    state = other(least_squares_start(np.full(60, Status.ACTIVE, dtype=np.int8), 2, plan))
    state = other(irls(state, plan))
    np.testing.assert_allclose(means.coefficients, state.beta, atol=1e-3)
    assert not means.linear
    assert not means.lost.any()
    assert [query.kind for query in run.queries[:3]] == ["adopt_dispersions", "least_squares", "irls"]


def test_moments_are_those_of_the_pooled_samples(drive, split):
    samples, _ = ready()
    run = drive(*split(samples, thirds(24)))
    asked = np.ones(60, dtype=bool)
    normalisation = run(normalise(asked, 2, 24.0, own_size_factors=True))
    start = run(moments(asked, samples.design.T @ samples.design, 24.0, normalisation))
    z = samples.counts.T.astype(float)
    np.testing.assert_allclose(start.base_means, z.mean(axis=1), rtol=1e-13)
    np.testing.assert_allclose(start.base_variances, z.var(axis=1, ddof=1), rtol=1e-12)
    fitted = np.maximum(start.coefficients @ samples.design.T, 1.0)
    rough = np.maximum((((z - fitted) ** 2 - fitted) / fitted**2).sum(axis=1) / 22, 0.0)
    by_moments = (z.var(axis=1, ddof=1) - z.mean(axis=1)) / z.mean(axis=1) ** 2
    np.testing.assert_allclose(start.start, np.clip(np.minimum(rough, by_moments), 1e-8, 24.0), rtol=1e-9)


def test_no_gene_is_no_question(drive):
    samples, b = ready()
    none = Nodes(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))
    means = Means(b[:0], linear=True, lost=np.zeros(0, dtype=np.int8))
    run = drive(samples)
    fetched = run(fetch_profiles(np.zeros(60, dtype=bool), means, none, Products.full(2)))
    assert not run.queries
    assert fetched.reason.size == 0
