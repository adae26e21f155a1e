"""Size factors, base means and moments dispersions by sums over sites equal the pooled estimates."""

import numpy as np
import pytest
from pydeseq2.preprocessing import deseq2_norm
from pydeseq2.utils import fit_moments_dispersions, fit_rough_dispersions

from secirls.algorithms.dispersion.dispersions import (
    MAX_DISPERSION,
    MIN_DISPERSION,
    AdoptDispersionsQuery,
    moments_dispersions,
)
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import (
    LogCountsQuery,
    LogSizeQuery,
    NoCommonGeneError,
    NormalisedQuery,
    PositiveNormalisedQuery,
    normalise,
)
from secirls.algorithms.query import QueryError, Total
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import kernels

BEYOND = [0.0, -1.0, np.nan, np.inf, 1e-320, np.nextafter(1e-8, 0), np.nextafter(1e5, np.inf), 1e300]
"""Dispersions that no estimate is."""


@pytest.fixture(scope="module")
def airway():
    from secirls.inputs.datasets import airway_counts, airway_obs

    counts = airway_counts().to_numpy()
    counts = counts[:, (counts > 0).sum(axis=0) >= 5]
    design = np.column_stack([np.ones(8), (airway_obs()["condition"] == "trt").to_numpy(float)])
    return counts, design


def split(counts, design, cuts=(2, 4, 6)):
    return [
        Samples(X, y) for X, y in zip(np.split(design, cuts), np.split(counts, cuts), strict=True)
    ]  # one per cell line


def drive(algorithm, sites):
    """Run an algorithm on plain float sums; gives its result and what the sites keep."""
    total = None
    while True:
        try:
            query = next(algorithm) if total is None else algorithm.send(total)
        except StopIteration as stop:
            return stop.value, sites
        query.check(sites[0].n_genes, sites[0].n_params)
        sites = [query.apply(site) for site in sites]
        answers = [query.summands(site.take(query.genes), len(sites)) for site in sites]
        assert {name: array.shape for name, array in answers[0].items()} == query.shapes()
        names = tuple(map(str, range(len(sites))))
        total = Total({name: sum(answer[name] for answer in answers) for name in answers[0]}, names, names)


def test_size_factors_are_the_pooled_median_of_ratios(airway):
    counts, design = airway
    genes = np.ones(counts.shape[1], dtype=bool)
    _, sites = drive(normalise(genes, 2, 8.0, own_size_factors=False), split(counts, design))
    federated = np.concatenate([site.size_factors for site in sites])
    assert np.allclose(federated, deseq2_norm(counts)[1], rtol=1e-13, atol=0)


def test_base_means_and_given_size_factors(airway):
    counts, design = airway
    s = np.linspace(0.5, 2.0, 8)
    sites = [
        Samples(X, y, size_factors=f)
        for X, y, f in zip(*(np.split(a, (2, 4, 6)) for a in (design, counts, s)), strict=True)
    ]
    genes = np.arange(counts.shape[1]) % 3 == 0
    found, kept = drive(normalise(genes, 2, 8.0, own_size_factors=True), sites)
    assert np.allclose(found.base_means, (counts / s[:, None]).mean(axis=0)[genes], rtol=1e-13, atol=0)
    assert found.mean_inverse_size_factor == pytest.approx((1 / s).mean(), rel=1e-14)
    assert all(after.size_factors is before.size_factors for after, before in zip(kept, sites, strict=True))


def test_dispersions_are_the_smaller_of_pydeseq2s_two_moment_estimates(airway):
    counts, design = airway
    import pandas as pd

    genes = np.ones(counts.shape[1], dtype=bool)
    normalisation, sites = drive(normalise(genes, 2, 8.0, own_size_factors=False), split(counts, design))
    federated, sites = drive(moments_dispersions(genes, design.T @ design, 8.0, normalisation), sites)
    normed, s = deseq2_norm(counts)
    pooled = np.minimum(fit_rough_dispersions(normed, pd.DataFrame(design)), fit_moments_dispersions(normed, s))
    pooled = np.clip(pooled, MIN_DISPERSION, max(MAX_DISPERSION, 8))
    assert np.allclose(federated, pooled, rtol=1e-9, atol=1e-14)
    for site in sites:
        assert np.array_equal(site.dispersions, federated)


def test_dispersions_of_other_genes_stay(airway):
    counts, design = airway
    some = np.arange(counts.shape[1]) % 2 == 0
    site = Samples(design, counts, dispersions=np.full(counts.shape[1], 0.5))
    after = AdoptDispersionsQuery(some, np.full(some.sum(), 0.1)).apply(site)
    assert (after.dispersions[some] == 0.1).all()
    assert (after.dispersions[~some] == 0.5).all()
    assert (site.dispersions == 0.5).all()


def test_census_counts_sites_not_samples(airway):
    counts, design = airway
    counts = counts.copy()
    counts[0:2, 0] = 0  # absent at the first site
    counts[2, 1] = 0  # absent in one of two samples of the second
    answers = [CensusQuery(np.ones(counts.shape[1], bool), 2).summands(site, 4) for site in split(counts, design)]
    presence = sum(answer["presence"] for answer in answers)
    assert presence[0] == (counts[:, 0].reshape(4, 2) > 0).any(axis=1).sum() <= 3
    assert presence[1] == (counts[:, 1].reshape(4, 2) > 0).any(axis=1).sum()
    assert np.array_equal(sum(answer["xtx"] for answer in answers), design.T @ design)


def test_no_gene_in_every_sample_is_said():
    counts = np.array([[0, 1], [1, 0], [2, 3]])
    with pytest.raises(NoCommonGeneError):
        drive(normalise(np.ones(2, bool), 1, 3.0, own_size_factors=False), split(counts, np.ones((3, 1)), (1, 2)))


def with_zeros():
    """Every gene has a zero somewhere; the last has no count at all."""
    counts = np.random.default_rng(0).negative_binomial(2, 0.05, size=(7, 40))
    counts[np.arange(40) % 7, np.arange(40)] = 0
    counts[:, -1] = 0
    return counts, np.ones((7, 1))


def test_genes_of_ones_alone_count_among_positive_counts_in_r_and_not_in_pydeseq2():
    counts, design = with_zeros()
    counts[:, :20] = np.random.default_rng(1).random((7, 20)) < 0.5
    logs = np.log(np.maximum(counts, 1))
    means = logs.mean(axis=0)
    for counts_of_one in (True, False):
        usable = (counts.any(axis=0) if counts_of_one else means > 0) & (counts > 0)
        expected = np.array([np.exp(np.median((log - means)[which])) for log, which in zip(logs, usable, strict=True)])
        options = {"own_size_factors": False, "estimate": "poscounts", "counts_of_one": counts_of_one}
        _, sites = drive(normalise(np.ones(40, bool), 1, 7.0, **options), split(counts, design, (2, 5)))
        made = np.concatenate([site.size_factors for site in sites])
        np.testing.assert_allclose(made, expected / np.exp(np.log(expected).mean()), rtol=1e-12)


def test_positive_counts_give_size_factors_where_every_gene_has_a_zero():
    counts, design = with_zeros()
    genes = np.ones(40, dtype=bool)
    found, sites = drive(
        normalise(genes, 1, 7.0, own_size_factors=False, estimate="poscounts"), split(counts, design, (2, 5))
    )
    s = np.concatenate([site.size_factors for site in sites])
    logs = np.where(counts > 0, np.log(np.maximum(counts, 1)), 0.0).sum(axis=0) / 7
    pooled = np.array([np.exp(np.median(np.log(y[y > 0]) - logs[y > 0])) for y in counts])
    pooled /= np.exp(np.log(pooled).mean())
    assert np.allclose(s, pooled, rtol=1e-14, atol=0)
    assert np.log(s).sum() == pytest.approx(0, abs=1e-12)
    assert np.allclose(found.base_means, (counts / s[:, None]).mean(axis=0), rtol=1e-14, atol=0)
    kept = [PositiveNormalisedQuery(genes, logs, counts.any(axis=0), 1, log_scale=0.1) for _ in range(2)]
    once = kept[0].apply(sites[0])
    assert np.array_equal(kept[1].apply(once).size_factors, once.size_factors)


def test_control_genes_alone_give_the_size_factors(airway):
    counts, design = airway
    genes, control = np.arange(counts.shape[1]) % 4 != 1, np.arange(counts.shape[1]) % 3 == 0
    for estimate in ("ratio", "poscounts"):
        options = {"own_size_factors": False, "estimate": estimate}
        found, sites = drive(normalise(genes, 2, 8.0, control=control, **options), split(counts, design))
        both = counts[:, genes & control]
        ones = np.ones(both.shape[1], dtype=bool)
        _, alone = drive(normalise(ones, 2, 8.0, **options), split(both, design))
        for site, other in zip(sites, alone, strict=True):
            assert np.array_equal(site.size_factors, other.size_factors)
        assert found.base_means.shape == (genes.sum(),)
        _, all_genes = drive(normalise(genes, 2, 8.0, **options), split(counts, design))
        assert not np.allclose(sites[0].size_factors, all_genes[0].size_factors, rtol=1e-6)
    with pytest.raises(NoCommonGeneError, match="control"):
        drive(normalise(genes, 2, 8.0, own_size_factors=False, control=~genes), split(counts, design))


def test_one_number_is_summed_for_the_scale():
    counts, _ = with_zeros()
    query = LogSizeQuery(np.ones(40, bool), np.zeros(40), np.ones(40, bool))
    assert query.shapes() == {"log_size": (1,)}
    empty = query.summands(Samples(np.ones((2, 1)), np.stack([counts[0], 0 * counts[0]])), 3)
    assert query.lost(Total(query.signed(empty, 3), ("a",), ("a", "b", "c"))).all()


@pytest.mark.parametrize(
    "query",
    [
        LogSizeQuery(np.ones(4, bool), np.zeros(3), np.ones(4, bool)),
        LogSizeQuery(np.ones(4, bool), np.zeros(4), np.zeros(4, bool)),
        PositiveNormalisedQuery(np.ones(4, bool), np.zeros(0), np.zeros(0, bool), 2, log_scale=0.0),
        PositiveNormalisedQuery(np.ones(4, bool), np.zeros(4), np.ones(4, bool), 2, log_scale=1e300),
        CensusQuery(np.ones(3, bool), 2),
        CensusQuery(np.ones(4, bool), 3),
        LogCountsQuery(np.ones(5, bool)),
        NormalisedQuery(np.ones(4, bool), np.zeros(3), np.ones(3, bool), 2),
        NormalisedQuery(np.ones(4, bool), np.zeros(4), np.zeros(4, bool), 2),
        *(AdoptDispersionsQuery(np.ones(4, bool), np.array([1.0, 1e-8, 1e5, alpha])) for alpha in BEYOND),
        AdoptDispersionsQuery(np.ones(4, bool), np.ones(3)),
    ],
)
def test_a_query_that_does_not_fit_is_refused(query):
    with pytest.raises(QueryError):
        query.check(4, 2)


def test_dispersions_are_those_that_the_likelihood_has_its_digits_for():
    some = np.ones(3, bool)
    AdoptDispersionsQuery(some, np.array([1e-8, 1.0, 1e5])).check(3, 2)
    for alpha in BEYOND:
        with pytest.raises(QueryError, match="one dispersion from 1e-08 to 100000 is needed per gene asked about"):
            AdoptDispersionsQuery(some, np.array([1.0, alpha, 1.0])).check(3, 2)


@pytest.mark.parametrize("alpha", [1e-320, 1e300])
def test_a_site_that_takes_any_above_zero_has_no_likelihood_left(alpha):
    taken = Samples(np.ones((4, 1)), np.full((4, 1), 7, np.int32), np.ones(4), np.array([alpha]))
    with np.errstate(all="ignore"):
        assert not np.isfinite(kernels.summands(taken, np.zeros((1, 1)), 0.5).nll).any()
