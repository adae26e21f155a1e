"""Trimmed means by counting equal trimmed means by sorting, and nothing is counted that should not be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secirls.algorithms.outliers.selection import BelowQuery, BetweenQuery, Wanted, finer, trimmed_means
from secirls.algorithms.query import QueryError
from secirls.numerics.arithmetic.float_order import at, between, place
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers.trimming import REPLACEMENT_SHARE, cell_cut, cell_scale, cut, trimmed_mean


def counts_of(n, genes, seed):
    """Counts from ones and twos to thousands; the last eight genes are zeros, constants, ties and single counts."""
    random = np.random.default_rng(seed)
    mean = 10 ** random.uniform(-1, 5, genes)
    counts = random.negative_binomial(1 / random.uniform(0.05, 3), 1 / (1 + 0.3 * mean), size=(n, genes))
    odd = counts[:, -8:]
    odd[:, :4] = random.integers(0, 3, (n, 4))
    odd[:, 4], odd[:, 5], odd[:, 6] = 5, 0, 7
    odd[0, 5], odd[0, 6] = 4, 1000
    odd[:, 7] = np.arange(n) // 2
    counts[0, counts.sum(axis=0) == 0] = 1
    return counts.astype(np.int32)


def wanted(samples, g, *, centre=None, cell=0):
    genes, n = samples.n_genes, samples.n_samples
    z = samples.counts.T / samples.size_factors
    mean = z.mean(axis=1)
    variance = np.maximum(z.var(axis=1, ddof=1), mean)
    top = n * mean * (1 + 1e-9)
    return Wanted(
        genes=np.ones(genes, dtype=bool),
        rows=np.ones((1, 1)),
        gene=np.arange(genes),
        cell=np.full(genes, cell),
        samples=np.full(genes, n),
        cut=np.full(genes, g),
        scale=mean if centre is None else variance,
        top=top if centre is None else top**2,
        centre=np.zeros(0) if centre is None else centre,
    )


def both(samples, g):
    means = yield from trimmed_means(wanted(samples, g))
    squares = yield from trimmed_means(wanted(samples, g, centre=means))
    return means, squares


def gaps(samples, found, g):
    """Largest error of means, and of squares beside what Poisson noise and the smallest dispersion give anyway."""
    z = samples.counts.T / samples.size_factors
    mean = z.mean(axis=1)
    means = trimmed_mean(z, g)
    squares = trimmed_mean((z - means[:, None]) ** 2, g)
    noise = mean + 0.04 * mean**2
    return np.max(np.abs(found[0] - means) / np.maximum(means, 1e-3 * mean)), np.max(np.abs(found[1] - squares) / noise)


def site_parts(samples, parts):
    order = np.arange(samples.n_samples)
    return [order[order % parts == part] for part in range(parts)]


@pytest.mark.parametrize(
    "n", [pytest.param(n, marks=[pytest.mark.slow] if n > 24 and n % 6 else []) for n in range(3, 61)]
)
def test_selection_equals_sorting(drive, split, n):
    random = np.random.default_rng(n)
    s = np.exp(random.normal(0, 0.4, n)) if n % 2 else np.ones(n)
    samples = Samples(np.ones((n, 1)), counts_of(n, 40, n), s)
    seen = drive(*split(samples, site_parts(samples, 3)))
    error = gaps(samples, seen(both(samples, cell_cut(n))), cell_cut(n))
    assert max(error) <= 3e-10
    searches = searched(seen.queries)
    assert len(searches) == 2
    for asked in searches:
        assert len(asked) <= 11
        # With many thresholds in a wide bracket the distribution of a cell would be read off a single round.
        assert [query.thresholds.shape[1] for query in asked[:3]] == [7] * len(asked[:3])
        assert all(query.thresholds.shape[1] == 63 for query in asked[3:])


def searched(queries):
    """The counts of every search, which ends with a sum of what lies between."""
    searches = [[]]
    for query in queries:
        if query.kind == "below":
            searches[-1].append(query)
        elif searches[-1]:
            searches.append([])
    return searches[:-1]


@pytest.mark.parametrize(("asks", "points"), [(1, 63), (250, 63), (500, 31), (1000, 15), (3000, 7), (1 << 20, 7)])
def test_a_round_has_no_more_numbers_than_one_of_irls(asks, points):
    assert finer(7, asks) == points
    assert asks * points <= 1 << 14 or points == 7
    assert finer(15, asks) >= 15


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])  # a class: nothing to reset
@given(
    st.lists(st.one_of(st.integers(0, 4), st.integers(0, 2**31 - 1)), min_size=3, max_size=40).filter(any),
    st.booleans(),
)
def test_selection_equals_sorting_for_any_counts(drive, values, scaled):
    n = len(values)
    s = np.linspace(0.3, 2.5, n) if scaled else np.ones(n)
    samples = Samples(np.ones((n, 1)), np.array(values, dtype=np.int32)[:, None], s)
    assert max(gaps(samples, drive(samples)(both(samples, cell_cut(n))), cell_cut(n))) <= 1e-9


@pytest.mark.parametrize("n", [10, 11, 60])
def test_the_mean_that_replaces_outliers_is_over_all_cells(drive, split, n):
    samples = Samples(np.ones((n, 1)), counts_of(n, 30, n), np.linspace(0.5, 2, n))
    g = cut(n, REPLACEMENT_SHARE)
    found = drive(*split(samples, site_parts(samples, 4)))(trimmed_means(wanted(samples, g, cell=1)))
    np.testing.assert_allclose(found, trimmed_mean(samples.counts.T / samples.size_factors, g), rtol=1e-9, atol=1e-9)


def test_squares_of_the_largest_counts_can_be_sent(drive, split):
    random = np.random.default_rng(0)
    counts = random.integers(2**29, 2**31 - 1, (30, 6)).astype(np.int32)
    samples = Samples(np.ones((30, 1)), counts, np.linspace(0.2, 2, 30))
    seen = drive(*split(samples, site_parts(samples, 3)))  # refuses what a real site could not send
    assert max(gaps(samples, seen(both(samples, cell_cut(30))), cell_cut(30))) <= 3e-10


def test_a_cut_one_value_off_or_a_careless_bracket_would_be_seen(drive, monkeypatch):
    samples = Samples(np.ones((20, 1)), counts_of(20, 40, 5), np.linspace(0.5, 2, 20))
    g = cell_cut(20)
    assert max(gaps(samples, drive(samples)(both(samples, g - 1)), g)) > 1e-3
    import secirls.algorithms.outliers.selection as stage

    monkeypatch.setattr(stage, "NARROW", 1e-4)
    ties = Samples(samples.design, samples.counts, np.ones(20))
    assert max(gaps(ties, drive(ties)(both(ties, g)), g)) > 1e-7


def test_shares_and_scales_are_those_of_deseq2():
    assert [cell_cut(n) for n in (3, 4, 7, 8, 23, 24, 31, 32, 90)] == [1, 1, 1, 2, 5, 3, 3, 4, 11]
    assert [cell_scale(n) for n in (3, 4, 23, 24, 500)] == [2.04, 1.86, 1.86, 1.51, 1.51]
    assert [cut(n, REPLACEMENT_SHARE) for n in (10, 14, 15, 170)] == [2, 2, 3, 34]


def test_points_between_floats_need_no_logarithm():
    low, high = np.array([0.0, 1.0, 3.0, 1e-300]), np.array([1.0, 1.5, 3.0, 1e300])
    points = between(low, high, 15)
    assert (np.diff(points, axis=1) >= 0).all()
    assert ((points >= low[:, None]) & (points <= high[:, None])).all()
    np.testing.assert_allclose(points[1], np.linspace(1, 1.5, 17)[1:-1], rtol=1e-15)
    assert np.array_equal(at(place(points)), points)
    assert (place(np.nextafter(high, np.inf)) == place(high) + 1).all()
    ratios = points[3, 1:] / points[3, :-1]
    assert ratios.max() / ratios.min() < 4


def test_an_ask_that_does_not_fit_is_refused():
    genes = np.array([True, True, False])
    fields = {
        "rows": np.eye(2),
        "gene": np.array([0.0, 1.0]),
        "cell": np.array([0.0, 2.0]),
        "centre": np.zeros(0),
        "thresholds": np.zeros((2, 3)),
    }
    BelowQuery(genes, **fields).check(3, 2)
    for name, wrong in (
        ("rows", np.ones((2, 2))),
        ("rows", np.eye(3)),
        ("gene", np.array([0.0, 2.0])),
        ("gene", np.array([0.0, 0.5])),
        ("cell", np.array([0.0, 3.0])),
        ("cell", np.array([-1.0, 0.0])),
        ("centre", np.zeros(3)),
        ("thresholds", np.zeros((3, 3))),
    ):
        with pytest.raises(QueryError):
            BelowQuery(genes, **{**fields, name: wrong}).check(3, 2)
    del fields["thresholds"]
    BetweenQuery(genes, **fields, low=np.zeros(2), high=np.ones(2), unit=np.ones(2)).check(3, 2)
    for low, unit in ((np.zeros(1), np.ones(2)), (np.zeros(2), np.full(2, 3.0)), (np.zeros(2), np.zeros(2))):
        with pytest.raises(QueryError):
            BetweenQuery(genes, **fields, low=low, high=np.ones(2), unit=unit).check(3, 2)
