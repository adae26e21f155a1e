"""Queries are data: what was sent arrives, anything else is refused, and nothing else can happen."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secirls.algorithms.irls import IrlsQuery
from secirls.algorithms.normalisation import CensusQuery, NormalisedQuery
from secirls.algorithms.query import QueryError, query_from_bytes

MASK = np.array([True, False, True, True, False, True, True, False, True])
EXAMPLES = [
    CensusQuery(MASK, 3),
    NormalisedQuery(MASK, np.linspace(-3, 3, 6), MASK[:6], 2),
    NormalisedQuery(MASK, np.zeros(0), np.zeros(0, bool), 2),
    IrlsQuery(MASK, np.arange(12.0).reshape(6, 2), 0.5),
]


@pytest.mark.parametrize("query", EXAMPLES, ids=lambda query: query.kind)
def test_a_query_arrives_as_it_was_sent(query):
    arrived = query_from_bytes(query.to_bytes())
    assert type(arrived) is type(query)
    for name, value in vars(query).items():
        assert np.array_equal(getattr(arrived, name), value)
    assert arrived.layout(4).digest == query.layout(4).digest


def test_layouts_of_different_questions_differ():
    digests = {query.layout(4).digest for query in EXAMPLES}
    assert len(digests) == len(EXAMPLES)
    moved = IrlsQuery(MASK, np.arange(12.0).reshape(6, 2) + 1e-9, 0.5)
    assert moved.layout(4).digest not in digests


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(data):
    with pytest.raises(QueryError):
        query_from_bytes(data)


@given(st.sampled_from(EXAMPLES), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_the_digest(query, where, flip):
    data = bytearray(query.to_bytes())
    data[where % len(data)] ^= flip
    try:
        arrived = query_from_bytes(bytes(data))
        arrived.check(9, 2)
        changed = arrived.layout(4).digest != query.layout(4).digest
    except QueryError:
        return
    # Bits of a mask beyond its last gene carry nothing.
    assert changed or arrived.to_bytes() == query.to_bytes()


def header(**changes):
    told = {"kind": "census", "genes": {"dtype": "bool", "shape": [8]}, "params": 2}
    told |= {"expand": {"dtype": "float64", "shape": [0]}} | changes
    head = json.dumps(told).encode()
    return struct.pack("<I", len(head)) + head + b"\xff"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "os.system"},
        {"kind": ["census"]},
        {"params": 2.5},
        {"params": True},
        {"params": {"dtype": "float64", "shape": []}},
        {"params": "2"},
        {"genes": {"dtype": "bool", "shape": [1 << 40]}},
        {"genes": {"dtype": "object", "shape": [8]}},
        {"genes": {"dtype": "bool", "shape": [-8]}},
        {"genes": {"dtype": "bool", "shape": [2, 2, 2, 1]}},
        {"genes": 3},
        {"colour": 1},
    ],
)
def test_headers_that_are_not_of_the_query(changes):
    query_from_bytes(header())
    with pytest.raises(QueryError):
        query_from_bytes(header(**changes))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    beta = np.zeros((6, 2))
    beta[3, 1] = bad
    with pytest.raises(QueryError, match="not finite"):
        query_from_bytes(IrlsQuery(MASK, beta, 0.5).to_bytes())
