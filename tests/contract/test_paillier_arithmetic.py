"""Our numbers are phe's numbers: keys, obfuscators, ciphertexts and decryption, with and without gmpy2."""

import io
import math
import sys

import phe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import run
from protocols.primitives.paillier import big_numbers, lanes, obfuscators
from protocols.primitives.paillier.lanes import Lanes
from protocols.primitives.paillier.obfuscators import (
    FixedBasePowers,
    Obfuscators,
    entry_bytes,
    exponent_bits,
    window_for,
)
from protocols.primitives.paillier.paillier_keys import PrivateKey, PublicKey, djn_generator, make_key, order_bits

KEY = make_key(512, run.tape("a key for tests")(""))
PUBLIC = KEY.public
REFERENCE, REFERENCE_PRIVATE = KEY.phe_pair()
SUBGROUP = make_key(512, run.tape("a subgroup key")(""), subgroup=True)
plaintexts = st.sampled_from([0, 1, int(PUBLIC.n) // 3, int(PUBLIC.n) - 1]) | st.integers(0, int(PUBLIC.n) - 1)


@pytest.fixture
def without_gmpy2(monkeypatch):
    monkeypatch.setitem(sys.modules, "gmpy2", None)
    big_numbers._gmpy2.cache_clear()
    with pytest.warns(RuntimeWarning, match="gmpy2 is missing"):
        assert big_numbers._gmpy2() is None
    yield
    big_numbers._gmpy2.cache_clear()


def test_phe_supplies_the_key_objects():
    assert isinstance(REFERENCE, phe.PaillierPublicKey)
    assert isinstance(REFERENCE_PRIVATE, phe.PaillierPrivateKey)
    assert PUBLIC.n == REFERENCE.n
    assert PUBLIC.n_squared == REFERENCE.nsquare


@given(plaintexts, st.integers(1, int(PUBLIC.n) - 1))
def test_textbook_ciphertexts_are_those_of_phe_bit_for_bit(plaintext, randomness):
    if math.gcd(randomness, int(PUBLIC.n)) != 1:
        return
    obfuscator = big_numbers.power(randomness, PUBLIC.n, PUBLIC.n_squared)
    ours = PUBLIC.nude(plaintext) * obfuscator % PUBLIC.n_squared
    assert ours == REFERENCE.raw_encrypt(plaintext, randomness)
    assert REFERENCE_PRIVATE.raw_decrypt(int(ours)) == plaintext
    assert KEY.decrypt([ours]) == [plaintext]


@pytest.mark.parametrize("obfuscation", ["djn", "short", "textbook"])
def test_every_obfuscator_is_one_that_phe_would_make(obfuscation):
    count = 5
    made = Obfuscators(PUBLIC, obfuscation, run.tape("drawn")("")).take(count).values
    if obfuscation == "textbook":
        width = PUBLIC.plaintext_bytes + 16
        randomness = [
            int.from_bytes(piece, "big") % (int(PUBLIC.n) - 1) + 1
            for piece in pieces(run.tape("drawn")("")(count * width), width)
        ]
    else:
        width = exponent_bits(PUBLIC, obfuscation) // 8
        assert width == {"djn": 32, "short": 28}[obfuscation]
        exponents = [int.from_bytes(piece, "little") for piece in pieces(run.tape("drawn")("")(count * width), width)]
        randomness = [pow(int(PUBLIC.djn_base), exponent, int(PUBLIC.n)) for exponent in exponents]
    assert made == [REFERENCE.raw_encrypt(0, r) for r in randomness]
    assert KEY.decrypt(made) == [0] * count


def pieces(data, width):
    return [data[at : at + width] for at in range(0, len(data), width)]


@given(
    st.integers(1, 13),
    st.lists(st.binary(min_size=8, max_size=8) | st.sampled_from([bytes(8), b"\xff" * 8]), max_size=4),
)
def test_tables_of_any_window_give_the_plain_power(window, exponents):
    modulus = (1 << 127) - 1
    powers = FixedBasePowers(3, modulus, 64, min(window, 9))
    expected = [pow(3, int.from_bytes(exponent, "little"), modulus) for exponent in exponents]
    assert powers.raise_to(b"".join(exponents)) == expected


@pytest.mark.parametrize(
    ("bits", "entry", "window"),
    [
        (1024, 576, 11),
        (1536, 832, 10),
        (2048, 1088, 9),
        (224, 576, 12),
        (256, 832, 12),
        (1 << 20, 1 << 20, 1),
        (1024, 632, 11),
        (1536, 952, 9),
        (576, 632, 12),
    ],
)
def test_windows_are_as_wide_as_the_memory_allows(bits, entry, window):
    assert window_for(bits, entry) == window
    assert window == 1 or -(-bits // window) * 2**window * entry <= obfuscators.TABLE_BYTES


@pytest.mark.parametrize(("key_bits", "beside", "inside"), [(2048, 576, 632), (3072, 832, 952)])
def test_entries_of_the_tables_are_as_large_as_they_are_counted(key_bits, beside, inside, monkeypatch):
    modulus = (2**key_bits - 1) ** 2
    monkeypatch.setattr(lanes, "fit", lambda modulus: True)
    assert entry_bytes(modulus) == inside == Lanes(modulus).limbs * 8
    monkeypatch.setattr(lanes, "fit", lambda modulus: False)
    assert entry_bytes(modulus) == beside


def test_a_stock_is_used_once_and_in_order():
    stream = run.tape("one")("")(1000)
    ahead, inline = (Obfuscators(PUBLIC, "djn", io.BytesIO(stream).read) for _ in range(2))
    ahead.prepare(4)
    assert len(ahead) == 4
    taken = ahead.take(3).values + ahead.take(3).values
    assert taken == inline.take(6).values
    assert len(set(taken)) == 6
    assert len(ahead) == 0
    assert ahead.take(0).values == []


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 50])
def test_decryption_does_not_depend_on_the_number_of_threads(n_jobs):
    hiding = Obfuscators(PUBLIC, "short", run.tape("threads")("")).take(9).values
    ciphertexts = [PUBLIC.nude(i) * obfuscator % PUBLIC.n_squared for i, obfuscator in enumerate(hiding)]
    assert KEY.decrypt(ciphertexts, n_jobs) == list(range(9))
    assert KEY.decrypt([], n_jobs) == []


@pytest.mark.parametrize("obfuscation", ["djn", "textbook"])
def test_without_gmpy2_the_numbers_are_the_same(obfuscation, monkeypatch, without_gmpy2):
    monkeypatch.setattr(obfuscators, "_tables", obfuscators._tables.__wrapped__)
    monkeypatch.setattr(obfuscators, "window_for", lambda bits, size: 4)
    slow_key = make_key(512, run.tape("a key for tests")(""))
    slow = Obfuscators(slow_key.public, obfuscation, run.tape("both")("")).take(3).values
    assert slow_key.public.n == PUBLIC.n
    assert all(type(value) is int for value in slow)
    assert slow_key.decrypt(slow, 2) == [0, 0, 0]
    big_numbers._gmpy2.cache_clear()
    sys.modules.pop("gmpy2")
    assert slow == Obfuscators(PUBLIC, obfuscation, run.tape("both")("")).take(3).values


def test_miller_rabin_knows_primes_from_liars():
    primes = [2, 3, 5, 7, 97, 7919, 2**61 - 1, 2**127 - 1]
    liars = [0, 1, 4, 561, 1105, 3215031751, 3825123056546413051, 2**61 + 1, (2**61 - 1) * (2**31 - 1)]
    assert all(big_numbers._miller_rabin(prime, 20) for prime in primes)
    assert not any(big_numbers._miller_rabin(liar, 20) for liar in liars)


@pytest.mark.parametrize("bits", [256, 512, 1024])
def test_a_fresh_key_has_the_primes_that_djn_needs_and_comes_from_its_tape(bits):
    key, again = make_key(bits, run.tape("x")("")), make_key(bits, run.tape("x")(""))
    _, private = key.phe_pair()
    assert key.public.n == again.public.n != make_key(bits, run.tape("y")("")).public.n
    assert key.public.bits == bits
    assert private.p % 4 == private.q % 4 == 3
    assert math.gcd(private.p - 1, private.q - 1) == 2
    assert private.p.bit_length() == private.q.bit_length() == bits // 2


def test_the_public_base_has_jacobi_symbol_one_and_is_no_square():
    for key in (KEY, make_key(512, run.tape("another")(""))):
        _, private = key.phe_pair()
        legendre = [pow(int(key.public.djn_base), (prime - 1) // 2, prime) for prime in (private.p, private.q)]
        assert legendre == [private.p - 1, private.q - 1]
        assert djn_generator(key.public) == pow(int(key.public.djn_base), int(key.public.n), int(key.public.n_squared))


@pytest.mark.parametrize(
    ("p", "q"),
    [(1019, 1019), (1019, 1031 * 2 + 1), (1013, 1019), (1019, 1021), (1019 * 1031, 1019 * 1039), (1019, 32003)],
)
def test_primes_that_would_not_hide_are_refused(p, q):
    with pytest.raises(ValueError, match=r"primes|gcd"):
        PrivateKey(p, q)


def orders_of(key):
    """The prime orders modulo p and q, in the order of the primes, out of the halves' exponents."""
    return tuple(int(half._exponent) // 2 for half in key._halves)


@pytest.mark.parametrize("bits", [256, 512, 2048])
def test_a_subgroup_key_hides_in_a_group_of_the_order_that_its_maker_knows(bits):
    key = make_key(bits, run.tape("group")(""), subgroup=True)
    (u, v), (_, private) = orders_of(key), key.phe_pair()
    n, base = int(key.public.n), int(key.public.base)
    assert u.bit_length() == v.bit_length() == order_bits(bits) == {256: 32, 512: 64, 2048: 224}[bits]
    assert private.p.bit_length() == private.q.bit_length() == bits // 2
    assert key.public.bits == bits
    assert pow(base, 2 * u * v, n) == 1
    assert all(pow(base, 2 * u * v // factor, n) != 1 for factor in (2, u, v))
    assert [pow(base, order, prime) for order, prime in ((u, private.p), (v, private.q))] == [
        private.p - 1,
        private.q - 1,
    ]
    again = make_key(bits, run.tape("group")(""), subgroup=True)
    assert again.public == key.public != make_key(bits, run.tape("other")(""), subgroup=True).public


def test_a_subgroup_key_decrypts_what_phe_decrypts():
    public, (_, private) = SUBGROUP.public, SUBGROUP.phe_pair()
    hiding = Obfuscators(public, "subgroup", run.tape("hide")("")).take(6).values
    numbers = [0, 1, int(public.n) - 1, int(public.n) // 2, 12345, 2**300]
    ciphertexts = [public.nude(m) * w % public.n_squared for m, w in zip(numbers, hiding, strict=True)]
    assert SUBGROUP.decrypt(ciphertexts) == numbers == [private.raw_decrypt(int(c)) for c in ciphertexts]
    total = math.prod(ciphertexts) % public.n_squared
    assert SUBGROUP.decrypt([total]) == [sum(numbers) % public.n]


def test_exponents_are_long_enough_for_a_uniform_residue():
    """With an exponent no longer than the order, small residues of the exponent would be twice as likely."""
    for bits in (2048, 3072):
        public = PublicKey(1 << (bits - 1))
        assert exponent_bits(public, "subgroup") == 2 * order_bits(bits) + 128 == {2048: 576, 3072: 640}[bits]


def test_what_is_hidden_outside_the_group_is_refused_and_a_whole_key_opens_it():
    public, (_, private) = SUBGROUP.public, SUBGROUP.phe_pair()
    stray = public.nude(5) * pow(7, int(public.n), int(public.n_squared)) % public.n_squared
    assert private.raw_decrypt(int(stray)) == 5
    with pytest.raises(ValueError, match="outside the group"):
        SUBGROUP.decrypt([public.nude(5), stray])
    p, q = (int(half.prime) for half in SUBGROUP._halves)
    assert PrivateKey(p, q).decrypt([stray]) == [5]


@pytest.mark.parametrize("wrong", ["one order twice", "a composite", "a stranger", "changed places", "two"])
def test_orders_that_do_not_belong_to_the_primes_are_refused(wrong):
    p, q = (int(half.prime) for half in SUBGROUP._halves)
    u, v = orders_of(SUBGROUP)
    rest = (p - 1) // (2 * u)
    orders = {
        "one order twice": (u, u), "a composite": (u * rest, v), "a stranger": (2**61 - 1, v),
        "changed places": (v, u), "two": (2, v),
    }[wrong]  # fmt: skip
    with pytest.raises(ValueError, match="subgroup key"):
        PrivateKey(p, q, orders)


def test_a_subgroup_key_travels_with_its_base():
    public, data = SUBGROUP.public, SUBGROUP.public.to_bytes()
    assert PublicKey.from_bytes(data, 512, subgroup=True) == public
    assert PublicKey.from_bytes(data[:64], 512).base == public.djn_base != public.base
    n, (p, q) = int(public.n), (int(half.prime) for half in SUBGROUP._halves)
    one_and_minus_one, one_and_two = ((1 + (other - 1) * p * pow(p, -1, q)) % n for other in (-1, 2))
    assert (
        len(set(Obfuscators(PublicKey(public.n, one_and_minus_one), "subgroup", run.tape("")("")).take(50).values)) == 2
    )
    for base in (0, 1, n - 1, n, n + 2, 2 * p, one_and_minus_one, n - one_and_minus_one, one_and_two):
        with pytest.raises(ValueError, match="base of the public key"):
            PublicKey.from_bytes(data[:64] + base.to_bytes(64, "big"), 512, subgroup=True)
    for wrong in (data[:64], data[:-1], data + b"\0"):
        with pytest.raises(ValueError, match="with its base"):
            PublicKey.from_bytes(wrong, 512, subgroup=True)
    with pytest.raises(ValueError, match="no modulus"):
        PublicKey.from_bytes(data, 512)


def test_key_lengths_are_labelled_with_their_strength():
    strengths = {bits: PublicKey(1 << (bits - 1)).security_bits for bits in (1024, 2048, 3072, 4096)}
    assert strengths == {1024: 0, 2048: 112, 3072: 128, 4096: 128}


def test_buffers_are_fixed_width_and_big_endian():
    assert big_numbers.to_buffer([1, 258], 3) == bytes([0, 0, 1, 0, 1, 2])
    assert big_numbers.from_buffer(bytes([0, 0, 1, 0, 1, 2]), 3) == [1, 258]
    with pytest.raises(ValueError, match="whole count"):
        big_numbers.from_buffer(bytes(7), 3)
    with pytest.raises(OverflowError):
        big_numbers.to_buffer([256], 1)
