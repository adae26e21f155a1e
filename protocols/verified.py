"""Totals that a party can check: each adds a hash of its vector under keys that only the parties know.

Promises: a party that is told a total, and who is in it, takes it with a chance of 2^-63 at most if it is another than
the ring sum of what these protected in this context, unless a party gave the seed away.
Refuses to know: how the sum is hidden, and who adds.

The parties share one seed: the first of them by name draws it and seals it for each of the others, so that whoever
carries the boxes learns nothing. For a context, the keys of a linear hash h and a pad b_i for each party are read from
one keystream that follows from the seed; party i with the integers v appends h(v) + b_i modulo the prime p = 2^130 - 5
to its vector, in clear within it, so hidden as all else is. Headroom keeps integer sums from wrapping, so the appended
values must add up to h(total) + the sum of the pads of those in it. Why this can't be forged, and what each piece of it
is for, is written down in the README beside this file (Carter and Wegman 1979; Wegman and Carter 1981 for the pads).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.primitives import ring
from protocols.primitives.keys import KEY_BYTES, Entropy, Identity, Secret
from protocols.primitives.linear_hash import Keys, keys_of, linear_hash
from protocols.secure_sum import (
    AGGREGATOR,
    Context,
    MisuseError,
    PartyId,
    PeerError,
    Vector,
    in_order,
    sha256,
)
from protocols.sessions.channels import SEAL_BYTES, Box, Channels, channel_key
from protocols.sessions.session import Roster, open_message, sign_message

PRIME = (1 << 130) - 5
"""Larger than the ring, so that no two of its vectors are the same modulo it."""
CHECK_VALUES = {1: 4, 2: 2}
"""Ring elements that a vector of so many limbs grows by: pieces of one number below the prime."""

_PIECE_BITS = {1: 33, 2: 65}
_BOX_BYTES = KEY_BYTES + SEAL_BYTES
_PAD_WORDS = 4
"""A pad is a number of so many words modulo the prime: uniform to within 2^-126."""

Pads: TypeAlias = NDArray[np.uint64]
"""What everyone's pad in a context is made of, in the cohort's order: ``(parties, 4)``, lowest word first."""


class SeedTable(Secret):
    """One party's part in agreeing on the seed; all of the roster that hold vectors take part."""

    def __init__(self, me: PartyId, identity: Identity, roster: Roster, session: bytes, entropy: Entropy) -> None:
        self._me, self._identity, self._roster, self._session = me, identity, roster, session
        self._entropy = entropy
        self._channels = Channels(me, entropy)

    def greeting(self) -> bytes:
        """This party's channel key for the session, signed."""
        return sign_message(self._identity, b"check key", self._me, self._session, self._channels.public)

    def deal(self, greetings: Mapping[PartyId, bytes]) -> tuple[bytes, Checks]:
        """The first party's part: a fresh seed, in a box for each of the others, signed; and the checks it makes."""
        peers = self._meet(greetings)
        if self._me != min(greetings):
            raise MisuseError(f"{self._me} is not the one who deals the seed")
        seed = self._entropy(KEY_BYTES)
        boxes = (self._channels.seal(peer, Box.CHECK_SEED, (0, 0), self._session, seed) for peer in peers)
        return sign_message(self._identity, b"check seed", self._me, self._session, *boxes), Checks(seed, self._me)

    def take(self, greetings: Mapping[PartyId, bytes], dealt: bytes) -> Checks:
        """The others' part, who use no key but the dealer's. Raises `PeerError` naming who sent what does not hold."""
        dealer, *peers = sorted(greetings)
        self._meet(greetings, dealer)
        boxes = read_seed_boxes(self._roster, self._session, dealer, dealt, len(peers))
        try:
            box = boxes[peers.index(self._me)]
            return Checks(self._channels.open(dealer, Box.CHECK_SEED, (0, 0), self._session, box), self._me)
        except ValueError as error:
            raise PeerError(dealer, f"the box with the seed: {error}") from None

    def _meet(self, greetings: Mapping[PartyId, bytes], *those: PartyId) -> list[PartyId]:
        """Open channels to those, or to all; gives them without this party."""
        if self._me not in greetings:
            raise MisuseError(f"the greeting of {self._me} was lost on its way")
        publics = read_greetings(self._roster, self._session, {peer: greetings[peer] for peer in those or greetings})
        self._channels.meet(self._session, publics)
        return [peer for peer in sorted(publics) if peer != self._me]


def read_greetings(roster: Roster, session: bytes, greetings: Mapping[PartyId, bytes]) -> dict[PartyId, bytes]:
    """Everyone's channel key, which whoever carries them can check too. Raises `PeerError` naming whose is no good."""
    publics = {}
    for peer, greeting in greetings.items():
        body = open_message(roster, b"check key", peer, session, greeting)
        if len(body) != KEY_BYTES:
            raise PeerError(peer, "its channel key is cut short")
        publics[peer] = channel_key(peer, bytes(body))
    return publics


def read_seed_boxes(roster: Roster, session: bytes, dealer: PartyId, dealt: bytes, peers: int) -> list[bytes]:
    """The dealer's boxes, one for each of so many peers in their order. Raises `PeerError` naming the dealer."""
    body = bytes(open_message(roster, b"check seed", dealer, session, dealt))
    if len(body) != _BOX_BYTES * peers:
        raise PeerError(dealer, f"deals {len(body)} bytes, not one box for each of {peers} peers")
    return [body[start : start + _BOX_BYTES] for start in range(0, len(body), _BOX_BYTES)]


class Checks(Secret):
    """What party ``me`` appends to its vectors, and how it checks the totals it is told."""

    def __init__(self, seed: bytes, me: PartyId) -> None:
        self._seed, self._me = seed, me
        self._sent: dict[bytes, int] = {}

    def append(self, vector: Vector, context: Context) -> Vector:
        """The vector with its check values behind it; the context counts them among its values."""
        if vector.shape != (context.values - CHECK_VALUES[context.limbs], context.limbs):
            raise MisuseError("the context has no room for check values")
        return self.fill(np.concatenate([vector, ring.zeros(CHECK_VALUES[context.limbs], context.limbs)]), context)

    def fill(self, vector: Vector, context: Context) -> Vector:
        """Write the check values over the last elements of the vector, in place, and give it back.

        A pad hides one vector: raises `MisuseError` for another in the same context.
        """
        context.check_vector(vector)
        if self._me not in context.members or context.values < CHECK_VALUES[context.limbs]:
            raise MisuseError(f"the context has no {self._me} in its cohort, or no room for check values")
        limbs, count = context.limbs, CHECK_VALUES[context.limbs]
        keys, pads = self._drawn(context)
        check = (linear_hash(vector[:-count], keys) + self._sum_of_pads(pads, context, (self._me,))) % PRIME
        if self._sent.setdefault(context.digest, check) != check:
            raise MisuseError(f"round {context.round} has check values of another vector already")
        bits = _PIECE_BITS[limbs]
        pieces = [(check >> (bits * place)) & ((1 << bits) - 1) for place in range(count)]
        vector[-count:] = ring.from_bytes(_joined(pieces, limbs), count, limbs)
        return vector

    def verify(self, total: Vector, context: Context, parties: Sequence[PartyId]) -> None:
        """Raise `PeerError` naming the aggregator unless this is the sum over these parties, checks and all."""
        if total.dtype != np.uint64 or total.shape != (context.values, context.limbs):
            raise PeerError(AGGREGATOR, "tells a total of another shape than was asked for")
        if not parties or not in_order(tuple(parties)) or not context.members.issuperset(parties):
            raise PeerError(AGGREGATOR, "tells a total of others than were asked")
        body, tail = total[: -CHECK_VALUES[context.limbs]], total[-CHECK_VALUES[context.limbs] :]
        bits = _PIECE_BITS[context.limbs]
        pieces = (sum(int(limb) << (64 * at) for at, limb in enumerate(row)) for row in tail)
        told = sum(piece << (bits * place) for place, piece in enumerate(pieces))
        keys, pads = self._drawn(context)
        if (told - linear_hash(body, keys) - self._sum_of_pads(pads, context, parties)) % PRIME:
            raise PeerError(AGGREGATOR, "tells a total that is not the sum of what was sent")

    def _drawn(self, context: Context) -> tuple[Keys, Pads]:
        """The keys that a context's vectors are hashed with, and its pads: one keystream has them in this order."""
        key = sha256(b"secirls check stream v4", self._seed, context.digest)
        count = keys_of(context.values - CHECK_VALUES[context.limbs])
        words = ring.expand(key, count + _PAD_WORDS * len(context.cohort), 1)[:, 0]
        return words[:count], words[count:].reshape(-1, _PAD_WORDS)

    @staticmethod
    def _sum_of_pads(pads: Pads, context: Context, parties: Sequence[PartyId]) -> int:
        """Of some of the cohort, modulo the prime."""
        if tuple(parties) != context.cohort:
            pads = pads[[bisect_left(context.cohort, party) for party in parties]]
        halves = np.ascontiguousarray(pads, dtype="<u8").view("<u4")
        columns: list[int] = halves.sum(axis=0, dtype=np.uint64).tolist()
        return sum(column << (32 * place) for place, column in enumerate(columns)) % PRIME


def _joined(pieces: list[int], limbs: int) -> bytes:
    return b"".join(piece.to_bytes(8 * limbs, "little") for piece in pieces)
