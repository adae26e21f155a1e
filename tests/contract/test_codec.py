"""The codec: one correct rounding in, one out, the same bits plain and compiled, and refusals that name the place."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.fixed_point import COMPILED_FROM, Field, Layout, decode, encode, largest_bound
from protocols.primitives import compiled_codec, ring
from protocols.secure_sum import IntegrityError, MisuseError

DOUBLES = st.floats(-(2.0**60), 2.0**60, allow_nan=False)
TINY = 2.0**-64
EDGES = [0.0, -0.0, 5e-324, TINY, -TINY / 2, 3 * TINY / 4, 1.5 * TINY, 2.5 * TINY, 2.0**-11, 2.0**60, -(2.0**60)]


def to_int(limbs):
    value = sum(int(limb) << (64 * i) for i, limb in enumerate(limbs))
    bits = 64 * len(limbs)
    return value - (1 << bits) if value >> (bits - 1) else value


def half_to_even(x, bits):
    scaled = Fraction(x) * 2**bits
    floor = scaled.numerator // scaled.denominator
    rest = scaled - floor
    return floor + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2))


def compiled_encode(x, bits, limbs):
    out = np.empty((x.size, limbs), dtype=np.uint64)
    compiled_codec.encode_into(x, bits, out)
    return out


@given(st.lists(DOUBLES, min_size=1, max_size=20), st.sampled_from([0, 1, 20, 52, 53, 64]))
def test_encoding_rounds_once_half_to_even(values, bits):
    x = np.array(values + EDGES)
    encoded = encode(x, bits, 2)
    assert [to_int(row) for row in encoded] == [half_to_even(value, bits) for value in x.tolist()]
    assert np.array_equal(compiled_encode(x, bits, 2), encoded)


@given(st.lists(st.integers(-(2**126), 2**126), min_size=1, max_size=20), st.sampled_from([0, 20, 64]))
def test_decoding_rounds_once_half_to_even(integers, bits):
    around = [sign * ((1 << k) + d) for k in (52, 53, 54, 63, 64, 65, 117, 125) for d in (-1, 0, 1) for sign in (1, -1)]
    values = integers + around
    vector = np.array([[i % 2**64, (i >> 64) % 2**64] for i in values], dtype=np.uint64)
    decoded = decode(vector, bits)
    assert decoded.tolist() == [i / 2**bits for i in values]  # Python's integer division rounds correctly
    assert np.array_equal(compiled_codec.decode(vector, bits), decoded)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20), st.sampled_from([0, 20, 40]))
def test_one_limb_is_the_same_with_less_room(integers, bits):
    vector = np.array([[i % 2**64] for i in integers], dtype=np.uint64)
    decoded = decode(vector, bits)
    assert decoded.tolist() == [i / 2**bits for i in integers]
    assert np.array_equal(compiled_codec.decode(vector, bits), decoded)
    small = decoded[np.abs(decoded) < 2.0 ** (61 - bits)]
    assert np.array_equal(compiled_encode(small, bits, 1), encode(small, bits, 1))


def test_long_vectors_go_the_compiled_way_with_the_same_bits():
    rng = np.random.default_rng(3)
    x = rng.normal(size=COMPILED_FROM + 1) * 10.0 ** rng.integers(-20, 15, COMPILED_FROM + 1)
    layout = Layout((Field("x", x.shape, largest_bound(4)),))
    vector = layout.encode({"x": x})
    assert np.array_equal(vector, encode(x, 64, 2))
    assert np.array_equal(layout.decode(vector, 1)["x"], decode(vector, 64))


@given(st.lists(st.lists(DOUBLES, min_size=3, max_size=3), min_size=2, max_size=8), st.randoms())
def test_a_sum_does_not_depend_on_order_and_is_correctly_rounded(rows, random):
    layout = Layout((Field("x", (3,), 2.0**60),))
    vectors = [layout.encode({"x": np.array(row)}) for row in rows]
    total = ring.total_of(vectors, 3, 2)
    random.shuffle(vectors)
    assert np.array_equal(ring.total_of(vectors, 3, 2), total)
    exact = [sum(half_to_even(row[i], 64) for row in rows) / 2**64 for i in range(3)]
    assert layout.decode(total, len(rows))["x"].tolist() == exact


def test_float_addition_is_the_broken_twin_that_order_changes():
    rows = np.array([1e16, 1.0, -1e16, 1.0])
    assert rows.sum() != rows[[0, 2, 1, 3]].sum()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 8.1, -8.1])
def test_what_is_not_finite_or_beyond_the_bound_is_named(bad):
    layout = Layout((Field("x", (2, 3), 8.0),))
    x = np.zeros((2, 3))
    x[1, 2] = bad
    with pytest.raises(MisuseError, match=r"field 'x' at \(1, 2\)"):
        layout.encode({"x": x})
    layout.encode({"x": np.full((2, 3), -8.0)})


def test_a_sum_beyond_what_the_parties_can_send_is_an_integrity_error():
    layout = Layout((Field("x", (1,), 8.0),))
    full = ring.total_of([layout.encode({"x": np.array([8.0])})] * 3, 1, 2)
    assert layout.decode(full, 3)["x"] == 24.0
    with pytest.raises(IntegrityError, match="a mask is missing"):
        layout.decode(full, 2)


def test_headroom_is_checked_before_a_sum():
    for parties in (1, 2, 3, 4, 5, 50, 1000):
        Layout((Field("x", (1,), largest_bound(parties)),)).check_headroom(parties)
        with pytest.raises(MisuseError, match="fraction bits need"):
            Layout((Field("x", (1,), 4 * largest_bound(parties)),)).check_headroom(parties)
