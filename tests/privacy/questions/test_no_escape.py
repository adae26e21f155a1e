"""Nothing but a `QueryError` leaves the reading of a question: any other error would silence the site that reads it."""

import json
import struct

import pytest

from secirls.algorithms import query as query_room
from secirls.algorithms.query import QueryError, query_from_bytes


def framed(text, tail=b""):
    return struct.pack("<I", len(text)) + text + tail


def asked(kind="irls", **changes):
    """A question as whoever writes it by hand would, with some of its parts changed."""
    floats = {"dtype": "float64", "shape": [0]}
    parts = {
        "genes": {"dtype": "bool", "shape": [0]},
        "beta": {"dtype": "float64", "shape": [0, 2]},
        "expand": floats,
        "steps": floats,
        "with_xtwx": {"dtype": "bool", "shape": [0]},
    }
    told = {"kind": kind, "fraction_bits": 64, "min_mu": 0.5, **parts, **changes}
    return framed(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())


ESCAPES = {
    "an integer without end": asked(min_mu=10**400),
    "a list for a type": asked(beta={"dtype": [], "shape": [0, 2]}),
    "a table for a type": asked(genes={"dtype": {}, "shape": [0]}),
    "a shape beyond memory": asked(beta={"dtype": "float64", "shape": [0, 1 << 31, 1 << 31]}),
    "a half of a letter": asked(kind="\ud800"),
    "no text": framed(b"\xff\xfe\x00"),
    "nested without end": framed(b"[" * 200_000),
    "digits without end": framed(b'{"kind":1' + b"0" * 5000 + b"}"),
}


@pytest.mark.parametrize("data", ESCAPES.values(), ids=ESCAPES)
def test_what_is_no_question_is_refused_in_words(data):
    with pytest.raises(QueryError):
        query_from_bytes(data)


def test_a_question_written_by_hand_is_one():
    assert query_from_bytes(asked()).to_bytes() == asked()


def test_without_the_catch_nesting_ends_the_site(monkeypatch):
    def uncaught(data):
        (length,) = struct.unpack_from("<I", data)
        return json.loads(data[4 : 4 + length].decode("ascii")), 4 + length

    monkeypatch.setattr(query_room, "_read_header", uncaught)
    for name in ("nested without end", "digits without end", "no text"):
        with pytest.raises((ValueError, RecursionError)) as broken:
            query_from_bytes(ESCAPES[name])
        assert not isinstance(broken.value, QueryError)
