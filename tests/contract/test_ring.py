"""Ring arithmetic against Python's ints, at the carries and at the borders of a piece."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.primitives import compiled_masks, ring

PIECE = ring.CHUNK_BYTES // 16
word = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**64 - 1, 2**63]))


def ints(vector):
    return [sum(int(limb) << 64 * place for place, limb in enumerate(row)) for row in vector]


def vector(rows, limbs):
    return np.array(rows, dtype=np.uint64).reshape(-1, limbs)


@given(limbs=st.sampled_from([1, 2]), data=st.data())
def test_sums_and_differences_are_those_of_ints(limbs, data):
    rows = st.lists(st.lists(word, min_size=limbs, max_size=limbs), min_size=3, max_size=3)
    left, right = vector(data.draw(rows), limbs), vector(data.draw(rows), limbs)
    modulus = 2 ** (64 * limbs)
    total = left.copy()
    ring.add_into(total, right)
    assert ints(total) == [(x + y) % modulus for x, y in zip(ints(left), ints(right), strict=True)]
    ring.subtract_into(total, right)
    assert np.array_equal(total, left)
    ring.subtract_into(total, right)
    assert ints(total) == [(x - y) % modulus for x, y in zip(ints(left), ints(right), strict=True)]


@pytest.mark.parametrize("limbs", [1, 2])
@pytest.mark.parametrize("values", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 7])
def test_masking_in_pieces_is_masking_at_once(values, limbs):
    plus, minus = [b"p" * 32, b"q" * 32], [b"m" * 32]
    at_once = ring.expand(b"v" * 32, values, limbs)
    in_pieces = at_once.copy()
    for key in plus:
        ring.add_into(at_once, ring.expand(key, values, limbs))
    for key in minus:
        ring.subtract_into(at_once, ring.expand(key, values, limbs))
    ring.mask_into(in_pieces, plus, minus)
    assert np.array_equal(in_pieces, at_once)
    ring.mask_into(in_pieces, minus, plus)
    assert np.array_equal(in_pieces, ring.expand(b"v" * 32, values, limbs))


@given(rows=st.lists(st.tuples(word, word, word, word, word), min_size=1, max_size=20))
def test_marked_passes_are_sums_of_what_the_marks_are_off(rows):
    start, addend = vector([row[:2] for row in rows], 2), vector([row[2:4] for row in rows], 2)
    marks = np.array([row[4] for row in rows], dtype=np.uint64)
    plain = addend.copy()
    plain[:, 1] ^= marks
    total = start.copy()
    compiled_masks.add_marked_into(total.reshape(-1), addend.reshape(-1), marks)
    assert ints(total) == [(x + y) % 2**128 for x, y in zip(ints(start), ints(plain), strict=True)]
    compiled_masks.subtract_marked_into(total.reshape(-1), addend.reshape(-1), marks)
    assert np.array_equal(total, start)


@pytest.mark.parametrize("fill", ["random", "ones", "zeros"])
def test_the_compiled_passes_give_the_plain_forms_bits(fill, monkeypatch):
    values = ring.COMPILED_FROM + 3
    start = {
        "random": ring.expand(b"c" * 32, values, 2),
        "ones": np.full((values, 2), 2**64 - 1, dtype=np.uint64),
        "zeros": ring.zeros(values, 2),
    }[fill]
    addend = ring.expand(b"d" * 32, values, 2)
    addend[::3] = 2**64 - 1
    addend[1::5, 0] = 0
    addend.flags.writeable = False
    made = []
    for least in (0, 10**9):
        monkeypatch.setattr(ring, "COMPILED_FROM", least)
        total = start.copy()
        ring.add_into(total, addend)
        added = total.copy()
        ring.subtract_into(total, addend)
        assert np.array_equal(total, start)
        ring.mask_into(total, [b"p" * 32, b"q" * 32], [b"m" * 32, b"n" * 32, b"o" * 32])
        made.append((added, total))
    for compiled, plain in zip(*made, strict=True):
        assert np.array_equal(compiled, plain)


def test_more_masks_than_a_byte_can_count_carries_of():
    vector = ring.expand(b"v" * 32, 50, 2)
    many = [bytes([number % 256, number // 256]) * 16 for number in range(330)]
    expected = vector.copy()
    for key in many:
        ring.add_into(expected, ring.expand(key, 50, 2))
    ring.mask_into(vector, many, [])
    assert np.array_equal(vector, expected)
    ring.mask_into(vector, [], many)
    assert np.array_equal(vector, ring.expand(b"v" * 32, 50, 2))


def test_a_vector_laid_out_by_column_is_added_all_the_same():
    columns = np.asfortranarray(ring.expand(b"f" * 32, 20, 2))
    total = np.asfortranarray(ring.expand(b"g" * 32, 20, 2))
    expected = [(x + y) % 2**128 for x, y in zip(ints(total), ints(columns), strict=True)]
    ring.add_into(total, columns)
    assert ints(total) == expected


@given(limbs=st.sampled_from([1, 2]), values=st.integers(0, 5))
def test_bytes_and_back(limbs, values):
    elements = ring.expand(b"b" * 32, values, limbs)
    data = ring.to_bytes(elements)
    assert len(data) == 8 * values * limbs
    assert np.array_equal(ring.from_bytes(data, values, limbs), elements)
    assert not ring.from_bytes(data, values, limbs).flags.writeable
    with pytest.raises(ValueError, match="can't be"):
        ring.from_bytes(data + b"\0", values, limbs)
