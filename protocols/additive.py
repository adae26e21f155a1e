"""Sums by additive secret shares: every party holds a piece of every other's vector and adds the pieces.

Promises: the exact ring sum over the whole cohort; nothing beyond it unless **all** other parties
collude with the aggregator. Refuses to open when anybody is silent: there is nothing to recover with.

Party u's share for peer v is the keystream of a fresh 32-byte seed sealed to v; its own share is the
vector minus all of those. Each party then sends one number per value: the sum of the shares it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.primitives import ring
from protocols.primitives.keys import KEY_BYTES, Secret
from protocols.secure_sum import AGGREGATOR, Context, DropoutError, PartyId, PeerError, Pending, Total, Vector, silent
from protocols.sessions.channels import PUBLIC_BYTES, SEAL_BYTES, Box, Channels, channel_key
from protocols.sessions.session import Collecting, Greeting, Seat, Seated, open_message

BOX_BYTES = KEY_BYTES + SEAL_BYTES


class AdditiveParty(Seated, Secret):
    """Deals shares of its vector, and adds up the shares dealt to it."""

    protocol = "additive"

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat)
        self._settings.threshold_for(len(self._roster))  # refuses a table too small to hide anybody
        self._channels = Channels(seat.me, seat.entropy)
        self._own_shares: dict[bytes, Vector | None] = {}

    def hello(self, batch: int = 0) -> bytes:
        """A nonce and, in the first batch, this session's channel key."""
        return self._seat.hello(batch, self._channels.public if batch == 0 else b"")

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Open a channel to every peer; there is nothing to grant."""
        publics = _channel_keys(self._seat.meet(hellos, batch), batch)
        if batch == 0:
            self._channels.meet(self.session, publics)
        return b""

    def protect(self, vector: Vector, context: Context) -> bytes:
        """A sealed seed for every peer. What they expand to, taken from the vector, leaves the own share."""
        context.check_vector(vector)
        self._seat.enter(context)
        peers = [peer for peer in context.cohort if peer != self.me]
        seeds = [self._seat.entropy(KEY_BYTES) for _ in peers]
        share = vector.copy(order="C")
        ring.mask_into(share, plus=(), minus=seeds, prg=self._settings.prg)
        self._own_shares[context.digest] = share
        place = (context.round, context.attempt)
        boxes = (
            self._channels.seal(peer, Box.ADDITIVE_SEED, place, context.digest, seed)
            for peer, seed in zip(peers, seeds, strict=True)
        )
        return self._seat.sign(b"payload", context, b"".join(boxes))

    def assist(self, request: bytes, context: Context) -> bytes:
        """The sum of the shares this party holds: its own and one from everybody else in the cohort."""
        self._seat.check(context)
        if context.digest not in self._own_shares:
            raise PeerError(AGGREGATOR, f"asks {self.me} to open a sum it sent no payload for")
        share = self._own_shares[context.digest]
        if share is None:
            raise PeerError(AGGREGATOR, f"asks {self.me} to open round {context.round} a second time")
        peers = [peer for peer in context.cohort if peer != self.me]
        if len(request) != BOX_BYTES * len(peers):
            raise PeerError(AGGREGATOR, f"the request does not hold one box from each of {len(peers)} peers")
        seeds = []
        for number, peer in enumerate(peers):
            box = request[number * BOX_BYTES : (number + 1) * BOX_BYTES]
            try:
                place = (context.round, context.attempt)
                seeds.append(self._channels.open(peer, Box.ADDITIVE_SEED, place, context.digest, box))
            except ValueError as error:
                raise PeerError(AGGREGATOR, f"the request's box from {peer}: {error}") from None
        self._seat.demands.check_opening(context, context.cohort)
        self._own_shares[context.digest] = None
        ring.mask_into(share, plus=seeds, minus=(), prg=self._settings.prg)
        return self._seat.sign(b"reply", context, ring.view(share))


@dataclass(frozen=True)
class _Hidden:
    """Marks a pending sum as this protocol's own; until the replies come there is nothing to hold."""


class AdditiveCollector(Collecting):
    """Carries the boxes to those they are for, and adds the sums of shares."""

    protocol = AdditiveParty.protocol

    def meet(self, hellos: Mapping[PartyId, bytes], grants: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Check the hellos and learn the session id."""
        _channel_keys(self._session.greet(hellos, batch), batch)
        for party in sorted(grants):
            if grants[party]:
                raise PeerError(party, "sent a grant where this protocol has none")

    def combine(self, payloads: Mapping[PartyId, bytes], context: Context) -> Pending:
        """Sort the boxes by recipient. Everybody in the cohort must have sent theirs."""
        present = context.senders(payloads)
        boxes: dict[tuple[PartyId, PartyId], memoryview] = {}
        for party in present:
            body = open_message(self._roster, b"payload", party, context.digest, payloads[party])
            peers = [peer for peer in context.cohort if peer != party]
            if len(body) != BOX_BYTES * len(peers):
                raise PeerError(party, f"the payload does not hold one box for each of {len(peers)} peers")
            for number, peer in enumerate(peers):
                boxes[party, peer] = body[number * BOX_BYTES : (number + 1) * BOX_BYTES]
        _check_complete(present, context)
        requests = {
            party: b"".join(boxes[peer, party] for peer in context.cohort if peer != party) for party in present
        }
        return Pending(context, present, requests, hidden=_Hidden())

    def open(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> Total:
        """Add the replies: all shares of all vectors, each once."""
        pending.kept(_Hidden)
        context = pending.context
        present = context.senders(replies)
        total = ring.zeros(context.values, context.limbs)
        for party in present:
            body = open_message(self._roster, b"reply", party, context.digest, replies[party])
            self._add(total, party, body)
        _check_complete(present, context)
        return Total(total, present)


def _channel_keys(greetings: Mapping[PartyId, Greeting], batch: int) -> dict[PartyId, bytes]:
    """Everyone's channel key from a batch of hellos; only the first batch has them."""
    expected = PUBLIC_BYTES if batch == 0 else 0
    for party, greeting in greetings.items():
        if len(greeting.body) != expected:
            raise PeerError(party, f"hello has {len(greeting.body)} bytes of keys, not {expected}")
    if batch > 0:
        return {}
    return {party: channel_key(party, bytes(greeting.body)) for party, greeting in greetings.items()}


def _check_complete(present: tuple[PartyId, ...], context: Context) -> None:
    missing = silent(context.cohort, present)
    if missing or not present:
        raise DropoutError(missing, len(present), max(len(context.cohort), 1))
