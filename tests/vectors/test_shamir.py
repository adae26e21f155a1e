"""Secret sharing: exhaustively in a tiny field, and over the field that is used."""

import itertools
import secrets
from collections import Counter
from math import isqrt, prod

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


def test_every_spare_share_may_be_false_where_the_secret_can_be_recognised():
    secret = secrets.token_bytes(32)
    shares = dict(enumerate(split(secret, 3, 6, secrets.token_bytes), start=1))
    for count in (1, 2, 3):
        for bad in itertools.combinations(shares, count):
            assert combine(spoiled(shares, *bad), 3, accepts=lambda found: found == secret) == secret
    others = {index: secrets.token_bytes(32) + b"\0" for index in (1, 2, 3, 4)}
    with pytest.raises(ShareError):
        combine({**shares, **others}, 3, accepts=lambda found: found == secret)


def test_half_of_the_spare_shares_may_be_false_where_it_can_not():
    secret = secrets.token_bytes(32)
    shares = dict(enumerate(split(secret, 3, 7, secrets.token_bytes), start=1))
    for count in (1, 2):
        for bad in itertools.combinations(shares, count):
            assert combine(spoiled(shares, *bad), 3) == secret
    for bad in itertools.combinations(shares, 3):
        with pytest.raises(ShareError):
            combine({**shares, **{index: secrets.token_bytes(32) + b"\0" for index in bad}}, 3)


@given(data=st.data())
def test_in_a_small_field_what_is_corrected_is_the_one_polynomial_near_enough(data):
    """Against looking at all of them: over 13 elements, whatever the points are."""
    prime, threshold, count = 13, data.draw(st.integers(1, 2)), data.draw(st.integers(2, 8))
    indices = data.draw(st.lists(st.integers(1, 12), min_size=count, max_size=count, unique=True))
    points = {index: data.draw(st.integers(0, 12)) for index in indices}
    near = [
        list(coefficients)
        for coefficients in itertools.product(range(prime), repeat=threshold)
        if 2 * sum(shamir.value_at(coefficients, x, prime) != y for x, y in points.items()) <= count - threshold
    ]
    found = shamir.corrected_polynomial(points, threshold, prime) if count >= threshold else None
    assert len(near) <= 1
    assert [[*found, *[0] * (threshold - len(found))]] == near if found else not near


def test_a_false_secret_behind_good_shares_is_refused():
    shares = dict(enumerate(split(bytes(32), 3, 7, secrets.token_bytes), start=1))
    with pytest.raises(ShareError, match="7 shares do not open the secret"):
        combine(shares, 3, accepts=lambda _: False)


def test_what_is_no_share_is_left_out():
    secret = secrets.token_bytes(32)
    shares = dict(enumerate(split(secret, 2, 3, secrets.token_bytes), start=1))
    for wrong in (b"", bytes(32), bytes(34), b"\xff" * 33, PRIME.to_bytes(33, "little")):
        assert combine({**shares, 2: wrong}, 2) == secret
        with pytest.raises(ShareError, match="1 shares are too few"):
            combine({1: shares[1], 2: wrong}, 2)
    with pytest.raises(ShareError, match="1 shares are too few"):
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


@pytest.mark.parametrize("drawn", [b"\xff", b"\0", b"\x5a"])
def test_secrets_split_together_have_the_shares_of_each_by_itself(drawn):
    """At indices and coefficients as large as they come, and where a share is nothing but the secret."""
    hidden = [b"\xff" * 32, bytes(32), secrets.token_bytes(32)]
    for threshold, indices in ((1, [3]), (2, [1, 2]), (5, [1, 7, 1023, 1024, 60_000]), (60, range(940, 1000))):
        tapes = iter(range(1, 1000)), iter(range(1, 1000))
        one, all_ = (lambda count, tape=tape: drawn * (count - 2) + next(tape).to_bytes(2) for tape in tapes)
        together = shamir.split_all(hidden, threshold, indices, all_)
        for secret, shares in zip(hidden, together, strict=True):
            draws = [int.from_bytes(one(48), "little") % PRIME for _ in range(threshold - 1)]
            values = [shamir.value_at([int.from_bytes(secret, "little"), *draws], index) for index in indices]
            assert shares == {index: value.to_bytes(33, "little") for index, value in zip(indices, values, strict=True)}
    assert shamir.split_all([], 1, [1], secrets.token_bytes) == []


def test_coefficients_are_drawn_with_room_to_be_uniform():
    drawn = []

    def entropy(count):
        drawn.append(count)
        return b"\xff" * count

    split(bytes(32), 4, 5, entropy)
    assert drawn == [48, 48, 48]
    assert PRIME.bit_length() + 64 <= 8 * shamir._DRAW_BYTES


@pytest.mark.parametrize("prime", [1009, PRIME])
def test_weights_by_one_inversion_are_lagranges(prime):
    for indices in ((1,), (3, 1), (1, 2, 3, 4, 5), tuple(range(997, 937, -1)), (7, 500, 1000, 2, 999)):
        at_zero = [prod(-x * pow(i - x, -1, prime) for x in indices if x != i) % prime for i in indices]
        assert list(shamir._weights_at_zero(indices, prime)) == at_zero
        dual = [prod(pow(i - x, -1, prime) for x in indices if x != i) % prime for i in indices]
        assert list(shamir._dual_weights(indices, prime)) == dual


@pytest.mark.parametrize("spare", [1, 2, 16, 17, 18, 40])
def test_one_false_value_among_many_to_spare_shows_wherever_it_is(spare):
    """Beyond the powers after which sums are reduced too."""
    threshold, indices = 20, range(941, 961 + spare)
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold)]
    points = {index: shamir.value_at(coefficients, index) for index in indices}
    assert fit_one_polynomial(points, threshold)
    assert interpolate(points) == coefficients[0]
    for index in indices:
        assert not fit_one_polynomial({**points, index: (points[index] + 1) % PRIME}, threshold)
    more = {index: shamir.value_at([*coefficients, 1], index) for index in indices}
    assert not fit_one_polynomial(more, threshold)
