"""The seam every secure sum fits: four verbs, the types they pass, and the ways they may fail.

Promises: a `Total` is the exact ring sum over `Total.parties`, or an exception is raised.
Refuses to know: what the numbers mean, how messages travel, and which protocol hides them.

One sum, leg by leg (see `protocols.run` for the same on a page)::

    hellos  = each party.hello()                  once per session and batch of rounds
              collector.check(hellos)             before they are carried on
    grants  = each party.meet(hellos)             collector.meet(hellos, grants)
    payload = each party.protect(vector, context)
    pending = collector.combine(payloads, context)
    reply   = asked party.assist(request, context)
    total   = collector.open(pending, replies)    or a further Pending: one more trip
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Kept = TypeVar("Kept")

PartyId: TypeAlias = str
Vector: TypeAlias = NDArray[np.uint64]
"""Ring elements, ``(values, limbs)`` uint64, lowest limb first; two limbs are Z_2^128."""

AGGREGATOR: PartyId = "aggregator"
KEY_HOLDER: PartyId = "key-holder"
KEY_DEALER: PartyId = "key-dealer"
RESERVED = frozenset({AGGREGATOR, KEY_HOLDER, KEY_DEALER})
MINIMUM_PARTIES = 3

_LENGTH = struct.Struct("<Q")
_MOST_ROUNDS = 1 << 32
_LEGAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class SecureSumError(Exception):
    """Root of everything this package raises on purpose."""


class MisuseError(SecureSumError):
    """You erred: this process asked for something the protocol does not allow."""


class PeerError(SecureSumError):
    """They erred: a message does not verify. Names the party it claims to come from."""

    def __init__(self, sender: PartyId, reason: str) -> None:
        super().__init__(f"{sender}: {reason}")
        self.sender = sender
        self.reason = reason

    def __reduce__(self) -> tuple[type[PeerError], tuple[str, str]]:
        return type(self), (self.sender, self.reason)


class DropoutError(SecureSumError):
    """Too few parties answered for the sum to be opened. Nothing was learned from those who did.

    ``where`` says among whom, if not among all.
    """

    def __init__(self, silent: tuple[PartyId, ...], present: int, threshold: int, where: str = "") -> None:
        names = ", ".join(silent) or "nobody"
        super().__init__(f"silent: {names}; {present} answered, {threshold} are needed{where} to open the sum")
        self.silent = silent
        self.present = present
        self.threshold = threshold
        self.where = where

    def __reduce__(self) -> tuple[type[DropoutError], tuple[tuple[str, ...], int, int, str]]:
        return type(self), (self.silent, self.present, self.threshold, self.where)


class IntegrityError(SecureSumError):
    """The opened sum is impossible: a mask is missing, the cohort is wrong, or a payload was altered."""


def legal_name(name: object) -> str:
    """Check the name of a party or a role: 1 to 64 letters, digits, ``_ . -``. Raises `MisuseError`."""
    if not isinstance(name, str) or not _LEGAL_NAME.fullmatch(name):
        raise MisuseError(
            f"{name!r:.80} can't name a party: use 1 to 64 of A-Z a-z 0-9 _ . - starting with a letter or digit"
        )
    return name


def party_id(name: str) -> PartyId:
    """Check a party's name: a legal one, and not a role's own."""
    if legal_name(name) in RESERVED:
        raise MisuseError(f"{name!r} names a role of the protocol, choose another name for the party")
    return name


@dataclass(frozen=True)
class Context:
    """The name of one sum, used once. Each party builds it for itself, so it signs what it believes.

    `session` (32 bytes) comes from every party's nonce, `layout` (32 bytes) from the query;
    `cohort` holds the parties expected in the sum, sorted.
    """

    session: bytes
    round: int
    attempt: int
    cohort: tuple[PartyId, ...]
    layout: bytes
    values: int
    limbs: int = 2

    def __post_init__(self) -> None:
        if len(self.session) != 32 or len(self.layout) != 32:
            raise MisuseError("a context needs a 32-byte session and a 32-byte layout digest")
        if not 0 <= self.round < _MOST_ROUNDS or not 0 <= self.attempt < _MOST_ROUNDS:
            raise MisuseError("a context's round and attempt lie between 0 and 2^32")
        if self.values < 0 or self.limbs not in (1, 2):
            raise MisuseError("a context needs values >= 0 and one or two limbs")
        if not in_order(self.cohort):
            raise MisuseError("a context's cohort must be sorted and without repetition")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over every field, length-prefixed: what keys and signatures are bound to."""
        head = struct.pack("<QQQQQ", self.round, self.attempt, self.values, self.limbs, len(self.cohort))
        digest = begun(b"secirls context v1", self.session, self.layout, head)
        digest.update(b"".join(framed_names(self.cohort)))
        return digest.digest()

    @cached_property
    def members(self) -> frozenset[PartyId]:
        """The cohort as a set: to look somebody up among many. Contexts of one cohort share it."""
        return _members(self.cohort)

    def check_vector(self, vector: Vector) -> None:
        """Raise `MisuseError` unless the vector has exactly the context's shape and type."""
        if vector.dtype != np.uint64 or vector.shape != (self.values, self.limbs):
            raise MisuseError(
                f"vector is {vector.dtype} {vector.shape}, the context says uint64 {(self.values, self.limbs)}"
            )

    def senders(self, messages: Mapping[PartyId, bytes]) -> tuple[PartyId, ...]:
        """The senders, sorted; raises `PeerError` for one who is not in the cohort."""
        for sender in messages:
            if sender not in self.members:
                raise PeerError(sender, "is not in the cohort of this sum")
        return tuple(sorted(messages))


@lru_cache(maxsize=8)
def _members(cohort: tuple[PartyId, ...]) -> frozenset[PartyId]:
    return frozenset(cohort)


@lru_cache(maxsize=8)
def in_order(parties: tuple[PartyId, ...]) -> bool:
    """Whether parties are sorted, and none is there twice."""
    return list(parties) == sorted(set(parties))


@dataclass(frozen=True)
class Pending:
    """A sum that is added up but still hidden: who is in it, and what is asked of whom."""

    context: Context
    parties: tuple[PartyId, ...]
    requests: Mapping[PartyId, bytes]
    hidden: object = field(repr=False, default=None)
    """The collector's own working state; opaque to everyone else."""

    def kept(self, kind: type[Kept]) -> Kept:
        """That state, of the kind its collector left; raises `MisuseError` for another protocol's sum."""
        if not isinstance(self.hidden, kind):
            raise MisuseError("this pending sum is not of this protocol")
        return self.hidden

    def check_replies(self, replies: Mapping[PartyId, bytes]) -> None:
        """Raise `PeerError` naming one who answered and was not asked."""
        for sender in sorted(replies):
            if sender not in self.requests:
                raise PeerError(sender, "answered a request that was not made")


@dataclass(frozen=True)
class Total:
    """The opened ring sum, ``(values, limbs)``, and the parties whose vectors are in it, sorted."""

    vector: Vector
    parties: tuple[PartyId, ...]
    unfit: int = 0
    """Shares that did not fit the others, or whose boxes did not open: it was opened without, and names nobody."""


class Party(Protocol):
    """One site's end of a protocol. It makes and keeps its own secrets; nothing else holds them."""

    @property
    def me(self) -> PartyId:
        """Whose end this is."""
        ...

    @property
    def session(self) -> bytes:
        """The session id; raises `MisuseError` before the first `meet`."""
        ...

    def hello(self, batch: int = 0) -> bytes:
        """Publish this party's public keys for one batch of rounds."""
        ...

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Take everyone's hellos (its own included); answer with a grant for the collector to keep."""
        ...

    def protect(self, vector: Vector, context: Context) -> bytes:
        """Hide this party's vector. Once per context: a second call raises `MisuseError`."""
        ...

    def assist(self, request: bytes, context: Context) -> bytes:
        """Help to open the sum, or refuse with `PeerError(AGGREGATOR, reason)`."""
        ...


@runtime_checkable
class Foresighted(Protocol):
    """A party that can do part of a coming `protect` before it knows the vector."""

    def precompute(self, values: int, limbs: int = 2, most: int | None = None) -> int:
        """Do up to ``most`` pieces of that work for a vector of that shape; how many were done, 0 if none is left."""
        ...


@runtime_checkable
class Lending(Protocol):
    """A party that can send a vector from where it was written, so that nothing is copied to be hidden."""

    def lend(self, context: Context) -> Vector:
        """Memory for the vector of the next `protect`, if it is of this context; that overwrites what is there.

        Who gives `protect` the only hold of it spares the message a copy.
        """
        ...


@runtime_checkable
class Searching(Protocol):
    """A party whose key is found by trying, which takes a while: it can search in steps, so that others see it work."""

    @property
    def usual_tries(self) -> int:
        """How many tries it takes on average."""
        ...

    def search(self, most: int) -> int:
        """Try up to ``most`` times; how many times it tried, 0 once there is a key. `hello` does what is left."""
        ...


class Collector(Protocol):
    """The aggregator's end. It owns no secret that could open one party's vector."""

    @property
    def session(self) -> bytes:
        """The session id; raises `MisuseError` before the first `meet`."""
        ...

    def check(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Look at everyone's hellos before they are carried on; raises `PeerError` naming who sent nonsense."""
        ...

    def meet(self, hellos: Mapping[PartyId, bytes], grants: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Take everyone's hellos and grants for one batch of rounds."""
        ...

    def combine(self, payloads: Mapping[PartyId, bytes], context: Context) -> Pending:
        """Add what arrived. Raises `DropoutError` if it can't be opened, `PeerError` on a bad payload."""
        ...

    def open(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> Total | Pending:
        """Open the sum with the replies, or ask for one more trip."""
        ...


def sha256(label: bytes, *parts: bytes | memoryview) -> bytes:
    """Digest of a label and parts, every one length-prefixed so that no two lists collide."""
    return begun(label, *parts).digest()


def begun(label: bytes, *parts: bytes | memoryview) -> hashlib._Hash:
    """What `sha256` has read of a label and parts: copies go on with `framed` ones, for digests that begin alike."""
    digest = hashlib.sha256()
    for part in (label, *parts):
        digest.update(_LENGTH.pack(len(part)))
        digest.update(part)
    return digest


def framed(part: bytes) -> bytes:
    """A part as `sha256` reads it: behind its length."""
    return _LENGTH.pack(len(part)) + part


def framed_texts(texts: Sequence[str], errors: str = "strict") -> bytes:
    """Many texts as `sha256` reads them in UTF-8, each behind its length: of a hundred thousand none by itself."""
    whole, sizes = "".join(texts).encode(errors=errors), np.array([*map(len, texts)], dtype="<i8")
    if sizes.sum() != len(whole):
        sizes = np.array([len(text.encode(errors=errors)) for text in texts], dtype="<i8")
    is_text = np.repeat(np.tile([False, True], sizes.size), np.stack([np.full_like(sizes, 8), sizes], axis=1).ravel())
    framed = np.empty(is_text.size, dtype=np.uint8)
    framed[is_text], framed[~is_text] = np.frombuffer(whole, dtype=np.uint8), sizes.view(np.uint8)
    return framed.tobytes()


@lru_cache(maxsize=8)
def framed_names(parties: tuple[PartyId, ...]) -> tuple[bytes, ...]:
    """Each party's name as `sha256` reads it."""
    return tuple(framed(party.encode()) for party in parties)


def silent(expected: Sequence[PartyId], heard: Collection[PartyId]) -> tuple[PartyId, ...]:
    """Who was expected and not heard."""
    return tuple(party for party in expected if party not in heard)
