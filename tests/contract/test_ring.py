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


@pytest.mark.parametrize(("plus", "minus"), [(0, 1), (8, 0), (3, 6), (7, 1), (11, 10)])
def test_masks_added_in_one_pass_and_in_several_are_those_one_after_the_other(plus, minus, monkeypatch):
    monkeypatch.setattr(ring.counted_stream, "pays", lambda *_: False)
    values, keys = PIECE + ring.COMPILED_FROM, [bytes([number]) * 32 for number in range(plus + minus)]
    total = np.full((values, 2), 2**64 - 1, dtype=np.uint64)
    expected = total.copy()
    for number, key in enumerate(keys):
        (ring.add_into if number < plus else ring.subtract_into)(expected, ring.expand(key, values, 2))
    ring.mask_into(total, keys[:plus], keys[plus:])
    assert np.array_equal(total, expected)


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


@pytest.mark.parametrize("prg", ["aes-256-ctr", "chacha20"])
@pytest.mark.parametrize("limbs", [1, 2])
@pytest.mark.parametrize("values", [1, 50, ring._SHORT // 16, ring._SHORT // 8 + 1])
def test_many_masks_are_those_masks_one_after_the_other(values, limbs, prg, monkeypatch):
    """More than a byte can count carries of; and short ones, which are added up at once."""
    at_once, real = [], ring._mask_at_once
    monkeypatch.setattr(ring, "_mask_at_once", lambda *given: at_once.append(1) or real(*given))
    many = [bytes([number % 256, number // 256]) * 16 for number in range(330)]
    for start in (ring.expand(b"v" * 32, values, limbs), np.full((values, limbs), 2**64 - 1, dtype=np.uint64)):
        vector, expected = start.copy(), start.copy()
        for key in many:
            ring.add_into(expected, ring.expand(key, values, limbs, prg))
        ring.mask_into(vector, iter(many), iter(()), prg)
        assert np.array_equal(vector, expected)
        ring.mask_into(vector, [], many, prg)
        assert np.array_equal(vector, start)
        ring.mask_into(vector, many[: ring._MANY], many[: ring._MANY], prg)
        assert np.array_equal(vector, start)
    assert len(at_once) == (6 if 8 * values * limbs <= ring._SHORT else 0)


@pytest.mark.parametrize("key", [b"k" * 16, b"k" * 33])
def test_many_short_masks_have_keys_of_32_bytes_too(key):
    for many in (1, ring._MANY):
        with pytest.raises(ValueError, match="a keystream key is 32 bytes"):
            ring.mask_into(ring.zeros(3, 2), [b"k" * 32] * (many - 1) + [key], [])


def test_a_vector_laid_out_by_column_is_added_all_the_same():
    columns = np.asfortranarray(ring.expand(b"f" * 32, 20, 2))
    total = np.asfortranarray(ring.expand(b"g" * 32, 20, 2))
    expected = [(x + y) % 2**128 for x, y in zip(ints(total), ints(columns), strict=True)]
    ring.add_into(total, columns)
    assert ints(total) == expected
    keys = [bytes([number]) * 32 for number in range(ring._MANY)]
    rows = np.ascontiguousarray(total)
    ring.mask_into(total, keys[1:], keys[:1])
    ring.mask_into(rows, keys[1:], keys[:1])
    assert np.array_equal(total, rows)


@given(limbs=st.sampled_from([1, 2]), values=st.integers(0, 5))
def test_bytes_and_back(limbs, values):
    elements = ring.expand(b"b" * 32, values, limbs)
    data = ring.to_bytes(elements)
    assert len(data) == 8 * values * limbs
    assert np.array_equal(ring.from_bytes(data, values, limbs), elements)
    assert not ring.from_bytes(data, values, limbs).flags.writeable
    with pytest.raises(ValueError, match="can't be"):
        ring.from_bytes(data + b"\0", values, limbs)
