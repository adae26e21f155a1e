"""Shrunken fold changes: constructed truth, calculus, the lowest of all minima, and genes that can't be shrunken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from secirls.algorithms.query import QueryError
from secirls.algorithms.regression import shrinkage as shrinkage_file
from secirls.algorithms.regression.irls import IrlsConfig
from secirls.algorithms.regression.shrinkage import shrink
from secirls.algorithms.regression.unclamped import UnclampedQuery
from secirls.numerics.algebra.solve import inverses, unpack
from secirls.numerics.held.samples import Samples
from secirls.numerics.inference import shrinkage
from secirls.numerics.inference.shrinkage import LONGEST_STEP, Prior, prior_variance, s_values
from secirls.numerics.inference.wald import contrast_variances
from secirls.numerics.regression.unclamped import unclamped_sums
from secirls.numerics.status import Reason, Status

AT = 2
"""The coefficient that is shrunken, of three."""
TOLERANCE = 2e-3
"""Of a standard deviation by finite differences."""


def drawn(scale=0.4, genes=300, each=8, seed=0, alpha=0.1, changed=1.0):
    """Counts with true fold changes from a Cauchy law, a share of them ``changed``; and those changes, ``(genes,)``."""
    rng = np.random.default_rng(seed)
    n = 3 * each
    design = np.column_stack([np.ones(n), np.arange(n) % 3 == 0, np.arange(n) // 3 % 2]).astype(float)
    truth = np.clip(scale * rng.standard_cauchy(genes), -4, 4) * (rng.uniform(size=genes) < changed)
    beta = np.column_stack([rng.uniform(2, 7, genes), 0.3 * rng.normal(size=genes), truth])
    s = np.exp(0.3 * rng.normal(size=n))
    mu = np.exp(beta @ design.T).T * s[:, None]
    counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(np.int32)
    return Samples(design, counts, s, np.full(genes, alpha)), truth


def disagreeing(genes=60, seed=4):
    """Genes whose estimate lies where a narrow prior has almost no mass: minima near both."""
    samples, _ = drawn(0.05, genes, seed=seed, alpha=0.4)
    counts = samples.counts.copy()
    treated = samples.design[:, AT] > 0
    for gene in range(0, genes, 3):  # every third is moved by so much that neither side wins at once
        counts[treated, gene] = np.rint(counts[treated, gene] * np.exp(0.6 + 0.02 * gene)).astype(np.int32)
    return Samples(samples.design, counts, samples.size_factors, samples.dispersions)


def fitted(samples, fit, *sites):
    state = fit(*(sites or (samples,)), config=IrlsConfig(max_iter=100))
    unit = np.eye(3)[AT]
    return state, contrast_variances(state.xtwx, unit, 1e-6)


def f(samples, gene, beta, prior):
    """The function that is minimised, by NumPy's own logarithm."""
    one = samples.take(np.arange(samples.n_genes) == gene)
    others = np.delete(beta, prior.coefficient)
    nll = unclamped_sums(one, beta[None]).nll[0]
    return nll + (others**2).sum() / 450 + np.log1p((beta[prior.coefficient] / prior.scale) ** 2)


def lowest(samples, gene, prior, around):
    """The lowest value of f that an optimiser finds from many places."""
    ends = []
    for b in np.linspace(-0.1, 1.1, 7) * around[prior.coefficient]:
        begin = around.copy()
        begin[prior.coefficient] = b
        ends.append(minimize(lambda beta: f(samples, gene, beta, prior), begin, method="BFGS", options={"gtol": 1e-9}))
    best = min(ends, key=lambda end: end.fun)
    return best.x, best.fun


class TestTheScale:
    @given(st.integers(0, 1000), st.floats(1e-3, 3.0))
    @settings(max_examples=40)
    def test_solves_its_equation(self, seed, deviation):
        rng = np.random.default_rng(seed)
        d = rng.uniform(0.01, 0.5, 200)
        b = rng.normal(0, np.sqrt(deviation**2 + d))
        A = prior_variance(b, d)
        left, right = ((b**2 - d) / (A + d) ** 2).sum(), A * (1 / (A + d) ** 2).sum()
        if A == 1e-6:
            assert left <= right * (1 + 1e-9)
        else:
            assert left == pytest.approx(right, rel=1e-10)

    def test_is_the_one_that_was_drawn_with(self):
        rng = np.random.default_rng(1)
        d = rng.uniform(0.05, 0.5, 20_000)
        b = rng.normal(0, np.sqrt(0.3**2 + d))
        assert np.sqrt(prior_variance(b, d)) == pytest.approx(0.3, rel=0.05)
        without = np.sqrt(prior_variance(b, np.full_like(d, 1e-12)))  # the twin that takes errors for truth
        assert without > 0.5

    def test_ends_of_the_interval(self):
        assert prior_variance(np.zeros(5), np.ones(5)) == 1e-6
        assert prior_variance(np.full(5, 100.0), np.ones(5)) == 400.0
        assert Prior.adapted(np.full(5, 100.0), np.ones(5), 0).scale == 1.0
        with pytest.raises(ValueError, match="estimate"):
            prior_variance(np.zeros(0), np.zeros(0))


class TestThePrior:
    prior = Prior(0.3, AT)
    beta = np.random.default_rng(2).normal(size=(40, 3)) * np.array([4.0, 1.0, 0.6])

    def test_slope_and_curvature_are_those_of_the_penalty(self):
        h = 1e-5
        curved = self.prior._curved(self.beta, np.zeros((40, 6)))
        for j in range(3):
            step = h * np.eye(3)[j]
            up, down = self.beta + step, self.beta - step
            slope = (self.prior.penalty(up) - self.prior.penalty(down)) / (2 * h)
            np.testing.assert_allclose(self.prior.gradient(self.beta)[:, j], slope, rtol=1e-6, atol=1e-8)
            bend = (self.prior.gradient(up) - self.prior.gradient(down)) / (2 * h)
            excess = (1.0 - curved.share) / curved.along
            own = unpack(curved.majorised) - excess[:, None, None] * np.diag(np.eye(3)[AT])
            np.testing.assert_allclose(own[:, j], bend, rtol=1e-6, atol=1e-8)

    @given(st.integers(0, 10_000))
    @settings(max_examples=200)
    def test_a_move_ends_at_the_first_level_point(self, seed):
        rng = np.random.default_rng(seed)
        b, scale = rng.normal() * 3, np.exp(rng.uniform(-4, 0))
        centre, curvature = rng.normal() * 3, np.exp(rng.uniform(-6, 4))

        def slope(x):
            return curvature * (x - centre) + 2 * x / (scale**2 + x**2)

        moved = shrinkage._move(b, slope(b), curvature, scale**2, LONGEST_STEP)
        down = -np.sign(slope(b))
        assert moved * down >= 0
        assert abs(moved) <= LONGEST_STEP * (1 + 1e-15)
        path = b + moved * np.linspace(0, 1, 20_001)[1:-1]
        size = curvature * np.abs(path - centre).max() + 2 / scale
        assert (slope(path) * down <= 1e-9 * size).all(), "it went uphill on its way"
        assert abs(moved) >= LONGEST_STEP * (1 - 1e-12) or abs(slope(b + moved)) <= 1e-9 * size

    def test_a_step_goes_down_and_is_newtons_near_the_minimum(self, fit):
        samples, _ = drawn()
        state, _ = fitted(samples, fit)
        sums = unclamped_sums(samples, state.beta)
        step, slope = self.prior.step(state.beta, sums.score, sums.information)
        assert (slope < 0).all()
        assert (np.abs(step) <= LONGEST_STEP).all()
        h = 1e-6
        before, after = (
            unclamped_sums(samples, state.beta + k * h * step).nll + self.prior.penalty(state.beta + k * h * step)
            for k in (-1, 1)
        )
        np.testing.assert_allclose((after - before) / (2 * h), slope, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_every_gene_ends_at_the_lowest_minimum_and_its_deviation_is_that_of_the_curvature_there(drive, fit):
    samples, _ = drawn(0.05, genes=30, each=3, changed=0.3)
    state, variances = fitted(samples, fit)
    found = drive(samples)(shrink(state, variances, AT))
    prior = Prior(found.scale, AT)
    false = []
    for gene in range(30):
        where, value = lowest(samples, gene, prior, state.beta[gene])
        rest = minimize(lambda o, gene=gene: f(samples, gene, np.array([*o, found.estimate[gene]]), prior), where[:AT])
        assert rest.fun <= value + 1e-7
        truth = deviation(samples, gene, where, prior)
        assert found.deviation[gene] == pytest.approx(truth, rel=TOLERANCE)
        false.append(false_deviation(samples, gene, where, prior) / truth - 1)
    assert np.median(np.abs(false)) > 10 * TOLERANCE, "PyDESeq2's Hessian would have passed"


def hessian(samples, gene, beta, prior, h=1e-4):
    """Of f, by finite differences."""
    p, found = beta.size, np.empty((beta.size, beta.size))
    for i in range(p):
        for j in range(p):
            e, d = h * np.eye(p)[i], h * np.eye(p)[j]
            corners = f(samples, gene, beta + e + d, prior), f(samples, gene, beta + e - d, prior)
            others = f(samples, gene, beta - e + d, prior), f(samples, gene, beta - e - d, prior)
            found[i, j] = (corners[0] - corners[1] - others[0] + others[1]) / (4 * h * h)
    return found


def deviation(samples, gene, beta, prior):
    """The coefficient's entry of the inverse of a Hessian by finite differences."""
    return np.sqrt(np.linalg.inv(hessian(samples, gene, beta, prior))[AT, AT])


def false_deviation(samples, gene, beta, prior):
    """PyDESeq2's: the prior's second derivatives are added to whole rows of the likelihood's."""
    b, S = beta[AT], prior.scale
    bends = np.full(beta.size, 1 / 225)
    bends[AT] = 2 * (S**2 - b**2) / (S**2 + b**2) ** 2
    one = samples.take(np.arange(samples.n_genes) == gene)
    information = unpack(unclamped_sums(one, beta[None]).information)[0]
    return np.sqrt(np.abs(np.linalg.inv(information + bends)[AT, AT]))


@pytest.mark.slow
def test_both_starts_are_needed(drive, fit, monkeypatch):
    """From the estimate alone some genes end higher, from zero alone others; from both none does."""
    samples = disagreeing()
    state, variances = fitted(samples, fit)
    monkeypatch.setattr(shrinkage.Prior, "adapted", classmethod(lambda cls, *_: cls(0.02, AT)))
    whole = drive(samples)(shrink(state, variances, AT))
    ends = {}

    def noting(begin, genes, config, cohorts=()):
        descent, cohorts = yield from real(begin, genes, config, cohorts)
        ends[len(ends)] = descent
        return descent, cohorts

    real = shrinkage_file.descend
    monkeypatch.setattr(shrinkage_file, "descend", noting)
    drive(samples)(shrink(state, variances, AT))
    from_estimate, from_zero = ends[0].value, ends[1].value
    assert (from_zero < from_estimate - 1e-3).sum() >= 3
    assert (from_estimate < from_zero - 1e-3).sum() >= 3
    assert whole.second.tolist() == (from_zero < from_estimate - 1e-7).tolist()
    for gene in range(0, 60, 3):
        _, value = lowest(samples, gene, Prior(0.02, AT), state.beta[gene])
        assert min(from_estimate[gene], from_zero[gene]) <= value + 1e-6


@pytest.mark.parametrize("unsettled", [0, 1])
def test_no_minimum_is_reported_above_where_the_other_descent_got_to(drive, fit, monkeypatch, unsettled):
    """One descent is said not to have settled, where it is: so the lower minimum of some genes is not known."""
    samples = disagreeing(20)
    state, variances = fitted(samples, fit)
    monkeypatch.setattr(shrinkage.Prior, "adapted", classmethod(lambda cls, *_: cls(0.02, AT)))
    whole = drive(samples)(shrink(state, variances, AT))
    ends = []

    def failing(begin, genes, config, cohorts=()):
        descent, cohorts = yield from real(begin, genes, config, cohorts)
        if len(ends) == unsettled:
            failed = {"status": Status.FAILED, "reason": Reason.NEWTON_OUT_OF_ITERATIONS}
            descent = descent.changed(np.arange(20), **failed)
        ends.append(descent)
        return descent, cohorts

    real = shrinkage_file.descend
    monkeypatch.setattr(shrinkage_file, "descend", failing)
    found = drive(samples)(shrink(state, variances, AT))
    lower = ends[unsettled].value < ends[1 - unsettled].value - 1e-3
    assert 0 < lower.sum() < 20
    assert np.isnan(found.estimate[lower]).all()
    assert (found.reason[lower] == Reason.NEWTON_OUT_OF_ITERATIONS).all()
    higher = ends[unsettled].value > ends[1 - unsettled].value + 1e-3
    assert np.array_equal(found.estimate[higher], whole.estimate[higher])
    assert not found.second[lower].any()


def test_the_truth_is_nearer_than_without_a_prior(drive, fit):
    samples, truth = drawn(scale=0.2, genes=600, each=3, changed=0.2)
    state, variances = fitted(samples, fit)
    found = drive(samples)(shrink(state, variances, AT))
    assert 0.1 < found.scale < 1.0
    error, before = found.estimate - truth, state.beta[:, AT] - truth
    assert np.sqrt((error**2).mean()) < 0.8 * np.sqrt((before**2).mean())
    large = np.abs(truth) > 1.5
    assert np.abs(found.estimate - state.beta[:, AT])[large].max() < 0.5, "large effects stay as they are"


def test_split_over_sites_it_is_the_same(drive, fit, split):
    samples, _ = drawn(genes=80)
    state, variances = fitted(samples, fit)
    whole = drive(samples)(shrink(state, variances, AT))
    parts = drive(*split(samples, np.array_split(np.random.default_rng(0).permutation(24), 3)))(
        shrink(state, variances, AT)
    )
    np.testing.assert_allclose(parts.estimate, whole.estimate, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(parts.deviation, whole.deviation, rtol=1e-9)


def test_the_compact_profile_ends_nearby(drive, fit):
    samples, _ = drawn(genes=80)
    state, variances = fitted(samples, fit)
    whole = drive(samples)(shrink(state, variances, AT))
    compact = drive(samples)(shrink(state, variances, AT, fraction_bits=30))
    np.testing.assert_allclose(compact.estimate, whole.estimate, atol=1e-3)


def test_a_gene_that_can_t_be_sent_has_a_reason_and_harms_no_other(drive, fit):
    samples, _ = drawn(genes=40)
    state, variances = fitted(samples, fit)
    spoilt = drive(samples)

    def summands(site, query):
        sums = type(spoilt).summands(spoilt, site, query)
        sums["nll"] = np.where(np.flatnonzero(query.genes) == 7, np.nan, sums["nll"])
        return sums

    spoilt.summands = summands
    found, whole = spoilt(shrink(state, variances, AT)), drive(samples)(shrink(state, variances, AT))
    assert found.reason.tolist() == [Reason.LOST if gene == 7 else Reason.NONE for gene in range(40)]
    assert np.isnan(found.estimate[7])
    rest = np.arange(40) != 7
    assert np.array_equal(found.estimate[rest], whole.estimate[rest])
    assert np.array_equal(found.deviation[rest], whole.deviation[rest])


def test_a_silent_site_is_not_taken_for_progress(drive, fit, split):
    samples, _ = drawn(genes=40, each=12)
    parts = split(samples, np.array_split(np.arange(36), 3))
    state, variances = fitted(samples, fit)
    two = drive(*parts[:2])(shrink(state, variances, AT))
    falling = drive(*parts)
    falling.silent = {number: {2} for number in range(2, 400)}
    found = falling(shrink(state, variances, AT))
    assert not found.reason.any()
    late = np.abs(found.estimate - two.estimate)
    whole = np.abs(found.estimate - drive(*parts)(shrink(state, variances, AT)).estimate)
    assert (np.minimum(late, whole) < 1e-6).all()


def test_no_question_without_a_gene_and_failed_genes_are_not_asked_about(drive, fit):
    samples, _ = drawn(genes=20)
    state, variances = fitted(samples, fit)
    nobody = drive(samples)
    found = nobody(shrink(state, np.full(20, np.nan), AT))
    assert not nobody.queries
    assert np.isnan(found.estimate).all()
    status = state.status.copy()
    status[3] = Status.FAILED
    some = drive(samples)
    found = some(shrink(type(state)(**{**vars(state), "status": status}), variances, AT))
    assert not any(query.genes[3] for query in some.queries)
    assert np.isnan(found.estimate[3])
    assert found.reason[3] == Reason.NONE, "the gene's own status says why"


def test_the_only_question_is_the_one_of_genes_that_irls_does_not_settle(drive, fit):
    samples, _ = drawn(genes=20)
    asked = drive(samples)
    asked(shrink(*fitted(samples, fit), AT))
    assert {query.kind for query in asked.queries} == {"unclamped"}


@pytest.mark.parametrize("ridge", [-0.1, 1e-3, 1e6])
def test_a_question_with_another_prior_for_own_columns_is_refused(ridge):
    with pytest.raises(QueryError, match="own_ridge"):
        UnclampedQuery(np.ones(3, dtype=bool), np.zeros((3, 2)), own_ridge=ridge).check(3, 2)


def test_s_values_are_running_means_of_wrong_signs():
    b, sd = np.array([0.5, -2.0, np.nan, 0.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.2])
    wrong = np.sort(norm.cdf(-np.abs([0.5, 2.0, 0.0, 5.0])))
    found = s_values(b, sd)
    means = np.cumsum(wrong) / np.arange(1, 5)
    np.testing.assert_allclose(found[[4, 1, 0, 3]], means, rtol=1e-12)
    assert np.isnan(found[2])


def test_the_variance_is_an_entry_of_the_inverse():
    prior, rng = Prior(0.5, AT), np.random.default_rng(0)
    samples, _ = drawn(genes=30)
    beta = np.column_stack([rng.uniform(2, 6, 30), rng.normal(size=(30, 2)) * 0.3])
    information = unclamped_sums(samples, beta).information
    b = beta[:, AT]
    whole = information.copy()
    whole[:, [0, 3]] += 1 / 225
    whole[:, 5] += 2 * (0.25 - b**2) / (0.25 + b**2) ** 2
    np.testing.assert_allclose(prior.variances(beta, information), inverses(whole)[0][:, AT, AT], rtol=1e-10)
