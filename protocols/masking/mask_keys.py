"""The keys behind pairwise masks: one agreement of each pair for a batch of rounds, out of all parties' hellos.

Promises: a key pair serves one meeting and is gone from its owner's memory after it; what a pair of parties derives
is bound to the session, all hellos of the batch, both names and both public keys. Refuses to know: how masks are
added and who recovers them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from protocols.primitives.keys import KEY_BYTES, AgreementKey, Entropy, Secret, can_agree, derive, parts
from protocols.secure_sum import Context, MisuseError, PartyId, PeerError, sha256
from protocols.sessions.channels import PUBLIC_BYTES
from protocols.sessions.session import Greeting


class Ledger:
    """What a party has derived, by (purpose, round): the last guard against using a key twice, with any peer."""

    def __init__(self) -> None:
        self._derived: dict[tuple[str, int], bytes] = {}

    def note(self, purpose: str, round_: int, content: bytes) -> None:
        """Write down what is derived; raises `MisuseError` when it was something else before."""
        if self._derived.setdefault((purpose, round_), content) != content:
            raise MisuseError(f"the {purpose} of round {round_} was already derived for another sum")


class MaskKeys(Secret):
    """A party's own mask key pairs: one in each batch of rounds, to agree with its neighbours once."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._pairs: dict[int, AgreementKey] = {}
        self._published: dict[int, bytes] = {}

    def publish(self, batch: int) -> bytes:
        """The public half for a batch; made on first request."""
        if batch not in self._published:
            self._pairs[batch] = AgreementKey.fresh(self._entropy)
            self._published[batch] = self._pairs[batch].public
        return self._published[batch]

    def take(self, batch: int) -> AgreementKey:
        """The key pair of a batch, for its one meeting: afterwards this process no longer has it."""
        try:
            return self._pairs.pop(batch)
        except KeyError:
            raise MisuseError(f"the mask key of batch {batch} is used up, or not made yet: hello comes first") from None


@dataclass(frozen=True)
class KeyBook:
    """Public mask keys for one batch of rounds, as read from verified hellos, and who said hello."""

    session: bytes
    batch: int
    rounds: int
    keys: Mapping[PartyId, bytes]
    """Public keys of the batch, 32 bytes each: a party reads its neighbours' and its own."""
    members: tuple[PartyId, ...]
    """Who said hello for this batch, sorted."""
    hellos: bytes
    """Digest of all hellos: parties that were shown different ones can't open each other's boxes."""
    commitments: Mapping[PartyId, bytes] = field(default_factory=dict)
    """To the secrets that open one round each, 32 bytes a round, in order; none where nothing is recovered."""

    @classmethod
    def read(
        cls, session: bytes, batch: int, rounds: int, hellos: Mapping[PartyId, bytes], bodies: Mapping[PartyId, bytes]
    ) -> KeyBook:
        """Take a key and a commitment a round from the hellos' bodies; raises `PeerError` for what can't be some."""
        for party, body in bodies.items():
            if len(body) != PUBLIC_BYTES + rounds * KEY_BYTES:
                raise PeerError(party, f"hello has {len(body)} bytes of a mask key and commitments for {rounds} rounds")
        commitments = {party: body[PUBLIC_BYTES:] for party, body in bodies.items()}
        return cls.of(
            session, batch, rounds, hellos, {p: body[:PUBLIC_BYTES] for p, body in bodies.items()}, commitments
        )

    @classmethod
    def of(
        cls,
        session: bytes,
        batch: int,
        rounds: int,
        hellos: Mapping[PartyId, bytes],
        keys: Mapping[PartyId, bytes],
        commitments: Mapping[PartyId, bytes] | None = None,
    ) -> KeyBook:
        """The book of these hellos, with what was read from them; raises `PeerError` for a key that is not usable."""
        for party, key in keys.items():
            if not can_agree(key):
                raise PeerError(party, f"its mask key of batch {batch} is not a usable X25519 key")
        named = (parts(party.encode(), hellos[party]) for party in sorted(hellos))
        digest = sha256(b"secirls hellos v1", *named)
        return cls(session, batch, rounds, dict(keys), tuple(sorted(hellos)), digest, commitments or {})

    @cached_property
    def binding(self) -> bytes:
        """What grants and their boxes are bound to."""
        return sha256(b"secirls key book v1", self.session, struct.pack("<QQ", self.batch, self.rounds), self.hellos)

    def commitment(self, party: PartyId, round_: int) -> bytes:
        """To one party's secret of one round."""
        start = (round_ - self.batch * self.rounds) * KEY_BYTES
        return self.commitments[party][start : start + KEY_BYTES]

    def check_cohort(self, context: Context, threshold: int) -> None:
        """Raise `MisuseError` unless the cohort is of this batch and can open a sum."""
        strangers = context.members.difference(self.members)
        if strangers:
            raise MisuseError(f"{', '.join(sorted(strangers))} published no keys for round {context.round}")
        if len(context.cohort) < threshold:
            raise MisuseError(f"a cohort of {len(context.cohort)} can't open a sum: the threshold is {threshold}")


def split_hello(greetings: Mapping[PartyId, Greeting], batch: int) -> tuple[dict[PartyId, bytes], dict[PartyId, bytes]]:
    """Channel keys (in the first batch only) and what follows them in the hellos' bodies."""
    start = PUBLIC_BYTES if batch == 0 else 0
    bodies = {party: bytes(greeting.body) for party, greeting in greetings.items()}
    return {party: body[:start] for party, body in bodies.items()}, {p: body[start:] for p, body in bodies.items()}


def pair_root(label: bytes, own: AgreementKey, me: PartyId, peer: PartyId, book: KeyBook) -> bytes:
    """What all that two parties share in a batch begins with: the same from either end, for one set of hellos."""
    theirs = book.keys[peer]
    low, high = sorted(((me, own.public), (peer, theirs)))
    names_and_keys = (low[0].encode(), high[0].encode(), low[1], high[1])
    return derive(own.agree(theirs), book.session, label, book.binding, *names_and_keys)


def self_mask_key(seed: bytes, owner: PartyId, context: Context) -> bytes:
    """The keystream key of a party's own mask for one sum."""
    place = struct.pack("<QQ", context.round, context.attempt)
    return derive(seed, context.session, b"secirls self mask v1", place, context.layout, owner.encode())


def commit(seed: bytes, owner: PartyId, context: Context) -> bytes:
    """Binds a party to its seed without showing it: the seed is 32 uniform bytes, so a digest hides it."""
    return sha256(b"secirls seed commitment v1", context.digest, owner.encode(), seed[:KEY_BYTES])
