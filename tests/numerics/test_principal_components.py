"""Principal components by products with few directions: beside the SVD in the clear, and what those products show.

Attacks stand beside the rules that hold them off: with a direction for every degree of freedom S is known, and with it
all products of samples; a sample that most of a direction is shows as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secirls.algorithms.components import component_queries
from secirls.algorithms.components.component_queries import (
    Scale,
    VstDominatedQuery,
    VstProductsQuery,
    VstQuery,
    VstSquaresQuery,
)
from secirls.algorithms.components.principal_components import Ending, Plan, principal_components
from secirls.numerics.algebra import subspace
from secirls.numerics.held.samples import Samples

SITES, EACH, GENES, SAMPLES = 4, 12, 160, 48
DEGREES = SAMPLES - SITES
SCALE = Scale(np.array([0.05, 2.0, 0.0]), np.zeros((3, 0)), np.zeros(0), 1.0)
ALL = np.ones(GENES, dtype=bool)
PLAN = Plan(components=2, genes=100)
OPEN = replace(PLAN, directions_per_sample=1.0, sample_share=1.0, tolerance=1e-300)
"""Without the rules, to the last direction."""


def made(seed=2, *, between=0.8, within=(0.9, 0.6), outlier=0.0):
    """Sites of counts around two factors within sites and a shift of every site; ``outlier``: what one sample adds.

    Other seeds are other samples of the same population.
    """
    population, rng = np.random.default_rng(0), np.random.default_rng(seed)
    base, loads = population.uniform(4, 7, GENES), population.normal(size=(2, GENES))
    own = outlier * rng.normal(size=GENES)
    found = []
    for site in range(SITES):
        factors = rng.normal(size=(EACH, 2)) * within
        logs = base + between * rng.normal(size=GENES) + factors @ loads * 0.5
        logs[0] += own * (site == 1)
        s = np.exp(0.2 * rng.normal(size=EACH))
        mu = np.exp(logs) * s[:, None]
        counts = rng.poisson(mu * rng.gamma(20, 0.05, mu.shape)).astype(np.int32)
        found.append(Samples(np.ones((EACH, 1)), counts, s))
    return found


def centred(sites, at=lambda x: x.mean(axis=0)):
    """VST values less ``at``'s, over all samples, ``(samples, genes)``."""
    return np.vstack([x - at(x) for x in (SCALE(site.counts / site.size_factors[:, None]) for site in sites)])


def leading(x, k=2):
    return np.linalg.svd(x, full_matrices=False)[2][:k].T


def sine(a, b):
    """Of the largest angle between what two sets of orthonormal columns span."""
    return np.linalg.norm(a - b @ (b.T @ a), 2)


class Overheard:
    """Components of sites, and all products with directions that were opened."""

    def __init__(self, drive, sites, plan=PLAN, genes=ALL, degrees=DEGREES):
        self.drive = drive(*sites)
        self.totals = []
        answer = self.drive.answer
        self.drive.answer = lambda query: self.totals.append(answer(query)) or self.totals[-1]
        self.found = self.drive(principal_components(plan, SCALE, genes, degrees))
        both = [(q, t) for q, t in zip(self.drive.queries, self.totals, strict=True) if q.kind == "vst_products"]
        self.opened = [(q, t["products"]) for q, t in both if not q.lost(t).any()]
        if self.opened:
            self.basis = np.hstack([q.basis[:, -q.asked :] for q, _ in self.opened])
            self.products = np.hstack([products for _, products in self.opened])

    def approximation(self):
        """All that follows of S, and nothing else (Nystroem)."""
        gram = self.basis.T @ self.products
        return self.products @ np.linalg.pinv(gram, rcond=1e-11, hermitian=True) @ self.products.T


@pytest.fixture
def overheard(drive):
    return lambda sites, plan=PLAN: Overheard(drive, sites, plan)


class TestBesideTheSvd:
    @pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
    def test_it_is_the_svd_of_the_pooled_values_centred_within_sites(self, overheard, tolerance):
        """The angle is estimated: the next eigenvalue may be nearer than it seems. A factor of two is left for that."""
        sites = made()
        heard = overheard(sites, replace(PLAN, tolerance=tolerance, directions_per_sample=0.5, sample_share=0.9))
        found = heard.found
        x = centred(sites)[:, found.genes]
        values = np.linalg.svd(x, compute_uv=False) ** 2 / (SAMPLES - SITES)
        assert found.ending == Ending.CONVERGED
        assert found.angle <= tolerance
        assert sine(found.loadings, leading(x)) < 2 * tolerance
        assert np.allclose(found.variances, values[:2], rtol=2 * tolerance**2 + 1e-12)
        assert np.isclose(found.total, values.sum(), rtol=1e-12)
        assert np.allclose(found.loadings.T @ found.loadings, np.eye(2), atol=1e-12)
        assert (found.loadings[np.abs(found.loadings).argmax(axis=0), [0, 1]] > 0).all()

    def test_without_centring_it_would_be_the_differences_of_sites(self, overheard, monkeypatch):
        """The twin: components then follow site means, and tell them."""
        sites, plan = made(between=3.0), replace(PLAN, sample_share=1.0, directions_per_sample=0.5)
        honest = overheard(sites, plan).found

        def whole(self, samples):
            return self.scale(samples.counts.T / samples.size_factors) - 7.0

        monkeypatch.setattr(VstQuery, "residuals", whole)
        twin = overheard(sites, plan).found
        means = np.array([SCALE(site.counts / site.size_factors[:, None]).mean(axis=0) for site in sites])
        between = {}
        for name, found in (("honest", honest), ("twin", twin)):
            span = leading((means - 7.0)[:, found.genes], SITES)
            between[name] = np.linalg.norm(span.T @ found.loadings, 2)
        assert between["twin"] > 0.98
        assert between["honest"] < 0.6
        assert sine(honest.loadings, leading(centred(sites)[:, honest.genes])) < 2e-2
        assert sine(twin.loadings, leading(centred(sites)[:, twin.genes])) > 0.5

    def test_genes_are_those_of_largest_variance(self, overheard):
        sites = made()
        squares = (centred(sites) ** 2).sum(axis=0)
        assert np.array_equal(overheard(sites).found.genes, np.sort(np.argsort(-squares)[:100]))

    def test_no_site_is_told_from_another(self, overheard):
        """Files changed hands: the same numbers but for rounding."""
        sites = made()
        one, other = overheard(sites).found, overheard(sites[::-1]).found
        assert np.allclose(one.loadings, other.loadings, atol=1e-9)

    def test_a_gene_has_the_same_bits_in_any_company(self):
        site = made()[0]
        some = np.arange(GENES) % 7 == 3
        whole = VstSquaresQuery(ALL, *SCALE.fields).summands(site, 3)["squares"]
        part = VstSquaresQuery(some, *SCALE.fields).summands(site.take(some), 3)["squares"]
        assert np.array_equal(whole[some], part)

    @pytest.mark.parametrize("factor", [np.nan, 0.0, np.inf, 5e-324])
    def test_a_sample_without_a_size_factor_loses_its_genes(self, factor):
        """By a local trend too, whose integral is looked up; an error would tell."""
        local = np.array([[0.0, 5.0], [-1.0, -2.0], [0.0, 0.0]])
        site = made()[0]
        site = replace(site, size_factors=np.where(np.arange(EACH) == 3, factor, site.size_factors))
        for scale in (SCALE, Scale(np.zeros(3), local, np.array([1.0, 10.0, 100.0]), 1.0)):
            query = VstSquaresQuery(ALL, *scale.fields)
            query.check(GENES, 1)
            assert np.isnan(query.summands(site, 3)["squares"]).all()

    def test_replaced_counts_are_not_looked_at(self):
        site = made()[0]
        other = replace(site, replacement=np.asfortranarray(site.counts[::-1]))
        some, more = np.arange(GENES) < 9, np.arange(GENES) % 2 == 0
        changed = other.with_replaced(some).with_replaced(more)
        assert not np.array_equal(changed.counts, site.counts)
        back = VstSquaresQuery(ALL, *SCALE.fields).apply(changed)
        assert np.array_equal(back.counts, site.counts)
        assert back.filed is None
        assert np.array_equal(changed.counts[:, 20], other.replacement[:, 20])


class TestWithoutAnAnswer:
    def test_few_samples_end_it_before_anything_is_asked(self, overheard):
        heard = overheard(made(), replace(PLAN, directions_per_sample=0.13))
        assert heard.found.ending == Ending.FEW_SAMPLES
        assert heard.found.degrees == DEGREES
        assert not heard.drive.queries

    @pytest.mark.parametrize(("share", "least"), [(0.2, 30), (0.3, 20), (1.0, 6), (0.07, 86), (1e-320, 1 << 53)])
    def test_the_fewest_that_suffice_are_those_that_it_begins_with(self, share, least):
        plan = replace(PLAN, directions_per_sample=share)
        assert plan.least_degrees == least
        assert plan.limit(least - 1) < plan.least
        assert plan.limit(least) >= plan.least or least == 1 << 53

    def test_the_limit_is_kept(self, overheard):
        heard = overheard(made(), replace(PLAN, tolerance=1e-12, sample_share=1.0))
        assert heard.found.ending == Ending.LIMIT
        assert heard.found.directions == heard.products.shape[1] == 8

    def test_what_is_far_from_the_answer_is_not_given(self, overheard):
        found = overheard(made(within=(0.0, 0.0)), replace(PLAN, tolerance=1e-12, sample_share=1.0)).found
        assert found.ending == Ending.LIMIT
        assert not found.loadings.size

    def test_a_trend_that_gives_no_transform_asks_nothing(self, drive):
        flat = replace(SCALE, trend=np.zeros(3))
        heard = drive(*made())
        assert heard(principal_components(PLAN, flat, ALL, DEGREES)).ending == Ending.NO_TRANSFORM
        assert not heard.queries

    def test_a_site_that_falls_silent_ends_it(self, drive):
        heard = drive(*made())
        heard.silent = {3: {1}}
        found = heard(principal_components(PLAN, SCALE, ALL, DEGREES))
        assert found.ending == Ending.NOT_ALL
        assert not found.loadings.size

    def test_lost_genes_are_left_out(self, drive):
        sites, heard = made(), drive(*made())
        answer = heard.summands

        def spoilt(site, query):
            told = answer(site, query)
            if query.kind == "vst_squares" and site == 2:
                told["squares"][5] = np.nan
            return told

        heard.summands = spoilt
        found = heard(principal_components(replace(PLAN, genes=GENES - 1), SCALE, ALL, DEGREES))
        assert 5 not in found.genes
        assert found.genes.size == GENES - 1
        assert sine(found.loadings, leading(centred(sites)[:, found.genes])) < 2e-2


class TestAsManyDirectionsAsSamples:
    """What the limit on directions holds off."""

    def test_without_a_limit_all_products_of_samples_follow(self, overheard):
        sites = made()
        heard = overheard(sites, OPEN)
        x = centred(sites)[:, heard.found.genes]
        S = x.T @ x
        assert np.linalg.norm(heard.approximation() - S) < 1e-8 * np.linalg.norm(S)
        values = np.linalg.eigvalsh(heard.approximation())[::-1][: SAMPLES - SITES]
        assert np.allclose(values, np.linalg.eigvalsh(x @ x.T)[::-1][: SAMPLES - SITES], rtol=1e-6)

    def test_with_the_limit_most_of_them_stay_unknown(self, overheard):
        sites = made()
        heard = overheard(sites, replace(PLAN, tolerance=1e-12))
        x = centred(sites)[:, heard.found.genes]
        S = x.T @ x
        values = np.linalg.eigvalsh(S)[::-1]
        # Nobody who knows m directions alone does better than to leave out the others.
        assert np.linalg.norm(heard.approximation() - S) >= 0.99 * np.linalg.norm(values[heard.products.shape[1] :])
        assert np.linalg.matrix_rank(heard.approximation(), 1e-6 * values[0]) <= 8

    @pytest.mark.parametrize(("plan", "known"), [(OPEN, True), (replace(PLAN, tolerance=1e-12), False)])
    def test_who_was_in_the_study(self, overheard, plan, known):
        """The difference of two samples of a site lies in the span of S: known, it tells members from all others.

        As the probability that a pair of members is nearer to what was opened than a pair of others.
        """
        sites, others = made(), made(seed=5)
        heard = overheard(sites, plan)
        span = np.linalg.svd(heard.products, full_matrices=False)[0]

        def outside(some):
            x = np.vstack([np.diff(SCALE(s.counts / s.size_factors[:, None]), axis=0) for s in some])
            x = x[:, heard.found.genes]
            return np.linalg.norm(x - (x @ span) @ span.T, axis=1) / np.linalg.norm(x, axis=1)

        members, strangers = outside(sites), outside(others)
        told = (members[:, None] < strangers).mean()
        assert told == 1.0 if known else told < 0.7
        assert (members.max() < 1e-4) == known

    @pytest.mark.parametrize(("share", "least", "most"), [(0.2, 0.6, 0.8), (0.5, 0.9, 0.98), (0.9, 0.999, 1.0)])
    def test_which_half_of_real_patients(self, drive, shared_data, share, least, most):
        """As above: half of every region's patients were in it. What may be opened at most is opened."""
        import anndata

        whole, rng = anndata.read_h5ad(shared_data / "tcga_brca" / "tcga_brca.h5ad"), np.random.default_rng(0)
        counts, regions = np.asarray(whole.X), whole.obs["site"].to_numpy()
        some = np.flatnonzero((counts > 0).all(axis=0))[::5]
        s = counts.sum(axis=1) / counts.sum(axis=1).mean()
        members, strangers = [], []
        for region in np.unique(regions):
            mine = rng.permutation(np.flatnonzero(regions == region))
            for half, rows in ((members, mine[: mine.size // 2]), (strangers, mine[mine.size // 2 :])):
                half.append(Samples(np.ones((rows.size, 1)), counts[rows][:, some].astype(np.int32), s[rows]))
        plan = Plan(2, 500, tolerance=1e-300, directions_per_sample=share, sample_share=1.0)
        degrees = sum(site.n_samples for site in members) - len(members)
        heard = Overheard(drive, members, plan, np.ones(some.size, dtype=bool), degrees)
        assert heard.found.directions == int(share * degrees)
        span = np.linalg.svd(heard.products, full_matrices=False)[0]

        def outside(sites):
            x = np.vstack([np.diff(SCALE(s.counts / s.size_factors[:, None]), axis=0) for s in sites])
            x = x[:, heard.found.genes]
            return np.linalg.norm(x - (x @ span) @ span.T, axis=1) / np.linalg.norm(x, axis=1)

        assert least < (outside(members)[:, None] < outside(strangers)).mean() <= most


class TestOneSample:
    """What the share of one sample holds off."""

    def test_a_sample_that_is_most_of_a_direction_is_not_shown(self, overheard):
        heard = overheard(made(outlier=5.0))
        assert heard.found.ending in {Ending.DOMINATED, Ending.FEW_GENES}
        for query, products in heard.opened:
            assert self.resembles(heard, query, products) < 0.8

    def test_without_the_rule_it_shows_as_it_is(self, overheard, monkeypatch):
        monkeypatch.setattr(VstProductsQuery, "allowed", lambda self, scores: np.ones(len(scores), dtype=bool))
        monkeypatch.setattr(
            VstDominatedQuery, "summands", lambda self, samples, parties: {"dominated": np.zeros(self.n_genes)}
        )
        heard = overheard(made(outlier=5.0))
        assert max(self.resembles(heard, *opened) for opened in heard.opened) > 0.97

    def resembles(self, heard, query, products):
        """How well the best combination of what was opened is the outlying sample's profile."""
        x = centred(heard.drive.sites)[EACH][np.flatnonzero(query.genes)]
        first = np.linalg.svd(products, full_matrices=False)[0][:, 0]
        return abs(first @ x) / np.linalg.norm(x)

    def test_no_more_than_its_share_is_opened_along_any_direction(self, overheard):
        sites = made()
        heard = overheard(sites, replace(PLAN, tolerance=1e-12, directions_per_sample=0.5))
        assert heard.found.ending == Ending.DOMINATED
        x = centred(sites)[:, heard.found.genes]
        scores = x @ heard.basis
        gram = heard.basis.T @ heard.products
        parts = np.einsum("ij,jk,ik->i", scores, np.linalg.inv(gram), scores) * EACH / (EACH - 1)
        assert parts.max() <= 0.5
        last = heard.drive.queries[-1]
        beyond = np.einsum("ij,jk,ik->i", x @ last.basis, np.linalg.inv(last.gram), x @ last.basis)
        assert (beyond * EACH / (EACH - 1)).max() > 0.5

    def test_a_gene_that_varies_in_one_sample_is_not_asked_about(self, overheard):
        """Its products would be that sample's scores, times a number that its variance tells."""
        sites = made()
        counts = sites[1].counts.copy()
        counts[4, 11] = 500_000_000
        sites[1] = replace(sites[1], counts=counts)
        heard = overheard(sites)
        assert 11 not in heard.found.genes
        assert heard.found.dominated == 1
        twin = overheard(sites, replace(PLAN, sample_share=1.0))
        place = np.flatnonzero(twin.found.genes == 11)[0]
        scores = centred(sites)[:, twin.found.genes] @ twin.basis
        row = twin.products[place]
        assert abs(row @ scores[EACH + 4]) > 0.9 * np.linalg.norm(row) * np.linalg.norm(scores[EACH + 4])

    def test_the_part_of_a_sample_is_what_the_sum_loses_without_it(self):
        x = np.random.default_rng(0).normal(size=(7, 3))
        around = x - x.mean(axis=0)
        for i in range(7):
            rest = np.delete(x, i, axis=0)
            lost = (around**2).sum(axis=0) - ((rest - rest.mean(axis=0)) ** 2).sum(axis=0)
            assert np.allclose(component_queries.told_apart(around[i] ** 2, 7), lost)
        assert component_queries.told_apart(np.array([3.0]), 1) == 0.0


class TestSubspaces:
    def test_leverages_are_the_largest_parts(self):
        rng = np.random.default_rng(1)
        scores = rng.normal(size=(30, 4))
        gram = scores.T @ scores
        told = subspace.leverages(scores, gram)
        assert np.allclose(told, np.einsum("ij,jk,ik->i", scores, np.linalg.inv(gram), scores))
        assert np.isnan(subspace.leverages(scores, -gram)).all()

    def test_start_directions_are_the_same_for_everybody(self):
        first = subspace.start_directions(500, 3)
        assert np.array_equal(first, subspace.start_directions(500, 3))
        assert np.allclose(first.T @ first, np.eye(3), atol=1e-14)

    def test_what_adds_nothing_is_no_direction(self):
        basis = subspace.start_directions(40, 3)
        assert subspace.orthonormal(basis @ np.ones((3, 2)), basis).shape == (40, 0)
        assert subspace.orthonormal(np.zeros((40, 1)), basis).shape == (40, 0)
