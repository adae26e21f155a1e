"""What the key-holder decrypts says nothing of a sum, nor two of them of their difference, even if a seed repeats."""

import numpy as np
import pytest

from protocols import run
from protocols.encryption import paillier, paillier_messages
from protocols.primitives.paillier.paillier_keys import PrivateKey
from protocols.secure_sum import IntegrityError


@pytest.fixture
def seen(monkeypatch):
    """Every list of plaintexts that the key-holder comes to see."""
    noted, honest = [], PrivateKey.decrypt

    def decrypt(self, ciphertexts, *more):
        noted.append(honest(self, ciphertexts, *more))
        return noted[-1]

    monkeypatch.setattr(PrivateKey, "decrypt", decrypt)
    return noted


def two_equal_sums_under_one_seed(set_back, vectors):
    """By an aggregator whose random bytes repeat, as after a restore."""
    table = set_back("paillier")
    table.collector._entropy = bytes
    run.meet(table)
    for round_ in (0, 1):
        run.add_up(table, vectors, run.context_of(table, vectors["a"], round_=round_))


def test_a_seed_that_repeats_does_not_show_the_key_holder_that_two_sums_are_equal(set_back, vectors, seen):
    two_equal_sums_under_one_seed(set_back, vectors)
    assert len(seen) == 2
    assert not set(seen[0]) & set(seen[1])


def test_the_twin_whose_blind_is_bound_to_no_sum_shows_it(set_back, vectors, seen, monkeypatch):
    honest = paillier_messages.derive
    monkeypatch.setattr(paillier_messages, "derive", lambda secret, salt, *info: honest(secret, b"", *info))
    two_equal_sums_under_one_seed(set_back, vectors)
    assert len(seen) == 2
    assert seen[0] == seen[1]


def reads_the_sum(set_back, vectors, seen):
    """Whether what the key-holder sees, taken as it is, is the packed sum over four sites."""
    table = set_back("paillier")
    run.meet(table)
    total = run.add_up(table, vectors)
    try:
        read = table.parties["a"]._terms.packing_of(3, 2).unpack(seen[0], 4)
    except IntegrityError:
        return False
    return np.array_equal(read, total.vector)


def test_what_the_key_holder_sees_is_no_packed_sum(set_back, vectors, seen):
    assert not reads_the_sum(set_back, vectors, seen)


def test_the_twin_without_a_blind_hands_it_the_sum(set_back, vectors, seen, monkeypatch):
    monkeypatch.setattr(paillier, "blinds", lambda public, seed, context, count, prg: [0] * count)
    assert reads_the_sum(set_back, vectors, seen)
