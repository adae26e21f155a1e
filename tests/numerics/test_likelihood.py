"""The likelihood against 60-digit arithmetic, against PyDESeq2, and against its own derivatives."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secirls.numerics.regression import likelihood

ALPHAS = [1e-8, 3e-7, 1e-5, 1e-3, 0.05, 1.0, 30.0, 1e3, 1e5]
COUNTS = [0, 1, 2, 7, 15, 16, 17, 100, 12_345, 10**6, 123_456_789, 10**9]
LOG_MUS = [-700.0, -300.0, -40.0, -5.0, -0.7, 0.0, 0.4, 3.0, 12.0, 21.0, 50.0, 400.0, 599.0, 601.0, 700.0]
NEAR = [0.0, 1e-12, 1e-9, 1e-6, 1e-5, 1e-4, -1e-4, 1e-3, -0.02, 0.3, -2.0]


def exact_nll(y: float, log_mu: float, alpha: float) -> mp.mpf:
    """The textbook form in 60 digits, where nothing cancels."""
    with mp.workdps(60):
        y, size, mu = mp.mpf(float(y)), 1 / mp.mpf(float(alpha)), mp.exp(mp.mpf(float(log_mu)))
        binomial = mp.loggamma(y + size) - mp.loggamma(size) - mp.loggamma(y + 1)
        return -(binomial - (y + size) * mp.log1p(mu / size) + y * mp.log(mu / size))


def textbook_nll(y, log_mu, alpha):
    """The broken twin: right in exact arithmetic."""
    from scipy.special import gammaln

    size, mu = 1 / alpha, np.exp(log_mu)
    binomial = gammaln(y + size) - gammaln(y + 1) - gammaln(size)
    return size * np.log(alpha) - binomial + (y + size) * np.log(size + mu) - y * log_mu


def grid():
    for alpha in ALPHAS:
        for y in COUNTS:
            near = [float(np.log(y)) + step for step in NEAR] if y else []
            for log_mu in LOG_MUS + near:
                yield float(y), log_mu, alpha


def relative_errors(function, points):
    return {p: float(abs(mp.mpf(float(function(*p))) / exact_nll(*p) - 1)) for p in points}


def test_likelihood_has_ten_digits_on_the_whole_grid():
    worst = max(relative_errors(likelihood.nll, grid()).items(), key=lambda item: item[1])
    assert worst[1] <= 1e-10, worst


def test_the_textbook_form_would_be_caught():
    points = [p for p in grid() if 0 < p[0] <= 1e6 and abs(p[1] - np.log(p[0])) < 1 and p[2] < 1e-4]
    assert max(relative_errors(textbook_nll, points).values()) > 1e-7


@settings(max_examples=150, deadline=None)
@given(
    st.floats(-8, 5).map(lambda e: 10.0**e),
    st.one_of(st.integers(0, 100), st.integers(0, 10**9)),
    st.one_of(st.floats(-700, 700), st.floats(-1, 1)),
)
def test_likelihood_has_ten_digits_anywhere(alpha, y, shift):
    log_mu = shift + (np.log(y) if y and abs(shift) <= 1 else 0.0)
    value = float(likelihood.nll(np.float64(y), np.float64(log_mu), alpha))
    assert abs(mp.mpf(value) / exact_nll(y, log_mu, alpha) - 1) <= 1e-10


def test_sum_equals_pydeseq2_in_ordinary_ranges():
    from pydeseq2.utils import nb_nll

    rng = np.random.default_rng(0)
    for alpha in (0.01, 0.3, 4.0):
        mu = np.exp(rng.uniform(-0.5, 8, 50))
        y = rng.negative_binomial(1 / alpha, 1 / (1 + alpha * mu)).astype(float)
        ours = likelihood.nll(y, np.log(mu), alpha).sum()
        assert ours == pytest.approx(float(nb_nll(y, mu, alpha)), rel=1e-12)


def test_constants_and_moving_part_make_the_whole():
    y = np.array([0.0, 1, 5, 15, 16, 200, 1e5])[:, None, None]
    log_mu = np.linspace(-5, 12, 9)[:, None]
    alpha = np.array(ALPHAS)
    whole = likelihood.nll(y, log_mu, alpha)
    parts = likelihood.constants(y, alpha) + likelihood.moving_nll(y, log_mu, alpha)
    np.testing.assert_allclose(parts, whole, rtol=1e-10)


def test_score_and_information_are_the_derivatives():
    y = np.array([0.0, 1, 9, 400])[:, None, None]
    log_mu = np.linspace(-3, 8, 7)[:, None]
    alpha = np.array([1e-6, 0.1, 5.0])
    h = 1e-5
    slope = (likelihood.nll(y, log_mu + h, alpha) - likelihood.nll(y, log_mu - h, alpha)) / (2 * h)
    score = likelihood.score(y, log_mu, alpha)
    scale = (y + np.exp(log_mu)) / (1 + alpha * np.exp(log_mu)) + 1e-3
    assert np.max(np.abs(slope + score) / scale) < 1e-6
    assert np.max(np.abs(slope - score) / scale) > 1e-2  # the wrong sign would be seen
    # Information is the expected derivative of the score: at y = mu, the derivative itself.
    at_mean = np.exp(log_mu) + 0 * y
    bend = likelihood.score(at_mean, log_mu + h, alpha) - likelihood.score(at_mean, log_mu - h, alpha)
    np.testing.assert_allclose(-bend / (2 * h), likelihood.information(log_mu, alpha) + 0 * y, rtol=1e-6)


def test_limits_of_weight_and_score():
    assert likelihood.information(np.float64(700.0), 0.25) == 4.0
    assert likelihood.score(np.float64(3.0), np.float64(700.0), 0.25) == -4.0
    assert likelihood.information(np.float64(-700.0), 0.25) == pytest.approx(np.exp(-700.0))
