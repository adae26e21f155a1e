"""Numbers multiplied side by side are the numbers that Python multiplies."""

import secrets

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import run
from protocols.primitives.paillier import big_numbers, lanes, obfuscators
from protocols.primitives.paillier.lanes import Lanes
from protocols.primitives.paillier.obfuscators import FixedBasePowers, Obfuscators
from protocols.primitives.paillier.paillier_keys import PrivateKey, make_key

compiled_lanes = pytest.importorskip("protocols.primitives.paillier.compiled_lanes")
pytestmark = pytest.mark.skipif(not compiled_lanes.available(), reason="a processor without AVX-512 IFMA")

LANES, LIMB, MOST_BITS = compiled_lanes.LANES, compiled_lanes.LIMB, compiled_lanes.MOST_BITS
ODD = [3, 2**52 - 1, 2**52 + 1, 2**104 - 1, 2**511 - 1, 2**512 - 569, 2**2048 - 1, 2**2047 + 1, 2**4096 - 1]
moduli = st.sampled_from(ODD) | st.integers(1, 2**600).map(lambda half: 2 * half + 1)
BASE = 0x1234_5678_9ABC_DEF0_0FED_CBA9_8765_4321


def residues(modulus):
    edges = st.sampled_from([0, 1, modulus - 1, modulus // 2])
    return st.lists(edges | st.integers(0, modulus - 1), max_size=2 * LANES + 1)


@given(st.data(), moduli)
def test_what_enters_leaves_again(data, modulus):
    values = data.draw(residues(modulus))
    entered = Lanes(modulus).enter(values)
    whole = 1 << LIMB * Lanes(modulus).limbs
    assert entered.shape == (len(values), Lanes(modulus).limbs)
    assert [as_integer(number) % modulus for number in entered] == [value * whole % modulus for value in values]
    assert Lanes(modulus).leave(entered) == values


def as_integer(number):
    return sum(int(limb) << (LIMB * at) for at, limb in enumerate(number))


@pytest.mark.parametrize("modulus", ODD)
def test_products_of_the_largest_operands_stay_below_twice_the_modulus(modulus):
    """The operands need not be below the modulus, only below twice it: nothing is subtracted between products."""
    arithmetic = Lanes(modulus)
    largest = arithmetic._split([2 * modulus - 1])
    out, scratch = np.empty_like(largest), arithmetic._scratch(3)
    compiled_lanes.scale(largest, largest[0], arithmetic._digits, arithmetic._inverse, out, scratch)
    inverse = pow(1 << LIMB * arithmetic.limbs, -1, modulus)
    assert as_integer(out[0]) % modulus == (2 * modulus - 1) ** 2 * inverse % modulus
    assert as_integer(out[0]) < 2 * modulus
    assert out.max() < 1 << LIMB


def test_as_many_limbs_as_are_let_in_overflow_no_word():
    """All limbs full, as many as `fit` lets in."""
    arithmetic = Lanes((1 << MOST_BITS) - 1)
    assert arithmetic.limbs == 1000
    full = arithmetic._split([2 * arithmetic._modulus - 1])
    out = np.empty_like(full)
    compiled_lanes.scale(full, full[0], arithmetic._digits, arithmetic._inverse, out, arithmetic._scratch(3))
    inverse = pow(1 << LIMB * arithmetic.limbs, -1, arithmetic._modulus)
    assert as_integer(out[0]) % arithmetic._modulus == inverse  # the operands are -1 and -1


@given(st.data(), moduli, st.integers(1, 2**20) | st.integers(1, 2**900))
def test_powers_are_those_of_pythons_integers(data, modulus, exponent):
    values = data.draw(residues(modulus))
    assert Lanes(modulus).powers(values, exponent) == [pow(value, exponent, modulus) for value in values]


@given(st.data(), moduli, st.sampled_from([1, 8, 11, 16]))
def test_products_of_powers_are_those_of_pythons_integers(data, modulus, width):
    values = data.draw(residues(modulus))
    exponents = data.draw(st.binary(min_size=width * len(values), max_size=width * len(values)))
    places = Lanes(modulus).products_of_powers(values, exponents, width)
    assert places == [product(values, exponents[place::width], modulus) for place in range(width)]


def product(bases, exponents, modulus):
    result = 1 % modulus
    for base, exponent in zip(bases, exponents, strict=True):
        result = result * pow(base, exponent, modulus) % modulus
    return result


@given(st.integers(1, 9), st.lists(st.binary(min_size=8, max_size=8) | st.sampled_from([bytes(8), b"\xff" * 8])))
def test_powers_by_tables_are_those_of_pythons_integers(window, exponents):
    modulus = 2**2203 - 1
    powers = FixedBasePowers(BASE, modulus, 64, window)
    assert powers._lanes is not None
    assert powers.raise_to(b"".join(exponents)) == [
        pow(BASE, int.from_bytes(exponent, "little"), modulus) for exponent in exponents
    ]


@pytest.mark.parametrize(
    ("modulus", "fits"),
    [
        (2**2048 - 1, True),
        (2**2048, False),
        (2**1024 - 1, False),
        ((1 << MOST_BITS) - 1, True),
        ((1 << MOST_BITS + 2) - 1, False),
    ],
    ids=lambda given: str(given) if isinstance(given, bool) else f"{given.bit_length()} bits",
)
def test_odd_moduli_of_real_keys_fit(modulus, fits):
    assert lanes.fit(modulus) is fits


@pytest.fixture
def entered(monkeypatch):
    """How many numbers enter lanes."""
    counted, enter = [], Lanes.enter
    monkeypatch.setattr(Lanes, "enter", lambda self, values: counted.append(len(values)) or enter(self, values))
    return counted


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_long_lists_enter_lanes_and_give_the_same_integers(sign, n_jobs, entered, monkeypatch):
    modulus = 2**2203 - 1
    bases, exponents = [secrets.randbits(2204) | 1 for _ in range(100)], secrets.token_bytes(1600)
    exponent = sign * (secrets.randbits(224) | 1 << 223)
    monkeypatch.setattr(big_numbers, "_WORTH_LANES", 1)
    inside = big_numbers.powers(bases, exponent, modulus, n_jobs), product_of(bases, exponents, modulus)
    assert sum(entered) == 200
    monkeypatch.setattr(lanes, "fit", lambda modulus: False)
    assert inside == (big_numbers.powers(bases, exponent, modulus, n_jobs), product_of(bases, exponents, modulus))
    assert sum(entered) == 200


def product_of(bases, exponents, modulus):
    return big_numbers.product_of_powers(bases, exponents, 16, modulus)


def test_a_key_hides_and_opens_with_the_same_numbers_in_lanes_and_not(entered, monkeypatch):
    key = make_key(2048, run.tape("a key in lanes")(""), subgroup=True)
    monkeypatch.setattr(obfuscators, "_tables", obfuscators._tables.__wrapped__)
    monkeypatch.setattr(obfuscators, "window_for", lambda bits, entry: 5)
    made = Obfuscators(key.public, "subgroup", run.tape("drawn")("")).take(170)
    opened = key.decrypt([key.public.nude(at) * each % key.public.n_squared for at, each in enumerate(made.values)])
    assert opened == list(range(170))
    assert len(entered) == 3  # the tables' steps, and two halves of a decryption
    monkeypatch.setattr(lanes, "fit", lambda modulus: False)
    assert made.values == Obfuscators(key.public, "subgroup", run.tape("drawn")("")).take(170).values
    assert isinstance(key, PrivateKey)
    assert len(entered) == 3
