"""Totals that the sites check by themselves: whatever else an aggregator tells is refused, but for a known chance.

The claim's limit is shown too: a site that gives the seed away lets the aggregator tell what it likes.
"""

from itertools import combinations, pairwise

import numpy as np
import pytest

from protocols import verified
from protocols.primitives import linear_hash, ring
from protocols.secure_sum import AGGREGATOR, Context, MisuseError, PeerError, sha256
from protocols.totals import pack_total, unpack_total
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
def test_every_bit_of_every_position_flipped_is_refused(limbs):
    where, checks = context(limbs), Checks(SEED, SITES[0])
    total = summed(checks, where, limbs)
    for at in np.ndindex(total.shape):
        for bit in range(64):
            told = total.copy()
            told[at] ^= np.uint64(1 << bit)
            assert refused(checks, told, where), (at, bit)


@BOTH
def test_every_bit_of_a_total_as_it_travels_flipped_is_refused(limbs):
    """Widths aside, whatever `unpack_total` reads out of it."""
    where, checks = context(limbs), Checks(SEED, SITES[0])
    packed = pack_total(summed(checks, where, limbs))
    for at in range(8 * len(packed)):
        told = bytearray(packed)
        told[at // 8] ^= 1 << at % 8
        with pytest.raises(PeerError, match=AGGREGATOR):
            checks.verify(unpack_total(bytes(told), where), where, SITES)


@BOTH
@pytest.mark.parametrize("values", [1, 513, 4096])
def test_a_long_total_is_taken_and_refused_where_its_last_bit_is_off(limbs, values):
    """In one row of the hash, in two, and in the compiled pass."""
    where, checks = context(limbs, values=values), Checks(SEED, SITES[0])
    total = summed(checks, where, limbs)
    assert not refused(checks, total, where)
    for at in (0, values // 2, values - 1):
        told = total.copy()
        told[at, 0] ^= np.uint64(1)
        assert refused(checks, told, where)


@BOTH
def test_check_values_are_written_in_place_as_they_are_appended(limbs):
    where, checks = context(limbs), Checks(SEED, SITES[0])
    vector = small(SITES[0], where)
    room = np.concatenate([vector, ring.expand(b"x" * 32, CHECK_VALUES[limbs], limbs)])
    assert checks.fill(room, where) is room
    assert np.array_equal(room, checks.append(vector, where))
    for wrong in (vector, np.concatenate([room, room[:1]])):
        with pytest.raises(MisuseError):
            checks.fill(wrong, where)
    with pytest.raises(MisuseError, match="no room"):
        checks.append(room, where)


@BOTH
def test_a_pad_hides_one_vector_and_no_other(limbs):
    """Two under one pad would tell the hash of their difference."""
    where, checks = context(limbs), Checks(SEED, SITES[0])
    first = checks.append(small(SITES[0], where), where)
    assert np.array_equal(checks.append(small(SITES[0], where), where), first)
    with pytest.raises(MisuseError, match="of another vector already"):
        checks.append(small(SITES[1], where), where)
    checks.append(small(SITES[1], where), context(limbs, round_=1))


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
    told = summed(checks, where, limbs, [site for site in said if site in SITES])
    assert refused(checks, told, where, said)
    assert refused(checks, told, where) == (said[: len(SITES)] != said and said[-1] in SITES)


@BOTH
def test_who_is_not_of_the_cohort_has_no_pad_and_makes_no_check_values(limbs):
    where = context(limbs, cohort=SITES[:3])
    for stranger in ("site-0", SITES[3]):
        with pytest.raises(MisuseError, match=f"no {stranger} in its cohort"):
            Checks(SEED, stranger).append(small(stranger, where), where)


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


# The chance, in a field small enough to see it.


def forged(seeds, forge):
    """How often a forged total is taken, each time under other keys; `forge` gives what is told."""
    where, taken = context(2, values=4), 0
    for number in range(seeds):
        checks = Checks(number.to_bytes(32, "little"), SITES[0])
        taken += not refused(checks, *forge(summed(checks, where, 2), number, where))
    return taken


def off_by_one(total, number, where):
    told = total.copy()
    told[number % 4, 0] += np.uint64(1)
    return told, where


def off_in_two_rows(total, _, where):
    told = total.copy()
    told[[0, 3], 0] += np.uint64(1)
    return told, where


def with_another_check(total, number, where):
    told, _ = off_by_one(total, number, where)
    told[4, 0] += np.uint64(1 + number % 7)
    return told, where


def doubled(total, _, where):
    return ring_of([2 * value for value in integers(total)], 2), where


def of_fewer(total, _, where):
    return total, where, SITES[1:]


CHANCES = {
    off_by_one: lambda p: 2 / p - 1 / p**2,  # its place's key is zero modulo p, or its row's
    off_in_two_rows: lambda p: 1 / p + 1 / p**2 - 1 / p**3,  # both places' keys are zero, or one row's fits the other's
    with_another_check: lambda p: 1 / p - 1 / p**2,  # its place's key is not zero, and its row's fits
    doubled: lambda p: 1 / p,  # the pads add up to zero
    of_fewer: lambda p: 1 / p,  # one pad is zero
}


@pytest.mark.parametrize("prime", [13, pytest.param(61, marks=pytest.mark.slow)])
@pytest.mark.parametrize("forge", CHANCES)
def test_the_chance_of_a_forgery_is_that_of_the_formula_and_none_is_above_the_bound(monkeypatch, prime, forge):
    """Two places a row, and 13 or 61 keys: the bound is 1/p for a place's key and 1/p for a row's, as in the claim."""
    monkeypatch.setattr(verified, "PRIME", prime)
    monkeypatch.setattr(linear_hash, "ROW", 2)
    tries, chance = 60 * prime, CHANCES[forge](prime)
    assert chance <= 2 / prime
    assert abs(forged(tries, forge) - tries * chance) < 5 * np.sqrt(tries * chance)


# What the claim rests on, taken away piece by piece: then the same forgeries are certain.


def test_without_pads_a_doubled_total_is_always_taken(monkeypatch):
    monkeypatch.setattr(Checks, "_sum_of_pads", lambda *_: 0)
    assert forged(20, doubled) == 20
    assert forged(20, off_by_one) == 0


def test_with_one_pad_for_all_parties_others_of_the_same_number_are_always_taken(monkeypatch):
    drawn = Checks._drawn

    def alike(checks, where):
        keys, pads = drawn(checks, where)
        return keys, np.repeat(pads[:1], len(pads), axis=0)

    monkeypatch.setattr(Checks, "_drawn", alike)
    where, checks = context(2), Checks(SEED, SITES[0])
    total = summed(checks, where, 2, SITES[:3])
    assert not refused(checks, total, where, SITES[1:])
    assert refused(checks, total, where, SITES)


def test_where_keys_and_pads_are_those_of_another_context_its_total_is_always_taken(monkeypatch):
    checks, here, there = Checks(SEED, SITES[0]), context(2), context(2, round_=1)
    told = summed(checks, there, 2)
    assert refused(checks, told, here)
    monkeypatch.setattr(verified, "sha256", lambda label, seed, _: sha256(label, seed))
    told = summed(checks, there, 2)
    assert not refused(checks, told, here)


def test_modulo_a_prime_that_is_smaller_than_the_ring_its_multiples_are_always_taken(monkeypatch):
    prime = (1 << 61) - 1
    monkeypatch.setattr(verified, "PRIME", prime)

    def off(total, _, where):
        first, *others = integers(total)
        return ring_of([first + 16 * prime, *others], 2), where

    assert forged(20, off) == 20
    assert forged(20, off_by_one) == 0


# Where the claim ends.


@BOTH
def test_who_has_the_seed_of_a_party_forges_what_it_likes_for_all_others(limbs):
    checks, where = Checks(SEED, SITES[0]), context(limbs)
    body = ring_of([7, -7, 0, 1 << 40, 5, 6], limbs)
    bodies = [body, *[ring.zeros(VALUES, limbs)] * 3]
    forgers = [Checks(SEED, site) for site in SITES]  # one colluding party knows the seed, and so every other's pad
    appended = (forger.append(each, where) for forger, each in zip(forgers, bodies, strict=True))
    told = ring.total_of(appended, where.values, limbs)
    assert not refused(checks, told, where)
    others = [Checks(b"?" * 32, site).append(each, where) for site, each in zip(SITES, bodies, strict=True)]
    assert refused(checks, ring.total_of(iter(others), where.values, limbs), where)
