"""What key-holder and aggregator see tells nothing; each test stands beside a broken twin that it catches."""

import copy
import logging
import pickle

import numpy as np
import pytest
from scipy import stats

from protocols import run
from protocols.encryption import paillier
from protocols.encryption.paillier_messages import Mandate
from protocols.primitives.paillier import big_numbers, plaintext_knowledge
from protocols.primitives.paillier.obfuscators import Obfuscators, Taken
from protocols.primitives.paillier.paillier_keys import make_key
from protocols.primitives.paillier.plaintext_knowledge import Statement
from protocols.secure_sum import KEY_HOLDER, Context, PeerError
from protocols.sessions.settings import Settings

NAMES = ("ann", "bob", "cem")
FALSE_ALARM = 1e-7
VALUES = 3000
"""Two values per plaintext of 320 bits: 1,500 plaintexts a sum."""


KEY = make_key(320, run.tape("a small key")(KEY_HOLDER))
SUBGROUP_KEY = make_key(320, run.tape("a small key")(KEY_HOLDER), subgroup=True)
PROOF = 32 + 2 * 40
N, SQUARE = int(KEY.public.n), int(KEY.public.n_squared)


class Table:
    def __init__(self, label, obfuscation="short"):
        chosen = Settings(key_bits=320, insecure_test_keys=True, obfuscation=obfuscation)
        table = run.sit_down("paillier", NAMES, chosen, run.tape(label))
        table.parties[KEY_HOLDER]._private = SUBGROUP_KEY if obfuscation == "subgroup" else KEY
        run.meet(table)
        self.hellos = {message.party: message.data for message in table.messages if message.leg == "hello"}
        self.holder, self.collector = table.parties.pop(KEY_HOLDER), table.collector
        self.parties = table.parties

    def context(self, number=0, values=VALUES):
        return Context(self.collector.session, number, 0, NAMES, bytes(32), values)

    def run(self, element, number=0, values=VALUES):
        """One sum in which every site sends that element everywhere: payloads, mandate, opened plaintexts."""
        context = self.context(number, values)
        vector = np.full((values, 2), element, dtype=np.uint64)
        payloads = {name: party.protect(vector, context) for name, party in self.parties.items()}
        pending = self.collector.combine(payloads, context)
        consents = {name: self.parties[name].assist(request, context) for name, request in pending.requests.items()}
        mandated = self.collector.open(pending, consents)
        reply = self.holder.assist(mandated.requests[KEY_HOLDER], context)
        total = self.collector.open(mandated, {KEY_HOLDER: reply})
        assert (total.vector[:, 0] == 3 * element).all()
        seen = big_numbers.from_buffer(reply[32:-64], KEY.public.plaintext_bytes)
        return payloads, mandated.requests[KEY_HOLDER], [int(value) for value in seen]


def is_uniform(numbers, modulus):
    """Chi-square on the leading and on the last four bits, and Kolmogorov-Smirnov on the whole."""
    leading = np.bincount([value * 16 // modulus for value in numbers], minlength=16)
    last = np.bincount([value % 16 for value in numbers], minlength=16)
    fractions = [value / modulus for value in numbers]
    tests = (stats.chisquare(leading), stats.chisquare(last), stats.kstest(fractions, "uniform"))
    return all(test.pvalue > FALSE_ALARM / 3 for test in tests)


def no_blind(public, seed, context, count, prg):
    return [0] * count


def short_blind(public, seed, context, count, prg):
    """Statistical blinding with too few bits: enough to cover the sum, not the plaintext space."""
    draw = run.tape(seed.hex())(context.digest.hex())
    return [int.from_bytes(draw(33), "big") for _ in range(count)]


def one_blind_for_all(public, seed, context, count, prg):
    return [int.from_bytes(run.tape(seed.hex())("")(60), "big") % public.n] * count


@pytest.mark.parametrize("element", [0, 2**62])
def test_the_key_holder_sees_uniform_plaintexts(element):
    _, _, seen = Table("honest").run(element)
    assert len(seen) == VALUES // 2
    assert is_uniform(seen, N)


@pytest.mark.parametrize("broken", [no_blind, short_blind, one_blind_for_all])
def test_a_twin_with_a_broken_blind_is_caught(broken, monkeypatch):
    monkeypatch.setattr(paillier, "blinds", broken)
    _, _, seen = Table("honest").run(0)
    assert not is_uniform(seen, N)


def test_what_the_key_holder_sees_does_not_tell_one_input_from_another():
    low, high = Table("one").run(0)[2], Table("two").run(2**62)[2]
    assert stats.ks_2samp([v / N for v in low], [v / N for v in high]).pvalue > FALSE_ALARM


def test_two_sums_of_the_same_vectors_are_blinded_apart():
    table = Table("twice")
    first, second = table.run(7)[2], table.run(7, number=1)[2]
    assert is_uniform([(a - b) % N for a, b in zip(first, second, strict=True)], N)


def test_a_twin_that_blinds_every_sum_alike_is_caught(monkeypatch):
    honest = paillier.blinds
    fixed = Table("twice").context()
    monkeypatch.setattr(
        paillier, "blinds", lambda public, seed, context, *rest: honest(public, bytes(32), fixed, *rest)
    )
    table = Table("twice")
    first, second = table.run(7)[2], table.run(7, number=1)[2]
    assert is_uniform(first, N), "one sum alone does not betray this twin"
    assert not is_uniform([(a - b) % N for a, b in zip(first, second, strict=True)], N)


def ciphertexts_of(payload):
    return [int(value) for value in big_numbers.from_buffer(payload[: -PROOF - 64], KEY.public.ciphertext_bytes)]


def linked(first, second):
    """Pairs whose quotient is no hidden residue: anyone can read the difference of their plaintexts."""
    return sum(a * pow(b, -1, SQUARE) % N == 1 for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("obfuscation", ["djn", "short", "subgroup", "textbook"])
def test_equal_plaintexts_give_unrelated_ciphertexts(obfuscation):
    table = Table("related", obfuscation)
    table.parties["ann"].precompute(50)
    payloads = [table.run(5, number, values=60)[0] for number in range(2)]
    of = [ciphertexts_of(payload[name]) for payload in payloads for name in NAMES]
    assert len({value for ciphertexts in of for value in ciphertexts}) == 6 * 30
    assert sum(linked(a, b) for i, a in enumerate(of) for b in of[:i]) == 0
    assert linked(of[0][1:], of[0][:-1]) == 0


def repeated(taken, count):
    return Taken(KEY.public, list(taken.values) * count, list(taken._known) * count, roots=False)


def test_a_twin_that_reuses_an_obfuscator_is_caught(monkeypatch):
    honest = Obfuscators.take
    monkeypatch.setattr(Obfuscators, "take", lambda self, count, n_jobs=1: repeated(honest(self, 1), count))
    payloads = Table("related").run(5, values=60)[0]
    ciphertexts = ciphertexts_of(payloads["ann"])
    assert linked(ciphertexts[1:], ciphertexts[:-1]) == 29


def test_ciphertexts_look_alike_whatever_is_in_them():
    views = [ciphertexts_of(Table(label).run(element)[0]["ann"]) for label, element in (("0", 0), ("1", 2**62))]
    assert all(is_uniform(view, SQUARE) for view in views)
    assert stats.ks_2samp(*([v / SQUARE for v in view] for view in views)).pvalue > FALSE_ALARM


def test_a_twin_without_obfuscation_is_caught(monkeypatch):
    monkeypatch.setattr(
        Obfuscators, "take", lambda self, count, n_jobs=1: repeated(Taken(KEY.public, [1], [0], roots=False), count)
    )
    assert not is_uniform(ciphertexts_of(Table("0").run(0)[0]["ann"]), SQUARE)


def secrets_of(table):
    _, private = KEY.phe_pair()
    draw = run.tape("home")("ann")
    _, nonce, mask_key, exponents = draw(32), draw(32), draw(32), draw(560)
    seeds = [run.tape("home")(name)(32) for name in (*NAMES, KEY_HOLDER)]
    primes = [int(prime).to_bytes(20, order) for prime in (private.p, private.q) for order in ("big", "little")]
    assert nonce in table.hellos["ann"], "the tape must be the one the site drew from"
    return [*seeds, *primes, mask_key, exponents[:28], exponents[28:56]]


def test_secrets_are_in_no_message_representation_exception_or_log(caplog):
    caplog.set_level(logging.DEBUG)
    table = Table("home")
    context = table.context(values=40)
    element = 0x1234_5678_9ABC_DEF1
    vector = np.full((40, 2), element, dtype=np.uint64)
    payloads = {name: party.protect(vector, context) for name, party in table.parties.items()}
    pending = table.collector.combine(payloads, context)
    consents = {name: table.parties[name].assist(request, context) for name, request in pending.requests.items()}
    mandated = table.collector.open(pending, consents)
    reply = table.holder.assist(mandated.requests[KEY_HOLDER], context)
    complaints = []
    for verb in (table.parties["ann"].assist, table.holder.assist):
        with pytest.raises(PeerError) as refusal:
            verb(pending.requests["bob"] + b"x", context)
        complaints.append(str(refusal.value) + repr(refusal.value.args))
    everything = [*table.parties.values(), table.holder, table.collector, pending, mandated, KEY, table.holder._private]
    said = " ".join([*map(repr, everything), *map(str, everything), *complaints, caplog.text])
    sent = b"|".join(
        message
        for messages in (table.hellos, payloads, pending.requests, consents, mandated.requests, {KEY_HOLDER: reply})
        for message in messages.values()
    )
    for secret in secrets_of(table):
        assert secret not in sent
        assert secret.hex() not in said
        assert str(int.from_bytes(secret, "big")) not in said
    assert element.to_bytes(8, "little") not in sent
    assert element.to_bytes(8, "big") not in sent
    # The blind's seed goes to the sites, and never to the key-holder.
    seed = pending.hidden.seed
    assert seed in pending.requests["ann"]
    assert seed not in mandated.requests[KEY_HOLDER]
    assert seed.hex() not in said


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_holds_a_secret_never_leaves_its_process(copying):
    table = Table("home")
    context = table.context(values=2)
    payloads = {n: party.protect(np.zeros((2, 2), dtype=np.uint64), context) for n, party in table.parties.items()}
    pending, taken = table.collector.combine(payloads, context), table.parties["ann"]._obfuscators.take(1)
    for holder in (KEY, table.holder, table.parties["ann"], table.parties["ann"]._obfuscators, taken, pending.hidden):
        with pytest.raises(TypeError, match="never leaves its process"):
            copying(holder)


def test_the_collector_holds_nothing_that_opens_a_payload():
    table = Table("home")
    table.run(1, values=4)

    def reachable(thing, depth=0):
        yield thing
        inside = list(thing.values()) if isinstance(thing, dict) else list(getattr(thing, "__dict__", {}).values())
        for part in inside if depth < 6 else ():
            yield from reachable(part, depth + 1)

    _, private = KEY.phe_pair()
    kinds = {type(thing).__name__ for thing in reachable(table.collector)}
    assert "PublicKey" in kinds
    assert not kinds & {"PrivateKey", "PaillierPrivateKey", "Identity", "Seat", "KeyHolder"}
    numbers = {thing for thing in reachable(table.collector) if isinstance(thing, int)}
    assert not numbers & {private.p, private.q}
    assert "PrivateKey" in {type(thing).__name__ for thing in reachable(table.holder)}, (
        "the search must find what is there"
    )


def test_the_key_holder_is_shown_blinded_ciphertexts_and_signatures_only():
    table = Table("view")
    payloads, request, _ = table.run(9, values=4)
    shown = Mandate.from_bytes(request)
    assert shown.present == NAMES
    assert {len(consent) for consent in shown.consents.values()} == {32 + 64}
    blinded = ciphertexts_of(shown.blinded + bytes(PROOF + 64))
    theirs = {value for payload in payloads.values() for value in ciphertexts_of(payload)}
    assert not theirs & set(blinded)
    assert linked(blinded[:-1], blinded[1:]) == 0


def answers(label, element, count=400):
    """Both numbers of many proofs of one site: for the same plaintext each time, as a fraction of n."""
    plaintexts, key = [element, element << 130], run.tape(label)("key")(32)
    taken = Obfuscators(KEY.public, "short", run.tape(label)("drawn")).take(2)
    ciphertexts = [KEY.public.nude(m) * w % SQUARE for m, w in zip(plaintexts, taken.values, strict=True)]
    for at in range(count):
        statement = Statement(KEY.public, at.to_bytes(4, "big"), ciphertexts)
        proof = plaintext_knowledge.prove(statement, plaintexts, taken.root, key)
        plaintext_knowledge.verify(statement, proof)
        yield statement, [int(value) for value in big_numbers.from_buffer(proof[32:], 40)], proof[:32]


@pytest.mark.parametrize("element", [0, 2**127])
def test_the_answers_of_a_proof_are_uniform_whatever_is_in_the_ciphertexts(element):
    given = [numbers for _, numbers, _ in answers("uniform", element)]
    assert all(is_uniform(numbers, N) for numbers in zip(*given, strict=True))


def test_a_twin_with_short_masks_is_caught(monkeypatch):
    """Weights of 128 bits on plaintexts of 257: masks as long as for an exponent do not cover what they hide."""
    honest = plaintext_knowledge._masks
    monkeypatch.setattr(plaintext_knowledge, "_masks", lambda *of: tuple(mask % 2**256 for mask in honest(*of)))
    given = [numbers for _, numbers, _ in answers("uniform", 0)]
    assert not is_uniform([plain for plain, _ in given], N)


def test_a_twin_whose_mask_meets_two_challenges_gives_its_plaintext_away(monkeypatch):
    element = 0x1234_5678_9ABC_DEF1

    def difference(label):
        """Of two proofs of one site, all that a listener can subtract: the masks are gone where they were the same."""
        (first, a, d), (second, b, e), (third, c, f) = answers(label, element, 3)
        x, y, z = (
            big_numbers.from_buffer(statement.weights(challenge), 16)
            for statement, challenge in ((first, d), (second, e), (third, f))
        )
        # Two equations for two plaintexts, by Cramer's rule.
        rows = [(x[i] - y[i], x[i] - z[i]) for i in range(2)]
        determinant = rows[0][0] * rows[1][1] - rows[0][1] * rows[1][0]
        numerator = (a[0] - b[0]) * rows[1][1] - (a[0] - c[0]) * rows[1][0]
        return numerator * pow(int(determinant), -1, N) % N

    assert difference("meets") != element
    monkeypatch.setattr(plaintext_knowledge, "_masks", lambda *_: (12345, 67890))
    assert difference("meets") == element
