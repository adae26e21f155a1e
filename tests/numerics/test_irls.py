"""IRLS over sums: truth, calculus, invariance, statuses, and data that means no good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secirls.algorithms.query import QueryError, Total
from secirls.algorithms.regression.catch import catch
from secirls.algorithms.regression.irls import IrlsConfig, State, irls, least_squares_start, step
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.algorithms.regression.plans import catch_plan, irls_plan
from secirls.algorithms.regression.quasi_newton import CatchConfig
from secirls.config import Config
from secirls.inputs.simulate import rows, simulate
from secirls.numerics.algebra.solve import times
from secirls.numerics.held.samples import LARGEST_COUNT, Samples
from secirls.numerics.regression.kernels import clamped_log_mu, using
from secirls.numerics.status import Reason, Status


def total_nll(samples: Samples, beta: np.ndarray, min_mu: float = 0.5) -> np.ndarray:
    from secirls.numerics.regression import likelihood

    log_mu = clamped_log_mu(samples, beta, min_mu)
    return likelihood.nll(samples.counts.T.astype(float), log_mu, samples.dispersions[:, None]).sum(axis=1)


def clamped(samples: Samples, beta: np.ndarray) -> np.ndarray:
    return (clamped_log_mu(samples, beta, 0.0) < np.log(0.5)).any(axis=1)


def test_noiseless_means_give_beta_back(fit, kernel):
    simulation = simulate(genes=200, samples=24, noise=False, seed=4)
    large = simulation.beta[:, 0] > 6
    state = fit(simulation.samples, config=IrlsConfig(beta_tol=1e-12))
    assert (state.status == Status.CONVERGED).all()
    assert np.max(np.abs(state.beta - simulation.beta)[large]) < 3e-3  # counts are rounded means
    truth = clamped_log_mu(simulation.samples, simulation.beta, 0.5)
    exact = replace(simulation.samples, dispersions=np.full(200, 0.1))
    assert np.isfinite(truth).all()
    assert (fit(exact).status == Status.CONVERGED).all()


def test_estimates_are_within_their_standard_errors(fit):
    from secirls.numerics.inference.wald import covariance

    simulation = simulate(genes=400, samples=60, seed=8)
    state = fit(simulation.samples)
    error = np.sqrt(covariance(state.xtwx, 1e-6)[0][:, [0, 1], [0, 1]])
    large = simulation.beta.sum(axis=1) > 3.5
    z = ((state.beta - simulation.beta) / error)[large]
    assert np.abs(z.mean()) < 0.1
    assert 0.85 < z.std() < 1.15
    assert not 0.85 < (z / 2).std() < 1.15  # a standard error twice too large would be seen


def test_right_hand_side_minus_information_times_beta_is_the_score(drive):
    samples = simulate(genes=50, samples=30, effects=2, seed=6).samples
    rng = np.random.default_rng(1)
    beta = np.column_stack([rng.uniform(3, 8, 50), 0.3 * rng.normal(size=(50, 2))])
    free = ~clamped(samples, beta)
    assert free.sum() > 25
    total = drive(samples).answer(IrlsQuery(np.ones(50, dtype=bool), beta, 0.5))
    score = total["xtwz"] - times(total["xtwx"], beta)
    numeric = np.empty_like(score)
    h = 1e-5
    for j in range(3):
        shift = h * np.eye(3)[j]
        numeric[:, j] = -(total_nll(samples, beta + shift) - total_nll(samples, beta - shift)) / (2 * h)
    scale = np.abs(numeric[free]).max(axis=1, keepdims=True) + 1.0
    assert np.max(np.abs(score - numeric)[free] / scale) < 1e-5
    assert np.max(np.abs(total["xtwz"] - numeric)[free] / scale) > 1e-2  # forgetting X'WX beta would be seen


def test_at_convergence_the_score_is_zero_and_the_likelihood_is_least(fit):
    simulation = simulate(genes=150, samples=40, seed=2)
    state = fit(simulation.samples, config=IrlsConfig(beta_tol=1e-12))
    free = ~clamped(simulation.samples, state.beta)
    error = 1 / np.sqrt(state.xtwx[:, [0, 2]])
    assert np.max(np.abs(state.score * error)[free]) < 1e-4
    for shift in (np.array([1e-3, 0]), np.array([0, -1e-3])):
        assert (total_nll(simulation.samples, state.beta + shift) > state.nll)[free].all()
    np.testing.assert_allclose(state.nll, total_nll(simulation.samples, state.beta), rtol=1e-11)


def test_permuted_genes_are_permuted_results(fit, kernel):
    samples = simulate(genes=80, samples=20, seed=1).samples
    order = np.random.default_rng(0).permutation(80)
    mixed = replace(samples, counts=samples.counts[:, order], dispersions=samples.dispersions[order])
    one, two = fit(samples), fit(mixed)
    for name in ("beta", "nll", "xtwx", "status", "iterations"):
        np.testing.assert_array_equal(getattr(one, name)[order], getattr(two, name))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_split_over_sites_is_the_pooled_fit(data):
    samples = simulate(genes=30, samples=24, seed=5).samples
    owner = np.array(data.draw(st.lists(st.integers(0, 3), min_size=24, max_size=24)))
    sites = [rows(samples, np.flatnonzero(owner == site)) for site in range(4)]
    states = [_drive(parts) for parts in ([samples], sites)]
    np.testing.assert_array_equal(states[0].status, states[1].status)
    same = states[0].iterations == states[1].iterations
    assert same.mean() > 0.9  # a deviance at the tolerance may fall on either side
    np.testing.assert_allclose(states[0].beta[same], states[1].beta[same], rtol=1e-10, atol=1e-10)


def _drive(sites: list[Samples]) -> State:
    """Float sums over sites, as in the fixtures, for use under Hypothesis."""
    config, total = IrlsConfig(), None

    def whole():
        status = np.zeros(sites[0].n_genes, dtype=np.int8)
        state = yield from least_squares_start(status, sites[0].n_params, config)
        return (yield from irls(state, config))

    algorithm = whole()
    while True:
        try:
            query = algorithm.send(total)
        except StopIteration as end:
            return end.value
        parts = [query.summands(query.apply(site).take(query.genes), len(sites)) for site in sites]
        names = tuple(str(i) for i in range(len(sites)))
        total = Total({name: sum(part[name] for part in parts) for name in parts[0]}, names, names)


def test_an_empty_handed_site_changes_nothing(fit, kernel):
    samples = simulate(genes=40, samples=18, seed=3).samples
    nobody = rows(samples, np.arange(0))
    one, two = fit(samples), fit(samples, nobody)
    for name in ("beta", "nll", "xtwx", "status"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_only_active_genes_are_asked_about_and_nothing_else_is_sent(drive):
    samples = simulate(genes=60, samples=16, seed=7).samples
    status = np.zeros(60, dtype=np.int8)
    status[:5], status[5:9] = Status.ALL_ZERO, Status.TOO_FEW_SITES
    run = drive(samples)
    state = run(least_squares_start(status, 2, IrlsConfig()))
    state = run(irls(state, IrlsConfig()))
    asked = [query.n_genes for query in run.queries]
    assert asked[0] == asked[1] == 51
    assert asked == sorted(asked, reverse=True)
    assert not run.queries[0].genes[:9].any()
    assert list(run.queries[1].shapes()) == ["xtwx", "xtwz", "nll"]
    assert (state.status[:5] == Status.ALL_ZERO).all()
    assert np.isnan(state.beta[:9]).all()
    assert set(state.reasons()) == set(range(9))
    assert len(state.cohorts) == len(run.queries) - 1


def test_deviances_over_other_parties_are_not_compared(drive):
    samples = simulate(genes=20, samples=30, seed=3).samples
    sites = [rows(samples, np.arange(i, 30, 3)) for i in range(3)]
    config = IrlsConfig(beta_tol=1e9)  # every comparison that is made says converged
    run = drive(*sites)
    run.silent = {2: {1}, 3: {2}}
    state = run(least_squares_start(np.zeros(20, dtype=np.int8), 2, config))
    state = run(irls(state, config))
    # Each of the first four rounds is over other parties than the one before; the fifth can be compared.
    assert [len(parties) for parties in state.cohorts] == [3, 2, 2, 3, 3]
    assert (state.iterations == 4).all()
    assert (state.status == Status.CONVERGED).all()


def test_first_evaluation_is_stored_and_not_compared(drive):
    samples = simulate(genes=10, samples=12, seed=3).samples
    config = IrlsConfig(beta_tol=1e9)
    run = drive(samples)
    state = run(irls(run(least_squares_start(np.zeros(10, dtype=np.int8), 2, config)), config))
    assert (state.iterations == 1).all()
    assert (state.status == Status.CONVERGED).all()


@pytest.mark.parametrize("updates", [0, 1, 20])
def test_updates_are_counted_and_evaluated(updates, drive):
    samples = simulate(genes=30, samples=12, seed=3).samples
    config = IrlsConfig(max_iter=updates, beta_tol=0.0)
    run = drive(samples)
    state = run(irls(run(least_squares_start(np.zeros(30, dtype=np.int8), 2, config)), config))
    assert len(state.cohorts) <= updates + 1
    left = state.active
    assert (state.iterations[left] == updates).all()
    assert (state.reason[left] == Reason.OUT_OF_ITERATIONS).all()
    np.testing.assert_allclose(state.nll, total_nll(samples, state.beta), rtol=1e-11)
    if updates < 5:
        assert left.any()


def test_a_tight_tolerance_does_not_make_genes_wander(fit):
    samples = simulate(genes=300, samples=30, seed=12).samples
    counts = np.asfortranarray(np.minimum(samples.counts.astype(np.int64) * 500, LARGEST_COUNT).astype(np.int32))
    samples = replace(samples, counts=counts)
    loose = fit(samples)
    for tolerance in (1e-12, 0.0):
        tight = fit(samples, config=IrlsConfig(beta_tol=tolerance))
        np.testing.assert_array_equal(tight.status, loose.status)
        settled = tight.status == Status.CONVERGED
        assert settled.sum() > 280
        assert tight.iterations.max() < 60
        error = np.sqrt(1 / tight.xtwx[:, [0, 2]])
        assert np.max(np.abs(tight.score * error)[settled]) < 1e-3
        assert np.max((np.abs(tight.beta - loose.beta) / error)[settled]) < 0.1


def test_without_the_standstill_rule_they_would_wander(fit, monkeypatch):
    from secirls.algorithms.regression import irls as module

    samples = simulate(genes=300, samples=30, seed=12).samples
    monkeypatch.setattr(module, "STANDSTILL", 0.0)
    monkeypatch.setattr(module, "NOISE", 0.0)
    wandering = fit(samples, config=IrlsConfig(beta_tol=0.0, max_iter=60))
    assert wandering.active.sum() > 5  # which do depends on the processor's roundings


def lost_gene(kind: str):
    """A site's sums for gene 1 of 3 go wrong."""
    samples = simulate(genes=3, samples=9, seed=1).samples
    sums = {
        "nan": (np.nan, 1.0),
        "infinite": (1.0, np.inf),
        "too large": (1.0, 1e18),
    }[kind]
    return samples, sums


@pytest.mark.parametrize("kind", ["nan", "infinite", "too large"])
def test_a_lost_gene_harms_no_other(kind, drive, monkeypatch, fit):
    from secirls.numerics.regression import kernels

    samples, (for_xtwx, for_nll) = lost_gene(kind)
    sites = [rows(samples, np.arange(i, 9, 3)) for i in range(3)]
    expected = fit(*sites)
    honest, calls = kernels.summands, []

    def spoiled(part, beta, min_mu, **options):
        sums = honest(part, beta, min_mu, **options)
        calls.append(1)
        if beta.shape[0] == 3:  # every site, as long as all three genes are asked about
            sums.xtwx[1, 0] *= for_xtwx
            sums.nll[1] *= for_nll
        return sums

    monkeypatch.setattr(kernels, "summands", spoiled)
    state = fit(*sites)
    assert state.status[1] == Status.DIVERGED
    assert "not finite or too large" in state.reasons()[1]
    np.testing.assert_array_equal(state.beta[[0, 2]], expected.beta[[0, 2]])
    assert (state.status[[0, 2]] == Status.CONVERGED).all()


def test_a_singular_gene_is_diverged_and_the_others_go_on(drive):
    state = State.begin(np.zeros(3, dtype=np.int8), np.ones((3, 2)))
    good = np.array([4.0, 1.0, 3.0])
    xtwx = np.array([good, [1e12, 1e12, 1e12], good])
    total = Total({"xtwx": xtwx, "xtwz": np.ones((3, 2)) * [1.0, 2.0], "nll": np.ones(3)}, ("a",), ("a",))
    after = step(state, total, IrlsConfig())
    assert after.status[1] == Status.DIVERGED
    assert (after.status[[0, 2]] == Status.ACTIVE).all()
    assert Reason(after.reason[1]) in {Reason.SINGULAR, Reason.BEYOND_BOX}
    assert (state.status == Status.ACTIVE).all()  # the state before is untouched


HARSH = {
    "separated groups": (np.repeat([[0], [900]], 6, axis=0).repeat(3, axis=1), 0.1),
    "one count in all": (np.eye(12, 3, dtype=int), 1.0),
    "largest counts": (np.full((12, 3), 10**9), 1e-8),
    "wild counts": (np.array([[0, 10**9, 1]] * 6 + [[10**9, 0, 2]] * 6), 1e3),
    "alternating": (np.tile([[0, 3000, 1], [4000, 0, 1]], (6, 1)), 4.0),
    "nearly Poisson": (np.random.default_rng(0).poisson(30, (12, 3)), 1e-8),
    "overdispersed": (np.random.default_rng(1).poisson(5, (12, 3)), 1e3),
}


@pytest.mark.parametrize(
    ("preset", "size_factor"),
    [
        *(("pydeseq2", 1e6), ("fedpydeseq2", 1e-6)),
        *(
            pytest.param(*asked, marks=pytest.mark.slow)
            for asked in (("pydeseq2", 1e-6), ("pydeseq2", 1.0), ("fedpydeseq2", 1.0), ("fedpydeseq2", 1e6))
        ),
    ],
)
@pytest.mark.parametrize("case", HARSH)
def test_harsh_data_end_with_a_status_and_numbers(case, size_factor, preset, fit):
    counts, alpha = HARSH[case]
    X = np.column_stack([np.ones(12), np.repeat([0.0, 1.0], 6)])
    s = np.ones(12)
    s[::5] = size_factor
    samples = Samples(X, np.asfortranarray(counts.astype(np.int32)), s, np.full(3, alpha))
    sites = [rows(samples, np.arange(i, 12, 3)) for i in range(3)]
    asked = Config(design="~ condition", preset=preset)
    state = fit(*sites, config=irls_plan(asked), catch=catch_plan(asked))
    assert not np.isin(state.status, (Status.ACTIVE, Status.DIVERGED)).any()
    assert np.isfinite(state.beta).all()
    assert (np.abs(state.beta) <= 30).all()
    assert np.isfinite(state.nll).all()
    for gene in np.flatnonzero(state.status != Status.CONVERGED):
        assert state.reasons()[int(gene)].endswith((".", ")."))
    if case in {"nearly Poisson", "largest counts"} and size_factor == 1.0:
        assert (state.status == Status.CONVERGED).all()


@pytest.mark.parametrize("p", [1, 12])
def test_few_and_many_parameters(p, fit, kernel):
    simulation = simulate(genes=25, samples=60, effects=p - 1, continuous=True, seed=1)
    state = fit(*simulation.split(3), catch=CatchConfig())
    assert state.fitted.all()
    assert state.beta.shape == (25, p)


def test_one_gene_one_sample_groups(fit):
    X = np.array([[1.0, 0.0], [1.0, 1.0]])
    samples = Samples(X, np.array([[40], [90]], dtype=np.int32), np.ones(2), np.array([0.2]))
    state = fit(samples, config=IrlsConfig(beta_tol=1e-12))
    assert state.status[0] == Status.CONVERGED
    np.testing.assert_allclose(np.exp(X @ state.beta[0]), [40, 90], rtol=1e-5)


def test_no_gene_active_asks_nothing(drive):
    samples = simulate(genes=4, samples=6).samples
    run = drive(samples)
    status = np.full(4, Status.ALL_ZERO, dtype=np.int8)
    state = run(least_squares_start(status, 2, IrlsConfig()))
    state = run(irls(state, IrlsConfig()))
    assert run(catch(state, CatchConfig())) is state
    assert run.queries == []


def test_a_rank_deficient_design_is_refused(drive):
    samples = simulate(genes=5, samples=12, seed=2).samples
    samples = replace(samples, design=np.column_stack([samples.design, samples.design[:, 1]]))
    active = np.zeros(5, dtype=np.int8)
    with pytest.raises(ValueError, match="rank-deficient"):
        drive(samples)(least_squares_start(active, 3, IrlsConfig()))


def test_refit_replaces_some_genes_and_keeps_the_rest(fit):
    samples = simulate(genes=12, samples=15, seed=2).samples
    genes = np.arange(12) % 4 == 0
    counts = samples.counts.copy(order="F")
    counts[0, genes] = 7
    first, second = fit(samples), fit(replace(samples, counts=counts))
    merged = first.replaced(second, genes)
    np.testing.assert_array_equal(merged.beta[genes], second.beta[genes])
    np.testing.assert_array_equal(merged.beta[~genes], first.beta[~genes])
    assert merged.cohorts[merged.evaluated[0]] == second.cohorts[second.evaluated[0]]


@pytest.mark.parametrize("beta", [np.zeros((2, 2)), np.zeros((3, 1)), np.zeros(3)])
def test_queries_that_do_not_fit_are_refused(beta):
    with pytest.raises(QueryError):
        IrlsQuery(np.ones(3, dtype=bool), beta, 0.5).check(3, 2)


def test_both_kernels_give_the_same_fit(fit):
    samples = simulate(genes=100, samples=20, seed=9).samples
    states = []
    for name in ("fused", "numpy"):
        with using(name):
            states.append(fit(samples))
    same = states[0].iterations == states[1].iterations
    assert same.mean() > 0.95
    np.testing.assert_allclose(states[0].beta[same], states[1].beta[same], rtol=1e-9, atol=1e-10)
