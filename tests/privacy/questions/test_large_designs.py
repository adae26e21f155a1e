"""A design costs a site a bounded amount of memory and time, whoever writes the formula or says what levels there are.

A line of text crosses as many columns as it names, and each doubles the terms; every level that another site is said to
have is a column. Both are looked at before a rule about columns over samples can be. The twins look at nothing.
"""

import itertools
import string
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from secirls.input_error import InputError
from secirls.inputs.designs import design
from secirls.inputs.designs.design import Variable
from secirls.inputs.formulas import formula, formula_terms, levels
from secirls.inputs.formulas.labels import merged
from secirls.inputs.formulas.model_matrix import Coded
from secirls.site.site import Site

MIB = 1 << 20
SECONDS = 20.0
"""Of CPU: many times what any refusal takes."""


@pytest.fixture(autouse=True)
def read_anew():
    formula.parse.cache_clear()
    yield
    formula.parse.cache_clear()


@pytest.fixture
def unbounded(monkeypatch):
    for room, names in (
        (formula_terms, ("LARGEST_TEXT", "LARGEST_TERMS", "LARGEST_ORDER", "_LARGEST_CROSSING")),
        (formula, ("LARGEST_COLUMNS",)),
        (levels, ("LARGEST_LEVELS",)),
        (design, ("LARGEST_ROWS", "LARGEST_WORK")),
    ):
        for name in names:
            monkeypatch.setattr(room, name, 1 << 60)


def cost(call):
    """Bytes at the most, and what was said."""
    tracemalloc.start()
    began = time.process_time()
    try:
        call()
        said = ""
    except InputError as error:
        said = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - began < SECONDS
    return peak, said


# Formulas.


def crossed(factors):
    return "~ " + "*".join(string.ascii_letters[:factors])


@pytest.mark.parametrize(
    "text",
    [
        crossed(40),
        f"~ ({'+'.join(string.ascii_letters[:40])})**9",
        f"~ {':'.join(string.ascii_letters[:40])}",
        "~ " + "+".join(["(a*b*c*d*e*f*g)**9"] * 400),
        "~ " + ":".join(["(a+b+c+d+e+f+g+h)"] * 100),
        "~ " + "+".join(f"column{number}" for number in range(2_000)),
        "~" * 100_000,
    ],
)
def test_a_formula_that_names_more_terms_than_a_machine_holds_is_refused(lay, lead, text):
    grounds = lay(names=("site1", "site2", "site3"), samples=24, genes=6)
    config = lead.config(grounds, design=text)
    peak, said = cost(Site(grounds.place("site1"), config, own_process=False).survey)
    assert "is too large: it may have 8192 characters, 256 terms and 6 factors in a term" in said
    assert len(said) < 200
    assert peak < 4 * MIB


def test_the_twin_that_reads_all_costs_twice_as_much_with_every_name(unbounded):
    (few, _), (more, _) = (cost(lambda factors=factors: formula.parse(crossed(factors))) for factors in (10, 13))
    assert more > 6 * few


@pytest.mark.parametrize("power", ["**2", "**3", "**999999999"])
def test_a_power_has_the_terms_that_it_always_had(power):
    named = "abcde"
    found = {
        frozenset(factor.variable for factor in term) for term in formula.parse(f"~ ({'+'.join(named)}){power}").terms
    }
    most = min(int(power[2:]), len(named))
    assert found == {frozenset(some) for size in range(most + 1) for some in itertools.combinations(named, size)}


# Levels.


def told(room, number, **others):
    """The agreement in which another site is said to have so many batches; `others` are those of further columns."""
    many = {name: tuple(f"{name}{i:05}" for i in range(count)) for name, count in {"batch": number, **others}.items()}
    said = {**room.agreement.said}
    said["site4"] = {
        name: Variable(numeric=False, levels=many.get(name, variable.levels))
        for name, variable in said["site4"].items()
    }
    return replace(room.agreement, said=said)


@pytest.fixture
def batched(lay):
    grounds = lay(samples=48, genes=6)
    for name in grounds.names:
        for column in ("batch", "plate"):
            held = [f"{column} {letter} of {name}" for letter in "xy"]
            grounds.edit(name, lambda x, column=column, held=held: x.obs.__setitem__(column, held * (x.n_obs // 2)))
    return grounds


def joined(grounds, lead, number, design="~ batch + condition", **changes):
    others = changes.pop("others", {})
    room = lead.room(grounds, design=design, trust_aggregator=False, **changes).survey()
    agreement = told(room, number, **others)
    return cost(lambda: room.sites["site1"].join(agreement))


@pytest.mark.parametrize(
    ("number", "how", "refused"),
    [
        (100_000, {}, "'batch' has more than 4096 levels"),
        (2_000, {}, "too many columns at one site"),
        (40, {"design": "~ batch * plate", "others": {"plate": 40}}, "too many columns at one site"),
        (1_000, {"design": "~ batch * plate", "others": {"plate": 1_000}}, "columns, more than 4096"),
    ],
)
def test_levels_that_another_site_is_said_to_have_cost_a_site_little(batched, lead, number, how, refused):
    peak, said = joined(batched, lead, number, **how)
    assert refused in said
    assert peak < 40 * MIB


def test_the_twin_that_counts_no_levels_costs_their_square(batched, lead, unbounded):
    few, many = (joined(batched, lead, number, own_columns="shared")[0] for number in (2_500, 5_000))
    assert many > 150 * MIB
    assert many > 3 * few


def test_levels_are_put_in_order_in_time_that_grows_as_they_do():
    told = [f"level{number:06}" for number in range(4_096)]
    peak, said = cost(lambda: merged([told, told[::2], told[::-1][:1]]))
    assert not said
    assert peak < 4 * MIB


def test_columns_are_counted_before_they_are_made():
    read = formula.parse("~ a * b")
    factors = {name: Coded(np.zeros(1, dtype=np.intp), tuple(map(str, range(100)))) for name in "ab"}
    with pytest.raises(InputError, match=r"has 10000 columns, more than 4096"):
        read.materialise(factors, 1)
    for name in "ab":
        factors[name] = Coded(np.zeros(1, dtype=np.intp), tuple(map(str, range(5))))
    assert len(read.materialise(factors, 1).names) == 25
