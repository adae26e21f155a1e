"""Design columns follow from formula and levels alone, the same at every site and for every hash seed."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from formulaic import Formula
from hypothesis import given
from hypothesis import strategies as st

from secirls.input_error import InputError
from secirls.inputs.designs.design import Design, Variable
from secirls.inputs.designs.ranks import dependent_columns

CODE = """
from secirls.inputs.designs.design import Design, Variable
said = {"a": {"x": Variable(False, ("b", "c")), "y": Variable(False, ("q", "p"))},
        "b": {"x": Variable(False, ("a",)), "y": Variable(False, ("r",))}}
print(Design.agree("~ x * y", {}, said).columns)
"""


def agreed(formula, obs, declared=None):
    said = {
        name: Variable(True)
        if pd.api.types.is_numeric_dtype(obs[name])
        else Variable(False, tuple(sorted(set(obs[name]))))
        for name in obs
    }
    return Design.agree(formula, declared or {}, {"a": said})


def test_two_hash_seeds_give_the_same_columns():
    shown = {
        subprocess.run(
            [sys.executable, "-c", CODE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(shown) == 1
    assert "x[T.b]" in shown.pop()


def test_reference_is_the_first_declared_else_the_first_sorted():
    obs = pd.DataFrame({"x": ["u", "t", "s"]})
    assert agreed("~ x", obs).columns == ("Intercept", "x[T.t]", "x[T.u]")
    assert agreed("~ x", obs, {"x": ("u", "t", "s")}).columns == ("Intercept", "x[T.t]", "x[T.s]")


def test_a_site_without_some_levels_has_the_same_columns():
    design = agreed("~ x + age", pd.DataFrame({"x": ["u", "t", "s"], "age": [1.0, 2.0, 3.0]}))
    part = design.matrix(pd.DataFrame({"x": ["t", "t"], "age": [4.0, 5.0]}))
    assert np.array_equal(part, [[1, 1, 0, 4], [1, 1, 0, 5]])
    assert design.matrix(pd.DataFrame({"x": [], "age": []})).shape == (0, 4)


@given(
    st.lists(st.sampled_from("abc"), min_size=6, max_size=12),
    st.lists(st.sampled_from("pq"), min_size=12, max_size=12),
    st.sampled_from(["~ x + y", "~ x * y", "~ x + age", "~ x:age + y", "~ 0 + x", "~ age * y"]),
)
def test_rows_equal_the_pooled_model_matrix(x, y, formula):
    obs = pd.DataFrame({"x": [*x, "a", "b", "c"], "y": ([*y[: len(x)], "p", "q", "p"])})
    obs["age"] = np.linspace(-1, 2, len(obs))
    pooled = np.asarray(Formula(formula).get_model_matrix(obs), dtype=float)
    design = agreed(formula, obs)
    parts = np.vstack([design.matrix(part) for part in (obs.iloc[:2], obs.iloc[2:5], obs.iloc[5:])])
    assert np.array_equal(parts, pooled)


@pytest.mark.parametrize("name", ["my factor", "a.b", "x_y", "Größe", "T.x", "condition[T.x]"])
@pytest.mark.parametrize("levels", [("a b", "a b c"), ("x[T.y]", "1"), ("-", "~"), ("", "é")])
def test_any_legal_name_works(name, levels):
    obs = pd.DataFrame({name: [levels[0], levels[1], levels[0]]})
    design = agreed(f"~ `{name}`", obs, {name: levels})
    assert np.array_equal(design.matrix(obs), [[1, 0], [1, 1], [1, 0]])
    assert np.array_equal(design.contrast(name, levels[1], levels[0]), [0, 1])


def test_contrasts_in_every_coding():
    obs = pd.DataFrame({"x": ["u", "t", "s"], "age": [1.0, 2.0, 3.0]})
    levels = {"x": ("u", "t", "s")}
    assert np.array_equal(agreed("~ x + age", obs, levels).contrast("x", "s", "t"), [0, -1, 1, 0])
    assert np.array_equal(agreed("~ 0 + x", obs[["x"]], levels).contrast("x", "s", "u"), [-1, 0, 1])
    assert np.array_equal(agreed("~ x + age", obs, levels).contrast("age", "3", "1"), [0, 0, 0, 2])
    vector, name = agreed("~ age + x", obs, levels).default_contrast()
    assert np.array_equal(vector, [0, 0, 0, 1])
    assert name == "x: s against u"
    assert agreed("~ x * age", obs, levels).default_contrast()[1] == "coefficient x[T.s]:age"


def test_the_default_contrast_is_of_the_last_level_that_was_not_dropped():
    obs = pd.DataFrame({"x": ["u", "t", "s"], "age": [1.0, 2.0, 3.0]})
    levels = {"x": ("u", "t", "s")}
    design = agreed("~ age + x", obs, levels)
    vector, name = design.without((3,)).default_contrast()
    assert np.array_equal(vector, [0, 0, 1])
    assert name == "x: t against u"
    assert design.without((2,)).default_levels() == ("x", "s", "u")
    assert agreed("~ 0 + x", obs[["x"]], levels).without((2,)).default_levels() == ("x", "t", "u")
    with pytest.raises(InputError, match=r"x\[T\.s\]', which was dropped"):
        design.without((2, 3)).default_contrast()


def test_sites_that_disagree_in_kind_are_named():
    said = {"a": {"x": Variable(True)}, "b": {"x": Variable(False, ("1", "2"))}}
    with pytest.raises(InputError, match="numeric at a"):
        Design.agree("~ x", {}, said)


def test_dependent_columns_are_named_and_independent_ones_are_not():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(30, 4)) * [1, 1e4, 1e-4, 1]
    names = ["a", "b", "c", "d"]
    assert dependent_columns(X.T @ X, names) == []
    X[:, 3] = 2 * X[:, 0] - 1e-3 * X[:, 1]
    assert dependent_columns(X.T @ X, names) == [["a", "b", "d"]]
    X[:, 2] = 0
    assert dependent_columns(X.T @ X, names) == [["c"], ["a", "b", "d"]]
