"""Sums under pairwise masks that survive dropouts (Bonawitz et al., CCS 2017, complete graph).

Promises: the exact ring sum over the parties that sent a payload, as long as ``threshold`` of them also
help to open it. An honest-but-curious aggregator with fewer than ``threshold`` colluding sites learns
that sum, that set, and nothing else; with ``Settings.consistency`` an active one with c colluding sites
learns no more if 2 * threshold > parties + c. Refuses to know: what the numbers mean.

Party u adds the mask it shares with v if u < v, subtracts it otherwise, and adds a mask of its own. The
masks between those present cancel in the sum. To remove the rest the present parties release shares: of
the own mask's seed for each present party, of that one round's mask key for each absent one, and never
both for one party.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from protocols.channels import Box, Channels
from protocols.mask_keys import KeyBook, Ledger, MaskKeys, commit, pair_mask_key, self_mask_key, split_hello
from protocols.pairwise_messages import Leg, Payload, Reply, Request, grant_boxes, pack_set
from protocols.primitives import ring, shamir
from protocols.primitives.keys import KEY_BYTES, SIGNATURE_BYTES, AgreementKey, Entropy, Identity, Secret
from protocols.secure_sum import (
    AGGREGATOR,
    Context,
    DropoutError,
    IntegrityError,
    MisuseError,
    PartyId,
    PeerError,
    Pending,
    Total,
    Vector,
    check_senders,
    check_vector,
)
from protocols.session import Roster, Seat, Session, open_message
from protocols.settings import Settings

NAME = "pairwise"


@dataclass(repr=False)
class _Waiting(Secret):
    """What a party remembers of a sum between its payload and its answer."""

    own_share: bytes
    agreed: tuple[PartyId, ...] | None = None


class PairwiseParty(Secret):
    """Masks its vector, and helps to remove the masks of those present or absent: one of the two."""

    def __init__(
        self,
        me: PartyId,
        identity: Identity,
        roster: Roster,
        settings: Settings,
        entropy: Entropy = secrets.token_bytes,
    ) -> None:
        self._threshold = settings.threshold_for(len(roster))
        self._seat = Seat(me, identity, Session(NAME, roster, settings.digest), entropy)
        self._settings = settings
        self._roster = roster
        self._channels = Channels(me, entropy)
        self._mask_keys = MaskKeys(settings.rounds_per_batch, entropy)
        self._books: dict[int, KeyBook] = {}
        self._ledger = Ledger()
        self._waiting: dict[bytes, _Waiting | None] = {}

    @property
    def me(self) -> PartyId:
        """Whose end this is."""
        return self._seat.me

    @property
    def session(self) -> bytes:
        """The session id."""
        return self._seat.session.id

    def hello(self, batch: int = 0) -> bytes:
        """A nonce, the channel key (first batch), and a mask public key for each round of the batch."""
        channel = self._channels.public if batch == 0 else b""
        return self._seat.hello(batch, channel + self._mask_keys.publish(batch))

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Share this batch's mask keys among those who said hello: one sealed box for each."""
        if batch in self._books:
            raise MisuseError(f"{self.me} has met the others for batch {batch} already")
        channel_keys, mask_keys = split_hello(self._seat.meet(hellos, batch), batch)
        book = KeyBook.read(self.session, batch, self._settings.rounds_per_batch, hellos, mask_keys)
        _check_enough(book.members, tuple(self._roster), self._threshold)
        if batch == 0:
            self._channels.meet(self.session, channel_keys)
        self._books[batch] = book
        split_keys = [
            shamir.split(private, self._threshold, len(self._roster), self._seat.entropy)
            for private in self._mask_keys.private_bytes(batch)
        ]
        boxes = []
        for number, peer in enumerate(self._roster):
            if peer != self.me and peer in book.keys:
                shares = b"".join(shares[number] for shares in split_keys)
                boxes.append(self._channels.seal(peer, Box.MASK_KEY_SHARES, (batch, 0), book.binding, shares))
        return self._seat.sign_bound(b"grant", book.binding, b"".join(boxes))

    def protect(self, vector: Vector, context: Context) -> bytes:
        """The vector under all its masks, with the own mask's seed shared among the cohort.

        Uses up this round's mask key. Afterwards this process holds neither that key nor the seed.
        """
        check_vector(vector, context)
        self._seat.check(context)
        book = self._book(context)
        book.check_cohort(context, self._threshold)
        self._seat.enter(context)
        own = self._mask_keys.take(context.round)
        peers = [peer for peer in context.cohort if peer != self.me]
        plus: list[bytes] = []
        minus: list[bytes] = []
        for peer in peers:
            self._ledger.note("pair mask", context.round, peer, context.digest)
            (plus if self.me < peer else minus).append(pair_mask_key(own, self.me, peer, book, context))
        self._ledger.note("self mask", context.round, self.me, context.digest)
        seed = self._seat.entropy(KEY_BYTES)
        plus.append(self_mask_key(seed, self.me, context))
        masked = vector.copy(order="C")
        ring.mask_into(masked, plus, minus, self._settings.prg)

        shares = dict(zip(self._roster, self._split(seed), strict=True))
        place = (context.round, context.attempt)
        boxes = {peer: self._channels.seal(peer, Box.SEED_SHARE, place, context.digest, shares[peer]) for peer in peers}
        self._waiting[context.digest] = _Waiting(shares[self.me])
        payload = Payload(memoryview(ring.to_bytes(masked)), commit(seed, self.me, context), boxes)
        return self._seat.sign(b"payload", context, payload.pack())

    def assist(self, request: bytes, context: Context) -> bytes:
        """Sign the set of those present, or release the shares that open the sum over that set.

        A request that does not hold up raises `PeerError` naming the aggregator, and nothing is released.
        """
        self._seat.check(context)
        if context.digest not in self._waiting:
            raise PeerError(AGGREGATOR, f"asks {self.me} to open a sum it sent no payload for")
        waiting = self._waiting[context.digest]
        if waiting is None:
            raise PeerError(AGGREGATOR, f"asks {self.me} to open round {context.round} a second time")
        asked = Request.read(request, self.me, context.cohort, self._settings.rounds_per_batch)
        if self.me not in asked.present:
            raise PeerError(AGGREGATOR, f"asks {self.me} for help with a sum that leaves it out")
        if len(asked.present) < self._threshold:
            raise PeerError(
                AGGREGATOR, f"wants to open a sum of {len(asked.present)}: the threshold is {self._threshold}"
            )
        if asked.leg is Leg.AGREE:
            return self._agree(asked, waiting, context)
        self._check_agreement(asked, waiting, context)
        shares = self._shares_for(asked, waiting, context)
        self._waiting[context.digest] = None
        return self._seat.sign(b"reply", context, Reply(asked.present, shares).pack(context.cohort))

    def _agree(self, asked: Request, waiting: _Waiting, context: Context) -> bytes:
        if not self._settings.consistency:
            raise PeerError(AGGREGATOR, "asks for a signature where the settings have none")
        if waiting.agreed is not None:
            raise PeerError(AGGREGATOR, f"asks {self.me} a second time who is present in round {context.round}")
        waiting.agreed = asked.present
        return self._seat.sign(b"agreement", context, pack_set(asked.present, context.cohort))

    def _check_agreement(self, asked: Request, waiting: _Waiting, context: Context) -> None:
        """With consistency: at least ``threshold`` parties have signed the very set that is to be opened."""
        if not self._settings.consistency:
            if asked.signatures:
                raise PeerError(AGGREGATOR, "shows signatures where the settings have none")
            return
        if waiting.agreed != asked.present:
            raise PeerError(AGGREGATOR, f"asks {self.me} for shares over another set than it signed")
        if len(asked.signatures) < self._threshold:
            raise PeerError(AGGREGATOR, f"shows {len(asked.signatures)} signatures of {self._threshold} needed")
        agreement = pack_set(asked.present, context.cohort)
        for signer, signature in asked.signatures.items():
            if signer not in asked.present:
                raise PeerError(AGGREGATOR, f"shows a signature of {signer}, who is not present")
            try:
                open_message(self._roster, b"agreement", signer, context.digest, agreement + signature)
            except PeerError:
                raise PeerError(AGGREGATOR, f"shows a signature of {signer} that is not over this set") from None

    def _shares_for(self, asked: Request, waiting: _Waiting, context: Context) -> dict[PartyId, bytes]:
        """One share for each of the cohort: of a seed where present, of this round's mask key where absent."""
        shares = {self.me: waiting.own_share}
        book = self._book(context)
        for peer, box in asked.boxes.items():
            try:
                if peer in asked.present:
                    place = (context.round, context.attempt)
                    shares[peer] = self._channels.open(peer, Box.SEED_SHARE, place, context.digest, box)
                else:
                    place = (book.batch, 0)
                    batch = self._channels.open(peer, Box.MASK_KEY_SHARES, place, book.binding, box)
                    start = context.round % book.rounds * shamir.SHARE_BYTES
                    shares[peer] = batch[start : start + shamir.SHARE_BYTES]
            except ValueError as error:
                raise PeerError(AGGREGATOR, f"the request's box from {peer}: {error}") from None
        return shares

    def _book(self, context: Context) -> KeyBook:
        return _book_for(context, self._books, self._settings)

    def _split(self, secret: bytes) -> tuple[bytes, ...]:
        return shamir.split(secret, self._threshold, len(self._roster), self._seat.entropy)


@dataclass(frozen=True)
class _Hidden:
    """A pending sum as the collector holds it: added up, with all masks still on."""

    total: Vector
    payloads: Mapping[PartyId, Payload]
    leg: Leg


class PairwiseCollector:
    """Adds masked vectors, carries sealed shares to those they are for, and removes what masks remain."""

    def __init__(self, roster: Roster, settings: Settings, entropy: Entropy = secrets.token_bytes) -> None:
        self._threshold = settings.threshold_for(len(roster))
        self._session = Session(NAME, roster, settings.digest)
        self._settings = settings
        self._roster = roster
        self._index = {party: number for number, party in enumerate(roster, start=1)}
        self._books: dict[int, KeyBook] = {}
        self._grants: dict[tuple[int, PartyId], dict[PartyId, bytes]] = {}

    @property
    def session(self) -> bytes:
        """The session id."""
        return self._session.id

    def meet(self, hellos: Mapping[PartyId, bytes], grants: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Read everyone's public keys, and keep the boxes until they are needed for a recovery."""
        if batch in self._books:
            raise MisuseError(f"the parties have met for batch {batch} already")
        _, mask_keys = split_hello(self._session.greet(hellos, batch), batch)
        book = KeyBook.read(self.session, batch, self._settings.rounds_per_batch, hellos, mask_keys)
        _check_enough(book.members, tuple(self._roster), self._threshold)
        for party in sorted(grants):
            if party not in book.keys:
                raise PeerError(party, f"sent a grant but no hello for batch {batch}")
            body = open_message(self._roster, b"grant", party, book.binding, grants[party])
            self._grants[batch, party] = grant_boxes(body, party, book.members, book.rounds)
        self._books[batch] = book

    def combine(self, payloads: Mapping[PartyId, bytes], context: Context) -> Pending:
        """Add the masked vectors; whoever sent one is in the sum from here on."""
        book = _book_for(context, self._books, self._settings)
        book.check_cohort(context, self._threshold)
        present = check_senders(payloads, context)
        _check_enough(present, context.cohort, self._threshold)
        total = ring.zeros(context.values, context.limbs)
        read = {}
        for party in present:
            body = open_message(self._roster, b"payload", party, context.digest, payloads[party])
            payload = Payload.read(body, party, context)
            ring.add_into(total, ring.from_bytes(payload.masked, context.values, context.limbs))
            # The vector has done its work: what is kept is small.
            read[party] = Payload(memoryview(b""), payload.commitment, payload.boxes)
        unrecoverable = [p for p in context.cohort if p not in present and (book.batch, p) not in self._grants]
        if unrecoverable:
            # Its masks are in the sum and nobody holds shares of the key that would remove them.
            raise DropoutError(tuple(unrecoverable), len(present), len(context.cohort))
        leg = Leg.AGREE if self._settings.consistency else Leg.RELEASE
        hidden = _Hidden(total, read, leg)
        requests = {party: self._request(party, context, hidden, {}).pack(context.cohort) for party in present}
        return Pending(context, present, requests, hidden=hidden)

    def open(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> Total | Pending:
        """Recover the seeds and keys the replies have shares of, and take their masks off the sum."""
        if not isinstance(pending.hidden, _Hidden):
            raise MisuseError("this pending sum is not of this protocol")
        for party in sorted(replies):
            if party not in pending.requests:
                raise PeerError(party, "answered a request that was not made")
        if pending.hidden.leg is Leg.AGREE:
            return self._show_agreement(pending, pending.hidden, replies)
        shares = self._read_replies(pending, replies)
        _check_enough(tuple(sorted(replies)), tuple(pending.requests), self._threshold)
        total = pending.hidden.total.copy()
        plus, minus = self._remaining_masks(pending, pending.hidden, shares)
        ring.mask_into(total, plus, minus, self._settings.prg)
        return Total(total, pending.parties)

    def _request(
        self, party: PartyId, context: Context, hidden: _Hidden, signatures: Mapping[PartyId, bytes]
    ) -> Request:
        present = tuple(hidden.payloads)
        boxes: dict[PartyId, bytes] = {}
        if hidden.leg is Leg.RELEASE:
            batch = context.round // self._settings.rounds_per_batch
            for peer in context.cohort:
                if peer != party:
                    source = hidden.payloads[peer].boxes if peer in present else self._grants[batch, peer]
                    boxes[peer] = source[party]
        return Request(hidden.leg, present, signatures, boxes)

    def _show_agreement(self, pending: Pending, hidden: _Hidden, replies: Mapping[PartyId, bytes]) -> Pending:
        """Collect the signatures over the present set, and show them to everyone who gave one."""
        context = pending.context
        agreement = pack_set(pending.parties, context.cohort)
        signatures = {}
        for party in sorted(replies):
            body = open_message(self._roster, b"agreement", party, context.digest, replies[party])
            if body != agreement:
                raise PeerError(party, "signed another set of parties than it was asked about")
            signatures[party] = replies[party][-SIGNATURE_BYTES:]
        _check_enough(tuple(signatures), tuple(pending.requests), self._threshold)
        agreed = _Hidden(hidden.total, hidden.payloads, Leg.RELEASE)
        requests = {
            party: self._request(party, context, agreed, signatures).pack(context.cohort) for party in signatures
        }
        return Pending(context, pending.parties, requests, hidden=agreed)

    def _read_replies(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> dict[PartyId, dict[int, bytes]]:
        """Shares by whose secret they are of, and by index."""
        context = pending.context
        shares: dict[PartyId, dict[int, bytes]] = {party: {} for party in context.cohort}
        for party in sorted(replies):
            body = open_message(self._roster, b"reply", party, context.digest, replies[party])
            reply = Reply.read(body, party, context.cohort)
            if reply.present != pending.parties:
                raise PeerError(party, "answered for another set of parties than it was asked about")
            for owner, share in reply.shares.items():
                shares[owner][self._index[party]] = share
        return shares

    def _remaining_masks(
        self, pending: Pending, hidden: _Hidden, shares: Mapping[PartyId, Mapping[int, bytes]]
    ) -> tuple[list[bytes], list[bytes]]:
        """The keystream keys that must still be added to the sum, and those that must be subtracted."""
        context = pending.context
        book = _book_for(context, self._books, self._settings)
        plus: list[bytes] = []
        minus: list[bytes] = []
        for party in pending.parties:
            seed = self._recover(party, shares[party], _opens(hidden.payloads[party].commitment, party, context))
            minus.append(self_mask_key(seed, party, context))
        for absent in (party for party in context.cohort if party not in pending.parties):
            private = self._recover(absent, shares[absent], _is_behind(book.public(absent, context.round)))
            for party in pending.parties:
                key = pair_mask_key(AgreementKey(private), absent, party, book, context)
                (minus if party < absent else plus).append(key)
        return plus, minus

    def _recover(self, owner: PartyId, shares: Mapping[int, bytes], accepts: shamir.Accepts) -> bytes:
        """A secret of the owner's from its shares, checked against what the owner published."""
        try:
            return shamir.combine(shares, self._threshold, accepts)
        except shamir.ShareError as error:
            if error.bad:
                names = [party for party in self._roster if self._index[party] in error.bad]
                raise PeerError(names[0], f"the share of {owner}'s secret from {', '.join(names)} is false") from None
            raise IntegrityError(f"the secret of {owner} can't be recovered: {error}") from None


def _book_for(context: Context, books: Mapping[int, KeyBook], settings: Settings) -> KeyBook:
    batch = context.round // settings.rounds_per_batch
    if batch not in books:
        raise MisuseError(f"round {context.round} needs the keys of batch {batch}: hello and meet come first")
    return books[batch]


def _check_enough(present: tuple[PartyId, ...], expected: tuple[PartyId, ...], threshold: int) -> None:
    if len(present) < threshold:
        raise DropoutError(tuple(party for party in expected if party not in present), len(present), threshold)


def _opens(commitment: bytes, owner: PartyId, context: Context) -> shamir.Accepts:
    """Whether a seed is the one its owner committed to."""
    return lambda seed: commit(seed, owner, context) == commitment


def _is_behind(public: bytes) -> shamir.Accepts:
    """Whether a private key is the one behind a published key."""
    return lambda private: AgreementKey(private).public == public
