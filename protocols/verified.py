"""Totals that a party can check: each adds inner products of its vector with vectors that only the parties know.

Promises: a party that is told a total other than the ring sum of what was protected in this context takes it
with a chance of about 2^-61 for each of two independent keys, unless a party gave the seed away.
Refuses to know: how the sum is hidden, and who adds.

The parties share one seed: the first of them by name draws it and seals it for each of the others, so that whoever
carries the boxes learns nothing. For a context, two key vectors k follow from the seed; a party with the
integers v appends <v, k> modulo p = 2^61 - 1 to its vector, in clear within it, so hidden as all else is. Headroom
keeps integer sums from wrapping, so the appended values of the total, modulo p, must be <total, k>. Whoever asks
for a false total v' must have <v' - v, k> = 0 for keys that are uniform to it but for the one equation that the
opened sum itself tells (Carter and Wegman 1979, for inner products).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.channels import SEAL_BYTES, Box, Channels
from protocols.primitives import ring
from protocols.primitives.keys import KEY_BYTES, Entropy, Identity, Secret
from protocols.secure_sum import AGGREGATOR, Context, MisuseError, PartyId, PeerError, Vector, sha256
from protocols.session import Roster, open_message, sign_message

PRIME = (1 << 61) - 1
KEYS = 2
CHECK_VALUES = {1: 4, 2: 2}
"""Ring elements that a vector of so many limbs grows by: in one limb each check value is sent as two halves."""

_HALF = 31
_LOW = np.uint64((1 << _HALF) - 1)
_P = np.uint64(PRIME)
_BOX_BYTES = KEY_BYTES + SEAL_BYTES

Residues: TypeAlias = NDArray[np.uint64]


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
        return sign_message(self._identity, b"check seed", self._me, self._session, *boxes), Checks(seed)

    def take(self, greetings: Mapping[PartyId, bytes], dealt: bytes) -> Checks:
        """The others' part. Raises `PeerError` naming who sent what does not hold."""
        self._meet(greetings)
        dealer = min(greetings)
        body = open_message(self._roster, b"check seed", dealer, self._session, dealt)
        peers = [peer for peer in sorted(greetings) if peer != dealer]
        if len(body) != _BOX_BYTES * len(peers):
            raise PeerError(dealer, f"deals {len(body)} bytes, not one box for each of {len(peers)} peers")
        start = _BOX_BYTES * peers.index(self._me)
        try:
            box = bytes(body[start : start + _BOX_BYTES])
            return Checks(self._channels.open(dealer, Box.CHECK_SEED, (0, 0), self._session, box))
        except ValueError as error:
            raise PeerError(dealer, f"the box with the seed: {error}") from None

    def _meet(self, greetings: Mapping[PartyId, bytes]) -> list[PartyId]:
        if self._me not in greetings:
            raise MisuseError(f"the greeting of {self._me} was lost on its way")
        publics = {}
        for peer, greeting in greetings.items():
            body = open_message(self._roster, b"check key", peer, self._session, greeting)
            if len(body) != KEY_BYTES:
                raise PeerError(peer, "its channel key is cut short")
            publics[peer] = bytes(body)
        self._channels.meet(self._session, publics)
        return [peer for peer in sorted(publics) if peer != self._me]


class Checks(Secret):
    """What a party appends to its vectors, and how it checks the totals it is told."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    def append(self, vector: Vector, context: Context) -> Vector:
        """The vector with its check values behind it; the context counts them among its values."""
        limbs = vector.shape[1]
        if vector.shape[0] + CHECK_VALUES[limbs] != context.values:
            raise MisuseError("the context has no room for check values")
        tail = ring.zeros(CHECK_VALUES[limbs], limbs)
        for number, product in enumerate(self._products(vector, context)):
            if limbs == 1:
                tail[2 * number, 0], tail[2 * number + 1, 0] = product & int(_LOW), product >> _HALF
            else:
                tail[number, 0] = product
        return np.concatenate([vector, tail])

    def verify(self, total: Vector, context: Context) -> None:
        """Raise `PeerError` naming the aggregator unless this is the sum over the context's cohort, checks and all."""
        if total.dtype != np.uint64 or total.shape != (context.values, context.limbs):
            raise PeerError(AGGREGATOR, "tells a total of another shape than was asked for")
        body, tail = total[: -CHECK_VALUES[context.limbs]], total[-CHECK_VALUES[context.limbs] :]
        for number, product in enumerate(self._products(body, context)):
            if context.limbs == 1:
                told = int(tail[2 * number, 0]) + (int(tail[2 * number + 1, 0]) << _HALF)
            else:
                told = int(tail[number, 0]) + (int(tail[number, 1]) << 64)
            if told % PRIME != product:
                raise PeerError(AGGREGATOR, "tells a total that is not the sum of what was sent")

    def _products(self, vector: Vector, context: Context) -> list[int]:
        integers = residues(vector)
        return [inner_product(integers, self._key(number, context, integers.size)) for number in range(KEYS)]

    def _key(self, number: int, context: Context, values: int) -> Residues:
        key = sha256(b"secirls check v1", self._seed, context.digest, bytes([number]))
        drawn: Residues = ring.expand(key, values, 1)[:, 0] >> np.uint64(3)
        return np.where(drawn == _P, np.uint64(0), drawn)


def residues(vector: Vector) -> Residues:
    """The integers that ring elements stand for (two's complement), modulo p, ``(values,)``."""
    if vector.shape[1] == 1:
        return (vector[:, 0].view(np.int64) % np.int64(PRIME)).astype(np.uint64)
    low, high = vector[:, 0], np.ascontiguousarray(vector[:, 1]).view(np.int64)
    upper = (high % np.int64(PRIME)).astype(np.uint64) * np.uint64(8)  # 2^64 = 8 modulo p
    return (low % _P + upper % _P) % _P


def inner_product(a: Residues, b: Residues) -> int:
    """Of two vectors of residues, modulo p. In pieces of 31 bits, so that no product leaves 64 bits."""
    half, thirty = np.uint64(_HALF), np.uint64(30)
    a1, a0, b1, b0 = a >> half, a & _LOW, b >> half, b & _LOW
    cross = a1 * b0 + a0 * b1  # below 2^62
    # a b = a1 b1 2^62 + cross 2^31 + a0 b0, and 2^62 = 2, 2^61 = 1 modulo p
    products = np.uint64(2) * a1 * b1 + (cross >> thirty) + ((cross & np.uint64((1 << 30) - 1)) << half) + a0 * b0
    products = (products & _P) + (products >> np.uint64(61))
    low = int((products & np.uint64(0xFFFFFFFF)).sum(dtype=np.uint64))
    high = int((products >> np.uint64(32)).sum(dtype=np.uint64))
    return (low + (high << 32)) % PRIME
