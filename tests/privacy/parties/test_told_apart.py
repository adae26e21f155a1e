"""One party's vector, opened alone by telling each party another set of those present, where nobody compares sets.

To each a few of the victim's neighbours are called absent, never so many that its set does not hang together; to
somebody or other each of them is, so often that all seeds which it shares with the victim are opened.
"""

import itertools
from collections import defaultdict

import numpy as np
import pytest

from protocols import claims
from protocols.masking.mask_keys import commit, self_mask_key
from protocols.masking.neighbours import Graph, degree_for, most_colluders, most_told_apart, share_threshold
from protocols.masking.pairwise_messages import Leg, Payload, Reply, Request
from protocols.masking.round_seeds import _by_party, commit_to_round, pair_mask_keys
from protocols.primitives import ring, shamir
from protocols.secure_sum import MisuseError, PeerError
from protocols.sessions.channels import Box
from protocols.sessions.demands import Demands
from protocols.sessions.session import open_message
from protocols.sessions.settings import Settings

ALONE = {"sites": 20, "threshold": 11, "neighbours": 8}
"""Where an aggregator needs nobody's help for it, although 2 t > n and 2 s > d + 1."""
DEFAULT = {"sites": 60}
VICTIM = "site-1"


def seats_apart(graph, one, other):
    apart = abs(graph.index[one] - graph.index[other])
    return min(apart, len(graph.circle) - apart)


def planned(graph, victim, needed, least, colluders=frozenset()):
    """Whom to call absent to whom, and how many shares that is short of opening all of the victim's edges."""
    circle, near = graph.circle, set(graph.among(victim, frozenset(graph.circle)))
    targets = near - colluders
    owing = {v: needed - len(colluders.intersection(graph.among(v, frozenset(circle)))) for v in targets}
    holders = sorted((near | {victim}) - colluders, key=lambda w: (w != victim, -seats_apart(graph, w, victim)))
    unaware = set(holders[max(needed - len(near & colluders), 1) :])
    told = {}
    reachable = {w: targets.intersection(graph.among(w, frozenset(circle))) for w in circle if w not in colluders}
    for w in sorted(reachable, key=lambda w: len(reachable[w])):
        absent = {victim} if w in unaware else set()
        for v in sorted(reachable[w], key=lambda v: -owing[v]):
            present = tuple(p for p in circle if p not in absent and p != v)
            if owing[v] > 0 and len(present) >= least and graph.holds_together(present, needed - 1):
                absent.add(v)
                owing[v] -= 1
        told[w] = absent
    return told, sum(max(left, 0) for left in owing.values())


def opened_alone(room, colluding=0):
    """The victim's vector, by messages that every party answers; colluders keep their seeds, and open their boxes."""
    context, roster, graph = room.context(), room.table.roster, room.collector._room.graph
    needed, least, grants = room.collector._room.share_threshold, room.collector._room.threshold, room.collector._grants
    near = {name: graph.among(name, context.members) for name in room.sites}
    closest = sorted(near[VICTIM], key=lambda name: seats_apart(graph, name, VICTIM))
    colluders = frozenset(closest[:colluding])
    known = {name: _by_party(room.parties[name]._seeds._seeds[0], near[name])[VICTIM] for name in colluders}
    sent, book = room.payloads(context), room.collector._room.book(context)
    read = {
        name: Payload.read(
            open_message(roster, b"payload", name, context.digest, sent[name]), name, context, near[name]
        )
        for name in room.sites
    }
    told, short = planned(graph, VICTIM, needed, least, colluders)
    assert not short
    seed, secrets = {}, defaultdict(dict)
    for name, absent in told.items():
        present = tuple(party for party in context.cohort if party not in absent)
        boxes = {peer: (grants[0, peer] if peer in absent else read[peer]).boxes[name] for peer in near[name]}
        reply = room.parties[name].assist(Request(Leg.RELEASE, present, {}, boxes).pack(context.cohort), context)
        body = open_message(roster, b"reply", name, context.digest, reply)
        for owner, share in Reply.read(body, name, context.cohort, (*sorted((name, *near[name])),)).shares.items():
            if owner in absent:
                secrets[owner][graph.index[name]] = share
            elif owner == VICTIM:
                seed[graph.index[name]] = share
    for name in colluders:
        channels, place = room.parties[name]._channels, graph.index[name]
        seed[place] = channels.open(VICTIM, Box.SEED_SHARE, (0, 0), context.digest, read[VICTIM].boxes[name])
        for peer in set(near[name]) - {VICTIM}:
            box = grants[0, peer].boxes[name]
            secrets[peer][place] = channels.open(peer, Box.ROUND_SECRET_SHARES, (0, 0), book.binding, box)[:33]
    own = shamir.combine(seed, needed, lambda seed: commit(seed, VICTIM, context) == read[VICTIM].commitment)
    plus, minus = [], [self_mask_key(own, VICTIM, context)]
    for peer in near[VICTIM]:
        if peer not in colluders:
            fits = book.commitment(peer, 0)
            secret = shamir.combine(
                secrets[peer], needed, lambda s, p=peer, fits=fits: commit_to_round(s, p, 0) == fits
            )
            known |= {peer: room.collector._opened(peer, secret, [VICTIM], book, 0)[VICTIM]}
        key = pair_mask_keys({VICTIM: known[peer]}, peer, context)[VICTIM]
        (minus if peer > VICTIM else plus).append(key)
    vector = ring.from_bytes(read[VICTIM].masked, 3, 2).copy()
    ring.mask_into(vector, plus, minus)
    return vector


def test_who_reckons_with_the_aggregator_alone_takes_no_part_where_it_needs_nobody(sit):
    with pytest.raises(MisuseError, match="tells each party another set of those present, with 0 sites colluding"):
        sit("pairwise", demands=Demands(0), **ALONE)
    sit("pairwise", demands=Demands(0), consistency=True, **ALONE)


def test_the_twin_that_demands_nothing_has_its_vector_opened_by_the_aggregator_alone(sit):
    room = sit("pairwise", rounds_per_batch=1, **ALONE).meet()
    assert np.array_equal(opened_alone(room), room.vectors[VICTIM])


def test_who_reckons_with_four_colluders_takes_no_part_in_a_room_of_sixty(sit):
    with pytest.raises(MisuseError, match="with 4 sites colluding"):
        sit("pairwise", demands=Demands(4), **DEFAULT)
    sit("pairwise", demands=Demands(0), **DEFAULT)
    sit("pairwise", demands=Demands(4), consistency=True, **DEFAULT)


@pytest.mark.slow
def test_the_twin_that_demands_nothing_has_it_opened_by_four_and_the_aggregator(sit):
    """The broken twin: 2 s > d + 1 + c would have borne six."""
    room = sit("pairwise", rounds_per_batch=1, **DEFAULT).meet()
    assert np.array_equal(opened_alone(room, 4), room.vectors[VICTIM])


def test_where_sets_are_compared_none_of_it_is_answered(sit):
    room = sit("pairwise", rounds_per_batch=1, consistency=True, **ALONE).meet()
    with pytest.raises(PeerError, match="for shares over another set than it agreed to"):
        opened_alone(room)


def circle_of(parties, degree):
    return Graph(tuple(f"s{number:03}" for number in range(parties)), degree // 2)


@pytest.mark.parametrize(("parties", "threshold", "degree"), [(60, 41, 18), (60, 50, 16), (80, 54, 24)])
def test_no_plan_is_found_for_as_many_as_are_taken(parties, threshold, degree):
    graph, needed = circle_of(parties, degree), share_threshold(threshold, parties, degree)
    closest = sorted(graph.among("s000", frozenset(graph.circle)), key=lambda name: seats_apart(graph, name, "s000"))
    for colluders in range(most_told_apart(parties, threshold, degree) + 1):
        assert planned(graph, "s000", needed, threshold, frozenset(closest[:colluders]))[1] > 0


def can_be_opened(parties, threshold, degree, colluders):
    """Whether any sets that parties accept open the first one's vector alone, by trying them all."""
    graph, needed = circle_of(parties, degree), share_threshold(threshold, parties, degree)
    victim, *others = graph.circle
    everyone = frozenset(graph.circle)
    near = graph.among(victim, everyone)
    accepted = [
        frozenset(present)
        for size in range(threshold, parties + 1)
        for present in itertools.combinations(graph.circle, size)
        if graph.holds_together(present, needed - 1)
    ]
    for colluding in itertools.combinations(others, colluders):
        targets = [peer for peer in near if peer not in colluding]
        if not targets:
            continue
        # How many shares there are of the victim's seed, and of each neighbour's secret.
        start = tuple(
            min(needed, sum(name in colluding for name in graph.among(owner, everyone))) for owner in (victim, *targets)
        )
        reached = {start}
        for name in sorted(everyone.difference(colluding)):
            holds = {owner for owner in (victim, *targets) if owner == name or owner in graph.among(name, everyone)}
            gains = {
                tuple(owner in holds and (owner in present) == (owner == victim) for owner in (victim, *targets))
                for present in accepted
                if name in present
            }
            best = {
                gain for gain in gains if not any(all(map(int.__le__, gain, more)) and gain != more for more in gains)
            }
            reached = {
                tuple(min(needed, had + more) for had, more in zip(state, gain, strict=True))
                for state in reached
                for gain in best
            }
        if tuple([needed] * len(start)) in reached:
            return True
    return False


@pytest.mark.parametrize(
    ("parties", "degree"),
    [(7, 4), (8, 4), *(pytest.param(*room, marks=pytest.mark.slow) for room in [(9, 4), (9, 6), (10, 6)]), (6, 5)],
)
def test_no_sets_open_anybody_for_as_many_as_are_taken(parties, degree):
    """Every set of every party, and every choice of colluders; on the complete graph too."""
    for threshold in range(3, parties + 1):
        if share_threshold(threshold, parties, degree) >= 3:
            for colluders in range(min(most_told_apart(parties, threshold, degree), parties - 2) + 1):
                assert not can_be_opened(parties, threshold, degree, colluders), (threshold, colluders)


@pytest.mark.parametrize(("parties", "threshold", "degree", "colluders"), [(7, 3, 4, 1), (9, 5, 4, 1), (9, 4, 6, 1)])
def test_trying_them_all_finds_what_is_there(parties, threshold, degree, colluders):
    assert can_be_opened(parties, threshold, degree, colluders)


def test_rooms_as_they_are_made_by_default_hold_the_aggregator_off():
    for parties in (*range(51, 120), 200, 500, 1000):
        assert 0 <= most_colluders(Settings(), parties) <= 2
        assert most_colluders(Settings(consistency=True), parties) > 2


def test_what_is_claimed_is_what_is_counted():
    settings = Settings(threshold=11, neighbours=8)
    assert most_colluders(settings, 20) == -1
    assert "may open the numbers of one site alone" in " ".join(claims.claim("pairwise", 20, settings))
    usual = Settings()
    most = most_told_apart(60, usual.threshold_for(60), degree_for(usual, 60))
    assert f"with more than {most} colluding ones the numbers" in " ".join(claims.claim("pairwise", 60, usual))
