"""The package says, byte for byte, what the slow reference beside this file wrote down."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from protocols import fixed_point, run, secure_sum
from protocols.masking import mask_keys, pairwise, ratchet, round_seeds
from protocols.primitives import ring, shamir
from protocols.secure_sum import Pending
from protocols.sessions.settings import Settings

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "secure_sum_vectors.json").read_text())
SUMS = {vector["title"]: vector for vector in VECTORS["sums"]}


class Player:
    """Performs a vector's operations one by one, and keeps what the next one needs."""

    def __init__(self, vector):
        self.vector = vector
        self.settings = Settings(**{**VECTORS["settings"], **vector["settings"]})
        self.table = run.sit_down(vector["protocol"], vector["sites"], self.settings, run.tape(vector["title"]))
        self.limbs = vector["limbs"]
        self.vectors = {}
        for site, text in vector["vectors"].items():
            data = bytes.fromhex(text)
            self.vectors[site] = ring.from_bytes(data, len(data) // (8 * self.limbs), self.limbs)
        self.hellos, self.grants, self.payloads, self.replies = {}, {}, {}, {}
        self.pending = None

    def context(self):
        return run.context_of(self.table, next(iter(self.vectors.values())), round_=self.vector["round"])

    def perform(self, operation):
        """What the verb gives, as bytes."""
        party = operation["party"]
        return getattr(self, "do_" + operation["verb"])(party)

    def do_hello(self, party):
        self.hellos[party] = self.table.parties[party].hello()
        return self.hellos[party]

    def do_meet(self, party):
        self.grants[party] = self.table.parties[party].meet(self.hellos)
        return self.grants[party]

    def do_protect(self, party):
        if not self.payloads:
            self.table.collector.meet(self.hellos, self.grants)
        self.payloads[party] = self.table.parties[party].protect(self.vectors[party], self.context())
        return self.payloads[party]

    def do_combine(self, party):
        """The request made to one party; a second one means that the first trip's replies are in."""
        if self.pending is None:
            self.pending = self.table.collector.combine(self.payloads, self.context())
        elif self.replies:
            self.pending = self.table.collector.open(self.pending, self.replies)
            self.replies = {}
        return self.pending.requests[party]

    def do_assist(self, party):
        self.replies[party] = self.table.parties[party].assist(self.pending.requests[party], self.context())
        return self.replies[party]

    def take_instead(self, verb, party, taken):
        """Let a verb take another message than the one that was made for it."""
        if verb == "meet":
            self.table.parties["a"].meet({**self.hellos, party: taken})
        elif verb == "combine":
            self.table.collector.combine({**self.payloads, party: taken}, self.context())
        elif verb == "assist":
            self.table.parties[party].assist(taken, self.context())
        else:
            self.table.collector.open(self.pending, {**self.replies, party: taken})

    def total(self):
        if self.pending is None:  # nobody was asked for help
            self.pending = self.table.collector.combine(self.payloads, self.context())
        return self.table.collector.open(self.pending, self.replies)


@pytest.mark.parametrize("title", SUMS)
def test_every_message_of_a_session_is_the_frozen_one(title):
    vector = SUMS[title]
    player = Player(vector)
    for operation in vector["operations"]:
        assert player.perform(operation).hex() == operation["gives"], (operation["verb"], operation["party"])
    assert player.table.collector.session.hex() == vector["session"]
    assert player.context().digest.hex() == vector["context"]
    total = player.total()
    assert not isinstance(total, Pending)
    assert list(total.parties) == vector["parties"]
    assert ring.to_bytes(total.vector).hex() == vector["total"]


@pytest.mark.parametrize("title", [title for title in SUMS if title.startswith("pairwise")])
def test_every_mask_key_is_the_frozen_one(title, monkeypatch):
    vector, seen = SUMS[title], set()

    def noting(real, keys):
        def made(*arguments):
            given = real(*arguments)
            seen.update(key.hex() for key in keys(given))
            return given

        return made

    of_pairs = noting(round_seeds.pair_mask_keys, lambda given: given.values())
    monkeypatch.setattr(pairwise, "pair_mask_keys", of_pairs)
    monkeypatch.setattr(pairwise, "self_mask_key", noting(mask_keys.self_mask_key, lambda given: [given]))
    player = Player(vector)
    for operation in vector["operations"]:
        player.perform(operation)
    player.total()
    frozen = {key for name, key in vector["keys"].items() if "mask" in name}
    if not vector["silent"]:
        assert seen == frozen
    else:  # a pair that are both lost never derived theirs
        assert seen <= frozen
        assert len(seen) == len(frozen) - (len(vector["silent"]) > 1)


@pytest.mark.parametrize("title", [title for title in SUMS if title.startswith("lean")])
def test_every_mask_key_of_a_ratchet_is_the_frozen_one(title, monkeypatch):
    vector, seen, honest = SUMS[title], [], ratchet.mask_key
    monkeypatch.setattr(ratchet, "mask_key", lambda *given: seen.append(honest(*given).hex()) or honest(*given))
    player = Player(vector)
    for operation in vector["operations"]:
        player.perform(operation)
    assert sorted(seen) == sorted(2 * list(vector["keys"].values()))  # once at either end


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["reason"])
def test_a_message_that_must_be_refused_is(case):
    vector = SUMS[case["sum"]]
    (refused,) = case["operations"]
    player, taken = Player(vector), bytes.fromhex(refused["takes"])
    verb, party = refused["verb"], refused["party"]
    before = {
        "meet": ("hello",),
        "combine": ("hello", "meet", "protect"),
        "assist": ("hello", "meet", "protect", "combine"),
    }
    for operation in vector["operations"]:
        if verb == "open" or operation["verb"] in before[verb]:
            # The second trip's request is only there once the first was answered; the refusals here come before.
            if (
                verb == "assist"
                and vector["settings"]["consistency"]
                and operation["verb"] == "combine"
                and player.pending
            ):
                continue
            player.perform(operation)
    with pytest.raises(getattr(secure_sum, refused["raises"])) as caught:
        player.take_instead(verb, party, taken)
    assert caught.value.sender == refused["names"]


@pytest.mark.parametrize("case", VECTORS["shamir"], ids=lambda case: case["tape"])
def test_shares_are_the_frozen_ones(case):
    secret = bytes.fromhex(case["secret"])
    shares = shamir.split(secret, case["threshold"], len(case["shares"]), run.tape(case["tape"])("dealer"))
    assert [share.hex() for share in shares] == case["shares"]
    assert shamir.combine(dict(enumerate(shares, start=1)), case["threshold"]) == secret


@pytest.mark.parametrize(
    "case", VECTORS["codec"], ids=lambda case: f"{case['fraction_bits']} bits, {case['limbs']} limbs"
)
def test_doubles_become_the_frozen_elements_and_back(case):
    data = bytes.fromhex(case["elements"])
    elements = ring.from_bytes(data, len(data) // (8 * case["limbs"]), case["limbs"])
    if case["doubles"]:
        doubles = np.array([float.fromhex(text) for text in case["doubles"]])
        assert np.array_equal(fixed_point.encode(doubles, case["fraction_bits"], case["limbs"]), elements)
    decoded = fixed_point.decode(elements, case["fraction_bits"])
    assert [value.hex() for value in decoded.tolist()] == [float.fromhex(x).hex() for x in case["decoded"]]


@pytest.mark.parametrize("case", VECTORS["keystream"], ids=lambda case: f"{case['prg']}, {case['limbs']} limbs")
def test_keystreams_are_the_frozen_ones(case):
    elements = ring.expand(bytes.fromhex(case["key"]), case["values"], case["limbs"], case["prg"])
    assert ring.to_bytes(elements).hex() == case["elements"]


def test_the_reference_still_writes_the_frozen_file():
    reference = runpy.run_path(str(HERE / "secure_sum_reference.py"))
    assert reference["everything"](VECTORS["settings"]) == VECTORS


def test_the_frozen_settings_are_the_packages_own():
    assert VECTORS["settings"] == Settings().agreed
