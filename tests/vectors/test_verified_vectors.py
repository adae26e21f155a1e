"""Verified totals say, byte for byte, what the slow reference beside this file wrote down."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from protocols import secure_sum
from protocols.primitives import compiled_hash, linear_hash, ring
from protocols.primitives.keys import Identity
from protocols.secure_sum import Context
from protocols.sessions.session import Roster
from protocols.totals import pack_total, unpack_total
from protocols.verified import Checks, SeedTable

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "verified_vectors.json").read_text())
SUMS = {vector["title"]: vector for vector in VECTORS["sums"]}


def elements(text, limbs):
    data = bytes.fromhex(text)
    return ring.from_bytes(data, len(data) // (8 * limbs), limbs)


def context_of(vector):
    session, layout = bytes.fromhex(vector["session"]), bytes.fromhex(vector["layout"])
    return Context(session, vector["round"], 0, tuple(vector["cohort"]), layout, vector["values"], vector["limbs"])


@pytest.mark.parametrize("title", SUMS)
def test_keys_pads_check_values_and_totals_are_the_frozen_ones(title, monkeypatch):
    vector, where, keys = SUMS[title], context_of(SUMS[title]), []
    limbs, seed = vector["limbs"], bytes.fromhex(vector["seed"])
    assert where.digest.hex() == vector["context"]

    def noting(values, used):
        keys.append(used.astype("<u8").tobytes().hex())
        return linear_hash.linear_hash(values, used)

    monkeypatch.setattr("protocols.verified.linear_hash", noting)
    appended = {}
    for name in vector["cohort"]:
        checks = Checks(seed, name)
        appended[name] = checks.append(elements(vector["vectors"][name], limbs), where)
        assert ring.to_bytes(appended[name]).hex() == vector["vectors"][name] + vector["check_values"][name]
        assert f"{checks._sum_of_pads(checks._drawn(where)[1], where, (name,)):x}" == vector["pads"][name]
    assert set(keys) == {vector["keys"]}
    total = ring.total_of((appended[name] for name in vector["present"]), where.values, limbs)
    assert ring.to_bytes(total).hex() == vector["total"]
    assert pack_total(total).hex() == vector["told"]
    told = unpack_total(bytes.fromhex(vector["told"]), where)
    assert np.array_equal(told, total)
    for name in vector["cohort"]:
        Checks(seed, name).verify(told, where, tuple(vector["present"]))


@pytest.mark.parametrize("title", [title for title, vector in SUMS.items() if vector["values"] > 8])
def test_the_compiled_pass_gives_the_frozen_check_values_too(title, monkeypatch):
    monkeypatch.setattr(linear_hash, "COMPILED_FROM", 0)
    used, real = [], compiled_hash.add_rows
    monkeypatch.setattr(compiled_hash, "add_rows", lambda *given: used.append(1) or real(*given))
    vector, where = SUMS[title], context_of(SUMS[title])
    for name in vector["cohort"]:
        appended = Checks(bytes.fromhex(vector["seed"]), name).append(
            elements(vector["vectors"][name], vector["limbs"]), where
        )
        assert ring.to_bytes(appended).hex() == vector["vectors"][name] + vector["check_values"][name]
    assert len(used) == len(vector["cohort"])


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["reason"])
def test_a_total_that_must_be_refused_is(case):
    vector = SUMS[case["sum"]]
    where, checks = context_of(vector), Checks(bytes.fromhex(vector["seed"]), "a")
    with pytest.raises(getattr(secure_sum, case["raises"])) as caught:
        checks.verify(unpack_total(bytes.fromhex(case["told"]), where), where, tuple(case["present"]))
    assert caught.value.sender == case["names"]


def test_the_messages_that_share_a_seed_are_the_frozen_ones():
    dealing, session = VECTORS["dealing"], bytes.fromhex(VECTORS["dealing"]["session"])
    identities = {site: Identity(bytes.fromhex(each["identity"])) for site, each in dealing["sites"].items()}
    roster = Roster({site: identity.public for site, identity in identities.items()})

    def tape(site):
        texts = iter((dealing["sites"][site]["channel"], dealing["seed"]))
        return lambda count: bytes.fromhex(next(texts))[:count]

    tables = {site: SeedTable(site, identities[site], roster, session, tape(site)) for site in sorted(identities)}
    greetings = {site: table.greeting() for site, table in tables.items()}
    assert {site: greeting.hex() for site, greeting in greetings.items()} == {
        site: each["greeting"] for site, each in dealing["sites"].items()
    }
    first, *others = tables
    dealt, checks = tables[first].deal(greetings)
    assert dealt.hex() == dealing["dealt"]
    assert checks._seed.hex() == dealing["seed"]
    for site in others:
        taken = tables[site].take(greetings, dealt)
        assert (taken._seed.hex(), taken._me) == (dealing["seed"], site)


def test_the_reference_still_writes_the_frozen_file():
    assert runpy.run_path(str(HERE / "verified_reference.py"))["everything"]() == VECTORS
