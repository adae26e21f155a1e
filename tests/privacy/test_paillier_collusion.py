"""Whoever breaks the protocol can't add ciphertexts that it can't read: it is named, and each test has a broken twin.

The twin takes the verification out, at the aggregator (who then plays along) or at everybody: the attack succeeds.
"""

import numpy as np
import pytest

from protocols import run
from protocols.choice import helpers
from protocols.claims import claim
from protocols.encryption.paillier import knowledge
from protocols.primitives import ring
from protocols.primitives.paillier import big_numbers, plaintext_knowledge
from protocols.primitives.paillier.obfuscators import Obfuscators
from protocols.secure_sum import AGGREGATOR, PeerError, Pending
from protocols.sessions.settings import Settings

SITES = ("site-1", "site-2", "site-3", "site-4")
SETTINGS = Settings(key_bits=512, insecure_test_keys=True, threshold=3)
VALUES = 7
VICTIM, LIAR = "site-1", "site-4"
HONEST = SITES[:3]
AFTER_CIPHERTEXTS = 160 + 64
BOTH = pytest.mark.parametrize("protocol", ["paillier", "paillier-threshold"])


@pytest.fixture
def unverified(monkeypatch):
    """``unverified()`` and, to put it back, ``unverified(False)``: nobody looks at proofs."""
    honest = plaintext_knowledge.verify

    def switch(off=True):
        monkeypatch.setattr(plaintext_knowledge, "verify", (lambda *_: None) if off else honest)

    return switch


class Room:
    def __init__(self, protocol):
        self.table = run.sit_down(protocol, SITES, SETTINGS)
        run.meet(self.table)
        # Small enough that one more of them than there are sites still fits the guard bits.
        small = np.array([0, 4], dtype=np.uint64)
        self.vectors = {site: ring.expand(bytes([at]) * 32, VALUES, 2) >> small for at, site in enumerate(SITES)}
        self.helping = {*HONEST, *helpers(protocol)}
        self.begin(0)

    def begin(self, number):
        self.context = run.context_of(self.table, self.vectors[VICTIM], round_=number)
        self.payloads = {s: self.table.parties[s].protect(self.vectors[s], self.context) for s in SITES}

    def ciphertexts(self, site):
        public = self.table.parties[site]._key()
        return big_numbers.from_buffer(self.payloads[site][:-AFTER_CIPHERTEXTS], public.ciphertext_bytes)

    def lie(self, ciphertexts, known, taken):
        """A payload of the liar's, with the best proof it can make: as if it knew what is in the ciphertexts."""
        party = self.table.parties[LIAR]
        public = party._key()
        stated = knowledge(public, ciphertexts, LIAR, self.context)
        proof = plaintext_knowledge.prove(stated, known, taken.root, party._mask_key)
        body = big_numbers.to_buffer(ciphertexts, public.ciphertext_bytes)
        return party._seat.sign(b"paillier payload v2", self.context, body + proof)

    def times(self, others):
        """The liar's own encryption of zeros, and each of the others' ciphertexts to its power multiplied in."""
        party = self.table.parties[LIAR]
        square = party._key().n_squared
        taken = Obfuscators(party._key(), "djn", party._seat.entropy).take(len(self.ciphertexts(LIAR)))
        product = list(taken.values)
        for ciphertexts, power in others:
            product = [
                mine * big_numbers.power(theirs, power, square) % square
                for mine, theirs in zip(product, ciphertexts, strict=True)
            ]
        return self.lie(product, [0] * len(product), taken)

    def cancelling(self):
        """What the liar sends once it has seen the others: the inverse of all but the victim's, well hidden."""
        return self.times([(self.ciphertexts(site), -1) for site in SITES if site not in (VICTIM, LIAR)])

    def opened(self, payloads, before_sites_look=lambda: None):
        """The sum, as far as the honest ones let it come."""
        outcome = self.table.collector.combine(payloads, self.context)
        before_sites_look()
        while isinstance(outcome, Pending):
            replies = {
                party: self.table.parties[party].assist(request, self.context)
                for party, request in outcome.requests.items()
                if party in self.helping
            }
            outcome = self.table.collector.open(outcome, replies)
        return outcome.vector


def is_named(sender, match, verb, *arguments):
    with pytest.raises(PeerError, match=match) as caught:
        verb(*arguments)
    assert caught.value.sender == sender


@BOTH
def test_a_site_that_answers_last_can_not_cancel_all_but_one(protocol, unverified):
    room = Room(protocol)
    payloads = {**room.payloads, LIAR: room.cancelling()}
    is_named(LIAR, "does not prove knowledge", room.opened, payloads)
    unverified()
    assert np.array_equal(room.opened(payloads), room.vectors[VICTIM])
    assert "can't add another's to its own" in " ".join(claim(protocol, 4, SETTINGS))


@BOTH
def test_an_aggregator_that_plays_along_does_not_get_it_past_the_sites(protocol, unverified):
    room = Room(protocol)
    payloads = {**room.payloads, LIAR: room.cancelling()}
    unverified()
    playing_along = room.table.collector.combine(payloads, room.context)
    unverified(False)
    for site in HONEST:
        asked = room.table.parties[site].assist, playing_along.requests[site], room.context
        is_named(AGGREGATOR, f"passed on a (payload|message) of {LIAR} that does not prove knowledge", *asked)
    unverified()
    assert np.array_equal(room.opened(payloads), room.vectors[VICTIM]), "nothing was used up by refusing"


@BOTH
def test_a_site_alone_can_not_add_what_another_sent_in_an_earlier_round(protocol, unverified):
    """Raised to a power it outweighs all others, and what the sum leads to follows from the victim's numbers alone."""
    room = Room(protocol)
    earlier = room.ciphertexts(VICTIM)  # shown to every site when it was asked to help
    room.begin(1)
    payloads = {**room.payloads, LIAR: room.times([(room.ciphertexts(LIAR), 1), (earlier, 8)])}
    is_named(LIAR, "does not prove knowledge", room.opened, payloads)
    unverified()
    expected = ring.total_of([*room.vectors.values(), *[room.vectors[VICTIM]] * 8], VALUES, 2)
    assert np.array_equal(room.opened(payloads), expected)


@BOTH
def test_a_site_can_not_send_another_sites_payload_as_its_own(protocol, unverified):
    """With the victim's own proof, which names the victim, the round or both."""
    room = Room(protocol)
    party, earlier = room.table.parties[LIAR], room.payloads[VICTIM][:-64]
    copied = party._seat.sign(b"paillier payload v2", room.context, earlier)
    is_named(LIAR, "does not prove knowledge", room.opened, {**room.payloads, LIAR: copied})
    own = room.payloads[LIAR][:-64]
    room.begin(1)
    for body in (earlier, own):
        again = party._seat.sign(b"paillier payload v2", room.context, body)
        is_named(LIAR, "does not prove knowledge", room.opened, {**room.payloads, LIAR: again})
    unverified()
    twice = ring.total_of([room.vectors[site] for site in (*HONEST, VICTIM)], VALUES, 2)
    again = party._seat.sign(b"paillier payload v2", room.context, earlier)
    assert np.array_equal(room.opened({**room.payloads, LIAR: again}), twice)


@BOTH
def test_the_aggregator_alone_can_not(protocol):
    """The same ciphertexts in the name of a site that did not sign them are refused, by collector and sites."""
    room = Room(protocol)
    forged = room.cancelling()[:-64] + room.payloads[LIAR][-64:]
    with pytest.raises(PeerError, match=LIAR):
        room.table.collector.combine({**room.payloads, LIAR: forged}, room.context)
    honest = room.table.collector.combine(room.payloads, room.context)
    asked = honest.requests[VICTIM].replace(room.payloads[LIAR], forged)
    with pytest.raises(PeerError, match=LIAR):
        room.table.parties[VICTIM].assist(asked, room.context)
