"""Secrets put together one after the other: what `shamir.corrected` gives, whoever holds the next one's shares."""

import random
import secrets

import pytest

from protocols.primitives import shamir
from protocols.primitives.shamir import PRIME, ShareError
from protocols.primitives.shamir_in_turn import InTurn

PARTIES, REACH, THRESHOLD = 60, 8, 11
NO_SHARE = b"\xff" * shamir.SHARE_BYTES


def around_the_circle(*, shuffled=False):
    """The holders of each secret around a circle, in order of the indices or not, without those who are silent."""
    circle = list(range(1, PARTIES + 1))
    if shuffled:
        random.Random(0).shuffle(circle)
    silent = set(circle[5:8]) | {circle[30]}
    for seat in range(PARTIES):
        window = (circle[(seat + apart) % PARTIES] for apart in range(-REACH, REACH + 1))
        yield sorted(index for index in window if index not in silent)


def dealt(holders):
    secret = secrets.token_bytes(32)
    return secret, shamir.split_at(secret, THRESHOLD, holders, secrets.token_bytes)


@pytest.fixture
def slow(monkeypatch):
    """How often a secret was put together by itself."""
    calls, whole = [], shamir.corrected
    monkeypatch.setattr(shamir, "corrected", lambda *given: calls.append(given) or whole(*given))
    return calls


@pytest.mark.parametrize("shuffled", [False, True])
def test_every_secret_around_a_circle_is_found_at_once(slow, shuffled):
    turn = InTurn(THRESHOLD, PARTIES)
    for holders in around_the_circle(shuffled=shuffled):
        secret, shares = dealt(holders)
        assert turn.corrected(shares, secret.__eq__) == (secret, 0)
    assert slow == []


def test_holders_may_change_altogether_and_be_any(slow):
    turn, drawn = InTurn(THRESHOLD, PARTIES), random.Random(1)
    everybody = range(1, PARTIES + 1)
    for holders in ([1, 2, *range(5, 20)], list(everybody)[30:55], *(drawn.sample(everybody, 20) for _ in range(5))):
        secret, shares = dealt(holders)
        assert turn.corrected(shares, secret.__eq__) == (secret, 0)
    assert slow == []


@pytest.mark.parametrize("shuffled", [False, True])
def test_weights_that_follow_from_the_last_ones_are_lagranges(shuffled):
    turn = InTurn(THRESHOLD, PARTIES)
    for holders in around_the_circle(shuffled=shuffled):
        assert list(turn._weights(holders)) == list(shamir._dual_weights(tuple(holders), PRIME))


def test_weights_of_holders_who_sit_in_the_same_way_are_not_made_anew(monkeypatch):
    turn, inverse = InTurn(THRESHOLD, PARTIES), []
    weights = list(turn._weights([3, 4, 6, 9]))
    monkeypatch.setattr(turn, "_inverse", inverse)
    assert list(turn._weights([5, 6, 8, 11])) == list(turn._weights([1, 2, 4, 7])) == weights
    with pytest.raises(IndexError):
        turn._weights([1, 2, 4, 8])


def test_inverses_of_all_differences_are_at_hand():
    turn = InTurn(2, 7)
    for apart in (*range(-7, 0), *range(1, 8)):
        assert turn._inverse[apart] * apart % PRIME == 1


@pytest.mark.parametrize("false", [1, 3, 4])
def test_false_shares_are_corrected_and_counted_as_where_each_secret_stands_alone(slow, false):
    turn = InTurn(THRESHOLD, PARTIES)
    for holders in list(around_the_circle())[16:22]:
        secret, shares = dealt(holders)
        for index in holders[:false]:
            shares[index] = secrets.token_bytes(32) + b"\0"
        alone = shamir.corrected(shares, THRESHOLD, secret.__eq__)
        assert turn.corrected(shares, secret.__eq__) == alone == (secret, false)
    assert len(slow) == 12


def test_shares_that_are_none_are_left_out_and_counted(slow):
    turn = InTurn(THRESHOLD, PARTIES)
    secret, shares = dealt(range(1, 18))
    shares |= {3: NO_SHARE, 4: b"short"}
    assert turn.corrected(shares, secret.__eq__) == (secret, 2)
    assert slow == []


def test_two_liars_whose_lies_cancel_at_the_secret_are_counted():
    """The right secret is behind all points of theirs too: only the parity checks show the lies."""
    secret, shares = dealt(range(1, 18))
    weights = shamir._weights_at_zero(tuple(shares), PRIME)
    lie = secrets.randbelow(PRIME - 1) + 1
    for place, by in ((0, lie), (1, -lie * weights[0] * pow(weights[1], -1, PRIME))):
        index = list(shares)[place]
        value = (int.from_bytes(shares[index], "little") + by) % PRIME
        shares[index] = value.to_bytes(shamir.SHARE_BYTES, "little")
    points = shamir.points_of(shares)
    assert shamir.interpolate(points).to_bytes(32, "little") == secret
    assert InTurn(THRESHOLD, PARTIES).corrected(shares, secret.__eq__) == (secret, 2)

    class Twin(InTurn):
        def _checks(self, spare):
            return [0] * (self._largest + 1)

    assert Twin(THRESHOLD, PARTIES).corrected(shares, secret.__eq__) == (secret, 0)


@pytest.mark.parametrize("spare", [1, 2, 7, 30])
def test_one_false_share_of_many_never_passes(spare):
    turn, holders = InTurn(THRESHOLD, PARTIES), range(1, THRESHOLD + spare + 1)
    secret, shares = dealt(holders)
    points = shamir.points_of(shares)
    assert turn._of_all(points) == int.from_bytes(secret, "little")
    for index in holders:
        assert turn._of_all({**points, index: (points[index] + 1) % PRIME}) is None


def test_what_is_not_accepted_or_too_little_is_refused():
    turn = InTurn(THRESHOLD, PARTIES)
    secret, shares = dealt(range(1, 18))
    with pytest.raises(ShareError, match="do not open"):
        turn.corrected(shares, lambda _: False)
    with pytest.raises(ShareError, match="10 shares are too few"):
        turn.corrected({index: shares[index] for index in range(1, 11)}, secret.__eq__)
    with pytest.raises(ShareError, match="0 shares are too few"):
        turn.corrected({}, secret.__eq__)
    assert turn.corrected(shares, secret.__eq__) == (secret, 0)
