"""Who is at the table: rosters, signed messages, and the session id that all parties make together.

Promises: every message of a session names its kind, sender, protocol and context and is signed;
the session id holds a fresh nonce of every party, so nobody can choose or replay it.
Refuses to know: what a protocol writes into the body of its messages.
"""

from __future__ import annotations

import json
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeAlias, TypeVar

from protocols.primitives import ring
from protocols.primitives.digests import long_digest
from protocols.primitives.keys import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    Entropy,
    Identity,
    Secret,
    can_sign,
    parts,
    verifies,
)
from protocols.secure_sum import (
    AGGREGATOR,
    MINIMUM_PARTIES,
    RESERVED,
    Context,
    MisuseError,
    PartyId,
    PeerError,
    Vector,
    legal_name,
    sha256,
)
from protocols.sessions.demands import NO_DEMANDS, Demands
from protocols.sessions.drafts import Draft
from protocols.sessions.settings import Settings

NONCE_BYTES = 32
NOT_IN_ROSTER = "is not in the roster of this session"

Learned = TypeVar("Learned")


def met(learned: Learned | None) -> Learned:
    """What a party learns when all meet; raises `MisuseError` before that."""
    if learned is None:
        raise MisuseError("the parties have not met yet: hello and meet come first")
    return learned


@dataclass(frozen=True)
class Roster:
    """The public Ed25519 key of every party, agreed before a session and named by its digest.

    Raises `MisuseError` for names that can't be, and for keys that are none, that anybody could sign under, or
    that stand twice.
    """

    keys: Mapping[PartyId, bytes]

    def __post_init__(self) -> None:
        for party, key in self.keys.items():
            legal_name(party)
            if len(key) != KEY_BYTES:
                raise MisuseError(f"the roster's key of {party} has {len(key)} bytes, not {KEY_BYTES}")
            if not can_sign(key):
                raise MisuseError(f"the roster's key of {party} is of small order: anybody could sign under it")
        if len(set(self.keys.values())) != len(self.keys):
            raise MisuseError("two names in the roster have the same key")

    def __iter__(self) -> Iterator[PartyId]:
        return iter(sorted(self.keys))

    def __contains__(self, party: object) -> bool:
        return party in self.keys

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over the sorted names and keys."""
        return sha256(b"secirls roster v1", *(parts(name.encode(), self.keys[name]) for name in self))

    def to_json(self) -> str:
        """The roster as people exchange it: names and hexadecimal keys."""
        return json.dumps({name: self.keys[name].hex() for name in self}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Roster:
        """Read `to_json`. Raises `MisuseError` on anything else."""
        try:
            table = json.loads(text, object_pairs_hook=_once)
            keys = {name: bytes.fromhex(key) for name, key in table.items()}
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise MisuseError("a roster is a JSON object from names to hexadecimal Ed25519 keys") from None
        return cls(keys)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object in which no name stands twice."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise MisuseError("a name stands twice in the roster")
    return table


def sign_message(identity: Identity, kind: bytes, sender: PartyId, binding: bytes, *body: bytes | memoryview) -> bytes:
    """A body, given in pieces, with its signature: what a party sends. ``binding`` is what both ends already know."""
    return b"".join((*body, identity.sign(_signed_text(kind, sender, binding, *body))))


def sign_draft(identity: Identity, kind: bytes, sender: PartyId, binding: bytes, draft: Draft) -> bytes:
    """A signed message as of `sign_message`, whose body stands in a draft."""
    return draft.signed(identity.sign(_signed_text(kind, sender, binding, draft.body)))


def open_message(roster: Roster, kind: bytes, sender: PartyId, binding: bytes, message: bytes) -> memoryview:
    """The body of a message, or `PeerError` naming the sender whose signature does not fit it."""
    if sender not in roster:
        raise PeerError(sender, NOT_IN_ROSTER)
    if len(message) < SIGNATURE_BYTES:
        raise PeerError(sender, f"{kind.decode()} is cut short")
    view = memoryview(message)
    body, signature = view[:-SIGNATURE_BYTES], bytes(view[-SIGNATURE_BYTES:])
    if not verifies(roster.keys[sender], signature, _signed_text(kind, sender, binding, body)):
        raise PeerError(sender, f"{kind.decode()} is not signed by the roster's key for this sum")
    return body


def _signed_text(kind: bytes, sender: PartyId, binding: bytes, *body: bytes | memoryview) -> bytes:
    return sha256(b"secirls message v2", kind, sender.encode(), binding, long_digest(body))


@dataclass(frozen=True)
class Greeting:
    """What a hello says once it is verified: a nonce for the session and the protocol's own body."""

    nonce: bytes
    body: memoryview


def _said(hello: bytes) -> Greeting:
    """What a hello of a whole one's length says, whoever wrote it."""
    return Greeting(bytes(hello[:NONCE_BYTES]), memoryview(hello)[NONCE_BYTES:-SIGNATURE_BYTES])


Near: TypeAlias = Callable[[bytes], Iterable[PartyId]]
"""Whose hellos a party verifies, of those who said hello, given the session id: those whose keys it will use."""


class Session:
    """One end's view of a session: who it is, whom it has met, and the id they all share."""

    def __init__(self, protocol: str, roster: Roster, settings: Settings) -> None:
        """Bind a session to a protocol's name, a roster and everyone's settings."""
        self.protocol = protocol
        self.roster = roster
        self.settings = settings
        self._binding = sha256(b"secirls hello v1", protocol.encode(), roster.digest, settings.digest)
        self._id: bytes | None = None
        self._verified: dict[PartyId, tuple[bytes, bytes]] = {}

    @property
    def id(self) -> bytes:
        """The session id, 32 bytes; raises `MisuseError` before the first batch of hellos."""
        return met(self._id)

    @cached_property
    def sites(self) -> tuple[PartyId, ...]:
        """Those of the roster who have data, sorted: all but the roles beside them."""
        return tuple(party for party in self.roster if party not in RESERVED)

    def for_protocol(self, name: str) -> Session:
        """Itself; raises `MisuseError` unless it is a session of that protocol."""
        if self.protocol != name:
            raise MisuseError(f"this is a session of {self.protocol}, not of {name}")
        return self

    def greeting(self, identity: Identity, me: PartyId, nonce: bytes, batch: int, body: bytes) -> bytes:
        """This party's signed hello for one batch."""
        return sign_message(identity, b"hello", me, self._hello_binding(batch), nonce + body)

    def greet(self, hellos: Mapping[PartyId, bytes], batch: int, near: Near | None = None) -> dict[PartyId, Greeting]:
        """Verify a batch of hellos, as `read` does. The first batch makes the session id."""
        session, greetings = self.read(hellos, batch, near)
        self._verified.clear()
        if batch == 0:
            if self._id is not None:
                raise MisuseError("this session has started: its first hellos can't be replaced")
            self._id = session
        return greetings

    def read(
        self, hellos: Mapping[PartyId, bytes], batch: int, near: Near | None = None
    ) -> tuple[bytes, dict[PartyId, Greeting]]:
        """The session id, and what the hellos of a batch say: those that are verified, of all or of who is ``near``.

        All must be of the roster, and every nonce goes into the id, verified or not. Nothing is kept but which bytes
        were verified, until `greet`: they are not again. Raises `PeerError` naming a sender, `MisuseError` where the
        set itself is wrong.
        """
        missing = [party for party in self.roster if party not in hellos]
        if missing and batch == 0:
            raise MisuseError(f"no hello from {', '.join(missing)}: a session starts with its whole roster")
        everyone = sorted(hellos)
        for party in everyone:
            self._check_sender(party, hellos[party])
        if batch == 0:
            nonces = (parts(party.encode(), hellos[party][:NONCE_BYTES]) for party in everyone)
            session = sha256(b"secirls session v1", self._binding, *nonces)
        else:
            session = self.id
        binding = self._hello_binding(batch)
        verified = everyone if near is None else near(session)
        for party in verified:
            said = binding, hellos[party]
            if self._verified.get(party) != said:
                open_message(self.roster, b"hello", party, *said)
                self._verified[party] = said
        return session, {party: _said(hellos[party]) for party in verified}

    def _check_sender(self, party: PartyId, hello: bytes) -> None:
        """Raise `PeerError` for a stranger's hello, and for one that can't be whole."""
        if party not in self.roster:
            raise PeerError(party, NOT_IN_ROSTER)
        if len(hello) < NONCE_BYTES + SIGNATURE_BYTES:
            raise PeerError(party, "hello is cut short")

    def _hello_binding(self, batch: int) -> bytes:
        later = b"" if batch == 0 else self.id
        return sha256(b"secirls hello batch v1", self._binding, struct.pack("<Q", batch), later)


class Seat(Secret):
    """A party's own place in a session: its name, identity, nonce, demands, and the contexts it has used.

    Every protocol's party has one. It refuses what no protocol may allow: a foreign session, a
    context without the party, a context protected twice, two different answers in one context;
    and what the party itself does not allow.
    """

    def __init__(
        self,
        me: PartyId,
        identity: Identity,
        session: Session,
        entropy: Entropy = secrets.token_bytes,
        demands: Demands = NO_DEMANDS,
    ) -> None:
        if me not in session.roster or session.roster.keys[me] != identity.public:
            raise MisuseError(f"the roster does not hold the key of {me}")
        demands.check_hidden(len(session.sites))
        self.demands = demands
        self.me = me
        self.session = session
        self.entropy = entropy
        self._identity = identity
        self._nonce = entropy(NONCE_BYTES)
        self._protected: set[tuple[int, int]] = set()
        self._checked: Context | None = None
        self._answered: dict[bytes, bytes] = {}

    def hello(self, batch: int, body: bytes = b"") -> bytes:
        """This party's signed hello; the same nonce in every batch."""
        return self.session.greeting(self._identity, self.me, self._nonce, batch, body)

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int, near: Near | None = None) -> dict[PartyId, Greeting]:
        """Verify the hellos, all or those of who is ``near``, this party's own among them."""
        greetings = self.session.greet(hellos, batch, near)
        if self.me not in greetings or greetings[self.me].nonce != self._nonce:
            raise MisuseError(f"the hello of {self.me} was replaced on its way")
        return greetings

    def sign(self, kind: bytes, context: Context, *body: bytes | memoryview) -> bytes:
        """A signed message of this sum; the body may come in pieces."""
        return sign_message(self._identity, kind, self.me, context.digest, *body)

    def sign_draft(self, kind: bytes, context: Context, draft: Draft) -> bytes:
        """A signed message of this sum, whose body stands in a draft."""
        return sign_draft(self._identity, kind, self.me, context.digest, draft)

    def sign_bound(self, kind: bytes, binding: bytes, body: bytes) -> bytes:
        """A signed message that belongs to no one sum but to something else both ends know."""
        return sign_message(self._identity, kind, self.me, binding, body)

    def enter(self, context: Context) -> None:
        """Use up a context for `protect`; raises `MisuseError` when it is foreign, too small or used."""
        self.check(context)
        if len(context.cohort) < min(MINIMUM_PARTIES, len(self.session.sites)):
            raise MisuseError(f"a cohort of {len(context.cohort)} is too small for a sum to hide anyone")
        self.demands.check_hidden(len(context.cohort))
        name = (context.round, context.attempt)
        if name in self._protected:
            raise MisuseError(f"round {context.round} attempt {context.attempt} was answered before")
        self._protected.add(name)

    def check(self, context: Context) -> None:
        """Raise `MisuseError` unless the context is of this session and names this party."""
        if context is self._checked:
            return
        if context.session != self.session.id:
            raise MisuseError("this context belongs to another session")
        if self.me not in context.members:
            raise MisuseError(f"{self.me} is not in the cohort of this context")
        strangers = context.members.difference(self.session.roster.keys)
        if strangers:
            raise MisuseError(f"the cohort names {', '.join(sorted(strangers))}, unknown to the roster")
        self._checked = context

    def answer_once(self, context: Context, request: bytes, present: tuple[PartyId, ...]) -> None:
        """Note the one request answered for a context, about a sum over those present, if it is one that may be opened.

        A second, different one is the collector's error. Raises what `Demands.check_opening` does, and then
        nothing is noted.
        """
        digest = sha256(b"secirls request v1", request)
        if self._answered.get(context.digest, digest) != digest:
            raise PeerError(AGGREGATOR, f"a different request for round {context.round} was answered before")
        self.demands.check_opening(context, present)
        self._answered[context.digest] = digest


class AtSession:
    """An end of a session by one protocol: who may take part and what is agreed are the session's."""

    protocol: ClassVar[str]

    def __init__(self, session: Session) -> None:
        self._session = session.for_protocol(self.protocol)

    @property
    def session(self) -> bytes:
        """The session id."""
        return self._session.id

    @property
    def _roster(self) -> Roster:
        return self._session.roster

    @property
    def _settings(self) -> Settings:
        return self._session.settings


class Collecting(AtSession):
    """A collector's end, which every hello passes."""

    def check(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Look at everyone's hellos before they are carried on; nothing is kept.

        Raises `PeerError` naming who sent nonsense.
        """
        self._session.read(hellos, batch)

    @staticmethod
    def _add(total: Vector, party: PartyId, body: bytes | memoryview) -> None:
        """Add the vector that a party sent. Raises `PeerError` naming it where that has another length."""
        try:
            ring.add_into(total, ring.from_bytes(body, *total.shape))
        except ValueError as error:
            raise PeerError(party, str(error)) from None


class Seated(AtSession):
    """A party with a seat: its name and its session are the seat's."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat.session)
        self._seat = seat

    @property
    def me(self) -> PartyId:
        """Whose end this is."""
        return self._seat.me
