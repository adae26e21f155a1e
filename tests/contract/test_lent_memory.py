"""Vectors written where they are sent from: the same messages, and nothing in clear that stays behind."""

import dataclasses

import numpy as np
import pytest

from protocols import run
from protocols.fixed_point import Field, Layout
from protocols.primitives import ring
from protocols.secure_sum import Lending, MisuseError
from protocols.sessions.settings import Settings

SITES = ("a", "b", "c", "d")
LENDING = ("pairwise", "pairwise-lean")


def table_of(protocol="pairwise"):
    table = run.sit_down(protocol, list(SITES), Settings(), run.tape("lent"))
    run.meet(table)
    return table


def address(memory):
    return np.frombuffer(memory, dtype=np.uint8).ctypes.data


@pytest.mark.parametrize("protocol", LENDING)
@pytest.mark.parametrize("values", [1, 21, 20_000])
def test_a_lent_vector_makes_the_same_payload_as_one_that_is_copied(values, protocol):
    vector = ring.expand(b"v" * 32, values, 2)
    tables = [table_of(protocol) for _ in range(2)]
    context = run.context_of(tables[0], vector)
    copied = tables[0].parties["b"].protect(vector, context)
    party = tables[1].parties["b"]
    lent = party.lend(context)
    lent[:] = vector
    sent = party.protect(lent, context)
    assert sent == copied
    # What was lent is where it is sent from: in clear it is nowhere.
    assert sent[: lent.nbytes] == ring.to_bytes(lent)
    assert not np.array_equal(lent, vector)


@pytest.mark.parametrize("protocol", LENDING)
@pytest.mark.parametrize("held", [False, True])
def test_a_message_never_changes_and_is_copied_only_where_somebody_could_change_it(held, protocol):
    table = table_of(protocol)
    context = run.context_of(table, ring.zeros(5_000, 2))
    party, hands = table.parties["b"], []
    hands.append(party.lend(context))
    hands[0][:] = 7
    place, mine = address(hands[0]), hands[0] if held else None
    sent = party.protect(hands.pop(), context)
    assert (address(sent) == place) is not held
    if mine is not None:
        before = bytes(bytearray(sent))
        mine[:] = 0
        assert sent == before


def test_memory_lent_for_another_sum_is_copied_and_serves_once():
    vector = ring.expand(b"v" * 32, 30, 2)
    table, other = table_of(), table_of()
    party, context = table.parties["b"], run.context_of(table, vector)
    fewer = dataclasses.replace(context, cohort=("a", "b", "c"))
    lent = party.lend(fewer)
    lent[:] = vector
    assert party.protect(lent, context) == other.parties["b"].protect(vector, context)
    assert np.array_equal(lent, vector)
    again = dataclasses.replace(fewer, round=1)
    assert party.protect(lent, again) == other.parties["b"].protect(vector, again)
    assert np.array_equal(lent, vector)


def test_only_who_lends_is_asked_to_and_only_in_its_session():
    table = table_of()
    context = run.context_of(table, ring.zeros(3, 2))
    with pytest.raises(MisuseError, match="another session"):
        table.parties["a"].lend(dataclasses.replace(context, session=bytes(32)))
    assert isinstance(table.parties["a"], Lending)
    assert not isinstance(table_of("plain").parties["a"], Lending)


@pytest.mark.parametrize("values", [7, 5_000])
def test_encoding_into_given_memory_gives_the_same_vector(values):
    layout = Layout((Field("x", (values,), 2.0**20),))
    arrays = {"x": np.linspace(-3, 3, values)}
    out = np.full((values + 2, 2), 9, dtype=np.uint64)
    assert layout.encode(arrays, 2, out) is out
    assert np.array_equal(out, layout.encode(arrays, 2))
    with pytest.raises(MisuseError, match="does not fit"):
        layout.encode(arrays, 1, out)
