"""Every altered message and every lie of an aggregator is refused, with the one who sent it named."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import run
from protocols.choice import make_collector
from protocols.encryption import paillier_messages
from protocols.encryption.paillier_messages import Contributions, Mandate, decision_digest
from protocols.primitives.paillier import plaintext_knowledge
from protocols.primitives.paillier.paillier_keys import make_key
from protocols.secure_sum import AGGREGATOR, KEY_HOLDER, Context, IntegrityError, PeerError, SecureSumError
from protocols.sessions.session import sign_message
from protocols.sessions.settings import Settings

NAMES = ("ann", "bob", "cem", "dia", "eva")
VALUES = 4
PROOF, SIGNATURE = 160, 64


class Table:
    """Five sites, the key-holder and the collector after one whole sum; every message is kept."""

    def __init__(self):
        self.settings = Settings(key_bits=512, insecure_test_keys=True)
        table = run.sit_down("paillier", NAMES, self.settings, run.tape("refusals"))
        run.meet(table)
        self.roster, self.collector = table.roster, table.collector
        self.identities = {name: party._seat._identity for name, party in table.parties.items()}
        self.holder = table.parties.pop(KEY_HOLDER)
        self.parties = table.parties
        self.hellos = {message.party: message.data for message in table.messages if message.leg == "hello"}
        self.begin(0)

    def begin(self, number):
        """Protect and combine one more sum; nobody has been asked yet."""
        self.context = Context(self.collector.session, number, 0, NAMES, bytes(32), VALUES)
        vector = np.arange(2 * VALUES, dtype=np.uint64).reshape(VALUES, 2)
        self.payloads = {name: party.protect(vector, self.context) for name, party in self.parties.items()}
        self.pending = self.collector.combine(self.payloads, self.context)
        self.asked = Contributions.from_bytes(self.pending.requests["ann"])
        return self

    def consent(self):
        """Every site signs; the key-holder has not been asked yet."""
        self.consents = {n: self.parties[n].assist(r, self.context) for n, r in self.pending.requests.items()}
        self.mandated = self.collector.open(self.pending, self.consents)
        self.mandate = Mandate.from_bytes(self.mandated.requests[KEY_HOLDER])
        return self

    def sign(self, name, kind, body, context=None):
        return sign_message(self.identities[name], kind, name, (context or self.context).digest, body)


KEY = Table().holder._private


@pytest.fixture
def table():
    return Table()


def alterations(message):
    """Flipped bits from end to end, cut at either side or inside, grown, emptied, doubled."""
    for at in range(0, len(message), max(1, len(message) // 40)):
        yield message[:at] + bytes([message[at] ^ 1 << at % 8]) + message[at + 1 :]
    yield from (message[:-1], message[1:], message[: len(message) // 2], message + b"\0", b"", message * 2)
    yield message[:-SIGNATURE] + bytes(SIGNATURE)


def refused_by(sender, verb, *arguments, match=None):
    with pytest.raises(PeerError, match=match) as refusal:
        verb(*arguments)
    assert refusal.value.sender == sender


@pytest.mark.parametrize("sender", ["ann", KEY_HOLDER])
def test_an_altered_hello_is_refused(table, sender):
    for altered in alterations(table.hellos[sender]):
        fresh = make_collector("paillier", table.roster, table.settings)
        refused_by(sender, fresh.meet, {**table.hellos, sender: altered}, {})


def test_a_key_that_can_not_be_one_is_refused(table):
    n = int(KEY.public.n)
    bad = [n - 1, 3 * (n // 3 | 1), n >> 1]
    for modulus in [*(value.to_bytes(64, "big") for value in bad), KEY.public.to_bytes()[1:], b"", bytes(64)]:
        hello = table.holder._seat.hello(0, modulus)
        fresh = make_collector("paillier", table.roster, table.settings)
        refused_by(KEY_HOLDER, fresh.meet, {**table.hellos, KEY_HOLDER: hello}, {}, match="public key")


def test_an_altered_payload_is_refused_by_the_collector(table):
    for altered in alterations(table.payloads["bob"]):
        refused_by("bob", table.collector.combine, {**table.payloads, "bob": altered}, table.context)


def test_a_payload_from_another_place_is_refused(table):
    earlier = dict(table.payloads)
    table.begin(1)
    elsewhere = Context(bytes(32), 1, 0, NAMES, bytes(32), VALUES)
    body = table.payloads["bob"][:-SIGNATURE]
    for payload in (
        earlier["bob"],
        table.payloads["ann"],
        table.sign("ann", b"paillier payload v2", body),
        table.sign("bob", b"paillier consent", body),
        table.sign("bob", b"paillier payload v2", body, elsewhere),
    ):
        refused_by("bob", table.collector.combine, {**table.payloads, "bob": payload}, table.context, match="signed")
    stranger = {**table.payloads, "zoe": table.payloads["bob"]}
    refused_by("zoe", table.collector.combine, stranger, table.context)


def test_well_signed_nonsense_is_refused_and_its_author_named(table):
    body = table.payloads["bob"][:-SIGNATURE]
    n, square = int(KEY.public.n), int(KEY.public.n_squared)
    for wrong in (bytes(128), n.to_bytes(128, "big"), square.to_bytes(128, "big"), b"\xff" * 128, b"", bytes(127)):
        payload = table.sign("bob", b"paillier payload v2", wrong + body[128:])
        refused_by(
            "bob", table.collector.combine, {**table.payloads, "bob": payload}, table.context, match="ciphertext"
        )


def test_an_altered_request_is_refused_by_every_site(table):
    for altered in alterations(table.pending.requests["cem"]):
        for name in ("ann", "cem"):
            refused_by(AGGREGATOR, table.parties[name].assist, altered, table.context)


def with_(asked, **changes):
    fields = {"seed": asked.seed, "decision": asked.decision, "payloads": asked.payloads}
    return Contributions(**{**fields, **changes})


def honest_decision(table, asked):
    """What an aggregator that tells its lie consistently would ask to be signed."""
    packing = table.collector._terms.packing(table.context, table.collector.session)
    columns = [
        paillier_messages.read_ciphertexts(KEY.public, payload[: -PROOF - SIGNATURE], packing.plaintexts)
        for payload in asked.payloads.values()
    ]
    blind = paillier_messages.blinds(KEY.public, asked.seed, table.context, packing.plaintexts, "aes-256-ctr")
    blinded = paillier_messages.blinded_product(KEY.public, columns, blind)
    data = b"".join(int(value).to_bytes(128, "big") for value in blinded)
    return with_(asked, decision=decision_digest(data, tuple(asked.payloads))), data


def test_the_consistent_lie_of_these_tests_is_the_truth_when_nothing_is_changed(table):
    honest, data = honest_decision(table, table.asked)
    assert honest == table.asked
    assert data == table.consent().mandate.blinded


def lies(table):
    """Requests that an honest collector never sends, each told as consistently as a liar can."""
    payloads = dict(table.asked.payloads)
    only = {"ann": payloads["ann"]}
    few = {name: payloads[name] for name in ("ann", "bob", "cem")}
    without_me = {name: payload for name, payload in payloads.items() if name != "ann"}
    twice = {**payloads, "bob": payloads["ann"]}
    resigned = {**payloads, "bob": table.sign("ann", b"paillier payload v2", payloads["ann"][:-SIGNATURE])}
    swapped = {**payloads, "ann": payloads["bob"]}
    stranger = {**payloads, "zoe": payloads["bob"]}
    yield "a single site", honest_decision(table, with_(table.asked, payloads=only))[0]
    yield "fewer than the threshold", honest_decision(table, with_(table.asked, payloads=few))[0]
    yield "without the site that is asked", honest_decision(table, with_(table.asked, payloads=without_me))[0]
    yield "one payload under two names", honest_decision(table, with_(table.asked, payloads=twice))[0]
    yield "a payload signed by another", honest_decision(table, with_(table.asked, payloads=resigned))[0]
    yield "the asked site's payload replaced", honest_decision(table, with_(table.asked, payloads=swapped))[0]
    yield "a name outside the cohort", honest_decision(table, with_(table.asked, payloads=stranger))[0]
    single, _ = honest_decision(table, with_(table.asked, payloads=only))
    yield "all payloads shown, one site opened", with_(table.asked, decision=single.decision)
    yield "another blind opened than used", with_(table.asked, seed=bytes(32))
    yield "nobody", with_(table.asked, payloads={})


@pytest.mark.parametrize("which", range(10))
def test_a_site_signs_no_lie_about_the_sum(table, which):
    _, lie = list(lies(table))[which]
    refused_by(AGGREGATOR, table.parties["ann"].assist, lie.to_bytes(), table.context)
    assert table.parties["ann"].assist(table.pending.requests["ann"], table.context), "a refused lie uses nothing up"


def test_names_out_of_order_are_refused(table):
    reverse = dict(reversed(table.asked.payloads.items()))
    fields = [table.asked.seed, table.asked.decision]
    for name, payload in reverse.items():
        fields += [name.encode(), payload]
    for request, reason in [
        (fields, "sorted"),
        (fields + fields[-2:], "stands twice"),
        (fields[:-1], "without"),
        ([*fields[:-2], "ämm".encode(), fields[-1]], "ASCII"),
        ([fields[0][1:], *fields[1:]], "seed"),
        (fields[:1], "cut short"),
    ]:
        data = b"".join(struct.pack("<I", len(field)) + field for field in request)
        refused_by(AGGREGATOR, table.parties["ann"].assist, data, table.context, match=reason)


def test_a_request_of_another_round_is_refused(table):
    earlier = table.pending.requests["ann"]
    table.begin(1)
    refused_by(AGGREGATOR, table.parties["ann"].assist, earlier, table.context)


def test_an_altered_consent_is_refused_by_the_collector(table):
    table.consent()
    for altered in alterations(table.consents["dia"]):
        refused_by("dia", table.collector.open, table.pending, {**table.consents, "dia": altered})
    other = table.sign("dia", b"paillier consent", bytes(32))
    refused_by("dia", table.collector.open, table.pending, {**table.consents, "dia": other}, match="something else")
    refused_by("zoe", table.collector.open, table.pending, {**table.consents, "zoe": b""})
    refused_by(KEY_HOLDER, table.collector.open, table.pending, {**table.consents, KEY_HOLDER: b""})


def test_an_altered_mandate_is_refused_by_the_key_holder(table):
    for altered in alterations(table.consent().mandated.requests[KEY_HOLDER]):
        refused_by(AGGREGATOR, table.holder.assist, altered, table.context)


def test_the_key_holder_opens_no_single_site_whatever_it_is_shown(table):
    table.consent()
    single, data = honest_decision(table, with_(table.asked, payloads={"ann": table.asked.payloads["ann"]}))
    bare = table.payloads["ann"][: -PROOF - SIGNATURE]
    colluder = table.sign("ann", b"paillier consent", decision_digest(data, ("ann",)))
    for_all = table.sign("ann", b"paillier consent", decision_digest(data, NAMES))
    for mandate, reason in [
        (Mandate(bare, NAMES, table.consents), "something else"),
        (Mandate(data, NAMES, table.consents), "something else"),
        (Mandate(data, ("ann",), {"ann": colluder}), "threshold"),
        (Mandate(data, ("ann",), table.consents), "threshold"),
        (Mandate(data, NAMES, {"ann": for_all}), "threshold"),
        (Mandate(data, NAMES, {"ann": for_all, "bob": for_all, "cem": for_all, "dia": for_all}), "not signed"),
        (Mandate(data, NAMES, {**table.consents, "ann": for_all}), "something else"),
        (Mandate(bare, NAMES, {}), "threshold"),
    ]:
        refused_by(AGGREGATOR, table.holder.assist, mandate.to_bytes(), table.context, match=reason)
    assert single.decision != table.asked.decision
    assert table.holder.assist(table.mandated.requests[KEY_HOLDER], table.context)


def test_the_key_holder_counts_only_sites_of_the_sum(table):
    table.consent()
    blinded, consents = table.mandate.blinded, table.mandate.consents
    few = {name: consents[name] for name in NAMES[:3]}
    forged = {KEY_HOLDER: table.sign(KEY_HOLDER, b"paillier consent", table.asked.decision)}
    for present, signatures, reason in [
        (NAMES, few, "3 sites signed, the threshold is 4"),
        (NAMES, {**few, **forged}, "not in"),
        (NAMES[:4], consents, "something else|not in"),
        (NAMES[::-1], consents, "sorted"),
        ((*NAMES, "zoe"), consents, "outside"),
        ((*NAMES, NAMES[-1]), consents, "twice"),
        (NAMES[:3], few, "threshold"),
    ]:
        request = Mandate(blinded, present, signatures).to_bytes()
        refused_by(AGGREGATOR, table.holder.assist, request, table.context, match=reason)
    least = Mandate(blinded, NAMES, {name: consents[name] for name in NAMES[:4]})
    assert table.holder.assist(least.to_bytes(), table.context)


def test_the_key_holder_decides_once_per_round_and_attempt(table):
    table.consent()
    answer = table.holder.assist(table.mandated.requests[KEY_HOLDER], table.context)
    smaller = Context(table.collector.session, 0, 0, NAMES[:4], bytes(32), VALUES)
    body = decision_digest(table.mandate.blinded, NAMES[:4])
    consents = {name: table.sign(name, b"paillier consent", body, smaller) for name in NAMES[:4]}
    second = Mandate(table.mandate.blinded, NAMES[:4], consents).to_bytes()
    refused_by(AGGREGATOR, table.holder.assist, second, smaller, match="opened before")
    assert table.holder.assist(table.mandated.requests[KEY_HOLDER], table.context) == answer


def test_colluding_signatures_below_the_threshold_open_nothing_that_is_malformed_or_foreign(table):
    """Even with enough signatures, numbers that could tell on the key are not touched."""
    table.consent()
    for wrong in (0, int(KEY.public.n), int(KEY.public.n_squared), int(KEY.phe_pair()[1].p) * 7):
        data = wrong.to_bytes(128, "big") + table.mandate.blinded[128:]
        body = decision_digest(data, NAMES)
        consents = {name: table.sign(name, b"paillier consent", body) for name in NAMES}
        request = Mandate(data, NAMES, consents).to_bytes()
        refused_by(AGGREGATOR, table.holder.assist, request, table.context, match="ciphertext")


def test_an_altered_opening_is_refused_by_the_collector(table):
    table.consent()
    opened = table.holder.assist(table.mandated.requests[KEY_HOLDER], table.context)
    for altered in alterations(opened):
        refused_by(KEY_HOLDER, table.collector.open, table.mandated, {KEY_HOLDER: altered})
    body = opened[:-SIGNATURE]
    n = int(KEY.public.n).to_bytes(64, "big")
    for wrong, reason in [
        (bytes(32) + body[32:], "something else"),
        (body[:-1], "bytes"),
        (body + bytes(64), "bytes"),
        (body[:-64] + n, "below the modulus"),
    ]:
        reply = {KEY_HOLDER: table.sign(KEY_HOLDER, b"paillier opened", wrong)}
        refused_by(KEY_HOLDER, table.collector.open, table.mandated, reply, match=reason)
    refused_by("ann", table.collector.open, table.mandated, {"ann": table.consents["ann"]}, match="not made")


def test_a_site_with_a_foreign_key_is_named(table, monkeypatch):
    """Ciphertexts under another modulus are none that it knows; unproved they open to noise, no sum of vectors."""
    foreign = make_key(512, run.tape("foreign")(KEY_HOLDER)).public
    theirs = b"".join(
        int(
            foreign.nude(5) * pow(7, int(foreign.n), int(foreign.n_squared)) % foreign.n_squared % KEY.public.n_squared
        ).to_bytes(128, "big")
        for _ in range(2)
    )
    payloads = {**table.payloads, "bob": table.sign("bob", b"paillier payload v2", theirs + bytes(PROOF))}
    refused_by("bob", table.collector.combine, payloads, table.context, match="does not prove knowledge")
    monkeypatch.setattr(plaintext_knowledge, "verify", lambda *_: None)
    pending = table.collector.combine(payloads, table.context)
    consents = {n: table.parties[n].assist(pending.requests[n], table.context) for n in NAMES if n != "bob"}
    mandated = table.collector.open(pending, consents)
    opened = table.holder.assist(mandated.requests[KEY_HOLDER], table.context)
    with pytest.raises(IntegrityError):
        table.collector.open(mandated, {KEY_HOLDER: opened})


FUZZED = Table().consent()


@settings(max_examples=150)
@given(st.binary(max_size=400), st.integers(0, 3), st.booleans())
def test_no_bytes_make_anything_but_a_refusal_escape(noise, where, framed):
    data = b"".join(struct.pack("<I", len(piece)) + piece for piece in (noise, noise[:3], noise)) if framed else noise
    table = FUZZED
    verbs = [
        lambda: table.parties["ann"].assist(data, table.context),
        lambda: table.holder.assist(data, table.context),
        lambda: table.collector.combine({**table.payloads, "ann": data}, table.context),
        lambda: table.collector.open(table.mandated, {KEY_HOLDER: data}),
    ]
    with pytest.raises(SecureSumError):
        verbs[where]()
