"""A session is its parties' own: what was recorded in another one is no use in it."""

import pytest

from protocols import run
from protocols.secure_sum import MisuseError, PeerError
from protocols.sessions import session

PROTOCOLS = pytest.mark.parametrize("protocol", ["additive", "pairwise", "paillier", "paillier-threshold"])


def take_nonces_out(monkeypatch):
    """The broken twin: the session id is made of roster and settings, and of nobody's fresh bytes."""
    honest = session.sha256

    def sha256(label, *parts, **more):
        return honest(label, *parts[: 1 if label == b"secirls session v1" else len(parts)], **more)

    monkeypatch.setattr(session, "sha256", sha256)


def replayed(set_back, vectors, protocol):
    """Yesterday's payloads, to a collector that meets today: one site begins anew, the others say what they said."""
    yesterday = set_back(protocol)
    run.meet(yesterday)
    context = run.context_of(yesterday, vectors["a"])
    recorded = {site: yesterday.parties[site].protect(vectors[site], context) for site in vectors}
    today = set_back(protocol, {"a": lambda draw: draw == 1})
    run.meet(today)
    said = [{m.party: m.data for m in table.messages if m.leg == "hello"} for table in (yesterday, today)]
    assert {party for party in said[0] if said[0][party] != said[1][party]} == {"a"}
    return today.collector.combine(recorded, run.context_of(today, vectors["a"]))


@PROTOCOLS
def test_what_was_recorded_in_one_session_is_refused_in_the_next(set_back, vectors, protocol):
    with pytest.raises(PeerError, match="not signed by the roster's key for this sum"):
        replayed(set_back, vectors, protocol)


@PROTOCOLS
def test_the_twin_without_nonces_takes_yesterdays_payloads_for_todays(set_back, vectors, monkeypatch, protocol):
    take_nonces_out(monkeypatch)
    assert replayed(set_back, vectors, protocol).parties == tuple(vectors)


def ids(set_back):
    """Session ids of the room as it was, and with a fresh nonce of one site alone, whichever."""
    found = []
    for fresh in ({}, *({site: lambda draw: draw == 1} for site in "abcd")):
        table = set_back("pairwise", fresh)
        run.meet(table)
        found.append(table.collector.session)
    return found


def test_every_sites_nonce_alone_makes_the_session_another_one(set_back):
    assert len(set(ids(set_back))) == 5


def test_the_twin_without_nonces_is_one_session_for_ever(set_back, monkeypatch):
    take_nonces_out(monkeypatch)
    assert len(set(ids(set_back))) == 1


def met_in_yesterdays(set_back, protocol):
    """The session that one site takes part in, and yesterday's: it says hello anew, and is shown all that was said."""
    yesterday = set_back(protocol)
    run.meet(yesterday)
    said = {m.party: m.data for m in yesterday.messages if m.leg == "hello"}
    party = set_back(protocol, {"a": lambda draw: draw == 1}).parties["a"]
    assert party.hello(0) != said["a"]
    party.meet(said, 0)
    return party.session, yesterday.collector.session


@PROTOCOLS
def test_no_site_meets_in_a_session_that_its_own_nonce_is_not_in(set_back, protocol):
    with pytest.raises(MisuseError, match=r"^the hello of a was replaced on its way$"):
        met_in_yesterdays(set_back, protocol)


@PROTOCOLS
def test_the_twin_that_does_not_look_for_its_nonce_meets_in_yesterdays_session(set_back, monkeypatch, protocol):
    monkeypatch.setattr(session.Seat, "meet", lambda self, *given: self.session.greet(*given))
    today, yesterday = met_in_yesterdays(set_back, protocol)
    assert today == yesterday
