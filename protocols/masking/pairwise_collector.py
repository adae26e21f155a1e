"""Sums under pairwise masks: the collector's end. It adds, carries sealed shares, and removes what masks remain.

Promises: `open` gives the exact ring sum over the parties that sent a payload, whichever shares are false where there
are enough to spare; or says who is silent, who sent nonsense, or whose secret could not be put together.
Refuses to know: any secret but those that the parties release for this one sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from protocols.masking.mask_keys import KeyBook, commit, self_mask_key
from protocols.masking.pairwise_messages import (
    NO_FINGERPRINT,
    Grant,
    Leg,
    Payload,
    Reply,
    Request,
    pack_set,
    read_set_boxes,
)
from protocols.masking.pairwise_room import NAME, Room
from protocols.masking.round_seeds import commit_to_round, fingerprints, pair_mask_keys, unwrapped
from protocols.primitives import ring, shamir
from protocols.primitives.keys import SIGNATURE_BYTES
from protocols.primitives.shamir_in_turn import InTurn
from protocols.secure_sum import (
    Context,
    DropoutError,
    IntegrityError,
    MisuseError,
    PartyId,
    PeerError,
    Pending,
    Total,
    Vector,
    silent,
)
from protocols.sessions.session import Collecting, Session, open_message


@dataclass(frozen=True)
class _Hidden:
    """A pending sum as the collector holds it: added up, with all masks still on."""

    total: Vector
    payloads: Mapping[PartyId, Payload]
    leg: Leg


class PairwiseCollector(Collecting):
    """Adds masked vectors, carries sealed shares to those they are for, and removes what masks remain."""

    protocol = NAME

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._room = Room(self._roster, self._settings)
        self._grants: dict[tuple[int, PartyId], Grant] = {}
        self._secrets = InTurn(self._room.share_threshold, len(self._roster))

    def check(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Look at everyone's hellos and at every key in them, before they are carried on: no party does."""
        session, greetings = self._session.read(hellos, batch)
        self._room.read(session, batch, hellos, greetings)

    def meet(self, hellos: Mapping[PartyId, bytes], grants: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Read everyone's public keys, and keep the grants for a recovery in this batch's rounds, or in the last one's.

        After a `PeerError` nothing of the batch was kept, and it can be met again without that message.
        """
        if self._room.met(batch):
            raise MisuseError(f"the parties have met for batch {batch} already")
        greetings = self._session.greet(hellos, batch)
        self._room.meet(self.session, batch, hellos, greetings)
        try:
            read = {party: self._read_grant(party, grants[party], batch) for party in sorted(grants)}
        except PeerError:
            self._room.forget(batch)
            raise
        # A thousand parties' grants of one batch are 120 MB, and no sum of a batch before the last is open any more.
        self._grants = {place: kept for place, kept in self._grants.items() if place[0] >= batch - 1}
        self._grants.update({(batch, party): kept for party, kept in read.items()})

    def _read_grant(self, party: PartyId, grant: bytes, batch: int) -> Grant:
        book = self._room.batch(batch)
        if party not in book.keys:
            raise PeerError(party, f"sent a grant but no hello for batch {batch}")
        body = open_message(self._roster, b"grant", party, book.binding, grant)
        return Grant.read(body, party, self._room.graph.among(party, book.keys), book.rounds)

    def combine(self, payloads: Mapping[PartyId, bytes], context: Context) -> Pending:
        """Add the masked vectors; whoever sent one is in the sum from here on."""
        book = self._room.book(context)
        book.check_cohort(context, self._room.threshold)
        present = context.senders(payloads)
        self._check_set(present, context)
        total = ring.zeros(context.values, context.limbs)
        read = {}
        for party in present:
            body = open_message(self._roster, b"payload", party, context.digest, payloads[party])
            payload = Payload.read(body, party, context, self._room.graph.among(party, context.members))
            ring.add_into(total, ring.from_bytes(payload.masked, context.values, context.limbs))
            # The vector has done its work: what is kept is small.
            read[party] = Payload(memoryview(b""), payload.commitment, payload.boxes)
        unrecoverable = [p for p in context.cohort if p not in read and (book.batch, p) not in self._grants]
        if unrecoverable:
            # Its masks are in the sum and nobody holds shares of the secret that would remove them.
            raise DropoutError(tuple(unrecoverable), len(present), len(context.cohort))
        leg = Leg.AGREE if self._settings.consistency else Leg.RELEASE
        hidden = _Hidden(total, read, leg)
        requests = {party: self._request(party, context, hidden, {}).pack(context.cohort) for party in present}
        return Pending(context, present, requests, hidden=hidden)

    def open(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> Total | Pending:
        """Recover the seeds and round secrets the replies have shares of, and take their masks off the sum."""
        hidden = pending.kept(_Hidden)
        pending.check_replies(replies)
        if hidden.leg is Leg.AGREE:
            return self._show_agreement(pending, hidden, replies)
        shares, shown = self._read_replies(pending, replies)
        self._room.check_enough(tuple(sorted(replies)), tuple(pending.requests))
        self._room.check_shares(tuple(sorted(replies)), pending.context, pending.parties)
        total = hidden.total.copy()
        plus, minus, unfit = self._remaining_masks(pending, hidden, shares, shown)
        ring.mask_into(total, plus, minus, self._settings.prg)
        return Total(total, pending.parties, unfit)

    def _check_set(self, present: tuple[PartyId, ...], context: Context) -> None:
        """Raise `DropoutError` unless those present can open the sum and will agree that it hides them."""
        self._room.check_enough(present, context.cohort)
        self._room.check_shares(present, context, present)
        if not self._room.holds_together(present):
            spare = self._room.share_threshold - 1
            where = f", placed so that no {spare} colluding ones could split the rest,"
            raise DropoutError(silent(context.cohort, present), len(present), len(present) + 1, where)

    def _request(self, party: PartyId, context: Context, hidden: _Hidden, agreed: Mapping[PartyId, bytes]) -> Request:
        boxes: dict[PartyId, bytes] = {}
        if hidden.leg is Leg.RELEASE:
            batch = context.round // self._settings.rounds_per_batch
            for peer in self._room.graph.among(party, context.members):
                source = hidden.payloads[peer] if peer in hidden.payloads else self._grants[batch, peer]
                boxes[peer] = source.boxes[party]
        return Request(hidden.leg, tuple(hidden.payloads), agreed, boxes)

    def _show_agreement(self, pending: Pending, hidden: _Hidden, replies: Mapping[PartyId, bytes]) -> Pending:
        """Collect who agreed to the present set, and show it to everyone who did."""
        context, cohort = pending.context, pending.context.cohort
        shown = self._agreements(pending, replies)
        self._room.check_enough(tuple(shown), tuple(pending.requests))
        agreed = _Hidden(hidden.total, hidden.payloads, Leg.RELEASE)
        requests = {party: self._request(party, context, agreed, of).pack(cohort) for party, of in shown.items()}
        return Pending(context, pending.parties, requests, hidden=agreed)

    def _agreements(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> dict[PartyId, Mapping[PartyId, bytes]]:
        """For each who agreed, what shows it who did: the others' boxes for it, or everybody's signatures."""
        context, cohort = pending.context, pending.context.cohort
        agreement, boxed = pack_set(pending.parties, cohort), self._room.graph.complete
        boxes: dict[PartyId, dict[PartyId, bytes]] = {}
        for party in sorted(replies):
            body = open_message(self._roster, b"agreement", party, context.digest, replies[party])
            if body[: len(agreement)] != agreement:
                raise PeerError(party, "agreed to another set of parties than it was asked about")
            boxes[party] = read_set_boxes(body[len(agreement) :], party, pending.parties if boxed else (), cohort)
        if boxed:
            return {party: {other: to[party] for other, to in boxes.items() if other != party} for party in boxes}
        signatures = {party: replies[party][-SIGNATURE_BYTES:] for party in boxes}
        return dict.fromkeys(boxes, signatures)

    def _read_replies(
        self, pending: Pending, replies: Mapping[PartyId, bytes]
    ) -> tuple[dict[PartyId, dict[int, bytes]], dict[PartyId, dict[PartyId, bytes]]]:
        """By whose secret they are of: shares by index, and of an absent one the fingerprints its neighbours show."""
        context = pending.context
        shares: dict[PartyId, dict[int, bytes]] = {party: {} for party in context.cohort}
        shown: dict[PartyId, dict[PartyId, bytes]] = {party: {} for party in context.cohort}
        for party in filter(replies.__contains__, self._room.graph.circle):
            body = open_message(self._roster, b"reply", party, context.digest, replies[party])
            reply = Reply.read(body, party, context.cohort, self._room.holders(party, context.members))
            if reply.present != pending.parties:
                raise PeerError(party, "answered for another set of parties than it was asked about")
            index = self._room.graph.index[party]
            for owner, share in reply.shares.items():
                shares[owner][index] = share
            for owner, fingerprint in reply.fingerprints.items():
                if fingerprint != NO_FINGERPRINT:
                    shown[owner][party] = fingerprint
        return shares, shown

    def _remaining_masks(
        self,
        pending: Pending,
        hidden: _Hidden,
        shares: Mapping[PartyId, Mapping[int, bytes]],
        shown: Mapping[PartyId, Mapping[PartyId, bytes]],
    ) -> tuple[list[bytes], list[bytes], int]:
        """The keystream keys to be added to the sum, those to be subtracted, and how many shares were false."""
        context = pending.context
        book = self._room.book(context)
        plus: list[bytes] = []
        minus: list[bytes] = []
        unfit = 0
        present = frozenset(pending.parties)
        for owner in filter(context.members.__contains__, self._room.graph.circle):
            if owner in present:
                accepts = _opens(hidden.payloads[owner].commitment, owner, context)
                seed, wrong = self._recover(owner, shares[owner], accepts)
                minus.append(self_mask_key(seed, owner, context))
            elif near := self._room.graph.among(owner, present):
                accepts = _is_behind(book.commitment(owner, context.round), owner, context.round)
                secret, wrong = self._recover(owner, shares[owner], accepts)
                seeds = self._opened(owner, secret, near, book, context.round)
                _check_fingerprints(owner, {party: seeds[party] for party in shown[owner]}, shown[owner], context)
                for party, key in pair_mask_keys(seeds, owner, context).items():
                    (minus if party < owner else plus).append(key)
            else:
                continue
            unfit += wrong
        return plus, minus, unfit

    def _opened(
        self, owner: PartyId, secret: bytes, those: Iterable[PartyId], book: KeyBook, round_: int
    ) -> dict[PartyId, bytes]:
        """An absent party's seeds of a round with those among its neighbours, out of its grant."""
        near = self._room.graph.among(owner, book.keys)
        wrap = self._grants[book.batch, owner].wrap(round_ - book.batch * book.rounds)
        seeds = unwrapped(wrap, secret, owner, near, book, round_, self._settings.prg)
        return {party: seeds[party] for party in those}

    def _recover(self, owner: PartyId, shares: Mapping[int, bytes], accepts: shamir.Accepts) -> tuple[bytes, int]:
        """A secret of the owner's from its shares, checked against what the owner published; how many did not fit.

        A false share names nobody: its holder may have changed it, or its owner may have dealt it so. Cheapest if
        asked around the circle, where who holds shares of one secret hold those of the next.
        """
        try:
            return self._secrets.corrected(shares, accepts)
        except shamir.ShareError as error:
            raise IntegrityError(
                f"the secret of {owner} can't be put together, and nobody can be shown to have lied: {error}"
            ) from None


def _check_fingerprints(
    owner: PartyId, seeds: Mapping[PartyId, bytes], shown: Mapping[PartyId, bytes], context: Context
) -> None:
    """Raise `IntegrityError` where an absent party left other seeds behind than its neighbour says that it used."""
    made = fingerprints(seeds, owner, context)
    apart = sorted(party for party in shown if made[party] != shown[party])
    if apart:
        raise IntegrityError(
            f"the seeds that {owner} left behind are not those used by {', '.join(apart)} with it, by their own word, "
            "and nobody can be shown to have lied"
        )


def _opens(commitment: bytes, owner: PartyId, context: Context) -> shamir.Accepts:
    """Whether a seed is the one its owner committed to."""
    return lambda seed: commit(seed, owner, context) == commitment


def _is_behind(commitment: bytes, owner: PartyId, round_: int) -> shamir.Accepts:
    """Whether a round secret is the one its owner committed to when it said hello."""
    return lambda secret: commit_to_round(secret, owner, round_) == commitment
