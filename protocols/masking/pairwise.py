"""Sums under pairwise masks that survive dropouts (Bonawitz et al., CCS 2017; Bell et al., CCS 2020): a party's end.

Promises: the exact ring sum over the parties that sent a payload, as long as ``threshold`` of them also
help to open it. An honest-but-curious aggregator with fewer than ``threshold`` colluding sites learns
that sum, that set, and nothing else; with ``Settings.consistency`` an active one with c colluding sites
learns no more if 2 * threshold > parties + c. Where not everybody is everybody's neighbour, both further
need the colluders to be fewer than `Room.share_threshold`. Refuses to know: what the numbers mean.

Party u adds the mask it shares with neighbour v if u < v, subtracts it otherwise, and adds a mask of its own. The
masks between those present cancel in the sum. To remove the rest the present parties release shares: of
the own mask's seed for each present party, of the secret that opens its seeds of that one round for each
absent one, and never both for one party.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from protocols.masking.mask_keys import Ledger, MaskKeys, commit, self_mask_key
from protocols.masking.pairwise_collector import PairwiseCollector
from protocols.masking.pairwise_messages import (
    NO_FINGERPRINT,
    NO_SHARE,
    Leg,
    Reply,
    Request,
    pack_set,
    pack_tail,
    tail_bytes,
)
from protocols.masking.pairwise_room import NAME, Room
from protocols.masking.round_seeds import PairSeeds, RoundSecrets, fingerprints, pair_mask_keys, wrapped
from protocols.primitives import ring, shamir
from protocols.primitives.keys import KEY_BYTES, Secret
from protocols.secure_sum import AGGREGATOR, Context, MisuseError, PartyId, PeerError, Vector
from protocols.sessions.channels import Box, Channels
from protocols.sessions.drafts import Lender
from protocols.sessions.session import Seat, Seated, open_message

__all__ = ["PairwiseCollector", "PairwiseParty"]


@dataclass(repr=False)
class _Waiting(Secret):
    """What a party remembers of a sum between its payload and its answer."""

    own_share: bytes
    fingerprints: Mapping[PartyId, bytes]
    """Of the seeds it used, by neighbour: told of those that turn out to be absent."""
    agreed: tuple[PartyId, ...] | None = None


class PairwiseParty(Seated, Secret):
    """Masks its vector, and helps to remove the masks of those present or absent: one of the two."""

    protocol = NAME

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat)
        self._room = Room(self._roster, self._settings, seat.demands)
        self._channels = Channels(seat.me, seat.entropy)
        self._mask_keys = MaskKeys(seat.entropy)
        self._secrets = RoundSecrets(seat.me, self._settings.rounds_per_batch, seat.entropy)
        self._seeds = PairSeeds()
        self._ledger = Ledger()
        self._waiting: dict[bytes, _Waiting | None] = {}
        self._lender = Lender()

    def hello(self, batch: int = 0) -> bytes:
        """A nonce, the channel key (first batch), a mask key, and a commitment for each round of the batch."""
        channel = self._channels.public if batch == 0 else b""
        return self._seat.hello(batch, channel + self._mask_keys.publish(batch) + self._secrets.publish(batch))

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Agree with each neighbour who said hello, and share what opens one round's seeds each: in sealed boxes.

        The batch's mask key and these secrets are gone from this process then. Raises `DropoutError`, and has not met
        the others, where too few neighbours said hello to open them.
        """
        if self._room.met(batch):
            raise MisuseError(f"{self.me} has met the others for batch {batch} already")
        greetings = self._seat.meet(hellos, batch, self._room.near(self.me, hellos))
        self._room.check_holders(self.me, hellos)
        channel_keys = self._room.meet(self.session, batch, hellos, greetings)
        if batch == 0:
            near = self._room.graph.among(self.me, self._roster)
            self._channels.meet(self.session, {peer: channel_keys[peer] for peer in near})
        book, prg = self._room.batch(batch), self._settings.prg
        near = self._room.graph.among(self.me, book.keys)
        seeds = self._seeds.agree(self._mask_keys.take(batch), self.me, near, book, prg)
        secrets = self._secrets.take(batch)
        split = self._split(secrets, book.keys)
        boxes = []
        for peer in near:
            shares = b"".join(shares[peer] for shares in split)
            boxes.append(self._channels.seal(peer, Box.ROUND_SECRET_SHARES, (batch, 0), book.binding, shares))
        wraps = wrapped(seeds, secrets, self.me, book, prg)
        return self._seat.sign_bound(b"grant", book.binding, b"".join((*boxes, *wraps)))

    def lend(self, context: Context) -> Vector:
        """Memory for the vector of the next `protect`, if it is of this context; that overwrites what is there."""
        self._seat.check(context)
        return self._lender.lend(context, tail_bytes(len(self._room.graph.among(self.me, context.members))))

    def protect(self, vector: Vector, context: Context) -> bytes:
        """The vector under all its masks, with the own mask's seed shared among the neighbours.

        Uses up this round's seeds of pairs. Afterwards this process holds neither these nor its own.
        """
        context.check_vector(vector)
        self._seat.check(context)
        book = self._room.book(context)
        book.check_cohort(context, self._room.threshold)
        peers = self._room.graph.among(self.me, context.members)
        if len(peers) + 1 < self._room.share_threshold:
            raise MisuseError(f"only {len(peers)} neighbours of {self.me} are in the cohort: too few to open its mask")
        self._seat.enter(context)
        taken = self._seeds.take(context.round)
        self._ledger.note("pair mask", context.round, context.digest)
        seeds = {peer: taken[peer] for peer in peers}
        keys = pair_mask_keys(seeds, self.me, context)
        plus = [key for peer, key in keys.items() if self.me < peer]
        minus = [key for peer, key in keys.items() if self.me > peer]
        self._ledger.note("self mask", context.round, context.digest)
        seed = self._seat.entropy(KEY_BYTES)
        plus.append(self_mask_key(seed, self.me, context))
        shares = self._split([seed], context.members)[0]
        place = (context.round, context.attempt)
        boxes = {peer: self._channels.seal(peer, Box.SEED_SHARE, place, context.digest, shares[peer]) for peer in peers}
        self._waiting[context.digest] = _Waiting(shares[self.me], fingerprints(seeds, self.me, context))
        tail = pack_tail(commit(seed, self.me, context), boxes)
        draft = self._lender.take(vector, context, len(tail))
        del vector
        ring.mask_into(draft.vector, plus, minus, self._settings.prg)
        draft.body[draft.vector.nbytes :] = tail
        return self._seat.sign_draft(b"payload", context, draft)

    def assist(self, request: bytes, context: Context) -> bytes:
        """Agree to the set of those present, or release the shares that open the sum over that set.

        A request that does not hold up raises `PeerError` naming the aggregator, and nothing is released.
        """
        self._seat.check(context)
        if context.digest not in self._waiting:
            raise PeerError(AGGREGATOR, f"asks {self.me} to open a sum it sent no payload for")
        waiting = self._waiting[context.digest]
        if waiting is None:
            raise PeerError(AGGREGATOR, f"asks {self.me} to open round {context.round} a second time")
        near = self._room.graph.among(self.me, context.members)
        rounds, boxed = self._settings.rounds_per_batch, self._room.graph.complete
        asked = Request.read(request, near, context.cohort, rounds, boxed=boxed)
        if self.me not in asked.present:
            raise PeerError(AGGREGATOR, f"asks {self.me} for help with a sum that leaves it out")
        least = self._room.threshold
        if len(asked.present) < least:
            raise PeerError(AGGREGATOR, f"wants to open a sum of {len(asked.present)}: the threshold is {least}")
        if not self._room.holds_together(asked.present):
            raise PeerError(
                AGGREGATOR,
                "wants to open a sum over parties with so few neighbours left that fewer than "
                f"{self._room.share_threshold} colluding ones could split it",
            )
        if asked.leg is Leg.AGREE:
            return self._agree(asked, waiting, context)
        here = frozenset(asked.present)
        absent = [peer for peer in asked.boxes if peer not in here]
        if self._enough_agreed(asked, waiting, context):
            shares = self._shares_for(asked, waiting, context)
            shown = {peer: waiting.fingerprints[peer] for peer in absent}
        else:
            shares = dict.fromkeys((self.me, *asked.boxes), NO_SHARE)
            shown = dict.fromkeys(absent, NO_FINGERPRINT)
        if not self._settings.consistency:
            self._seat.demands.check_opening(context, asked.present)
        self._waiting[context.digest] = None
        return self._seat.sign(b"reply", context, Reply(asked.present, shares, shown).pack(context.cohort))

    def _agree(self, asked: Request, waiting: _Waiting, context: Context) -> bytes:
        """This party's word on the set: to the collector by a signature, to each other one there in a box.

        Where not everybody is everybody's neighbour there are no boxes, and the signature serves for all.
        """
        if not self._settings.consistency:
            raise PeerError(AGGREGATOR, "asks for an agreement where the settings have none")
        if waiting.agreed is not None:
            raise PeerError(AGGREGATOR, f"asks {self.me} a second time who is present in round {context.round}")
        # This word is what helps to open the sum: shares are given for this very set or for none.
        self._seat.demands.check_opening(context, asked.present)
        waiting.agreed = asked.present
        agreement, place = pack_set(asked.present, context.cohort), (context.round, context.attempt)
        peers = [peer for peer in asked.present if peer != self.me] if self._room.graph.complete else []
        boxes = (self._channels.seal(peer, Box.AGREED_SET, place, context.digest, agreement) for peer in peers)
        return self._seat.sign(b"agreement", context, agreement, *boxes)

    def _enough_agreed(self, asked: Request, waiting: _Waiting, context: Context) -> bool:
        """Whether a threshold of parties, this one among them, agreed to the very set that is to be opened.

        A box that does not open counts for nobody: whoever sealed it spoiled it, or the aggregator, and who refused
        all for it would be silenced by either. What the aggregator alone can have done raises `PeerError`.
        """
        if not self._settings.consistency:
            if asked.agreed:
                raise PeerError(AGGREGATOR, "shows agreements where the settings have none")
            return True
        if waiting.agreed != asked.present:
            raise PeerError(AGGREGATOR, f"asks {self.me} for shares over another set than it agreed to")
        everyone = {self.me, *asked.agreed}
        for peer in everyone.difference(asked.present):
            raise PeerError(AGGREGATOR, f"shows an agreement of {peer}, who is not present")
        if len(everyone) < self._room.threshold:
            raise PeerError(AGGREGATOR, f"shows {len(everyone)} agreements of {self._room.threshold} needed")
        if not self._room.graph.complete:
            self._check_signatures(asked, context)
            return True
        agreement, place = pack_set(asked.present, context.cohort), (context.round, context.attempt)
        holding = 1
        for peer in everyone - {self.me}:
            with suppress(ValueError):
                told = self._channels.open(peer, Box.AGREED_SET, place, context.digest, asked.agreed[peer])
                holding += told == agreement
        return holding >= self._room.threshold

    def _check_signatures(self, asked: Request, context: Context) -> None:
        agreement = pack_set(asked.present, context.cohort)
        for signer, signature in asked.agreed.items():
            try:
                open_message(self._roster, b"agreement", signer, context.digest, agreement + signature)
            except PeerError:
                raise PeerError(AGGREGATOR, f"shows a signature of {signer} that is not over this set") from None

    def _shares_for(self, asked: Request, waiting: _Waiting, context: Context) -> dict[PartyId, bytes]:
        """A share for itself and each neighbour: of the seed if present, of this round's secret if absent.

        `NO_SHARE` where a box does not open: the peer sealed nonsense, or the aggregator changed it, and this party
        can't tell which. Where none opens the request belongs to no sum of this party's.
        """
        shares = {self.me: waiting.own_share}
        book, present = self._room.book(context), frozenset(asked.present)
        failures = []
        for peer, box in asked.boxes.items():
            try:
                if peer in present:
                    place = (context.round, context.attempt)
                    shares[peer] = self._channels.open(peer, Box.SEED_SHARE, place, context.digest, box)
                else:
                    place = (book.batch, 0)
                    batch = self._channels.open(peer, Box.ROUND_SECRET_SHARES, place, book.binding, box)
                    start = context.round % book.rounds * shamir.SHARE_BYTES
                    shares[peer] = batch[start : start + shamir.SHARE_BYTES]
            except ValueError as error:
                shares[peer] = NO_SHARE
                failures.append(f"the request's box from {peer}: {error}")
        if len(failures) == len(asked.boxes):
            raise PeerError(AGGREGATOR, failures[0])
        return shares

    def _split(self, secrets: Sequence[bytes], those: Container[PartyId]) -> list[dict[PartyId, bytes]]:
        """Shares of each of this party's secrets for itself and its neighbours among those given."""
        index = {party: self._room.graph.index[party] for party in self._room.holders(self.me, those)}
        split = shamir.split_all(secrets, self._room.share_threshold, index.values(), self._seat.entropy)
        return [{party: shares[number] for party, number in index.items()} for shares in split]
