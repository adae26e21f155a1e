"""An opened total as it travels down to the parties: as few bytes for each integer as all of them need.

Promises: one total has one form, and no other bytes are read as it. Refuses to know: what the integers mean.

The form is: the check values as the ring has them, for they are wider than what they check; then of every other
integer its lowest w bytes, little-endian, in two's complement; then w, in one byte. These w bytes stand in pieces of 8,
4, 2 and 1, largest first: a piece of all integers, then the next of all, so that both ends copy columns of words.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from protocols.primitives import ring
from protocols.secure_sum import AGGREGATOR, Context, PeerError, Vector
from protocols.verified import CHECK_VALUES


def pack_total(vector: Vector) -> bytes:
    """A total with its check values, ``(values, limbs)``, as bytes."""
    checks = CHECK_VALUES[vector.shape[1]]
    body = np.ascontiguousarray(vector[:-checks], dtype="<u8").view(np.int64)
    width = _width(body)
    pieces = (body.view(f"<u{size}")[:, column].tobytes() for size, column in _pieces(width))
    return b"".join([ring.to_bytes(vector[-checks:]), *pieces, bytes([width])])


def unpack_total(data: bytes, context: Context) -> Vector:
    """The total of a context, ``(context.values, context.limbs)``. Raises `PeerError` for bytes of any other form."""
    limbs, checks = context.limbs, CHECK_VALUES[context.limbs]
    values, at, width = context.values - checks, 8 * limbs * checks, data[-1] if data else 0
    if values < 0 or not 1 <= width <= 8 * limbs or len(data) != at + width * values + 1:
        raise PeerError(AGGREGATOR, "tells a total of another length than was asked for")
    out = np.empty((context.values, limbs), dtype="<u8")
    out[values:] = ring.from_bytes(data[:at], checks, limbs)
    body: NDArray[np.int64] = out[:values].view("<i8")
    for size, column in _pieces(width):
        body.view(f"<u{size}")[:, column] = np.frombuffer(data, f"<u{size}", values, at)
        at += size * values
    top, above = (width - 1) // 8, np.int64(-8 * width % 64)
    body[:, top] = (body[:, top] << above) >> above
    body[:, top + 1 :] = body[:, top : top + 1] >> 63
    if _width(body) != width:
        raise PeerError(AGGREGATOR, "tells a total in more bytes than it needs")
    return out.astype(np.uint64, copy=False)


def _pieces(width: int) -> Iterator[tuple[int, int]]:
    """Into what so many bytes are cut: the size of each piece, and where it stands, counted in pieces of its size."""
    at = 0
    while at < width:
        size = next(size for size in (8, 4, 2, 1) if size <= width - at)
        yield size, at // size
        at += size


def _width(body: NDArray[np.int64]) -> int:
    """How many bytes every integer fits into with its sign: at least one."""
    low, top = body[:, 0], body[:, -1]
    bits = _bits(top)
    if body.shape[1] == 2:
        if bits or (top != low >> 63).any():
            bits += 64
        else:
            bits = _bits(low)
    return bits // 8 + 1


def _bits(numbers: NDArray[np.int64]) -> int:
    """How many bits the widest of some numbers takes, besides its sign."""
    return max(int(numbers.max()), ~int(numbers.min())).bit_length() if numbers.size else 0
