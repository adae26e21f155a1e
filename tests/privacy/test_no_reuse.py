"""Every key of a session is used for one thing, once: twenty rounds, with losses on the way, looked at from below."""

from collections import defaultdict

import numpy as np
import pytest

from protocols import run
from protocols.masking import round_seeds
from protocols.masking.mask_keys import Ledger
from protocols.primitives import keys, ring
from protocols.primitives.keys import AgreementKey, Channel
from protocols.secure_sum import MisuseError
from protocols.sessions.settings import Settings

SITES = ("a", "b", "c", "d")
ROUNDS = 20


@pytest.mark.parametrize("protocol", ["additive", "pairwise-lean", "pairwise"])
def test_no_keystream_key_serves_two_rounds_and_no_nonce_two_boxes(protocol, monkeypatch):
    now = [0]
    streams, agreed, boxes, publics = defaultdict(set), defaultdict(set), [], []
    real_keystream, real_seal, real_fresh = ring.keystream, Channel.seal, AgreementKey.fresh.__func__

    def keystream(key, prg, length=0):
        streams[key].add(now[0])
        return real_keystream(key, prg, length)

    def seal(self, number, header, text):
        boxes.append((id(self), number))
        return real_seal(self, number, header, text)

    def fresh(cls, entropy):
        made = real_fresh(cls, entropy)
        publics.append(made.public)
        return made

    def of_seeds(key, prg, length=0):
        agreed[key].add(now[0] // 8)
        return real_keystream(key, prg, length)

    monkeypatch.setattr(ring, "keystream", keystream)
    monkeypatch.setattr(round_seeds, "keystream", of_seeds)
    monkeypatch.setattr(Channel, "seal", seal)
    monkeypatch.setattr(AgreementKey, "fresh", classmethod(fresh))

    table = run.sit_down(protocol, SITES, Settings(threshold=3, rounds_per_batch=8))
    vectors = {site: np.full((4, 2), 7, dtype=np.uint64) for site in SITES}
    payloads = defaultdict(set)
    for round_ in range(ROUNDS):
        now[0] = round_
        if round_ % 8 == 0:
            run.meet(table, round_ // 8)
        table.silent = {"payload": ["b"]} if protocol == "pairwise" and round_ % 5 == 4 else {}
        run.add_up(table, vectors, run.context_of(table, vectors["a"], round_=round_))
    for message in table.messages:
        if message.leg == "payload":
            payloads[message.party].add(message.data)

    assert all(len(rounds) == 1 for rounds in streams.values())
    pairs, own = {"additive": (12, 0), "pairwise-lean": (6, 0), "pairwise": (6, 4)}[protocol]
    lost_own = ROUNDS // 5 if protocol == "pairwise" else 0
    assert len(streams) == ROUNDS * (pairs + own) - lost_own
    assert len(boxes) == len(set(boxes))
    assert all(len(batches) == 1 for batches in agreed.values())
    assert agreed.keys().isdisjoint(streams)
    # A batch's stream for each pair, and one for each party and round that its seeds are wrapped in.
    assert len(agreed) == (3 * (pairs + 8 * own) if protocol == "pairwise" else 0)
    made = {"additive": 1, "pairwise-lean": 3, "pairwise": 1 + 3}[protocol]  # a channel key, and one for each batch
    assert len(publics) == len(set(publics)) == len(SITES) * made
    assert sum(map(len, payloads.values())) == ROUNDS * len(SITES) - lost_own


def test_a_channel_never_seals_two_texts_under_one_number():
    channel = Channel(bytes(32))
    channel.seal(1, b"", b"first")
    with pytest.raises(ValueError, match="before"):
        channel.seal(1, b"", b"second")


def test_a_ledger_stops_a_second_use():
    ledger = Ledger()
    ledger.note("pair mask", 3, b"content")
    ledger.note("pair mask", 3, b"content")
    ledger.note("pair mask", 4, b"other")
    ledger.note("self mask", 3, b"other")
    with pytest.raises(MisuseError, match="pair mask of round 3 was already"):
        ledger.note("pair mask", 3, b"other")


def test_the_ledger_holds_even_where_the_seeds_were_put_back():
    """A twin whose seeds never wear out is still stopped, one guard further in."""
    table = run.sit_down("pairwise", SITES, Settings(rounds_per_batch=2))
    run.meet(table)
    party = table.parties["a"]
    vector = np.zeros((2, 2), dtype=np.uint64)
    seeds, near = party._seeds._seeds[0], party._seeds._near[0]
    context = run.context_of(table, vector)
    party.protect(vector, context)
    party._seeds._seeds[0], party._seeds._near[0] = seeds, near
    with pytest.raises(MisuseError, match="already derived"):
        party.protect(vector, type(context)(**{**vars_of(context), "attempt": 1}))


def vars_of(context):
    names = ("session", "round", "attempt", "cohort", "layout", "values", "limbs")
    return {name: getattr(context, name) for name in names}


def test_keys_differ_in_every_part_they_are_bound_to():
    base = (b"label", b"one", b"two")
    seen = {keys.derive(bytes(32), b"salt", *base)}
    for changed in (
        (b"labelo", b"ne", b"two"),
        (b"label", b"onetwo"),
        (b"label", b"two", b"one"),
        (b"other", b"one", b"two"),
    ):
        seen.add(keys.derive(bytes(32), b"salt", *changed))
    seen.add(keys.derive(bytes(32), b"pepper", *base))
    seen.add(keys.derive(bytes(31) + b"\1", b"salt", *base))
    assert len(seen) == 7
