"""Packed plaintexts add up to the ring sum, whatever the vectors hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.encryption.packing import Packing
from protocols.primitives import ring
from protocols.secure_sum import IntegrityError, MisuseError

EDGES = {1: [0, 1, 2**63 - 1, 2**63, 2**64 - 1], 2: [0, 1, 2**64 - 1, 2**64, 2**126, 2**127 - 1, 2**127, 2**128 - 1]}


def vector_of(elements, limbs):
    data = b"".join(element.to_bytes(8 * limbs, "little") for element in elements)
    return ring.from_bytes(data, len(elements), limbs)


@st.composite
def many_vectors(draw):
    """A key length, and up to nine vectors of one shape whose elements love the edges of the ring."""
    limbs = draw(st.sampled_from([1, 2]))
    values = draw(st.integers(0, 12))
    element = st.sampled_from(EDGES[limbs]) | st.integers(0, 2 ** (64 * limbs) - 1)
    vectors = draw(st.lists(st.lists(element, min_size=values, max_size=values), min_size=1, max_size=9))
    return draw(st.sampled_from([256, 320, 512, 2048])), limbs, values, vectors


@given(many_vectors(), st.integers(0, 500))
def test_the_integer_sum_of_packed_vectors_unpacks_to_the_ring_sum(case, absent):
    bits, limbs, values, vectors = case
    packing = Packing(bits, values, limbs, len(vectors) + absent)
    packed = [packing.pack(vector_of(vector, limbs)) for vector in vectors]
    sums = [sum(column) for column in zip(*packed, strict=True)]
    assert all(value < 2 ** (bits - 1) for value in sums), "a sum must stay below every modulus of the key's length"
    expected = [sum(column) % 2 ** (64 * limbs) for column in zip(*vectors, strict=True)]
    assert np.array_equal(packing.unpack(sums, len(vectors)), vector_of(expected, limbs))


@pytest.mark.parametrize("limbs", [1, 2])
@pytest.mark.parametrize("parties", [1, 2, 3, 4, 5, 255, 256, 257, 1000, 65_537])
def test_the_largest_sum_of_all_parties_just_fits_its_slots(limbs, parties):
    packing = Packing(2048, 40, limbs, parties)
    top = 2 ** (64 * limbs) - 1
    full = [parties * plaintext for plaintext in packing.pack(vector_of([top] * 40, limbs))]
    assert np.array_equal(packing.unpack(full, parties), vector_of([parties * top % (top + 1)] * 40, limbs))
    assert parties * top < 2**packing.slot_bits
    # One party more than the guard was made for would not fit: the guard wastes nothing.
    assert (2 ** (packing.slot_bits - 64 * limbs) + 1) * top >= 2**packing.slot_bits


@pytest.mark.parametrize(
    ("bits", "limbs", "parties", "slots"),
    [
        (2048, 2, 16, 15),
        (3072, 2, 32, 23),
        (3072, 2, 33, 22),
        (2048, 1, 16, 30),
        (3072, 1, 16, 45),
        (2048, 2, 1000, 14),
    ],
)
def test_a_plaintext_holds_as_many_values_as_the_specification_says(bits, limbs, parties, slots):
    assert Packing(bits, 1, limbs, parties).slots == slots


@pytest.mark.parametrize(("bits", "limbs", "parties"), [(4160, 1, 2), (4224, 1, 4), (8320, 2, 4)])
def test_where_slots_would_fill_the_length_of_a_key_its_top_bit_stays_free(bits, limbs, parties):
    packing = Packing(bits, 1, limbs, parties)
    assert bits % packing.slot_bits == 0
    assert packing.slots == bits // packing.slot_bits - 1


@pytest.mark.parametrize(("limbs", "most"), [(2, 40), (1, 20)])
@pytest.mark.parametrize("bits", [2048, 3072])
def test_a_float64_takes_at_most_so_many_bytes_up_to_a_thousand_sites(bits, limbs, most):
    for parties in (3, 4, 6, 16, 50, 100, 1000):
        packing = Packing(bits, 120_000, limbs, parties)
        assert packing.plaintexts * bits / 4 / packing.values <= most, parties
    assert Packing(bits, 120_000, 2, 3).plaintexts * bits / 4 / 120_000 > 20, "only the narrow profile is narrow"


def test_a_plaintext_that_is_no_sum_is_refused():
    packing = Packing(512, 4, 2, 5)
    fine = [packing.slots * [0], [0]]
    assert packing.plaintexts == len(fine)
    carry = 1 << 128
    assert packing.unpack([4 * carry, 0], 5).sum() == 0
    for plaintexts, parties in [
        ([5 * carry, 0], 5),
        ([carry, 0], 1),
        ([1 << (packing.slots * packing.slot_bits), 0], 5),
        ([0, 1 << packing.slot_bits], 5),
    ]:
        with pytest.raises(IntegrityError):
            packing.unpack(plaintexts, parties)


def test_what_does_not_fit_is_a_misuse():
    with pytest.raises(MisuseError, match="holds no slot"):
        Packing(128, 1, 2, 3)
    with pytest.raises(MisuseError, match="do not fit"):
        Packing(512, 4, 2, 5).unpack([0], 5)
    with pytest.raises(MisuseError, match="do not fit"):
        Packing(512, 4, 2, 5).unpack([0, 0], 6)
