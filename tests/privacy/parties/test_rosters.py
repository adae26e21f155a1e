"""Whatever a roster's file holds, it is a roster or a mistake in words."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.primitives.keys import Identity
from protocols.secure_sum import MisuseError
from protocols.sessions import session
from protocols.sessions.session import Roster

KEYS = {name: Identity(name.encode() * 32).public for name in "abc"}
HONEST = Roster(KEYS).to_json()

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=70),
        st.sampled_from([key.hex() for key in KEYS.values()]),
        st.binary(min_size=32, max_size=32).map(bytes.hex),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(st.one_of(st.text(max_size=70), st.sampled_from("abcd")), VALUES, max_size=4)


def read(text):
    """The roster, whole and usable; or None for a mistake in words. Whatever else is raised fails the test."""
    try:
        roster = Roster.from_json(text)
    except MisuseError:
        return None
    assert len(roster.digest) == 32
    assert Roster.from_json(roster.to_json()) == roster
    return roster


@given(text=st.one_of(st.text(max_size=300), st.one_of(TABLES, VALUES).map(json.dumps)))
def test_any_text_is_a_roster_or_a_mistake_in_words(text):
    read(text)


@given(place=st.integers(0, len(HONEST)), gone=st.integers(0, 5), text=st.text(max_size=5))
def test_an_edited_roster_is_another_one_or_a_mistake_in_words(place, gone, text):
    edited = HONEST[:place] + text + HONEST[place + gone :]
    roster = read(edited)
    assert roster is None or edited != HONEST or roster.keys == KEYS


@given(text=st.text(max_size=30))
@example(text="\ud800")
@example(text="\x00")
@example(text="")
@example(text="a" * 65)
@example(text="-a")
def test_a_name_is_one_that_every_message_can_carry(text):
    roster = read(json.dumps({text: KEYS["a"].hex()}))
    if roster is not None:
        assert text.isascii()
        assert text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '"a"',
        "[" * 200_000,
        '{"a":' * 200_000,
        '{"a": ["' + KEYS["a"].hex() + '"]}',
        '{"a": {}}',
        '{"a": null}',
        '{"a": 1' + "0" * 400 + "}",
        '{"a": 1' + "0" * 5_000 + "}",
        '{"a": 1e999}',
        '{"a": NaN}',
        '{"a": "\\ud800"}',
        '{"\\ud800": "' + KEYS["a"].hex() + '"}',
        '{"a b": "' + KEYS["a"].hex() + '"}',
        '{"a": "' + KEYS["a"].hex()[2:] + '"}',
        '{"a": "' + "zz" * 32 + '"}',
        '{"a": "' + "00" * 32 + '"}',
        '{"a": "' + KEYS["a"].hex() + '", "b": "' + KEYS["a"].hex() + '"}',
        '{"a": "' + KEYS["a"].hex() + '", "a": "' + KEYS["b"].hex() + '"}',
        "\ufeff{}",
    ],
    ids=lambda text: text[:24].encode("unicode_escape").decode(),
)
def test_what_is_no_roster_is_a_mistake_in_words(text):
    assert read(text) is None


def test_a_roster_reads_what_it_writes():
    assert Roster.from_json(HONEST).keys == KEYS
    assert read(HONEST).digest == Roster(KEYS).digest


def test_the_twin_that_looks_at_no_name_breaks_where_the_roster_is_first_used(monkeypatch):
    monkeypatch.setattr(session, "legal_name", lambda name: name)
    roster = Roster.from_json('{"\\ud800": "' + KEYS["a"].hex() + '"}')
    with pytest.raises(UnicodeEncodeError):
        _ = roster.digest
