"""Arithmetic in Z_2^64 and Z_2^128 on arrays, and keystream expansion into ring elements.

Promises: exact wrap-around arithmetic, lowest limb first, no floating point.
Refuses to know: what the elements stand for and who shares which key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.uint64]
Prg: TypeAlias = Literal["aes-256-ctr", "chacha20"]

CHUNK_BYTES = 1 << 16
"""Keystream is made and used in pieces that stay in the cache."""

_ZEROS = bytes(CHUNK_BYTES)


def zeros(values: int, limbs: int) -> Vector:
    """The neutral element of the sum, ``(values, limbs)``."""
    return np.zeros((values, limbs), dtype=np.uint64)


def add_into(total: Vector, addend: Vector) -> None:
    """``total += addend`` modulo 2^(64 limbs), in place."""
    low, carry_from = total[:, 0], addend[:, 0]
    np.add(low, carry_from, out=low)
    if total.shape[1] == 2:
        high = total[:, 1]
        np.add(high, addend[:, 1], out=high)
        np.add(high, low < carry_from, out=high)


def subtract_into(total: Vector, subtrahend: Vector) -> None:
    """``total -= subtrahend`` modulo 2^(64 limbs), in place."""
    low, taken = total[:, 0], subtrahend[:, 0]
    borrow = low < taken
    np.subtract(low, taken, out=low)
    if total.shape[1] == 2:
        high = total[:, 1]
        np.subtract(high, subtrahend[:, 1], out=high)
        np.subtract(high, borrow, out=high)


def total_of(vectors: Iterable[Vector], values: int, limbs: int) -> Vector:
    """The ring sum of vectors of one shape."""
    total = zeros(values, limbs)
    for vector in vectors:
        add_into(total, vector)
    return total


def _keystream(key: bytes, prg: Prg) -> Cipher[modes.CTR] | Cipher[None]:
    if len(key) != 32:
        raise ValueError("a keystream key is 32 bytes")
    if prg == "aes-256-ctr":
        return Cipher(algorithms.AES(key), modes.CTR(bytes(16)))
    if prg == "chacha20":
        return Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None)
    raise ValueError(f"unknown keystream generator {prg!r}")


def expand(key: bytes, values: int, limbs: int, prg: Prg = "aes-256-ctr") -> Vector:
    """Pseudo-random ring elements from a 32-byte key that is used for nothing else.

    AES-256-CTR or ChaCha20 (RFC 8439) from counter zero; the zero IV is sound because every
    key names one (pair, round, layout). Little-endian limbs.
    """
    out = np.empty((values, limbs), dtype="<u8")
    encryptor = _keystream(key, prg).encryptor()
    buffer = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    for start in range(0, len(buffer), CHUNK_BYTES):
        piece = buffer[start : start + CHUNK_BYTES]
        encryptor.update_into(_ZEROS[: len(piece)], piece)
    return out.astype(np.uint64, copy=False)


def to_bytes(vector: Vector) -> bytes:
    """Little-endian limbs, lowest first: 8 * values * limbs bytes."""
    return np.ascontiguousarray(vector, dtype="<u8").tobytes()


def from_bytes(data: bytes | memoryview, values: int, limbs: int) -> Vector:
    """Read-only view of `to_bytes` output. Raises `ValueError` on any other length."""
    if len(data) != 8 * values * limbs:
        raise ValueError(f"{len(data)} bytes can't be {values} ring elements of {limbs} limbs")
    return np.frombuffer(data, dtype="<u8").reshape(values, limbs).astype(np.uint64, copy=False)
