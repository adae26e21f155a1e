"""Contrasts in every form, checked against a design; and which samples they compare."""

import itertools

import numpy as np
import pandas as pd
import pytest

from secirls.input_error import InputError
from secirls.inputs.designs.compared_groups import compared_groups
from secirls.inputs.designs.contrasts import Contrast
from secirls.inputs.designs.design import Design, Variable

LEVELS = {"sex": ("f", "m"), "dose": ("none", "low", "high")}


def design(formula, numeric=()):
    said = {name: Variable(numeric=False, levels=levels) for name, levels in LEVELS.items() if name in formula}
    said |= {name: Variable(numeric=True) for name in numeric}
    levels = {name: levels for name, levels in LEVELS.items() if name in formula}
    return Design.agree(formula, levels, dict.fromkeys("abc", said))


TWO = design("~ sex + dose")


def test_level_against_level_is_a_difference_of_coefficients():
    numbers, name = Contrast(("dose", " high", "low")).of(TWO)
    assert numbers.tolist() == [0, 0, -1, 1]
    assert name == "dose: high against low"
    again, named = Contrast(plus=("dose[T.high]",), minus=("dose[T.low]",)).of(TWO)
    assert again.tolist() == numbers.tolist()
    assert named == "dose[T.high] - dose[T.low]"
    assert Contrast.parse_vector("0, 0,-1,1").of(TWO)[0].tolist() == numbers.tolist()


def test_an_interaction_is_a_sum_of_coefficients():
    crossed = design("~ sex * dose")
    numbers, name = Contrast(plus=("dose[T.high]", "sex[T.m]:dose[T.high]")).of(crossed)
    cells = pd.DataFrame({"sex": ["m", "m"], "dose": ["high", "none"]})
    rows = crossed.matrix(cells)
    assert np.array_equal(numbers, rows[0] - rows[1]), "the effect of the dose in men"
    assert name == "dose[T.high] + sex[T.m]:dose[T.high]"
    assert not np.array_equal(Contrast(("dose", "high", "none")).of(crossed)[0], numbers), "that of the reference"


def test_no_contrast_is_the_default_one():
    assert Contrast().of(TWO)[1] == "dose: high against none"
    assert Contrast(plus=("dose[T.high]",)).of(TWO)[1] == "coefficient dose[T.high]"
    assert np.array_equal(Contrast().of(TWO)[0], Contrast(plus=("dose[T.high]",)).of(TWO)[0])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"levels": ("dose", "high", "middle")}, ("'middle'", "'dose'", "none, low, high")),
        ({"levels": ("doze", "high", "low")}, ("'doze'", "~ sex + dose")),
        ({"levels": ("dose", "low", "low")}, ("itself",)),
        ({"plus": ("dose[T.middle]",)}, ("'dose[T.middle]'", "Intercept, sex[T.m], dose[T.low], dose[T.high]")),
        ({"minus": ("high",)}, ("'high'", "sex[T.m]")),
        ({"plus": ("Intercept",), "minus": ("Intercept",)}, ("twice",)),
        ({"vector": (1.0, 2.0)}, ("2 of 4", "Intercept, sex[T.m], dose[T.low], dose[T.high]")),
        ({"vector": (0.0, 0.0, 0.0, 0.0)}, ("not all zero",)),
        ({"vector": (0.0, 0.0, np.inf, 0.0)}, ("finite",)),
        ({"vector": (1.0,), "plus": ("Intercept",)}, ("one contrast",)),
    ],
)
def test_a_mistake_is_one_sentence_that_says_what_there_is(given, told):
    with pytest.raises(InputError) as raised:
        Contrast(**given).of(TWO)
    assert all(part in str(raised.value) for part in told), str(raised.value)


@pytest.mark.parametrize("text", ["", "1,", "a", "1;2"])
def test_numbers_are_read_or_refused(text):
    with pytest.raises(InputError, match="write numbers"):
        Contrast.parse_vector(text)


def test_a_column_that_a_site_keeps_is_refused_by_name():
    said = {
        site: {"site": Variable(numeric=False, levels=(site,)), "dose": Variable(numeric=False, levels=LEVELS["dose"])}
        for site in "abc"
    }
    own = Design.agree("~ site + dose", {"dose": LEVELS["dose"]}, said, own=True)
    for asked in (Contrast(plus=("site[T.b]",)), Contrast(("site", "b", "a"))):
        with pytest.raises(InputError, match=r"'site\[T.b\]', which b alone adds to and keeps"):
            asked.of(own)
    assert Contrast(("dose", "high", "low")).of(own)[0].tolist() == [-1, 1]
    assert compared_groups(Contrast(("dose", "high", "low")), own) is None


def everybody(numeric=()):
    rows = [(sex, dose) for sex, dose in itertools.product(*LEVELS.values()) for _ in range(2)]
    frame = pd.DataFrame(rows, columns=list(LEVELS))
    for name in numeric:
        frame[name] = np.linspace(1.3, 9.1, len(frame))
    return frame


@pytest.mark.parametrize(
    ("formula", "numeric", "contrast", "samples"),
    [
        ("~ sex + dose", (), Contrast(("dose", "high", "none")), lambda obs: obs["dose"] != "low"),
        ("~ sex + dose", (), Contrast(("dose", "none", "high")), lambda obs: obs["dose"] != "low"),
        ("~ sex + dose", (), Contrast(("dose", "high", "low")), lambda obs: obs["dose"] != "none"),
        ("~ sex * dose", (), Contrast(("dose", "high", "low")), lambda obs: obs["dose"] != "none"),
        ("~ 0 + dose", (), Contrast(("dose", "low", "none")), lambda obs: obs["dose"] != "high"),
        ("~ age + dose", ("age",), Contrast(("dose", "high", "low")), lambda obs: obs["dose"] != "none"),
        ("~ sex + dose", (), Contrast(vector=(0, 0, -1, 1)), lambda obs: obs["dose"] != "none"),
        ("~ sex + dose", (), Contrast(("sex", "m", "f")), lambda obs: obs["dose"] != ""),
        ("~ sex + dose", (), Contrast(vector=(0, 1, -1, 0)), lambda obs: (obs["sex"] == "m") | (obs["dose"] == "low")),
        (
            "~ sex * dose",
            (),
            Contrast(plus=("sex[T.m]:dose[T.low]",), minus=("dose[T.high]",)),
            lambda obs: ((obs["sex"] == "m") & (obs["dose"] == "low")) | (obs["dose"] == "high"),
        ),
    ],
)
def test_the_samples_that_r_looks_at_are_marked(formula, numeric, contrast, samples):
    agreed, obs = design(formula, numeric), everybody(numeric)
    marks = compared_groups(contrast, agreed)
    groups = agreed.matrix(obs) @ marks.T
    np.testing.assert_allclose(groups, np.round(groups), atol=1e-9)
    np.testing.assert_array_equal(np.round(groups).max(axis=1), samples(obs).to_numpy(dtype=float))
    assert groups.min() > -1e-9


@pytest.mark.parametrize(
    ("formula", "numeric", "contrast"),
    [
        ("~ sex + dose", (), Contrast()),  # R takes the coefficient by its name
        ("~ sex + dose", (), Contrast(plus=("dose[T.high]",))),
        ("~ sex + dose", (), Contrast(vector=(0, 0, 1, 1))),  # one sign
        ("~ age + dose", ("age",), Contrast(("age", "3", "1"))),
        ("~ age + dose", ("age",), Contrast(vector=(0, 1, -1, 0))),  # of a column of numbers
    ],
)
def test_nothing_is_marked_where_r_marks_nothing_or_the_sums_do_not_tell(formula, numeric, contrast):
    assert compared_groups(contrast, design(formula, numeric)) is None
