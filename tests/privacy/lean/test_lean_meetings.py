"""Who is shown other hellos than the rest shares no mask with them; what a party demands is asked before it speaks."""

import secrets

import numpy as np
import pytest

from protocols import claims, run
from protocols.choice import make_party
from protocols.masking import pairwise_lean, ratchet
from protocols.masking.mask_keys import KeyBook
from protocols.masking.neighbours import Graph
from protocols.primitives import ring
from protocols.primitives.keys import KEY_BYTES, AgreementKey, Identity
from protocols.secure_sum import Context, DropoutError, MisuseError, PeerError
from protocols.sessions import session
from protocols.sessions.demands import Demands
from protocols.sessions.session import NONCE_BYTES, Roster, Seat, sign_message
from protocols.sessions.settings import Settings

SITES = [f"s{number:02}" for number in range(12)]
SETTINGS = Settings(neighbours=4, rounds_per_batch=2)
VICTIM = "s03"
VALUES = 5
VECTORS = {site: ring.expand(site.encode().ljust(32, b"."), VALUES, 2) for site in SITES}
USELESS = bytes(KEY_BYTES)


class Room:
    """Twelve parties who said hello, and an aggregator that may show each of them what a test likes."""

    def __init__(self):
        self.table = run.sit_down("pairwise-lean", SITES, SETTINGS)
        self.parties, self.collector = self.table.parties, self.table.collector
        self.hellos = {site: party.hello() for site, party in self.parties.items()}
        session_id, _ = self.collector._session.read(self.hellos, 0)
        graph = Graph.draw(session_id, self.table.roster, SETTINGS.neighbours)
        self.near = graph.among(VICTIM, SITES)
        self.far = next(site for site in SITES if site not in (VICTIM, *self.near))
        """Of whose hello the victim verifies nothing."""

    def sent(self, round_=0):
        """Everybody's masked vector, in the session that it believes it is in."""
        masked = {}
        for site, party in self.parties.items():
            context = Context(party.session, round_, 0, tuple(SITES), bytes(32), VALUES, 2)
            masked[site] = np.array(ring.from_bytes(party.protect(VECTORS[site], context)[:-64], VALUES, 2))
        return masked

    def opens(self, round_=0):
        """Whether what everybody sent adds up to the sum of all vectors."""
        return np.array_equal(
            ring.total_of(self.sent(round_).values(), VALUES, 2), ring.total_of(VECTORS.values(), VALUES, 2)
        )


def forged(hello, nonce=None, key=None):
    """A hello that its sender never made: another nonce or another key, signed by nobody of the roster."""
    said = (hello[:NONCE_BYTES] if nonce is None else nonce) + (hello[NONCE_BYTES:-64] if key is None else key)
    return sign_message(Identity(bytes(KEY_BYTES)), b"hello", "nobody", bytes(32), said)


def test_a_party_verifies_its_neighbours_hellos_and_its_own(monkeypatch):
    room, verified, honest = Room(), [], session.open_message
    monkeypatch.setattr(session, "open_message", lambda *given: verified.append(given[2]) or honest(*given))
    room.parties[VICTIM].meet(room.hellos)
    assert sorted(verified) == sorted((VICTIM, *room.near))


def read_by_impostors():
    """The victim's vector out of its payload, where the hellos of all others hold keys of the aggregator's own."""
    room = Room()
    victim, own = room.parties[VICTIM], {s: AgreementKey.fresh(secrets.token_bytes) for s in SITES if s != VICTIM}
    shown = {site: forged(room.hellos[site], key=key.public) for site, key in own.items()}
    victim.meet({**shown, VICTIM: room.hellos[VICTIM]})
    context = Context(victim.session, 0, 0, tuple(SITES), bytes(32), VALUES, 2)
    vector = np.array(ring.from_bytes(victim.protect(VECTORS[VICTIM], context)[:-64], VALUES, 2))
    book = victim._room.batch(0)
    keys = {
        peer: ratchet.mask_key(ratchet.chain_root(own[peer], peer, VICTIM, with_key(book, room)), context)
        for peer in room.near
    }
    ring.mask_into(vector, [keys[p] for p in keys if p < VICTIM], [keys[p] for p in keys if p > VICTIM])
    return vector


def with_key(book, room):
    return KeyBook(book.session, 0, book.rounds, {VICTIM: room.hellos[VICTIM][NONCE_BYTES:-64]}, (), book.hellos)


def test_an_aggregator_that_poses_as_all_neighbours_gets_no_payload():
    with pytest.raises(PeerError, match="hello is not signed"):
        read_by_impostors()


def test_the_twin_that_verifies_no_hello_gives_its_vector_away(monkeypatch):
    honest = session.open_message

    def open_message(roster, kind, sender, binding, message):
        return memoryview(message)[:-64] if kind == b"hello" else honest(roster, kind, sender, binding, message)

    monkeypatch.setattr(session, "open_message", open_message)
    assert np.array_equal(read_by_impostors(), VECTORS[VICTIM])


def shown_another_nonce(room):
    """All meet; the victim among hellos of which one, that it does not verify, has another nonce."""
    while True:
        shown = {**room.hellos, room.far: forged(room.hellos[room.far], nonce=secrets.token_bytes(NONCE_BYTES))}
        session_id, _ = room.collector._session.read(shown, 0, near=lambda _: ())
        if room.far not in Graph.draw(session_id, room.table.roster, SETTINGS.neighbours).among(VICTIM, SITES):
            break
    return {site: party.meet(shown if site == VICTIM else room.hellos) for site, party in room.parties.items()}


def test_who_is_shown_another_nonce_shares_no_mask_and_is_named():
    room = Room()
    grants = shown_another_nonce(room)
    assert not room.opens()
    with pytest.raises(PeerError, match="grant is not signed") as caught:
        room.collector.meet(room.hellos, grants)
    assert caught.value.sender == VICTIM


def shown_another_key(room):
    """A second batch, of which the victim is shown another key of somebody whose hello it does not verify."""
    run.meet(room.table)
    hellos = {site: party.hello(1) for site, party in room.parties.items()}
    shown = {**hellos, room.far: forged(hellos[room.far], key=bytes([9]) * KEY_BYTES)}
    grants = {site: party.meet(shown if site == VICTIM else hellos, 1) for site, party in room.parties.items()}
    return hellos, grants


def test_who_is_shown_another_key_in_a_later_batch_shares_no_mask_and_is_named():
    room = Room()
    hellos, grants = shown_another_key(room)
    assert not room.opens(2)
    with pytest.raises(PeerError, match="grant is not signed") as caught:
        room.collector.meet(hellos, grants, 1)
    assert caught.value.sender == VICTIM


def test_the_twin_whose_key_book_holds_no_hellos_opens_it(monkeypatch):
    monkeypatch.setattr(KeyBook, "binding", property(lambda book: b"key book" + book.session))
    room = Room()
    hellos, grants = shown_another_key(room)
    assert room.opens(2)
    room.collector.meet(hellos, grants, 1)


def test_everybody_says_hello_in_every_batch_and_nobody_meets_twice():
    room = Room()
    with pytest.raises(MisuseError, match="no hello from s05"):
        room.parties[VICTIM].meet({site: hello for site, hello in room.hellos.items() if site != "s05"})
    run.meet(room.table)
    later = {site: party.hello(1) for site, party in room.parties.items()}
    fewer = {site: hello for site, hello in later.items() if site != "s05"}
    for meet in (lambda: room.parties[VICTIM].meet(fewer, 1), lambda: room.collector.check(fewer, 1)):
        with pytest.raises(DropoutError) as caught:
            meet()
        assert caught.value.silent == ("s05",)
    room.parties[VICTIM].meet(later, 1)
    with pytest.raises(MisuseError, match="already"):
        room.parties[VICTIM].meet(later, 1)
    with pytest.raises(MisuseError, match="already"):
        room.parties[VICTIM].meet(room.hellos)


@pytest.mark.parametrize("key", [USELESS, bytes([1]) + bytes(31), b"short", bytes([9]) * 33])
def test_a_key_that_protects_nothing_is_refused_by_name(key):
    identities = {site: Identity(site.encode().ljust(32)) for site in SITES[:3]}
    roster = Roster({site: identity.public for site, identity in identities.items()})
    parties = {s: make_party("pairwise-lean", s, identities[s], roster, Settings()) for s in roster}
    parties["s01"]._agreement_keys.publish = lambda batch: key
    hellos = {site: party.hello() for site, party in parties.items()}
    with pytest.raises(PeerError, match="not a usable X25519 key") as caught:
        parties["s00"].meet(hellos)
    assert caught.value.sender == "s01"


def test_a_grant_is_signed_and_grants_nothing():
    room = Room()
    grants = {site: party.meet(room.hellos) for site, party in room.parties.items()}
    seat, book = room.parties["s01"]._seat, room.parties["s01"]._room.batch(0)
    with pytest.raises(PeerError, match="nothing to grant"):
        room.collector.meet(room.hellos, {**grants, "s01": seat.sign_bound(b"grant", book.binding, b"more")})


def test_a_sum_waits_for_everybodys_grant():
    table = run.sit_down("pairwise-lean", SITES[:3], Settings())
    hellos = {site: party.hello() for site, party in table.parties.items()}
    grants = {site: party.meet(hellos) for site, party in table.parties.items()}
    table.collector.meet(hellos, {site: grants[site] for site in grants if site != "s01"})
    with pytest.raises(DropoutError) as caught:
        run.add_up(table, {site: VECTORS[site] for site in SITES[:3]})
    assert caught.value.silent == ("s01",)


# What one party demands.


def seated(parties, colluders, **chosen):
    names = [f"p{number:02}" for number in range(parties)]
    return run.sit_down("pairwise-lean", names, Settings(**chosen), demands=Demands(colluders))


def test_a_party_takes_part_only_where_colluders_are_fewer_than_its_neighbours():
    for colluders, bears in ((3, True), (4, False)):
        if bears:
            seated(9, colluders, neighbours=4)
            assert claims.plan("pairwise-lean", 9, Settings(neighbours=4), colluders)
            continue
        with pytest.raises(MisuseError, match="reach the 4 neighbours that one site shares masks with: take more"):
            seated(9, colluders, neighbours=4)
        with pytest.raises(MisuseError, match="can be all 4 neighbours"):
            claims.plan("pairwise-lean", 9, Settings(neighbours=4), colluders)
    seated(9, 7)
    with pytest.raises(MisuseError, match="fewer than two are left"):
        seated(9, 8)


def test_the_threshold_that_recovery_needs_is_not_asked_for():
    """Three of six could open both secrets of one party where there are such."""
    seated(6, 4, threshold=3)
    with pytest.raises(MisuseError, match="does not hold"):
        run.sit_down("pairwise", [f"p{n}" for n in range(6)], Settings(threshold=3), demands=Demands(1))


class RefusedHereError(Exception):
    """The party's own reason, which is none of the protocol's errors."""


class Word:
    """Notes what it is asked, and refuses while it is told to."""

    def __init__(self):
        self.asked, self.refusing = [], False

    def __call__(self, context, present):
        self.asked.append((context, present))
        if self.refusing:
            raise RefusedHereError


def with_a_word():
    names, word = SITES[:3], Word()
    table = run.sit_down("pairwise-lean", names, Settings())
    table.parties["s00"]._seat.demands = Demands(opening=word)
    run.meet(table)
    return table, word, run.context_of(table, VECTORS["s00"])


def test_a_party_is_asked_once_and_before_it_sends(monkeypatch):
    table, word, context = with_a_word()
    honest, signed = Seat.sign_draft, []
    monkeypatch.setattr(Seat, "sign_draft", lambda self, *given: signed.append(self.me) or honest(self, *given))
    word.refusing = True
    with pytest.raises(RefusedHereError):
        table.parties["s00"].protect(VECTORS["s00"], context)
    assert signed == []
    word.refusing = False
    run.add_up(table, {site: VECTORS[site] for site in SITES[:3]}, context)  # and nothing was used up
    assert word.asked == [(context, tuple(SITES[:3]))] * 2
    assert "s00" in signed


def test_a_sum_that_the_protocol_refuses_is_not_even_told():
    table, word, context = with_a_word()
    run.add_up(table, {site: VECTORS[site] for site in SITES[:3]}, context)
    smaller = run.context_of(table, VECTORS["s00"], SITES[:2], 1)
    for refused in (context, smaller):
        with pytest.raises(MisuseError):
            table.parties["s00"].protect(VECTORS["s00"], refused)
    assert len(word.asked) == 1


def test_the_twin_that_asks_nobody_sends_all_the_same(monkeypatch):
    monkeypatch.setattr(Demands, "check_opening", lambda self, context, present: None)
    table, word, context = with_a_word()
    word.refusing = True
    assert run.add_up(table, {site: VECTORS[site] for site in SITES[:3]}, context).parties == tuple(SITES[:3])


def test_the_name_is_in_the_session():
    """So that nobody can tell some sites that it is the one protocol and others that it is the other."""
    identities = {site: Identity(site.encode().ljust(32)) for site in SITES[:3]}
    roster = Roster({site: identity.public for site, identity in identities.items()})
    settings = Settings(rounds_per_batch=1)
    lean, full = (
        {s: make_party(name, s, identities[s], roster, settings) for s in roster}
        for name in (pairwise_lean.NAME, "pairwise")
    )
    hellos = {site: party.hello() for site, party in lean.items()}
    hellos["s01"] = full["s01"].hello()
    with pytest.raises(PeerError, match="not signed") as caught:
        lean["s00"].meet(hellos)
    assert caught.value.sender == "s01"
