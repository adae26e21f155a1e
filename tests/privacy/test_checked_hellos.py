"""In a large room a party verifies the hellos of its neighbours alone, and no aggregator gains anything by that.

All keys it uses are signed by keys of the roster. What the others said goes into the session id and the key book, so
that whoever is shown something else than the rest shares no context, box or grant with them.
"""

import secrets

import numpy as np
import pytest

from protocols import run
from protocols.masking.mask_keys import KeyBook, MaskKeys, self_mask_key
from protocols.masking.neighbours import Graph
from protocols.masking.pairwise_messages import Payload
from protocols.masking.round_seeds import PairSeeds, pair_mask_keys
from protocols.primitives import ring, shamir
from protocols.primitives.keys import KEY_BYTES, SIGNATURE_BYTES, Identity
from protocols.secure_sum import Context, MisuseError, PeerError
from protocols.sessions import session
from protocols.sessions.channels import Box, Channels
from protocols.sessions.session import NONCE_BYTES, sign_message
from protocols.sessions.settings import Settings

SITES = [f"s{number:02}" for number in range(12)]
SETTINGS = Settings(neighbours=4, threshold=9, rounds_per_batch=2, consistency=True)
VICTIM = "s03"
VALUES = 5
VECTORS = {site: ring.expand(site.encode().ljust(32, b"."), VALUES, 2) for site in SITES}


class Room:
    """Twelve parties who said hello, and an aggregator that may show each of them what a test likes."""

    def __init__(self):
        self.table = run.sit_down("pairwise", SITES, SETTINGS)
        self.parties, self.collector = self.table.parties, self.table.collector
        self.hellos = {site: party.hello() for site, party in self.parties.items()}
        session_id, _ = self.collector._session.read(self.hellos, 0)
        graph = Graph.draw(session_id, self.table.roster, SETTINGS.neighbours)
        self.near = graph.among(VICTIM, SITES)
        self.far = next(site for site in SITES if site not in (VICTIM, *self.near))
        """Of whose hello the victim verifies nothing."""

    def second_batch(self):
        """All have met once; everybody's hellos of the second batch."""
        run.meet(self.table)
        return {site: party.hello(1) for site, party in self.parties.items()}

    def grants(self, shown):
        """What everybody answers to the hellos that they are shown."""
        return {site: party.meet(shown(site), 1) for site, party in self.parties.items()}


def context_in(session_id, round_=0):
    """The same sum, as somebody in that session names it."""
    return Context(session_id, round_, 0, tuple(SITES), bytes(32), VALUES, 2)


def forged(hello, nonce=None, keys=None):
    """A hello that its sender never made: another nonce or other keys, signed by nobody of the roster."""
    said = (hello[:NONCE_BYTES] if nonce is None else nonce) + (hello[NONCE_BYTES:-64] if keys is None else keys)
    return sign_message(Identity(bytes(KEY_BYTES)), b"hello", "nobody", bytes(32), said)


def with_another_key(hello):
    """The hello with its last mask key replaced."""
    return forged(hello, keys=hello[NONCE_BYTES : -SIGNATURE_BYTES - KEY_BYTES] + bytes([9]) * KEY_BYTES)


def test_a_party_verifies_the_hellos_of_its_neighbours_and_its_own_and_no_others(monkeypatch):
    room, verified, honest = Room(), [], session.open_message
    monkeypatch.setattr(session, "open_message", lambda *given: verified.append(given[2]) or honest(*given))
    room.parties[VICTIM].meet(room.hellos)
    assert sorted(verified) == sorted((VICTIM, *room.near))
    assert len(room.near) == SETTINGS.neighbours


# A neighbour's hello is swapped for one with the aggregator's keys.


def test_no_neighbours_hello_can_be_swapped():
    room = Room()
    for site in room.near:
        with pytest.raises(PeerError, match="hello is not signed") as caught:
            room.parties[VICTIM].meet({**room.hellos, site: with_another_key(room.hellos[site])})
        assert caught.value.sender == site
    room.parties[VICTIM].meet(room.hellos)  # and nothing of what was refused is left


def read_by_impostors():
    """The victim's vector out of its payload, where the hellos of all others hold keys of the aggregator's own."""
    room = Room()
    victim, said = room.parties[VICTIM], room.hellos[VICTIM][NONCE_BYTES:]
    own = {s: (Channels(s, secrets.token_bytes), MaskKeys(secrets.token_bytes)) for s in SITES if s != VICTIM}
    shown = {
        site: forged(room.hellos[site], keys=channels.public + keys.publish(0) + bytes(2 * KEY_BYTES))
        for site, (channels, keys) in own.items()
    }
    victim.meet({**shown, VICTIM: room.hellos[VICTIM]})
    context = context_in(victim.session)
    body = memoryview(victim.protect(VECTORS[VICTIM], context))[:-SIGNATURE_BYTES]
    payload = Payload.read(body, VICTIM, context, room.near)
    shares, plus, minus = {}, [], []
    for peer in room.near:
        channels, keys = own[peer]
        channels.meet(victim.session, {VICTIM: said[:KEY_BYTES]})
        box = payload.boxes[peer]
        shares[victim._room.graph.index[peer]] = channels.open(VICTIM, Box.SEED_SHARE, (0, 0), context.digest, box)
        seeds = PairSeeds()
        seeds.agree(keys.take(0), peer, (VICTIM,), victim._room.batch(0), SETTINGS.prg)
        mask = pair_mask_keys(seeds.take(0), peer, context)[VICTIM]
        (minus if peer > VICTIM else plus).append(mask)
    minus.append(self_mask_key(shamir.combine(shares, victim._room.share_threshold), VICTIM, context))
    vector = ring.from_bytes(payload.masked, VALUES, 2).copy()
    ring.mask_into(vector, plus, minus)
    return vector


def test_an_aggregator_that_poses_as_all_neighbours_gets_no_payload():
    with pytest.raises(PeerError, match="hello is not signed"):
        read_by_impostors()


def test_the_twin_that_verifies_no_hello_gives_its_vector_away(monkeypatch):
    """The broken twin: pinned names, and keys by whoever carries them."""
    honest = session.open_message

    def open_message(roster, kind, sender, binding, message):
        return memoryview(message)[:-64] if kind == b"hello" else honest(roster, kind, sender, binding, message)

    monkeypatch.setattr(session, "open_message", open_message)
    assert np.array_equal(read_by_impostors(), VECTORS[VICTIM])


# Two sets of hellos: who is shown another one, be it of somebody whose hello it does not verify, stands alone.


def elsewhere(room):
    """The hellos with another nonce of somebody who is not the victim's neighbour, and would not be with that nonce."""
    while True:
        shown = {**room.hellos, room.far: forged(room.hellos[room.far], nonce=secrets.token_bytes(NONCE_BYTES))}
        session_id, _ = room.collector._session.read(shown, 0, near=lambda _: ())
        if room.far not in Graph.draw(session_id, room.table.roster, SETTINGS.neighbours).among(VICTIM, SITES):
            return shown


def added_up_among_two_sets():
    """The victim is shown other hellos than the rest; everybody answers in the session that it believes it is in."""
    room = Room()
    shown = elsewhere(room)
    grants = {site: end.meet(shown if site == VICTIM else room.hellos) for site, end in room.parties.items()}
    del grants[VICTIM]
    room.collector.meet(room.hellos, grants)
    payloads = {site: end.protect(VECTORS[site], context_in(end.session)) for site, end in room.parties.items()}
    return room.collector.combine(payloads, context_in(room.collector.session))


def test_who_is_shown_another_nonce_is_in_a_session_of_its_own():
    with pytest.raises(PeerError, match="payload is not signed by the roster's key for this sum") as caught:
        added_up_among_two_sets()
    assert caught.value.sender == VICTIM


def test_the_twin_whose_session_holds_no_nonces_adds_it_up_all_the_same(monkeypatch):
    honest = session.sha256

    def sha256(label, *parts, **more):
        return honest(label, *parts[: 1 if label == b"secirls session v1" else len(parts)], **more)

    monkeypatch.setattr(session, "sha256", sha256)
    room = Room()
    shown = {**room.hellos, room.far: forged(room.hellos[room.far], nonce=bytes(NONCE_BYTES))}
    grants = {site: end.meet(shown if site == VICTIM else room.hellos) for site, end in room.parties.items()}
    room.collector.meet(room.hellos, {site: grants[site] for site in SITES if site != VICTIM})
    payloads = {site: end.protect(VECTORS[site], context_in(end.session)) for site, end in room.parties.items()}
    assert room.collector.combine(payloads, context_in(room.collector.session)).parties == tuple(SITES)


def swapped(room, hellos):
    return {**hellos, room.far: with_another_key(hellos[room.far])}


def dropped(room, hellos):
    return {site: hello for site, hello in hellos.items() if site != room.far}


def meet_again_with(change):
    """A second batch, of which the victim is shown something else than the rest."""
    room = Room()
    hellos = room.second_batch()
    grants = room.grants(lambda site: change(room, hellos) if site == VICTIM else hellos)
    room.collector.meet(hellos, grants, 1)


@pytest.mark.parametrize("change", [swapped, dropped])
def test_a_later_grant_among_other_hellos_does_not_count(change):
    with pytest.raises(PeerError, match="grant is not signed") as caught:
        meet_again_with(change)
    assert caught.value.sender == VICTIM


@pytest.mark.parametrize("change", [swapped, dropped])
def test_the_twin_whose_key_book_holds_no_hellos_counts_on_it(change, monkeypatch):
    monkeypatch.setattr(KeyBook, "binding", property(lambda book: b"key book" + book.session))
    meet_again_with(change)


def test_a_session_starts_with_the_whole_roster():
    room = Room()
    with pytest.raises(MisuseError, match=f"no hello from {room.far}"):
        room.parties[VICTIM].meet(dropped(room, room.hellos))


def test_a_hello_is_that_of_somebody_in_the_roster_and_long_enough_even_where_nobody_verifies_it():
    room = Room()
    with pytest.raises(PeerError, match="not in the roster"):
        room.parties[VICTIM].meet({**room.hellos, "stranger": room.hellos[room.far]})
    with pytest.raises(PeerError, match="cut short") as caught:
        room.parties[VICTIM].meet({**room.hellos, room.far: room.hellos[room.far][: NONCE_BYTES + SIGNATURE_BYTES - 1]})
    assert caught.value.sender == room.far


# The collector looks at the hellos before they are carried on, and again when it meets the parties.


@pytest.mark.parametrize("protocol", ["pairwise", "pairwise-lean"])
def test_a_collector_verifies_a_hello_once_and_another_under_the_same_name_again(protocol, monkeypatch):
    table = run.sit_down(protocol, SITES, SETTINGS)
    hellos = {site: party.hello() for site, party in table.parties.items()}
    grants = {site: party.meet(hellos) for site, party in table.parties.items()}
    verified, honest = [], session.open_message

    def noting(roster, kind, sender, *given):
        verified.append(sender)
        return honest(roster, kind, sender, *given)

    monkeypatch.setattr(session, "open_message", noting)
    table.collector.check(hellos)
    assert sorted(verified) == SITES
    with pytest.raises(PeerError, match=r"^s05: hello is not signed"):
        table.collector.meet({**hellos, "s05": with_another_key(hellos["s05"])}, grants)
    assert [*verified[len(SITES) :]] == ["s05"]
    table.collector.meet(hellos, grants)
    assert [*verified[len(SITES) :]] == ["s05"]


def test_the_twin_that_knows_a_hello_by_its_sender_takes_any_other(monkeypatch):
    """What was verified is known by its bytes and its batch: by its sender alone it would be any bytes."""
    room = Room()
    changed = {**room.hellos, VICTIM: with_another_key(room.hellos[VICTIM])}
    with pytest.raises(PeerError, match=f"^{VICTIM}: hello is not signed"):
        room.collector.check(changed)

    class BySender(dict):
        def get(self, sender):
            return Anything() if sender in self else None

    class Anything:
        def __eq__(self, other):
            return True

        __hash__ = None

    room.collector._session._verified = BySender(room.collector._session._verified)
    room.collector.check(changed)
