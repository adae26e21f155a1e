"""How centred and scaled columns follow from a design's own, for any formula: ``X~ = X T``, to rounding."""

import numpy as np
import pandas as pd
import pytest

from secirls.inputs.designs.design import Design, Variable
from secirls.numerics.held.covariates import combination, of_scaled, to_user

LEVELS = {"x": ("a", "b", "c"), "y": ("p", "q"), "site": ("k", "l", "m")}
FORMULAS = {
    "~ x + u": {"u"},
    "~ 0 + x + u": {"u"},
    "~ 0 + u": set(),
    "~ u": {"u"},
    "~ x:u": set(),
    "~ x + x:u": {"u"},
    "~ x * u": {"u"},
    "~ x / u": {"u"},
    "~ x + y + x:y:u": set(),
    "~ x * y * u": {"u"},
    "~ u * v": {"u", "v"},
    "~ u + u:v": {"v"},  # u can't be moved, for v alone is not in the design
    "~ x * u * v": {"u", "v"},
    "~ u + I(u**2)": {"u", "I(u ** 2)"},
    "~ x + center(u)": set(),
    "~ x * center(u) + v": {"v"},
    "~ log(u) * x + sqrt(v)": {"log(u)", "sqrt(v)"},
}


def made(formula, own=False, rows=40, seed=4):
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame({name: rng.choice(levels, rows) for name, levels in LEVELS.items()})
    obs["u"], obs["v"] = rng.uniform(2010, 2020, rows), rng.uniform(1, 2, rows)
    facts = {name: Variable(False, levels) for name, levels in LEVELS.items()} | {n: Variable(True) for n in "uv"}
    said = {name: {**facts, "site": Variable(False, (name,))} for name in LEVELS["site"]}
    return Design.agree(formula, {}, said, own=own), obs


@pytest.mark.parametrize("formula", FORMULAS)
def test_scaled_columns_are_the_user_s_times_t(formula):
    design, obs = made(formula)
    here, moved = design.covariates(obs, ""), design.expansion.centrable & ~design.centred
    assert {x.expr for x, free in zip(design.features, moved, strict=True) if free} == FORMULAS[formula]
    base = np.where(design.centred, here.numbers.mean(axis=0), 0.0)
    centres = np.where(moved, here.numbers.mean(axis=0), base)
    scales = np.array([4.0, 0.25])[: len(design.features)]
    T = design.expansion.matrix(centres - base, scales)
    X, scaled = here.design(base, np.ones_like(scales)), here.design(centres, scales)
    np.testing.assert_allclose(X @ T, scaled, atol=1e-9 * np.abs(X).max())
    assert abs(np.linalg.det(T)) > 0
    beta = np.random.default_rng(1).normal(size=(5, design.size))
    np.testing.assert_allclose(to_user(beta, T), beta @ T.T, rtol=1e-12, atol=1e-9)
    contrast = np.arange(design.size) + 1.0
    np.testing.assert_allclose(beta @ of_scaled(contrast, T), to_user(beta, T) @ contrast, rtol=1e-9, atol=1e-9)


def test_a_centre_that_the_design_does_not_span_would_be_seen():
    """The twin: moving u in ``~ x:u``, which has no slope to take the difference up."""
    design, obs = made("~ x:u")
    here = design.covariates(obs, "")
    T = design.expansion.matrix(np.zeros(1), np.ones(1))
    assert not np.allclose(here.design(np.zeros(1), np.ones(1)) @ T, here.design(np.array([2015.0]), np.ones(1)))


@pytest.mark.parametrize("formula", ["~ site + u + x", "~ site * u + x", "~ site + x * u", "~ site:u + x"])
def test_own_coefficients_come_back_to_the_user_s_scale(formula):
    """What a site's linear predictor is made of stays the same."""
    design, obs = made(formula, own=True, rows=60)
    rng = np.random.default_rng(3)
    for site in LEVELS["site"]:
        mine = obs[obs["site"] == site]
        here = design.covariates(mine, site)
        movable = design.expansion.centrable
        centres, scales, base = np.where(movable, 2015.0, 0.0), np.array([4.0]), np.zeros(1)
        shared, own, left, plain = here.split(centres, scales, base)
        T = design.expansion.matrix(centres, scales)[np.ix_(design.at_the_table, design.at_the_table)]
        beta, delta = rng.normal(size=(3, shared.shape[1])), rng.normal(size=(3, own.shape[1]))
        back = here.back(centres, scales, base)
        back_delta = to_user(delta, back.own) + to_user(beta, back.shared)
        before = delta @ own.T + beta @ shared.T
        after = back_delta @ plain.T + to_user(beta, T) @ left.T
        np.testing.assert_allclose(after, before, atol=1e-7)
        if own.shape[1]:
            with pytest.raises(AssertionError):
                np.testing.assert_allclose(delta @ plain.T + to_user(beta, T) @ left.T, before, atol=1e-7)


def test_numbers_far_from_zero_are_told_from_a_constant_at_home():
    """Time stamps with 1e-10 of their size between them: own intercepts make up for them only as they are."""
    design, obs = made("~ site + u", own=True)
    obs["u"] = 1.6e9 + 0.1 * np.arange(len(obs)) / len(obs)
    here = design.covariates(obs[obs["site"] == "l"], "l")
    shared = here.split(*here.at_home(), np.zeros(1))[0]
    assert shared[:, -1].any()
    assert not here.split(np.zeros(1), np.ones(1), np.zeros(1))[0][:, -1].any(), "the twin: as they are"


def test_whole_numbers_add_up_exactly_or_there_are_none():
    dummies = np.eye(3)[[0, 1, 2, 0, 1]]
    assert combination(dummies, np.ones(5)) == {0: 1.0, 1: 1.0, 2: 1.0}
    assert combination(np.column_stack([np.ones(5), dummies[:, 1:]]), dummies[:, 0]) == {0: 1.0, 1: -1.0, 2: -1.0}
    assert combination(dummies[:, 1:], np.ones(5)) == {}
    assert combination(dummies, np.arange(5.0)) == {}
    assert combination(dummies, dummies @ [0.5, 1, 1]) == {}
    assert combination(np.zeros((5, 0)), np.ones(5)) == {}
