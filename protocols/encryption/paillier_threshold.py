"""Threshold Paillier: the private key is shared among the sites, and enough of them open the sum together.

Promises: an opened total is the exact ring sum over its parties; fewer than the threshold of sites, together
with the aggregator, learn that sum and who is in it, and no more; a false partial decryption is refused and its
sender named. The key-dealer makes the key, hands every site its share in a sealed box when all meet, and
forgets; it is asked nothing ever after. Refuses to know: a party that holds the whole key.

One sum::

    payload = each site.protect(vector, context)           packed, encrypted, proved: as in `encryption.paillier`
    pending = collector.combine(payloads, context)         verified and multiplied; every site in it is asked
    partial = each site.assist(request, context)           the same once more, then raised to the site's share
    total   = collector.open(pending, partials)            proofs checked, combined, unpacked
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NoReturn

from protocols.encryption.packing import Packing
from protocols.encryption.paillier import PaillierParty, read_payloads
from protocols.encryption.paillier_messages import Terms, boxes_from_bytes, boxes_to_bytes, product, table_from_bytes
from protocols.primitives.keys import Secret, parts
from protocols.primitives.paillier import big_numbers
from protocols.primitives.paillier.paillier_keys import PrivateKey
from protocols.primitives.paillier.safe_primes import usual_tries
from protocols.primitives.paillier.threshold_keys import (
    FalsePartialError,
    KeyShare,
    ThresholdKey,
    deal,
    search_safe_key,
)
from protocols.secure_sum import (
    AGGREGATOR,
    KEY_DEALER,
    Context,
    DropoutError,
    MisuseError,
    PartyId,
    PeerError,
    Pending,
    Total,
    Vector,
    sha256,
    silent,
)
from protocols.sessions.channels import PUBLIC_BYTES, Box, Channels, channel_key
from protocols.sessions.session import Collecting, Greeting, Seat, Seated, Session, met, open_message

NAME = "paillier-threshold"

_DEALT = b"paillier dealt"
_PARTIAL = b"paillier partial"
_AT_MEETING = (0, 0)
_AT_ONCE = 1000


class KeyDealer(Seated, Secret):
    """Makes the key and hands out its shares, once; afterwards it holds nothing and answers nothing."""

    protocol = NAME

    def __init__(self, seat: Seat, *, private: PrivateKey | None = None) -> None:
        """Take a key for tests, or else search for one from safe primes later. The name must be `KEY_DEALER`."""
        super().__init__(seat)
        if self.me != KEY_DEALER:
            raise MisuseError(f"{self.me} can't deal the key: that is the role of the {KEY_DEALER} alone")
        self._terms = Terms(self._roster, self._settings, KEY_DEALER, seat.demands)
        if private is not None:
            self._terms.refuse_key(private.public)
        self._channels: Channels | None = Channels(seat.me, seat.entropy)
        self._tries: Iterator[PrivateKey | None] = (
            search_safe_key(self._terms.key_bits, seat.entropy) if private is None else iter((private,))
        )
        self._shares: tuple[int, ...] | None = None
        self._body = b""

    @property
    def usual_tries(self) -> int:
        """How many candidates are tested on average until there are two safe primes."""
        return 2 * usual_tries(self._terms.key_bits // 2)

    def search(self, most: int) -> int:
        """Test up to ``most`` candidates for the key's primes; how many were tested, 0 once the key is dealt."""
        tried = 0
        for found in islice(self._tries, most):
            tried += 1
            if found is not None:
                # The private key and its primes end with this function; the shares end with the meeting.
                self._tries = iter(())
                key, self._shares = deal(found, self._terms.threshold, len(self._terms.sites), self._seat.entropy)
                self._body = self._agreeing().public + key.to_bytes()
        return tried

    def hello(self, batch: int = 0) -> bytes:
        """A nonce, a channel key and the public half of the shared key, signed. For the first batch alone."""
        if batch != 0:
            raise MisuseError(f"the {KEY_DEALER} is met in the first batch alone")
        self._agreeing()
        while self.search(_AT_ONCE):
            pass
        return self._seat.hello(batch, self._body)

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Seal each site's share for that site, and forget them all."""
        channels, shares = self._agreeing(), self._shares
        if shares is None:
            raise MisuseError(f"the {KEY_DEALER} has no key yet: hello comes first")
        greetings = self._seat.meet(hellos, batch)
        sites, width = self._terms.sites, self._terms.key_bits // 8
        channels.meet(self.session, {site: _channel_key(site, greetings[site]) for site in sites})
        binding = _binding(self.session, self._body)
        boxes = [
            channels.seal(site, Box.KEY_SHARE, _AT_MEETING, binding, int(share).to_bytes(width, "big"))
            for site, share in zip(sites, shares, strict=True)
        ]
        self._channels, self._shares = None, None
        return self._seat.sign_bound(_DEALT, binding, boxes_to_bytes(boxes))

    def _agreeing(self) -> Channels:
        if self._channels is None:
            raise MisuseError(f"the {KEY_DEALER} has dealt, and is gone")
        return self._channels

    def protect(self, vector: Vector, context: Context) -> NoReturn:
        """Refuse: the dealer has no data."""
        raise MisuseError(f"the {KEY_DEALER} sends no vector: it belongs to no cohort")

    def assist(self, request: bytes, context: Context) -> NoReturn:
        """Refuse: the dealer holds nothing that could open anything."""
        raise PeerError(AGGREGATOR, f"the {KEY_DEALER} is asked nothing after the meeting")


class ThresholdParty(PaillierParty):
    """A site: encrypts its vector, and decrypts its part of a sum only after recomputing that sum."""

    protocol = NAME
    helper = KEY_DEALER

    def __init__(self, seat: Seat, *, n_jobs: int = 1) -> None:
        super().__init__(seat, n_jobs=n_jobs)
        seat.demands.check_one_set()
        self._channels = Channels(seat.me, seat.entropy)
        self._shared: ThresholdKey | None = None
        self._dealt_binding = b""
        self._share: KeyShare | None = None

    def hello(self, batch: int = 0) -> bytes:
        """A nonce and a channel key, signed; in later batches the nonce alone."""
        return self._seat.hello(batch, self._channels.public if batch == 0 else b"")

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Learn the session id and the shared key's public half; the share comes with the first request."""
        greetings = self._seat.meet(hellos, batch)
        if batch == 0:
            channel, body, self._shared = _dealers_greeting(greetings, self._terms)
            self._channels.meet(self.session, {KEY_DEALER: channel})
            self._dealt_binding = _binding(self.session, body)
            self._use(self._shared.public)
        return b""

    def assist(self, request: bytes, context: Context) -> bytes:
        """This site's partial decryptions of the sum over the present set, and the proof that they are right.

        Refuses with `PeerError(AGGREGATOR, reason)`. What holds afterwards: this site helps to open no other sum
        in this round and attempt.
        """
        packing, shared = self._terms.packing(context, self.session), met(self._shared)
        if context.digest not in self._sent:
            raise MisuseError(f"{self.me} has sent nothing for round {context.round} attempt {context.attempt}")
        try:
            box, payloads = table_from_bytes(request)
            self._refuse_sum(payloads, context)
            columns = read_payloads(self._roster, shared.public, packing, payloads, context, own=self.me)
            share = self._share or self._open_share(box, shared)
        except ValueError as error:
            raise PeerError(AGGREGATOR, str(error)) from None
        except PeerError as error:
            raise PeerError(AGGREGATOR, f"passed on a message of {error.sender} that {error.reason}") from None
        self._share = share
        self._seat.answer_once(context, request, tuple(payloads))
        partials, proof = share.open(product(columns, shared.public.n), context.digest, self.n_jobs)
        return self._seat.sign(
            _PARTIAL, context, proof + big_numbers.to_buffer(partials, shared.public.plaintext_bytes)
        )

    def _open_share(self, box: bytes, shared: ThresholdKey) -> KeyShare:
        """This site's share out of the dealer's box. Raises `ValueError` for any other box."""
        dealt = self._channels.open(KEY_DEALER, Box.KEY_SHARE, _AT_MEETING, self._dealt_binding, box)
        return KeyShare(shared, self._terms.sites.index(self.me) + 1, int.from_bytes(dealt, "big"))


class _Multiplied(Secret):
    """What the collector keeps while it waits: the product, and how it is packed."""

    def __init__(self, packing: Packing, ciphertexts: list[int]) -> None:
        self.packing = packing
        self.ciphertexts = ciphertexts


class ThresholdCollector(Collecting):
    """The aggregator's end: multiplies ciphertexts it can't open, and combines partial decryptions it has checked."""

    protocol = NAME

    def __init__(self, session: Session, *, n_jobs: int = 1) -> None:
        super().__init__(session)
        self._terms = Terms(self._roster, self._settings, KEY_DEALER)
        self._shared: ThresholdKey | None = None
        self._boxes: dict[PartyId, bytes] = {}
        self.n_jobs = n_jobs

    def meet(self, hellos: Mapping[PartyId, bytes], grants: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Learn the session id and the public half of the key; keep the dealer's boxes, one for each site."""
        greetings = self._session.greet(hellos, batch)
        if batch != 0:
            return
        _, body, shared = _dealers_greeting(greetings, self._terms)
        if KEY_DEALER not in grants:
            raise DropoutError((KEY_DEALER,), 0, 1)
        dealt = open_message(self._roster, _DEALT, KEY_DEALER, _binding(self.session, body), grants[KEY_DEALER])
        try:
            boxes = boxes_from_bytes(dealt, len(self._terms.sites))
        except ValueError as error:
            raise PeerError(KEY_DEALER, str(error)) from None
        self._boxes = dict(zip(self._terms.sites, boxes, strict=True))
        self._shared = shared

    def combine(self, payloads: Mapping[PartyId, bytes], context: Context) -> Pending:
        """Multiply what arrived, and ask every site in it to decrypt its part."""
        packing, shared = self._terms.packing(context, self.session), met(self._shared)
        present = context.senders(payloads)
        if len(present) < self._terms.threshold:
            raise DropoutError(silent(context.cohort, payloads), len(present), self._terms.threshold)
        columns = read_payloads(self._roster, shared.public, packing, payloads, context)
        shown = [field for party in present for field in (party.encode(), payloads[party])]
        requests = {party: parts(self._boxes[party], *shown) for party in present}
        hidden = _Multiplied(packing, product(columns, shared.public.n_squared))
        return Pending(context, present, requests, hidden)

    def open(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> Total:
        """Check every partial decryption, combine a threshold of them, unpack.

        Raises `PeerError` naming who sent a false one; the sum can then be opened without that reply. Where all
        are true and open nothing, it names the key-dealer.
        """
        hidden, shared = pending.kept(_Multiplied), met(self._shared)
        pending.check_replies(replies)
        partials = {}
        for sender in sorted(replies):
            holder = self._terms.sites.index(sender) + 1
            partials[holder] = self._partials(sender, holder, replies[sender], pending.context, hidden.ciphertexts)
        threshold = self._terms.threshold
        if len(partials) < threshold:
            raise DropoutError(silent(pending.parties, replies), len(partials), threshold)
        enough = {holder: partials[holder] for holder in sorted(partials)[:threshold]}
        try:
            plaintexts = shared.combine(hidden.ciphertexts, enough, self.n_jobs)
        except FalsePartialError:
            # Every one of them was proved to be what its sender's share gives: so the shares themselves are wrong.
            raise PeerError(KEY_DEALER, "dealt shares that do not open the sum together") from None
        return Total(hidden.packing.unpack(plaintexts, len(pending.parties)), pending.parties)

    def _partials(
        self, sender: PartyId, holder: int, reply: bytes, context: Context, ciphertexts: list[int]
    ) -> list[int]:
        """One site's partial decryptions, proved. Raises `PeerError` naming it otherwise."""
        shared = met(self._shared)
        body = open_message(self._roster, _PARTIAL, sender, context.digest, reply)
        proof, data, width = body[: shared.proof_bytes], body[shared.proof_bytes :], shared.public.plaintext_bytes
        if len(body) != shared.proof_bytes + len(ciphertexts) * width:
            raise PeerError(sender, f"{len(body)} bytes can't be {len(ciphertexts)} partial decryptions and a proof")
        partials = big_numbers.from_buffer(data, width)
        try:
            shared.verify(holder, context.digest, ciphertexts, partials, bytes(proof))
        except FalsePartialError as error:
            raise PeerError(sender, str(error)) from None
        return partials


def _channel_key(party: PartyId, greeting: Greeting) -> bytes:
    if len(greeting.body) != PUBLIC_BYTES:
        raise PeerError(party, "its hello does not hold a channel key and nothing else")
    return channel_key(party, bytes(greeting.body))


def _dealers_greeting(greetings: Mapping[PartyId, Greeting], terms: Terms) -> tuple[bytes, bytes, ThresholdKey]:
    """The dealer's channel key, the whole body of its hello, and the shared key in it."""
    body = bytes(greetings[KEY_DEALER].body)
    for site in terms.sites:
        _channel_key(site, greetings[site])
    try:
        shared = ThresholdKey.from_bytes(body[PUBLIC_BYTES:], terms.key_bits, len(terms.sites))
    except ValueError as error:
        raise PeerError(KEY_DEALER, str(error)) from None
    return channel_key(KEY_DEALER, body[:PUBLIC_BYTES]), body, shared


def _binding(session: bytes, body: bytes) -> bytes:
    """What the dealer's boxes belong to: this session and this very key."""
    return sha256(b"secirls paillier dealt v1", session, body)
