"""Every message changed on its way, byte for byte: refused, and the party it came from is named."""

import numpy as np
import pytest

from protocols import run
from protocols.primitives import ring
from protocols.secure_sum import AGGREGATOR, KEY_HOLDER, IntegrityError, PeerError, SecureSumError
from protocols.sessions.settings import Settings

SITES = ("site-1", "site-2", "site-3", "site-4")
SETTINGS = Settings(threshold=3, rounds_per_batch=1)
CONSISTENT = Settings(threshold=3, rounds_per_batch=1, consistency=True)


def vectors():
    entropy = run.tape("tampering")
    return {site: ring.expand(entropy(site)(32), 2, 2) for site in SITES}


def changes(data, every):
    """The message with one byte flipped, one after the other; then shortened; then lengthened."""
    for place in range(0, len(data), every):
        yield bytes([*data[:place], data[place] ^ 1 << place % 8, *data[place + 1 :]])
    for length in sorted({0, 1, len(data) // 2, len(data) - 1} - {len(data)}):
        if 0 <= length < len(data):
            yield data[:length]
    yield data + b"\0"
    if data:
        yield data + data


def attacked(protocol, settings, leg, victim, trip, change, silent):
    """One session in which a single message of a single party is changed."""
    seen = 0

    def tamper(this_leg, party, data):
        nonlocal seen
        if (this_leg, party) != (leg, victim):
            return data
        seen += 1
        return change if seen - 1 == trip else data

    return run.secure_sum(protocol, vectors(), settings, entropy=run.tape("tampering"), tamper=tamper, silent=silent)


def ending(*attack):
    """How a session under attack ends: its total, or who is named, or what is lost with nobody named."""
    try:
        return attacked(*attack), None, ""
    except PeerError as refusal:
        return None, refusal.sender, ""
    except IntegrityError as error:
        return None, None, str(error)


def is_exact(total):
    return np.array_equal(total.vector, ring.total_of((vectors()[site] for site in total.parties), 2, 2))


def messages(protocol, settings, silent):
    """What is said in the same session when nobody interferes: (leg, party, trip, bytes)."""
    table = run.sit_down(protocol, SITES, settings, run.tape("tampering"))
    table.silent = silent
    run.meet(table)
    run.add_up(table, vectors())
    trips = {}
    for message in table.messages:
        name = (message.leg, message.party)
        trips[name] = trips.get(name, -1) + 1
        yield message.leg, message.party, trips[name], message.data


@pytest.mark.parametrize(
    ("protocol", "settings", "silent"),
    [
        ("additive", SETTINGS, {}),
        ("pairwise-lean", SETTINGS, {}),
        ("pairwise", SETTINGS, {}),
        pytest.param("pairwise", SETTINGS, {"payload": ["site-4"]}, marks=pytest.mark.slow),
        ("pairwise", CONSISTENT, {"payload": ["site-4"]}),
    ],
    ids=["additive", "lean", "pairwise", "pairwise with a dropout", "pairwise with consistency"],
)
def test_a_changed_message_is_refused_and_its_sender_named(protocol, settings, silent):
    tried = left_out = 0
    for leg, party, trip, data in messages(protocol, settings, silent):
        if party != "site-2":
            continue
        # A flip in a long message is like its neighbour; each field still gets several.
        for change in changes(data, every=1 if len(data) < 60 or protocol == "pairwise-lean" else 7):
            tried += 1
            total, named, lost = ending(protocol, settings, leg, party, trip, change, silent)
            if named is not None:
                assert named == (AGGREGATOR if leg == "request" else party)
                continue
            # One box of a request does not open: the sum does without the share in it, or says which secret is lost.
            assert (protocol, leg) == ("pairwise", "request")
            assert "can't be put together" in lost or is_exact(total)
            left_out += 1
    assert tried > 80
    assert (left_out > 0) == (protocol == "pairwise")


@pytest.mark.parametrize("leg", ["payload", "request", "reply"])
def test_paillier_refuses_changed_messages_and_names_their_sender(tables, leg):
    def play(tamper=None):
        table, round_ = tables.seated("paillier", 4, threshold=3)
        table.tamper = tamper
        try:
            run.add_up(table, vectors(), run.context_of(table, vectors()["site-1"], round_=round_))
        finally:
            spoken = [(message.leg, message.party, len(message.data)) for message in table.messages]
        return spoken

    for party in ("site-2", KEY_HOLDER):
        lengths = [length for this_leg, speaker, length in play() if (this_leg, speaker) == (leg, party)]
        for length in lengths:
            for place in sorted({0, 40, length // 2, length - 70, length - 1}):

                def tamper(this_leg, speaker, data, place=place, party=party):
                    if (this_leg, speaker) != (leg, party):
                        return data
                    return bytes([*data[:place], data[place] ^ 1, *data[place + 1 :]])

                with pytest.raises(PeerError) as caught:
                    play(tamper)
                assert caught.value.sender == (AGGREGATOR if leg == "request" else party)

            def cut(this_leg, speaker, data, party=party):
                return data[:-1] if (this_leg, speaker) == (leg, party) else data

            with pytest.raises(SecureSumError):
                play(cut)


def test_plain_refuses_a_payload_of_another_length():
    for change in changes(bytes(32), every=100):
        if len(change) == 32:
            continue  # an open sum has nothing to be authenticated by but the channel it travels on
        with pytest.raises(PeerError) as caught:
            attacked("plain", SETTINGS, "payload", "site-2", 0, change, {})
        assert caught.value.sender == "site-2"


@pytest.mark.parametrize("protocol", ["additive", "pairwise-lean", "pairwise"])
@pytest.mark.parametrize("leg", ["hello", "grant", "payload", "reply"])
def test_a_message_from_another_session_is_refused(protocol, leg):
    recorded = {}

    def record(this_leg, party, data):
        recorded[this_leg, party] = data
        return data

    run.secure_sum(protocol, vectors(), SETTINGS, tamper=record)
    if not recorded.get((leg, "site-2")):
        return  # this protocol says nothing on this leg

    def replay(this_leg, party, data):
        return recorded[leg, "site-2"] if (this_leg, party) == (leg, "site-2") else data

    with pytest.raises(SecureSumError) as caught:
        run.secure_sum(protocol, vectors(), SETTINGS, tamper=replay)
    assert "site-2" in str(caught.value)


@pytest.mark.parametrize("protocol", ["additive", "pairwise-lean", "pairwise"])
def test_one_partys_message_does_not_pass_for_anothers(protocol):
    for leg in ("hello", "payload", "reply"):
        held = {}

        if leg == "reply" and protocol == "pairwise-lean":
            continue  # this protocol says nothing on this leg

        def swap(this_leg, party, data, leg=leg, held=held):
            held[this_leg, party] = data
            return held[leg, "site-1"] if (this_leg, party) == (leg, "site-2") else data

        with pytest.raises(PeerError) as caught:
            run.secure_sum(protocol, vectors(), SETTINGS, tamper=swap)
        assert caught.value.sender == "site-2"


def test_the_collector_can_go_on_without_the_bad_message():
    table = run.sit_down("pairwise", SITES, SETTINGS)
    run.meet(table)
    values = vectors()
    context = run.context_of(table, values["site-1"])
    payloads = {site: table.parties[site].protect(values[site], context) for site in SITES}
    bad = {**payloads, "site-2": payloads["site-2"][:-1] + bytes([payloads["site-2"][-1] ^ 1])}
    with pytest.raises(PeerError, match="site-2"):
        table.collector.combine(bad, context)
    del bad["site-2"]
    pending = table.collector.combine(bad, context)
    replies = {site: table.parties[site].assist(request, context) for site, request in pending.requests.items()}
    with pytest.raises(PeerError, match="site-3"):
        table.collector.open(pending, {**replies, "site-3": replies["site-1"]})
    total = table.collector.open(pending, replies)
    assert total.parties == ("site-1", "site-3", "site-4")
    assert np.array_equal(total.vector, ring.total_of((values[site] for site in total.parties), 2, 2))
