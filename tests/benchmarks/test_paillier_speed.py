"""Packed Paillier beside phe's one float per ciphertext: CPU time per value, in one process and one run.

    pytest tests/benchmarks/test_paillier_speed.py --benchmark-only -s

Fixed-base tables are made before the clock starts: a site makes them once per session.
"""

import math
import secrets
import time

import numpy as np
import pytest
from joblib import Parallel, delayed

from protocols import run
from protocols.encryption.packing import Packing
from protocols.encryption.paillier_messages import product
from protocols.fixed_point import Field, Layout
from protocols.primitives import ring
from protocols.primitives.paillier import big_numbers
from protocols.primitives.paillier.obfuscators import Obfuscators
from protocols.primitives.paillier.paillier_keys import PrivateKey, make_key
from protocols.primitives.paillier.plaintext_knowledge import Statement, prove, verify
from protocols.primitives.paillier.threshold_keys import KeyShare, deal, make_safe_key
from protocols.secure_sum import KEY_HOLDER, Context
from protocols.sessions.settings import Settings

NAMES = ("ann", "bob", "cem")
VALUES, ENCRYPTED_VALUES = 690, 6900
NAIVE_VALUES = 12
ENCRYPTION_BAR, AHEAD_BAR, DECRYPTION_BAR = 250, 1000, 25
DECRYPTION_REPEATS = 20
BYTES_BAR, NARROW_BYTES_BAR = 40, 20
THRESHOLD_CIPHERTEXTS = 100
SUBGROUP_CIPHERTEXTS = 60
PROVED_VALUES = 120_000


def seconds(verb, clock=time.process_time, times=3):
    """The shortest of a few durations, so that a busy machine does not decide, and the last result."""
    durations = []
    for attempt in range(times):
        start = clock()
        result = verb(attempt)
        durations.append(clock() - start)
    return min(durations), result


def seated(bits, obfuscation, key):
    """Sites, key-holder and collector who have met."""
    table = run.sit_down("paillier", NAMES, Settings(key_bits=bits, obfuscation=obfuscation))
    table.parties[KEY_HOLDER]._private = key
    run.meet(table)
    return {name: table.parties[name] for name in NAMES}, table.parties[KEY_HOLDER], table.collector


def mandate(parties, collector, vectors, context):
    """What the key-holder is asked, once all sites have signed."""
    payloads = {name: party.protect(vectors[name], context) for name, party in parties.items()}
    pending = collector.combine(payloads, context)
    consents = {name: parties[name].assist(request, context) for name, request in pending.requests.items()}
    return collector.open(pending, consents)


def measure(bits, obfuscation, key):
    parties, _, collector = seated(bits, obfuscation, key)
    layout = Layout((Field("x", (ENCRYPTED_VALUES,), 1e6),))
    numbers = np.random.default_rng(1).normal(scale=1e3, size=ENCRYPTED_VALUES)
    naive_values = numbers[:NAIVE_VALUES].tolist()
    public, _ = key.phe_pair()
    naive_encrypt, _ = seconds(lambda _: [public.encrypt(value) for value in naive_values])

    def context(number):
        return Context(collector.session, number, 0, NAMES, layout.digest, ENCRYPTED_VALUES)

    ann = parties["ann"]
    ann.precompute(1)
    ann.protect(layout.encode({"x": numbers}), context(100))  # tables and caches are warm now
    inline, _ = seconds(lambda i: ann.protect(layout.encode({"x": numbers}), context(i)))
    ann.precompute(ENCRYPTED_VALUES * 4)
    ahead, payload = seconds(lambda i: ann.protect(layout.encode({"x": numbers}), context(10 + i)))

    chosen = context(12)
    payloads = {"ann": payload} | {
        name: parties[name].protect(layout.encode({"x": numbers}), chosen) for name in NAMES[1:]
    }
    combined, _ = seconds(lambda _: collector.combine(payloads, chosen))
    per_value = naive_encrypt / NAIVE_VALUES
    return {
        "inline": per_value / (inline / ENCRYPTED_VALUES),
        "ahead": per_value / (ahead / ENCRYPTED_VALUES),
        "bytes": (len(payload) - 64) / ENCRYPTED_VALUES,
        "us": {
            "phe encrypt": per_value * 1e6,
            "inline": inline / ENCRYPTED_VALUES * 1e6,
            "ahead": ahead / ENCRYPTED_VALUES * 1e6,
            "combine": combined / ENCRYPTED_VALUES / len(NAMES) * 1e6,
        },
    }


@pytest.fixture(scope="module")
def keys():
    return {bits: make_key(bits, secrets.token_bytes) for bits in (2048, 3072)}


@pytest.mark.parametrize(("bits", "obfuscation"), [(3072, "djn"), (3072, "short"), (2048, "djn"), (2048, "short")])
def test_packed_paillier_leaves_one_float_per_ciphertext_behind(bits, obfuscation, keys, benchmark):
    found = benchmark.pedantic(measure, (bits, obfuscation, keys[bits]), rounds=1)
    benchmark.extra_info.update(found)
    print(f"\n{bits} bits, {obfuscation}: times faster per value than phe: {found['inline']:.0f} inline, "
          f"{found['ahead']:.0f} ahead; {found['bytes']:.1f} bytes per value")  # fmt: skip
    print("  CPU microseconds per value:", {name: round(value, 1) for name, value in found["us"].items()})
    assert found["bytes"] <= BYTES_BAR
    # At 2048 bits fewer values share a ciphertext, and phe is faster: the inline bar is for the default length.
    assert found["inline"] >= (ENCRYPTION_BAR if bits == 3072 else 0.7 * ENCRYPTION_BAR)
    assert found["ahead"] >= AHEAD_BAR


def measure_decryption(bits, limbs, key):
    """How many times less a value costs the key-holder than phe, by the clock on the wall, on one thread and on two."""
    parties, holder, collector = seated(bits, "short", key)
    vectors = {name: ring.expand(bytes([at]) * 32, VALUES, limbs) for at, name in enumerate(NAMES)}
    context = Context(collector.session, 0, 0, NAMES, bytes(32), VALUES, limbs)
    mandated = mandate(parties, collector, vectors, context)
    public, private = key.phe_pair()
    naive = [public.encrypt(float(value)) for value in range(NAIVE_VALUES)]
    best = {}
    # In turn, so that a busy moment of the machine meets all of them.
    for _ in range(DECRYPTION_REPEATS):
        for what in ("phe", 1, 2):
            start = time.perf_counter()
            if what == "phe":
                opened = [private.decrypt(ciphertext) for ciphertext in naive]
            else:
                holder.n_jobs = what
                reply = holder.assist(mandated.requests[KEY_HOLDER], context)
            best[what] = min(time.perf_counter() - start, best.get(what, math.inf))
    assert opened == list(range(NAIVE_VALUES))
    total = collector.open(mandated, {KEY_HOLDER: reply})
    assert np.array_equal(total.vector, ring.total_of(vectors.values(), VALUES, limbs))
    return {threads: (best["phe"] / NAIVE_VALUES) / (best[threads] / VALUES) for threads in (1, 2)}


@pytest.mark.parametrize(("bits", "limbs", "slots"), [(2048, 2, 15), (3072, 2, 23), (2048, 1, 31), (3072, 1, 46)])
def test_decryption_beside_phe(bits, limbs, slots, keys, benchmark):
    found = benchmark.pedantic(measure_decryption, (bits, limbs, keys[bits]), rounds=1)
    benchmark.extra_info.update({str(threads): ratio for threads, ratio in found.items()})
    profile = "exact" if limbs == 2 else "narrow"
    print(f"\n{bits} bits, {profile} slots: decryption {found[1]:.1f} times faster per value than phe on one thread, "
          f"{found[2]:.1f} on two; the bar is {DECRYPTION_BAR}")  # fmt: skip
    # A ciphertext costs the key-holder the two half-length powers that phe pays for each value: a thread gains the
    # number of slots and no more. What the second adds depends on a core that is really free: printed, not asserted.
    assert max(found.values()) >= 0.7 * slots


def measure_subgroup(bits):
    """How many times less CPU a subgroup key takes than a whole one, for what hides and for what opens."""
    best = {}
    for obfuscation in ("djn", "subgroup"):
        key = make_key(bits, secrets.token_bytes, subgroup=obfuscation == "subgroup")
        stock = Obfuscators(key.public, obfuscation, secrets.token_bytes)
        stock.take(1)  # the tables
        hidden, taken = seconds(lambda _, stock=stock: stock.take(SUBGROUP_CIPHERTEXTS))
        opened, numbers = seconds(lambda _, key=key, taken=taken: key.decrypt(taken.values))
        assert numbers == [0] * SUBGROUP_CIPHERTEXTS
        best[obfuscation] = (hidden, opened)
    return [whole / small for whole, small in zip(best["djn"], best["subgroup"], strict=True)]


@pytest.mark.parametrize("bits", [2048, 3072])
def test_a_subgroup_key_beside_a_whole_one(bits, benchmark):
    hiding, opening = benchmark.pedantic(measure_subgroup, (bits,), rounds=1)
    benchmark.extra_info.update(hiding=hiding, opening=opening)
    print(f"\n{bits} bits: obfuscators {hiding:.1f} times cheaper, decryption {opening:.1f} times")
    # Exponents of 576 for 1024 and of 225 for 1024 bits, of 640 for 1536 and of 257 for 1536 at 3072.
    assert hiding > 1.4
    assert opening > (3.5 if bits == 2048 else 4.5)


@pytest.mark.parametrize(("bits", "slots"), [(2048, 31), (3072, 46)])
def test_a_narrow_profile_packs_twice_as_many(bits, slots, keys, benchmark):
    """One limb, a declared scale: the compact profile, for bandwidth studies."""
    public = keys[bits].public
    packing = Packing(bits, VALUES, 1, len(NAMES))
    vector = np.random.default_rng(2).integers(0, 2**64, (VALUES, 1), dtype=np.uint64)
    benchmark(packing.pack, vector)
    per_value = packing.plaintexts * public.ciphertext_bytes / VALUES
    print(f"\n{bits} bits, one limb: {per_value:.1f} bytes per value, {packing.slots} in a ciphertext")
    assert packing.slots == slots
    assert per_value <= NARROW_BYTES_BAR


def measure_knowledge(bits, obfuscation, key):
    """CPU seconds of one payload, all in all: encrypting, proving, verifying, multiplying."""
    public, values = key.public, PROVED_VALUES // (50 if obfuscation == "textbook" else 1)
    count = Packing(bits, values, 2, len(NAMES)).plaintexts
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
    shared, shares = deal(make_safe_key(bits, secrets.token_bytes), 3, 4, secrets.token_bytes)
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
