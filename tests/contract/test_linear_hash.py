"""The hash that totals are checked by: exact beside Python's own integers, linear, and one key of many at most fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.primitives import linear_hash as hashing
from protocols.primitives import ring
from protocols.primitives.linear_hash import COMPILED_FROM, ROW, keys_of, linear_hash

BOTH = pytest.mark.parametrize("limbs", [1, 2])
FILLS = pytest.mark.parametrize("fill", ["random", "ones", "lowest", "highest"])


def filled(fill, values, limbs):
    if fill == "random":
        return ring.expand(b"v" * 32, values, limbs)
    low, high = {"ones": (2**64 - 1, 2**64 - 1), "lowest": (0, 1 << 63), "highest": (2**64 - 1, 2**63 - 1)}[fill]
    return np.array([([low] * (limbs - 1)) + [high]] * values, dtype=np.uint64).reshape(values, limbs)


def keys_for(values, fill="random"):
    if fill == "random":
        return ring.expand(b"k" * 32, keys_of(values), 1)[:, 0]
    return np.full(keys_of(values), 2**64 - 1, dtype=np.uint64)


def integers(vector):
    bits = 64 * vector.shape[1]
    values = [sum(limb << 64 * place for place, limb in enumerate(row)) for row in vector.tolist()]
    return [value - (1 << bits) if value >> (bits - 1) else value for value in values]


def ring_of(values, limbs):
    data = b"".join(value.to_bytes(8 * limbs, "little", signed=True) for value in values)
    return ring.from_bytes(data, len(values), limbs)


def by_hand(vector, keys):
    rows = -(-len(vector) // ROW)
    of_row, of_place = keys[:rows].tolist(), keys[rows:].tolist()
    return sum(of_row[at // ROW] * of_place[at % ROW] * value for at, value in enumerate(integers(vector)))


@BOTH
@FILLS
@pytest.mark.parametrize("values", [0, 1, 21, ROW - 1, ROW, ROW + 1, COMPILED_FROM - 1, COMPILED_FROM, 9 * ROW + 5])
def test_the_hash_is_the_sum_of_products_of_integers(limbs, fill, values):
    vector = filled(fill, values, limbs)
    for keys in (keys_for(values), keys_for(values, "largest")):
        assert linear_hash(vector, keys) == by_hand(vector, keys)


@BOTH
@FILLS
@pytest.mark.parametrize("values", [1, ROW + 1, COMPILED_FROM])
def test_the_compiled_pass_and_the_plain_form_give_one_integer(limbs, fill, values):
    vector = filled(fill, values, limbs)
    for keys in (keys_for(values), keys_for(values, "largest")):
        rows = -(-values // ROW)
        given_keys = keys[:rows], hashing._in_parts(keys[rows:])
        assert hashing._compiled(vector, *given_keys) == hashing._plain(vector, *given_keys)


@BOTH
def test_more_rows_than_are_added_without_a_carry(limbs):
    values = ROW * ROW + 3
    for fill in ("random", "lowest"):
        vector, keys = filled(fill, values, limbs), keys_for(values, "largest")
        rows = -(-values // ROW)
        assert linear_hash(vector, keys) == hashing._plain(vector, keys[:rows], hashing._in_parts(keys[rows:]))


@BOTH
@pytest.mark.parametrize("values", [3, COMPILED_FROM])
def test_arrays_that_may_not_be_written_and_such_that_have_gaps_are_hashed_alike(limbs, values):
    vector, keys = filled("random", values, limbs), keys_for(values)
    read_only = ring.from_bytes(ring.to_bytes(vector), values, limbs)
    with_gaps = np.repeat(vector, 2, axis=0)[::2]
    assert not read_only.flags.writeable
    assert linear_hash(read_only, keys) == linear_hash(with_gaps, keys) == linear_hash(vector, keys)
    assert vector.flags.writeable


@BOTH
@given(data=st.data())
def test_the_hash_of_a_sum_is_the_sum_of_the_hashes(limbs, data):
    values, half = data.draw(st.integers(0, 20)), 1 << 64 * limbs - 2
    integer = st.integers(-half, half - 1)
    left, right = (data.draw(st.lists(integer, min_size=values, max_size=values)) for _ in range(2))
    both = [one + other for one, other in zip(left, right, strict=True)]
    keys = keys_for(values)
    hashes = [linear_hash(ring_of(each, limbs), keys) for each in (left, right, both)]
    assert hashes[0] + hashes[1] == hashes[2]


def test_another_number_of_keys_is_refused():
    for values, keys in ((5, 5), (5, 7), (ROW + 1, keys_of(ROW))):
        with pytest.raises(ValueError, match="is hashed with"):
            linear_hash(ring.zeros(values, 2), np.zeros(keys, dtype=np.uint64))
