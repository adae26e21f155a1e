"""An aggregator that breaks the protocol: each lie is refused, and the refusal says which it was."""

from dataclasses import replace

import numpy as np
import pytest

from protocols import run
from protocols.choice import make_party
from protocols.masking.pairwise import PairwiseParty
from protocols.masking.pairwise_messages import (
    NO_SHARE,
    SEED_BOX_BYTES,
    Leg,
    Reply,
    Request,
    read_set_boxes,
    secrets_box_bytes,
)
from protocols.masking.round_seeds import FINGERPRINT_BYTES
from protocols.primitives import ring
from protocols.primitives.keys import AgreementKey, Identity
from protocols.secure_sum import AGGREGATOR, DropoutError, MisuseError, PeerError
from protocols.sessions.session import Roster, sign_message
from protocols.sessions.settings import Settings

SITES = ("a", "b", "c", "d", "e")
SETTINGS = Settings(threshold=4, rounds_per_batch=4)


class Stage:
    """One sum up to the moment the aggregator asks for help, with its requests taken apart."""

    def __init__(self, settings=SETTINGS, gone=(), round_=0, table=None):
        self.table = table or run.sit_down("pairwise", SITES, settings)
        if table is None:
            run.meet(self.table)
        self.settings = settings
        self.vectors = {site: np.full((3, 2), ord(site), dtype=np.uint64) for site in SITES}
        self.context = run.context_of(self.table, self.vectors["a"], round_=round_)
        self.payloads = {
            site: self.table.parties[site].protect(self.vectors[site], self.context)
            for site in SITES
            if site not in gone
        }
        self.pending = self.table.collector.combine(self.payloads, self.context)

    def request(self, party="a", pending=None):
        message = (pending or self.pending).requests[party]
        near = tuple(peer for peer in self.context.cohort if peer != party)
        return Request.read(message, near, self.context.cohort, self.settings.rounds_per_batch, boxed=True)

    def ask(self, request, party="a", context=None):
        message = request if isinstance(request, bytes) else request.pack(self.context.cohort)
        return self.table.parties[party].assist(message, context or self.context)

    def refused(self, request, reason, party="a", context=None):
        with pytest.raises(PeerError, match=reason) as caught:
            self.ask(request, party, context)
        assert caught.value.sender == AGGREGATOR


def invented(present, party="a", settings=SETTINGS):
    """A request for any set, well formed, with boxes of the right lengths and nothing in them."""
    seed, key = bytes(SEED_BOX_BYTES), bytes(secrets_box_bytes(settings.rounds_per_batch))
    return Request(
        Leg.RELEASE, present, {}, {peer: seed if peer in present else key for peer in SITES if peer != party}
    )


def agreed(stage):
    """The second trip's pending sum, after everyone signed the present set."""
    replies = {party: stage.ask(message, party) for party, message in stage.pending.requests.items()}
    return stage.table.collector.open(stage.pending, replies)


def other_pending(stage, gone):
    """What the same collector asks when it pretends not to have heard from some."""
    payloads = {site: payload for site, payload in stage.payloads.items() if site not in gone}
    return stage.table.collector.combine(payloads, stage.context)


def test_both_secrets_of_one_party_are_never_given():
    stage = Stage()
    stage.ask(stage.request())
    stage.refused(stage.request(pending=other_pending(stage, ["b"])), "a second time")


def test_the_same_request_is_not_answered_twice():
    stage = Stage()
    stage.ask(stage.request())
    stage.refused(stage.request(), "a second time")


def test_a_set_below_the_threshold_is_not_opened():
    stage = Stage(gone=["e"])
    for present in (("a",), ("a", "b"), ("a", "b", "c")):
        stage.refused(invented(present), f"sum of {len(present)}: the threshold is 4")
    lower = Settings(threshold=1)
    with pytest.raises(MisuseError, match="threshold 1 is impossible"):
        run.sit_down("pairwise", SITES, lower)
    with pytest.raises(DropoutError):
        other_pending(stage, ["d"])


def test_a_party_does_not_help_with_a_sum_that_leaves_it_out():
    stage = Stage()
    stage.refused(invented(("b", "c", "d", "e")), "leaves it out")


def test_a_party_opens_nothing_it_sent_no_payload_for():
    stage = Stage(gone=["e"])
    stage.refused(stage.request("b"), "no payload", party="e")
    later = replace(stage.context, round=1)
    stage.refused(stage.request(), "no payload", context=later)
    other_attempt = replace(stage.context, attempt=1)
    stage.refused(stage.request(), "no payload", context=other_attempt)


def test_a_request_of_another_round_does_not_open_this_one():
    first = Stage()
    second = Stage(round_=1, table=first.table)
    second.refused(first.request(), "box from b")
    assert second.ask(second.request())


def given_shares(stage, request, party="a"):
    """Of whose secrets the party gave a share in its one answer to this request."""
    body = memoryview(stage.ask(request, party))[:-64]
    shares = Reply.read(body, party, stage.context.cohort, stage.context.cohort).shares
    return {owner for owner, share in shares.items() if share != NO_SHARE}


def test_boxes_meant_for_another_party_do_not_open():
    stage = Stage()
    asked, others = stage.request(), stage.request("c")
    stage.refused(replace(asked, boxes={peer: others.boxes.get(peer, bytes(49)) for peer in asked.boxes}), "box from b")
    swapped = {**asked.boxes, "b": others.boxes["b"]}
    swapped["c"], swapped["d"] = swapped["d"], swapped["c"]
    assert given_shares(stage, replace(asked, boxes=swapped)) == {"a", "e"}


def test_a_key_box_cannot_stand_for_a_seed_box_or_the_other_way_round():
    # e claimed present: its payload was never sent, so there is no box to show.
    stage = Stage(gone=["e"])
    asked = stage.request()
    assert set(asked.present) == {"a", "b", "c", "d"}
    claimed = replace(asked, present=SITES, boxes={**asked.boxes, "e": bytes(49)})
    assert given_shares(stage, claimed) == {"a", "b", "c", "d"}
    # b claimed absent: its key shares exist, and may be asked for, but then not its seed.
    stage = Stage(gone=["e"])
    asked = stage.request()
    boxes = {**asked.boxes, "b": asked.boxes["e"], "e": asked.boxes["b"]}
    swapped = replace(asked, present=("a", "c", "d", "e"), boxes=boxes)
    assert given_shares(stage, swapped) == {"a", "c", "d"}


def test_the_cohort_and_the_layout_are_what_the_party_believes():
    stage = Stage()
    table, context = stage.table, stage.context
    # The aggregator tells one site of another layout: nothing it sends fits anyone else's sum.
    elsewhere = replace(context, layout=bytes(32), round=1)
    here = replace(context, round=1)
    payloads = {site: table.parties[site].protect(stage.vectors[site], here) for site in SITES[1:]}
    payloads["a"] = table.parties["a"].protect(stage.vectors["a"], elsewhere)
    with pytest.raises(PeerError, match="not signed") as caught:
        table.collector.combine(payloads, here)
    assert caught.value.sender == "a"
    with pytest.raises(PeerError):
        table.parties["a"].assist(stage.request().pack(SITES), here)


def test_a_round_key_is_used_once_whatever_the_attempt():
    stage = Stage()
    again = replace(stage.context, attempt=1)
    with pytest.raises(MisuseError, match="used up"):
        stage.table.parties["a"].protect(stage.vectors["a"], again)


def test_a_forged_hello_is_noticed():
    table = run.sit_down("pairwise", SITES, SETTINGS)
    hellos = {name: party.hello() for name, party in table.parties.items()}
    mine = AgreementKey(bytes(range(32))).public
    body = hellos["b"][32:-64]
    forged = sign_message(Identity(bytes(32)), b"hello", "b", bytes(32), hellos["b"][:32] + mine + body[32:])
    with pytest.raises(PeerError) as caught:
        table.parties["a"].meet({**hellos, "b": forged})
    assert caught.value.sender == "b"


def test_a_party_that_publishes_a_useless_key_is_named():
    identities = {site: Identity(site.encode() * 32) for site in SITES}
    roster = Roster({site: identity.public for site, identity in identities.items()})
    parties = {site: make_party("pairwise", site, identities[site], roster, SETTINGS) for site in SITES}
    low_order = bytes(32)
    parties["b"]._channels.public = low_order
    hellos = {site: party.hello() for site, party in parties.items()}
    with pytest.raises(PeerError, match="channel key") as caught:
        parties["a"].meet(hellos)
    assert caught.value.sender == "b"


def test_a_party_whose_own_hello_was_replaced_notices():
    table = run.sit_down("pairwise", SITES, SETTINGS, run.tape("one"))
    twin = run.sit_down("pairwise", SITES, SETTINGS, run.tape("one"))
    twin.parties["a"]._seat._nonce = bytes(32)
    hellos = {name: party.hello() for name, party in table.parties.items()}
    with pytest.raises(MisuseError, match="replaced"):
        table.parties["a"].meet({**hellos, "a": twin.parties["a"].hello()})


def test_a_second_meeting_for_one_batch_is_refused():
    table = run.sit_down("pairwise", SITES, SETTINGS)
    run.meet(table)
    hellos = {name: party.hello() for name, party in table.parties.items()}
    with pytest.raises(MisuseError, match="already"):
        table.parties["a"].meet(hellos)
    later = {name: party.hello(1) for name, party in table.parties.items()}
    table.parties["a"].meet(later, 1)
    with pytest.raises(MisuseError, match="already"):
        table.parties["a"].meet({name: later[name] for name in SITES[:4]}, 1)


def test_parties_shown_different_hellos_do_not_open_each_others_boxes():
    table = run.sit_down("pairwise", SITES, SETTINGS)
    run.meet(table)
    hellos = {name: party.hello(1) for name, party in table.parties.items()}
    fewer = {name: hellos[name] for name in SITES[:4]}
    grants = {name: table.parties[name].meet(fewer if name == "a" else hellos, 1) for name in SITES}
    with pytest.raises(PeerError) as caught:
        table.collector.meet(hellos, grants, 1)
    assert caught.value.sender == "a"


CONSISTENT = replace(SETTINGS, consistency=True)


def test_with_consistency_no_share_is_given_before_the_set_is_agreed():
    stage = Stage(CONSISTENT)
    plain = Stage()
    boxes = plain.request().boxes
    stage.refused(Request(Leg.RELEASE, SITES, {}, boxes), "another set than it agreed to")
    stage.ask(stage.request())
    stage.refused(Request(Leg.RELEASE, SITES, {}, boxes), "1 agreements of 4")


def test_with_consistency_a_set_is_signed_once():
    stage = Stage(CONSISTENT)
    stage.ask(stage.request())
    stage.refused(stage.request(), "a second time")
    stage.refused(stage.request(pending=other_pending(stage, ["b"])), "a second time")


def test_with_consistency_shares_go_only_to_the_set_that_was_signed():
    stage = Stage(CONSISTENT)
    second = agreed(stage)
    stage.refused(invented(("a", "b", "c", "d")), "another set")
    assert stage.ask(stage.request(pending=second))


def test_with_consistency_too_few_agreements_are_refused():
    stage = Stage(CONSISTENT, gone=["e"])
    second = stage.request(pending=agreed(stage))
    assert set(second.agreed) == {"b", "c", "d"}
    dropped = {party: box for party, box in second.agreed.items() if party != "b"}
    stage.refused(replace(second, agreed=dropped), "3 agreements of 4")
    stage.refused(replace(second, agreed={**dropped, "a": second.agreed["b"]}), "3 agreements of 4")
    stage.refused(replace(second, agreed={**dropped, "e": second.agreed["b"]}), "e, who is not present")
    assert given_shares(stage, second) == set(SITES)


WRONG_BOXES = {
    "nonsense": lambda first, second, others: bytes(len(second.agreed["b"])),
    "of another sender": lambda first, second, others: second.agreed["c"],
    "for another recipient": lambda first, second, others: others.agreed["b"],
    "of another round": lambda first, second, others: first.agreed["b"],
}


@pytest.mark.parametrize("wrong", WRONG_BOXES.values(), ids=WRONG_BOXES)
def test_with_consistency_a_box_that_is_not_over_this_set_counts_for_nobody(wrong):
    before = Stage(CONSISTENT)
    first = before.request(pending=agreed(before))
    stage = Stage(CONSISTENT, gone=["e"], round_=1, table=before.table)
    pending = agreed(stage)
    second, others = stage.request(pending=pending), stage.request("c", pending)
    forged = replace(second, agreed={**second.agreed, "b": wrong(first, second, others)})
    assert given_shares(stage, forged) == set()
    assert given_shares(stage, others, "c") == set(SITES)


def divided(stage):
    """What a is asked where half the room was told that all are there, and the other half that e is not."""
    everyone, fewer = stage.pending, other_pending(stage, ["e"])
    said = {party: stage.ask(everyone.requests[party], party) for party in "ab"}
    said |= {party: stage.ask(fewer.requests[party], party) for party in "cd"}
    told = {party: SITES if party in "ab" else SITES[:4] for party in said}
    shown = {other: read_set_boxes(memoryview(said[other])[1:-64], other, told[other], SITES)["a"] for other in "bcd"}
    boxes = {peer: payload.boxes["a"] for peer, payload in everyone.hidden.payloads.items() if peer != "a"}
    return Request(Leg.RELEASE, SITES, shown, boxes)


def test_with_consistency_a_divided_room_releases_nothing():
    """Neither half can be shown enough boxes over its own set."""
    stage = Stage(CONSISTENT)
    assert given_shares(stage, divided(stage)) == set()


def test_the_twin_that_does_not_look_into_boxes_releases_its_shares_to_a_divided_room(monkeypatch):
    monkeypatch.setattr(PairwiseParty, "_enough_agreed", lambda *asked: True)
    stage = Stage(CONSISTENT)
    assert given_shares(stage, divided(stage)) == set(SITES)


@pytest.mark.parametrize(("liars", "opens"), [("e", True), ("de", False)])
def test_who_seals_nonsense_for_one_party_silences_nobody(liars, opens):
    """The victim does not count the boxes: with a threshold of others left it gives its shares, else it gives none."""
    stage = Stage(CONSISTENT)
    for liar in liars:
        channels = stage.table.parties[liar]._channels
        honest = channels.seal
        channels.seal = lambda peer, *given, honest=honest: bytes(17) if peer == "a" else honest(peer, *given)
    second = agreed(stage)
    replies = {party: stage.ask(request, party) for party, request in second.requests.items()}
    total = stage.table.collector.open(second, replies)
    assert np.array_equal(total.vector, ring.total_of(stage.vectors.values(), 3, 2))
    assert total.unfit == (0 if opens else len(SITES))


AMONG_NEIGHBOURS = Settings(threshold=5, rounds_per_batch=1, neighbours=4, consistency=True)


def test_among_neighbours_every_signature_shown_is_checked():
    names = tuple("abcdefg")
    table = run.sit_down("pairwise", names, AMONG_NEIGHBOURS)
    run.meet(table)
    vectors = {site: np.full((3, 2), ord(site), dtype=np.uint64) for site in names}
    context = run.context_of(table, vectors["a"])
    payloads = {site: table.parties[site].protect(vectors[site], context) for site in names}
    pending = table.collector.combine(payloads, context)
    replies = {site: table.parties[site].assist(text, context) for site, text in pending.requests.items()}
    message = table.collector.open(pending, replies).requests["a"]
    near = table.collector._room.graph.among("a", names)
    second = Request.read(message, near, names, 1, boxed=False)

    def refused(shown, reason):
        with pytest.raises(PeerError, match=reason) as caught:
            table.parties["a"].assist(replace(second, agreed=shown).pack(names), context)
        assert caught.value.sender == AGGREGATOR

    refused({**second.agreed, "b": bytes(64)}, "signature of b")
    refused({**second.agreed, "b": second.agreed["c"]}, "signature of b")
    refused({name: second.agreed[name] for name in "bcd"}, "4 agreements of 5")
    assert table.parties["a"].assist(message, context)


def test_without_consistency_agreements_are_not_asked_for():
    stage = Stage()
    stage.refused(Request(Leg.AGREE, SITES, {}, {}), "settings have none")
    stage.refused(replace(stage.request(), agreed={"b": bytes(17)}), "settings have none")
    stage.refused(bytes([9]) + stage.request().pack(SITES)[1:], "unknown")
    stage.refused(b"", "cut short")
    stage.refused(bytes([Leg.RELEASE, 0xFF]) + stage.request().pack(SITES)[2:], "not within the cohort")


def test_a_party_that_signs_false_shares_changes_nothing():
    stage = Stage(Settings(threshold=3, rounds_per_batch=4), gone=["e"])
    replies = {party: stage.ask(message, party) for party, message in stage.pending.requests.items()}
    seat = stage.table.parties["b"]._seat
    body = replies["b"][:-64]
    for place in (1 + 5, 1 + 33 * 2 + 7, 1 + 33 * 4 + 7):  # a share of a's seed, of c's, of e's round secret
        wrong = bytes([*body[:place], body[place] ^ 1, *body[place + 1 :]])
        opened = stage.table.collector.open(stage.pending, {**replies, "b": seat.sign(b"reply", stage.context, wrong)})
        assert np.array_equal(opened.vector, ring.total_of((stage.vectors[p] for p in "abcd"), 3, 2))


def test_a_party_that_signs_another_set_than_it_was_asked_about_is_named():
    stage = Stage()
    replies = {party: stage.ask(message, party) for party, message in stage.pending.requests.items()}
    seat = stage.table.parties["b"]._seat
    other = seat.sign(b"reply", stage.context, b"\x0f" + replies["b"][1:-64] + bytes(FINGERPRINT_BYTES))
    with pytest.raises(PeerError, match="another set") as caught:
        stage.table.collector.open(stage.pending, {**replies, "b": other})
    assert caught.value.sender == "b"

    agreeing = Stage(CONSISTENT)
    replies = {party: agreeing.ask(message, party) for party, message in agreeing.pending.requests.items()}
    other = agreeing.table.parties["b"]._seat.sign(b"agreement", agreeing.context, b"\x0f")
    with pytest.raises(PeerError, match="another set") as caught:
        agreeing.table.collector.open(agreeing.pending, {**replies, "b": other})
    assert caught.value.sender == "b"


def test_false_shares_without_any_to_spare_open_nothing():
    from protocols.secure_sum import IntegrityError

    stage = Stage(Settings(threshold=4, rounds_per_batch=4), gone=["e"])
    replies = {party: stage.ask(message, party) for party, message in stage.pending.requests.items()}
    body = replies["b"][:-64]
    wrong = bytes([*body[:5], body[5] ^ 1, *body[6:]])
    lying = {**replies, "b": stage.table.parties["b"]._seat.sign(b"reply", stage.context, wrong)}
    with pytest.raises(IntegrityError, match="secret of a"):
        stage.table.collector.open(stage.pending, lying)


def test_additive_shares_go_out_once_and_only_for_the_whole_cohort():
    table = run.sit_down("additive", SITES, Settings())
    run.meet(table)
    vectors = {site: np.ones((2, 2), dtype=np.uint64) for site in SITES}
    context = run.context_of(table, vectors["a"])
    payloads = {site: table.parties[site].protect(vectors[site], context) for site in SITES}
    pending = table.collector.combine(payloads, context)
    request = pending.requests["a"]
    for wrong, reason in (
        (request[:-48], "one box from each"),
        (request[48:] + request[:48], "box from"),
        (pending.requests["b"], "box from"),
    ):
        with pytest.raises(PeerError, match=reason) as caught:
            table.parties["a"].assist(wrong, context)
        assert caught.value.sender == AGGREGATOR
    table.parties["a"].assist(request, context)
    with pytest.raises(PeerError, match="a second time"):
        table.parties["a"].assist(request, context)
