"""Totals that the sites check by themselves: whatever else an aggregator tells is refused, but for a known chance.

The claim's limit is shown too: a site that gives the seed away lets the aggregator tell what it likes.
"""

from itertools import combinations, pairwise

import numpy as np
import pytest

from protocols import verified
from protocols.primitives import ring
from protocols.secure_sum import AGGREGATOR, Context, PeerError, sha256
from protocols.verified import CHECK_VALUES, PRIME, Checks

SITES = ("site-1", "site-2", "site-3", "site-4")
SEED = bytes(range(32))
VALUES = 6
BOTH = pytest.mark.parametrize("limbs", [1, 2])


def context(limbs, *, round_=0, session=b"s" * 32, cohort=SITES, values=VALUES):
    return Context(session, round_, 0, cohort, b"l" * 32, values + CHECK_VALUES[limbs], limbs)


def small(site, where):
    """A site's vector of a round, signed and with headroom for the sum of all."""
    values = where.values - CHECK_VALUES[where.limbs]
    drawn = ring.expand(sha256(b"test vector", site.encode(), where.digest), values, where.limbs)
    drawn[:, -1] = (drawn[:, -1].view(np.int64) >> np.int64(3)).view(np.uint64)
    return drawn


def summed(checks, where, limbs, cohort=SITES):
    vectors = [Checks(checks._seed, site).append(small(site, where), where) for site in cohort]
    return ring.total_of(iter(vectors), where.values, limbs)


def refused(checks, told, where, parties=None):
    try:
        checks.verify(told, where, where.cohort if parties is None else parties)
    except PeerError as error:
        return error.sender == AGGREGATOR
    return False


def integers(vector):
    """Ring elements as Python integers in two's complement."""
    bits = 64 * vector.shape[1]
    values = [sum(int(limb) << (64 * place) for place, limb in enumerate(row)) for row in vector]
    return [value - (1 << bits) if value >> (bits - 1) else value for value in values]


def ring_of(values, limbs):
    whole = [[(value >> (64 * place)) & (2**64 - 1) for place in range(limbs)] for value in values]
    return np.array(whole, dtype=np.uint64)


@BOTH
def test_the_sum_of_what_was_sent_is_taken(limbs):
    where, checks = context(limbs), Checks(SEED, SITES[0])
    assert not refused(checks, summed(checks, where, limbs), where)


@BOTH
def test_every_position_flipped_in_some_bits_is_refused(limbs):
    where, checks = context(limbs), Checks(SEED, SITES[0])
    total = summed(checks, where, limbs)
    for at in np.ndindex(total.shape):
        for bit in (0, 1, 7, 29, 30, 31, 32, 33, 59, 60, 61, 62, 63):
            told = total.copy()
            told[at] ^= np.uint64(1 << bit)
            assert refused(checks, told, where), (at, bit)


@BOTH
def test_a_total_of_another_round_session_or_cohort_is_refused(limbs):
    checks, here = Checks(SEED, SITES[0]), context(limbs)
    others = [
        context(limbs, round_=1),
        context(limbs, session=b"t" * 32),
        context(limbs, cohort=SITES[:3]),
    ]
    totals = [summed(checks, where, limbs, where.cohort) for where in (here, *others)]
    for where in others:
        assert refused(checks, totals[0], where)
    for told in totals[1:]:
        assert refused(checks, told, here)
    # Bodies of one context under the check values of another, both ways.
    for mine, other in pairwise(totals):
        assert refused(checks, np.concatenate([other[:VALUES], mine[VALUES:]]), here)


@BOTH
def test_a_sum_over_fewer_than_the_cohort_is_refused(limbs):
    checks, where = Checks(SEED, SITES[0]), context(limbs)
    assert refused(checks, summed(checks, where, limbs, SITES[:3]), where)
    assert refused(checks, summed(checks, where, limbs, (*SITES, SITES[0])), where)


@BOTH
def test_a_total_is_taken_for_that_of_its_own_parties_and_of_no_others(limbs):
    checks, where = Checks(SEED, SITES[0]), context(limbs)
    sets = [some for size in range(len(SITES) + 1) for some in combinations(SITES, size)]
    totals = {some: summed(checks, where, limbs, some) for some in sets}
    for real in sets[1:]:
        assert {said for said in sets if not refused(checks, totals[real], where, said)} == {real}
    assert all(refused(checks, totals[()], where, said) for said in sets)  # nothing is nobody's total


@BOTH
@pytest.mark.parametrize("said", [SITES[::-1], (*SITES, SITES[-1]), (*SITES, "site-5"), SITES[1:] + SITES[:1]])
def test_parties_that_are_not_a_sorted_part_of_the_cohort_are_refused(limbs, said):
    checks, where = Checks(SEED, SITES[0]), context(limbs)
    assert refused(checks, summed(checks, where, limbs, said), where, said)


@BOTH
@pytest.mark.parametrize("times", [0, 2, 3, -1, 1 << 20])
def test_a_total_that_is_scaled_with_its_check_values_is_refused(limbs, times):
    """Inner products are linear: without a pad the scaled total carried the scaled product."""
    checks, where = Checks(SEED, SITES[0]), context(limbs)
    told = ring_of([times * value for value in integers(summed(checks, where, limbs))], limbs)
    assert refused(checks, told, where)


@BOTH
@pytest.mark.parametrize("modulus", [PRIME, (1 << 61) - 1, 1 << 61, 1 << 63])
def test_a_total_that_is_off_by_a_modulus_is_refused(limbs, modulus):
    """No two vectors of the ring are the same modulo the prime: it is larger than the ring."""
    checks, where = Checks(SEED, SITES[0]), context(limbs)
    total = integers(summed(checks, where, limbs))
    for times in (1, -1, 16):
        told = ring_of([value + times * modulus * (at == 2) for at, value in enumerate(total)], limbs)
        if integers(told) != total:
            assert refused(checks, told, where)
    assert PRIME > 1 << 128


@BOTH
def test_positions_that_trade_places_are_refused(limbs):
    checks, where = Checks(SEED, SITES[0]), context(limbs)
    told = summed(checks, where, limbs)
    told[[0, 1]] = told[[1, 0]]
    assert refused(checks, told, where)


@BOTH
@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t.astype(np.int64), lambda t: t.reshape(-1)])
def test_another_shape_is_refused(limbs, change):
    checks, where = Checks(SEED, SITES[0]), context(limbs)
    assert refused(checks, change(summed(checks, where, limbs)), where)


@BOTH
@pytest.mark.parametrize("values", [0, 1, 1000])
def test_the_check_is_the_inner_product_of_the_integers(limbs, values):
    """Beside Python's own integers, over the whole range of the ring."""
    vector = ring.expand(b"v" * 32, values, limbs)
    keys = ring.expand(b"k" * 32, values, 1)[:, 0]
    expected = sum(value * int(key) for value, key in zip(integers(vector), keys, strict=True))
    assert verified.inner_product(vector, keys) == expected


# The chance, in a field small enough to see it.


def forged(seeds, forge):
    """How often a forged total is taken, each time under other keys."""
    where, taken = context(2, values=3), 0
    for number in range(seeds):
        checks = Checks(number.to_bytes(32, "little"), SITES[0])
        taken += not refused(checks, forge(summed(checks, where, 2), number), where)
    return taken


def off_by_one(total, number):
    told = total.copy()
    told[number % 3, 0] += np.uint64(1)
    return told


def doubled(total, number):
    return ring_of([2 * value for value in integers(total)], 2)


def with_another_check(total, number):
    told = off_by_one(total, number)
    told[3, 0] += np.uint64(number % 7)
    return told


@pytest.mark.parametrize("prime", [13, 61])
@pytest.mark.parametrize("forge", [off_by_one, doubled, with_another_check])
def test_the_chance_of_a_forgery_is_one_in_the_number_of_keys(monkeypatch, prime, forge):
    monkeypatch.setattr(verified, "PRIME", prime)
    tries = 40 * prime
    expected, deviation = tries / prime, np.sqrt(tries / prime)
    assert abs(forged(tries, forge) - expected) < 5 * deviation


def test_without_pads_a_doubled_total_is_always_taken(monkeypatch):
    monkeypatch.setattr(Checks, "_pad", lambda *_: 0)
    assert forged(20, doubled) == 20
    assert forged(20, off_by_one) == 0


def test_modulo_a_prime_that_is_smaller_than_the_ring_its_multiples_are_always_taken(monkeypatch):
    monkeypatch.setattr(verified, "PRIME", (1 << 61) - 1)

    def off(total, number):
        values = integers(total)
        return ring_of([values[0] + ((1 << 61) - 1) * 16, *values[1:]], 2)

    assert forged(20, off) == 20
