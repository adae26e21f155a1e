"""The smaller design of a likelihood-ratio test, in the coefficients of the larger."""

import numpy as np
import pandas as pd
import pytest

from secirls.input_error import InputError
from secirls.inputs.designs.design import Design, Variable, variables
from secirls.inputs.designs.reduced_design import reduced_design

LEVELS = {"condition": ("a", "b"), "batch": ("p", "q", "r"), "plate": tuple(f"n{i:02d}" for i in range(40))}


def agreed(formula, *, own=False):
    """Over three sites, each with its own level of ``site``."""
    said = {}
    for site in "xyz":
        known = {name: Variable(numeric=False, levels=levels) for name, levels in LEVELS.items()}
        known |= {"site": Variable(numeric=False, levels=(site,)), "age": Variable(numeric=True)}
        known["height"] = Variable(numeric=True)
        said[site] = {name: known[name] for name in variables(formula)}
    return Design.agree(formula, {}, said, own=own)


def obs(rows=400):
    random = np.random.default_rng(1)
    told = {name: random.choice(levels, rows) for name, levels in LEVELS.items()}
    told |= {"site": random.choice(list("xyz"), rows)}
    return pd.DataFrame({**told, "age": random.normal(50, 9, rows), "height": random.normal(170, 9, rows)}).astype(
        dict.fromkeys(told, str)
    )


PAIRS = [
    ("~ site + condition", "~ site"),
    ("~ site + condition", "~ condition"),
    ("~ site + condition", "~ 1"),
    ("~ 0 + site + condition", "~ site"),
    ("~ batch + condition", "~ 0 + batch"),
    ("~ batch * condition", "~ batch + condition"),
    ("~ batch * condition", "~ 0 + condition"),
    ("~ batch:condition", "~ batch + condition"),
    ("~ batch * age + height", "~ batch + age + height"),
    ("~ batch + age + height + age:height", "~ batch + age"),
    ("~ plate + condition + age", "~ condition + age"),
    ("~ plate:condition", "~ plate + condition"),
]


@pytest.mark.parametrize(("large", "small"), PAIRS)
def test_its_columns_are_the_larger_ones_times_the_basis(large, small):
    design, table = agreed(large), obs()
    reduced = reduced_design(design, small)
    expected = agreed(small).matrix(table)
    np.testing.assert_allclose(design.matrix(table) @ reduced.basis, expected, rtol=1e-12, atol=1e-12)
    assert reduced.columns == agreed(small).columns
    assert reduced.degrees_of_freedom == design.size - expected.shape[1]
    assert reduced.intercept_alone == (small == "~ 1")


@pytest.mark.parametrize(
    ("large", "small", "says"),
    [
        ("~ batch + condition", "~ site", "uses 'site', which the design '~ batch . condition' does not use"),
        ("~ batch + condition", "~ batch:condition", r"'batch\[T.q\]:condition\[a\]' is no combination"),
        ("~ batch + age", "~ batch:age", "is no combination of the columns"),
        ("~ batch + condition", "~ condition + batch", "as many columns as the design"),
        ("~ batch + condition", "~ 0 + batch + condition", "as many columns as the design"),
        ("~ batch + condition", "~ exp(age)", "sites evaluate no code"),
        ("~ batch + condition", "~ log(age)", "uses 'age', which"),
        ("~ batch + log(age)", "~ batch + age", "is no combination of the columns"),
        ("~ batch + age", "~ C(age)", "has 'age' as a factor, the design .* as a number"),
        ("~ batch + condition", "batch ~ condition", "nothing left of '~'"),
        ("~ batch + condition", "~ 0", "has no terms"),
    ],
)
def test_one_that_can_not_be_compared_is_refused_in_words(large, small, says):
    with pytest.raises(InputError, match=says) as refused:
        reduced_design(agreed(large), small)
    assert "\n" not in str(refused.value)


def test_what_sites_keep_stays_out_of_the_basis():
    design = agreed("~ site + batch + condition", own=True)
    assert design.columns == ("batch[T.q]", "batch[T.r]", "condition[T.b]")
    reduced = reduced_design(design, "~ site + condition")
    assert reduced.columns == ("condition[T.b]",)
    assert reduced.basis.tolist() == [[0.0], [0.0], [1.0]]
    assert reduced.degrees_of_freedom == 2


def test_there_may_be_nothing_left_at_the_table():
    reduced = reduced_design(agreed("~ site + condition", own=True), "~ site")
    assert reduced.columns == ()
    assert reduced.basis.shape == (1, 0)
    assert reduced.degrees_of_freedom == 1


@pytest.mark.parametrize("small", ["~ condition", "~ 1"])
def test_a_design_without_what_a_site_keeps_is_refused_by_name(small):
    with pytest.raises(InputError, match=r"without the design column 'site\[T.y\]', which y alone adds to and keeps"):
        reduced_design(agreed("~ site + condition", own=True), small)
    assert reduced_design(agreed("~ site + condition"), small).degrees_of_freedom == {"~ condition": 2, "~ 1": 3}[small]
