"""The catch looks around: the clamped likelihood has several valleys, and the deepest in sight is taken."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import secirls.algorithms.regression.catch as room
from secirls.algorithms.query import QueryError
from secirls.algorithms.regression.catch import LikelihoodQuery, catch
from secirls.algorithms.regression.irls import IrlsConfig, least_squares_start, update_rows
from secirls.algorithms.regression.quasi_newton import CatchConfig
from secirls.inputs.simulate import rows
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood
from secirls.numerics.regression.kernels import summands
from secirls.numerics.status import Reason, Status

GENES, SAMPLES = 100, 24


@pytest.fixture(scope="module")
def sparse() -> Samples:
    """Counts of 0, 1, 2 and size factors that differ: many means of many genes lie at the clamp."""
    rng = np.random.default_rng(2)
    X = np.column_stack([np.ones(SAMPLES), np.repeat([0.0, 1.0], SAMPLES // 2)])
    s, alpha = np.exp(rng.normal(0, 0.8, SAMPLES)), rng.choice([0.3, 2.0, 8.0], GENES)
    mu = s[:, None] * np.exp(rng.normal(-1, 1, GENES))
    counts = rng.negative_binomial(1 / alpha, 1 / (1 + alpha * mu)).astype(np.int32)
    return Samples(X, np.asfortranarray(counts), s, alpha)


@pytest.fixture(scope="module")
def deepest(sparse) -> np.ndarray:
    """The smallest clamped likelihood of each gene on a grid of coefficients, an eighth apart, ``(genes,)``."""
    axis = np.arange(-8.0, 8.05, 0.125)
    grid = np.array(list(itertools.product(axis, axis)))
    log_mu = np.maximum(grid @ sparse.design.T + np.log(sparse.size_factors), np.log(0.5))
    counts = sparse.counts.astype(float)
    return np.array(
        [likelihood.nll(counts[:, g], log_mu, sparse.dispersions[g]).sum(axis=1).min() for g in range(GENES)]
    )


def caught(drive, samples, config=None):
    run = drive(*[rows(samples, np.arange(i, SAMPLES, 3)) for i in range(3)])
    begun = run(least_squares_start(np.zeros(samples.n_genes, dtype=np.int8), 2, IrlsConfig()))
    run.queries.clear()
    return run(catch(begun, config or CatchConfig())), run


@pytest.fixture(scope="module")
def ends():
    """Of catches that several tests look at, by what their configurations change."""
    return {}


@pytest.fixture
def end(drive, sparse, ends):
    """``end(polls=...)``: the state in which the catch leaves `sparse`."""

    def get(**changes):
        key = tuple(changes.items())
        if key not in ends:
            ends[key] = caught(drive, sparse, CatchConfig(**changes))[0]
        return ends[key]

    return get


@pytest.mark.slow
def test_nearly_every_gene_ends_as_deep_as_a_grid_search(end, deepest):
    state = end()
    assert (state.status == Status.CAUGHT).all()
    assert (state.nll <= deepest + 1e-6).mean() >= 0.98


@pytest.mark.slow
def test_one_descent_alone_ends_less_deep_than_a_grid_search(end, deepest):
    assert (end(polls=0).nll <= deepest + 1e-6).mean() < 0.9


def test_one_descent_alone_ends_in_shallower_valleys(end):
    alone, state = end(polls=0), end()
    assert (state.nll <= alone.nll + 1e-9).all()
    assert (alone.nll - state.nll).max() > 0.5


def test_what_is_reported_is_what_the_sites_hold(end, sparse):
    state = end()
    sums = summands(sparse, state.beta, 0.5, right="score")
    np.testing.assert_allclose(state.nll, sums.nll, rtol=1e-12)
    np.testing.assert_allclose(state.xtwx, sums.xtwx, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(state.score, sums.right, rtol=1e-8, atol=1e-10)


def test_without_a_clamp_nothing_is_looked_for(drive, sparse):
    _, run = caught(drive, sparse, CatchConfig(min_mu=0.0))
    assert run.queries
    assert not [query for query in run.queries if query.kind == "likelihood"]


def test_long_patterns_take_several_rounds_to_the_same_end(drive, sparse, end, monkeypatch):
    at_once = end()
    monkeypatch.setattr(room, "_LARGEST_PATTERN", 33)
    in_turns, run = caught(drive, sparse)
    asked = [query.candidates.shape[1] for query in run.queries if query.kind == "likelihood"]
    assert max(asked) == 33
    np.testing.assert_array_equal(in_turns.beta, at_once.beta)


def test_a_gene_that_fails_on_its_way_to_another_valley_stays(drive, sparse, end, monkeypatch):
    before = end(polls=0)
    descend, calls = room.descend, []

    def lost_after_the_first_two(state, genes, starts, config):
        after = yield from descend(state, genes, starts, config)
        calls.append(1)
        if len(calls) <= 2:
            return after
        asked = np.flatnonzero(genes)
        return update_rows(after, asked, status=Status.FAILED, reason=Reason.LOST, beta=np.nan)

    monkeypatch.setattr(room, "descend", lost_after_the_first_two)
    state, _ = caught(drive, sparse)
    assert len(calls) == 3
    np.testing.assert_array_equal(state.beta, before.beta)
    np.testing.assert_array_equal(state.status, before.status)


@pytest.mark.parametrize(
    "candidates", [np.zeros((3, 2)), np.zeros((3, 0, 2)), np.zeros((2, 1, 2)), np.zeros((3, 1025, 2))]
)
def test_queries_that_do_not_fit_are_refused(candidates):
    with pytest.raises(QueryError):
        LikelihoodQuery(np.ones(3, dtype=bool), candidates, 0.5).check(3, 2)
