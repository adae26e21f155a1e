"""A party's own word on who may be in a sum is asked before it has released or signed anything that helps."""

import pytest

from protocols.secure_sum import KEY_HOLDER, DropoutError, PeerError, Pending
from protocols.sessions.demands import Demands
from protocols.sessions.session import Seat

CASES = [
    ("additive", {}, "site-1"),
    ("pairwise", {}, "site-1"),
    ("pairwise", {"consistency": True}, "site-1"),
    ("paillier", {}, "site-1"),
    ("paillier", {}, KEY_HOLDER),
    ("paillier-threshold", {}, "site-1"),
]
EVERY_HELP = pytest.mark.parametrize(
    ("protocol", "chosen", "who"), CASES, ids=["-".join([name, *chosen, who]) for name, chosen, who in CASES]
)


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


def seated(sit, protocol, chosen, who):
    room = sit(protocol, sites=4, **{"threshold": 3, **chosen}).meet()
    word = Word()
    room.parties[who]._seat.demands = Demands(opening=word)
    return room, word


def finished(room, outcome):
    while isinstance(outcome, Pending):
        outcome = room.collector.open(outcome, room.ask(outcome))
    return outcome


@EVERY_HELP
def test_it_is_asked_once_with_the_sum_and_who_is_in_it(sit, protocol, chosen, who):
    room, word = seated(sit, protocol, chosen, who)
    context = room.context()
    assert room.holds(finished(room, room.collector.combine(room.payloads(context), context)))
    assert word.asked == [(context, room.sites)]


@EVERY_HELP
def test_it_hears_of_the_set_that_is_to_be_opened_and_not_of_the_cohort(sit, protocol, chosen, who):
    if protocol == "additive":
        return  # its sums are over the whole cohort
    room, word = seated(sit, protocol, chosen, who)
    context = room.context()
    payloads = {site: text for site, text in room.payloads(context).items() if site != "site-4"}
    total = finished(room, room.collector.combine(payloads, context))
    assert word.asked == [(context, room.sites[:3])]
    assert total.parties == room.sites[:3]


@EVERY_HELP
def test_where_it_refuses_nothing_was_signed_and_nothing_is_used_up(sit, monkeypatch, protocol, chosen, who):
    room, word = seated(sit, protocol, chosen, who)
    context = room.context()
    outcome = room.collector.combine(room.payloads(context), context)
    while who not in outcome.requests:
        outcome = room.collector.open(outcome, room.ask(outcome))
    honest, signed = Seat.sign, []
    monkeypatch.setattr(Seat, "sign", lambda self, *message: signed.append(self.me) or honest(self, *message))
    word.refusing = True
    with pytest.raises(RefusedHereError):
        room.parties[who].assist(outcome.requests[who], context)
    assert signed == []
    assert len(word.asked) == 1
    word.refusing = False
    assert room.holds(finished(room, outcome))
    assert who in signed


def test_a_key_holder_that_refused_one_request_opens_another_of_the_same_sum(sit):
    room, word = seated(sit, "paillier", {}, KEY_HOLDER)
    context = room.context()
    pending = room.collector.combine(room.payloads(context), context)
    consents = room.ask(pending)
    refused = room.collector.open(pending, {site: consents[site] for site in room.sites[:3]})
    word.refusing = True
    with pytest.raises(RefusedHereError):
        room.ask(refused)
    word.refusing = False
    assert room.holds(finished(room, room.collector.open(pending, consents)))


@EVERY_HELP
def test_a_request_that_the_protocol_refuses_is_not_even_told(sit, protocol, chosen, who):
    """So that who keeps a memory of sets notes no set that was never to be opened."""
    room, word = seated(sit, protocol, chosen, who)
    context = room.context()
    outcome = room.collector.combine(room.payloads(context), context)
    while who not in outcome.requests:
        outcome = room.collector.open(outcome, room.ask(outcome))
    for wrong in (b"", outcome.requests[who][:-1], outcome.requests[who] + b"\0"):
        with pytest.raises(PeerError):
            room.parties[who].assist(wrong, context)
    assert word.asked == []


def test_with_consistency_a_refusal_keeps_the_signature_back_and_not_only_the_shares(sit):
    room, word = seated(sit, "pairwise", {"consistency": True, "threshold": 4}, "site-1")
    word.refusing = True
    context = room.context()
    pending = room.collector.combine(room.payloads(context), context)
    with pytest.raises(RefusedHereError):
        room.parties["site-1"].assist(pending.requests["site-1"], context)
    with pytest.raises(DropoutError, match="silent: site-1; 3 answered, 4 are needed"):
        room.collector.open(pending, room.ask(pending, silent=["site-1"]))


@EVERY_HELP
def test_the_twin_that_asks_nobody_opens_what_the_party_refuses(sit, monkeypatch, protocol, chosen, who):
    monkeypatch.setattr(Demands, "check_opening", lambda self, context, present: None)
    room, word = seated(sit, protocol, chosen, who)
    word.refusing = True
    context = room.context()
    assert room.holds(finished(room, room.collector.combine(room.payloads(context), context)))
    assert word.asked == []
