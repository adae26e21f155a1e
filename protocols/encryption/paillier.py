"""Packed Paillier: the collector multiplies ciphertexts, a key-holder apart from it opens the blinded sum.

Promises: an opened total is the exact ring sum over its parties; the aggregator learns that sum and who is
in it, and no more with fewer than a threshold of sites' help; the key-holder alone learns nothing, and decrypts only
what a threshold of sites signed after recomputing it, each from payloads that prove to be their senders' own.
Key-holder and aggregator together, or key-holder and one site, can open every payload they have: keep them
apart. `README.md` has messages, claims and non-claims.
Refuses to know: an aggregator that holds the private key. There is no way to construct one.

One sum::

    payload = each site.protect(vector, context)           packed, encrypted, proved, signed
    pending = collector.combine(payloads, context)         verified, multiplied, blinded; every site in it is asked
    consent = each site.assist(request, context)           proofs verified, product and blind recomputed, then signed
    pending = collector.open(pending, consents)            enough consents: the key-holder is asked
    opened  = key_holder.assist(request, context)          decrypts what the sites signed
    total   = collector.open(pending, {KEY_HOLDER: opened})
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import fields
from typing import ClassVar, NoReturn

from protocols.encryption.packing import Packing
from protocols.encryption.paillier_messages import (
    SEED_BYTES,
    Contributions,
    Mandate,
    Terms,
    blinded_product,
    blinds,
    decision_digest,
    read_ciphertexts,
    read_plaintexts,
)
from protocols.primitives.keys import KEY_BYTES, Entropy, Secret, parts
from protocols.primitives.keystream import Prg
from protocols.primitives.paillier import big_numbers, plaintext_knowledge
from protocols.primitives.paillier.obfuscators import Obfuscators
from protocols.primitives.paillier.paillier_keys import PrivateKey, PublicKey, make_key
from protocols.primitives.paillier.plaintext_knowledge import Statement
from protocols.secure_sum import (
    AGGREGATOR,
    KEY_HOLDER,
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
from protocols.sessions.session import Collecting, Greeting, Roster, Seat, Seated, Session, met, open_message

NAME = "paillier"

_PAYLOAD = b"paillier payload v2"
_CONSENT = b"paillier consent"
_OPENED = b"paillier opened"
_WITHOUT_NAME = ": some site, which nobody can name, spoiled this sum; a fit with --obfuscation djn can't be ended so"


class PaillierParty(Seated, Secret):
    """A site: encrypts its vector, and signs a decryption only after recomputing what it opens."""

    protocol = NAME
    helper: ClassVar[PartyId] = KEY_HOLDER
    """Who makes the key."""

    def __init__(self, seat: Seat, *, n_jobs: int = 1) -> None:
        super().__init__(seat)
        self._terms = Terms(self._roster, self._settings, self.helper, seat.demands)
        if self.me not in self._terms.sites:
            raise MisuseError(f"{self.me} is no site of this roster: the {self.helper} is a role of its own")
        self._public: PublicKey | None = None
        self._obfuscators: Obfuscators | None = None
        self._mask_key = b""
        self._sent: dict[bytes, bytes] = {}
        self.n_jobs = n_jobs

    def hello(self, batch: int = 0) -> bytes:
        """A nonce, signed; a site has no key of its own here."""
        return self._seat.hello(batch)

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Learn the session id and the key-holder's public key; there is nothing to grant."""
        greetings = self._seat.meet(hellos, batch)
        self._use(_public_key(greetings, self._terms, self._public))
        return b""

    def _use(self, public: PublicKey) -> None:
        """Encrypt under this key from now on."""
        self._public = public
        if self._obfuscators is None:
            self._obfuscators = Obfuscators(public, self._settings.obfuscation, self._seat.entropy)
            # Drawn here and not with each proof: random bytes are drawn in one order, work ahead or not.
            self._mask_key = self._seat.entropy(KEY_BYTES)

    def precompute(self, values: int, limbs: int = 2, most: int | None = None) -> int:
        """Stock up obfuscators until a vector of that many values needs no more; returns how many were made.

        At most ``most`` of them now. What a later `protect` sends is the same with and without: the random bytes
        are drawn in one order.
        """
        obfuscators = met(self._obfuscators)
        missing = max(0, self._terms.packing_of(values, limbs).plaintexts - len(obfuscators))
        made = missing if most is None else min(missing, most)
        obfuscators.prepare(made, self.n_jobs)
        return made

    def protect(self, vector: Vector, context: Context) -> bytes:
        """The packed vector's ciphertexts, with a proof that this site knows what is in them, signed.

        Only the key-holder could open them.
        """
        context.check_vector(vector)
        packing, public, obfuscators = self._terms.packing(context, self.session), self._key(), met(self._obfuscators)
        self._seat.enter(context)
        hiding = obfuscators.take(packing.plaintexts, self.n_jobs)
        plaintexts = packing.pack(vector)
        ciphertexts = [
            public.nude(plaintext) * obfuscator % public.n_squared
            for plaintext, obfuscator in zip(plaintexts, hiding.values, strict=True)
        ]
        known = knowledge(public, ciphertexts, self.me, context)
        proof = plaintext_knowledge.prove(known, plaintexts, hiding.root, self._mask_key)
        payload = self._seat.sign(_PAYLOAD, context, big_numbers.to_buffer(ciphertexts, public.ciphertext_bytes), proof)
        self._sent[context.digest] = sha256(b"secirls paillier sent v1", payload)
        return payload

    def assist(self, request: bytes, context: Context) -> bytes:
        """Sign that the blinded ciphertexts are the product over the present set, having recomputed it.

        Refuses with `PeerError(AGGREGATOR, reason)`. What holds afterwards: the key-holder opens no
        other sum in this context, as long as fewer than the threshold of sites sign what is not true.
        """
        packing, public = self._terms.packing(context, self.session), self._key()
        if context.digest not in self._sent:
            raise MisuseError(f"{self.me} has sent nothing for round {context.round} attempt {context.attempt}")
        try:
            asked = Contributions.from_bytes(request)
            decision = self._recompute(asked, packing, public, context)
        except ValueError as error:
            raise PeerError(AGGREGATOR, str(error)) from None
        except PeerError as error:
            raise PeerError(AGGREGATOR, f"passed on a payload of {error.sender} that {error.reason}") from None
        if decision != asked.decision:
            raise PeerError(AGGREGATOR, "what shall be opened is not the blinded product of the payloads")
        self._seat.answer_once(context, request, tuple(asked.payloads))
        return self._seat.sign(_CONSENT, context, decision)

    def _recompute(self, asked: Contributions, packing: Packing, public: PublicKey, context: Context) -> bytes:
        """What this site would sign. Raises `ValueError` unless enough sites are in it, this one unchanged."""
        self._refuse_sum(asked.payloads, context)
        present = tuple(asked.payloads)
        columns = read_payloads(self._roster, public, packing, asked.payloads, context, own=self.me)
        return decision_digest(_blinded(public, columns, asked.seed, context, self._settings.prg), present)

    def _refuse_sum(self, payloads: Mapping[PartyId, bytes], context: Context) -> None:
        """Raise `ValueError` unless enough sites are in the sum, and this one with the very payload it sent."""
        self._terms.refuse_set(tuple(payloads), context)
        own = payloads.get(self.me)
        if own is None or sha256(b"secirls paillier sent v1", own) != self._sent[context.digest]:
            raise ValueError(f"the payload of {self.me} is missing from the sum, or was altered")

    def _key(self) -> PublicKey:
        return met(self._public)


class KeyHolder(Seated, Secret):
    """Holds the private key, in a process of its own, and opens what enough sites have signed."""

    protocol = NAME

    def __init__(self, seat: Seat, *, n_jobs: int = 1, private: PrivateKey | None = None) -> None:
        """Make a fresh key, or take one for tests. The name must be `KEY_HOLDER`: nobody else may have a key."""
        super().__init__(seat)
        if self.me != KEY_HOLDER:
            raise MisuseError(f"{self.me} can't hold the private key: that is the role of the {KEY_HOLDER} alone")
        self._terms = Terms(self._roster, self._settings, KEY_HOLDER, seat.demands)
        if private is not None:
            self._terms.refuse_key(private.public)
        self._private = (
            make_key(self._terms.key_bits, seat.entropy, subgroup=self._terms.subgroup) if private is None else private
        )
        self._decided: dict[tuple[int, int], bytes] = {}
        self.n_jobs = n_jobs

    def hello(self, batch: int = 0) -> bytes:
        """A nonce and the public key, signed; the same key for the whole session."""
        return self._seat.hello(batch, self._private.public.to_bytes())

    def meet(self, hellos: Mapping[PartyId, bytes], batch: int = 0) -> bytes:
        """Learn the session id; there is nothing to grant."""
        self._seat.meet(hellos, batch)
        return b""

    def protect(self, vector: Vector, context: Context) -> NoReturn:
        """Refuse: the key-holder has no data."""
        raise MisuseError(f"the {KEY_HOLDER} sends no vector: it belongs to no cohort")

    def assist(self, request: bytes, context: Context) -> bytes:
        """Open the blinded ciphertexts that a threshold of sites signed for this context, once.

        Refuses with `PeerError(AGGREGATOR, reason)`. What it sees is uniform, whatever the vectors are,
        as long as the blind's seed stays with aggregator and sites.
        """
        context = _reread(context)
        packing, public = self._terms.packing(context, self.session), self._private.public
        try:
            asked = Mandate.from_bytes(request)
            decision = self._verify(asked, context)
            ciphertexts = read_ciphertexts(public, asked.blinded, packing.plaintexts)
        except ValueError as error:
            raise PeerError(AGGREGATOR, str(error)) from None
        except PeerError as error:
            raise PeerError(AGGREGATOR, f"passed on a consent of {error.sender} that {error.reason}") from None
        # Not by the context's digest: one round and attempt is opened for one cohort and layout, not for two.
        whole = sha256(b"secirls paillier mandate v1", context.digest, request)
        place = (context.round, context.attempt)
        if self._decided.get(place, whole) != whole:
            raise PeerError(
                AGGREGATOR, f"a different request for round {context.round} attempt {context.attempt} was opened before"
            )
        self._seat.demands.check_opening(context, asked.present)
        self._decided[place] = whole
        try:
            plaintexts = self._private.decrypt(ciphertexts, self.n_jobs)
        except ValueError as error:  # some site's, and nobody can tell whose: obfuscators are hidden in the product
            raise PeerError(AGGREGATOR, f"asks to open a product that can't be: {error}{_WITHOUT_NAME}") from None
        body = decision + big_numbers.to_buffer(plaintexts, public.plaintext_bytes)
        return self._seat.sign(_OPENED, context, body)

    def _verify(self, asked: Mandate, context: Context) -> bytes:
        """What was signed. Raises `ValueError` unless enough sites, all of them in the sum, signed just this."""
        self._terms.refuse_set(asked.present, context)
        decision = decision_digest(asked.blinded, asked.present)
        for signer, consent in asked.consents.items():
            if signer not in asked.present:
                raise ValueError(f"{signer} signed a sum that it is not in")
            if open_message(self._roster, _CONSENT, signer, context.digest, consent) != decision:
                raise ValueError(f"{signer} signed to open something else")
        if len(asked.consents) < self._terms.threshold:
            raise ValueError(f"{len(asked.consents)} sites signed, the threshold is {self._terms.threshold}")
        return decision


class _Blinded(Secret):
    """What the collector keeps between its trips: how to take the blind off again."""

    def __init__(self, packing: Packing, seed: bytes, blinded: bytes, decision: bytes) -> None:
        self.packing = packing
        self.seed = seed
        self.blinded = blinded
        self.decision = decision


class PaillierCollector(Collecting):
    """The aggregator's end: multiplies ciphertexts it can't open, and takes off a blind of its own making."""

    protocol = NAME

    def __init__(self, session: Session, entropy: Entropy = secrets.token_bytes) -> None:
        super().__init__(session)
        self._terms = Terms(self._roster, self._settings)
        self._entropy = entropy
        self._public: PublicKey | None = None

    def meet(self, hellos: Mapping[PartyId, bytes], grants: Mapping[PartyId, bytes], batch: int = 0) -> None:
        """Learn the session id and the public key."""
        self._public = _public_key(self._session.greet(hellos, batch), self._terms, self._public)

    def combine(self, payloads: Mapping[PartyId, bytes], context: Context) -> Pending:
        """Multiply what arrived, blind it, and ask every site in it to recompute and sign."""
        packing, public = self._terms.packing(context, self.session), met(self._public)
        present = context.senders(payloads)
        if len(present) < self._terms.threshold:
            raise DropoutError(silent(context.cohort, payloads), len(present), self._terms.threshold)
        seed = self._entropy(SEED_BYTES)
        columns = read_payloads(self._roster, public, packing, payloads, context)
        blinded = _blinded(public, columns, seed, context, self._settings.prg)
        decision = decision_digest(blinded, present)
        request = Contributions(seed, decision, payloads).to_bytes()
        hidden = _Blinded(packing, seed, blinded, decision)
        return Pending(context, present, dict.fromkeys(present, request), hidden)

    def open(self, pending: Pending, replies: Mapping[PartyId, bytes]) -> Total | Pending:
        """With consents: ask the key-holder. With its answer: take off the blind and unpack."""
        hidden = pending.kept(_Blinded)
        pending.check_replies(replies)
        if KEY_HOLDER in pending.requests:
            return self._unblind(pending, hidden, replies)
        return self._mandate(pending, hidden, replies)

    def _mandate(self, pending: Pending, hidden: _Blinded, replies: Mapping[PartyId, bytes]) -> Pending:
        context = pending.context
        for sender in sorted(replies):
            if open_message(self._roster, _CONSENT, sender, context.digest, replies[sender]) != hidden.decision:
                raise PeerError(sender, "signed to open something else than the blinded product")
        if len(replies) < self._terms.threshold:
            raise DropoutError(silent(pending.parties, replies), len(replies), self._terms.threshold)
        request = Mandate(hidden.blinded, pending.parties, replies).to_bytes()
        return Pending(context, pending.parties, {KEY_HOLDER: request}, hidden)

    def _unblind(self, pending: Pending, hidden: _Blinded, replies: Mapping[PartyId, bytes]) -> Total:
        if KEY_HOLDER not in replies:
            raise DropoutError((KEY_HOLDER,), 0, 1)
        context, public, packing = pending.context, met(self._public), hidden.packing
        body = open_message(self._roster, _OPENED, KEY_HOLDER, context.digest, replies[KEY_HOLDER])
        if body[: len(hidden.decision)] != hidden.decision:
            raise PeerError(KEY_HOLDER, "opened something else than the blinded product")
        try:
            opened = read_plaintexts(public, body[len(hidden.decision) :], packing.plaintexts)
        except ValueError as error:
            raise PeerError(KEY_HOLDER, str(error)) from None
        blind = blinds(public, hidden.seed, context, packing.plaintexts, self._settings.prg)
        bare = [(value - amount) % public.n for value, amount in zip(opened, blind, strict=True)]
        return Total(packing.unpack(bare, len(pending.parties)), pending.parties)


def knowledge(public: PublicKey, ciphertexts: list[int], sender: PartyId, context: Context) -> Statement:
    """What a site proves of its payload, for this sum and in its own name."""
    return Statement(public, parts(context.digest, sender.encode()), ciphertexts)


def read_payloads(
    roster: Roster,
    public: PublicKey,
    packing: Packing,
    payloads: Mapping[PartyId, bytes],
    context: Context,
    own: PartyId | None = None,
) -> list[list[int]]:
    """Every site's ciphertexts, in the order of the names. Raises `PeerError` naming whose are no good.

    Each site must prove that it knows what is in them, but for the one that reads its own.
    """
    columns = []
    for party in sorted(payloads):
        body = open_message(roster, _PAYLOAD, party, context.digest, payloads[party])
        size = len(body) - plaintext_knowledge.proof_bytes(public)
        try:
            ciphertexts = read_ciphertexts(public, body[: max(size, 0)], packing.plaintexts, proved=party != own)
            if party != own:
                plaintext_knowledge.verify(knowledge(public, ciphertexts, party, context), body[size:])
        except ValueError as error:
            raise PeerError(party, str(error)) from None
        columns.append(ciphertexts)
    return columns


def _blinded(public: PublicKey, columns: list[list[int]], seed: bytes, context: Context, prg: Prg) -> bytes:
    """The ciphertexts to be opened: made by the collector, and once more by every site that signs them."""
    blind = blinds(public, seed, context, len(columns[0]), prg)
    return big_numbers.to_buffer(blinded_product(public, columns, blind), public.ciphertext_bytes)


def _reread(context: Context) -> Context:
    """The sum that a context from outside names: it may bring another's digest in the place of its own, or be none."""
    return Context(*(getattr(context, part.name) for part in fields(Context)))


def _public_key(greetings: Mapping[PartyId, Greeting], terms: Terms, known: PublicKey | None) -> PublicKey:
    """The session's public key; the first hellos bring it and no later one may change it."""
    greeting = greetings.get(KEY_HOLDER)
    if greeting is None:
        if known is None:
            raise MisuseError(f"no hello from the {KEY_HOLDER}: there is no public key")
        return known
    if known is not None:
        if bytes(greeting.body) != known.to_bytes():
            raise PeerError(KEY_HOLDER, "changed its public key within a session")
        return known
    try:
        return PublicKey.from_bytes(greeting.body, terms.key_bits, subgroup=terms.subgroup)
    except ValueError as error:
        raise PeerError(KEY_HOLDER, str(error)) from None
