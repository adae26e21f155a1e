"""Whatever bytes arrive, on whatever leg: the sum goes on, or one of the documented errors names the sender."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from protocols import run
from protocols.choice import NAMES
from protocols.masking import pairwise_messages
from protocols.primitives import ring
from protocols.secure_sum import AGGREGATOR, DropoutError, IntegrityError, PeerError, Pending
from protocols.sessions import session
from protocols.sessions.settings import Settings

SITES = ("a", "b", "c")
LIAR = "b"
QUICK = Settings(rounds_per_batch=20, key_bits=256, insecure_test_keys=True)
AGREEING = Settings(rounds_per_batch=20, consistency=True)
CASES = [*((name, QUICK) for name in NAMES), ("pairwise", AGREEING)]
VECTORS = {site: ring.expand(site.encode() * 32, 3, 2) for site in SITES}
FUZZ = settings(
    max_examples=2 * settings.default.max_examples // 3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

EDITS = st.lists(
    st.tuples(st.sampled_from(("flip", "cut", "drop", "insert", "zero")), st.floats(0, 1), st.binary(max_size=40)),
    min_size=1,
    max_size=3,
)
CHANGES = st.one_of(st.binary(max_size=200), EDITS)
"""Arbitrary bytes in a message's place, or edits of a valid one."""


def changed(message, change):
    """A message with its edits made, places given as fractions of its length; or other bytes altogether."""
    if isinstance(change, bytes):
        return change
    for kind, place, text in change:
        at = min(int(place * len(message)), max(len(message) - 1, 0))
        if kind == "cut":
            message = message[:at]
        elif kind == "insert":
            message = message[:at] + text + message[at:]
        elif kind == "drop":
            message = message[:at] + message[at + 1 + len(text) :]
        elif kind == "zero":
            message = message[:at] + bytes(len(message[at : at + 33])) + message[at + 33 :]
        elif message:
            message = message[:at] + bytes([message[at] ^ (1 << len(text) % 8)]) + message[at + 1 :]
    return message


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0] + "-consistent" * case[1].consistency)
def room(request):
    """A table for one protocol, and round after round that nobody has used."""
    protocol, chosen = request.param
    table = run.sit_down(protocol, SITES, chosen)
    rounds = itertools.count()

    def fresh():
        round_ = next(rounds)
        table.silent, table.tamper = {}, None
        if round_ % chosen.rounds_per_batch == 0:
            run.meet(table, round_ // chosen.rounds_per_batch)
        return table, run.context_of(table, VECTORS["a"], round_=round_)

    return fresh


class Outcome:
    """How a run with one changed message ended: the sum, or who was named."""

    def __init__(self, play, liar):
        self.total = self.error = None
        try:
            self.total = play()
        except (PeerError, IntegrityError, DropoutError) as error:
            self.error = error
        self.named = getattr(self.error, "sender", liar)


def lying_signer(monkeypatch, kinds, change):
    """The liar's own messages of these kinds are changed before they are signed: past the signature, to the parser."""
    real = session.sign_message

    def sign(identity, kind, sender, binding, *body):
        if sender == LIAR and kind in kinds:
            body = (changed(b"".join(body), change),)
        return real(identity, kind, sender, binding, *body)

    def sign_draft(identity, kind, sender, binding, draft):
        return sign(identity, kind, sender, binding, bytes(draft.body))

    monkeypatch.setattr(session, "sign_message", sign)
    monkeypatch.setattr(session, "sign_draft", sign_draft)


@given(leg=st.sampled_from(("payload", "reply")), change=CHANGES)
@FUZZ
@example(leg="payload", change=b"")
@example(leg="reply", change=b"")
def test_a_changed_message_is_refused_naming_its_sender(room, leg, change):
    table, context = room()
    sent = []

    def wire(at, party, message):
        if (at, party) != (leg, LIAR):
            return message
        sent.append((message, changed(message, change)))
        return sent[-1][1]

    table.tamper = wire
    outcome = Outcome(lambda: run.add_up(table, VECTORS, context), LIAR)
    assert outcome.named == LIAR
    if outcome.error is None:
        signed = table.protocol != "plain"
        assert not sent or not signed or all(before == after for before, after in sent)


@given(change=CHANGES)
@FUZZ
@example(change=b"")
def test_a_changed_request_is_refused_naming_the_aggregator(room, change):
    table, context = room()
    payloads = {site: table.parties[site].protect(VECTORS[site], context) for site in SITES}
    pending = table.collector.combine(payloads, context)
    for trip in range(2):
        for party, request in sorted(pending.requests.items()):
            ask = partial(table.parties[party].assist, changed(request, change), context)
            outcome = Outcome(ask, AGGREGATOR)
            assert outcome.named in {AGGREGATOR, *SITES}
            assert isinstance(outcome.error, PeerError | None)
        if trip or table.protocol == "plain" or not set(pending.requests) <= set(SITES):
            return
        # The second trip, where there is one, from a sum whose first trip was honest.
        table, context = room()
        payloads = {site: table.parties[site].protect(VECTORS[site], context) for site in SITES}
        pending = table.collector.combine(payloads, context)
        replies = {party: table.parties[party].assist(text, context) for party, text in pending.requests.items()}
        pending = table.collector.open(pending, replies)
        if not isinstance(pending, Pending):
            return


@given(change=CHANGES)
@FUZZ
@example(change=b"")
def test_what_a_party_signs_itself_is_parsed_with_the_same_distrust(room, monkeypatch, change):
    table, context = room()
    with monkeypatch.context() as patch:
        lying_signer(patch, {b"payload", b"reply", b"agreement", b"consent", b"opened"}, change)
        outcome = Outcome(lambda: run.add_up(table, VECTORS, context), LIAR)
    # A liar's sealed box that does not open is the carrier's fault as far as its recipient can tell.
    assert outcome.named in {LIAR, AGGREGATOR}


@pytest.mark.parametrize(("protocol", "chosen"), CASES)
@pytest.mark.parametrize("leg", ["hello", "grant"])
@given(change=CHANGES, signed=st.booleans())
@settings(FUZZ, max_examples=15)
@example(change=b"", signed=True)
@example(change=b"", signed=False)
def test_a_changed_greeting_is_refused_naming_its_sender(monkeypatch, protocol, chosen, leg, change, signed):
    table = run.sit_down(protocol, SITES, replace(chosen, rounds_per_batch=2))
    with monkeypatch.context() as patch:
        if signed:
            lying_signer(patch, {leg.encode()}, change)
        else:
            table.tamper = lambda at, party, message: (
                changed(message, change) if (at, party) == (leg, LIAR) else message
            )
        hellos = {party: table.carry("hello", party, end.hello()) for party, end in table.parties.items()}

    def meet():
        others = [party for party in table.parties if party != LIAR or leg != "hello"]
        with monkeypatch.context() as patch:
            if signed:
                lying_signer(patch, {leg.encode()}, change)
            grants = {party: table.carry("grant", party, table.parties[party].meet(hellos)) for party in others}
        table.collector.meet(hellos, grants)
        return grants

    outcome = Outcome(meet, LIAR)
    assert outcome.named == LIAR


def test_the_fuzzer_catches_a_parser_that_trusts_a_length(monkeypatch):
    """The broken twin: where a reader does not look how much is left, a short payload ends in somebody else's error."""

    def trusting(self, length):
        field, self._rest = self._rest[:length], self._rest[length:]
        return field

    monkeypatch.setattr(pairwise_messages._Reader, "take", trusting)
    table = run.sit_down("pairwise", SITES, QUICK)
    run.meet(table)
    lying_signer(monkeypatch, {b"payload"}, [("cut", 0.01, b"")])
    with pytest.raises(ValueError, match="can't be 3 ring elements"):
        Outcome(lambda: run.add_up(table, VECTORS), LIAR)
