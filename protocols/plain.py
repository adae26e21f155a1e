"""Sums in the clear: the baseline whose integers every other protocol must equal and whose cost is theirs.

Promises: the exact ring sum. Hides nothing: the aggregator sees every party's vector.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from protocols.primitives import ring
from protocols.primitives.keys import Entropy, Identity
from protocols.secure_sum import (
    AGGREGATOR,
    Context,
    DropoutError,
    MisuseError,
    PartyId,
    PeerError,
    Pending,
    Total,
    Vector,
    check_senders,
    check_vector,
)
from protocols.session import Roster, Seat, Seated, Session
from protocols.settings import Settings

NAME = "plain"


class PlainParty(Seated):
    """Sends its vector as it is."""

    def __init__(
        self,
        me: PartyId,
        identity: Identity,
        roster: Roster,
        settings: Settings,
        entropy: Entropy = secrets.token_bytes,
    ) -> None:
        self._seat = Seat(me, identity, Session(NAME, roster, settings.digest), entropy)

    def hello(self, batch: int = 0) -> bytes:
        """A nonce, signed; there are no other keys."""
        return self._seat.hello(batch)

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Learn the session id; there is nothing to grant."""
        self._seat.meet(hellos, batch)
        return b""

    def protect(self, vector: Vector, context: Context) -> bytes:
        """The vector's bytes, 8 * limbs per value."""
        check_vector(vector, context)
        self._seat.enter(context)
        return ring.to_bytes(vector)

    def assist(self, request: bytes, context: Context) -> bytes:
        """Refuse: a plain sum needs no help."""
        raise PeerError(AGGREGATOR, "asked for help where the protocol has none to give")


class PlainCollector:
    """Adds what it reads."""

    def __init__(self, roster: Roster, settings: Settings, entropy: Entropy = secrets.token_bytes) -> None:
        self._session = Session(NAME, roster, settings.digest)

    @property
    def session(self) -> bytes:
        """The session id."""
        return self._session.id

    def meet(self, hellos: Mapping[PartyId, bytes], grants: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Learn the session id."""
        self._session.greet(hellos, batch)

    def combine(self, payloads: Mapping[PartyId, bytes], context: Context) -> Pending:
        """Add the vectors of whoever answered."""
        present = check_senders(payloads, context)
        if not present:
            raise DropoutError(context.cohort, 0, 1)
        total = ring.zeros(context.values, context.limbs)
        for party in present:
            try:
                ring.add_into(total, ring.from_bytes(payloads[party], context.values, context.limbs))
            except ValueError as error:
                raise PeerError(party, str(error)) from None
        return Pending(context, present, {}, hidden=total)

    def open(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> Total:
        """The sum was never hidden."""
        if replies:
            raise PeerError(min(replies), "answered a request that was not made")
        if not isinstance(pending.hidden, type(ring.zeros(0, 1))):
            raise MisuseError("this pending sum is not of this protocol")
        return Total(pending.hidden, pending.parties)
