"""What hiding a vector costs: codec, masks, check values, digests, and a whole late round of few values."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import patch

import numpy as np

from experiments.groundwork.record import Row
from experiments.speed.turns import Candidates, alone, beside, in_turn
from protocols import fixed_point, run
from protocols.fixed_point import Field, Layout
from protocols.primitives import compiled_codec, counted_stream, keys, ring
from protocols.primitives.digests import long_digest
from protocols.primitives.keystream import keystream
from protocols.secure_sum import Context
from protocols.sessions import session
from protocols.sessions.settings import Settings
from protocols.totals import pack_total, unpack_total
from protocols.verified import CHECK_VALUES, Checks

SITES, SEED = ("site-1", "site-2", "site-3"), bytes(range(32))
SHA256, FILL, ENCODE = "SHA-256", "check values", "encode"


def numbers(values: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of both signs, over nine decades."""
    rng = np.random.default_rng(1)
    made: np.ndarray[Any, np.dtype[np.float64]] = rng.normal(size=values) * 10.0 ** rng.integers(-3, 6, size=values)
    return made


def of_codec(values: int, repeats: int) -> Iterator[Row]:
    """The compiled passes beside those of whole arrays, which give the same bits."""
    fixed_point.warm_up()
    floats = numbers(values)
    vector = fixed_point.encode(floats, fixed_point.FRACTION_BITS, 2)
    out = np.empty_like(vector)
    spent = in_turn(
        {
            "encoding": lambda: compiled_codec.encode_into(floats, fixed_point.FRACTION_BITS, out),
            "encoding, arrays": lambda: fixed_point.encode(floats, fixed_point.FRACTION_BITS, 2),
            "decoding": lambda: compiled_codec.decode(vector, fixed_point.FRACTION_BITS),
            "decoding, arrays": lambda: fixed_point.decode(vector, fixed_point.FRACTION_BITS),
        },
        repeats,
        calls=5,
    )
    if not np.array_equal(out, vector):
        raise RuntimeError("the two codecs differ")
    for way in ("encoding", "decoding"):
        yield from beside("codec", way, spent[way], spent[f"{way}, arrays"])


def _keys(parties: int) -> list[bytes]:
    return [bytes([number]) * 32 for number in range(parties)]


def masked(total: ring.Vector, parties: int) -> Callable[[], None]:
    """The masks of so many other parties, added."""
    return lambda: ring.mask_into(total, _keys(parties), [])


def keystreams(values: int, parties: int) -> Callable[[], None]:
    """Their raw keystream by CTR, two limbs a value, piece by piece: no mask is made of less."""
    buffer = bytearray(ring.CHUNK_BYTES)

    def made() -> None:
        for key in _keys(parties):
            stream, left = keystream(key, "aes-256-ctr", 16 * values), 16 * values
            while left:
                piece = min(left, len(buffer))
                stream.fill(memoryview(buffer)[:piece])
                left -= piece

    return made


def of_masks(values: int, repeats: int) -> Iterator[Row]:
    """Five neighbours' masks as they are made here, by CFB where that pays, beside CTR; and both in one keystream."""
    ring.warm_up()
    total = ring.zeros(values, 2)
    mask = masked(total, 5)

    def by_ctr() -> None:
        with patch.object(counted_stream, "pays", return_value=False):
            mask()

    spent = in_turn({"masks": mask, "by CTR": by_ctr}, repeats, calls=10)
    yield from beside("masks", f"{values:,}", spent["masks"], spent["by CTR"])


def of_keystream(values: int, repeats: int) -> Iterator[Row]:
    """Ten masks beside their raw keystream by CTR."""
    ring.warm_up()
    mask = masked(ring.expand(secrets.token_bytes(32), values, 2), 10)
    spent = in_turn({"masks": mask, "keystream": keystreams(values, 10)}, repeats, calls=3)
    yield from beside("keystream", "", spent["masks"], spent["keystream"])


def of_digests(values: int, repeats: int) -> Iterator[Row]:
    """A payload's digest beside SHA-256."""
    payload = ring.view(ring.expand(SEED, values, 2))
    spent = in_turn(
        {"digest": lambda: long_digest([payload]), SHA256: lambda: hashlib.sha256(payload).digest()}, repeats, calls=5
    )
    yield from beside("digest", "", spent["digest"], spent[SHA256])


def checked(values: int, limbs: int) -> tuple[Candidates, int]:
    """What is done with a vector and its check values; and how many bytes its total weighs as it travels down."""
    fixed_point.warm_up()
    room = CHECK_VALUES[limbs]
    layout = Layout((Field("numbers", (values,), 2.0**38, 64 if limbs == 2 else 20),), limbs)
    arrays = {"numbers": numbers(values)}
    where = Context(b"s" * 32, 0, 0, SITES, layout.digest, values + room, limbs)
    checks, vector = Checks(SEED, SITES[0]), layout.encode(arrays, room)
    total = ring.total_of((Checks(SEED, site).fill(vector.copy(), where) for site in SITES), values + room, limbs)
    packed = pack_total(total)
    return {
        ENCODE: lambda: layout.encode(arrays, room),
        FILL: lambda: checks.fill(vector, where),
        "verify": lambda: checks.verify(total, where, SITES),
        "pack": lambda: pack_total(total),
        "unpack": lambda: unpack_total(packed, where),
        SHA256: lambda: hashlib.sha256(ring.view(vector)).digest(),
    }, len(packed)


def of_checks(values: int, repeats: int) -> Iterator[Row]:
    """Check values of two limbs beside SHA-256 over the same bytes."""
    candidates, _ = checked(values, 2)
    spent = in_turn({name: candidates[name] for name in (FILL, SHA256)}, repeats, calls=10)
    yield from beside("check values", "", spent[FILL], spent[SHA256])


LATE = {"pairwise": True, "pairwise-lean": False}
"""Protocols of a late round, and whether parties see each other's signatures on who is present."""


def seated(protocol: str, sites: Sequence[str], *, consistency: bool, rounds: int) -> Callable[[ring.Vector], object]:
    """Parties that have met, and the verb of one sum after another of the same vector from all: every leg of it."""
    table = run.sit_down(protocol, sites, Settings(consistency=consistency, rounds_per_batch=rounds))
    run.meet(table)
    numbered = count()

    def add_up(vector: ring.Vector) -> object:
        context = run.context_of(table, vector, round_=next(numbered))
        return run.add_up(table, dict.fromkeys(sites, vector), context)

    return add_up


def of_late_rounds(values: int, repeats: int) -> Iterator[Row]:
    """A sum of few values over six parties, all legs: milliseconds, also without signatures; lean beside pairwise."""
    sites, calls = [f"site-{number}" for number in range(6)], 4
    vector = ring.expand(SEED, values, 2)
    rounds = calls * (2 * repeats + 2)
    tables = {
        protocol: seated(protocol, sites, consistency=consistency, rounds=rounds)
        for protocol, consistency in LATE.items()
    }
    sums = {protocol: partial(add_up, vector) for protocol, add_up in tables.items()}
    spent = in_turn(sums, repeats, calls=calls)
    yield from beside("late round, lean", "", spent["pairwise-lean"], spent["pairwise"])
    for protocol, add_up in sums.items():
        whole = 1e3 * float(np.median(spent[protocol]))
        signing = 1e3 * float(np.median([of_signatures(add_up) for _ in range(calls * repeats)]))
        yield from alone("late round", protocol, whole)
        yield from alone("late round, unsigned", protocol, whole - signing)


def of_signatures(call: Callable[[], object]) -> float:
    """CPU seconds that a call spends on making signatures and verifying them."""
    spent = 0.0

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*given: Any) -> Any:
            nonlocal spent
            start = time.process_time()
            try:
                return work(*given)
            finally:
                spent += time.process_time() - start

        return measured

    with (
        patch.object(keys.Identity, "sign", timed(keys.Identity.sign)),
        patch.object(session, "verifies", timed(keys.verifies)),
    ):
        call()
    return spent
