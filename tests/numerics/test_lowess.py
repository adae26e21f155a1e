"""R's lowess: held to a plain loop over points written from Cleveland's paper, and told apart from PyDESeq2's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secirls.numerics.inference.lowess import lowess, pydeseq2_lowess


def by_hand(x, y, nearest, passes):
    """One point, one weight, one residual at a time."""
    n = len(x)
    trust = [1.0] * n
    for _ in range(passes + 1):
        smooth = []
        for i in range(n):
            distance = [abs(x[j] - x[i]) for j in range(n)]
            h = sorted(distance)[nearest - 1]
            weight = []
            for j in range(n):
                if distance[j] <= 0.001 * h:
                    w = 1.0
                elif distance[j] > 0.999 * h:
                    w = 0.0
                else:
                    w = (1 - (distance[j] / h) ** 3) ** 3
                weight.append(w * trust[j])
            total = sum(weight)
            if total == 0:
                smooth.append(y[i])
                continue
            mean_x = sum(w * v for w, v in zip(weight, x, strict=True)) / total
            mean_y = sum(w * v for w, v in zip(weight, y, strict=True)) / total
            spread = sum(w * (v - mean_x) ** 2 for w, v in zip(weight, x, strict=True)) / total
            slope = 0.0
            if spread**0.5 > 0.001 * (x[-1] - x[0]):
                slope = sum(w * (v - mean_x) * u for w, v, u in zip(weight, x, y, strict=True)) / total / spread
            smooth.append(mean_y + slope * (x[i] - mean_x))
        rest = [abs(a - b) for a, b in zip(y, smooth, strict=True)]
        ordered = sorted(rest)
        six = 3 * (ordered[n // 2] + ordered[(n - 1) // 2])
        if six < 1e-7 * sum(rest) / n:
            break
        trust = [1.0 if r <= 0.001 * six else 0.0 if r > 0.999 * six else (1 - (r / six) ** 2) ** 2 for r in rest]
    return smooth


@given(st.integers(0, 10**6))
def test_every_point_is_the_one_computed_by_hand(seed):
    random = np.random.default_rng(seed)
    x = np.linspace(random.uniform(0, 0.9), 0.95, 50)
    y = np.floor(random.uniform(0, 3000) * np.exp(-3 * random.uniform(0, 1) * x) + random.normal(0, 20, 50))
    assert lowess(x, y, 0.2) == pytest.approx(by_hand(list(x), list(y), 10, 3), rel=1e-9, abs=1e-9)


def test_one_neighbour_more_or_one_pass_less_is_another_curve():
    x = np.linspace(0.3, 0.95, 50)
    y = np.round(500 + 200 * np.sin(9 * x) + 40 * np.cos(31 * x))
    y[20] += 300
    ours = lowess(x, y, 0.2)
    assert np.abs(ours - by_hand(list(x), list(y), 11, 3)).max() > 0.1
    assert np.abs(ours - by_hand(list(x), list(y), 10, 2)).max() > 0.01


def test_pydeseq2s_is_another_curve():
    from pydeseq2.utils import lowess as theirs

    x = np.linspace(0.3, 0.95, 50)
    y = np.round(500 + 200 * np.sin(9 * x) + 40 * np.cos(31 * x))
    assert np.abs(lowess(x, y, 0.2) - theirs(x, y, 0.2)).max() > 0.1


def test_a_line_is_a_line_and_what_can_t_be_fitted_stays():
    x = np.linspace(0, 1, 50)
    assert lowess(x, 3 - 2 * x, 0.2) == pytest.approx(3 - 2 * x, abs=1e-12)
    assert np.array_equal(lowess(np.ones(5), np.arange(5.0), 0.2), np.full(5, 2.0))
    assert np.array_equal(lowess(np.ones(1), np.array([7.0]), 0.2), [7.0])


@pytest.mark.parametrize("seed", range(5))
def test_pydeseq2s_curve_is_pydeseq2s(seed):
    from pydeseq2.utils import lowess as theirs

    random = np.random.default_rng(seed)
    x = np.linspace(0.1 * seed, 0.95, 50)
    y = 1000 * (1 - (x - 0.4) ** 2) + random.normal(0, 20, 50)
    y[random.integers(0, 50, 3)] += 300
    y = np.floor(y)
    np.testing.assert_allclose(pydeseq2_lowess(x, y, 0.2), theirs(x, y, frac=0.2), rtol=1e-9)
    assert np.abs(lowess(x, y, 0.2) - theirs(x, y, frac=0.2)).max() > 1e-3
