"""Packed Paillier keeps the laws of a secure sum: exact or refused, over whoever is present."""

import hashlib
import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import run
from protocols.choice import make_collector
from protocols.encryption.paillier import KeyHolder, PaillierCollector, PaillierParty
from protocols.primitives import ring
from protocols.primitives.keys import Identity
from protocols.primitives.paillier.obfuscators import Obfuscators, Taken
from protocols.primitives.paillier.paillier_keys import make_key
from protocols.secure_sum import (
    AGGREGATOR,
    KEY_HOLDER,
    RESERVED,
    Context,
    DropoutError,
    IntegrityError,
    MisuseError,
    PeerError,
    Pending,
    Total,
)
from protocols.sessions.session import Roster, Seat, Session
from protocols.sessions.settings import Settings

NAMES = ("ann", "bob", "cem", "dia", "eva", "fay")
EDGES = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], dtype=np.uint64)
KEY = make_key(512, run.tape("a key for tests")(KEY_HOLDER))


class Table:
    """Everyone around one table, in one process, met and ready."""

    def __init__(self, sites=4, label="", **chosen):
        self.settings = Settings(**{"key_bits": 512, "insecure_test_keys": True, **chosen})
        # One stream of bytes each, so that many drawn at once and a few at a time are the same.
        drawn = {name: hashlib.shake_256(f"{label} {name}".encode()).digest(1 << 16) for name in (*NAMES, *RESERVED)}
        table = run.sit_down("paillier", NAMES[:sites], self.settings, lambda name: io.BytesIO(drawn[name]).read)
        run.meet(table)
        self.names, self.roster, self.parties, self.collector = (
            table.sites,
            table.roster,
            table.parties,
            table.collector,
        )

    def seat(self, name, identity=None, roster=None, settings=None):
        """A second place for somebody at this table, or at one with another roster or other settings."""
        session = Session("paillier", roster or self.roster, settings or self.settings)
        return Seat(name, identity or self.parties[name]._seat._identity, session)

    def context(self, values, limbs=2, number=0, cohort=None):
        return Context(self.collector.session, number, 0, cohort or self.names, bytes(32), values, limbs)

    def ask(self, pending, silent=()):
        return {
            name: self.parties[name].assist(request, pending.context)
            for name, request in pending.requests.items()
            if name not in silent
        }

    def run(self, vectors, context, silent=((), (), ())):
        """One sum; `silent` names who says nothing at protect, consent and opening."""
        payloads = {n: self.parties[n].protect(v, context) for n, v in vectors.items() if n not in silent[0]}
        state = self.collector.combine(payloads, context)
        for leg in (1, 2):
            assert isinstance(state, Pending)
            state = self.collector.open(state, self.ask(state, silent[leg]))
        assert isinstance(state, Total)
        return state


def random_vectors(names, values, limbs, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.integers(0, 2**64, (values, limbs), dtype=np.uint64) for name in names}


@pytest.fixture
def table():
    return Table()


@settings(max_examples=40)
@given(st.data())
def test_the_total_is_the_ring_sum_for_arbitrary_vectors(data):
    sites, limbs = data.draw(st.integers(3, 6)), data.draw(st.sampled_from([1, 2]))
    values = data.draw(st.integers(0, 8))
    seed = data.draw(st.integers(0, 2**32 - 1))
    table = Table(sites, obfuscation=data.draw(st.sampled_from(["djn", "short", "subgroup", "textbook"])))
    generator = np.random.default_rng(seed)
    vectors = {
        name: np.where(generator.random((values, limbs)) < 0.5, generator.choice(EDGES, (values, limbs)), vector)
        for name, vector in random_vectors(table.names, values, limbs, seed).items()
    }
    total = table.run(vectors, table.context(values, limbs))
    assert np.array_equal(total.vector, ring.total_of(vectors.values(), values, limbs))
    assert total.vector.dtype == np.uint64
    assert total.parties == table.names


@pytest.mark.parametrize("limbs", [1, 2])
@pytest.mark.parametrize("element", [0, 1, 2**63, 2**64 - 1])
def test_the_total_is_exact_where_every_value_is_at_an_edge(table, limbs, element):
    vectors = {name: np.full((7, limbs), element, dtype=np.uint64) for name in table.names}
    total = table.run(vectors, table.context(7, limbs))
    assert np.array_equal(total.vector, ring.total_of(vectors.values(), 7, limbs))


def test_many_rounds_of_one_session_stay_exact(table):
    for number in range(5):
        vectors = random_vectors(table.names, 5, 2, number)
        total = table.run(vectors, table.context(5, number=number))
        assert np.array_equal(total.vector, ring.total_of(vectors.values(), 5, 2))


@pytest.mark.parametrize("threshold", [2, 3, 4])
@pytest.mark.parametrize("sites", [3, 4])
def test_dropouts_open_exactly_or_are_refused_cleanly(sites, threshold):
    if not 3 <= threshold <= sites:
        with pytest.raises(MisuseError, match="impossible"):
            Table(sites, threshold=threshold)
        return
    table = Table(sites, threshold=threshold)
    subsets = [subset for size in range(sites + 1) for subset in itertools.combinations(table.names, size)]
    for number, (at_protect, at_consent) in enumerate(itertools.product(subsets, repeat=2)):
        vectors = random_vectors(table.names, 4, 2, number)
        present = [name for name in table.names if name not in at_protect]
        consenting = [name for name in present if name not in at_consent]
        context = table.context(4, number=number)
        if len(consenting) >= threshold:
            total = table.run(vectors, context, (at_protect, at_consent, ()))
            assert total.parties == tuple(present)
            assert np.array_equal(total.vector, ring.total_of((vectors[name] for name in present), 4, 2))
        else:
            with pytest.raises(DropoutError) as refusal:
                table.run(vectors, context, (at_protect, at_consent, ()))
            assert refusal.value.threshold == threshold
            assert refusal.value.present == (len(present) if len(present) < threshold else len(consenting))
            assert set(refusal.value.silent) <= {*at_protect, *at_consent}


def test_a_silent_key_holder_is_a_dropout_and_the_sum_can_still_be_opened_later(table):
    vectors = random_vectors(table.names, 4, 2)
    context = table.context(4)
    pending = table.collector.combine({n: table.parties[n].protect(v, context) for n, v in vectors.items()}, context)
    pending = table.collector.open(pending, table.ask(pending))
    with pytest.raises(DropoutError) as refusal:
        table.collector.open(pending, {})
    assert refusal.value.silent == (KEY_HOLDER,)
    total = table.collector.open(pending, table.ask(pending))
    assert np.array_equal(total.vector, ring.total_of(vectors.values(), 4, 2))


def test_a_context_is_protected_once(table):
    vector, context = random_vectors(["ann"], 4, 2)["ann"], table.context(4)
    table.parties["ann"].protect(vector, context)
    for again in (context, table.context(5), table.context(4, cohort=table.names[:3])):
        with pytest.raises(MisuseError, match="answered before"):
            table.parties["ann"].protect(np.zeros((again.values, 2), dtype=np.uint64), again)


def test_the_same_request_is_answered_alike_and_a_different_one_never(table):
    context = table.context(4)
    payloads = {n: table.parties[n].protect(v, context) for n, v in random_vectors(table.names, 4, 2).items()}
    first, second = table.collector.combine(payloads, context), table.collector.combine(payloads, context)
    consents = table.ask(first)
    assert table.ask(first) == consents
    for name in table.names:
        with pytest.raises(PeerError, match="answered before") as refusal:
            table.parties[name].assist(second.requests[name], context)
        assert refusal.value.sender == AGGREGATOR
    mandates = [table.collector.open(first, {n: consents[n] for n in signers}) for signers in (NAMES[:3], NAMES[1:4])]
    answer = table.ask(mandates[0])
    assert table.ask(mandates[0]) == answer
    with pytest.raises(PeerError, match="opened before"):
        table.ask(mandates[1])


def test_a_payloads_length_depends_on_the_number_of_values_alone():
    lengths = {}
    for values in (0, 1, 3, 4, 50):
        for seed, fill in itertools.product(("a", "b"), (0, 2**64 - 1)):
            table = Table(label=seed)
            vector = np.full((values, 2), fill, dtype=np.uint64)
            lengths.setdefault(values, set()).add(len(table.parties["ann"].protect(vector, table.context(values))))
    # Three 130-bit slots fit below 2^511; 128 bytes a ciphertext; one proof of a digest and two numbers; one signature.
    assert lengths == {values: {-(-values // 3) * 128 + 160 + 64} for values in lengths}


def test_every_message_is_reproducible_from_its_random_bytes():
    transcripts = []
    for _ in range(2):
        table = Table(label="same")
        context = table.context(4)
        vectors = random_vectors(table.names, 4, 2)
        payloads = {n: table.parties[n].protect(v, context) for n, v in vectors.items()}
        pending = table.collector.combine(payloads, context)
        consents = table.ask(pending)
        mandate = table.collector.open(pending, consents)
        transcripts.append((table.collector.session, payloads, pending.requests, consents, mandate.requests))
    assert transcripts[0] == transcripts[1]
    assert transcripts[0][0] != Table(label="other").collector.session


@pytest.mark.parametrize("obfuscation", ["djn", "short", "subgroup", "textbook"])
def test_obfuscators_made_ahead_change_no_message_and_are_used_up(obfuscation):
    ahead, inline = Table(label="s", obfuscation=obfuscation), Table(label="s", obfuscation=obfuscation)
    vector = random_vectors(["ann"], 10, 2)["ann"]
    assert ahead.parties["ann"].precompute(7) == 3
    assert ahead.parties["ann"].precompute(7) == 0
    payloads = [t.parties["ann"].protect(vector, t.context(10)) for t in (ahead, inline)]
    assert payloads[0] == payloads[1]
    assert ahead.parties["ann"].precompute(3) == 1, "a stock that was used must be made anew"


@pytest.mark.parametrize("obfuscation", ["djn", "short", "subgroup", "textbook"])
def test_what_is_drawn_for_proofs_does_not_come_between_what_is_made_ahead(obfuscation):
    ahead, inline = Table(label="s", obfuscation=obfuscation), Table(label="s", obfuscation=obfuscation)
    vector = random_vectors(["ann"], 10, 2)["ann"]
    ahead.parties["ann"].precompute(40)
    for number in range(3):
        first, second = (t.parties["ann"].protect(vector, t.context(10, number=number)) for t in (ahead, inline))
        assert first == second


def test_a_site_that_hides_outside_the_subgroup_stops_the_sum_and_gains_nothing():
    """The key-holder says that it can't be opened, and opens nothing; a whole key opens the same payload."""

    class Stray(Obfuscators):
        def take(self, count, n_jobs=1):
            made = Obfuscators(self._public, "textbook", self._entropy).take(count, n_jobs)
            return Taken(self._public, made.values, made._known, roots=True)

    def opened(obfuscation):
        table = Table(obfuscation=obfuscation)
        liar = table.parties["bob"]
        liar._obfuscators = Stray(liar._key(), obfuscation, liar._seat.entropy)
        vectors = random_vectors(table.names, 5, 2)
        return table.run(vectors, table.context(5)), ring.total_of(vectors.values(), 5, 2)

    total, expected = opened("djn")
    assert np.array_equal(total.vector, expected)
    with pytest.raises(PeerError, match=r"outside the group of the key: some site, .* --obfuscation djn") as refused:
        opened("subgroup")
    assert refused.value.sender == AGGREGATOR


def test_a_key_of_another_kind_than_agreed_is_refused():
    whole, subgroup = Table(), Table(obfuscation="subgroup")
    other = make_key(512, run.tape("a subgroup key")(""), subgroup=True)
    for table, key in ((whole, other), (subgroup, KEY)):
        with pytest.raises(MisuseError, match="subgroup key goes with"):
            KeyHolder(table.seat(KEY_HOLDER), private=key)
        fresh = run.sit_down("paillier", NAMES[:3], table.settings)
        hellos = {name: party.hello() for name, party in fresh.parties.items()}
        hellos[KEY_HOLDER] = fresh.parties[KEY_HOLDER]._seat.hello(0, key.public.to_bytes())
        with pytest.raises(PeerError, match="public key"):
            fresh.parties["ann"].meet(hellos)


def test_shares_of_a_subgroup_key_are_refused():
    with pytest.raises(MisuseError, match="primes of its own kind"):
        run.sit_down(
            "paillier-threshold", NAMES[:4], Settings(key_bits=512, insecure_test_keys=True, obfuscation="subgroup")
        )


def test_a_thousand_sites_have_room(monkeypatch):
    packing = Table().parties["ann"]._terms.packing_of(5, 2)
    assert packing.parties == 4
    names = [f"site{i:04d}" for i in range(1000)]
    roster = Roster(
        {name: bytes([at % 256, at // 256, 5] * 10 + [1, 1]) for at, name in enumerate([*names, KEY_HOLDER])}
    )
    chosen = Settings(key_bits=512, insecure_test_keys=True)
    collector = make_collector("paillier", roster, chosen)
    packing = collector._terms.packing_of(5, 2)
    top = packing.pack(np.full((5, 2), 2**64 - 1, dtype=np.uint64))
    opened = packing.unpack([1000 * plaintext for plaintext in top], 1000)
    assert np.array_equal(opened, ring.total_of([np.full((5, 2), 2**64 - 1, dtype=np.uint64)] * 1000, 5, 2))


def test_an_aggregator_with_a_private_key_can_not_be_constructed():
    table = Table()
    with pytest.raises(TypeError):
        PaillierCollector(Session("paillier", table.roster, table.settings), private=KEY)
    identity = Identity(bytes(32))
    seated = Roster({**table.roster.keys, AGGREGATOR: identity.public})
    for make in (
        lambda: make_collector("paillier", seated, table.settings),
        lambda: KeyHolder(table.seat(AGGREGATOR, identity, seated)),
        lambda: PaillierParty(table.seat(AGGREGATOR, identity, seated)),
    ):
        with pytest.raises(MisuseError, match=AGGREGATOR):
            make()


def test_roles_do_not_mix():
    table = Table()
    with pytest.raises(MisuseError, match="role of the key-holder alone"):
        KeyHolder(table.seat("ann"), private=KEY)
    with pytest.raises(MisuseError, match="no site"):
        PaillierParty(table.seat(KEY_HOLDER))
    with pytest.raises(MisuseError, match="does not hold the key of bob"):
        PaillierParty(table.seat("bob", table.parties["ann"]._seat._identity))
    with pytest.raises(MisuseError, match="a session of plain, not of paillier"):
        PaillierCollector(Session("plain", table.roster, table.settings))
    with pytest.raises(MisuseError, match="sends no vector"):
        table.parties[KEY_HOLDER].protect(np.zeros((1, 2), dtype=np.uint64), table.context(1))
    without = Roster({name: key for name, key in table.roster.keys.items() if name != KEY_HOLDER})
    with pytest.raises(MisuseError, match="needs one"):
        make_collector("paillier", without, table.settings)


@pytest.mark.parametrize("bits", [0, 1024, 2047, 2050, 3000])
def test_short_and_odd_keys_are_refused(bits):
    table = Table()
    with pytest.raises(MisuseError, match="Paillier key"):
        make_collector("paillier", table.roster, Settings(key_bits=bits))


def test_the_usual_key_lengths_are_accepted_and_3072_is_the_default():
    table = Table()
    assert Settings().key_bits == 3072
    assert [
        make_collector("paillier", table.roster, Settings(key_bits=bits))._terms.key_bits for bits in (2048, 3072, 4096)
    ] == [
        2048,
        3072,
        4096,
    ]
    with pytest.raises(MisuseError, match="512 bits"):
        KeyHolder(table.seat(KEY_HOLDER, settings=Settings(key_bits=512)))


def test_a_key_of_another_length_than_agreed_is_refused():
    longer = Settings(key_bits=1024, insecure_test_keys=True)
    with pytest.raises(MisuseError, match="settings say"):
        KeyHolder(Table().seat(KEY_HOLDER, settings=longer), private=KEY)


def test_nothing_works_before_the_parties_have_met():
    table = Table()
    context = table.context(4)
    party = PaillierParty(table.seat("ann"))
    collector = make_collector("paillier", table.roster, table.settings)
    for early in (
        lambda: party.protect(np.zeros((4, 2), dtype=np.uint64), context),
        lambda: party.precompute(4),
        lambda: party.assist(b"", context),
        lambda: collector.combine({}, context),
    ):
        with pytest.raises(MisuseError, match="not met yet"):
            early()


def test_own_mistakes_are_misuse(table):
    vector = np.zeros((4, 2), dtype=np.uint64)
    elsewhere = Context(bytes(32), 0, 0, table.names, bytes(32), 4)
    stranger = table.context(4, cohort=("ann", "bob", "cem", "zoe"))
    helper = table.context(4, cohort=("ann", "bob", "cem", KEY_HOLDER))
    for context in (elsewhere, stranger, helper, table.context(5), table.context(4, cohort=("bob", "cem", "dia"))):
        with pytest.raises(MisuseError):
            table.parties["ann"].protect(vector, context)
    for context in (elsewhere, stranger, helper):
        for verb in (table.collector.combine, lambda _, context: table.parties[KEY_HOLDER].assist(b"", context)):
            with pytest.raises(MisuseError):
                verb({}, context)
    with pytest.raises(MisuseError, match="sent nothing"):
        table.parties["ann"].assist(b"", table.context(4))
    with pytest.raises(MisuseError, match="not of this protocol"):
        table.collector.open(Pending(table.context(4), (), {}), {})


def test_a_later_batch_keeps_the_key_and_may_not_change_it(table):
    hellos = {name: party.hello(1) for name, party in table.parties.items()}
    for name, party in table.parties.items():
        assert party.meet(hellos, 1) == b"", name
    table.collector.meet(hellos, {}, 1)
    del hellos[KEY_HOLDER]
    table.parties["ann"].meet(hellos, 1)
    other = make_key(512, run.tape("another key")(KEY_HOLDER))
    hellos[KEY_HOLDER] = table.parties[KEY_HOLDER]._seat.hello(1, other.public.to_bytes())
    for verb in (lambda: table.parties["ann"].meet(hellos, 1), lambda: table.collector.meet(hellos, {}, 1)):
        with pytest.raises(PeerError, match="changed its public key") as refusal:
            verb()
        assert refusal.value.sender == KEY_HOLDER


def test_two_sites_can_sum_only_where_that_is_allowed():
    with pytest.raises(MisuseError, match="can't hide"):
        Table(2)
    table = Table(2, allow_two=True)
    vectors = random_vectors(table.names, 4, 2)
    assert np.array_equal(table.run(vectors, table.context(4)).vector, ring.total_of(vectors.values(), 4, 2))


def test_an_impossible_plaintext_raises_instead_of_giving_a_sum(table):
    context = table.context(4)
    vectors = random_vectors(table.names, 4, 2)
    payloads = {n: table.parties[n].protect(v, context) for n, v in vectors.items()}
    pending = table.collector.combine(payloads, context)
    pending = table.collector.open(pending, table.ask(pending))
    body = table.ask(pending)[KEY_HOLDER][:-64]
    wrong = table.parties[KEY_HOLDER]._seat.sign(b"paillier opened", context, body[:40] + bytes(8) + body[48:])
    with pytest.raises(IntegrityError):
        table.collector.open(pending, {KEY_HOLDER: wrong})
