"""An opened total as it travels down to the parties: as few bytes for each integer as all of them need.

Promises: one total has one form, and no other bytes are read as it. Refuses to know: what the integers mean.

The form is one byte, the width w; then of every integer but the check values its lowest w bytes, little-endian, in
two's complement; then the check values as the ring has them, for they are wider than what they check.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.primitives import ring
from protocols.secure_sum import AGGREGATOR, Context, PeerError, Vector
from protocols.verified import CHECK_VALUES


def pack_total(vector: Vector) -> bytes:
    """A total with its check values, ``(values, limbs)``, as bytes."""
    body, tail = _split(vector)
    width = _width(body)
    return bytes([width]) + _bytes_of(body)[:, :width].tobytes() + ring.to_bytes(tail)


def unpack_total(data: bytes, context: Context) -> Vector:
    """The total of a context, ``(context.values, context.limbs)``. Raises `PeerError` for bytes of any other form."""
    values, whole = context.values - CHECK_VALUES[context.limbs], 8 * context.limbs
    width = data[0] if data else 0
    if values < 0 or not 1 <= width <= whole or len(data) != 1 + width * values + whole * CHECK_VALUES[context.limbs]:
        raise PeerError(AGGREGATOR, "tells a total of another length than was asked for")
    out = np.empty((context.values, whole), dtype=np.uint8)
    body, told = out[:values], np.frombuffer(data, dtype=np.uint8, offset=1)
    body[:, :width] = told[: width * values].reshape(values, width)
    body[:, width:] = (body[:, width - 1 : width].view(np.int8) >> 7).view(np.uint8)
    out[values:] = told[width * values :].reshape(-1, whole)
    vector: Vector = out.view("<u8").astype(np.uint64, copy=False)
    if _width(vector[:values]) != width:
        raise PeerError(AGGREGATOR, "tells a total in more bytes than it needs")
    return vector


def _split(vector: Vector) -> tuple[Vector, Vector]:
    checks = CHECK_VALUES[vector.shape[1]]
    return vector[:-checks], vector[-checks:]


def _bytes_of(vector: Vector) -> NDArray[np.uint8]:
    """Ring elements ``(values, limbs)`` as bytes, lowest first: ``(values, 8 limbs)``."""
    return np.ascontiguousarray(vector, dtype="<u8").view(np.uint8)


def _width(body: Vector) -> int:
    """How many bytes every integer fits into with its sign: at least one."""
    sign = (body[:, -1:].view(np.int64) >> 63).view(np.uint64)
    used = [int(limb) for limb in np.bitwise_or.reduce(body ^ sign, axis=0)]
    bits = max((64 * place + limb.bit_length() for place, limb in enumerate(used) if limb), default=0)
    return bits // 8 + 1
