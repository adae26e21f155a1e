"""Packed Paillier beside phe's one float per ciphertext, per value."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import count
from typing import Any

import numpy as np

from experiments.groundwork.record import Row
from experiments.speed.turns import Seconds, alone, beside, in_turn
from protocols import run
from protocols.encryption.packing import Packing
from protocols.fixed_point import Field, Layout
from protocols.primitives import ring
from protocols.primitives.paillier.obfuscators import Obfuscators
from protocols.primitives.paillier.paillier_keys import PrivateKey, make_key
from protocols.secure_sum import KEY_HOLDER, Context
from protocols.sessions.settings import Obfuscation, Settings

SITES = ("ann", "bob", "cem")
PHE, INLINE, AHEAD, COMBINE = "phe", "inline", "ahead", "combine"


@cache
def a_key(bits: int) -> PrivateKey:
    """One key of that length, for all that is measured with it."""
    return make_key(bits, secrets.token_bytes)


def seated(bits: int, obfuscation: Obfuscation, key: PrivateKey) -> tuple[dict[str, Any], Any, Any]:
    """Sites, key-holder and collector who have met."""
    table = run.sit_down("paillier", SITES, Settings(key_bits=bits, obfuscation=obfuscation))
    holder: Any = table.parties[KEY_HOLDER]
    holder._private = key  # noqa: SLF001 - so that no key is made anew for every measurement
    run.meet(table)
    return {name: table.parties[name] for name in SITES}, holder, table.collector


def mandate(parties: Mapping[str, Any], collector: Any, vectors: Mapping[str, ring.Vector], context: Context) -> Any:
    """What the key-holder is asked, once all sites have signed."""
    payloads = {name: party.protect(vectors[name], context) for name, party in parties.items()}
    pending = collector.combine(payloads, context)
    consents = {name: parties[name].assist(request, context) for name, request in pending.requests.items()}
    return collector.open(pending, consents)


def encrypting(bits: int, obfuscation: Obfuscation, repeats: int, *, values: int, naive: int) -> tuple[Seconds, int]:
    """CPU seconds a value, encoding included, of so many values and of so many by phe; and the bytes of the payload.

    Inline makes what hides on the spot, ahead takes what was made before the clock starts; combine adds a site's.
    Fixed-base tables are there before: a site makes them once per session.
    """
    key = a_key(bits)
    parties, _, collector = seated(bits, obfuscation, key)
    layout = Layout((Field("x", (values,), 1e6),))
    floats = np.random.default_rng(1).normal(scale=1e3, size=values)
    singles, (public, _) = floats[:naive].tolist(), key.phe_pair()
    numbered = count()

    def context() -> Context:
        return Context(collector.session, next(numbered), 0, SITES, layout.digest, values)

    def protect(name: str, where: Context) -> bytes:
        payload: bytes = parties[name].protect(layout.encode({"x": floats}), where)
        return payload

    chosen = context()
    payloads = {name: protect(name, chosen) for name in SITES}
    parties["bob"].precompute(values * (repeats + 2))
    spent = in_turn(
        {
            PHE: lambda: [public.encrypt(value) for value in singles],
            INLINE: lambda: protect("ann", context()),
            AHEAD: lambda: protect("bob", context()),
            COMBINE: lambda: collector.combine(payloads, chosen),
        },
        repeats,
    )
    amounts = {PHE: naive, INLINE: values, AHEAD: values, COMBINE: values * len(SITES)}
    return {name: [each / amounts[name] for each in seconds] for name, seconds in spent.items()}, len(payloads["ann"])


def decrypting(bits: int, limbs: int, repeats: int, *, values: int, naive: int, threads: int) -> Seconds:
    """Seconds a value at the key-holder, on so many threads, and by phe on one.

    Of the processor where there is one thread; else by the clock on the wall. Raises `RuntimeError` for a wrong number.
    """
    key = a_key(bits)
    parties, holder, collector = seated(bits, "short", key)
    vectors = {name: ring.expand(bytes([at]) * 32, values, limbs) for at, name in enumerate(SITES)}
    context = Context(collector.session, 0, 0, SITES, bytes(32), values, limbs)
    mandated = mandate(parties, collector, vectors, context)
    public, private = key.phe_pair()
    singles = [public.encrypt(float(value)) for value in range(naive)]
    holder.n_jobs = threads
    opened: dict[str, Any] = {}

    def by_phe() -> None:
        opened[PHE] = [private.decrypt(ciphertext) for ciphertext in singles]

    def by_holder() -> None:
        opened["holder"] = holder.assist(mandated.requests[KEY_HOLDER], context)

    clock = time.process_time if threads == 1 else time.perf_counter
    spent = in_turn({PHE: by_phe, "holder": by_holder}, repeats, clock)
    total = collector.open(mandated, {KEY_HOLDER: opened["holder"]})
    if opened[PHE] != list(range(naive)) or not np.array_equal(
        total.vector, ring.total_of(vectors.values(), values, limbs)
    ):
        raise RuntimeError("what was opened is not what was encrypted")
    return {
        PHE: [each / naive for each in spent[PHE]],
        "holder": [each / values for each in spent["holder"]],
    }


def by_subgroup(bits: int, repeats: int, *, ciphertexts: int) -> tuple[Seconds, Seconds]:
    """CPU seconds of what hides so many ciphertexts, and of what opens them, by kind of key."""
    hiding: dict[str, Callable[[], object]] = {}
    opening: dict[str, Callable[[], object]] = {}
    kinds: tuple[Obfuscation, ...] = ("djn", "subgroup")
    for kind in kinds:
        key = make_key(bits, secrets.token_bytes, subgroup=kind == "subgroup")
        stock = Obfuscators(key.public, kind, secrets.token_bytes)
        zeros = stock.take(ciphertexts).values
        if key.decrypt(zeros) != [0] * ciphertexts:
            raise RuntimeError("what hides is no encryption of zero")
        hiding[kind] = lambda stock=stock: stock.take(ciphertexts)  # type: ignore[misc]
        opening[kind] = lambda key=key, zeros=zeros: key.decrypt(zeros)  # type: ignore[misc]
    return in_turn(hiding, repeats), in_turn(opening, repeats)


def bytes_a_value(bits: int, limbs: int, values: int) -> float:
    """Of ciphertext, in a sum of three sites."""
    packing = Packing(bits, values, limbs, len(SITES))
    return packing.plaintexts * a_key(bits).public.ciphertext_bytes / values


def of_encryption(bits: int, sizes: Any, repeats: int) -> Iterator[Row]:
    """Inline by the usual obfuscators, and ahead by short exponents."""
    ways: tuple[tuple[Obfuscation, str], ...] = (("djn", INLINE), ("short", AHEAD))
    for obfuscation, way in ways:
        spent, _ = encrypting(bits, obfuscation, repeats, values=sizes["encrypted"], naive=sizes["naive"])
        yield from beside(f"encryption, {way}", bits, spent[way], spent[PHE])


def of_decryption(bits: int, sizes: Any, repeats: int) -> Iterator[Row]:
    """Exact slots on two threads and on one, and one-limb slots on one."""
    for line, limbs, threads in (
        ("decryption, two threads", 2, 2),
        ("decryption", 2, 1),
        ("decryption, one limb", 1, 1),
    ):
        spent = decrypting(bits, limbs, repeats, values=sizes["values"], naive=sizes["naive"], threads=threads)
        yield from beside(line, bits, spent["holder"], spent[PHE])


def of_subgroup(bits: int, sizes: Any, repeats: int) -> Iterator[Row]:
    """A subgroup key beside a whole one."""
    hiding, opening = by_subgroup(bits, repeats, ciphertexts=sizes["ciphertexts"])
    yield from beside("subgroup decryption", bits, opening["subgroup"], opening["djn"])
    yield from beside("subgroup obfuscators", bits, hiding["subgroup"], hiding["djn"])


def of_bytes(bits: int, values: int) -> Iterator[Row]:
    """Of ciphertext a value, beside the eight of a float64."""
    for case, limbs in (("exact", 2), ("one limb", 1)):
        yield from alone("ciphertext bytes", case, bytes_a_value(bits, limbs, values), 8.0)
