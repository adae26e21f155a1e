"""Cook's distances: against what leaving a sample out does, and the searches for what nobody may see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery
from secirls.algorithms.outliers.cells import Cells, CellsQuery
from secirls.algorithms.outliers.cooks import CooksBoundQuery, cutoff, outliers
from secirls.algorithms.outliers.distances import CooksConfig
from secirls.algorithms.outliers.exceptions import exceptions
from secirls.algorithms.outliers.outlier_replacement import replace_outliers
from secirls.algorithms.outliers.robust_dispersion import Searching, robust_dispersions
from secirls.algorithms.query import Query, QueryError
from secirls.algorithms.regression.betas import Betas, betas
from secirls.algorithms.regression.irls import IrlsConfig, least_squares_start
from secirls.algorithms.regression.unclamped import NewtonConfig
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers.cooks import Fit, cooks_distances, leverages
from secirls.numerics.outliers.trimming import trimmed_mean, trimmed_variance
from secirls.numerics.status import Status
from secirls.presets import R_RIDGE

PLANS = (IrlsConfig.deseq2(), NewtonConfig())


def cooks_plan(**options):
    return CooksConfig(R_RIDGE, searching=Searching(**{"min_kept": 1, **options}))


def two_groups(sizes=(9, 8), genes=60, seed=0, outliers=20):
    """Two groups, size factors, and a sample far out in some genes."""
    random = np.random.default_rng(seed)
    n = sum(sizes)
    design = np.column_stack([np.ones(n), np.repeat([0.0, 1.0], sizes)])
    mean = np.exp(random.uniform(1, 7, genes))
    s, alpha = np.exp(random.normal(0, 0.3, n)), np.full(genes, 0.1)
    counts = random.negative_binomial(10, 1 / (1 + 0.1 * mean * s[:, None])).astype(np.int64)
    for gene in range(outliers):
        counts[random.integers(n), gene] += int(40 * mean[gene])
    return Samples(design, counts.astype(np.int32), s, alpha)


def sites_of(samples, split, parts):
    order = np.arange(samples.n_samples)
    return split(samples, [order[order % parts == part] for part in range(parts)])


def moments(samples):
    z = samples.counts.T / samples.size_factors
    return z.mean(axis=1), z.var(axis=1, ddof=1)


def first_fit(samples):
    start = yield from least_squares_start(np.zeros(samples.n_genes, dtype=np.int8), samples.n_params, PLANS[0])
    return (yield from betas(start, *PLANS))


def found_cells(samples, min_contributors=1):
    rows = np.unique(samples.design, axis=0)
    total = yield CellsQuery(np.zeros(samples.n_genes, dtype=bool), rows)
    n = total["cell_samples"]
    return Cells(
        rows, n, total["cell_sites"], np.array([n[n >= 3].sum(), n[n >= 7].sum()]), samples.n_samples, min_contributors
    )


def stage(samples, plan, min_contributors=1):
    """The first fit, the cells, and its outliers."""
    fit = yield from first_fit(samples)
    cells = yield from found_cells(samples, min_contributors)
    everything = np.ones(samples.n_genes, dtype=bool)
    found = yield from outliers(everything, fit, *moments(samples), cells, plan)
    return fit, cells, found


def pooled_distances(samples, fit):
    """What nobody sees: robust dispersions by sorting, and all distances."""
    z = samples.counts.T / samples.size_factors
    mean = z.mean(axis=1)
    _, cell = np.unique(samples.design, axis=0, return_inverse=True)
    groups = [np.flatnonzero(cell == c) for c in np.unique(cell)]
    variance = np.max([trimmed_variance(z[:, rows]) for rows in groups if rows.size >= 3], axis=0)
    robust = np.maximum((variance - mean) / mean**2, 0.04)
    where = Fit(fit.state.beta, fit.hat_beta, fit.hat_xtwx, R_RIDGE, 0.5)
    return robust, cooks_distances(samples, where, robust)


def test_leverages_add_up_to_the_parameters(fit, split):
    samples = two_groups()
    state = fit(samples)
    where = Fit(state.beta, state.beta, state.xtwx, 1e-6, 0.5)
    parts = [leverages(site, where) for site in sites_of(samples, split, 3)]
    np.testing.assert_allclose(sum(part.sum(axis=1) for part in parts), 2.0, rtol=1e-5)
    assert all(((part > 0) & (part < 1)).all() for part in parts)


def test_the_most_distant_sample_moves_the_coefficients_most_when_left_out(fit, drive):
    samples = two_groups()
    found = drive(samples)(first_fit(samples))
    robust, distance = pooled_distances(samples, found)
    gene = 3
    moved = []
    for out in range(samples.n_samples):
        stay = np.flatnonzero(np.arange(samples.n_samples) != out)
        less = Samples(samples.design[stay], samples.counts[stay], samples.size_factors[stay], samples.dispersions)
        change = fit(less).beta[gene] - found.state.beta[gene]
        moved.append(float(np.sum((samples.design[stay] @ change) ** 2)))
    assert int(np.argmax(moved)) == int(distance[gene].argmax())
    assert distance[gene].max() > cutoff(0.99, 2, samples.n_samples)
    assert (robust >= 0.04).all()


@pytest.mark.parametrize("parts", [1, 3, 5])
@pytest.mark.parametrize("sizes", [(9, 8), (4, 5), (3, 30), (12, 2)])
def test_outliers_are_counted_as_if_all_samples_lay_in_one_place(drive, split, parts, sizes):
    samples = two_groups(sizes)
    fit, cells, found = drive(*sites_of(samples, split, parts))(stage(samples, cooks_plan()))
    robust, distance = pooled_distances(samples, fit)
    flagged = distance > found.cutoff
    size = np.where(samples.design[:, 1] == 0, *sizes)
    expected = [(flagged & group).sum(axis=1) for group in (size > 0, size >= 3, (size >= 3) & (size < 7))]
    np.testing.assert_array_equal(found.counts, np.stack(expected, axis=1))
    assert found.any.sum() >= 5
    asked = np.isfinite(found.robust)
    assert found.asked == asked.sum() >= found.any.sum()
    np.testing.assert_allclose(found.robust[asked], robust[asked], rtol=1e-8)
    assert cells.replaces == (max(sizes) >= 7)


def test_a_wrong_cut_or_scale_would_be_seen(drive, split, monkeypatch):
    samples = two_groups()
    honest = drive(*sites_of(samples, split, 3))(stage(samples, cooks_plan()))[2]
    import secirls.algorithms.outliers.robust_dispersion as stage_file

    monkeypatch.setattr(stage_file, "cell_scale", lambda n: 1.51)
    wrong = drive(*sites_of(samples, split, 3))(stage(samples, cooks_plan()))[2]
    asked = np.isfinite(honest.robust) & (honest.robust > 0.05)
    assert (np.abs(wrong.robust / honest.robust - 1)[asked] > 1e-3).all()


def test_sums_are_the_same_bits_for_any_split_but_for_the_adding(drive, split):
    samples = two_groups()
    answers = []
    for parts in (1, 2, 4):
        fit, _, found = drive(*sites_of(samples, split, parts))(stage(samples, cooks_plan()))
        kept = drive(*sites_of(samples, split, parts))(exceptions(found.any, fit, found, cooks_plan()))
        answers.append((found.counts, kept))
    for counts, kept in answers[1:]:
        np.testing.assert_array_equal(counts, answers[0][0])
        np.testing.assert_array_equal(kept, answers[0][1])


def test_a_shared_cell_that_keeps_too_few_is_never_asked_about(drive, split):
    samples = two_groups((4, 6))
    for min_kept, asked in ((1, {0, 1}), (2, {0, 1}), (3, {1}), (5, set())):
        seen = drive(*sites_of(samples, split, 3))
        _, cells, found = seen(stage(samples, cooks_plan(min_kept=min_kept)))
        cells_asked = {int(c) for query in seen.queries if query.kind in ("below", "between") for c in query.cell}
        assert cells_asked == asked
        if not asked:
            assert found is None
            assert not [query for query in seen.queries if query.kind == "cooks_bound"]
        else:
            assert set(np.flatnonzero(found.left_out)) == {0, 1} - asked
            assert set(np.flatnonzero(cells.selectable(min_kept))) == asked


def test_a_cell_at_too_few_sites_is_never_asked_about(drive, split):
    samples = two_groups((9, 8))
    seen = drive(*split(samples, [np.r_[0:4, 9:12], np.r_[4:9, 12:14], np.r_[14:17]]))
    _, cells, found = seen(stage(samples, cooks_plan(), min_contributors=3))
    assert list(cells.thin) == [True, False]
    assert {int(c) for query in seen.queries if query.kind == "below" for c in query.cell} == {1}
    assert list(found.left_out) == [True, False]
    assert not [query for query in seen.queries if query.kind == "cells_above"]


def crossed(seed):
    """Two factors over four sites: some cells at one site, some at several, and outliers."""
    random = np.random.default_rng(seed)
    n = 44
    batch, condition, site = random.integers(0, 3, n), random.integers(0, 2, n), random.integers(0, 4, n)
    site[(batch == 2) & (condition == 1)] = 3
    design = np.column_stack([np.ones(n), batch == 1, batch == 2, condition]).astype(np.float64)
    mean = np.exp(random.uniform(0, 6, 80))
    s = np.exp(random.normal(0, 0.3, n))
    counts = random.negative_binomial(4, 1 / (1 + 0.25 * mean * s[:, None])).astype(np.int64)
    for gene in range(40):
        counts[random.integers(n), gene] += int(60 * mean[gene])
    samples = Samples(design, counts.astype(np.int32), s, np.full(80, 0.3))
    return samples, [np.flatnonzero(site == k) for k in range(4)]


@pytest.mark.parametrize("seed", [0, 3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
@pytest.mark.parametrize("min_kept", [1, 3, 6])
def test_cells_of_one_site_and_of_several_take_part_as_their_rules_say(drive, split, seed, min_kept):
    samples, parts = crossed(seed)
    fit, cells, found = drive(*split(samples, parts))(stage(samples, cooks_plan(min_kept=min_kept), 2))
    assert cells.lonely.any()
    assert cells.shared.any()
    takes_part = (cells.lonely & (cells.samples >= 3)) | cells.selectable(min_kept)
    np.testing.assert_array_equal(takes_part, (cells.samples >= 3) & ~found.left_out)
    z = samples.counts.T / samples.size_factors
    mean = z.mean(axis=1)
    inside = [(samples.design == row).all(axis=1) for row in cells.rows[takes_part]]
    variance = np.max([trimmed_variance(z[:, rows]) for rows in inside], axis=0)
    robust = np.maximum((variance - mean) / mean**2, 0.04)
    asked = np.isfinite(found.robust)
    np.testing.assert_allclose(found.robust[asked], robust[asked], rtol=1e-8)
    where = Fit(fit.state.beta, fit.hat_beta, fit.hat_xtwx, R_RIDGE, 0.5)
    flagged = cooks_distances(samples, where, robust) > found.cutoff
    size, told = np.zeros(samples.n_samples), np.ones(samples.n_samples, dtype=bool)
    for row, number, away in zip(cells.rows, cells.samples, found.left_out, strict=True):
        size[here := (samples.design == row).all(axis=1)], told[here] = number, not away
    groups = told, told & (size >= 3), told & (size >= 3) & (size < 7)
    np.testing.assert_array_equal(found.counts, np.stack([(flagged & group).sum(axis=1) for group in groups], axis=1))
    assert (flagged & ~told).any() == (min_kept == 6)
    assert found.any.sum() > 5


def test_with_a_numeric_column_a_site_uses_the_cells_among_its_own_rows(drive, split):
    n = 40
    age = np.repeat([30.0, 40.0, 50.0, 61.0, 62.0], (12, 12, 12, 2, 2))
    samples = replace(two_groups((20, 20), seed=4), design=np.column_stack([np.ones(n), age]))
    sites = split(samples, [np.arange(part, n, 2) for part in range(2)])  # cells of 6, 6, 6, 1 and 1 at each
    nothing = np.zeros(0)

    def run():
        fit = yield from first_fit(samples)
        cells = Cells(np.zeros((0, 2)), nothing, nothing, np.array([36.0, 0.0]), n, 3)
        everything = np.ones(samples.n_genes, dtype=bool)
        found = yield from outliers(everything, fit, *moments(samples), cells, cooks_plan(min_kept=3))
        return fit, found

    seen = drive(*sites)
    fit, found = seen(run())
    assert "below" not in {query.kind for query in seen.queries}
    for query in seen.queries:
        if hasattr(query, "rows"):
            assert query.rows.shape == (0, 2)  # no row of anybody's covariates is in a question
    z = samples.counts.T / samples.size_factors
    mean = z.mean(axis=1)
    rows = [np.arange(part, n, 2)[age[part::2] == a] for part in range(2) for a in (30.0, 40.0, 50.0)]
    variance = np.max([trimmed_variance(z[:, inside]) for inside in rows], axis=0)
    robust = np.maximum((variance - mean) / mean**2, 0.04)
    asked = np.isfinite(found.robust)
    np.testing.assert_allclose(found.robust[asked], robust[asked], rtol=1e-8)
    where = Fit(fit.state.beta, fit.hat_beta, fit.hat_xtwx, R_RIDGE, 0.5)
    flagged = cooks_distances(samples, where, robust) > found.cutoff
    expected = [(flagged & group).sum(axis=1) for group in (age > 0, age < 60, age < 60)]
    np.testing.assert_array_equal(found.counts, np.stack(expected, axis=1))


def test_three_against_three_needs_the_rule_of_one_kept(drive, split):
    samples = two_groups((3, 3), outliers=40)
    for min_kept, told in ((1, True), (2, False)):
        _, _, found = drive(*sites_of(samples, split, 3))(stage(samples, cooks_plan(min_kept=min_kept)))
        assert (found is not None) == told


def test_a_gene_without_a_count_at_one_site_is_like_any_other(drive, split):
    samples = two_groups((9, 8))
    counts = samples.counts.copy()
    counts[np.arange(0, 17, 3), ::2] = 0
    samples = replace(samples, counts=np.asfortranarray(counts))
    fit, _, found = drive(*sites_of(samples, split, 3))(stage(samples, cooks_plan()))
    _, distance = pooled_distances(samples, fit)
    np.testing.assert_array_equal(found.counts[:, 0], (distance > found.cutoff).sum(axis=1))


def test_a_design_with_nothing_to_compare_costs_no_round(drive):
    samples = two_groups((2, 2), outliers=0)
    seen = drive(samples)
    _, _, found = seen(stage(samples, cooks_plan()))
    assert found is None
    assert seen.queries[-1].kind == "cells"


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_variance_of_lonely_cells_is_found_to_twelve_digits(drive, split, seed):
    random = np.random.default_rng(seed)
    design = np.eye(4)[np.repeat(np.arange(4), (3, 5, 9, 2))]
    counts = random.negative_binomial(1.3, 1 / (1 + np.exp(random.uniform(0, 9, 80))), size=(19, 80)).astype(np.int32)
    counts[0] += 1
    samples = Samples(design, counts, np.exp(random.normal(0, 0.5, 19)), np.ones(80))
    cell = design.argmax(axis=1)
    sites = split(samples, [np.flatnonzero(cell == site) for site in range(4)])

    def search():
        cells = yield from found_cells(samples)
        everything = np.ones(80, dtype=bool)
        return (yield from robust_dispersions(everything, *moments(samples), cells, Searching()))

    seen = drive(*sites)
    robust = seen(search())
    z = counts.T / samples.size_factors
    mean = z.mean(axis=1)
    variance = np.max([trimmed_variance(z[:, cell == c]) for c in range(3)], axis=0)
    np.testing.assert_allclose(robust, np.maximum((variance - mean) / mean**2, 0.04), rtol=1e-10)
    assert (robust > 0.04).sum() > 20
    assert {query.kind for query in seen.queries} == {"cells", "cells_above"}
    assert len(seen.queries) <= 16


def brute_force(samples, fit, found, genes):
    _, distance = pooled_distances(samples, fit)
    farthest = distance.argmax(axis=1)
    kept = [(samples.counts[:, g] > samples.counts[farthest[g], g]).sum() >= 3 for g in range(samples.n_genes)]
    return genes & np.array(kept)


@pytest.mark.parametrize("seed", range(4))
def test_an_exception_is_decided_as_if_the_count_were_known(drive, split, seed):
    random = np.random.default_rng(seed)
    samples = two_groups((5, 6), genes=300, seed=seed, outliers=60)
    counts = samples.counts.copy()
    alone = random.integers(0, 5, 100)
    counts[:5, 100:200] = 0  # one count among zeros, about as large as those of the other group
    counts[alone, np.arange(100, 200)] = random.integers(30, 90, 100)
    counts[5:, 100:200] = random.integers(50, 70, (6, 100))
    counts[5:8, 150:160] = counts[alone[50:60], np.arange(150, 160)]  # ties with the outlier
    samples = replace(
        samples, counts=np.asfortranarray(counts), dispersions=np.full(300, 0.02), size_factors=np.ones(11)
    )
    sites = sites_of(samples, split, 3)
    fit, _, found = drive(*sites)(stage(samples, cooks_plan()))
    genes = found.filtered(replaced=False)
    seen = drive(*sites)
    kept = seen(exceptions(genes, fit, found, cooks_plan()))
    expected = brute_force(samples, fit, found, genes)
    np.testing.assert_array_equal(kept, expected)
    assert 3 < kept.sum() < genes.sum() - 3
    for query in seen.queries:
        assert not (query.genes & ~genes).any()


def test_no_exception_is_looked_for_where_a_cell_was_left_out(drive, split):
    samples = two_groups((4, 9))
    sites = sites_of(samples, split, 3)
    fit, _, found = drive(*sites)(stage(samples, cooks_plan(min_kept=3)))
    assert found.left_out.any()
    seen = drive(*sites)
    assert not seen(exceptions(found.filtered(replaced=False), fit, found, cooks_plan(min_kept=3))).any()
    assert seen.queries == []


def eligible(sites):
    return np.where(sites > 0, Status.ACTIVE, Status.ALL_ZERO).astype(np.int8)


def replacement(samples, plan=None, alpha=0.3):
    fit, _, found = yield from stage(samples, plan or cooks_plan())

    def again(genes, normalisation):
        assert normalisation.base_means.shape == (genes.sum(),)
        dispersions = np.full(int(genes.sum()), alpha)
        yield AdoptDispersionsQuery(genes, dispersions)
        return dispersions

    refit = yield from replace_outliers(
        fit, samples.dispersions, moments(samples)[0], found, eligible, again, (*PLANS, plan or cooks_plan())
    )
    return fit, found, refit


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("sizes", [(9, 8), (12, 4)])
def test_replaced_counts_are_trimmed_means_and_their_genes_are_fitted_to_them(drive, split, parts, sizes):
    samples = two_groups(sizes)
    counts = samples.counts.copy()
    counts[:, 0] = 0
    counts[1, 0] = 500  # what is left when its one count is replaced: nothing
    samples = replace(samples, counts=np.asfortranarray(counts))
    seen = drive(*sites_of(samples, split, parts))
    fit, found, refit = seen(replacement(samples))
    _, distance = pooled_distances(samples, fit)
    z = samples.counts.T / samples.size_factors
    size = np.where(samples.design[:, 1] == 0, *sizes)
    usual = np.floor(trimmed_mean(z, int(0.2 * samples.n_samples))[:, None] * samples.size_factors)
    expected = np.where((distance > found.cutoff) & (size >= 7), usual, samples.counts.T).T
    kept = np.empty_like(counts)
    for part, site in enumerate(seen.sites):
        kept[np.arange(samples.n_samples) % parts == part] = site.counts
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(refit.genes, found.any)
    assert list(np.flatnonzero(refit.emptied)) == [0]
    np.testing.assert_allclose(refit.base_means, (expected / samples.size_factors[:, None]).mean(axis=0), rtol=1e-13)
    left = refit.genes & ~refit.emptied
    assert (refit.dispersions[left] == 0.3).all()
    assert np.array_equal(refit.dispersions[~refit.genes], samples.dispersions[~refit.genes])
    alone = Samples(samples.design, expected.astype(np.int32), samples.size_factors, np.full(samples.n_genes, 0.3))
    again = drive(alone)(first_fit(alone))
    np.testing.assert_allclose(refit.betas.state.beta[left], again.state.beta[left], rtol=1e-9)
    assert np.array_equal(refit.betas.state.beta[~refit.genes], fit.state.beta[~refit.genes])
    assert refit.betas.state.status[0] == Status.ALL_ZERO


def test_asking_twice_replaces_once(drive, split):
    samples = two_groups()
    seen = drive(*sites_of(samples, split, 3))
    seen(replacement(samples))
    once = [site.counts.copy() for site in seen.sites]
    queries = [query for query in seen.queries if query.kind in ("replace_outliers", "replace_counts")]
    twice = sites_of(samples, split, 3)
    for query in (queries[0], queries[0], queries[1], queries[1]):
        twice = [query.apply(site) for site in twice]
    for site, before in zip(twice, once, strict=True):
        np.testing.assert_array_equal(site.counts, before)


def test_nothing_is_replaced_below_ten_samples_or_in_small_cells(drive, split):
    for sizes in ((4, 5), (5, 6)):
        samples = two_groups(sizes)
        seen = drive(*sites_of(samples, split, 3))
        _, found, refit = seen(replacement(samples))
        assert found.any.any()
        assert not refit.genes.any()
        assert not [query for query in seen.queries if query.kind == "replace_outliers"]


def test_flags_leave_a_site_as_numbers_of_samples_alone(drive, split):
    """Whatever is summed about distances is a whole number between 0 and the samples of the site that sends it."""
    samples = two_groups()
    sites = sites_of(samples, split, 3)
    seen = drive(*sites)
    fit, _, found = seen(stage(samples, cooks_plan()))
    seen(exceptions(found.any, fit, found, cooks_plan()))
    numbers = ("cooks_bound", "outliers", "farther", "larger", "outlier_at_most", "below", "cells_above")
    kinds = set()
    for query in seen.queries:
        for site in sites:
            for name, array in query.summands(site.take(query.genes), 3).items():
                if name in numbers:
                    kinds.add(name)
                    assert np.array_equal(array, np.round(array)), name
                    assert 0 <= array.min() <= array.max() <= site.n_samples, name
                else:
                    assert name in {
                        "xtx",
                        "xty",
                        "samples",
                        "xtwx",
                        "xtwz",
                        "nll",
                        "cell_samples",
                        "cell_sites",
                        "between",
                    }
    assert kinds >= {"cooks_bound", "outliers", "below", "larger", "outlier_at_most"}


def test_a_question_that_does_not_fit_is_refused():
    genes = np.array([True, True, False])
    fields = {
        "beta": np.zeros((2, 2)),
        "hat_beta": np.zeros((2, 2)),
        "hat_xtwx": np.ones((2, 3)),
        "robust": np.full(2, 0.04),
        "cutoff": 4.0,
        "ridge": 1e-6,
        "min_mu": 0.5,
        "steps": np.zeros(0),
        "hat_steps": np.zeros(0),
    }
    CooksBoundQuery(genes, **fields).check(3, 2)
    for name, wrong in (
        ("beta", np.zeros((3, 2))),
        ("hat_xtwx", np.ones((2, 4))),
        ("robust", np.zeros(2)),
        ("cutoff", 0.0),
        ("min_mu", -1.0),
    ):
        with pytest.raises(QueryError):
            CooksBoundQuery(genes, **{**fields, name: wrong}).check(3, 2)
    assert {"cooks_bound", "outliers", "farthest", "larger", "replace_outliers"} <= set(Query.known)


def test_a_fit_is_replaced_gene_by_gene(drive):
    samples = two_groups()
    found = drive(samples)(first_fit(samples))
    other = Betas(found.state, found.hat_beta + 1, found.hat_xtwx + 1, found.hat_steps)
    some = np.arange(samples.n_genes) % 2 == 0
    mixed = found.replaced(other, some)
    assert np.array_equal(mixed.hat_beta[some], other.hat_beta[some])
    assert np.array_equal(mixed.hat_xtwx[~some], found.hat_xtwx[~some])
