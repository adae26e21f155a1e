"""The keys behind pairwise masks: fresh for every round, published a batch of rounds at a time.

Promises: one key pair hides one sum and is gone from its owner's memory once it has; what a pair of
parties derives is bound to session, round, attempt, layout, both names and both public keys.
Refuses to know: how masks are added and who recovers them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
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
    """A party's own mask key pairs: ``rounds`` of them in each batch, one for each round."""

    def __init__(self, rounds: int, entropy: Entropy) -> None:
        self._rounds = rounds
        self._entropy = entropy
        self._pairs: dict[int, AgreementKey] = {}
        self._published: dict[int, bytes] = {}

    def publish(self, batch: int) -> bytes:
        """The public halves for rounds ``batch * rounds`` onwards, in order; made on first request."""
        if batch not in self._published:
            fresh = [AgreementKey.fresh(self._entropy) for _ in range(self._rounds)]
            self._pairs.update(enumerate(fresh, start=batch * self._rounds))
            self._published[batch] = b"".join(pair.public for pair in fresh)
        return self._published[batch]

    def private_bytes(self, batch: int) -> list[bytes]:
        """The private halves of a batch, to be secret-shared and nothing else."""
        if batch not in self._published:
            raise MisuseError(f"the mask keys of batch {batch} are not made yet: hello comes first")
        first = batch * self._rounds
        return [self._pairs[round_].private_bytes() for round_ in range(first, first + self._rounds)]

    def take(self, round_: int) -> AgreementKey:
        """The key pair of a round, for its one use: afterwards this process no longer has it."""
        try:
            return self._pairs.pop(round_)
        except KeyError:
            raise MisuseError(
                f"the mask key of round {round_} is used up: a further attempt at a sum takes a fresh round number"
            ) from None


@dataclass(frozen=True)
class KeyBook:
    """Public mask keys for one batch of rounds, as read from verified hellos, and who said hello."""

    session: bytes
    batch: int
    rounds: int
    keys: Mapping[PartyId, bytes]
    """Public keys of the batch, 32 bytes a round, in order; or 32 for all rounds, where a ratchet begins with them.
    A party reads its neighbours' and its own."""
    members: tuple[PartyId, ...]
    """Who said hello for this batch, sorted."""
    hellos: bytes
    """Digest of all hellos: parties that were shown different ones can't open each other's boxes."""

    @classmethod
    def read(
        cls, session: bytes, batch: int, rounds: int, hellos: Mapping[PartyId, bytes], bodies: Mapping[PartyId, bytes]
    ) -> KeyBook:
        """Take the keys from the hellos' bodies; raises `PeerError` for a wrong number, or one that is not usable."""
        for party, body in bodies.items():
            if len(body) != rounds * PUBLIC_BYTES:
                raise PeerError(party, f"hello has {len(body)} bytes of mask keys, not {rounds * PUBLIC_BYTES}")
            for number in range(rounds):
                if not can_agree(body[number * PUBLIC_BYTES : (number + 1) * PUBLIC_BYTES]):
                    round_ = batch * rounds + number
                    raise PeerError(party, f"its mask key of round {round_} is not a usable X25519 key")
        return cls.of(session, batch, rounds, hellos, bodies)

    @classmethod
    def of(
        cls, session: bytes, batch: int, rounds: int, hellos: Mapping[PartyId, bytes], keys: Mapping[PartyId, bytes]
    ) -> KeyBook:
        """The book of these hellos, with keys that were read from them."""
        named = (parts(party.encode(), hellos[party]) for party in sorted(hellos))
        return cls(session, batch, rounds, dict(keys), tuple(sorted(hellos)), sha256(b"secirls hellos v1", *named))

    @cached_property
    def binding(self) -> bytes:
        """What grants and their boxes are bound to."""
        return sha256(b"secirls key book v1", self.session, struct.pack("<QQ", self.batch, self.rounds), self.hellos)

    def public(self, party: PartyId, round_: int) -> bytes:
        """One party's public mask key of one round."""
        start = (round_ - self.batch * self.rounds) * PUBLIC_BYTES
        return self.keys[party][start : start + PUBLIC_BYTES]

    def check_cohort(self, context: Context, threshold: int) -> None:
        """Raise `MisuseError` unless the cohort is of this batch and can open a sum."""
        strangers = context.members.difference(self.members)
        if strangers:
            raise MisuseError(f"{', '.join(sorted(strangers))} published no keys for round {context.round}")
        if len(context.cohort) < threshold:
            raise MisuseError(f"a cohort of {len(context.cohort)} can't open a sum: the threshold is {threshold}")


def split_hello(greetings: Mapping[PartyId, Greeting], batch: int) -> tuple[dict[PartyId, bytes], dict[PartyId, bytes]]:
    """Channel keys (in the first batch only) and mask keys from the hellos' bodies."""
    start = PUBLIC_BYTES if batch == 0 else 0
    bodies = {party: bytes(greeting.body) for party, greeting in greetings.items()}
    return {party: body[:start] for party, body in bodies.items()}, {p: body[start:] for p, body in bodies.items()}


def pair_mask_key(own: AgreementKey, me: PartyId, peer: PartyId, book: KeyBook, context: Context) -> bytes:
    """The keystream key two parties share for one sum; the same from either end."""
    theirs = book.public(peer, context.round)
    shared = own.agree(theirs)
    low, high = sorted(((me, own.public), (peer, theirs)))
    place = struct.pack("<QQ", context.round, context.attempt)
    names_and_keys = (low[0].encode(), high[0].encode(), low[1], high[1])
    return derive(shared, context.session, b"secirls pair mask v1", place, context.layout, *names_and_keys)


def self_mask_key(seed: bytes, owner: PartyId, context: Context) -> bytes:
    """The keystream key of a party's own mask for one sum."""
    place = struct.pack("<QQ", context.round, context.attempt)
    return derive(seed, context.session, b"secirls self mask v1", place, context.layout, owner.encode())


def commit(seed: bytes, owner: PartyId, context: Context) -> bytes:
    """Binds a party to its seed without showing it: the seed is 32 uniform bytes, so a digest hides it."""
    return sha256(b"secirls seed commitment v1", context.digest, owner.encode(), seed[:KEY_BYTES])
