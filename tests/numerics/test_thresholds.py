"""Tests against a threshold: R's formulas by another hand, PyDESeq2's, and how often they reject a constructed null."""

import numpy as np
import pytest
from scipy import stats

from secirls.numerics.inference.alternatives import ALTERNATIVES
from secirls.numerics.inference.thresholds import against_threshold
from secirls.numerics.inference.wald import WaldTest, wald

T = 0.7


def test_of(change, error):
    return WaldTest(change, error, change / error, 2 * stats.norm.sf(np.abs(change / error)), {})


test_of.__test__ = False


@pytest.fixture(scope="module")
def some():
    rng = np.random.default_rng(4)
    change = np.concatenate([rng.normal(0, 1.5, 500), [0.0, T, -T, 0.0]])
    return test_of(change, np.concatenate([rng.uniform(0.05, 1.0, 503), [np.nan]]))


def tails(change, error, threshold):
    """One-sided p-values of being above the threshold, and below minus it; by the survival function."""
    return stats.norm.sf((change - threshold) / error), stats.norm.sf((-change - threshold) / error)


def expected(change, error, alternative, threshold=T):
    above, below = tails(change, error, threshold)
    if alternative == "greater":
        return above
    if alternative == "less":
        return below
    if alternative == "greaterAbs":
        return np.minimum(1.0, 2 * np.minimum(above, below))
    return np.maximum(1 - above, 1 - below)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_p_values_are_tails_beyond_the_threshold(some, alternative):
    found = against_threshold(some, T, alternative)
    change, error = some.log2_fold_change[:-1], some.lfc_se[:-1]
    np.testing.assert_allclose(found.pvalue[:-1], expected(change, error, alternative), rtol=1e-9, atol=1e-15)
    assert np.isnan(found.pvalue[-1])
    assert np.isnan(found.stat[-1])
    natural = expected(change, error, alternative, T * np.log(2))  # twin: a threshold in natural logs
    assert np.abs(found.pvalue[:-1] - natural).max() > 0.01


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_thresholds_are_those_of_pydeseq2(fit, alternative):
    from pydeseq2.utils import wald_test

    from secirls.inputs.simulate import simulate

    samples = simulate(genes=40, samples=30, seed=5).samples
    state = fit(samples)
    contrast = np.array([0.0, 1.0])
    ours = against_threshold(wald(state.beta, state.xtwx, contrast), T, alternative)
    null = {"less": -T}.get(alternative, T) * np.log(2)  # theirs is on the scale of the coefficients
    wrong = 0
    for gene in range(40):
        mu = np.maximum(samples.size_factors * np.exp(samples.design @ state.beta[gene]), 0.5)
        given = samples.design, samples.dispersions[gene], state.beta[gene], mu, 1e-6 * np.eye(2), contrast
        p, stat, _ = wald_test(*given, null, alternative)
        if alternative == "lessAbs" and abs(ours.log2_fold_change[gene]) >= T:
            assert ours.pvalue[gene] >= 0.5  # theirs cuts the tail off at one half
        elif ours.stat[gene] != 0:
            assert ours.pvalue[gene] == pytest.approx(p, rel=1e-7)
            assert abs(ours.stat[gene]) == pytest.approx(abs(stat), rel=1e-8)
            wrong += abs(wald_test(*given, null / np.log(2), alternative)[0] - ours.pvalue[gene]) > 1e-3
    assert wrong > 0, "a threshold in the wrong unit is seen"


def test_the_statistic_is_zero_where_the_estimate_does_not_reach_the_threshold(some):
    change = some.log2_fold_change[:-1]
    found = against_threshold(some, T, "greaterAbs").stat[:-1]
    assert (found[np.abs(change) <= T] == 0).all()
    assert (np.sign(found[np.abs(change) > T]) == np.sign(change[np.abs(change) > T])).all()
    assert (against_threshold(some, T, "greater").stat[:-1][change <= T] == 0).all()
    assert (against_threshold(some, T, "less").stat[:-1] <= 0).all()
    assert (against_threshold(some, T, "lessAbs").stat[:-1][np.abs(change) >= T] == 0).all()


def test_without_a_threshold_it_is_the_wald_test_itself(some):
    assert against_threshold(some, 0.0, "greaterAbs") is some


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_a_change_at_the_threshold_is_rejected_as_often_as_the_level_says(alternative):
    rng = np.random.default_rng(8)
    at = -T if alternative == "less" else T
    error = np.full(40_000, 0.2)
    drawn = test_of(rng.normal(at, error), error)
    share = (against_threshold(drawn, T, alternative).pvalue < 0.05).mean()
    assert share == pytest.approx({"greaterAbs": 0.025}.get(alternative, 0.05), abs=0.004)  # R's is conservative
    two_sided = 2 * stats.norm.sf(np.abs(drawn.stat))  # twin: against zero
    assert (two_sided < 0.05).mean() > 0.9


@pytest.mark.parametrize(
    ("threshold", "alternative", "word"),
    [
        (-1.0, "greater", "zero or more"),
        (np.nan, "less", "zero or more"),
        (0.0, "lessAbs", "above"),
        (1.0, "two", "two"),
    ],
)
def test_what_is_no_test_is_refused(some, threshold, alternative, word):
    with pytest.raises(ValueError, match=word):
        against_threshold(some, threshold, alternative)
