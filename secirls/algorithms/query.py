"""Public questions to sites: data with a name, never code. And the sums that come back.

Promises: a query is decoded into exactly the arrays that were sent or refused; its layout follows
from its public fields alone. Refuses to know: protocols, sites, and how a sum is made.
"""

from __future__ import annotations

import json
import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import COMPACT, FRACTION_BITS, Field, Layout, largest_bound
from protocols.secure_sum import sha256
from secirls.numerics.samples import Floats, Mask, Samples

LARGEST_QUERY_BYTES = 1 << 31
_DTYPES = {"float64": np.dtype("<f8"), "bool": np.dtype("bool")}


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


EXACT = FRACTION_BITS
"""Fraction bits of the exact profile, in Z_2^128; fewer stand for the compact one, in Z_2^64."""


def largest_summand(parties: int, fraction_bits: int = EXACT) -> float:
    """The largest magnitude that each of so many parties may send, in any array of a query."""
    return largest_bound(parties, fraction_bits, _limbs(fraction_bits))


def resolution(parties: int, fraction_bits: int) -> float:
    """By how much the difference of two sums over so many parties may be off from rounding; nothing if exact."""
    return 0.0 if fraction_bits == EXACT else math.ldexp(parties, -fraction_bits)


def _limbs(fraction_bits: int) -> int:
    return 2 if fraction_bits == EXACT else 1


T = TypeVar("T")
Algorithm: TypeAlias = Generator["Query", Total, T]
"""A statistical method: yields queries, is resumed with totals, returns its result."""


@dataclass(frozen=True)
class Query(ABC):
    """A public question over a subset of the agreed genes, answered by sums over a site's samples.

    Subclasses are frozen dataclasses whose fields are bool or float64 arrays, ints and floats; they
    register themselves under `kind`.
    """

    genes: Mask
    """Which of the agreed genes are asked about, ``(all genes,)``."""

    kind: ClassVar[str]
    verified: ClassVar[bool] = False
    """Whether the sites are told the total, and check it: see `protocols.verified`."""
    may_shrink: ClassVar[bool] = False
    """Whether its algorithm is right when a round's sum is over fewer sites than the one before."""
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
        """Fraction bits of the sums: `EXACT` unless overridden."""
        return EXACT

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the arrays to be summed, in order."""

    @abstractmethod
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The arrays of one site. ``samples`` holds the asked genes only; ``parties`` are in the cohort."""

    def apply(self, samples: Samples) -> Samples:
        """What a site keeps from this query for later ones (all genes); nothing unless overridden."""
        return samples

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits a fit of that many genes and parameters."""
        if self.genes.shape != (n_genes,):
            raise QueryError(f"query {self.kind!r} is about {self.genes.shape} genes, the fit has {n_genes}")
        if self.precision != EXACT and self.precision not in COMPACT:
            raise QueryError(f"query {self.kind!r} has impossible fraction bits")

    def layout(self, parties: int, state: bytes = b"") -> Layout:
        """The vector that each of so many parties sends; bound to this query's own bytes and to the `chained` state."""
        bits = self.precision
        bound = largest_summand(parties, bits)
        return Layout(
            tuple(Field(name, shape, bound, bits) for name, shape in self.shapes().items()),
            _limbs(bits),
            binding=sha256(b"secirls query v2", state, self.to_bytes()),
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
                header[item.name] = value
        head = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        return struct.pack("<I", len(head)) + head + b"".join(buffers)


def chained(state: bytes, query: bytes) -> bytes:
    """The state of a session after one more question, given as it travels: what sites keep follows from all of them.

    Sites that were asked different questions are in different states, and no sum over them can be opened.
    """
    return sha256(b"secirls state v1", state, query)


def query_from_bytes(data: bytes) -> Query:
    """Read a query from untrusted bytes. Raises `QueryError` and nothing else."""
    if not 4 <= len(data) <= LARGEST_QUERY_BYTES:
        raise QueryError("a query is between 4 bytes and 2 GiB")
    (head_length,) = struct.unpack_from("<I", data)
    try:
        header = json.loads(data[4 : 4 + head_length])
    except (ValueError, RecursionError):
        raise QueryError("a query starts with a JSON header") from None
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str) or header["kind"] not in Query.known:
        raise QueryError("this site knows no query of that kind")
    cls = Query.known[header.pop("kind")]
    names = [item.name for item in fields(cls)]
    if set(header) != set(names):
        raise QueryError(f"query {cls.kind!r} has fields {names}")
    values: dict[str, Any] = {}
    position = 4 + head_length
    for item in fields(cls):
        described = header[item.name]
        if isinstance(described, dict):
            values[item.name], position = _read_array(cls.kind, item.name, described, data, position)
        elif isinstance(described, int | float) and not isinstance(described, bool) and math.isfinite(described):
            values[item.name] = described
        else:
            raise QueryError(f"query {cls.kind!r}: field {item.name!r} is neither an array nor a finite number")
        if (str(item.type) in {"int", "float"}) == isinstance(described, dict):
            raise QueryError(f"query {cls.kind!r}: field {item.name!r} is not {item.type}")
        if str(item.type) == "int" and not isinstance(described, int):
            raise QueryError(f"query {cls.kind!r}: field {item.name!r} is not a whole number")
        if str(item.type) == "Mask" and values[item.name].dtype != np.bool_:
            raise QueryError(f"query {cls.kind!r}: field {item.name!r} is not a mask")
        if str(item.type) == "Floats" and values[item.name].dtype != np.float64:
            raise QueryError(f"query {cls.kind!r}: field {item.name!r} is not float64")
    if position != len(data):
        raise QueryError(f"query {cls.kind!r} has {len(data) - position} bytes too many")
    return cls(**values)


def _read_array(kind: str, name: str, described: dict[str, Any], data: bytes, start: int) -> tuple[NDArray[Any], int]:
    dtype, shape = described.get("dtype"), described.get("shape")
    if dtype not in _DTYPES or not isinstance(shape, list):
        raise QueryError(f"query {kind!r}: field {name!r} is not an array this site reads")
    if not all(isinstance(side, int) and 0 <= side <= LARGEST_QUERY_BYTES for side in shape) or len(shape) > 3:
        raise QueryError(f"query {kind!r}: field {name!r} has an impossible shape")
    count = math.prod(shape)
    size = (count + 7) // 8 if dtype == "bool" else 8 * count
    if start + size > len(data):
        raise QueryError(f"query {kind!r}: field {name!r} is cut short")
    raw = data[start : start + size]
    if dtype == "bool":
        array: NDArray[Any] = np.unpackbits(np.frombuffer(raw, np.uint8), count=count).astype(bool).reshape(shape)
    else:
        array = np.frombuffer(raw, dtype="<f8").astype(np.float64).reshape(shape)
        if not np.isfinite(array).all():
            raise QueryError(f"query {kind!r}: field {name!r} holds a number that is not finite")
    return array, start + size
