"""Packed Paillier beside phe's one float per ciphertext: CPU time per value, in one process and one run.

    pytest tests/benchmarks/test_paillier_speed.py --benchmark-only -s

Fixed-base tables are made before the clock starts: a site makes them once per session.
"""

import secrets
import time

import numpy as np
import pytest
from joblib import Parallel, delayed

from experiments.speed import ciphers
from experiments.speed.turns import least
from protocols.encryption.packing import Packing
from protocols.encryption.paillier_messages import product
from protocols.primitives.paillier import big_numbers
from protocols.primitives.paillier.obfuscators import Obfuscators
from protocols.primitives.paillier.paillier_keys import PrivateKey
from protocols.primitives.paillier.plaintext_knowledge import Statement, prove, verify
from protocols.primitives.paillier.threshold_keys import KeyShare, deal, search_safe_key

REPEATS = 3
SIGNATURE = 64
"""Bytes of a payload that are no ciphertext."""
VALUES, ENCRYPTED_VALUES = 690, 6900
NAIVE_VALUES = 12
ENCRYPTION_BAR, AHEAD_BAR, DECRYPTION_BAR = 250, 1000, 25
DECRYPTION_REPEATS = 20
BYTES_BAR, NARROW_BYTES_BAR = 40, 20
THRESHOLD_CIPHERTEXTS = 100
SUBGROUP_CIPHERTEXTS = 60
PROVED_VALUES = 120_000


def seconds(verb, times=3):
    """The shortest of a few durations, so that a busy machine does not decide, and the last result."""
    durations = []
    for attempt in range(times):
        start = time.process_time()
        result = verb(attempt)
        durations.append(time.process_time() - start)
    return min(durations), result


@pytest.fixture(scope="module")
def keys():
    return {bits: ciphers.a_key(bits) for bits in (2048, 3072)}


@pytest.mark.parametrize(("bits", "obfuscation"), [(3072, "djn"), (3072, "short"), (2048, "djn"), (2048, "short")])
def test_packed_paillier_leaves_one_float_per_ciphertext_behind(bits, obfuscation, benchmark):
    spent, size = benchmark.pedantic(
        ciphers.encrypting,
        (bits, obfuscation, REPEATS),
        {"values": ENCRYPTED_VALUES, "naive": NAIVE_VALUES},
        rounds=1,
    )
    shortest = least(spent)
    found = {way: shortest[ciphers.PHE] / shortest[way] for way in (ciphers.INLINE, ciphers.AHEAD)}
    each = (size - SIGNATURE) / ENCRYPTED_VALUES
    benchmark.extra_info.update(found, bytes=each)
    print(f"\n{bits} bits, {obfuscation}: times faster per value than phe: {found['inline']:.0f} inline, "
          f"{found['ahead']:.0f} ahead; {each:.1f} bytes per value")  # fmt: skip
    print("  CPU microseconds per value:", {name: round(1e6 * value, 1) for name, value in shortest.items()})
    assert each <= BYTES_BAR
    # At 2048 bits fewer values share a ciphertext, and phe is faster: the inline bar is for the default length.
    assert found["inline"] >= (ENCRYPTION_BAR if bits == 3072 else 0.7 * ENCRYPTION_BAR)
    assert found["ahead"] >= AHEAD_BAR


@pytest.mark.parametrize(("bits", "limbs", "slots"), [(2048, 2, 15), (3072, 2, 23), (2048, 1, 31), (3072, 1, 46)])
def test_decryption_beside_phe(bits, limbs, slots, benchmark):
    def measure():
        found = {}
        for threads in (1, 2):
            sizes = {"values": VALUES, "naive": NAIVE_VALUES, "threads": threads}
            spent = least(ciphers.decrypting(bits, limbs, DECRYPTION_REPEATS, **sizes))
            found[threads] = spent[ciphers.PHE] / spent["holder"]
        return found

    found = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update({str(threads): ratio for threads, ratio in found.items()})
    profile = "exact" if limbs == 2 else "narrow"
    print(f"\n{bits} bits, {profile} slots: decryption {found[1]:.1f} times faster per value than phe on one thread, "
          f"{found[2]:.1f} on two; the bar is {DECRYPTION_BAR}")  # fmt: skip
    # A ciphertext costs the key-holder the two half-length powers that phe pays for each value: a thread gains the
    # number of slots and no more. What the second adds depends on a core that is really free: printed, not asserted.
    assert max(found.values()) >= 0.7 * slots


@pytest.mark.parametrize("bits", [2048, 3072])
def test_a_subgroup_key_beside_a_whole_one(bits, benchmark):
    measured = benchmark.pedantic(ciphers.by_subgroup, (bits, REPEATS), {"ciphertexts": SUBGROUP_CIPHERTEXTS}, rounds=1)
    hiding, opening = (spent["djn"] / spent["subgroup"] for spent in map(least, measured))
    benchmark.extra_info.update(hiding=hiding, opening=opening)
    print(f"\n{bits} bits: obfuscators {hiding:.1f} times cheaper, decryption {opening:.1f} times")
    # Exponents of 576 for 1024 and of 225 for 1024 bits, of 640 for 1536 and of 257 for 1536 at 3072.
    assert hiding > 1.4
    assert opening > (3.5 if bits == 2048 else 4.5)


@pytest.mark.parametrize(("bits", "slots"), [(2048, 31), (3072, 46)])
def test_a_narrow_profile_packs_twice_as_many(bits, slots, keys, benchmark):
    """One limb, a declared scale: the compact profile, for bandwidth studies."""
    public = keys[bits].public
    packing = Packing(bits, VALUES, 1, len(ciphers.SITES))
    vector = np.random.default_rng(2).integers(0, 2**64, (VALUES, 1), dtype=np.uint64)
    benchmark(packing.pack, vector)
    per_value = packing.plaintexts * public.ciphertext_bytes / VALUES
    print(f"\n{bits} bits, one limb: {per_value:.1f} bytes per value, {packing.slots} in a ciphertext")
    assert packing.slots == slots
    assert per_value <= NARROW_BYTES_BAR


def measure_knowledge(bits, obfuscation, key):
    """CPU seconds of one payload, all in all: encrypting, proving, verifying, multiplying."""
    public, values = key.public, PROVED_VALUES // (50 if obfuscation == "textbook" else 1)
    count = Packing(bits, values, 2, len(ciphers.SITES)).plaintexts
    plaintexts = [big_numbers.number(secrets.randbelow(int(public.n))) for _ in range(count)]
    stock = Obfuscators(public, obfuscation, secrets.token_bytes)
    stock.take(1)  # the tables
    made, taken = seconds(lambda _: stock.take(count), times=1)
    hidden, ciphertexts = seconds(
        lambda _: [public.nude(m) * w % public.n_squared for m, w in zip(plaintexts, taken.values, strict=True)]
    )

    def stated(place):
        return Statement(public, bytes([place]), ciphertexts)

    proved, proof = seconds(lambda at: prove(stated(at), plaintexts, taken.root, bytes(32)))
    verified, _ = seconds(lambda _: verify(stated(2), proof))
    multiplied, _ = seconds(lambda _: product([ciphertexts, ciphertexts], public.n_squared))
    whole = {
        "obfuscators": made,
        "encrypt, those ahead": hidden,
        "prove": proved,
        "verify one site's": verified,
        "multiply in one site's": multiplied / 2,
    }
    return {name: round(value, 3) for name, value in whole.items()}, values, len(proof)


@pytest.mark.parametrize(
    ("bits", "obfuscation"), [(2048, "djn"), (2048, "short"), (2048, "textbook"), (3072, "djn"), (3072, "short")]
)
def test_proofs_of_knowledge_beside_encryption(bits, obfuscation, keys, benchmark):
    found, values, size = benchmark.pedantic(measure_knowledge, (bits, obfuscation, keys[bits]), rounds=1)
    benchmark.extra_info.update({**found, "bytes": size})
    print(f"\n{bits} bits, {obfuscation}, {values:,} values: {size} bytes of proof; CPU seconds: {found}")
    assert size == 32 + bits // 4
    assert found["prove"] < found["obfuscators"] / 5
    assert found["verify one site's"] < found["obfuscators"] * (2 if obfuscation == "short" else 1)


@pytest.mark.parametrize("bits", [2048, 3072])
def test_threshold_decryption_beside_the_key_holders(bits, keys, benchmark):
    """CPU per ciphertext: a site's part, checking it, combining; and sharing over n squared as Damgard and Jurik do."""
    shared, shares = deal(next(filter(None, search_safe_key(bits, secrets.token_bytes))), 3, 4, secrets.token_bytes)
    public = shared.public
    hiding = Obfuscators(public, "djn", secrets.token_bytes).take(THRESHOLD_CIPHERTEXTS).values
    ciphertexts = [public.nude(secrets.randbelow(int(public.n))) * w % public.n_squared for w in hiding]
    holders = [KeyShare(shared, at, share) for at, share in enumerate(shares, 1)]
    alone, _ = seconds(lambda _: keys[bits].decrypt([c % keys[bits].public.n_squared for c in ciphertexts]))
    part, (partials, proof) = seconds(lambda _: holders[0].open(ciphertexts, b""))
    checked, _ = seconds(lambda _: shared.verify(1, b"", ciphertexts, partials, proof))
    opened = {at: holder.open(ciphertexts, b"")[0] for at, holder in enumerate(holders[:3], 1)}
    combined, _ = seconds(lambda _: shared.combine(ciphertexts, opened))
    wide = secrets.randbits(2 * bits)
    over_square, _ = seconds(lambda _: big_numbers.powers(ciphertexts[:5], wide, public.n_squared))
    each = {
        name: round(duration / THRESHOLD_CIPHERTEXTS * 1e3, 2)
        for name, duration in {"key-holder, CRT": alone, "site": part, "check": checked, "combine": combined}.items()
    } | {"site, over n squared": round(over_square / 5 * 1e3, 2)}
    print(f"\n{bits} bits, threshold 3 of 4, CPU milliseconds per ciphertext: {each}")
    benchmark.extra_info.update(each)
    benchmark.pedantic(shared.combine, (ciphertexts, opened), rounds=1)
    assert each["site"] < each["site, over n squared"] / 3


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_decryption_spread_over_two(backend, keys, benchmark):
    """Wall clock of one list of powers on two threads, and on two processes that joblib keeps warm."""
    private = keys[2048]
    ciphertexts = [private.public.nude(i) * 7 % private.public.n_squared for i in range(200)]
    halves = [[int(c) for c in ciphertexts[:100]], [int(c) for c in ciphertexts[100:]]]
    p, q = int(private._halves[0][0]), int(private._halves[1][0])
    if backend == "threads":
        benchmark.pedantic(private.decrypt, (ciphertexts, 2), rounds=3, warmup_rounds=1)
        return
    with Parallel(n_jobs=2) as pool:
        benchmark.pedantic(
            lambda: pool(delayed(_decrypt_apart)(p, q, half) for half in halves), rounds=3, warmup_rounds=1
        )


def _decrypt_apart(p, q, ciphertexts):
    return [int(value) for value in PrivateKey(p, q).decrypt([big_numbers.number(c) for c in ciphertexts])]
