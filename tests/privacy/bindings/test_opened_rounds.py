"""What opens an absent party's masks of one round opens no other round, and no other set of hellos.

And what an absent party left false is noticed where it can be: by the neighbour that it is false of.
"""

from dataclasses import replace

import numpy as np
import pytest

from protocols import run
from protocols.masking import mask_keys, pairwise, pairwise_collector, round_seeds
from protocols.masking.mask_keys import KeyBook
from protocols.masking.pairwise_collector import PairwiseCollector
from protocols.masking.pairwise_messages import Payload
from protocols.masking.round_seeds import RoundSecrets
from protocols.primitives import ring
from protocols.secure_sum import IntegrityError
from protocols.sessions.settings import Settings

SITES = ("a", "b", "c", "d", "e")
LOST = "b"
SETTINGS = Settings(threshold=3, rounds_per_batch=3)
VECTORS = {site: ring.expand(site.encode().ljust(32, b"."), 4, 2) for site in SITES}


def xor(one, two):
    return bytes(x ^ y for x, y in zip(one, two, strict=True))


def read_in_another_round(monkeypatch):
    """A party was there in round 0 and is lost in round 1: is its first vector read, by what was kept of both?"""
    table, opened = run.sit_down("pairwise", SITES, SETTINGS), {}
    recover = PairwiseCollector._recover

    def noting(self, owner, *given):
        opened[context.round, owner] = recover(self, owner, *given)
        return opened[context.round, owner]

    monkeypatch.setattr(PairwiseCollector, "_recover", noting)
    run.meet(table)
    context = earlier = run.context_of(table, VECTORS[LOST])
    run.add_up(table, VECTORS, context)
    table.silent = {"payload": [LOST]}
    context = replace(context, round=1)
    run.add_up(table, VECTORS, context)

    (payload,) = (m.data for m in table.messages if (m.leg, m.party) == ("payload", LOST))
    near, book = tuple(site for site in SITES if site != LOST), table.collector._room.batch(0)
    vector = ring.from_bytes(Payload.read(memoryview(payload)[:-64], LOST, earlier, near).masked, 4, 2).copy()
    (seed, _), (secret, _) = opened[0, LOST], opened[1, LOST]
    wraps = [table.collector._grants[0, LOST].wrap(number) for number in range(2)]
    pad = xor(wraps[1], b"".join(table.collector._opened(LOST, secret, near, book, 1).values()))
    by_secret = round_seeds.unwrapped(wraps[0], secret, LOST, near, book, 0, SETTINGS.prg)
    by_pad = dict(zip(near, (xor(wraps[0], pad)[32 * place : 32 * place + 32] for place in range(4)), strict=True))
    read = []
    for seeds in (by_secret, by_pad):
        keys = round_seeds.pair_mask_keys(seeds, LOST, earlier)
        plus = [mask_keys.self_mask_key(seed, LOST, earlier), *(key for peer, key in keys.items() if peer > LOST)]
        guess = vector.copy()
        ring.mask_into(guess, [key for peer, key in keys.items() if peer < LOST], plus)
        read.append(np.array_equal(guess, VECTORS[LOST]))
    return read


def test_what_opens_a_round_reads_no_payload_of_another(monkeypatch):
    assert read_in_another_round(monkeypatch) == [False, False]


def test_the_twin_with_one_secret_for_a_batch_reads_it(monkeypatch):
    """The broken twin: seeds of all rounds are wrapped under one secret, so one recovery opens them all."""
    honest = RoundSecrets.__init__

    def one_secret(self, me, rounds, entropy):
        secret = entropy(32)
        honest(self, me, rounds, lambda _: secret)

    monkeypatch.setattr(RoundSecrets, "__init__", one_secret)
    assert read_in_another_round(monkeypatch) == [True, False]


def test_the_twin_with_one_pad_for_two_rounds_reads_it(monkeypatch):
    """The broken twin: secrets are fresh, and the key of the wraps is the batch's."""
    honest = round_seeds.derive

    def of_the_batch(secret, salt, label, book, place, owner):
        return honest(bytes(32), salt, label, book, owner)

    monkeypatch.setattr(round_seeds, "derive", of_the_batch)
    assert read_in_another_round(monkeypatch) == [True, True]


def met_among_two_sets(set_back):
    """A party set back, which meets a second batch among other hellos: are its seeds and pads those of before?"""
    lives = []
    for those in ("abcd", "abc"):
        table = set_back("pairwise")
        run.meet(table)
        hellos = {site: table.parties[site].hello(1) for site in table.sites}
        a = table.parties["a"]
        grant = a.meet({site: hellos[site] for site in those}, 1)[:-64]
        seeds = [a._seeds._seeds[round_] for round_ in (2, 3)]
        pads = xor(grant[-64 * (len(those) - 1) :], b"".join(seeds))
        lives.append((a._seeds.take(2)["c"], pads[:32]))
    (seed, pad), (other_seed, other_pad) = lives
    return seed == other_seed, pad == other_pad


def test_a_party_set_back_shares_nothing_among_other_hellos_that_it_shared_before(set_back):
    assert met_among_two_sets(set_back) == (False, False)


def test_the_twin_whose_key_book_holds_no_hellos_repeats_all(set_back, monkeypatch):
    """The broken twin: two grants of one secret, so that what is lost in one life opens the other's masks."""
    monkeypatch.setattr(KeyBook, "binding", property(lambda book: b"key book" + book.session))
    assert met_among_two_sets(set_back) == (True, True)


def with_a_false_wrap(monkeypatch, silent):
    """A sum without b, which had left a false seed of its masks with a."""
    honest = pairwise.wrapped

    def false(seeds, own, owner, book, prg):
        wraps = honest(seeds, own, owner, book, prg)
        return [bytes([wrap[0] ^ (owner == LOST)]) + wrap[1:] for wrap in wraps]

    monkeypatch.setattr(pairwise, "wrapped", false)
    return run.secure_sum("pairwise", VECTORS, SETTINGS, silent={"payload": [LOST], **silent})


def spoiled(total):
    return not np.array_equal(total.vector, ring.total_of((VECTORS[party] for party in total.parties), 4, 2))


def test_a_false_wrap_of_an_absent_party_is_noticed_and_names_nobody_a_liar(monkeypatch):
    with pytest.raises(IntegrityError, match=r"b left behind are not those used by a with it.* nobody can be shown"):
        with_a_false_wrap(monkeypatch, {})


def test_the_twin_that_looks_at_no_fingerprint_opens_a_sum_that_is_none(monkeypatch):
    monkeypatch.setattr(pairwise_collector, "_check_fingerprints", lambda *_: None)
    assert spoiled(with_a_false_wrap(monkeypatch, {}))


def test_a_present_party_that_shows_a_false_fingerprint_stops_the_sum_and_spoils_none(monkeypatch):
    honest = pairwise.fingerprints

    def false(seeds, me, context):
        return {peer: bytes(16) if me == "c" else made for peer, made in honest(seeds, me, context).items()}

    monkeypatch.setattr(pairwise, "fingerprints", false)
    assert not spoiled(run.secure_sum("pairwise", VECTORS, SETTINGS))
    with pytest.raises(IntegrityError, match=r"b left behind are not those used by c with it"):
        run.secure_sum("pairwise", VECTORS, SETTINGS, silent={"payload": [LOST]})


def test_where_the_neighbour_it_is_false_of_answers_no_more_nobody_notices(monkeypatch):
    """As far as fingerprints go, and no further: the parties' own check of a total is what then finds it."""
    assert spoiled(with_a_false_wrap(monkeypatch, {"reply": ["a"]}))
