"""A formula is no oracle: what it makes of numbers is finite for all that people measure, or for none.

A site whose numbers a function is not finite at says so before any session, by name and in no budget. Powers of powers
grow beyond all floating-point numbers from some number on, which whoever writes the formula chooses.
"""

import numpy as np
import pytest

from secirls.input_error import InputError
from secirls.inputs.formulas import formula
from secirls.site.site import Site

OLDEST = 78.4
"""At the site that is asked."""


@pytest.fixture
def aged(lay):
    grounds = lay(names=("site1", "site2", "site3"), samples=24, genes=6)
    for name in grounds.names:
        grounds.edit(name, lambda adata: adata.obs.__setitem__("age", np.linspace(31.0, OLDEST, adata.n_obs)))
    return grounds


@pytest.fixture(autouse=True)
def read_anew():
    formula.parse.cache_clear()
    yield
    formula.parse.cache_clear()


def nested(exponents):
    text = "log(age)"
    for exponent in exponents:
        text = f"I({text} ** {exponent})"
    return text


def exponents():
    """Products of 2 to 9 with their factors, and from which age on the power of its log is no number any more."""
    found = {1: ()}
    for _ in range(7):
        found |= {
            product * factor: (*those, factor)
            for product, those in found.items()
            for factor in (2, 3, 5, 7)
            if product * factor < 2_000
        }
    largest = np.log(np.finfo(np.float64).max)
    found = {product: those for product, those in found.items() if product > 120}
    return sorted((float(np.exp(np.exp(largest / product))), those) for product, those in found.items())


def asked(aged, lead, those):
    """Whether one site's survey says that it has a number beyond; nothing else of a fit is needed."""
    config = lead.config(aged, design=f"~ condition + {nested(those)}")
    try:
        Site(aged.place("site2"), config, own_process=False).survey()
    except InputError as error:
        if not (str(error).startswith("site 'site2'") and "is not finite" in str(error)):
            raise
        return True
    return False


def oldest(aged, lead):
    """Between which two ages the site's oldest sample is, by bisection."""
    ages = exponents()
    low, high = 0, len(ages) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if asked(aged, lead, ages[middle][1]) else (low, middle)
    return ages[low][0], ages[high][0]


def test_powers_of_powers_are_no_part_of_a_design(aged, lead):
    with pytest.raises(InputError, match="sites evaluate no code"):
        oldest(aged, lead)


def test_the_twin_that_takes_them_tells_one_sites_largest_number_by_refusals(aged, lead, monkeypatch):
    monkeypatch.setattr(formula, "POWERS_IN_POWERS", 9)
    low, high = oldest(aged, lead)
    assert low < OLDEST < high
    assert high - low < 10.0


@pytest.mark.parametrize("made", ["I(age ** 9)", "I(log(age) ** 9)", "I(sqrt(age) ** 2)"])
def test_one_power_is(made):
    (factor,) = formula.parse(f"~ {made}").factors
    assert np.isfinite(factor.values([1e-300, 1.0, 1e30])).all()
