"""Sums in the clear: the baseline whose integers every other protocol must equal and whose cost is theirs.

Promises: the exact ring sum. Hides nothing: the aggregator sees every party's vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.primitives import ring
from protocols.secure_sum import AGGREGATOR, Context, DropoutError, PartyId, PeerError, Pending, Total, Vector
from protocols.sessions.session import Collecting, Seated


class PlainParty(Seated):
    """Sends its vector as it is."""

    protocol = "plain"

    def hello(self, batch: int = 0) -> bytes:
        """A nonce, signed; there are no other keys."""
        return self._seat.hello(batch)

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Learn the session id; there is nothing to grant."""
        self._seat.meet(hellos, batch)
        return b""

    def protect(self, vector: Vector, context: Context) -> bytes:
        """The vector's bytes, 8 * limbs per value."""
        context.check_vector(vector)
        self._seat.enter(context)
        return ring.to_bytes(vector)

    def assist(self, request: bytes, context: Context) -> bytes:
        """Refuse: a plain sum needs no help."""
        raise PeerError(AGGREGATOR, "asked for help where the protocol has none to give")


class PlainCollector(Collecting):
    """Adds what it reads."""

    protocol = PlainParty.protocol

    def meet(self, hellos: Mapping[PartyId, bytes], grants: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Learn the session id."""
        self._session.greet(hellos, batch)

    def combine(self, payloads: Mapping[PartyId, bytes], context: Context) -> Pending:
        """Add the vectors of whoever answered."""
        present = context.senders(payloads)
        if not present:
            raise DropoutError(context.cohort, 0, 1)
        total = ring.zeros(context.values, context.limbs)
        for party in present:
            self._add(total, party, payloads[party])
        return Pending(context, present, {}, hidden=total)

    def open(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> Total:
        """The sum was never hidden."""
        pending.check_replies(replies)
        return Total(pending.kept(np.ndarray), pending.parties)
