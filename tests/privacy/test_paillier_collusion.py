"""What Paillier sums do not promise, shown: whoever breaks the protocol can add ciphertexts that it can't read.

Should a proof of knowledge or a commitment close this one day, these tests fail, and claims and specification
have to be written anew.
"""

import numpy as np
import pytest

from protocols import run
from protocols.choice import helpers
from protocols.claims import claim
from protocols.primitives import big_numbers, ring
from protocols.primitives.obfuscators import Obfuscators
from protocols.secure_sum import PeerError, Pending
from protocols.settings import Settings

SITES = ("site-1", "site-2", "site-3", "site-4")
SETTINGS = Settings(key_bits=512, insecure_test_keys=True, threshold=3)
VALUES = 7
VICTIM, LIAR = "site-1", "site-4"
BOTH = pytest.mark.parametrize("protocol", ["paillier", "paillier-threshold"])


class Room:
    def __init__(self, protocol):
        self.table = run.sit_down(protocol, SITES, SETTINGS)
        run.meet(self.table)
        # Small enough that one more of them than there are sites still fits the guard bits.
        small = np.array([0, 4], dtype=np.uint64)
        self.vectors = {site: ring.expand(bytes([at]) * 32, VALUES, 2) >> small for at, site in enumerate(SITES)}
        self.begin(0)

    def begin(self, number):
        self.context = run.context_of(self.table, self.vectors[VICTIM], round_=number)
        self.payloads = {s: self.table.parties[s].protect(self.vectors[s], self.context) for s in SITES}

    def ciphertexts(self, site):
        public = self.table.parties[site]._key()
        return big_numbers.from_buffer(self.payloads[site][:-64], public.ciphertext_bytes)

    def cancelling(self):
        """What the liar sends once it has seen the others: the inverse of all but the victim's, well hidden."""
        party = self.table.parties[LIAR]
        public = party._key()
        cancelled = Obfuscators(public, "djn", party._seat.entropy).take(len(self.ciphertexts(LIAR)))
        for site in SITES:
            if site not in (VICTIM, LIAR):
                cancelled = [
                    mine * big_numbers.power(theirs, -1, public.n_squared) % public.n_squared
                    for mine, theirs in zip(cancelled, self.ciphertexts(site), strict=True)
                ]
        body = big_numbers.to_buffer(cancelled, public.ciphertext_bytes)
        return party._seat.sign(b"paillier payload", self.context, body)

    def opened(self, payloads, helping):
        outcome = self.table.collector.combine(payloads, self.context)
        while isinstance(outcome, Pending):
            replies = {
                party: self.table.parties[party].assist(request, self.context)
                for party, request in outcome.requests.items()
                if party in helping
            }
            outcome = self.table.collector.open(outcome, replies)
        return outcome.vector


@BOTH
def test_a_site_that_answers_last_can_cancel_all_but_one(protocol):
    room = Room(protocol)
    honest = {party for party in room.table.parties if party != LIAR}
    opened = room.opened({**room.payloads, LIAR: room.cancelling()}, honest)
    assert np.array_equal(opened, room.vectors[VICTIM])
    assert "the two can open any other site's numbers" in " ".join(claim(protocol, 4, SETTINGS))


@BOTH
def test_a_site_alone_can_add_what_another_sent_in_an_earlier_round(protocol):
    room = Room(protocol)
    earlier = room.ciphertexts(VICTIM)  # shown to every site when it was asked to help
    room.begin(1)
    party = room.table.parties[LIAR]
    square = party._key().n_squared
    both = [mine * theirs % square for mine, theirs in zip(room.ciphertexts(LIAR), earlier, strict=True)]
    body = big_numbers.to_buffer(both, party._key().ciphertext_bytes)
    payload = party._seat.sign(b"paillier payload", room.context, body)
    opened = room.opened({**room.payloads, LIAR: payload}, {*SITES[:3], *helpers(protocol)})
    expected = ring.total_of([*room.vectors.values(), room.vectors[VICTIM]], VALUES, 2)
    assert np.array_equal(opened, expected)
    assert "what another site sent in an earlier round" in " ".join(claim(protocol, 4, SETTINGS))


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
