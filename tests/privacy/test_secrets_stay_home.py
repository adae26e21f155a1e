"""No secret's bytes in any message, exception, repr or pickle; and none left behind when its work is done."""

import gc
import pickle
import traceback

import numpy as np
import pytest

from protocols import run
from protocols.masking import mask_keys
from protocols.masking.mask_keys import MaskKeys
from protocols.masking.round_seeds import PairSeeds, RoundSecrets
from protocols.primitives.keys import AgreementKey, Channel, Identity
from protocols.secure_sum import SecureSumError
from protocols.sessions.settings import Settings

SITES = ("a", "b", "c", "d")
SETTINGS = Settings(threshold=3, rounds_per_batch=2)


def watched(drawn):
    """Entropy that remembers what it gave out."""

    def for_party(party):
        import secrets

        def read(count):
            drawn.append(secrets.token_bytes(count))
            return drawn[-1]

        return read

    return for_party


def vectors():
    return {site: np.full((2, 2), 5, dtype=np.uint64) for site in SITES}


@pytest.mark.parametrize("protocol", ["additive", "pairwise-lean", "pairwise"])
def test_no_random_secret_is_in_any_message_but_the_nonces(protocol):
    drawn = []
    table = run.sit_down(protocol, SITES, SETTINGS, watched(drawn))
    nonces = {party._seat._nonce for party in table.parties.values()}
    run.meet(table)
    table.silent = {"payload": ["b"]} if protocol == "pairwise" else {}
    run.add_up(table, vectors())
    said = b"".join(message.data for message in table.messages)
    shown = {secret for secret in drawn if secret in said}
    assert shown == nonces
    assert len(drawn) > (2 if protocol == "pairwise-lean" else 4) * len(SITES)


@pytest.mark.parametrize("protocol", ["additive", "pairwise-lean", "pairwise"])
def test_refusals_show_no_secret(protocol):
    drawn, told = [], []
    for victim in ("hello", "grant", "payload", "request", "reply"):

        def spoil(leg, party, data, victim=victim):
            return data[:-1] + bytes([data[-1] ^ 1]) if (leg, party) == (victim, "c") and data else data

        try:
            run.secure_sum(protocol, vectors(), SETTINGS, entropy=watched(drawn), tamper=spoil)
        except SecureSumError as refusal:
            told.append("".join(traceback.format_exception(refusal)) + repr(refusal))
    text = "".join(told)
    assert len(told) >= (3 if protocol == "pairwise-lean" else 4)
    for secret in drawn:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


@pytest.mark.parametrize("protocol", ["additive", "pairwise-lean", "pairwise"])
def test_what_holds_secrets_has_no_pickle_and_no_telling_repr(protocol):
    table = run.sit_down(protocol, SITES, SETTINGS)
    run.meet(table)
    party = table.parties["a"]
    party.protect(vectors()["a"], run.context_of(table, vectors()["a"]))
    holders = [party, party._seat, Identity(bytes(32)), AgreementKey(bytes(32)), Channel(bytes(32))]
    holders += [party._ratchets[0]] if protocol == "pairwise-lean" else [party._channels]
    holders += [waiting for waiting in getattr(party, "_waiting", {}).values() if waiting is not None]
    holders += [MaskKeys(bytes), RoundSecrets("a", 1, bytes), PairSeeds()]
    for holder in holders:
        assert repr(holder) == f"<{type(holder).__name__}>"
        assert str(holder) == repr(holder)
        with pytest.raises(TypeError, match="never leaves"):
            pickle.dumps(holder)


def reachable_bytes(root):
    """Every bytes object that can be reached from an object, short of classes and modules."""
    seen, queue, found = set(), [root], set()
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, type(pytest) | type):
            continue
        seen.add(id(thing))
        if isinstance(thing, bytes):
            found.add(thing)
        elif not callable(thing):
            queue.extend(gc.get_referents(thing))
    return found


def test_after_its_answer_a_party_holds_no_key_of_that_round():
    drawn = []
    table = run.sit_down("pairwise", SITES, SETTINGS, watched(drawn))
    run.meet(table)
    run.add_up(table, vectors())
    party = table.parties["a"]
    assert party._seeds._seeds.keys() == party._seeds._near.keys() == {1}
    assert party._waiting.keys()
    assert set(party._waiting.values()) == {None}
    kept = reachable_bytes(party)
    assert len(kept) > 5
    assert {secret for secret in drawn if secret in kept} == {party._seat._nonce}


def left_when_all_have_met(monkeypatch):
    """What a party still holds then of what it drew for a batch, and of what its pairs' seeds were made from."""
    drawn, roots, honest = [], [], mask_keys.derive

    def noting(secret, salt, *info):
        roots.extend((secret, honest(secret, salt, *info)))
        return roots[-1]

    with monkeypatch.context() as patch:
        patch.setattr(mask_keys, "derive", noting)
        table = run.sit_down("pairwise", SITES, SETTINGS, watched(drawn))
        run.meet(table)
    assert len(roots) == 2 * len(SITES) * (len(SITES) - 1)
    party = table.parties["a"]
    kept = reachable_bytes(party)
    assert set(party._seeds._seeds.values()) <= kept
    return kept.intersection([*drawn, *roots]) - {party._seat._nonce}


def test_when_all_have_met_a_party_holds_seeds_of_pairs_and_nothing_that_opens_or_makes_them(monkeypatch):
    assert left_when_all_have_met(monkeypatch) == set()


def test_the_twin_that_keeps_its_secrets_of_rounds_is_caught(monkeypatch):
    monkeypatch.setattr(RoundSecrets, "take", lambda self, batch: self._drawn[batch])
    assert len(left_when_all_have_met(monkeypatch)) == SETTINGS.rounds_per_batch
