"""A formula means what formulaic means by it: terms, columns, names and values, bit for bit."""

import numpy as np
import pandas as pd
import pytest
from formulaic import Formula as Formulaic
from formulaic import SimpleFormula
from formulaic.errors import FormulaicError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secirls.input_error import InputError
from secirls.inputs.formulas import model_matrix as rules
from secirls.inputs.formulas.formula import parse
from secirls.inputs.formulas.model_matrix import Coded

LEVELS = {"a": ("p", "q"), "b": ("x", "y", "z"), "c": ("1", "0"), "my col": ("u", "v")}
NUMBERS = ("age", "dose")
RNG = np.random.default_rng(4)
ROWS = 30
OBS = pd.DataFrame(
    {name: pd.Categorical(RNG.choice(levels, ROWS), categories=levels) for name, levels in LEVELS.items()}
    | {name: RNG.normal(size=ROWS) for name in NUMBERS}
)
FACTORS = {
    **{name: Coded.of(list(OBS[name]), levels) for name, levels in LEVELS.items()},
    **{name: OBS[name].to_numpy() for name in NUMBERS},
}


def ours(text):
    """Our names and values, or nothing for what is refused."""
    try:
        made = parse(text).materialise(FACTORS, ROWS)
    except InputError:
        return None
    return list(made.names), made.matrix


def theirs(text):
    """Formulaic's."""
    try:
        parsed = Formulaic(text)
        if not isinstance(parsed, SimpleFormula) or len(parsed) == 0:
            return None
        made = parsed.get_model_matrix(OBS)
    except (FormulaicError, AttributeError, SyntaxError, TypeError, ValueError):
        return None
    return list(made.columns), np.asarray(made, dtype=float)


def same(text):
    """Whether a formula has the same columns here and there, or is one in neither place."""
    here, there = ours(text), theirs(text)
    if here is None or there is None:
        return here is there
    return here[0] == there[0] and np.array_equal(here[1], there[1])


names = st.sampled_from([*(name for name in LEVELS if name != "my col"), *NUMBERS, "`my col`"])
sums = st.recursive(
    names,
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["+", "-", "*", ":", "/", "%in%"]), inner),
        st.builds("({})".format, inner),
        st.builds("({})^{}".format, inner, st.integers(1, 3)),
        st.builds("({})**2".format, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=3 * settings.default.max_examples, deadline=None)
@given(
    st.sampled_from(["~ ", "~", "~ 0 + ", "~ 1 + ", "~ -1 + ", ""]), sums, st.sampled_from(["", " - 1", " + 0", "+1"])
)
@example("~ ", "a:b + b", "")
@example("~ 0 + ", "a:age + dose", "")
@example("~ ", "a*b*c - a:b:c", "")
def test_every_formula_has_formulaics_columns(start, terms, end):
    assert same(start + terms + end)


@pytest.mark.parametrize(
    "text",
    [
        *("~", "~ a + b", "a + b", "~ a +", "~ + a", "~ a b", "~ a + (b", "~ a) + b", "~ a + 2", "~ a^0", "~ a^b"),
        *("~ a ^ 2", "~ a + 'b'", "~ 0", "~ a - a - 1", "~ a + - b", "~ a - - b", "~ - a + b + a", "~ a - 0"),
        *(
            "~ a - (b - 1)",
            "~ a + $",
            "~ `a",
            "~ a %x% b",
            "~ ()",
            "~ a : (b + age) / c",
            "~ (a + b) / c",
            "~ c %in% (a + b)",
            "~ a ~ b",
        ),
        *("y ~ a", "~ a | b", "~ .", "~ a + .", "~ {a", "~ log(a", "~ f(])"),
    ],
)
def test_what_is_odd_or_no_formula_there_is_so_here(text):
    assert same(text)


@pytest.mark.parametrize("base", ["(a + b + age)", "(a + b:c)", "(b * a)", "a"])
def test_a_power_beyond_the_number_of_terms_changes_nothing(base):
    few, many = (parse(f"~ {base}^{power}").terms for power in (4, 999_999_999))
    assert few == many
    assert same(f"~ {base}^5")
    assert ours(f"~ {base}^{'9' * 5000}") is None


def test_another_rule_for_what_is_spanned_would_be_seen(monkeypatch):
    """The twin: factors always lose their first level."""
    monkeypatch.setattr(rules, "_merged", lambda products: sorted(products, key=len))
    rules._scoped.cache_clear()
    assert not same("~ a:b + b")
    assert not same("~ 0 + a")
    rules._scoped.cache_clear()


def test_another_order_of_columns_would_be_seen(monkeypatch):
    monkeypatch.setattr(rules, "reversed", lambda parts: parts, raising=False)
    assert not same("~ a:b - 1")


def test_code_is_kept_and_written_in_one_way():
    told = parse("~ log( age )+log(age) + `my col`:C(b,levels = ['x','y'] ) + np.log2(`my col`)")
    assert [[factor.expr for factor in term] for term in told.terms] == [
        [],
        ["log(age)"],
        ["np.log2(`my col`)"],
        ["my col", "C(b, levels=['x', 'y'])"],
    ]
    assert [term.factors[0].expr for term in Formulaic("~ log( age ) + np.log2(`my col`)")][1:] == [
        "log(age)",
        "np.log2(`my col`)",
    ]
    assert told.variables == ("age", "my col", "b")


def test_a_value_that_is_no_level_and_a_number_that_is_missing_are_refused():
    with pytest.raises(ValueError, match="none of its factor's levels"):
        Coded.of(["p", "r"], ("p", "q"))
    with pytest.raises(ValueError, match="no value in some row"):
        parse("~ age").materialise({"age": np.array([1.0, np.nan])}, 2)


def test_the_intercept_within_a_product_is_one_as_in_r():
    """Formulaic refuses it, for it would have `a` twice."""
    assert theirs("~ (a + 1)^2") is None
    assert ours("~ (a + 1)^2")[0] == ours("~ a")[0]
