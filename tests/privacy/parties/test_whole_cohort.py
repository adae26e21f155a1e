"""A party that demands it helps to open no sum but its whole cohort's, whoever is said to be silent."""

import pickle
from dataclasses import make_dataclass, replace

import numpy as np
import pytest

from protocols.encryption import paillier
from protocols.primitives import ring
from protocols.secure_sum import AGGREGATOR, KEY_HOLDER, PeerError, Pending
from protocols.sessions.demands import Demands

VICTIM = "site-4"
CASES = [
    ("pairwise", {}),
    ("pairwise", {"consistency": True}),
    ("paillier", {}),
    ("paillier-threshold", {}),
]
PROTOCOLS = pytest.mark.parametrize(
    ("protocol", "chosen"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
WHOLE = Demands(whole=True)


def room_for(sit, protocol, chosen, demands):
    return sit(protocol, sites=4, demands=demands, threshold=3, **chosen).meet()


def opened(room, round_, silent=()):
    """What the aggregator opens of a question if it says that some were silent, whose payloads it has all the same."""
    context = room.context(round_)
    payloads = {site: payload for site, payload in room.payloads(context).items() if site not in silent}
    outcome = room.collector.combine(payloads, context)
    while isinstance(outcome, Pending):
        outcome = room.collector.open(outcome, room.ask(outcome, silent))
    return outcome


@PROTOCOLS
def test_the_whole_cohorts_sum_opens(sit, protocol, chosen):
    room = room_for(sit, protocol, chosen, WHOLE)
    total = opened(room, 0)
    assert total.parties == room.sites
    assert room.holds(total)


@PROTOCOLS
def test_a_sum_without_one_of_the_cohort_is_refused_by_everybody_who_is_asked(sit, protocol, chosen):
    room = room_for(sit, protocol, chosen, WHOLE)
    context = room.context()
    payloads = room.payloads(context)
    fewer = room.collector.combine({site: text for site, text in payloads.items() if site != VICTIM}, context)
    assert set(fewer.requests) == set(room.sites) - {VICTIM}
    for party, request in fewer.requests.items():
        with pytest.raises(PeerError, match=f"without {VICTIM}, where only the whole") as caught:
            room.parties[party].assist(request, context)
        assert caught.value.sender == AGGREGATOR


@PROTOCOLS
def test_after_the_refusal_the_whole_cohorts_sum_opens_still(sit, protocol, chosen):
    """Nothing was released or used up: the refusal costs the sites nothing."""
    room = room_for(sit, protocol, chosen, WHOLE)
    context = room.context()
    payloads = room.payloads(context)
    fewer = room.collector.combine({site: text for site, text in payloads.items() if site != VICTIM}, context)
    for party, request in fewer.requests.items():
        with pytest.raises(PeerError):
            room.parties[party].assist(request, context)
    outcome = room.collector.combine(payloads, context)
    while isinstance(outcome, Pending):
        outcome = room.collector.open(outcome, room.ask(outcome))
    assert room.holds(outcome)


@PROTOCOLS
def test_a_smaller_cohort_that_the_party_knows_of_is_a_whole_one(sit, protocol, chosen):
    room = room_for(sit, protocol, chosen, WHOLE)
    context = room.context(cohort=room.sites[:3])
    outcome = room.collector.combine(room.payloads(context), context)
    while isinstance(outcome, Pending):
        outcome = room.collector.open(outcome, room.ask(outcome))
    assert outcome.parties == room.sites[:3]
    assert room.holds(outcome)


@PROTOCOLS
def test_the_twin_that_demands_nothing_gives_one_partys_vector_by_subtraction(sit, protocol, chosen):
    """The broken twin: the same vectors twice, the second time 'site-4 is silent'."""
    room = room_for(sit, protocol, chosen, Demands())
    everybody, fewer = opened(room, 0), opened(room, 1, silent=[VICTIM])
    assert VICTIM not in fewer.parties
    victims = everybody.vector.copy()
    take_off(victims, fewer.vector)
    assert np.array_equal(victims, room.vectors[VICTIM])


def take_off(whole, taken):
    """Take one ring vector off another, in place: lowest limb first, with the borrow."""
    low = whole[:, 0] < taken[:, 0]
    whole[:, 0] -= taken[:, 0]
    whole[:, 1] -= taken[:, 1] + low.astype(np.uint64)


def test_the_key_holder_can_demand_it_where_the_sites_do_not(sit):
    room = room_for(sit, "paillier", {}, Demands())
    room.parties[KEY_HOLDER]._seat.demands = WHOLE
    with pytest.raises(PeerError, match="only the whole") as caught:
        opened(room, 0, silent=[VICTIM])
    assert caught.value.sender == AGGREGATOR
    assert room.holds(opened(room, 1))


def test_an_additive_sum_is_over_the_whole_cohort_or_not_at_all(sit):
    room = sit("additive", sites=4, demands=WHOLE).meet()
    context = room.context()
    pending = room.collector.combine(room.payloads(context), context)
    total = room.collector.open(pending, room.ask(pending))
    assert np.array_equal(total.vector, ring.total_of(room.vectors.values(), 3, 2))


def with_its_digest(other, context):
    """A context with another's digest, as it travels."""
    vars(other)["digest"] = context.digest
    return pickle.loads(pickle.dumps(other))


def looking_alike(other, context):
    """No context, but with all that one has."""
    told = {**vars(other), "digest": context.digest, "members": context.members}
    return make_dataclass("Context", told)(**told)


PLANTED = pytest.mark.parametrize("plant", [with_its_digest, looking_alike])


def two_sets_of_one_sum(sit, silent, plant):
    """What is opened of one sum over two sets, each signed by three of six sites.

    The key-holder is handed a context of its own for each, with the digest of the one that all signed.
    """
    room = sit("paillier", sites=6, threshold=3).meet()
    context, totals = room.context(), []
    payloads = room.payloads(context)
    for attempt, (gone, signers) in enumerate((((), (1, 2, 6)), ((silent,), (3, 4, 5)))):
        kept = {site: payload for site, payload in payloads.items() if site not in gone}
        pending = room.collector.combine(kept, context)
        consents = {f"site-{at}": room.parties[f"site-{at}"] for at in signers}
        consents = {site: party.assist(pending.requests[site], context) for site, party in consents.items()}
        pending = room.collector.open(pending, consents)
        asked = pending.requests[KEY_HOLDER], plant(replace(context, attempt=attempt), context)
        totals.append(room.collector.open(pending, {KEY_HOLDER: room.parties[KEY_HOLDER].assist(*asked)}))
    return room, totals


@PLANTED
def test_the_key_holder_finds_itself_which_sum_was_signed(sit, plant):
    with pytest.raises(PeerError, match=r"passed on a consent of site-\d that .* is not signed") as caught:
        two_sets_of_one_sum(sit, "site-6", plant)
    assert caught.value.sender == AGGREGATOR


@PLANTED
def test_the_twin_that_believes_a_digest_opens_one_sum_twice_and_gives_one_partys_vector(sit, monkeypatch, plant):
    monkeypatch.setattr(paillier, "_reread", lambda context: context)
    room, (everybody, fewer) = two_sets_of_one_sum(sit, "site-6", plant)
    take_off(everybody.vector, fewer.vector)
    assert np.array_equal(everybody.vector, room.vectors["site-6"])
