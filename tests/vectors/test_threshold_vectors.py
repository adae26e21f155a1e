"""Threshold Paillier says, byte for byte, what the slow reference beside this file wrote down."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from protocols import run, secure_sum
from protocols.encryption import paillier_threshold
from protocols.primitives import ring
from protocols.primitives.paillier import big_numbers
from protocols.primitives.paillier.paillier_keys import PrivateKey
from protocols.primitives.paillier.threshold_keys import ThresholdKey, _weights, base_of
from protocols.secure_sum import KEY_DEALER, Total
from protocols.sessions.settings import Settings

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "threshold_vectors.json").read_text())
SUMS = {vector["title"]: vector for vector in VECTORS["sums"]}
PRIVATE = PrivateKey(int(VECTORS["p"], 16), int(VECTORS["q"], 16))
STEPS = ("hello", "meet", "protect", "combine", "assist")


@pytest.fixture(autouse=True)
def _the_key_of_the_vectors(monkeypatch):
    monkeypatch.setattr(paillier_threshold, "search_safe_key", lambda *_: iter((None, PRIVATE)))


class Player:
    """Performs a vector's operations one by one, and keeps what the next one needs."""

    def __init__(self, vector):
        self.vector = vector
        settings = Settings(**vector["settings"])
        self.table = run.sit_down("paillier-threshold", vector["sites"], settings, run.tape(vector["title"]))
        self.vectors = {}
        for site, text in vector["vectors"].items():
            data = bytes.fromhex(text)
            self.vectors[site] = ring.from_bytes(data, len(data) // (8 * vector["limbs"]), vector["limbs"])
        self.made = {verb: {} for verb in STEPS}
        self.pending = None

    def context(self):
        return run.context_of(self.table, next(iter(self.vectors.values())), round_=self.vector["round"])

    def perform(self, verb, party):
        """What a verb gives, as bytes."""
        made, parties, collector = self.made, self.table.parties, self.table.collector
        if verb == "hello":
            given = parties[party].hello()
        elif verb == "meet":
            given = parties[party].meet(made["hello"])
        elif verb == "protect":
            if not made["protect"]:
                collector.meet(made["hello"], made["meet"])
            given = parties[party].protect(self.vectors[party], self.context())
        elif verb == "combine":
            self.pending = self.pending or collector.combine(made["protect"], self.context())
            given = self.pending.requests[party]
        else:
            assert verb == "assist"
            given = parties[party].assist(made["combine"][party], self.context())
        made[verb][party] = given
        return given

    def upto(self, verb):
        """Everything before a verb."""
        for operation in self.vector["operations"]:
            if verb == "open" or STEPS.index(operation["verb"]) < STEPS.index(verb):
                self.perform(operation["verb"], operation["party"])

    def take(self, verb, party, taken):
        """Let somebody take another message than the one that was made for it."""
        made, collector = self.made, self.table.collector
        if verb == "hello":
            self.upto("meet")
            self.table.parties["a"].meet({**made["hello"], party: taken})
        elif verb == "grant":
            self.upto("protect")
            collector.meet(made["hello"], {**made["meet"], party: taken})
        elif verb == "combine":
            self.upto("combine")
            collector.combine({**made["protect"], party: taken}, self.context())
        elif verb == "assist":
            self.upto("assist")
            self.table.parties[party].assist(taken, self.context())
        else:
            assert verb == "open"
            self.upto("open")
            collector.open(self.pending, {**made["assist"], party: taken})


@pytest.fixture(params=sorted(SUMS))
def vector(request):
    return SUMS[request.param]


def test_every_message_of_a_session_is_the_frozen_one(vector):
    player = Player(vector)
    for operation in vector["operations"]:
        verb, party = operation["verb"], operation["party"]
        assert player.perform(verb, party).hex() == operation["gives"], (verb, party)
    assert player.table.collector.session.hex() == vector["session"]
    assert player.context().digest.hex() == vector["context"]
    total = player.table.collector.open(player.pending, player.made["assist"])
    assert isinstance(total, Total)
    assert list(total.parties) == vector["parties"]
    assert ring.to_bytes(total.vector).hex() == vector["total"]
    expected = ring.total_of((player.vectors[site] for site in total.parties), *total.vector.shape)
    assert np.array_equal(total.vector, expected)


def test_the_key_and_its_shares_are_the_frozen_ones(vector):
    player = Player(vector)
    dealer = player.table.parties[KEY_DEALER]
    while dealer.search(1):
        pass
    shares = [bytes.fromhex(text) for text in vector["shares"].values()]
    assert [int(share) for share in dealer._shares] == [int.from_bytes(share, "big") for share in shares]
    checks = [int(text, 16) for text in vector["checks"].values()]
    key = ThresholdKey.from_bytes(dealer._body[32:], 512, len(shares))
    assert list(key.checks) == checks
    assert key.base == base_of(PRIVATE.public) == int(vector["base"], 16)


def test_the_product_is_combined_as_written(vector):
    player = Player(vector)
    player.upto("open")
    hidden, shared = player.pending.hidden, player.table.collector._shared
    assert big_numbers.to_buffer(hidden.ciphertexts, 128).hex() == vector["products"]
    at = [vector["sites"].index(site) + 1 for site in player.made["assist"]][:3]
    assert _weights(tuple(at))[1] == vector["denominator"]
    partials = {
        holder: big_numbers.from_buffer(player.made["assist"][site][shared.proof_bytes : -64], 64)
        for holder, site in zip(at, player.made["assist"], strict=False)
    }
    assert big_numbers.to_buffer(shared.combine(hidden.ciphertexts, partials), 64).hex() == vector["plaintexts"]
    # The private key of the same session, and phe's, open it to the same.
    _, phe = PRIVATE.phe_pair()
    assert big_numbers.to_buffer(PRIVATE.decrypt(hidden.ciphertexts), 64).hex() == vector["plaintexts"]
    opened = [phe.raw_decrypt(int(ciphertext)) for ciphertext in hidden.ciphertexts]
    assert big_numbers.to_buffer(opened, 64).hex() == vector["plaintexts"]


@pytest.mark.parametrize(
    "case", VECTORS["refused"], ids=lambda case: f"{case['operations'][0]['verb']}: {case['reason']}"
)
def test_a_message_that_must_be_refused_is(case):
    (operation,) = case["operations"]
    with pytest.raises(getattr(secure_sum, operation["raises"])) as caught:
        Player(SUMS[case["sum"]]).take(operation["verb"], operation["party"], bytes.fromhex(operation["takes"]))
    assert caught.value.sender == operation["names"]


def test_the_player_refuses_nothing_that_is_right():
    """The twin of the refusals: the true messages pass by the same way."""
    vector = next(iter(VECTORS["sums"]))
    made = {(operation["verb"], operation["party"]): operation["gives"] for operation in vector["operations"]}
    for taking, verb, party in (
        ("hello", "hello", KEY_DEALER),
        ("grant", "meet", KEY_DEALER),
        ("combine", "protect", "b"),
        ("assist", "combine", "a"),
        ("open", "assist", "b"),
    ):
        Player(vector).take(taking, party, bytes.fromhex(made[verb, party]))


def test_the_frozen_file_is_what_the_slow_reference_computes():
    assert runpy.run_path(str(HERE / "threshold_reference.py"))["everything"]() == VECTORS


def test_the_frozen_settings_are_all_that_parties_agree_on():
    for vector in VECTORS["sums"]:
        assert vector["settings"] == Settings(**vector["settings"]).agreed
