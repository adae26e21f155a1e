"""Trend, spread and prior: constructed truth, what makes the parametric form fail, and the smoothers by themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import polygamma

from secirls.algorithms.dispersion.shrunken_dispersions import FLAT, trend_and_prior
from secirls.numerics.trend import prior
from secirls.numerics.trend.local_trend import hermite, local_parabolas
from secirls.numerics.trend.loess import loess, vertices
from secirls.numerics.trend.prior import log_variance, matched_variance, prior_variance, simulated
from secirls.numerics.trend.trend import (
    NoTrendError,
    _gamma_regression,
    dropping_trend,
    fit_trend,
    parametric_trend,
)


def drawn(genes, degrees=6, scatter=0.5, seed=0):
    """Base means, and estimates around 0.05 + 2 / mean with chi-squared noise and a log-normal scatter."""
    rng = np.random.default_rng(seed)
    means = np.exp(rng.uniform(0, 9, genes))
    noise = rng.chisquare(degrees, genes) / degrees * np.exp(scatter * rng.normal(size=genes))
    return means, (0.05 + 2.0 / means) * noise


def test_an_exact_trend_is_given_back():
    means = np.exp(np.linspace(0, 9, 500))
    trend = fit_trend(means, 0.05 + 2.0 / means)
    assert trend.kind == "parametric"
    assert trend.asymptotic == pytest.approx(0.05, rel=1e-9)
    assert trend.extra_poisson == pytest.approx(2.0, rel=1e-9)
    np.testing.assert_allclose(trend.at(means), 0.05 + 2.0 / means, rtol=1e-9)


def test_the_gamma_regression_maximises_its_likelihood():
    means, estimates = drawn(2000)
    x = 1.0 / means
    a, b, converged = _gamma_regression(x, estimates, 0.1, 1.0)
    assert converged

    def deviance(logs):
        mu = np.exp(logs[0]) + np.exp(logs[1]) * x
        return 2 * ((estimates - mu) / mu - np.log(estimates / mu)).sum()

    best = minimize(deviance, np.log([a, b]), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12})
    np.testing.assert_allclose(np.exp(best.x), [a, b], rtol=1e-4)
    assert deviance(np.log([1.01 * a, b])) > deviance(np.log([a, b])) < deviance(np.log([a, 1.01 * b]))


def test_where_least_squares_go_in_circles_pydeseq2s_trend_is_the_maximum_and_rs_has_failed():
    """One gene with a small mean outweighs all others in turn: R's regression, the twin, never settles."""
    means = np.concatenate([np.linspace(20.0, 300.0, 29), [0.15, 300.0]])
    estimates = np.concatenate([0.1 * np.exp(0.4 * np.sin(np.arange(29.0))), [20.0, 1.4]])
    x = 1.0 / means
    a, b, converged = _gamma_regression(x, estimates, 1.0, 1.0)
    for _ in range(50):
        a, b, converged = _gamma_regression(x, estimates, a, b)
        assert not converged
    assert parametric_trend(means, estimates) is None

    def deviance(logs):
        mu = np.exp(logs[0]) + np.exp(logs[1]) * x
        return 2 * ((estimates - mu) / mu - np.log(estimates / mu)).sum()

    found = dropping_trend(means, estimates)
    best = minimize(deviance, np.log([0.1, 3.0]), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14})
    np.testing.assert_allclose(np.log(found), best.x, atol=1e-6)
    trend = fit_trend(means, estimates, parametric="dropped")
    assert (trend.kind, trend.asymptotic, trend.extra_poisson) == ("parametric", *found)
    assert deviance(np.log([a, b])) > best.fun + 1e-2


def test_a_trend_that_falls_to_nothing_is_pydeseq2s_mean():
    means = np.linspace(20.0, 300.0, 50)
    rising = 0.001 * means
    assert dropping_trend(means, rising) is None
    assert fit_trend(means, rising, parametric="dropped").kind == "mean"


@pytest.mark.parametrize("mean", [12.3, 0.7, 1e6])
def test_genes_of_one_base_mean_have_no_slope(mean):
    """R's glm() leaves the slope out, and a local trend follows; before, rounding made one, which held elsewhere."""
    estimates = 0.3 * np.exp(np.random.default_rng(1).normal(size=100))
    means = np.full(100, mean)
    assert parametric_trend(means, estimates) is None
    assert parametric_trend(means * np.linspace(1, 1 + 1e-13, 100), estimates) is None
    trend = fit_trend(means, estimates)
    assert trend.kind == "local"
    np.testing.assert_allclose(np.log(trend.at(mean * np.array([0.1, 1.0, 10.0]))), np.median(np.log(estimates)))
    near = 0.3 + 0.05 * mean / (means * np.linspace(1, 1.3, 100))
    assert parametric_trend(means * np.linspace(1, 1.3, 100), near) == pytest.approx((0.3, 0.05 * mean), rel=1e-6)


def test_genes_far_from_the_trend_do_not_move_it():
    means, estimates = drawn(3000)
    plain = fit_trend(means, estimates)
    wild = fit_trend(np.append(means, [100.0] * 20), np.append(estimates, [1e3] * 20))
    assert wild.asymptotic == pytest.approx(plain.asymptotic, rel=1e-9)
    a, _, _ = _gamma_regression(1 / np.append(means, [100.0] * 20), np.append(estimates, [1e3] * 20), 0.1, 1.0)
    assert a != pytest.approx(plain.asymptotic, rel=0.1)


def test_dispersions_that_rise_with_the_mean_have_a_local_trend():
    means = np.exp(np.linspace(0, 9, 800))
    rising = 0.01 * means**0.4
    assert parametric_trend(means, rising) is None
    trend = fit_trend(means, rising)
    assert trend.kind == "local"
    np.testing.assert_allclose(trend.at(means), rising, rtol=1e-9)
    below = trend.at(np.array([0.01]))[0]
    assert below == pytest.approx(0.01 * 0.01**0.4, rel=1e-6)


def test_one_dispersion_for_all_has_a_trend_whatever_the_mean():
    means = np.exp(np.linspace(0, 9, 300))
    trend = fit_trend(means, np.full(300, 0.2))
    np.testing.assert_allclose(trend.at(means), 0.2, rtol=1e-9)
    alike = fit_trend(np.full(11, 50.0), np.linspace(0.1, 0.3, 11), "local")
    assert alike.at(np.array([1.0, 1e6])).tolist() == pytest.approx([0.2, 0.2])


def test_the_mean_is_trimmed_at_both_ends():
    estimates = np.concatenate([[1e-8, 2e-7, 1e4], np.full(1998, 0.3)])
    trend = fit_trend(np.ones(estimates.size), estimates, "mean")
    assert trend.kind == "mean"
    assert trend.at(np.array([5.0]))[0] == pytest.approx(0.3, rel=1e-14)


def test_estimates_all_at_the_floor_have_no_trend_but_one_dispersion():
    means, floor = np.ones(9), np.full(9, 1e-8)
    with pytest.raises(NoTrendError):
        fit_trend(means, floor)
    told = trend_and_prior(means, floor, 8, 2)
    assert told.flat
    assert told.trend.at(means).tolist() == [FLAT] * 9


def test_genes_without_an_estimate_are_left_out():
    means, estimates = drawn(500)
    alone = trend_and_prior(means, estimates, 8, 2)
    more = trend_and_prior(np.append(means, 3.0), np.append(estimates, np.nan), 8, 2)
    assert alone == more


def test_the_prior_is_what_the_sampling_leaves_of_the_scatter():
    means, estimates = drawn(20_000, degrees=10, scatter=0.9)
    rest = prior.residuals(estimates, 0.05 + 2.0 / means)
    assert prior_variance(rest, 10) == pytest.approx(0.81, abs=0.06)
    assert prior_variance(rest, 10) == pytest.approx(log_variance(rest) - polygamma(1, 5.0), rel=1e-13)
    assert prior_variance(0.1 * rest, 10) == 0.25
    with pytest.raises(ValueError, match="more samples"):
        prior_variance(rest, 0)


@pytest.mark.parametrize("degrees", [1, 2, 3])
def test_few_degrees_of_freedom_are_matched_by_their_histogram(degrees):
    rng = np.random.default_rng(degrees)
    rest = np.log(rng.chisquare(degrees, 100_000) / degrees) + 1.2 * rng.normal(size=100_000)
    assert matched_variance(rest, degrees) == pytest.approx(1.44, abs=0.15)
    # the plain rule, which the histogram replaces, is far off where the law is least symmetric
    assert degrees > 1 or log_variance(rest) - polygamma(1, degrees / 2) != pytest.approx(1.44, abs=0.15)
    assert prior_variance(np.full(50, 0.1), degrees) >= 0.25


def test_simulated_histograms_are_of_ten_thousand_draws_each():
    for degrees in (1, 2, 3):
        table = simulated(degrees)
        assert table.shape == (200, 40)
        assert (table.sum(axis=1) > 9_800).all()  # a few lie outside (-10, 10)
        assert (table.sum(axis=1) <= 10_000).all()
        assert not table.flags.writeable


def test_a_damaged_table_is_refused(monkeypatch):
    monkeypatch.setitem(prior.SHA256, 2, "0" * 64)
    with pytest.raises(RuntimeError, match="damaged"):
        simulated.__wrapped__(2)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.floats(-5, 5))
def test_a_parabola_is_its_own_smooth(c, shift):
    x = np.linspace(0, 8, 200) + shift
    y = c[0] + c[1] * (x - shift) + c[2] * (x - shift) ** 2
    at = np.linspace(0, 8, 1000) + shift
    expected = c[0] + c[1] * (at - shift) + c[2] * (at - shift) ** 2
    np.testing.assert_allclose(loess(x, y, 0.2, at), expected, rtol=1e-9, atol=1e-9)
    values, slopes = local_parabolas(x, y, np.ones(200), at[::100], 40)
    np.testing.assert_allclose(values, expected[::100], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slopes, c[1] + 2 * c[2] * (at[::100] - shift), rtol=1e-9, atol=1e-8)


def test_local_parabolas_are_weighted_least_squares():
    rng = np.random.default_rng(1)
    x, weights = np.sort(rng.normal(size=80)), rng.gamma(1.0, 1.0, 80)
    y, near = rng.normal(size=80), 30
    for at in (-2.5, -0.3, 0.0, 1.1, 3.0):
        distance = np.abs(x - at)
        chosen = np.argsort(distance)[:near]
        w = weights[chosen] * (1 - (distance[chosen] / distance[chosen].max()) ** 3) ** 3
        powers = np.vander(x[chosen] - at, 3, increasing=True)
        expected = np.linalg.lstsq(powers * np.sqrt(w)[:, None], y[chosen] * np.sqrt(w), rcond=None)[0]
        values, slopes = local_parabolas(x, y, weights, np.array([at]), near)
        assert values[0] == pytest.approx(expected[0], rel=1e-8)
        assert slopes[0] == pytest.approx(expected[1], rel=1e-8)


def test_vertices_are_cut_at_lower_medians():
    found = vertices(np.arange(1.0, 18.0), 8)
    assert found.tolist() == pytest.approx([1 - 0.08, 5.0, 9.0, 17.08])
    assert vertices(np.arange(8.0), 8).size == 2
    # 200 points in cells of at most 8: 32 cells, 31 cuts, 2 ends
    assert vertices(np.arange(200.0), 8).size == 33


def test_cubics_meet_values_and_slopes_and_go_on_as_lines():
    points, values, slopes = np.array([0.0, 1.0, 3.0]), np.array([1.0, 2.0, 0.0]), np.array([0.5, -1.0, 2.0])
    np.testing.assert_allclose(hermite(points, values, slopes, points), values)
    for point, slope in zip(points, slopes, strict=True):
        left, right = hermite(points, values, slopes, np.array([point - 1e-6, point + 1e-6]))
        assert (right - left) / 2e-6 == pytest.approx(slope, abs=1e-5)
    assert hermite(points, values, slopes, np.array([-2.0, 5.0])).tolist() == pytest.approx([0.0, 4.0])
