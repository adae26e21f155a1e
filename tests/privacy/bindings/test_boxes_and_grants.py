"""A sealed box opens in the sum, or in the batch of keys, that it was sealed for; a grant counts where it was made."""

from dataclasses import replace

import pytest

from protocols import run
from protocols.encryption import paillier_threshold
from protocols.masking.mask_keys import KeyBook
from protocols.masking.pairwise_messages import (
    NO_SHARE,
    SEED_BOX_BYTES,
    Leg,
    Payload,
    Reply,
    Request,
    secrets_box_bytes,
)
from protocols.primitives.keys import KEY_BYTES
from protocols.secure_sum import KEY_DEALER, PeerError, sha256
from protocols.sessions import channels


def take_header_out(monkeypatch):
    """The broken twin: boxes are authentic, but for no place beyond kind, round and attempt."""
    monkeypatch.setattr(channels, "_header", lambda *_: b"")


def shares_given(party, request, context):
    """Of whose secrets this party gives shares, when asked."""
    body = memoryview(party.assist(request.pack(context.cohort), context))[:-64]
    reply = Reply.read(body, party.me, context.cohort, context.cohort)
    return {owner for owner, share in reply.shares.items() if share != NO_SHARE}


def asked_with_a_box_of_another_layout(set_back, vectors):
    """b is told of another layout than the rest, and a is handed b's box among the others'."""
    table = set_back("pairwise")
    run.meet(table)
    context = run.context_of(table, vectors["a"])
    boxes = {}
    for site in vectors:
        told = replace(context, layout=bytes(32)) if site == "b" else context
        body = memoryview(table.parties[site].protect(vectors[site], told))[:-64]
        peers = tuple(peer for peer in vectors if peer != site)
        boxes[site] = Payload.read(body, site, told, peers).boxes.get("a")
    del boxes["a"]
    return shares_given(table.parties["a"], Request(Leg.RELEASE, context.cohort, {}, boxes), context)


def test_a_box_sealed_for_another_layout_does_not_open(set_back, vectors):
    assert asked_with_a_box_of_another_layout(set_back, vectors) == {"a", "c", "d"}


def test_the_twin_without_a_header_opens_it(set_back, vectors, monkeypatch):
    take_header_out(monkeypatch)
    assert asked_with_a_box_of_another_layout(set_back, vectors) == {"a", "b", "c", "d"}


def second_batch(table, fewer_for):
    """Everybody's hellos and grants of batch 1; one site is shown fewer hellos than the others."""
    hellos = {site: table.parties[site].hello(1) for site in table.sites}
    fewer = {site: hellos[site] for site in table.sites if site != "d"}
    shown = {site: fewer if site == fewer_for else hellos for site in table.sites}
    return hellos, {site: table.parties[site].meet(shown[site], 1) for site in table.sites}


def asked_with_a_box_of_other_hellos(set_back, vectors):
    """b was shown other hellos than the rest; said to be absent, its secret is to be opened with a's share."""
    table = set_back("pairwise")
    run.meet(table)
    _, grants = second_batch(table, fewer_for="b")
    context = run.context_of(table, vectors["a"], round_=2)
    table.parties["a"].protect(vectors["a"], context)
    boxes = {"b": grants["b"][: secrets_box_bytes(2)], "c": bytes(SEED_BOX_BYTES), "d": bytes(SEED_BOX_BYTES)}
    return shares_given(table.parties["a"], Request(Leg.RELEASE, ("a", "c", "d"), {}, boxes), context)


def test_a_box_sealed_among_other_hellos_does_not_open(set_back, vectors):
    with pytest.raises(PeerError, match="box from b"):  # the only one that was not nonsense from the start
        asked_with_a_box_of_other_hellos(set_back, vectors)


def test_the_twin_without_a_header_gives_a_share_out_of_it(set_back, vectors, monkeypatch):
    take_header_out(monkeypatch)
    assert asked_with_a_box_of_other_hellos(set_back, vectors) == {"a", "b"}


def meet_with_a_grant_among_other_hellos(set_back):
    """b has one hello less than the others, and its grant is as long as theirs all the same."""
    table = set_back("pairwise")
    run.meet(table)
    hellos, grants = second_batch(table, fewer_for="b")
    b, boxes = table.parties["b"], 2 * secrets_box_bytes(2)
    longer = grants["b"][:boxes] + bytes(secrets_box_bytes(2)) + grants["b"][boxes:-64] + bytes(2 * KEY_BYTES)
    grants["b"] = b._seat.sign_bound(b"grant", b._room.batch(1).binding, longer)
    table.collector.meet(hellos, grants, 1)


def test_a_grant_made_among_other_hellos_does_not_count(set_back):
    with pytest.raises(PeerError, match="grant is not signed") as caught:
        meet_with_a_grant_among_other_hellos(set_back)
    assert caught.value.sender == "b"


def test_the_twin_whose_grants_are_bound_to_no_hellos_keeps_boxes_that_nobody_can_open(set_back, monkeypatch):
    """The broken twin: the collector counts on b's shares, and learns that they are none when b falls silent."""
    monkeypatch.setattr(KeyBook, "binding", property(lambda self: sha256(b"secirls key book v1", self.session)))
    meet_with_a_grant_among_other_hellos(set_back)


def meet_with_an_earlier_sessions_grant(set_back):
    """The dealer was set back, and the grant it made in an earlier session, of the same key, is handed in again."""
    earlier, now = set_back("paillier-threshold"), set_back("paillier-threshold", {"a": lambda draw: draw == 1})
    run.meet(earlier)
    recorded = {message.party: message.data for message in earlier.messages if message.leg == "grant"}
    hellos = {name: party.hello() for name, party in now.parties.items()}
    grants = {name: party.meet(hellos) for name, party in now.parties.items()}
    assert grants[KEY_DEALER] != recorded[KEY_DEALER]
    now.collector.meet(hellos, {**grants, KEY_DEALER: recorded[KEY_DEALER]})


def test_a_dealers_grant_counts_in_its_own_session_alone(set_back):
    with pytest.raises(PeerError, match="dealt is not signed") as caught:
        meet_with_an_earlier_sessions_grant(set_back)
    assert caught.value.sender == KEY_DEALER


def test_the_twin_whose_dealers_grant_is_bound_to_the_key_alone_takes_the_earlier_one(set_back, monkeypatch):
    monkeypatch.setattr(paillier_threshold, "_binding", lambda _, body: sha256(b"secirls paillier dealt v1", body))
    meet_with_an_earlier_sessions_grant(set_back)
