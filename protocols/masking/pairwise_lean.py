"""Sums under pairwise masks alone, over everybody or nobody: no mask of one's own, no shares, nothing to ask for.

Promises: the exact ring sum over all parties of the session, once each has sent its one message. An aggregator that
breaks the protocol in any way, with colluding parties that leave two others and are fewer than a party has neighbours,
learns that sum and nothing else. Opens nothing when anybody is silent: there is nothing to recover with. Refuses to
know: what the numbers mean.

The masks of a pair are pseudo-random shares of zero (Kursawe, Danezis and Kohlweiss, PETS 2011), from a ratchet that
begins with one key agreement for a batch of rounds. Why no more is needed where nobody may drop, and what is given up,
is written down in `protocols/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from protocols.masking.mask_keys import KeyBook, Ledger, MaskKeys
from protocols.masking.neighbours import degree_without_recovery
from protocols.masking.pairwise_room import Seating
from protocols.masking.ratchet import Ratchet
from protocols.primitives import ring
from protocols.primitives.keys import Secret
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
    silent,
)
from protocols.sessions.demands import NO_DEMANDS, Demands
from protocols.sessions.drafts import Lender
from protocols.sessions.session import Collecting, Greeting, Roster, Seat, Seated, Session, open_message
from protocols.sessions.settings import Settings

NAME: Final = "pairwise-lean"


class WholeRoom(Seating):
    """Public knowledge of a session all of whose sums are over the whole roster."""

    def __init__(self, roster: Roster, settings: Settings, demands: Demands = NO_DEMANDS) -> None:
        """Raises `MisuseError` for a room too small to hide anybody, or with fewer neighbours than is demanded."""
        settings.threshold_for(len(roster))
        super().__init__(roster, settings, degree_without_recovery(settings, len(roster)))
        if self.degree < len(roster) - 1:
            demands.check_needed(self.degree, "neighbours that one site shares masks with", "take more neighbours")

    def read(
        self, session: bytes, batch: int, hellos: Mapping[PartyId, bytes], greetings: Mapping[PartyId, Greeting]
    ) -> KeyBook:
        """The key book of a batch's hellos, which everybody must have said; nothing is kept."""
        missing = silent(tuple(self.roster), hellos)
        if missing:
            raise DropoutError(missing, len(hellos), len(self.roster))
        keys = {party: bytes(greeting.body) for party, greeting in greetings.items()}
        return KeyBook.of(session, batch, self.settings.rounds_per_batch, hellos, keys)

    def check_whole(self, context: Context) -> KeyBook:
        """The key book of a sum over everybody. Raises `MisuseError` for one over fewer."""
        book = self.book(context)
        missing = silent(book.members, context.members)
        if missing:
            raise MisuseError(f"a sum without {', '.join(missing)} does not open: {NAME} sums are over everybody")
        return book


class LeanParty(Seated, Secret):
    """Masks its vector, once for each round; it is never asked for anything else."""

    protocol = NAME

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat)
        self._room = WholeRoom(self._roster, self._settings, seat.demands)
        self._agreement_keys = MaskKeys(seat.entropy)
        self._ratchets: dict[int, Ratchet] = {}
        self._ledger = Ledger()
        self._lender = Lender()

    def hello(self, batch: int = 0) -> bytes:
        """A nonce, and one public key for the batch."""
        return self._seat.hello(batch, self._agreement_keys.publish(batch))

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Agree with each neighbour, and sign which hellos that was among; the batch's private key is gone then."""
        if self._room.met(batch):
            raise MisuseError(f"{self.me} has met the others for batch {batch} already")
        greetings = self._seat.meet(hellos, batch, self._room.near(self.me, hellos))
        book = self._room.read(self.session, batch, hellos, greetings)
        self._room.keep(book)
        near = self._room.graph.among(self.me, self._roster)
        self._ratchets[batch] = Ratchet.agreed(self._agreement_keys.take(batch), self.me, near, book)
        return self._seat.sign_bound(b"grant", book.binding, b"")

    def lend(self, context: Context) -> Vector:
        """Memory for the vector of the next `protect`, if it is of this context; that overwrites what is there."""
        self._seat.check(context)
        return self._lender.lend(context, 0)

    def protect(self, vector: Vector, context: Context) -> bytes:
        """The vector under the masks of all pairs that this party is one of.

        With this word the party has helped to open the sum, so what it demands is asked before. Uses up this round's
        mask keys and all earlier ones.
        """
        context.check_vector(vector)
        self._seat.check(context)
        book = self._room.check_whole(context)
        self._ratchets[book.batch].check(context)
        self._seat.demands.check_opening(context, context.cohort)
        self._seat.enter(context)
        self._ledger.note("pair mask", context.round, context.digest)
        self._ratchets = {batch: ratchet for batch, ratchet in self._ratchets.items() if batch >= book.batch}
        keys = self._ratchets[book.batch].take(context)
        plus = [key for peer, key in keys.items() if self.me < peer]
        minus = [key for peer, key in keys.items() if self.me > peer]
        draft = self._lender.take(vector, context, 0)
        del vector
        ring.mask_into(draft.vector, plus, minus, self._settings.prg)
        return self._seat.sign_draft(b"payload", context, draft)

    def assist(self, request: bytes, context: Context) -> bytes:
        """Refuse: all help is in the payload."""
        raise PeerError(AGGREGATOR, "asked for help where the protocol has none to give")


class LeanCollector(Collecting):
    """Adds masked vectors; the sum of all is open."""

    protocol = NAME

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._room = WholeRoom(self._roster, self._settings)
        self._granted: dict[int, frozenset[PartyId]] = {}

    def check(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Look at everyone's hellos and at every key in them, before they are carried on: no party does."""
        session, greetings = self._session.read(hellos, batch)
        self._room.read(session, batch, hellos, greetings)

    def meet(self, hellos: Mapping[PartyId, bytes], grants: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Read everyone's hellos, and who signed that it met these very ones: the others' masks will not cancel."""
        if self._room.met(batch):
            raise MisuseError(f"the parties have met for batch {batch} already")
        greetings = self._session.greet(hellos, batch)
        book = self._room.read(self.session, batch, hellos, greetings)
        for party in sorted(grants):
            if open_message(self._roster, b"grant", party, book.binding, grants[party]):
                raise PeerError(party, "grants something where the protocol has nothing to grant")
        self._room.keep(book)
        self._granted[batch] = frozenset(grants)

    def combine(self, payloads: Mapping[PartyId, bytes], context: Context) -> Pending:
        """Add the masked vectors, which everybody must have sent: the masks are gone then."""
        book = self._room.check_whole(context)
        present = context.senders(payloads)
        missing = silent(context.cohort, self._granted[book.batch].intersection(present))
        if missing:
            raise DropoutError(missing, len(context.cohort) - len(missing), len(context.cohort))
        total = ring.zeros(context.values, context.limbs)
        for party in present:
            body = open_message(self._roster, b"payload", party, context.digest, payloads[party])
            self._add(total, party, body)
        return Pending(context, present, {}, hidden=total)

    def open(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> Total:
        """The sum as it was added up; nobody was asked for anything."""
        pending.check_replies(replies)
        return Total(pending.kept(np.ndarray), pending.parties)
