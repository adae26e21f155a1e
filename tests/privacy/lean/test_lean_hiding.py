"""What lean masks hide, by exhaustion: all masks are tried, in a ring so small that they can be.

Whose masks are in which payload is read off the real protocol at work, over several rounds; a mask is named by its key,
so that a key used twice is one mask used twice.
"""

import itertools
from collections import Counter

import numpy as np
import pytest

from protocols import run
from protocols.masking import ratchet
from protocols.masking.neighbours import (
    degree_for,
    degree_without_recovery,
    most_colluders_without_recovery,
    share_threshold,
)
from protocols.primitives import ring
from protocols.sessions.settings import Settings

THREE = ("a", "b", "c")


def masks_of(monkeypatch, sites, rounds=1, **chosen):
    """By (party, round), how often each mask is added (-1: subtracted); and the table that it was read off."""
    taken, now = {}, []
    honest = ring.mask_into

    def mask_into(total, plus, minus, prg="aes-256-ctr"):
        counts = taken[sites[len(taken) % len(sites)], now[-1]] = Counter(plus)
        counts.subtract(minus)
        honest(total, plus, minus, prg)

    table = run.sit_down("pairwise-lean", sites, Settings(**chosen))
    run.meet(table)
    with monkeypatch.context() as patch:
        patch.setattr(ring, "mask_into", mask_into)
        for round_ in range(rounds):
            now.append(round_)
            vectors = dict.fromkeys(sites, ring.zeros(1, 2))
            run.add_up(table, vectors, run.context_of(table, vectors[sites[0]], round_=round_))
    return {name: dict(counts) for name, counts in taken.items()}, table


def depends_only_on(what, signs, see, size):
    """Whether the distribution of what is seen, over all masks modulo ``size``, is a function of ``what(inputs)``.

    Inputs are one number for each (party, round); ``see`` picks payloads and masks by name.
    """
    sent, names = sorted(signs), sorted({mask for counts in signs.values() for mask in counts})
    seen = {}
    for inputs in itertools.product(range(size), repeat=len(sent)):
        counts = Counter()
        for choice in itertools.product(range(size), repeat=len(names)):
            masks = dict(zip(names, choice, strict=True))
            payloads = {
                name: (x + sum(sign * masks[mask] for mask, sign in signs[name].items())) % size
                for name, x in zip(sent, inputs, strict=True)
            }
            counts[see(payloads, masks)] += 1
        told = what(dict(zip(sent, inputs, strict=True)), size)
        if seen.setdefault(told, counts) != counts:
            return False
    return True


def sums(inputs, size):
    """The opened sum of every round."""
    rounds = sorted({round_ for _, round_ in inputs})
    return tuple(sum(x for (_, at), x in inputs.items() if at == round_) % size for round_ in rounds)


def nothing(inputs, size):
    return ()


def all_payloads(payloads, masks):
    return tuple(payloads.values())


def without(*silent):
    return lambda payloads, masks: tuple(x for (party, _), x in payloads.items() if party not in silent)


def beside(signs, *colluders):
    """All payloads, and every mask that one of the colluders has a part in."""
    known = sorted({mask for (party, _), counts in signs.items() if party in colluders for mask in counts})
    return lambda payloads, masks: (*payloads.values(), *(masks[mask] for mask in known))


def sum_of_the_others(*colluders):
    def told(inputs, size):
        own = tuple(x for (party, _), x in inputs.items() if party in colluders)
        return (*sums({name: x for name, x in inputs.items() if name[0] not in colluders}, size), *own)

    return told


def test_a_party_has_one_mask_with_each_other_and_none_of_its_own(monkeypatch):
    signs, _ = masks_of(monkeypatch, THREE)
    assert sorted(sum(counts.values()) for counts in signs.values()) == [-2, 0, 2]
    holders = Counter(mask for counts in signs.values() for mask in counts)
    assert sorted(holders.values()) == [2, 2, 2]


def test_the_view_of_a_sum_depends_on_the_sum_alone(monkeypatch):
    signs, _ = masks_of(monkeypatch, THREE)
    assert depends_only_on(sums, signs, all_payloads, 4)


@pytest.mark.parametrize("silent", [("a",), ("c",), ("a", "b")])
def test_where_somebody_is_silent_the_view_depends_on_nothing(monkeypatch, silent):
    signs, _ = masks_of(monkeypatch, THREE)
    assert depends_only_on(nothing, signs, without(*silent), 4)


def test_a_colluding_site_sees_the_sum_of_the_others_and_no_more(monkeypatch):
    signs, _ = masks_of(monkeypatch, THREE)
    assert depends_only_on(sum_of_the_others("c"), signs, beside(signs, "c"), 4)


def test_two_of_four_hide_each_other_from_all_the_rest(monkeypatch):
    signs, _ = masks_of(monkeypatch, ("a", "b", "c", "d"))
    assert depends_only_on(sum_of_the_others("b", "d"), signs, beside(signs, "b", "d"), 2)


def test_two_rounds_show_both_sums_and_no_more(monkeypatch):
    signs, _ = masks_of(monkeypatch, THREE, rounds=2)
    assert depends_only_on(sums, signs, all_payloads, 2)


def reuse_masks(monkeypatch):
    """The broken twin: chains stand still, and what they give is not of the sum that it is for."""
    monkeypatch.setattr(ratchet, "next_chain", lambda chain, session: chain)
    monkeypatch.setattr(ratchet, "mask_key", lambda chain, context: chain)


def test_the_twin_whose_ratchet_does_not_move_shows_how_a_site_changed(monkeypatch):
    reuse_masks(monkeypatch)
    signs, _ = masks_of(monkeypatch, THREE, rounds=2)
    assert depends_only_on(sums, {name: counts for name, counts in signs.items() if name[1] == 0}, all_payloads, 2)
    assert not depends_only_on(sums, signs, all_payloads, 2)


def test_the_twin_without_one_pairs_mask_shows_too_much(monkeypatch):
    signs, _ = masks_of(monkeypatch, THREE)
    lost = next(mask for mask in signs["a", 0] if mask in signs["b", 0])
    broken = {name: {mask: sign for mask, sign in counts.items() if mask != lost} for name, counts in signs.items()}
    assert depends_only_on(sums, broken, all_payloads, 2)  # a chain of three still hangs together
    assert not depends_only_on(sum_of_the_others("c"), broken, beside(broken, "c"), 2)


def test_the_twin_whose_halves_share_no_mask_opens_the_sum_of_two(monkeypatch):
    signs, _ = masks_of(monkeypatch, ("a", "b", "c", "d"))
    across = {mask for one in ("a", "b") for other in ("c", "d") for mask in signs[one, 0] if mask in signs[other, 0]}
    broken = {name: {mask: s for mask, s in counts.items() if mask not in across} for name, counts in signs.items()}
    assert len(across) == 4
    assert not depends_only_on(sums, broken, all_payloads, 2)


def together(edges, left):
    """Whether those left hang together by the masks that two of them share."""
    reached, border = set(), [left[0]]
    while border:
        here = border.pop()
        reached.add(here)
        border += [other for edge in edges if here in edge for other in edge if other in left and other not in reached]
    return reached == set(left)


def spans_all_with_one_sum(signs, honest):
    """Whether the masks that honest parties share make every vector of Z_2 with an even sum equally often."""
    shared = Counter(mask for party in honest for mask in signs[party, 0])
    edges = sorted(mask for mask, holders in shared.items() if holders == 2)
    seen = Counter()
    for bits in itertools.product(range(2), repeat=len(edges)):
        masks = dict(zip(edges, bits, strict=True))
        seen[tuple(sum(masks.get(mask, 0) for mask in signs[party, 0]) % 2 for party in honest)] += 1
    return len(set(seen.values())) == 1 and len(seen) == 2 ** (len(honest) - 1)


def test_on_a_neighbour_graph_everybody_is_hidden_from_every_set_of_fewer_than_its_degree(monkeypatch):
    sites = [f"s{number}" for number in range(7)]
    signs, table = masks_of(monkeypatch, sites, neighbours=4)
    holders = {}
    for (party, _), counts in signs.items():
        for mask in counts:
            holders.setdefault(mask, []).append(party)
    graph = table.collector._room.graph
    most = most_colluders_without_recovery(Settings(neighbours=4), 7)
    assert most == 3
    verdicts = []
    for number in range(5):
        fine = True
        for colluders in itertools.combinations(sites, number):
            honest = [party for party in sites if party not in colluders]
            hidden = spans_all_with_one_sum(signs, honest)
            assert hidden == together(list(holders.values()), honest)
            fine = fine and hidden
        assert fine == graph.holds_together(sites, number)
        verdicts.append(fine)
    assert verdicts == [number <= most for number in range(5)]


def test_a_large_room_takes_as_many_colluders_as_one_whose_secrets_are_shared():
    for parties, degree in ((51, 12), (100, 20), (1000, 40)):
        assert degree_without_recovery(Settings(), parties) == degree
        assert most_colluders_without_recovery(Settings(), parties) == degree - 1
        shares = share_threshold(Settings().threshold_for(parties), parties, degree_for(Settings(), parties))
        assert most_colluders_without_recovery(Settings(), parties) >= shares - 1
    assert degree_without_recovery(Settings(), 50) == 49
    assert most_colluders_without_recovery(Settings(), 50) == 48
    assert degree_without_recovery(Settings(neighbours=6, threshold=3, allow_two=True), 60) == 6


def test_sums_are_exact_in_a_large_room():
    sites = [f"s{number:02}" for number in range(60)]
    vectors = {site: ring.expand(site.encode().ljust(32), 3, 2) for site in sites}
    table = run.sit_down("pairwise-lean", sites, Settings(rounds_per_batch=2))
    for round_ in range(4):
        if round_ % 2 == 0:
            run.meet(table, round_ // 2)
        total = run.add_up(table, vectors, run.context_of(table, vectors["s00"], round_=round_))
        assert np.array_equal(total.vector, ring.total_of(vectors.values(), 3, 2))
