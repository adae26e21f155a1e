"""Coefficients as R finds them: when iterates are compared, circles that are left early, and the way out of IRLS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from secirls.algorithms.query import QueryError
from secirls.algorithms.regression.betas import R_ITERATIONS, betas, leave_cycles
from secirls.algorithms.regression.irls import IrlsConfig, State, irls, least_squares_start, update_rows
from secirls.algorithms.regression.unclamped import NewtonConfig, UnclampedQuery, newton
from secirls.inputs.simulate import rows, simulate
from secirls.numerics.algebra.box_step import box_step
from secirls.numerics.algebra.solve import pack, unpack
from secirls.numerics.held.samples import Samples
from secirls.numerics.own.coefficients import R_BOX
from secirls.numerics.regression import kernels, likelihood
from secirls.numerics.regression.unclamped import unclamped_sums
from secirls.numerics.status import Reason, Status
from secirls.presets import R_RIDGE

PLAN = IrlsConfig.deseq2()


def begun(samples, plan=PLAN):
    return least_squares_start(np.zeros(samples.n_genes, dtype=np.int8), samples.n_params, plan)


def by_r(samples, plan=PLAN, free=None):
    start = yield from begun(samples, plan)
    return (yield from betas(start, plan, free or NewtonConfig()))


def objective(samples, gene, beta, ridge=R_RIDGE):
    log_mu = samples.design @ beta + np.log(samples.size_factors)
    y = samples.counts[:, gene].astype(np.float64)
    return float(likelihood.nll(y, log_mu, samples.dispersions[gene]).sum() + 0.5 * ridge * beta @ beta)


def separated(seed=0, genes=30):
    """Three groups; in every gene one or two of them have no count at all, so that coefficients run to the box."""
    random = np.random.default_rng(seed)
    design = np.column_stack([np.ones(18), np.repeat([0, 1, 0], 6), np.repeat([0, 0, 1], 6)]).astype(float)
    counts = random.negative_binomial(2, 0.02, size=(18, genes))
    for gene in range(genes):
        counts[6 * (gene % 3) : 6 * (gene % 3) + 6, gene] = 0
        if gene % 2:
            counts[6 * ((gene + 1) % 3) : 6 * ((gene + 1) % 3) + 6, gene] = 0
    return Samples(design, counts.astype(np.int32), np.exp(random.normal(0, 0.5, 18)), random.uniform(0.01, 2, genes))


def test_a_gene_settles_at_the_second_comparison_r_makes_not_before(drive):
    samples = simulate(genes=40, samples=12, effects=1, seed=1).samples
    found = drive(samples)(by_r(samples)).state
    assert (found.status == Status.CONVERGED).all()
    assert found.iterations.min() >= 2
    sooner = drive(samples)(by_r(samples, replace(PLAN, compare_from=1))).state
    assert (sooner.iterations <= found.iterations).all()
    exact = Samples(np.ones((6, 1)), np.full((6, 3), 7, dtype=np.int32), np.ones(6), np.full(3, 0.1))
    still = drive(exact)(by_r(exact)).state
    assert still.iterations.tolist() == [2, 2, 2]
    told = drive(exact)(by_r(exact, replace(PLAN, by_deviance_alone=False, compare_from=1))).state
    assert (told.iterations < 3).all()


def test_a_gene_that_uses_its_last_update_is_not_settled_by_it(drive):
    samples = simulate(genes=40, samples=12, effects=1, seed=1).samples
    usual = drive(samples)(by_r(samples)).state
    short = replace(PLAN, max_iter=int(usual.iterations.max()))
    found = drive(samples)(by_r(samples, short))
    last = usual.iterations == short.max_iter
    assert last.any()
    assert (found.state.status[last] == Status.CAUGHT).all()
    assert (found.state.status[~last] == Status.CONVERGED).all()
    np.testing.assert_array_equal(found.hat_beta[last], usual.beta[last])
    assert (drive(samples)(by_r(samples, replace(short, by_deviance_alone=False))).state.status == 1).all()


def walk(points, laps, plan):
    """A state that has walked over some points again and again, and the iterates before."""
    walked = [np.array([point]) for point in points] * laps
    state = State.begin(np.zeros(1, dtype=np.int8), walked[0])
    past = tuple(walked[:-1][-8:])
    return update_rows(state, np.array([0]), beta=walked[-1], iterations=len(walked) - 1), past


@pytest.mark.parametrize("period", range(2, 9))
@pytest.mark.parametrize("laps", [8, 9, 12])
def test_a_circle_is_left_at_the_iterate_that_stands_at_a_hundred(period, laps):
    points = np.random.default_rng(period).normal(size=(period, 3))
    state, past = walk(points, laps, PLAN)
    after = leave_cycles(state, past, PLAN)
    assert after.iterations[0] == PLAN.max_iter
    np.testing.assert_array_equal(after.beta[0], points[R_ITERATIONS % period])


def test_what_stands_or_moves_on_is_no_circle():
    for points, laps in (([[1.0, 2.0]], 20), (np.arange(40.0).reshape(20, 2), 1), (np.arange(18.0).reshape(9, 2), 3)):
        state, past = walk(np.asarray(points), laps, PLAN)
        assert leave_cycles(state, past, PLAN) is state or leave_cycles(state, past, PLAN).iterations[0] < 100
    early, past = walk(np.array([[0.0], [1.0]]), 5, PLAN)
    assert leave_cycles(early, past, PLAN).iterations[0] == early.iterations[0]


def cycling():
    """Genes with a few small counts at large dispersions, on which clamped means make IRLS go round in circles."""
    random = np.random.default_rng(3)
    design = np.column_stack([np.ones(20), *(random.integers(0, 2, 20) for _ in range(3))]).astype(np.float64)
    counts = np.zeros((20, 3000), dtype=np.int32)
    for gene in range(3000):
        some = random.integers(1, 10)
        counts[random.choice(20, some, replace=False), gene] = np.exp(random.uniform(0, 4, some)).astype(int)
    return Samples(design, counts, np.exp(random.normal(0, 1, 20)), np.exp(random.uniform(-4, 4, 3000)))


def test_leaving_a_circle_early_changes_nothing_but_the_rounds(drive, monkeypatch):
    samples = cycling()
    quick = drive(samples)
    found = quick(by_r(samples))
    import secirls.algorithms.regression.betas as stage

    monkeypatch.setattr(stage, "leave_cycles", lambda state, past, plan: state)
    slow = drive(samples)
    whole = slow(by_r(samples))
    asked = sum(query.n_genes for query in quick.queries), sum(query.n_genes for query in slow.queries)
    lost = whole.state.iterations == 100
    assert lost.sum() >= 20
    assert asked[0] < asked[1] - 100  # rounds of single genes
    np.testing.assert_array_equal(found.state.iterations, whole.state.iterations)
    np.testing.assert_allclose(found.hat_beta, whole.hat_beta, atol=1e-7)
    np.testing.assert_allclose(found.hat_xtwx, whole.hat_xtwx, rtol=1e-6)
    np.testing.assert_allclose(found.state.beta, whole.state.beta, atol=1e-4)


def test_the_sums_are_the_derivatives_of_the_likelihood():
    samples = separated()
    beta = np.random.default_rng(3).normal(size=(30, 3))
    sums = unclamped_sums(samples, beta)
    for gene in range(0, 30, 7):
        assert sums.nll[gene] == pytest.approx(objective(samples, gene, beta[gene], 0.0), rel=1e-12)
        for j in range(3):
            step = np.eye(3)[j] * 1e-5
            up, down = unclamped_sums(samples, beta + step), unclamped_sums(samples, beta - step)
            assert -(up.nll - down.nll)[gene] / 2e-5 == pytest.approx(sums.score[gene, j], rel=1e-5, abs=1e-6)
            slope = -(up.score - down.score)[gene] / 2e-5
            assert slope == pytest.approx(unpack(sums.information[gene])[j], rel=1e-5, abs=1e-6)
    plain = kernels.summands(samples, beta, 0.0, right="score")
    np.testing.assert_allclose(sums.score, plain.right, rtol=1e-9, atol=1e-9)
    assert np.isfinite(np.concatenate([np.ravel(a) for a in unclamped_sums(samples, 400 * beta)])).all()


def program(seed, p):
    random = np.random.default_rng(seed)
    root = random.normal(size=(p, p + 1)) * np.exp(2 * random.normal(size=(p, 1)))
    H = root @ root.T + 1e-3 * np.eye(p)
    beta = np.clip(random.normal(size=p) * 2, -2, 2)
    return H, random.normal(size=p) * 10 ** random.uniform(-1, 3), beta


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_a_step_is_the_minimum_of_its_model_in_the_box(seed, p):
    H, gradient, beta = program(seed, p)
    step, held = (found[0] for found in box_step(pack(H[None]), gradient[None], beta[None], 2.0))
    assert (np.abs(beta + step) <= 2 + 1e-12).all()
    slope = gradient + H @ step
    size = np.abs(H) @ np.abs(step) + np.abs(gradient)
    inside = np.abs(beta + step) < 2 - 1e-9
    assert (np.abs(slope)[inside] <= 1e-9 * size[inside]).all()
    outward = np.sign(beta + step) * slope
    assert (outward[~inside] <= 1e-9 * size[~inside]).all()
    assert not (held & inside).any()


def test_cutting_a_newton_step_off_at_the_box_would_be_seen():
    worse = 0
    for seed in range(50):
        H, gradient, beta = program(seed, 4)
        right = box_step(pack(H[None]), gradient[None], beta[None], 2.0)[0][0]
        wrong = np.clip(beta - np.linalg.solve(H, gradient), -2, 2) - beta
        worse += (gradient @ wrong + wrong @ H @ wrong / 2) > (gradient @ right + right @ H @ right / 2) + 1e-6
    assert worse > 10


@pytest.mark.parametrize("box", [R_BOX, 3.0, 0.5])
@pytest.mark.parametrize("parts", [1, 3])
def test_newton_ends_at_the_constrained_minimum(drive, split, box, parts):
    samples = separated()
    sites = split(samples, [np.arange(part, 18, parts) for part in range(parts)])

    def run():
        start = yield from begun(samples)
        return (yield from newton(start, np.ones(30, dtype=bool), NewtonConfig(box=box)))

    seen = drive(*sites)
    found = seen(run())
    assert (found.status == Status.CAUGHT).all()
    assert (np.abs(found.beta) <= box).all()
    at_box = (np.abs(found.beta) == box).any(axis=1)
    assert ((found.reason == Reason.NEWTON_AT_BOX) == at_box).all()
    assert box > 1 or at_box.any()
    # The function is convex: where the slope is zero, or presses against the box, lies its one minimum in the box.
    sums = unclamped_sums(samples, found.beta)
    slope = R_RIDGE * found.beta - sums.score
    errors = 1 / np.sqrt(unpack(sums.information).diagonal(axis1=1, axis2=2) + R_RIDGE)
    held = np.abs(found.beta) == box
    assert (np.abs(slope * errors)[~held] < 1e-5).all()
    assert (np.sign(found.beta) * slope)[held].max(initial=-1.0) < 0
    for gene in range(0, 30, 10):
        mine = objective(samples, gene, found.beta[gene])
        begin = np.clip(found.start[gene], -box, box)
        bounds = [(-box, box)] * 3
        theirs = minimize(lambda beta, gene=gene: objective(samples, gene, beta), begin, bounds=bounds).fun
        assert mine <= theirs + 1e-9 * max(1, abs(mine)), gene
    assert len(seen.queries) < 80
    assert seen.queries[-1].kind == "irls"


def test_a_newton_step_cut_off_at_the_box_ends_too_high(drive, monkeypatch):
    import secirls.algorithms.regression.unclamped as stage

    samples = separated()

    def run():
        start = yield from begun(samples)
        return (yield from newton(start, np.ones(30, dtype=bool), NewtonConfig(box=0.5)))

    right = drive(samples)(run())

    def clipped(upper, gradient, beta, box):
        from secirls.numerics.algebra.solve import solve

        step, _ = solve(upper, -gradient)
        step = np.clip(beta + step, -box, box) - beta
        return step, np.abs(beta + step) >= box

    monkeypatch.setattr(stage, "box_step", clipped)
    wrong = drive(samples)(run())
    excess = [objective(samples, g, wrong.beta[g]) - objective(samples, g, right.beta[g]) for g in range(30)]
    assert max(excess) > 1e-3
    assert min(excess) > -1e-9


def test_no_query_where_no_gene_needs_it_and_others_stay(drive):
    samples = separated()
    state = drive(samples)(begun(samples))
    seen = drive(samples)
    assert seen(newton(state, np.zeros(30, dtype=bool), NewtonConfig())) is state
    assert seen.queries == []
    some = np.arange(30) == 4
    after = seen(newton(state, some, NewtonConfig()))
    np.testing.assert_array_equal(after.beta[~some], state.beta[~some])
    assert all(query.genes.tolist() == some.tolist() for query in seen.queries)


def test_a_silent_site_is_not_taken_for_progress(drive, split):
    samples = separated()
    sites = split(samples, [np.arange(part, 18, 3) for part in range(3)])

    def run():
        start = yield from begun(samples)
        return (yield from newton(start, np.ones(30, dtype=bool), NewtonConfig(box=6.0)))

    seen = drive(*sites)
    seen.silent = {turn: {2} for turn in range(4, 200)}
    found = seen(run())
    left = rows(samples, np.sort(np.concatenate([np.arange(0, 18, 3), np.arange(1, 18, 3)])))
    expected = drive(left)(run())
    later = [len(found.cohorts[cohort]) == 2 for cohort in found.evaluated]
    assert sum(later) > 20
    np.testing.assert_allclose(
        [objective(left, g, found.beta[g]) for g in np.flatnonzero(later)],
        [objective(left, g, expected.beta[g]) for g in np.flatnonzero(later)],
        rtol=1e-9,
    )


def test_a_gene_that_can_t_be_sent_fails_alone(drive):
    samples = separated()
    alpha = samples.dispersions.copy()
    alpha[3] = np.nan
    bad = replace(samples, dispersions=alpha)
    found = drive(bad)(by_r(bad)).state
    assert found.status[3] == Status.FAILED
    assert found.reason[3] == Reason.LOST
    assert np.isin(np.delete(found.status, 3), (Status.CONVERGED, Status.CAUGHT)).all()


def test_the_compact_profile_ends_at_the_same_coefficients(drive):
    samples = separated()
    exact = drive(samples)(by_r(samples)).state
    plan, free = replace(PLAN, fraction_bits=30), NewtonConfig(fraction_bits=30)
    compact = drive(samples)(by_r(samples, plan, free)).state
    assert (compact.status == exact.status).mean() > 0.8
    gap = [objective(samples, g, compact.beta[g]) - objective(samples, g, exact.beta[g]) for g in range(30)]
    assert np.abs(gap).max() < 1e-4


def test_other_presets_are_as_they_were(drive):
    samples = simulate(genes=40, samples=12, effects=1, seed=1).samples

    def plain():
        start = yield from begun(samples, IrlsConfig())
        return (yield from irls(start, IrlsConfig()))

    state = drive(samples)(plain())
    assert (state.status == Status.CONVERGED).all()
    assert IrlsConfig() == IrlsConfig(compare_from=1, by_deviance_alone=False, ridge=1e-6, max_iter=250)


def test_a_question_that_does_not_fit_is_refused():
    with pytest.raises(QueryError):
        UnclampedQuery(np.ones(3, dtype=bool), np.zeros((2, 2))).check(3, 2)
    with pytest.raises(ValueError, match="max_iter"):
        NewtonConfig(max_iter=0)
    with pytest.raises(ValueError, match="above zero"):
        NewtonConfig(ridge=0.0)
