"""The bytes of pairwise masking: what a payload, a request and a reply hold, and in which order.

Promises: parsing reads every length before it trusts it and ends at the last byte, or raises
`PeerError` naming the sender. Refuses to know: keys, shares and sums; signatures are opened before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from protocols.masking.round_seeds import FINGERPRINT_BYTES
from protocols.primitives.keys import KEY_BYTES, SIGNATURE_BYTES
from protocols.primitives.shamir import SHARE_BYTES
from protocols.secure_sum import AGGREGATOR, Context, PartyId, PeerError
from protocols.sessions.channels import SEAL_BYTES

SEED_BOX_BYTES = SHARE_BYTES + SEAL_BYTES
NO_SHARE = b"\xff" * SHARE_BYTES
"""In the place of a share whose box did not open: no element of the field."""
NO_FINGERPRINT = b"\xff" * FINGERPRINT_BYTES
"""In the place of one where nothing is given."""


class Leg(IntEnum):
    """The two things a collector may ask for."""

    AGREE = 1
    """Sign the set of parties that are present (only with ``Settings.consistency``)."""
    RELEASE = 2
    """Give the shares that open the sum over that set."""


def secrets_box_bytes(rounds: int) -> int:
    """Length of a box with shares of a whole batch of round secrets."""
    return rounds * SHARE_BYTES + SEAL_BYTES


@lru_cache(maxsize=8)
def pack_set(subset: tuple[PartyId, ...], cohort: tuple[PartyId, ...]) -> bytes:
    """A set of parties as bits in the cohort's order, lowest bit first; unused bits are zero."""
    present = set(subset)
    bits = sum(1 << place for place, party in enumerate(cohort) if party in present)
    return bits.to_bytes(_set_bytes(cohort), "little")


def unpack_set(data: bytes, cohort: tuple[PartyId, ...], sender: PartyId) -> tuple[PartyId, ...]:
    """The parties of `pack_set`, sorted."""
    named = _named(data, cohort)
    if named is None:
        raise PeerError(sender, "names a set of parties that is not within the cohort")
    return named


@lru_cache(maxsize=8)
def _named(data: bytes, cohort: tuple[PartyId, ...]) -> tuple[PartyId, ...] | None:
    """The parties that bits stand for; nobody's where there are bits too many, or too few."""
    bits = int.from_bytes(data, "little")
    if len(data) != _set_bytes(cohort) or bits >> len(cohort):
        return None
    return tuple(party for place, party in enumerate(cohort) if bits >> place & 1)


def tail_bytes(peers: int) -> int:
    """Length of what `pack_tail` gives for so many peers."""
    return KEY_BYTES + SEED_BOX_BYTES * peers


def pack_tail(commitment: bytes, boxes: Mapping[PartyId, bytes]) -> bytes:
    """What follows the masked vector in a payload: the commitment, and the boxes in their recipients' order."""
    return b"".join((commitment, *(boxes[peer] for peer in sorted(boxes))))


@dataclass(frozen=True)
class Payload:
    """A masked vector, the commitment to its self-mask, and that seed's shares, sealed."""

    masked: memoryview
    commitment: bytes
    boxes: Mapping[PartyId, bytes]
    """By recipient: the sender's neighbours in the cohort."""

    @classmethod
    def read(cls, body: memoryview, sender: PartyId, context: Context, near: tuple[PartyId, ...]) -> Payload:
        """Parse a payload whose signature was checked; ``near`` are the sender's neighbours in the cohort."""
        reader = _Reader(body, sender, "payload")
        masked = reader.take(8 * context.limbs * context.values)
        commitment = bytes(reader.take(KEY_BYTES))
        boxes = reader.take_each(near, SEED_BOX_BYTES)
        reader.end()
        return cls(masked, commitment, boxes)


def agreement_bytes(cohort: tuple[PartyId, ...], *, boxed: bool) -> int:
    """Length of what shows one party that another agreed to a set: a box of it, or a signature over it."""
    return _set_bytes(cohort) + SEAL_BYTES if boxed else SIGNATURE_BYTES


def read_set_boxes(
    rest: memoryview, sender: PartyId, present: tuple[PartyId, ...], cohort: tuple[PartyId, ...]
) -> dict[PartyId, bytes]:
    """The boxes of an agreement, behind its set, by recipient: all others of those present."""
    reader = _Reader(rest, sender, "agreement")
    boxes = reader.take_each(tuple(p for p in present if p != sender), agreement_bytes(cohort, boxed=True))
    reader.end()
    return boxes


@dataclass(frozen=True)
class Request:
    """What the collector asks of one party: to sign a set, or to release shares for it."""

    leg: Leg
    present: tuple[PartyId, ...]
    agreed: Mapping[PartyId, bytes]
    """By who agreed to this very set (none unless ``Settings.consistency``): what shows the recipient that it did."""
    boxes: Mapping[PartyId, bytes]
    """By sender: shares for the recipient, of seeds of those present and round secrets of those absent."""

    def pack(self, cohort: tuple[PartyId, ...]) -> bytes:
        """Leg, set; and for a release who agreed, what shows it, and the boxes in the senders' order."""
        head = bytes([self.leg]) + pack_set(self.present, cohort)
        if self.leg is Leg.AGREE:
            return head
        agreed = sorted(self.agreed)
        shown = map(self.agreed.__getitem__, agreed)
        boxes = map(self.boxes.__getitem__, sorted(self.boxes))
        return b"".join((head, pack_set(tuple(agreed), cohort), *shown, *boxes))

    @classmethod
    def read(
        cls, message: bytes, near: tuple[PartyId, ...], cohort: tuple[PartyId, ...], rounds: int, *, boxed: bool
    ) -> Request:
        """Parse the collector's request; ``near`` are the recipient's neighbours in the cohort.

        ``boxed`` says whether others show by boxes, and not by signatures, what they agreed to.
        """
        reader = _Reader(memoryview(message), AGGREGATOR, "request")
        leg = bytes(reader.take(1))[0]
        if leg not in tuple(Leg):
            raise PeerError(AGGREGATOR, f"request asks for something unknown ({leg})")
        present = unpack_set(bytes(reader.take(_set_bytes(cohort))), cohort, AGGREGATOR)
        agreed, boxes = {}, {}
        if leg == Leg.RELEASE:
            those = unpack_set(bytes(reader.take(_set_bytes(cohort))), cohort, AGGREGATOR)
            agreed = reader.take_each(those, agreement_bytes(cohort, boxed=boxed))
            there = frozenset(present)
            for peer in near:
                length = SEED_BOX_BYTES if peer in there else secrets_box_bytes(rounds)
                boxes[peer] = bytes(reader.take(length))
        reader.end()
        return cls(Leg(leg), present, agreed, boxes)


@dataclass(frozen=True)
class Reply:
    """The set a party agreed to, one share for itself and each neighbour, and what seeds it used with those absent."""

    present: tuple[PartyId, ...]
    shares: Mapping[PartyId, bytes]
    """By whose secret it is of; `NO_SHARE` where the box that should have held it did not open."""
    fingerprints: Mapping[PartyId, bytes]
    """By absent neighbour, of the seed shared with it; `NO_FINGERPRINT` where the sender says nothing."""

    def pack(self, cohort: tuple[PartyId, ...]) -> bytes:
        """Set, shares and fingerprints in the cohort's order."""
        fields = (field[party] for field in (self.shares, self.fingerprints) for party in sorted(field))
        return pack_set(self.present, cohort) + b"".join(fields)

    @classmethod
    def read(cls, body: memoryview, sender: PartyId, cohort: tuple[PartyId, ...], owners: tuple[PartyId, ...]) -> Reply:
        """Parse a reply whose signature was checked; ``owners`` are the sender and its neighbours, sorted."""
        reader = _Reader(body, sender, "reply")
        present = unpack_set(bytes(reader.take(_set_bytes(cohort))), cohort, sender)
        shares = reader.take_each(owners, SHARE_BYTES)
        here = frozenset(present)
        absent = tuple(owner for owner in owners if owner not in here)
        fingerprints = reader.take_each(absent, FINGERPRINT_BYTES)
        reader.end()
        return cls(present, shares, fingerprints)


@dataclass(frozen=True)
class Grant:
    """What helps to do without a party: shares of its round secrets, sealed, and the seeds that these open."""

    boxes: Mapping[PartyId, bytes]
    """By recipient: the sender's neighbours in the batch."""
    wraps: bytes
    """For each round of the batch the sender's seeds with each neighbour, in their order, under that round's secret."""

    def wrap(self, number: int) -> bytes:
        """The seeds of the batch's round by number."""
        size = KEY_BYTES * len(self.boxes)
        return self.wraps[number * size : (number + 1) * size]

    @classmethod
    def read(cls, body: memoryview, sender: PartyId, near: tuple[PartyId, ...], rounds: int) -> Grant:
        """Parse a grant whose signature was checked; ``near`` are the sender's neighbours in the batch."""
        reader = _Reader(body, sender, "grant")
        boxes = reader.take_each(near, secrets_box_bytes(rounds))
        wraps = bytes(reader.take(rounds * KEY_BYTES * len(near)))
        reader.end()
        return cls(boxes, wraps)


def _set_bytes(cohort: tuple[PartyId, ...]) -> int:
    return (len(cohort) + 7) // 8


class _Reader:
    """Takes fields off the front of a message, and says who sent it when they do not fit."""

    def __init__(self, message: memoryview, sender: PartyId, kind: str) -> None:
        self._rest = message
        self._sender = sender
        self._kind = kind

    def take(self, length: int) -> memoryview:
        if len(self._rest) < length:
            raise PeerError(self._sender, f"{self._kind} is cut short")
        field, self._rest = self._rest[:length], self._rest[length:]
        return field

    def take_each(self, parties: tuple[PartyId, ...], length: int) -> dict[PartyId, bytes]:
        """For each of the parties a field of that length."""
        fields = bytes(self.take(length * len(parties)))
        return {party: fields[length * place : length * (place + 1)] for place, party in enumerate(parties)}

    def end(self) -> None:
        if self._rest:
            raise PeerError(self._sender, f"{self._kind} has {len(self._rest)} bytes too many")
