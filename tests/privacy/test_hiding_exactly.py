"""Hiding proved by exhaustion, in a ring so small that every mask can be tried.

Which mask each party adds and which it subtracts is read off the real protocol at work; the masks
themselves are then replaced by every possible choice in Z_4. For all inputs with the same sum the
aggregator's view must have one and the same distribution.
"""

import itertools
from collections import Counter

import numpy as np
import pytest

from protocols import run
from protocols.masking import mask_keys, round_seeds
from protocols.primitives import ring
from protocols.sessions.settings import Settings

RING = 4
SITES = ("a", "b", "c")


@pytest.fixture
def signs(monkeypatch):
    """For each party in one real sum: how often it adds each mask (-1: subtracts)."""
    taken, origins = {}, {}
    real_mask_into, real_pairs, real_self = ring.mask_into, round_seeds.pair_mask_keys, mask_keys.self_mask_key

    def pairs(seeds, me, context):
        keys = real_pairs(seeds, me, context)
        origins.update({key: "".join(sorted((me, peer))) for peer, key in keys.items()})
        return keys

    def self_mask(seed, owner, context):
        key = real_self(seed, owner, context)
        origins[key] = owner
        return key

    def mask_into(total, plus, minus, prg="aes-256-ctr"):
        plus, minus = list(plus), list(minus)
        speaker = SITES[len(taken)] if len(taken) < len(SITES) else "aggregator"
        taken[speaker] = Counter(origins[key] for key in plus)
        taken[speaker].subtract(origins[key] for key in minus)
        real_mask_into(total, plus, minus, prg)

    from protocols.masking import pairwise, pairwise_collector

    for end in (pairwise, pairwise_collector):
        monkeypatch.setattr(end, "pair_mask_keys", pairs)
        monkeypatch.setattr(end, "self_mask_key", self_mask)
    monkeypatch.setattr(ring, "mask_into", mask_into)
    run.secure_sum("pairwise", {site: np.zeros((1, 2), np.uint64) for site in SITES}, Settings(rounds_per_batch=1))
    return {party: dict(counts) for party, counts in taken.items()}


def views(signs, see, inputs):
    """The distribution of what is seen, over every choice of every mask."""
    masks = every_choice(sorted({name for party in SITES for name in signs[party]}))
    payloads = {
        party: (x + sum(sign * masks[name] for name, sign in signs[party].items())) % RING
        for party, x in zip(SITES, inputs, strict=True)
    }
    return distribution(see(payloads, masks))


def every_choice(names):
    """What each of these may be, ``(choices,)`` each: one of every combination in the ring."""
    return dict(zip(names, np.indices((RING,) * len(names)).reshape(len(names), -1), strict=True))


def distribution(seen):
    """How often each combination of ring elements is seen over all choices, ``(combinations,)``."""
    return np.bincount(np.ravel_multi_index(seen, (RING,) * len(seen)), minlength=RING ** len(seen)).tolist()


def depends_only_on(what, signs, see):
    """Whether the view's distribution is a function of ``what(inputs)`` alone."""
    seen = {}
    for inputs in itertools.product(range(RING), repeat=len(SITES)):
        counts = views(signs, see, inputs)
        if seen.setdefault(what(inputs), counts) != counts:
            return False
    return True


def everyone_present(payloads, masks):
    """All payloads, and all self-masks from the released shares."""
    return (*(payloads[s] for s in SITES), *(masks[s] for s in SITES))


def one_dropped(payloads, masks):
    """Site c was silent: payloads and self-masks of a and b, and every mask c has with them."""
    return payloads["a"], payloads["b"], masks["a"], masks["b"], masks["ac"], masks["bc"]


def one_late(payloads, masks):
    """The same, and then c's payload arrives after all."""
    return (*one_dropped(payloads, masks), payloads["c"])


def colluding(payloads, masks):
    """Everyone present, and site c shows the aggregator everything it has."""
    return (*everyone_present(payloads, masks), masks["ac"], masks["bc"])


def total(inputs):
    return sum(inputs) % RING


def total_of_two(inputs):
    return (inputs[0] + inputs[1]) % RING


def total_and_the_colluders(inputs):
    return total_of_two(inputs), inputs[2]


def test_the_masks_of_a_pair_cancel_and_everyone_has_one_of_its_own(signs):
    assert signs["a"] == {"ab": 1, "ac": 1, "a": 1}
    assert signs["b"] == {"ab": -1, "bc": 1, "b": 1}
    assert signs["c"] == {"ac": -1, "bc": -1, "c": 1}
    assert signs["aggregator"] == {"a": -1, "b": -1, "c": -1}


def test_the_view_of_a_whole_sum_depends_on_the_sum_alone(signs):
    assert depends_only_on(total, signs, everyone_present)


def test_after_a_dropout_the_view_depends_on_the_sum_of_the_others_alone(signs):
    assert depends_only_on(total_of_two, signs, one_dropped)


def test_a_late_payload_tells_nothing(signs):
    assert depends_only_on(total_of_two, signs, one_late)


def test_a_colluding_site_sees_the_sum_of_the_others_and_no_more(signs):
    assert depends_only_on(total_and_the_colluders, signs, colluding)


def test_without_a_self_mask_a_late_payload_tells_everything(signs):
    broken = {party: {**signs[party], party: 0} for party in SITES}
    assert depends_only_on(total_of_two, broken, one_dropped)
    assert not depends_only_on(total_of_two, broken, one_late)


def test_without_one_pairs_mask_too_much_is_seen(signs):
    broken = {party: {**signs[party], "ab": 0, "ac": 0} for party in SITES}
    assert not depends_only_on(total, broken, everyone_present)


def test_masks_shorter_than_the_ring_do_not_hide(signs):
    """A mask that is only ever 0 or 1 leaves the distribution lopsided."""
    doubled = {party: {name: 2 * sign for name, sign in signs[party].items()} for party in SITES}
    assert not depends_only_on(total, doubled, everyone_present)


def test_additive_replies_depend_on_the_sum_alone():
    dealt = every_choice(list(itertools.permutations(range(3), 2)))

    def replies_to(inputs):
        return tuple((inputs[u] + sum(dealt[v, u] - dealt[u, v] for v in range(3) if v != u)) % RING for u in range(3))

    def aggregator(replies, dealt):
        return replies

    def with_site_c(replies, dealt):
        return (*replies, dealt[0, 2], dealt[1, 2], dealt[2, 0], dealt[2, 1])

    def with_sites_b_and_c(replies, dealt):
        return (*with_site_c(replies, dealt), dealt[0, 1], dealt[1, 0])

    for see, what, holds in (
        (aggregator, total, True),
        (with_site_c, total_and_the_colluders, True),
        (with_sites_b_and_c, total, False),
    ):
        seen, same = {}, True
        for inputs in itertools.product(range(RING), repeat=3):
            counts = distribution(see(replies_to(inputs), dealt))
            same = same and seen.setdefault(what(inputs), counts) == counts
        assert same is holds
