"""A proof of knowledge convinces if it is true, can't be made otherwise, and shows nothing: claims as arithmetic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import run
from protocols.primitives.paillier import big_numbers, plaintext_knowledge
from protocols.primitives.paillier.big_numbers import from_buffer, to_buffer
from protocols.primitives.paillier.obfuscators import Obfuscators
from protocols.primitives.paillier.paillier_keys import make_key
from protocols.primitives.paillier.plaintext_knowledge import Statement, proof_bytes, prove, verify

KEY = make_key(512, run.tape("knowledge")("key"))
PUBLIC = KEY.public
N, SQUARE = int(PUBLIC.n), int(PUBLIC.n_squared)
SUBGROUP = make_key(512, run.tape("knowledge")("subgroup"), subgroup=True).public
VARIANTS = pytest.mark.parametrize("obfuscation", ["djn", "short", "subgroup", "textbook"])
MASKS = bytes(range(32))


def key_for(obfuscation):
    return SUBGROUP if obfuscation == "subgroup" else PUBLIC


def encrypted(plaintexts, obfuscation="djn", label="draw"):
    public = key_for(obfuscation)
    taken = Obfuscators(public, obfuscation, run.tape(label)("x")).take(len(plaintexts))
    return [public.nude(m) * w % public.n_squared for m, w in zip(plaintexts, taken.values, strict=True)], taken


def proved(plaintexts, obfuscation="djn", place=b"here"):
    ciphertexts, taken = encrypted(plaintexts, obfuscation)
    statement = Statement(key_for(obfuscation), place, ciphertexts)
    return statement, prove(statement, plaintexts, taken.root, MASKS)


@VARIANTS
@pytest.mark.parametrize("count", [0, 1, 64, 130, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 63))])
def test_a_true_proof_convinces_and_has_one_length(obfuscation, count):
    statement, proof = proved([at * 3**at % N for at in range(count)], obfuscation)
    verify(statement, proof)
    assert len(proof) == proof_bytes(PUBLIC) == 32 + 2 * 64
    assert proof == proved([at * 3**at % N for at in range(count)], obfuscation)[1]


@VARIANTS
def test_what_a_taken_obfuscator_keeps_is_its_root(obfuscation):
    public = key_for(obfuscation)
    n, square = int(public.n), int(public.n_squared)
    taken = Obfuscators(public, obfuscation, run.tape("root")("x")).take(3)
    exponents = bytes([0, 1, 0, 7, 255, 255])
    product = math.prod(pow(int(w), e, square) for w, e in zip(taken.values, (1, 7, 65535), strict=True))
    assert pow(int(taken.root(exponents, 2)), n, square) == product % square


def altered(proof):
    challenge, plain, root = proof[:32], *from_buffer(proof[32:], 64)
    for at in range(0, len(proof), 7):
        yield proof[:at] + bytes([proof[at] ^ 1 << at % 8]) + proof[at + 1 :]
    yield challenge + to_buffer([plain, 0], 64)
    yield challenge + to_buffer([plain, N - root], 64)
    yield challenge + to_buffer([0, 1], 64)
    yield from (b"", proof[:-1], proof + b"\0", bytes(len(proof)), proof * 2, proof[32:] + proof[:32])


def test_an_altered_proof_is_refused():
    statement, proof = proved([1, 2, 3])
    for changed in altered(proof):
        with pytest.raises(ValueError, match=r"proof of knowledge has|does not prove"):
            verify(statement, changed)


@pytest.mark.parametrize(("at", "count"), [(0, 1), (2, 3), (129, 130)])
@pytest.mark.parametrize("multiple", [1, 5, N // KEY.phe_pair()[1].p])
def test_what_shares_a_factor_with_the_modulus_is_refused(at, count, multiple):
    """Whoever reads a payload leaves that to the proof."""
    statement, proof = proved(list(range(count)))
    verify(statement, proof)
    spoiled = [*statement.ciphertexts]
    spoiled[at] = KEY.phe_pair()[1].p * multiple
    with pytest.raises(ValueError, match="shares a factor with the modulus"):
        verify(Statement(PUBLIC, b"here", spoiled), proof)


def test_every_answer_has_one_form():
    """What is congruent modulo n is refused all the same: otherwise a proof could be turned into another."""
    beyond = 0
    for at in range(40):
        statement, proof = proved([at], place=bytes([at]))
        plain, root = from_buffer(proof[32:], 64)
        for answers in ((plain + N, root), (plain, root + N)):
            if max(answers) < 1 << 512:
                beyond += 1
                with pytest.raises(ValueError, match="does not prove"):
                    verify(statement, proof[:32] + to_buffer(answers, 64))
    assert beyond > 10


def test_a_proof_holds_for_its_own_statement_alone():
    statement, proof = proved([1, 2, 3])
    ciphertexts = list(statement.ciphertexts)
    other = make_key(512, run.tape("another")("key")).public
    for false in (
        Statement(PUBLIC, b"there", ciphertexts),
        Statement(PUBLIC, b"here", ciphertexts[::-1]),
        Statement(PUBLIC, b"here", ciphertexts[:2]),
        Statement(PUBLIC, b"here", [*ciphertexts, ciphertexts[0]]),
        Statement(PUBLIC, b"here", [ciphertexts[0] * PUBLIC.nude(1) % SQUARE, *ciphertexts[1:]]),
        Statement(other, b"here", [value % other.n_squared for value in ciphertexts]),
    ):
        with pytest.raises(ValueError, match="does not prove"):
            verify(false, proof)


@VARIANTS
def test_whoever_multiplies_in_what_it_does_not_know_has_no_proof(obfuscation):
    theirs, _ = encrypted([40, 50], obfuscation, "theirs")
    mine, taken = encrypted([1, 2], obfuscation, "mine")
    public = key_for(obfuscation)
    n, square = int(public.n), int(public.n_squared)
    for power in (1, -1, 1 << 30):
        both = [a * pow(int(b), power, square) % square for a, b in zip(mine, theirs, strict=True)]
        statement = Statement(public, b"here", both)
        # It may even have guessed the plaintexts right: it still lacks the roots.
        for guess in ([1, 2], [(1 + 40 * power) % n, (2 + 50 * power) % n]):
            with pytest.raises(ValueError, match="does not prove"):
                verify(statement, prove(statement, guess, taken.root, MASKS))


def test_a_statement_names_its_key():
    """The same ciphertexts under another modulus are another statement, with other weights for any commitment."""
    other = make_key(512, run.tape("another")("key")).public
    ours, theirs = (Statement(public, b"here", [4, 9]) for public in (PUBLIC, other))
    assert ours.digest != theirs.digest
    assert ours.challenge(16) != theirs.challenge(16)


def test_the_masks_are_the_provers_secret():
    """Who knew x would read the plaintext off the answer; it follows from the key, and from nothing that is shown."""
    (ciphertext,), taken = encrypted([11])
    statement = Statement(PUBLIC, b"here", [ciphertext])

    def read(proof, mask):
        (weight,) = from_buffer(statement.weights(proof[:32]), 16)
        return (from_buffer(proof[32:], 64)[0] - mask) * pow(int(weight), -1, N) % N

    one, other = (prove(statement, [11], taken.root, bytes([key]) * 32) for key in (1, 2))
    masks = [plaintext_knowledge._masks(statement, bytes([key]) * 32)[0] for key in (1, 2)]
    assert [read(one, masks[0]), read(other, masks[1])] == [11, 11]
    assert 11 not in (read(one, masks[1]), read(other, masks[0]))


def cancelling():
    """Another's ciphertext in one place and its inverse in another, with the plaintexts of what is beside them."""
    theirs, _ = encrypted([40], label="theirs")
    mine, taken = encrypted([1, 2], label="mine")
    back = pow(int(theirs[0]), -1, SQUARE)
    return Statement(PUBLIC, b"here", [mine[0] * theirs[0] % SQUARE, mine[1] * back % SQUARE]), taken


def test_errors_that_cancel_are_seen():
    statement, taken = cancelling()
    with pytest.raises(ValueError, match="does not prove"):
        verify(statement, prove(statement, [1, 2], taken.root, MASKS))


def test_a_twin_that_multiplies_up_plainly_does_not_see_them(monkeypatch):
    monkeypatch.setattr(Statement, "weights", lambda self, _: (bytes(15) + b"\1") * len(self.ciphertexts))
    statement, taken = cancelling()
    verify(statement, prove(statement, [1, 2], taken.root, MASKS))


def test_a_twin_whose_challenge_leaves_out_the_commitment_takes_any_answers(monkeypatch):
    theirs, _ = encrypted([40, 50], label="theirs")
    statement = Statement(PUBLIC, b"here", theirs)
    invented = statement.challenge(0) + to_buffer([5, 9], 64)
    with pytest.raises(ValueError, match="does not prove"):
        verify(statement, invented)
    honest = Statement.challenge
    monkeypatch.setattr(Statement, "challenge", lambda self, _: honest(self, 0))
    verify(statement, invented)


def chosen_after_the_weights():
    """Powers of another's ciphertext that cancel under weights known before: w_2 and -w_1 for w_1 and w_2."""
    (theirs,), _ = encrypted([40], label="theirs")
    commitment = int(PUBLIC.nude(5)) * pow(9, N, SQUARE) % SQUARE
    challenge = Statement(PUBLIC, b"here", [1, 1]).challenge(commitment)
    first, second = from_buffer(Statement(PUBLIC, b"here", [1, 1]).weights(challenge), 16)
    powers = [pow(int(theirs), int(second), SQUARE), pow(int(theirs), -int(first), SQUARE)]
    return Statement(PUBLIC, b"here", powers), challenge + to_buffer([5, 9], 64)


def test_ciphertexts_can_not_be_chosen_after_the_weights():
    with pytest.raises(ValueError, match="does not prove"):
        verify(*chosen_after_the_weights())


def test_a_twin_whose_statement_leaves_out_the_ciphertexts_takes_them(monkeypatch):
    monkeypatch.setattr(Statement, "digest", property(lambda self: self.place))
    verify(*chosen_after_the_weights())


@VARIANTS
def test_two_answers_to_one_commitment_give_the_witness_away(obfuscation):
    """Soundness as it is shown: no division by a difference of weights is needed but modulo n."""
    public = key_for(obfuscation)
    n, square = int(public.n), int(public.n_squared)
    plaintext = 3**300 % n
    (ciphertext,), taken = encrypted([plaintext], obfuscation)
    x, s, e, f = 5**200 % n, 7**150 % n, 2**127 + 12345, 2**64 + 1

    def answer(weight):
        return (x + weight * plaintext) % n, s * int(taken.root(weight.to_bytes(16, "big"), 16)) % n

    (z, u), (y, v) = answer(e), answer(f)
    a = pow(e - f, -1, n)
    b = (1 - a * (e - f)) // n
    found = (z - y) * a % n
    root = pow(u * pow(v, -1, n), a, n) * pow(int(ciphertext), b, n) % n
    assert found == plaintext
    assert int(public.nude(found)) * pow(root, n, square) % square == ciphertext


def test_elements_of_small_order_hide_nothing():
    """Minus one is no way around: who negates a ciphertext knows its root, and the plaintext stays the same."""
    ciphertexts, taken = encrypted([11, 12])
    negated = [SQUARE - ciphertexts[0], ciphertexts[1]]
    statement = Statement(PUBLIC, b"here", negated)

    def root(weights, width):
        return (-1) ** (weights[width - 1] & 1) * taken.root(weights, width)

    verify(statement, prove(statement, [11, 12], root, MASKS))
    assert KEY.decrypt(negated) == [11, 12]


@given(st.binary(min_size=32, max_size=32), st.integers(0, N - 1), st.integers(1, N - 1))
def test_whoever_may_choose_the_challenge_needs_no_witness(challenge, plain, root):
    """Zero knowledge as it is shown: a view with any answers at all, made from the ciphertexts alone."""
    ciphertexts, _ = encrypted([11, 12])
    statement = Statement(PUBLIC, b"here", ciphertexts)
    weights = from_buffer(statement.weights(challenge), 16)
    commitment = int(PUBLIC.nude(plain)) * pow(root, N, SQUARE)
    for ciphertext, weight in zip(ciphertexts, weights, strict=True):
        commitment = commitment * pow(int(ciphertext), -weight, SQUARE) % SQUARE
    programmed = type(
        "Programmed", (Statement,), {"challenge": lambda _, shown: challenge if shown == commitment else b""}
    )
    verify(programmed(PUBLIC, b"here", ciphertexts), challenge + to_buffer([plain, root], 64))


def test_without_gmpy2_the_proof_is_the_same(monkeypatch):
    _, fast = proved([7, 2**400])
    monkeypatch.setattr(big_numbers, "_gmpy2", lambda: None)
    statement, slow = proved([7, 2**400])
    assert slow == fast
    verify(statement, slow)


def test_the_weights_are_as_long_as_the_claim_says():
    assert plaintext_knowledge.WEIGHT_BYTES == 16
    statement, proof = proved([1, 2, 3])
    weights = from_buffer(statement.weights(proof[:32]), 16)
    assert len(set(weights)) == 3
    assert all(weight.bit_length() > 100 for weight in weights)
