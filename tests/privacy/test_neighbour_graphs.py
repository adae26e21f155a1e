"""Sums on neighbour graphs: exact, hiding whoever colludes, and refused where a graph could be split."""

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from protocols import run
from protocols.masking import mask_keys, neighbours, pairwise, pairwise_collector, round_seeds
from protocols.masking.neighbours import Graph, default_degree, degree_for, share_threshold
from protocols.masking.pairwise_messages import Leg, Request
from protocols.primitives import ring, shamir
from protocols.primitives.keys import Identity
from protocols.secure_sum import AGGREGATOR, DropoutError, MisuseError, PeerError
from protocols.sessions.session import Roster
from protocols.sessions.settings import Settings


def names(count):
    return [f"s{number:03}" for number in range(count)]


def roster_of(count):
    return Roster({name: Identity(name.encode().ljust(32)).public for name in names(count)})


def share(graph, one, other):
    """Whether two parties sit within reach of each other."""
    apart = abs(graph.circle.index(one) - graph.circle.index(other))
    return one != other and min(apart, len(graph.circle) - apart) <= graph.reach


def pieces(graph, left):
    """Into how many connected pieces those left fall, by walking from neighbour to neighbour."""
    left, count = set(left), 0
    while left:
        count += 1
        border = [left.pop()]
        while border:
            here = border.pop()
            near = {other for other in left if share(graph, here, other)}
            left -= near
            border += near
    return count


@pytest.mark.parametrize(("parties", "degree"), [(6, 4), (9, 4), (12, 6), (60, 18), (61, 18), (200, 38)])
def test_a_graph_is_symmetric_regular_and_connected(parties, degree):
    graph = Graph.draw(bytes(32), roster_of(parties), degree)
    assert sorted(graph.circle) == names(parties)
    for party in graph.circle:
        near = graph.among(party, graph.circle)
        assert len(near) == degree
        assert party not in near
        assert all(share(graph, other, party) for other in near)
    assert pieces(graph, graph.circle) == 1


@pytest.mark.parametrize(("parties", "degree"), [(2, 1), (3, 2), (6, 4), (7, 4), (12, 11), (61, 18)])
def test_those_a_party_shares_with_are_sorted_and_of_those_given_alone(parties, degree):
    graph, here = Graph.draw(bytes(32), roster_of(parties), degree), names(parties)
    for those in (here, here[::-1], here[::2], here[1:3], []):
        for party in here:
            expected = tuple(sorted(other for other in those if share(graph, party, other)))
            assert graph.among(party, frozenset(those)) == graph.among(party, tuple(those)) == expected


def test_the_graph_follows_from_session_and_roster_and_from_nothing_else():
    first, again = (Graph.draw(bytes(32), roster_of(60), 18) for _ in range(2))
    assert first == again
    assert Graph.draw(bytes([1] * 32), roster_of(60), 18) != first
    other = Roster({**roster_of(60).keys, "s000": Identity(bytes(32)).public})
    assert Graph.draw(bytes(32), other, 18).circle != first.circle
    seats = Counter(share(Graph.draw(bytes([n] * 32), roster_of(60), 18), "s000", "s001") for n in range(200))
    assert 30 < seats[True] < 92  # 18 of 59 expected: 61; five standard deviations are 33


def by_trial(graph, present, lost):
    """What `Graph.holds_together` promises, by taking away every set of that many."""
    return all(
        pieces(graph, set(present) - set(gone)) <= 1
        for number in range(min(lost, len(present)) + 1)
        for gone in itertools.combinations(present, number)
    )


@pytest.mark.parametrize(("parties", "degree"), [(7, 4), (8, 4), (9, 4), (9, 6)])
def test_holding_together_is_what_trying_every_set_of_colluders_says(parties, degree):
    graph = Graph.draw(bytes(32), roster_of(parties), degree)
    verdicts = Counter()
    for size in range(2, parties + 1):
        for present in itertools.combinations(graph.circle, size):
            for lost in range(4):
                said = graph.holds_together(present, lost)
                assert said == by_trial(graph, present, lost), (present, lost)
                verdicts[said] += 1
    assert min(verdicts.values()) > 20


def test_a_full_room_cannot_be_split_by_fewer_than_its_degree():
    for parties, degree in ((60, 18), (101, 20)):
        graph = Graph.draw(bytes(32), roster_of(parties), degree)
        assert graph.holds_together(graph.circle, degree - 1)
        assert not graph.holds_together(graph.circle, degree)


class Played:
    """One real sum on a graph, with every mask known by the pair it belongs to."""

    def __init__(self, monkeypatch, sites, settings, silent=()):
        origins, self.signs = {}, {}
        real_pairs, real_self = round_seeds.pair_mask_keys, mask_keys.self_mask_key
        real_mask_into = ring.mask_into

        def pairs(seeds, me, context):
            keys = real_pairs(seeds, me, context)
            origins.update({key: tuple(sorted((me, peer))) for peer, key in keys.items()})
            return keys

        def self_mask(seed, owner, context):
            key = real_self(seed, owner, context)
            origins[key] = (owner,)
            return key

        def mask_into(total, plus, minus, prg="aes-256-ctr"):
            plus, minus = list(plus), list(minus)
            owner = next((origins[key][0] for key in plus if len(origins[key]) == 1), AGGREGATOR)
            signs = self.signs.setdefault(owner, Counter())
            signs.update(origins[key] for key in plus)
            signs.subtract(origins[key] for key in minus)
            real_mask_into(total, plus, minus, prg)

        with monkeypatch.context() as patch:
            for end in (pairwise, pairwise_collector):
                patch.setattr(end, "pair_mask_keys", pairs)
                patch.setattr(end, "self_mask_key", self_mask)
            patch.setattr(ring, "mask_into", mask_into)
            self.table = run.sit_down("pairwise", names(sites), settings)
            run.meet(self.table)
            self.table.silent = {"payload": silent}
            self.total = run.add_up(self.table, dict.fromkeys(names(sites), ring.zeros(1, 2)))


def spans_all_with_one_sum(signs, honest):
    """Whether the honest parties' shared masks, over Z_2, make every vector with an even sum equally often."""
    edges = sorted({edge for party in honest for edge in signs[party] if len(edge) == 2 and set(edge) <= set(honest)})
    seen = Counter()
    for bits in itertools.product(range(2), repeat=len(edges)):
        masks = dict(zip(edges, bits, strict=True))
        seen[tuple(sum(signs[p][e] * masks[e] for e in edges) % 2 for p in honest)] += 1
    return len(set(seen.values())) == 1 and set(seen) == {
        vector for vector in itertools.product(range(2), repeat=len(honest)) if sum(vector) % 2 == 0
    }


def test_what_the_honest_send_depends_on_their_sum_alone_whoever_colludes(monkeypatch):
    """Colluders know their masks and self-masks are released; what is left must still be uniform given the sum."""
    settings = Settings(threshold=4, neighbours=4, rounds_per_batch=1)
    played = Played(monkeypatch, 7, settings, silent=["s003"])
    present = played.total.parties
    assert present == tuple(name for name in names(7) if name != "s003")
    room = played.table.collector._room
    assert room.share_threshold == 3
    graph = room.graph
    verdicts = []
    for number in range(5):
        fine = True
        for colluders in itertools.combinations(present, number):
            honest = [party for party in present if party not in colluders]
            hidden = spans_all_with_one_sum(played.signs, honest)
            assert hidden == (pieces(graph, honest) == 1)
            fine = fine and hidden
        assert fine == graph.holds_together(present, number)
        verdicts.append(fine)
    assert verdicts[:3] == [True] * 3  # one and two colluders, which is what the claim allows for
    assert not all(verdicts)


def test_with_one_mask_too_few_the_exhaustive_argument_fails(monkeypatch):
    played = Played(monkeypatch, 7, Settings(threshold=5, neighbours=4, rounds_per_batch=1))
    assert spans_all_with_one_sum(played.signs, names(7))
    alone = {p: Counter({e: s for e, s in played.signs[p].items() if "s000" not in e}) for p in names(7)}
    assert not spans_all_with_one_sum(alone, names(7))


def test_masks_are_shared_with_neighbours_alone(monkeypatch):
    played = Played(monkeypatch, 9, Settings(threshold=7, neighbours=4, rounds_per_batch=1))
    graph = played.table.collector._room.graph
    for party in names(9):
        shared = {other for edge in played.signs[party] if len(edge) == 2 for other in edge if other != party}
        assert shared == set(graph.among(party, names(9)))
    size = {message.party: len(message.data) for message in played.table.messages if message.leg == "grant"}
    assert set(size.values()) == {4 * (33 + 16 + 32) + 64}


VECTORS = {name: ring.expand(name.encode().ljust(32), 3, 2) for name in names(60)}


def exact(parties):
    return ring.total_of((VECTORS[party] for party in parties), 3, 2)


@pytest.mark.parametrize(
    ("consistency", "every"), [(True, 3), *(pytest.param(told, 1, marks=pytest.mark.slow) for told in (False, True))]
)
def test_every_silent_pair_of_nine_gives_the_exact_sum_or_a_refusal(consistency, every):
    settings = Settings(threshold=6, neighbours=6, rounds_per_batch=1, consistency=consistency)
    ends = Counter()
    pairs = list(itertools.combinations(names(9), 2))[::every]
    for gone in pairs:
        for legs in ({"payload": gone}, {"payload": gone[:1], "reply": gone[1:]}, {"reply": gone}):
            try:
                total = run.secure_sum("pairwise", {p: VECTORS[p] for p in names(9)}, settings, silent=legs)
            except DropoutError as refusal:
                ends["refused"] += 1
                named = refusal.silent
            else:
                named = ()
                assert total.parties == tuple(p for p in names(9) if p not in legs.get("payload", ()))
                assert np.array_equal(total.vector, exact(total.parties))
                ends["opened"] += 1
            assert set(named) <= set(gone)
    assert ends["opened"] >= len(pairs)


def test_a_large_room_takes_a_graph_by_itself_and_survives_a_twentieth_of_silence():
    table = run.sit_down("pairwise", names(60), Settings(rounds_per_batch=1))
    run.meet(table)
    table.silent = {"payload": ["s007", "s033"], "reply": ["s041"]}
    total = run.add_up(table, VECTORS)
    assert not table.collector._room.graph.complete
    assert np.array_equal(total.vector, exact(total.parties))
    assert len(total.parties) == 58
    payload = next(message for message in table.messages if message.leg == "payload")
    degree = default_degree(60, 41)
    assert len(payload.data) == 3 * 16 + 32 + degree * 49 + 64


def neighbourhood_gone(table):
    """Everyone next to one party but for two: nobody could hide it, though most of the room is there."""
    circle = table.collector._room.graph.circle
    return [circle[place] for place in (1, 2, 3, -1, -2, -3)]


def test_a_party_left_almost_alone_is_not_opened_by_either_end():
    settings = Settings(threshold=10, neighbours=6, rounds_per_batch=1)
    table = run.sit_down("pairwise", names(18), settings)
    run.meet(table)
    gone = neighbourhood_gone(table)
    context = run.context_of(table, VECTORS["s000"])
    payloads = {p: table.parties[p].protect(VECTORS[p], context) for p in context.cohort}
    fewer = {p: payload for p, payload in payloads.items() if p not in gone}
    assert len(fewer) >= 10
    with pytest.raises(DropoutError):
        table.collector.combine(fewer, context)
    # An aggregator that asks all the same: neither the lonely party nor anybody else releases a share.
    room = table.collector._room
    for party in fewer:
        near = room.graph.among(party, context.cohort)
        boxes = {
            peer: Request.read(
                table.collector.combine(payloads, context).requests[party], near, context.cohort, 1, boxed=False
            ).boxes[peer]
            for peer in near
        }
        lie = Request(Leg.RELEASE, tuple(fewer), {}, boxes)
        with pytest.raises(PeerError, match="could split it") as caught:
            table.parties[party].assist(lie.pack(context.cohort), context)
        assert caught.value.sender == AGGREGATOR


def test_a_party_that_did_not_look_would_give_its_neighbour_away(monkeypatch):
    """The broken twin: without the look at the graph the same set is opened, and one vector stands alone in it."""
    monkeypatch.setattr(Graph, "holds_together", lambda *_: True)
    settings = Settings(threshold=10, neighbours=6, rounds_per_batch=1)
    table = run.sit_down("pairwise", names(18), settings)
    run.meet(table)
    table.silent = {"payload": neighbourhood_gone(table)}
    with pytest.raises(DropoutError, match="neighbours"):
        run.add_up(table, {p: VECTORS[p] for p in names(18)})
    lonely, *_ = table.collector._room.graph.circle
    left = [p for p in names(18) if p not in table.silent["payload"]]
    assert table.collector._room.graph.among(lonely, left) == ()


def test_a_later_batch_without_most_of_a_partys_neighbours_is_one_of_silent_sites_and_can_be_met_again():
    """It was a `ValueError` of the shares, with the batch's key gone: as if the party had erred."""
    table = run.sit_down("pairwise", names(9), Settings(threshold=7, neighbours=4, rounds_per_batch=1))
    run.meet(table)
    graph = table.collector._room.graph
    hellos = {party: table.parties[party].hello(1) for party in names(9)}
    table.collector.check(hellos, 1)
    lonely = graph.circle[0]
    gone = graph.among(lonely, names(9))[:2]
    with pytest.raises(DropoutError, match=f"3 answered, 4 are needed among {lonely} and its neighbours") as told:
        table.parties[lonely].meet({party: hello for party, hello in hellos.items() if party not in gone}, 1)
    assert told.value.silent == gone
    grants = {party: table.parties[party].meet(hellos, 1) for party in names(9)}
    table.collector.meet(hellos, grants, 1)


def test_fewer_shares_than_the_share_threshold_open_no_secret():
    settings = Settings(threshold=14, neighbours=6)
    assert degree_for(settings, 20) == 6
    least = share_threshold(14, 20, 6)
    assert least == 5
    shares = shamir.split_at(bytes(range(32)), least, [3, 8, 9, 14, 15, 19, 20], run.tape("graph")("a"))
    for chosen in itertools.combinations(shares, least):
        assert shamir.combine({index: shares[index] for index in chosen}, least) == bytes(range(32))
    with pytest.raises(shamir.ShareError, match="too few"):
        shamir.combine({index: shares[index] for index in list(shares)[:4]}, least)


@pytest.mark.parametrize(
    ("parties", "settings", "reason"),
    [
        (20, Settings(neighbours=3), "even number from 4"),
        (20, Settings(neighbours=2), "even number from 4"),
        (20, Settings(neighbours=7), "even number from 4"),
        (20, Settings(neighbours=4, threshold=5), "fewer than 3"),
    ],
)
def test_an_impossible_number_of_neighbours_is_refused(parties, settings, reason):
    with pytest.raises(MisuseError, match=reason):
        degree_for(settings, parties)


def test_a_threshold_among_all_is_the_threshold_among_neighbours_where_all_are():
    for parties in range(3, 60):
        for threshold in range(3, parties + 1):
            assert share_threshold(threshold, parties, parties - 1) == threshold


def binomials(population, marked, drawn):
    """The hypergeometric distribution by drawing every subset: slow and obvious."""
    hits = Counter(sum(x < marked for x in chosen) for chosen in itertools.combinations(range(population), drawn))
    return {hit: Fraction(times, sum(hits.values())) for hit, times in hits.items()}


def test_the_default_number_of_neighbours_keeps_its_bound_and_no_smaller_one_does():
    told = binomials(10, 4, 5)
    for least in range(6):
        assert neighbours._tail(10, 4, 5, least) == sum(p for hit, p in told.items() if hit >= least)
    assert [default_degree(n, 2 * n // 3 + 1) for n in (51, 60, 100, 1000)] == [16, 18, 28, 58]
    for parties in (51, 100, 300):
        threshold = 2 * parties // 3 + 1
        degree = default_degree(parties, threshold)

        def chance(k, parties=parties, threshold=threshold):
            return parties * neighbours._tail(parties - 1, -(-parties // 5), k, share_threshold(threshold, parties, k))

        assert chance(degree) <= Fraction(1, 2**40)
    assert degree_for(Settings(), 50) == 49
    assert degree_for(Settings(), 51) == 16
