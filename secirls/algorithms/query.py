"""Public questions to sites: data with a name, never code. And the sums that come back.

Promises: a query has one form in bytes, and is decoded into exactly the arrays that were sent or refused; its
layout follows from its public fields alone; whatever a site holds, its answer can be encoded (see `summands`).
Refuses to know: protocols, sites, and how a sum is made.
"""

from __future__ import annotations

import json
import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import COMPACT, Field, Layout
from protocols.secure_sum import sha256
from secirls.algorithms.summands import (
    EXACT,
    StandIns,
    hide,
    largest_summand,
    lasting,
    limbs,
    lost,
    signed,
    stand_ins,
    with_stand_ins,
)
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples

LARGEST_ANSWER = 1 << 23
"""Numbers in one answer, at most: 128 MiB as ring elements. Algorithms keep to it by asking in `portions`."""
LARGEST_ARRAY = 1 << 23
"""Numbers in one array of a question, at most: 64 MiB."""
LARGEST_CANDIDATES = 1 << 19
"""Coefficient vectors in one question, over all genes, at most: each is a pass over a gene's counts."""
LARGEST_HEADER_BYTES = 1 << 12
LARGEST_QUERY_BYTES = 1 << 28
LARGEST_NUMBER = 1 << 31


class QueryError(ValueError):
    """A message that is not a well-formed query: says what is wrong, never what the site holds."""


@dataclass(frozen=True)
class Total:
    """The opened arrays of one query, and the sites whose samples are in them."""

    arrays: Mapping[str, Floats]
    parties: tuple[str, ...]
    cohort: tuple[str, ...]

    def __getitem__(self, name: str) -> Floats:
        return self.arrays[name]


def portions(genes: Mask, candidates: int, values: int) -> Iterator[Mask]:
    """Masks that split the genes, so that no question about one of them is larger than a site answers.

    ``candidates`` coefficient vectors are asked about per gene, each with ``values`` numbers in the answer. Nearly
    always there is one portion.
    """
    most = max(1, min(LARGEST_CANDIDATES // candidates, LARGEST_ANSWER // (candidates * values)))
    for start in range(0, np.count_nonzero(genes), most):
        yield some_of(genes, slice(start, start + most))


def some_of(genes: Mask, chosen: NDArray[np.intp] | Mask | slice) -> Mask:
    """The mask of some of the masked genes, given by their places among these, or by a mask of these."""
    some = np.zeros_like(genes)
    some[np.flatnonzero(genes)[chosen]] = True
    return some


def in_both(parties: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some parties who are among others, in their order."""
    there = frozenset(others)
    return parties if parties == others else tuple(party for party in parties if party in there)


T = TypeVar("T")
Algorithm: TypeAlias = Generator["Query", Total, T]
"""A statistical method: yields queries, is resumed with totals, returns its result."""


@dataclass(frozen=True)
class Query(ABC):
    """A public question over a subset of the agreed genes, answered by sums over a site's samples.

    Subclasses are frozen dataclasses whose fields are bool or float64 arrays, ints and floats; they
    register themselves under `kind`. Their docstrings say what the opened sum shows, and which rule keeps one site,
    a small cell or one sample from standing in it alone.
    """

    genes: Mask
    """Which of the agreed genes are asked about, ``(all genes,)``."""

    kind: ClassVar[str]
    fraction_bits = EXACT
    verified: ClassVar[bool] = False
    """Whether the sites are told the total, and check it: see `protocols.verified`."""
    may_shrink: ClassVar[bool] = False
    """Whether its algorithm is right when a round's sum is over fewer sites than the one before."""
    sign: ClassVar[str] = ""
    """The array by gene that carries the sign for lost genes; without one every value carries its own."""
    not_by_gene: ClassVar[frozenset[str]] = frozenset()
    """The arrays whose first side is not the genes asked about."""
    known: ClassVar[dict[str, type[Query]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
            if cls.kind in Query.known:
                raise TypeError(f"two queries are called {cls.kind!r}")
            Query.known[cls.kind] = cls

    @property
    def n_genes(self) -> int:
        """How many genes are asked about."""
        return int(self.genes.sum())

    @property
    def precision(self) -> int:
        """Fraction bits of the sums: a question that can be coarser has a field of that name."""
        return self.fraction_bits

    @property
    def values(self) -> int:
        """How many numbers the sum opens."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    @property
    def values_per_gene(self) -> int:
        """How many numbers the sum opens of each gene asked about, at most."""
        by_gene = (shape for name, shape in self.shapes().items() if name not in self.not_by_gene and shape[0])
        return sum(math.prod(shape[1:]) for shape in by_gene)

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the arrays to be summed, in order."""

    @abstractmethod
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The arrays of one site. ``samples`` holds the asked genes only; ``parties`` are in the cohort."""

    def apply(self, samples: Samples) -> Samples:
        """What a site keeps from this query for later ones (all genes); nothing unless overridden."""
        return samples

    def recalled(self, samples: Samples) -> Samples:
        """What a site keeps from this query when a later session goes on after it; nothing is answered."""
        return self.apply(samples)

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits a fit of that many genes and parameters."""
        if self.genes.shape != (n_genes,):
            raise QueryError(f"query {self.kind!r} is about {self.genes.shape} genes, the fit has {n_genes}")
        if self.precision != EXACT and self.precision not in COMPACT:
            raise QueryError(f"query {self.kind!r} has impossible fraction bits")
        try:
            values = self.values
        except (ValueError, IndexError):  # an array with too few or too many sides has no answer's shape
            raise QueryError(f"query {self.kind!r} has arrays that do not fit each other") from None
        if values > LARGEST_ANSWER:
            raise QueryError(f"query {self.kind!r} asks for {values} numbers, a site sends {LARGEST_ANSWER} at most")

    def signed(self, arrays: Mapping[str, Floats], parties: int) -> dict[str, Floats]:
        """A site's arrays as they are encoded: with the sign for what can't be sent."""
        return signed(arrays, parties, self.precision, self.sign, self.not_by_gene)

    def stand_ins(self, arrays: Mapping[str, Floats], bounds: Mapping[str, float]) -> StandIns:
        """What stands for what is lost in signed arrays, or in an opened sum, of such largest summands by array."""
        return stand_ins(arrays, bounds, self.sign, self.not_by_gene)

    def lost(self, total: Total) -> Mask:
        """What some site could not send, in the shape of the array that carries the sign, ``(genes asked, ...)``."""
        if self.sign:
            return lost(total[self.sign], len(total.cohort), self.precision)
        beyond = [lost(array, len(total.cohort), self.precision).any() for array in total.arrays.values()]
        return np.full(self.n_genes, any(beyond))

    def layout(self, parties: int, state: bytes = b"") -> SignedLayout:
        """The vector that each of so many parties sends; bound to this query's own bytes and to the `chained` state."""
        bits = self.precision
        bound = largest_summand(parties, bits)
        return SignedLayout(
            tuple(Field(name, shape, bound, bits) for name, shape in self.shapes().items()),
            limbs(bits),
            binding=sha256(b"secirls query v2", state, self.to_bytes()),
            query=self,
            parties=parties,
        )

    def arrays_to_bytes(self, arrays: Mapping[str, Floats]) -> bytes:
        """An opened sum as it travels to the sites in a later session: float64, in the order of `shapes`."""
        return b"".join(arrays[name].astype("<f8").tobytes() for name in self.shapes())

    def arrays_from(self, data: bytes) -> dict[str, Floats]:
        """Read `arrays_to_bytes`. Raises `QueryError`."""
        shapes = self.shapes()
        sizes = [math.prod(shape) for shape in shapes.values()]
        if len(data) != 8 * sum(sizes):
            raise QueryError(f"a total of {self.kind!r} has {8 * sum(sizes)} bytes, not {len(data)}")
        parts = np.split(np.frombuffer(data, dtype="<f8").astype(np.float64), np.cumsum(sizes)[:-1])
        return {name: part.reshape(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}

    def to_bytes(self) -> bytes:
        """The query as it travels: a length-prefixed JSON header, then the arrays; masks are packed."""
        header: dict[str, Any] = {"kind": self.kind}
        buffers: list[bytes] = []
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                header[item.name] = {"dtype": value.dtype.name, "shape": list(value.shape)}
                packed = np.packbits(value) if value.dtype == np.bool_ else value.astype("<f8")
                buffers.append(packed.tobytes())
            else:
                header[item.name] = float(value) if item.type == "float" else int(value)
        head = _header(header)
        return struct.pack("<I", len(head)) + head + b"".join(buffers)


def chained(state: bytes, query: bytes) -> bytes:
    """The state of a session after one more question, given as it travels: what sites keep follows from all of them.

    Sites that were asked different questions are in different states, and no sum over them can be opened.
    """
    return sha256(b"secirls state v1", state, query)


@dataclass(frozen=True)
class SignedLayout(Layout):
    """The layout of a query's answer. Encoding does not fail, whatever the values: see `Query.signed`."""

    query: Query | None = field(default=None, compare=False, repr=False)
    parties: int = 0

    def encode(
        self,
        arrays: Mapping[str, Floats],
        room: int = 0,
        out: NDArray[np.uint64] | None = None,
        secret: bytes | None = None,
    ) -> NDArray[np.uint64]:
        """Named float64 arrays to one vector as of `Layout.encode`: with sign and noise for what can't be sent.

        The noise is that of a ``secret`` (see `lasting`), or drawn anew.
        """
        if self.query is None:
            return super().encode(arrays, room, out)
        sent = self.query.signed(arrays, self.parties)
        vector = super().encode(sent, room, out)
        drawn = None if secret is None else lasting(secret, self, arrays)
        hide(vector, self, self.query.stand_ins(sent, self._bounds), drawn)
        return vector

    def decode(self, vector: NDArray[np.uint64], parties: int) -> dict[str, Floats]:
        """An opened sum as of `Layout.decode`, with nothing of anybody's where some site could not send its own."""
        arrays = super().decode(vector, parties)
        return arrays if self.query is None else with_stand_ins(arrays, self.query.stand_ins(arrays, self._bounds))

    @property
    def _bounds(self) -> dict[str, float]:
        return {field.name: field.bound for field in self.fields}


def query_from_bytes(data: bytes) -> Query:
    """Read a query from untrusted bytes. Raises `QueryError` and nothing else.

    A query has one form: what is accepted is, byte for byte, what `Query.to_bytes` gives. So who remembers a
    question's bytes remembers the question.
    """
    header, position = _read_header(data)
    kind = header.pop("kind", None)
    if not isinstance(kind, str) or kind not in Query.known:
        raise QueryError("this site knows no query of that kind")
    cls = Query.known[kind]
    names = [item.name for item in fields(cls)]
    if set(header) != set(names):
        raise QueryError(f"query {kind!r} has fields {names}")
    values: dict[str, Any] = {}
    for item in fields(cls):
        where = f"query {kind!r}: field {item.name!r}"
        if item.type in _SCALARS:
            values[item.name] = _read_number(where, item.type, header[item.name])
        else:
            values[item.name], position = _read_array(where, str(item.type), header[item.name], data, position)
    if position != len(data):
        raise QueryError(f"query {kind!r} has {len(data) - position} bytes too many")
    return cls(**values)


_SCALARS = {"int": int, "float": float}
_ARRAYS = {"Mask": "bool", "Floats": "float64"}


def _header(told: Mapping[str, Any]) -> bytes:
    """The one form of a header."""
    return json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _read_header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header of a query, and where its arrays begin."""
    if not isinstance(data, bytes) or not 4 <= len(data) <= LARGEST_QUERY_BYTES:
        raise QueryError(f"a query has between 4 and {LARGEST_QUERY_BYTES} bytes")
    (length,) = struct.unpack_from("<I", data)
    if length > min(LARGEST_HEADER_BYTES, len(data) - 4):
        raise QueryError(f"a query starts with a header of {LARGEST_HEADER_BYTES} bytes at most")
    head = data[4 : 4 + length]
    try:
        header = json.loads(head.decode("ascii"))
        one_form = _header(header)
    except (ValueError, RecursionError):
        raise QueryError("a query starts with a JSON header") from None
    if not isinstance(header, dict) or one_form != head:
        raise QueryError("a query starts with a JSON object in its one form")
    return header, 4 + length


def _read_number(where: str, told: Any, value: object) -> int | float:
    if type(value) is not _SCALARS[told]:
        raise QueryError(f"{where} is not {told}")
    if not isinstance(value, int | float) or abs(value) > LARGEST_NUMBER:
        raise QueryError(f"{where} is larger than any number this site reads")
    return value


def _read_array(where: str, told: str, described: object, data: bytes, start: int) -> tuple[NDArray[Any], int]:
    if not isinstance(described, dict) or set(described) != {"dtype", "shape"}:
        raise QueryError(f"{where} is not an array")
    dtype, shape = described["dtype"], described["shape"]
    if not isinstance(dtype, str) or dtype != _ARRAYS.get(told) or not isinstance(shape, list):
        raise QueryError(f"{where} is not an array of the kind this site reads")
    if len(shape) > 3 or not all(type(side) is int and 0 <= side <= LARGEST_ARRAY for side in shape):
        raise QueryError(f"{where} has an impossible shape")
    if math.prod(max(side, 1) for side in shape) > LARGEST_ARRAY:
        raise QueryError(f"{where} has more than {LARGEST_ARRAY} numbers")
    count = math.prod(shape)
    stop = start + ((count + 7) // 8 if dtype == "bool" else 8 * count)
    if stop > len(data):
        raise QueryError(f"{where} is cut short")
    if dtype == "bool":
        bits = np.unpackbits(np.frombuffer(data, np.uint8, stop - start, start))
        if bits[count:].any():
            raise QueryError(f"{where} has bits beyond its end")
        return bits[:count].astype(bool).reshape(shape), stop
    array = np.frombuffer(data, "<f8", count, start).astype(np.float64).reshape(shape)
    if not np.isfinite(array).all():
        raise QueryError(f"{where} holds a number that is not finite")
    return array, stop


def check_params(query: Query, params: int, n_params: int) -> None:
    """Raise `QueryError` unless a query's number of design columns is the agreed one."""
    if params != n_params:
        raise QueryError(f"query {query.kind!r} is about {params} design columns, the fit has {n_params}")
