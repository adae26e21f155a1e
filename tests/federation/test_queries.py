"""Queries are data: what was sent arrives, anything else is refused, and nothing else can happen."""

import json
import struct
from contextlib import suppress
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from secirls.algorithms.components.component_queries import (
    VstDominatedQuery,
    VstGramQuery,
    VstProductsQuery,
    VstSquaresQuery,
)
from secirls.algorithms.dispersion.dispersion_newton import DispersionNewtonQuery
from secirls.algorithms.dispersion.dispersion_start import Means
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery, ResidualsQuery
from secirls.algorithms.dispersion.profile import ProfileQuery
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import LogCountsQuery, NormalisedQuery
from secirls.algorithms.query import LARGEST_ANSWER, Query, QueryError, query_from_bytes
from secirls.algorithms.regression.catch import LikelihoodQuery
from secirls.algorithms.regression.irls_queries import IrlsQuery, LeastSquaresQuery
from secirls.algorithms.regression.quasi_newton import QuasiNewtonQuery
from secirls.algorithms.regression.refit import ReplaceCountsQuery
from secirls.algorithms.regression.restricted import LikelihoodAtQuery, ReducedIrlsQuery, ReducedUnclampedQuery
from secirls.algorithms.summands import EXACT
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.dispersion.nodes import nodes_for

MASK = np.array([True, False, True, True, False, True, True, False, True])
EXAMPLES = [
    CensusQuery(MASK, 3),
    NormalisedQuery(MASK, np.linspace(-3, 3, 6), MASK[:6], 2),
    NormalisedQuery(MASK, np.zeros(0), np.zeros(0, bool), 2),
    IrlsQuery(MASK, np.arange(12.0).reshape(6, 2), 0.5),
    ProfileQuery.about(
        MASK,
        Means(np.ones((6, 2)), linear=True, lost=np.zeros(6, dtype=np.int8)),
        nodes_for(np.full(6, 5.0), np.full(6, 9.0), 6.0, 10.0),
        Products.full(2),
        EXACT,
    ),
    DispersionNewtonQuery(MASK, np.ones((6, 2)), np.full(6, 0.5), np.array([0.0, 0, 1]), np.array([0.0, 1, 1]), 1, 0.5),
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
    assert changed


def header(tail=b"\xff", **changes):
    told = {"kind": "census", "genes": {"dtype": "bool", "shape": [8]}, "params": 2, "groups": 0}
    told |= {"expand": {"dtype": "float64", "shape": [0]}} | changes
    return raw(json.dumps(told, sort_keys=True, separators=(",", ":")).encode(), tail)


def raw(head, tail=b"\xff"):
    return struct.pack("<I", len(head)) + head + tail


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "os.system"},
        {"kind": ["census"]},
        {"params": 2.5},
        {"params": True},
        {"params": {"dtype": "float64", "shape": []}},
        {"params": "2"},
        {"params": 10**400},
        {"params": -(10**400)},
        {"params": [2]},
        {"params": None},
        {"genes": {"dtype": [], "shape": [8]}},
        {"genes": {"dtype": {}, "shape": [8]}},
        {"genes": {"dtype": "bool", "shape": [True] * 3}},
        {"genes": {"dtype": "bool", "shape": [8.0]}},
        {"genes": {"dtype": "bool", "shape": "8"}},
        {"genes": {"dtype": "bool", "shape": {"8": 8}}},
        {"genes": {"dtype": "bool", "shape": [1 << 31, 1 << 31]}},
        {"genes": {"dtype": "bool", "shape": [0, 1 << 31, 1 << 31]}},
        {"genes": {"dtype": "bool", "shape": [0, 1 << 23, 2]}},
        {"genes": {"dtype": "bool", "shape": [10**400]}},
        {"genes": {"dtype": "bool", "shape": [8], "order": "F"}},
        {"genes": {"dtype": "bool"}},
        {"kind": "\ud800"},
        {"\ud800": 1},
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


IRLS = (
    b'{"beta":{"dtype":"float64","shape":[0,2]},"expand":{"dtype":"float64","shape":[0]},'
    b'"fraction_bits":64,"genes":{"dtype":"bool","shape":[0]},"kind":"irls","min_mu":%s,'
    b'"steps":{"dtype":"float64","shape":[0]},"with_xtwx":{"dtype":"bool","shape":[0]}}'
)
PLAIN = (
    b'{"expand":{"dtype":"float64","shape":[0]},"genes":{"dtype":"bool","shape":[8]},'
    b'"groups":0,"kind":"census","params":2}'
)


@pytest.mark.parametrize(
    "data",
    [
        raw(IRLS % b"1e999", b""),
        raw(IRLS % b"NaN", b""),
        raw(IRLS % b"-Infinity", b""),
        raw(IRLS % (b"1" + b"0" * 400), b""),
        raw(IRLS % b"1", b""),
        raw(IRLS.replace(b"[0,2]", b"[0,2147483648,2147483648]") % b"0.5", b""),
        raw(IRLS.replace(b"64,", b"true,") % b"0.5", b""),
        raw(PLAIN.replace(b"2}", b"1" + b"0" * 5000 + b"}")),
        raw(PLAIN.replace(b"2}", b"NaN}")),
        raw(PLAIN.replace(b'"kind"', b'"kind":"irls","kind"')),
        raw(PLAIN.replace(b'"params":2', b'"params":3,"params":2')),
        raw(PLAIN.replace(b",", b", ")),
        raw(PLAIN.replace(b"census", b"c\\u0065nsus")),
        raw(PLAIN.replace(b"census", b"c\xe9nsus")),
        raw(PLAIN.decode().encode("utf-16")),
        raw(b"\xef\xbb\xbf" + PLAIN),
        raw(b"[" * 4000),
        raw(b"[" * 200_000),
        raw(b'{"a":' * 700 + b"1" + b"}" * 700),
        raw(b"[]"),
        raw(b"null"),
        PLAIN,
        b"\xff\xff\xff\xff" + PLAIN,
        bytearray(raw(PLAIN)),
        "census",
        None,
    ],
    ids=str,
)
def test_text_that_is_no_header_of_ours_is_refused_and_nothing_else_happens(data):
    assert query_from_bytes(raw(PLAIN)).to_bytes() == raw(PLAIN)
    assert query_from_bytes(raw(IRLS % b"0.5", b"")).min_mu == 0.5
    with pytest.raises(QueryError) as refused:
        query_from_bytes(data)
    assert len(str(refused.value)) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["dtype", "shape", "x"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["genes", "params", "kind", "x"]), JSON), st.binary(max_size=9))
def test_any_header_is_refused_or_is_the_query_it_says(changes, tail):
    data = header(tail, **changes)
    try:
        arrived = query_from_bytes(data)
    except QueryError:
        return
    assert arrived.to_bytes() == data


@st.composite
def questions(draw):
    """Any kind of question, its fields filled with anything of their types; they need not fit each other."""
    cls = draw(st.sampled_from(sorted(Query.known.values(), key=lambda kind: kind.kind)))
    values = {}
    for item in fields(cls):
        if item.type == "int":
            values[item.name] = draw(st.integers(-(1 << 31), 1 << 31))
        elif item.type == "float":
            values[item.name] = draw(st.floats(-(2.0**31), 2.0**31))
        else:
            shape = draw(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
            kind, element = (bool, st.booleans()) if item.type == "Mask" else (np.float64, finite)
            values[item.name] = draw(arrays(kind, shape, elements=element))
    return cls(**values)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(questions())
def test_every_kind_of_question_has_one_form(query):
    data = query.to_bytes()
    arrived = query_from_bytes(data)
    assert type(arrived) is type(query)
    assert arrived.to_bytes() == data
    for name, value in vars(query).items():
        assert np.array_equal(getattr(arrived, name), value)


@given(questions(), st.integers(0, 6), st.integers(0, 4))
def test_a_question_of_any_shape_fits_or_is_refused_in_words(query, n_genes, n_params):
    try:
        query.check(n_genes, n_params)
    except QueryError:
        return
    assert query.genes.shape == (n_genes,)
    assert query.layout(3).values == query.values <= LARGEST_ANSWER


@given(questions(), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_another_question_or_none(query, where, flip):
    data = bytearray(query.to_bytes())
    data[where % len(data)] ^= flip
    with suppress(QueryError):
        assert query_from_bytes(bytes(data)).to_bytes() == data != query.to_bytes()


@pytest.mark.parametrize("cls", Query.known.values(), ids=lambda cls: cls.kind)
def test_a_kind_says_what_its_sum_shows_and_what_keeps_one_site_out(cls):
    text = " ".join(cls.__doc__.split())
    assert "Its sum shows" in text
    assert any(word in text for word in ("min_contributors", "same whatever they hold", "`IrlsQuery`"))


def examples(genes, params):
    """One question of each kind, over more genes than any other side of its arrays."""
    mask, n = np.ones(genes, bool), genes
    yield from (CensusQuery(mask, params), LogCountsQuery(mask), LeastSquaresQuery(mask, params))
    yield NormalisedQuery(mask, np.zeros(n), mask, params)
    yield ResidualsQuery(mask, np.ones(n), np.ones((n, params)))
    yield from (
        AdoptDispersionsQuery(mask, np.ones(n)),
        ReplaceCountsQuery(mask),
        IrlsQuery(mask, np.zeros((n, 2)), 0.5),
    )
    yield LikelihoodAtQuery(mask, np.zeros((n, params)), 0.0)
    yield ReducedIrlsQuery(mask, np.zeros((n, params)), 0.5, basis=np.ones((params, params - 1)))
    yield ReducedUnclampedQuery(mask, np.zeros((n, params)), basis=np.ones((params, params - 1)))
    yield from (kind(mask, np.zeros((n, 5, params)), 0.5) for kind in (QuasiNewtonQuery, LikelihoodQuery))
    scale = np.array([0.1, 1.0, 0.0]), np.zeros((3, 0)), np.zeros(0), 1.0
    yield from (VstSquaresQuery(mask, *scale), VstDominatedQuery(mask, *scale, np.ones(n), 0.5))
    yield VstGramQuery(mask, *scale, np.ones((n, 3)))
    yield VstProductsQuery(mask, *scale, np.ones((n, 5)), np.eye(5), 3, 0.5)


PER_GENE = {
    "census": 1,
    "log_counts": 2,
    "least_squares": 2,
    "normalised": 3,
    "residuals": 2,
    "adopt_dispersions": 0,
    "replace_counts": 0,
    "irls": 6,
    "quasi_newton": 30,
    "likelihood": 5,
    "likelihood_at": 1,
    "reduced_irls": 3,
    "reduced_unclamped": 3,
    "vst_squares": 1,
    "vst_dominated": 1,
    "vst_gram": 0,
    "vst_products": 3,
}


@pytest.mark.parametrize("query", list(examples(11, 2)), ids=lambda query: query.kind)
def test_a_kind_says_how_many_numbers_it_opens_of_a_gene(query):
    assert query.values_per_gene == PER_GENE[query.kind]
    by_gene = {name for name, shape in query.shapes().items() if shape[:1] == (11,)}
    assert set(query.shapes()) - by_gene == query.not_by_gene
    assert (query.sign in by_gene) == bool(by_gene)
    shared = sum(np.prod(query.shapes()[name], dtype=int) for name in query.not_by_gene)
    assert query.values == 11 * query.values_per_gene + shared


@pytest.mark.parametrize(
    "query",
    [
        CensusQuery(np.ones(4, bool), 1 << 12),
        LeastSquaresQuery(np.ones(4, bool), 1 << 22),
        LikelihoodQuery(np.ones(1024, bool), np.zeros((1024, 513, 2)), 0.5),
        QuasiNewtonQuery(np.ones(1 << 14, bool), np.zeros((1 << 14, 33, 1)), 0.5),
        IrlsQuery(np.ones(1 << 10, bool), np.zeros((1 << 10, 128)), 0.5),
    ],
    ids=lambda query: query.kind,
)
def test_a_question_with_too_long_an_answer_is_refused(query):
    params = (
        query.params if hasattr(query, "params") else vars(query).get("beta", vars(query).get("candidates")).shape[-1]
    )
    with pytest.raises(QueryError, match=r"at most|more than"):
        query.check(query.genes.size, params)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    beta = np.zeros((6, 2))
    beta[3, 1] = bad
    with pytest.raises(QueryError, match="not finite"):
        query_from_bytes(IrlsQuery(MASK, beta, 0.5).to_bytes())
