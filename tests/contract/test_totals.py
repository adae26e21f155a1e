"""Opened totals as they travel: the integers of Python beside them, one form for each, and nothing else is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.primitives import ring
from protocols.secure_sum import AGGREGATOR, Context, PeerError
from protocols.totals import pack_total, unpack_total
from protocols.verified import CHECK_VALUES

BOTH = pytest.mark.parametrize("limbs", [1, 2])


def context(values, limbs):
    return Context(b"s" * 32, 0, 0, ("a", "b", "c"), b"l" * 32, values + CHECK_VALUES[limbs], limbs)


def total(integers, limbs):
    """The integers in two's complement, and behind them check values as wide as they come."""
    body = b"".join(integer.to_bytes(8 * limbs, "little", signed=True) for integer in integers)
    tail = bytes(range(200, 200 + 8 * limbs)) * CHECK_VALUES[limbs]
    return ring.from_bytes(body + tail, len(integers) + CHECK_VALUES[limbs], limbs)


def form(integers, width, tail=bytes(32)):
    """Check values, columns of the integers' lowest bytes in pieces of 8, 4, 2 and 1, and how many bytes these are."""
    numbers = [value.to_bytes(width, "little", signed=True) for value in integers]
    columns, at = [], 0
    for size in (8, 8, 4, 2, 1):
        if size <= width - at:
            columns += [number[at : at + size] for number in numbers]
            at += size
    return tail + b"".join(columns) + bytes([width])


def refused(data, where):
    try:
        unpack_total(data, where)
    except PeerError as error:
        return error.sender == AGGREGATOR
    return False


@BOTH
@given(data=st.data())
def test_the_integers_come_back_and_take_the_bytes_that_the_widest_needs(limbs, data):
    bits = data.draw(st.integers(1, 64 * limbs - 1))
    integers = data.draw(st.lists(st.integers(-(1 << bits), (1 << bits) - 1), max_size=9))
    sent, where = total(integers, limbs), context(len(integers), limbs)
    packed = pack_total(sent)
    width = next(w for w in range(1, 17) if all(-(1 << 8 * w - 1) <= value < 1 << 8 * w - 1 for value in integers))
    assert packed == form(integers, width, ring.to_bytes(sent[len(integers) :]))
    assert np.array_equal(unpack_total(packed, where), sent)


@BOTH
@given(data=st.data())
def test_whatever_is_read_is_the_only_form_of_what_it_says(limbs, data):
    values = data.draw(st.integers(0, 3))
    width = data.draw(st.integers(0, 8 * limbs + 1))
    length = width * values + 32
    message = data.draw(st.binary(min_size=length, max_size=length)) + bytes([width])
    where = context(values, limbs)
    if not refused(message, where):
        assert pack_total(unpack_total(message, where)) == message


@BOTH
def test_a_form_that_is_wider_than_it_need_be_is_refused(limbs):
    where = context(2, limbs)
    for width in range(2, 8 * limbs + 1):
        edge = 1 << (8 * (width - 1) - 1)
        for integers, fits in (((edge, 0), True), ((0, -edge - 1), True), ((edge - 1, -edge), False)):
            assert refused(form(integers, width), where) != fits, (width, integers)


@BOTH
def test_another_length_or_width_is_refused(limbs):
    packed, where = pack_total(total([300, -1, 0], limbs)), context(3, limbs)
    assert not refused(packed, where)
    for message in (b"", packed[:-1], packed[1:], b"\0" + packed, packed[-1:]):
        assert refused(message, where)
    for width in (0, 1, 3, 8 * limbs + 1, 255):
        assert refused(packed[:-1] + bytes([width]), where)
    assert refused(bytes(33), Context(b"s" * 32, 0, 0, ("a", "b", "c"), b"l" * 32, 1, limbs))  # no room for checks


@BOTH
def test_what_travels_down_is_no_longer_than_what_went_up_but_for_the_width(limbs):
    widest = total([-(1 << 64 * limbs - 1)] * 5, limbs)
    assert len(pack_total(widest)) == len(ring.to_bytes(widest)) + 1
