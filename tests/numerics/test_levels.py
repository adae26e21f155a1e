"""Which samples share a design row: found as sorting rows finds it."""

from itertools import pairwise

import numpy as np
import pytest

from secirls.numerics.regression import levels as module
from secirls.numerics.regression.levels import levels, numbered


def parts(order, starts):
    return sorted(tuple(order[a:b].tolist()) for a, b in pairwise(starts))


def by_sorting(design):
    _, level = np.unique(design, axis=0, return_inverse=True)
    return sorted(tuple(np.flatnonzero(level.reshape(-1) == row).tolist()) for row in range(level.max() + 1))


def made(samples, params, kinds, seed=0):
    """Rows of so many kinds a column, some of them zeros of either sign."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([[0.0, -0.0], rng.normal(size=kinds)])
    return np.column_stack([np.ones(samples), values[rng.integers(0, values.size, (samples, params - 1))]])


@pytest.mark.parametrize(("samples", "params", "kinds"), [(1, 2, 1), (64, 2, 1), (500, 5, 2), (500, 3, 400)])
def test_samples_of_a_row_are_found_in_their_order(samples, params, kinds):
    design = made(samples, params, kinds)
    order, starts = levels(design, samples)
    assert parts(order, starts) == by_sorting(design)
    assert (np.diff(order[starts[:-1]]) > 0).all()  # levels by their first sample


@pytest.mark.parametrize(("samples", "params", "kinds"), [(1, 2, 1), (64, 2, 1), (500, 5, 2), (500, 3, 400)])
def test_levels_are_numbered_by_their_first_samples(samples, params, kinds):
    design = made(samples, params, kinds)
    level, firsts = numbered(design)
    assert (np.diff(firsts) > 0).all()
    assert level[firsts].tolist() == list(range(firsts.size))
    np.testing.assert_array_equal(design[firsts][level], design)
    assert parts(*levels(design, samples)) == sorted(tuple(np.flatnonzero(level == one)) for one in range(firsts.size))


def test_a_column_that_is_not_looked_at_would_be_seen():
    design = made(200, 3, 2)
    assert parts(*levels(design[:, :2], 200)) != by_sorting(design)


def test_rows_whose_hashes_are_alike_are_told_apart(monkeypatch):
    monkeypatch.setattr(module, "_FACTOR", np.uint64(0))
    design = made(60, 3, 3)
    assert parts(*levels(design, 60)) == by_sorting(design)


def test_more_levels_than_asked_for_are_none():
    design = np.column_stack([np.ones(40), np.arange(40.0) // 4])
    assert levels(design, 9) is None
    assert len(levels(design, 10)[1]) == 11
    assert levels(np.empty((0, 2)), 0)[0].size == 0
