"""Transformed counts have the variance that is promised, and the derivative that it follows from, for every trend."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from secirls.numerics.trend.local_trend import LocalTrend, local_trend
from secirls.numerics.trend.stabilised import NoTransformError, stabilised
from secirls.numerics.trend.trend import Trend

A, E = 0.02, 3.0
MEANS = np.geomspace(30.0, 30_000.0, 12)
BASE_MEANS = np.geomspace(0.1, 1e5, 500)
AT = np.geomspace(1e-3, 1e6, 40)


def bent(x):
    """A dispersion that no parametric trend describes."""
    return np.exp(-2.0 + 0.8 * np.cos(0.5 * np.log(x)))


KNOTS = np.linspace(np.log(0.05), np.log(3e6), 400)
SLOPES = -0.4 * np.sin(0.5 * KNOTS)
LOCAL = Trend("local", local=LocalTrend(KNOTS, np.log(bent(np.exp(KNOTS))), SLOPES))


def deviations(transform, dispersion):
    """Standard deviation of transformed negative binomial counts at each of `MEANS`."""
    rng = np.random.default_rng(11)
    alpha = dispersion(MEANS)
    counts = rng.negative_binomial(1 / alpha, 1 / (1 + alpha * MEANS), size=(40_000, MEANS.size)).astype(float)
    return transform(counts).std(axis=0)


def spread(transform, dispersion):
    found = deviations(transform, dispersion)
    return found.max() / found.min()


def by(trend, mean_inverse=1.0):
    return lambda counts: stabilised(counts, trend, BASE_MEANS, mean_inverse)


@pytest.mark.parametrize(
    ("trend", "dispersion", "broken"),
    [
        (Trend("parametric", A, E), lambda x: A + E / x, Trend("parametric", E, A)),
        (Trend("mean", mean=A), lambda x: np.full(x.shape, A), Trend("mean", mean=1.0)),
        (LOCAL, bent, Trend("mean", mean=float(bent(np.array([1e3]))[0]))),
    ],
    ids=["parametric", "mean", "local"],
)
def test_the_variance_of_transformed_counts_does_not_follow_their_mean(trend, dispersion, broken):
    assert spread(by(trend), dispersion) < 1.12
    assert spread(by(broken), dispersion) > 1.2
    assert spread(lambda counts: np.log2(counts + 1.0), dispersion) > 1.2


@pytest.mark.parametrize(
    ("trend", "variance"),
    [
        (Trend("parametric", A, E), lambda q: (1 + E) * q + A * q * q),
        (Trend("mean", mean=A), lambda q: q + A * q * q),
    ],
    ids=["parametric", "mean"],
)
def test_a_closed_form_is_the_integral_and_log2_of_large_counts(trend, variance):
    values = by(trend)(AT)
    for low, high, told in zip(AT, AT[1:], np.diff(values), strict=False):
        steps = quad(lambda u: np.exp(u) / np.sqrt(variance(np.exp(u))), np.log(low), np.log(high), epsabs=0)[0]
        assert told == pytest.approx(np.sqrt(A) / np.log(2) * steps, rel=1e-9)
    assert by(trend)(np.array([1e13])) == pytest.approx(np.log2(1e13), abs=1e-9)
    assert by(trend)(np.zeros(1)) == pytest.approx(np.log2((1 + (trend.kind == "parametric") * E) / (4 * A)))


@pytest.mark.parametrize("mean_inverse", [0.7, 1.0, 1.9])
def test_the_local_transform_is_the_integral_and_log2_at_two_quantiles(mean_inverse):
    low, high = np.quantile(BASE_MEANS, [0.95, 0.999])

    def integral(start, end):
        def density(u):
            q = np.exp(u)
            return q / np.sqrt(mean_inverse * q + float(LOCAL.at(np.array([q]))[0]) * q * q)

        return quad(density, np.log(start), np.log(end), epsabs=0, epsrel=1e-11, limit=500)[0]

    ours = by(LOCAL, mean_inverse)
    assert ours(np.array([low, high])) == pytest.approx(np.log2([low, high]), rel=1e-13)
    slope = np.log2(high / low) / integral(low, high)
    for start, end in ((0.5, 4.0), (4.0, 700.0), (700.0, 2e5)):
        told = np.diff(ours(np.array([start, end])))[0]
        assert told == pytest.approx(slope * integral(start, end), rel=1e-8)
        assert told != pytest.approx(np.diff(by(LOCAL, mean_inverse + 0.2)(np.array([start, end])))[0], rel=1e-4)


def test_the_local_transform_is_rs_recipe_on_a_grid_but_for_the_grid():
    """R takes 1,000 points, equal in asinh, up to the largest normalised count, trapezoids, and a spline."""
    low, high = np.quantile(BASE_MEANS, [0.95, 0.999])
    counts = np.geomspace(1.0, 1e6, 200)

    def recipe(shot):
        grid = np.sinh(np.linspace(0, np.arcsinh(1e6), 1000))[1:]
        density = 1 / np.sqrt(LOCAL.at(grid) * grid**2 + shot * grid)
        steps = np.cumsum(np.diff(grid) * (density[1:] + density[:-1]) / 2)
        spline = CubicSpline(np.arcsinh((grid[1:] + grid[:-1]) / 2), steps)
        at_low, at_high = spline(np.arcsinh([low, high]))
        return np.log2(low) + np.log2(high / low) / (at_high - at_low) * (spline(np.arcsinh(counts)) - at_low)

    ours = by(LOCAL, 1.4)(counts)
    assert np.abs(ours - recipe(1.4)).max() < 0.03
    assert np.abs(ours - recipe(1.0)).max() > 0.1
    assert np.abs(by(LOCAL, 1.0)(counts) - recipe(1.0)).max() < 0.03


def test_a_local_trend_without_a_bend_is_the_mean_to_rounding_up_to_scale():
    level = LocalTrend(np.array([0.0, 5.0]), np.log([A, A]), np.zeros(2))
    flat, closed = by(Trend("local", local=level))(AT), by(Trend("mean", mean=A))
    low, high = np.quantile(BASE_MEANS, [0.95, 0.999])
    at_low, at_high = closed(np.array([low, high]))
    straight = np.log2(low) + np.log2(high / low) / (at_high - at_low) * (closed(AT) - at_low)
    assert np.abs(flat - straight).max() < 1e-12


def test_any_part_of_a_matrix_is_transformed_alike_and_zeros_are_finite():
    rng = np.random.default_rng(3)
    means = rng.uniform(1, 1000, 300)
    fitted = Trend("local", local=local_trend(means, rng.gamma(2, 0.1, 300)))
    counts = rng.poisson(20, (5, 30)) / 0.8
    counts[0, :4] = 0.0
    for trend in (fitted, Trend("parametric", A, E), Trend("mean", mean=A)):
        whole = by(trend)(counts)
        assert np.isfinite(whole).all()
        assert np.array_equal(whole[1:3, 5:9], by(trend)(counts[1:3, 5:9]))
        assert np.array_equal(np.argsort(whole, axis=None), np.argsort(counts, axis=None))


@pytest.mark.parametrize("base_means", [np.zeros(0), np.full(9, np.nan), np.zeros(9), np.full(9, 4.0)])
def test_a_local_transform_without_a_scale_is_refused(base_means):
    with pytest.raises(NoTransformError, match="too alike"):
        stabilised(AT, LOCAL, base_means, 1.0)
    assert np.isfinite(stabilised(AT, Trend("mean", mean=A), base_means, 1.0)).all()
