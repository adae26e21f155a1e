"""Arithmetic in Z_2^64 and Z_2^128 on arrays, and keystreams as ring elements.

Promises: exact wrap-around arithmetic, lowest limb first, no floating point.
Refuses to know: what the elements stand for and who shares which key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.primitives import counted_stream
from protocols.primitives.keystream import MOST_BYTES, Keystream, Prg, keystream, side_by_side

Vector: TypeAlias = NDArray[np.uint64]
Signed: TypeAlias = tuple[bytes, bool]
"""A keystream's key, and whether it is subtracted."""
Mask: TypeAlias = Callable[[Vector], None]
"""Masks the next piece of a vector."""

CHUNK_BYTES = MOST_BYTES
"""Keystream is made and used in pieces that stay in the cache."""

COMPILED_FROM = 4096
"""Values of two limbs from which a compiled pass pays; below it nothing is compiled or loaded."""

_MANY, _SHORT = 12, 1 << 13
"""From so many masks of at most so many bytes it pays to add all of them up at once."""

_TOGETHER, _APART = 8, 8
"""So many long masks are added in one pass, from rows so many words longer than a piece, lest one evicts another."""

_MOST_OWED = 100
"""So many carries are counted in a signed byte before they are settled."""


def zeros(values: int, limbs: int) -> Vector:
    """The neutral element of the sum, ``(values, limbs)``."""
    return np.zeros((values, limbs), dtype=np.uint64)


def add_into(total: Vector, addend: Vector) -> None:
    """``total += addend`` modulo 2^(64 limbs), in place; the two are different arrays."""
    if _compiles(total) and addend.flags.c_contiguous:
        from protocols.primitives import compiled_masks

        compiled_masks.add_into(total.reshape(-1), addend.reshape(-1))
        return
    for piece in _pieces(len(total), total.shape[1]):
        _add_piece(total[piece], addend[piece])


def subtract_into(total: Vector, subtrahend: Vector) -> None:
    """``total -= subtrahend`` modulo 2^(64 limbs), in place; the two are different arrays."""
    for piece in _pieces(len(total), total.shape[1]):
        _subtract_piece(total[piece], subtrahend[piece])


def total_of(vectors: Iterable[Vector], values: int, limbs: int) -> Vector:
    """The ring sum of vectors of one shape."""
    total = zeros(values, limbs)
    for vector in vectors:
        add_into(total, vector)
    return total


def expand(key: bytes, values: int, limbs: int, prg: Prg = "aes-256-ctr") -> Vector:
    """A key's keystream as ring elements: little-endian limbs."""
    out = np.empty((values, limbs), dtype="<u8")
    stream = keystream(key, prg, out.nbytes)
    for piece in _pieces(values, limbs):
        _fill(stream, out[piece])
    return out.astype(np.uint64, copy=False)


def mask_into(total: Vector, plus: Iterable[bytes], minus: Iterable[bytes], prg: Prg = "aes-256-ctr") -> None:
    """``total += expand(each of plus) - expand(each of minus)``, in place.

    The same as expanding, adding and subtracting one after the other, but no keystream is ever
    whole in memory: each piece of it is made, used while it is in the cache, and written over. Of many short ones
    all are made, and added up at once.
    """
    plus, minus = list(plus), list(minus)
    if len(plus) + len(minus) >= _MANY and 0 < total.nbytes <= _SHORT:
        _mask_at_once(total, plus, minus, prg)
        return
    keys = [(key, False) for key in plus] + [(key, True) for key in minus]
    values, limbs = total.shape
    if not _compiles(total):
        mask = _plain_masks(keys, prg, min(values, CHUNK_BYTES // (8 * limbs)), limbs)
    elif counted_stream.pays(prg, total.nbytes):
        mask = _counted_masks(keys)
    else:
        mask = _compiled_masks(keys, prg, total.nbytes)
    for piece in _pieces(values, limbs):
        mask(total[piece])


def warm_up() -> None:
    """Compile the passes over long vectors, or load them from the cache."""
    total = zeros(COMPILED_FROM, 2)
    add_into(total, from_bytes(to_bytes(total), COMPILED_FROM, 2))
    add_into(total, total.copy())
    for values in (COMPILED_FROM, CHUNK_BYTES // 16):
        mask_into(zeros(values, 2), [bytes(32)], [bytes(32)])


def to_bytes(vector: Vector) -> bytes:
    """Little-endian limbs, lowest first: 8 * values * limbs bytes."""
    return view(vector).tobytes()


def view(vector: Vector) -> memoryview:
    """What `to_bytes` gives, without the copy: it changes with the vector."""
    return np.ascontiguousarray(vector, dtype="<u8").reshape(-1).view(np.uint8).data


def over(buffer: memoryview, values: int, limbs: int) -> Vector:
    """The vector that stands at the beginning of a buffer, to be written in place; little-endian wherever it runs."""
    return np.frombuffer(buffer, dtype="<u8", count=values * limbs).reshape(values, limbs)


def from_bytes(data: bytes | memoryview, values: int, limbs: int) -> Vector:
    """Read-only view of `to_bytes` output. Raises `ValueError` on any other length."""
    if len(data) != 8 * values * limbs:
        raise ValueError(f"{len(data)} bytes can't be {values} ring elements of {limbs} limbs")
    return np.frombuffer(data, dtype="<u8").reshape(values, limbs).astype(np.uint64, copy=False)


def _compiles(total: Vector) -> bool:
    """Whether a vector is long enough, and laid out, for the compiled passes."""
    return total.shape[1] == 2 and len(total) >= COMPILED_FROM and total.flags.c_contiguous


def _pieces(values: int, limbs: int) -> Iterator[slice]:
    """Consecutive slices of values, each of at most `CHUNK_BYTES`."""
    step = CHUNK_BYTES // (8 * limbs)
    return (slice(start, min(start + step, values)) for start in range(0, values, step))


def _add_piece(total: Vector, addend: Vector) -> None:
    # One pass over both limbs at once, one comparison that finds the carries, one pass to hand them on:
    # the first two run over contiguous memory, which is faster than treating the limbs one by one.
    np.add(total, addend, out=total)
    if total.shape[1] == 2:
        carry = np.less(total, addend)
        np.add(total[:, 1], carry[:, 0], out=total[:, 1])


def _subtract_piece(total: Vector, subtrahend: Vector) -> None:
    if total.shape[1] == 2:
        borrow = np.less(total, subtrahend)
        np.subtract(total, subtrahend, out=total)
        np.subtract(total[:, 1], borrow[:, 0], out=total[:, 1])
    else:
        np.subtract(total, subtrahend, out=total)


def _mask_at_once(total: Vector, plus: list[bytes], minus: list[bytes], prg: Prg) -> None:
    """Words of 32 bits are added up in 64 bits, which hold as many as there can be, and carried at the end."""
    words, together = np.ascontiguousarray(total, dtype="<u8").view("<u4").astype(np.int64), CHUNK_BYTES // total.nbytes
    for keys, add in ((plus, np.add), (minus, np.subtract)):
        for first in range(0, len(keys), together):
            some = keys[first : first + together]
            made = np.empty((len(some), *total.shape), dtype="<u8")
            side_by_side(some, prg, view(made))
            add(words, made.view("<u4").sum(axis=0, dtype=np.uint64).view(np.int64), out=words)
    for place in range(1, words.shape[1]):
        words[:, place] += words[:, place - 1] >> 32
    total[:] = words.astype("<u4").view("<u8")


def _plain_masks(keys: list[Signed], prg: Prg, longest: int, limbs: int) -> Mask:
    """By NumPy, for pieces of up to ``longest`` values: carries are counted, and settled once at the end.

    Handing on each carry at once would walk over every second word each time; counting them in bytes
    and adding the count to the high limbs is the same sum, and a third faster.
    """
    streams = [(keystream(key, prg), subtracting) for key, subtracting in keys]
    made = np.empty((longest, limbs), dtype="<u8")
    carries, debts = np.empty(made.shape, dtype=np.bool_), np.empty(made.shape, dtype=np.int8)

    def mask(part: Vector) -> None:
        stretch, carry, owed = made[: len(part)], carries[: len(part)], debts[: len(part)]
        there = view(stretch)
        for first in range(0, len(streams), _MOST_OWED):
            owed[:] = 0
            for stream, subtracting in streams[first : first + _MOST_OWED]:
                stream.fill(there)
                if subtracting:
                    np.less(part, stretch, out=carry)
                    np.subtract(part, stretch, out=part)
                    np.subtract(owed, carry.view(np.int8), out=owed)
                else:
                    np.add(part, stretch, out=part)
                    np.less(part, stretch, out=carry)
                    np.add(owed, carry.view(np.int8), out=owed)
            if limbs == 2:
                np.add(part[:, 1], owed[:, 0].astype(np.int64).view(np.uint64), out=part[:, 1])

    return mask


def _compiled_masks(keys: list[Signed], prg: Prg, length: int) -> Mask:
    """For a long vector, of so many bytes: stretches of several keystreams are added with their carries in one pass."""
    from protocols.primitives import compiled_masks

    made = np.empty((min(len(keys), _TOGETHER), CHUNK_BYTES // 8 + _APART), dtype="<u8")
    rows = [view(row) for row in made]
    passes = []
    for first in range(0, len(keys), _TOGETHER):
        some = keys[first : first + _TOGETHER]
        added = sum(not subtracting for _, subtracting in some)
        passes.append(([keystream(key, prg, length) for key, _ in some], made[:added], made[added : len(some)]))

    def mask(part: Vector) -> None:
        flat, size = part.reshape(-1), part.nbytes
        for streams, plus, minus in passes:
            for stream, row in zip(streams, rows, strict=False):
                stream.fill(row[:size])
            compiled_masks.mask_into(flat, plus, minus)

    return mask


def _counted_masks(keys: list[Signed]) -> Mask:
    """For a very long one: the pass that adds a stretch takes its counters off."""
    from protocols.primitives import compiled_masks

    streams = [(counted_stream.counted_stream(key), subtracting) for key, subtracting in keys]
    made, counters = np.empty(CHUNK_BYTES // 8, dtype="<u8"), counted_stream.Counters()

    def mask(part: Vector) -> None:
        flat, stretch = part.reshape(-1), made[: part.size]
        there, text, marks = view(stretch), *counters.next(len(part))
        for stream, subtracting in streams:
            stream.update_into(text, there)
            if subtracting:
                compiled_masks.subtract_marked_into(flat, stretch, marks)
            else:
                compiled_masks.add_marked_into(flat, stretch, marks)

    return mask


def _fill(stream: Keystream, stretch: Vector) -> None:
    """Overwrite contiguous little-endian elements with the next keystream bytes."""
    if stretch.size:
        stream.fill(view(stretch))
