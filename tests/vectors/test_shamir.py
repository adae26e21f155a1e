"""Secret sharing: exhaustively in a tiny field, and over the field that is used."""

import itertools
import secrets
from collections import Counter
from math import isqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.primitives import shamir
from protocols.primitives.shamir import PRIME, ShareError, combine, evaluate, fit_one_polynomial, interpolate, split

TINY = 7


@pytest.mark.parametrize(("threshold", "count"), [(1, 3), (2, 4), (3, 4), (3, 3)])
def test_in_a_tiny_field_every_subset_recovers_every_secret(threshold, count):
    for coefficients in itertools.product(range(TINY), repeat=threshold):
        values = dict(enumerate(evaluate(coefficients, count, TINY), start=1))
        for size in range(threshold, count + 1):
            for chosen in itertools.combinations(values, size):
                points = {index: values[index] for index in chosen}
                assert interpolate(points, TINY) == coefficients[0]
                assert fit_one_polynomial(points, threshold, TINY)


@pytest.mark.parametrize(("threshold", "count"), [(2, 4), (3, 4)])
def test_in_a_tiny_field_fewer_shares_are_uniform_whatever_the_secret(threshold, count):
    for chosen in itertools.combinations(range(count), threshold - 1):
        for secret in range(TINY):
            seen = Counter(
                tuple(evaluate((secret, *rest), count, TINY)[place] for place in chosen)
                for rest in itertools.product(range(TINY), repeat=threshold - 1)
            )
            assert set(seen.values()) == {1}
            assert len(seen) == TINY ** (threshold - 1)


def test_in_a_tiny_field_every_single_false_share_shows():
    for coefficients in itertools.product(range(TINY), repeat=2):
        values = dict(enumerate(evaluate(coefficients, 4, TINY), start=1))
        for index, value in values.items():
            for error in range(1, TINY):
                assert not fit_one_polynomial({**values, index: (value + error) % TINY}, 2, TINY)


def test_the_prime_is_the_first_above_32_bytes():
    import gmpy2

    assert gmpy2.next_prime(2**256) == PRIME
    assert isqrt(PRIME) == 2**128


@given(secret=st.binary(min_size=32, max_size=32), data=st.data())
def test_any_threshold_of_shares_opens_any_secret(secret, data):
    count = data.draw(st.integers(1, 9))
    threshold = data.draw(st.integers(1, count))
    shares = dict(enumerate(split(secret, threshold, count, secrets.token_bytes), start=1))
    chosen = data.draw(st.permutations(sorted(shares)))[: data.draw(st.integers(threshold, count))]
    assert combine({index: shares[index] for index in chosen}, threshold) == secret


def test_every_subset_of_the_threshold_opens():
    secret = b"\xff" * 32
    shares = dict(enumerate(split(secret, 3, 6, secrets.token_bytes), start=1))
    for chosen in itertools.combinations(shares, 3):
        assert combine({index: shares[index] for index in chosen}, 3) == secret
    for chosen in itertools.combinations(shares, 2):
        with pytest.raises(ShareError, match="too few"):
            combine({index: shares[index] for index in chosen}, 3)


def spoiled(shares, *indices):
    return {i: bytes([s[0] ^ 1]) + s[1:] if i in indices else s for i, s in shares.items()}


def test_a_false_share_is_named_with_one_to_spare_where_the_secret_can_be_recognised():
    secret = secrets.token_bytes(32)
    shares = dict(enumerate(split(secret, 3, 4, secrets.token_bytes), start=1))
    for bad in shares:
        with pytest.raises(ShareError) as caught:
            combine(spoiled(shares, bad), 3, accepts=lambda found: found == secret)
        assert caught.value.bad == (bad,)
        with pytest.raises(ShareError) as caught:
            combine(spoiled(shares, bad), 3)
        assert caught.value.bad == ()


def test_false_shares_are_named_without_recognising_the_secret_where_enough_are_to_spare():
    shares = dict(enumerate(split(bytes(32), 3, 7, secrets.token_bytes), start=1))
    for bad in itertools.combinations(shares, 2):
        with pytest.raises(ShareError) as caught:
            combine(spoiled(shares, *bad), 3)
        assert caught.value.bad == bad


def test_a_false_secret_behind_good_shares_is_refused_and_nobody_is_blamed():
    shares = dict(enumerate(split(bytes(32), 3, 7, secrets.token_bytes), start=1))
    with pytest.raises(ShareError) as caught:
        combine(shares, 3, accepts=lambda _: False)
    assert caught.value.bad == ()


def test_what_is_no_share_is_refused_by_index():
    shares = dict(enumerate(split(bytes(32), 2, 3, secrets.token_bytes), start=1))
    for wrong in (b"", bytes(32), bytes(34), b"\xff" * 33, PRIME.to_bytes(33, "little")):
        with pytest.raises(ShareError) as caught:
            combine({**shares, 2: wrong}, 2)
        assert caught.value.bad == (2,)
    with pytest.raises(ShareError):
        combine({0: shares[1], 1: shares[1]}, 2)


def test_a_secret_beyond_32_bytes_is_no_secret():
    high = 2**256
    shares = {i: v.to_bytes(33, "little") for i, v in enumerate(evaluate((high, 5), 3), start=1)}
    with pytest.raises(ShareError):
        combine(shares, 2)


def test_split_takes_only_what_it_can_share():
    with pytest.raises(ValueError, match="32 bytes"):
        split(bytes(31), 2, 3, secrets.token_bytes)
    for threshold, count in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match="can't be met"):
            split(bytes(32), threshold, count, secrets.token_bytes)


def test_coefficients_are_drawn_with_room_to_be_uniform():
    drawn = []

    def entropy(count):
        drawn.append(count)
        return b"\xff" * count

    split(bytes(32), 4, 5, entropy)
    assert drawn == [48, 48, 48]
    assert PRIME.bit_length() + 64 <= 8 * shamir._DRAW_BYTES
