"""The catch: it is silent when it can be, finds minima when it must, and leaves no gene without an answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from secirls.algorithms.query import QueryError
from secirls.algorithms.regression import quasi_newton
from secirls.algorithms.regression.catch import catch
from secirls.algorithms.regression.irls import IrlsConfig, State, irls, least_squares_start
from secirls.algorithms.regression.plans import catch_plan, irls_plan
from secirls.algorithms.regression.quasi_newton import CatchConfig, QuasiNewtonQuery
from secirls.config import Config
from secirls.inputs.simulate import rows, simulate
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood
from secirls.numerics.regression.kernels import clamped_log_mu, summands
from secirls.numerics.status import Reason, Status


def all_active(drive_one, samples):
    """A state in which the catch has everything to do."""
    status = np.zeros(samples.n_genes, dtype=np.int8)
    return drive_one(least_squares_start(status, samples.n_params, IrlsConfig()))


def objective(samples, gene, beta, config):
    one = samples.take(np.arange(samples.n_genes) == gene)
    log_mu = clamped_log_mu(one, np.asarray(beta)[None, :], config.min_mu)
    nll = likelihood.nll(one.counts.T.astype(float), log_mu, one.dispersions[:, None]).sum()
    return float(nll + 0.5 * config.ridge * np.sum(np.square(beta)))


def test_no_query_when_no_gene_needs_it(fit, drive):
    samples = simulate(genes=20, samples=20, seed=1).samples
    state = fit(samples)
    assert (state.status == Status.CONVERGED).all()
    run = drive(samples)
    assert run(catch(state, CatchConfig())) is state
    assert run.queries == []


@pytest.mark.parametrize("min_mu", [0.0, 0.5])
def test_caught_genes_are_at_the_minimum(min_mu, drive):
    samples = simulate(genes=40, samples=30, effects=2, seed=4).samples
    config = CatchConfig(min_mu=min_mu)
    run = drive(*[rows(samples, np.arange(i, 30, 3)) for i in range(3)])
    state = run(catch(all_active(run, samples), config))
    assert (state.status == Status.CAUGHT).all()
    for gene in range(0, 40, 4):
        found = minimize(lambda b, g=gene: objective(samples, g, b, config), state.beta[gene], method="Nelder-Mead")
        ours = objective(samples, gene, state.beta[gene], config)
        assert ours <= found.fun + 1e-7 * (abs(found.fun) + 1)
        assert objective(samples, gene, state.beta[gene] + 0.01, config) > ours  # the minimum is not flat


def test_it_agrees_with_irls_where_irls_settles(fit, drive):
    samples = simulate(genes=60, samples=40, seed=2).samples
    settled = fit(samples, config=IrlsConfig(beta_tol=1e-13))
    free = ~(clamped_log_mu(samples, settled.beta, 0.0) < np.log(0.5)).any(axis=1)
    run = drive(samples)
    state = run(catch(all_active(run, samples), CatchConfig()))
    error = np.sqrt(1 / settled.xtwx[:, [0, 2]])
    assert free.sum() > 40
    assert np.max((np.abs(state.beta - settled.beta) / error)[free]) < 1e-3
    np.testing.assert_allclose(state.nll[free], settled.nll[free], rtol=1e-10)


def test_the_first_round_is_beta_0_and_the_others_hold_the_current_point(drive):
    samples = simulate(genes=5, samples=20, seed=2).samples
    run = drive(samples)
    begun = all_active(run, samples)
    run.queries.clear()
    run(catch(begun, CatchConfig()))
    first, second = run.queries[:2]
    np.testing.assert_array_equal(first.candidates[:, 0], begun.start)
    assert second.candidates.shape[1] == 5
    np.testing.assert_array_equal(second.candidates[:, 0], begun.start[second.genes])
    steps = second.candidates - second.candidates[:, :1]
    np.testing.assert_allclose(steps[:, 2], steps[:, 1] / 2, rtol=1e-9)


def separated() -> Samples:
    X = np.column_stack([np.ones(12), np.repeat([0.0, 1.0], 6)])
    counts = np.array([[0] * 6 + [400, 500, 450, 380, 600, 420]] * 2, dtype=np.int32).T
    return Samples(X, np.asfortranarray(counts), np.ones(12), np.array([0.1, 0.2]))


def test_separation_ends_on_the_box_and_says_so(drive):
    samples = separated()
    run = drive(samples)
    state = run(catch(all_active(run, samples), CatchConfig(min_mu=0.0, max_beta=10.0)))
    assert (state.status == Status.CAUGHT).all()
    assert np.abs(state.beta).max() <= 10.0
    assert (np.abs(state.beta) == 10.0).any()
    assert (state.reason == Reason.CAUGHT_AT_BOX).all()
    assert "separated" in state.reasons()[0]


def test_the_box_is_never_left(drive):
    samples = separated()
    run = drive(samples)
    run(catch(all_active(run, samples), CatchConfig(min_mu=0.0, max_beta=3.0)))
    for query in run.queries[1:]:
        assert np.abs(query.candidates).max() <= 3.0


def test_every_gene_is_accounted_for_when_iterations_run_out(drive):
    samples = simulate(genes=30, samples=12, seed=2).samples
    run = drive(samples)
    state = run(catch(all_active(run, samples), CatchConfig(max_iter=1)))
    assert np.isin(state.status, (Status.CAUGHT, Status.FAILED)).all()
    left = state.status == Status.FAILED
    assert left.any()
    assert (state.reason[left] == Reason.CATCH_OUT_OF_ITERATIONS).all()


def test_only_genes_that_irls_lost_are_touched(drive):
    samples = simulate(genes=30, samples=12, seed=2).samples
    run = drive(samples)
    state = run(irls(all_active(run, samples), IrlsConfig(max_iter=2)))
    open_genes, before = state.active, len(run.queries)
    assert 0 < open_genes.sum() < 30
    after = run(catch(state, CatchConfig()))
    assert (run.queries[before].genes == open_genes).all()
    np.testing.assert_array_equal(after.beta[~open_genes], state.beta[~open_genes])
    assert (after.status[~open_genes] == Status.CONVERGED).all()
    assert (after.status[open_genes] == Status.CAUGHT).all()


def test_a_gene_lost_at_the_start_fails_alone(drive, monkeypatch):
    from secirls.numerics.regression import kernels

    samples = simulate(genes=3, samples=12, seed=2).samples
    run = drive(samples)
    begun = all_active(run, samples)
    honest = kernels.summands

    def spoiled(part, beta, min_mu, **options):
        sums = honest(part, beta, min_mu, **options)
        if beta.shape[0] == 3:
            sums.nll[1] = np.nan
        return sums

    monkeypatch.setattr(kernels, "summands", spoiled)
    state = run(catch(begun, CatchConfig()))
    assert state.status.tolist() == [Status.CAUGHT, Status.FAILED, Status.CAUGHT]
    assert np.isfinite(state.beta).all()
    assert Reason(state.reason[1]) is Reason.LOST


def test_a_dropout_between_rounds_only_changes_whom_the_answer_is_about(drive):
    samples = simulate(genes=20, samples=30, seed=6).samples
    sites = [rows(samples, np.arange(i, 30, 3)) for i in range(3)]
    run = drive(*sites)
    begun = all_active(run, samples)
    run.silent = {n: {2} for n in range(3, 200)}
    state = run(catch(begun, CatchConfig()))
    assert state.fitted.all()
    assert state.parties == ("site0", "site1")
    run = drive(*sites[:2])
    alone = run(catch(replace(begun, cohorts=()), CatchConfig()))
    late = state.evaluated == state.evaluated.max()
    np.testing.assert_allclose(state.beta[late], alone.beta[late], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "candidates", [np.zeros((3, 2)), np.zeros((3, 0, 2)), np.zeros((2, 1, 2)), np.zeros((3, 65, 2))]
)
def test_queries_that_do_not_fit_are_refused(candidates):
    with pytest.raises(QueryError):
        QuasiNewtonQuery(np.ones(3, dtype=bool), candidates, 0.5).check(3, 2)


def test_presets_are_those_of_the_references_and_impossible_settings_are_refused():
    pydeseq2, fedpydeseq2 = (Config(design="~ condition", preset=preset) for preset in ("pydeseq2", "fedpydeseq2"))
    assert catch_plan(pydeseq2).min_mu == irls_plan(pydeseq2).min_mu == 0.5
    assert irls_plan(pydeseq2).max_iter == 250
    assert catch_plan(fedpydeseq2).min_mu == 0.0
    assert irls_plan(fedpydeseq2).max_iter == 20
    for wrong in ({"halvings": 64}, {"ridge": 0.0}, {"armijo": 1.0}, {"max_iter": 0}):
        with pytest.raises(ValueError):
            CatchConfig(**wrong)


def test_state_knows_its_masks(fit):
    samples = simulate(genes=30, samples=12, seed=2).samples
    state: State = fit(samples, config=IrlsConfig(max_iter=2))
    np.testing.assert_array_equal(state.active, state.status == Status.ACTIVE)
    np.testing.assert_array_equal(state.irls_diverged_mask, state.status == Status.DIVERGED)
    assert sum(state.counts().values()) == 30


def deserted():
    """A gene with counts in 4 of 60 samples and a large dispersion: beta_0 lies where every mean is clamped."""
    rng = np.random.default_rng(5)
    n = 60
    counts = np.zeros((n, 1), dtype=np.int32)
    counts[[3, 20, 41, 54], 0] = 250, 900, 3000, 700
    X = np.column_stack([np.ones(n), np.arange(n) % 2])
    return Samples(X, counts, np.exp(0.1 * rng.normal(size=n)), np.array([40.0]))


def caught_from_start(drive, samples, config):
    status = np.zeros(1, dtype=np.int8)
    asking = drive(samples)
    state = asking(least_squares_start(status, samples.n_params, IrlsConfig()))
    return state.start[0], asking(catch(state, config))


def test_a_plateau_at_the_start_is_left_behind(drive):
    samples = deserted()
    start, state = caught_from_start(drive, samples, CatchConfig())
    there = summands(samples, start[None, :], 0.5, right="score")
    assert (there.right == 0).all()  # no slope at all: a descent from here alone goes nowhere
    assert state.fitted.all()
    assert state.nll[0] < there.nll[0] - 10
    free = minimize(lambda beta: summands(samples, beta[None, :], 0.0).nll[0], start, method="Nelder-Mead")
    assert state.nll[0] <= summands(samples, free.x[None, :], 0.5).nll[0] + 1e-6


def test_correcting_the_information_settles_what_fisher_s_alone_does_not_soon(drive):
    samples = deserted()
    settings = {"min_mu": 0.0, "max_iter": 30}
    _, corrected = caught_from_start(drive, samples, CatchConfig(**settings))
    _, fisher = caught_from_start(drive, samples, CatchConfig(**settings, memory=0))
    assert corrected.fitted.all()
    assert not fisher.fitted.all() or fisher.iterations[0] > corrected.iterations[0]


def test_short_steps_are_asked_about_where_no_long_one_will_do_and_change_nothing_else(drive, monkeypatch):
    """The same bits as by all step sizes at once, the twin, from less than half as many numbers."""
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(24), np.arange(24) % 2, rng.normal(size=24)])
    counts = rng.negative_binomial(0.08, 0.08 / (0.08 + np.geomspace(0.3, 3000, 12)), (24, 12))
    samples = Samples(X, np.asfortranarray(counts.astype(np.int32)), np.ones(24), np.full(12, 0.01))
    found, told, widths = [], [], []
    for first in (quasi_newton._LONG_STEPS, CatchConfig().halvings):
        monkeypatch.setattr(quasi_newton, "_LONG_STEPS", first)
        run = drive(*[rows(samples, np.arange(i, 24, 3)) for i in range(3)])
        found.append(run(catch(all_active(run, samples), CatchConfig(polls=0, max_iter=10))))
        asked = [query for query in run.queries if query.kind == "quasi_newton"]
        told.append(sum(query.values for query in asked))
        widths.append({query.candidates.shape[1] for query in asked if query.candidates.shape[1] > 3})
    for name in ("status", "reason", "beta", "nll", "xtwx", "score", "iterations"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))
    assert widths == [{5, 17}, {21}]
    assert told[0] < 0.5 * told[1]
