"""Pseudo-random bytes from a 32-byte key that is used for nothing else: AES-256-CTR, or ChaCha20 (RFC 8439).

Promises: both start at counter zero, with a zero IV, which is sound because every key names one (pair, round, layout);
and a key gives the same bytes whichever way they are made. Refuses to know: what they hide.

Long ones may be made by AES-GCM, whose keystream is CTR's from the third block on where its IV is zero: counters below
2^32 are written alike (NIST SP 800-38D, section 7.1; the first block is never used, the second hides the tag). Where
processors have vector instructions for AES, libraries use them for GCM and not for CTR: it is a quarter faster with
its tag, which nobody takes. On others it is slower, so the two are timed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

Prg: TypeAlias = Literal["aes-256-ctr", "chacha20"]

MOST_BYTES = 1 << 17
"""As many are made at once: they stay in the cache."""
LONG = 1 << 20
"""Bytes from which the faster way pays for what it takes to set up."""

_ZEROS = memoryview(bytes(MOST_BYTES))
_BLOCK = 16
_KEY_BYTES = 32
_FROM_ZERO = modes.CTR(bytes(_BLOCK))


class Keystream:
    """A stream that is read once, from its beginning."""

    def __init__(self, cipher: CipherContext, ahead: bytes = b"") -> None:
        """Take what encrypts zeros, and the bytes that come before its first."""
        self._cipher = cipher
        self._ahead = ahead

    def fill(self, buffer: memoryview) -> None:
        """Overwrite a buffer of bytes, at most `MOST_BYTES`, with the next of the stream."""
        if self._ahead:
            ready, self._ahead = self._ahead[: len(buffer)], self._ahead[len(buffer) :]
            buffer[: len(ready)] = ready
            buffer = buffer[len(ready) :]
        if buffer:
            self._cipher.update_into(_ZEROS[: len(buffer)], buffer)


def keystream(key: bytes, prg: Prg, length: int = 0) -> Keystream:
    """The stream of a key, made the fastest way for so many bytes. Raises `ValueError` for a bad key or name."""
    if prg == "aes-256-ctr":
        return _by_gcm(key) if length >= LONG and _gcm_is_faster() else _by_ctr(key)
    return Keystream(_cipher(key, prg))


def side_by_side(keys: Sequence[bytes], prg: Prg, buffer: memoryview) -> None:
    """Overwrite a buffer with the beginning of each key's stream, all of one length, at most `MOST_BYTES`.

    Raises `ValueError` as `keystream` does.
    """
    length = len(buffer) // len(keys)
    zeros = _ZEROS[:length]
    for place, key in enumerate(keys):
        _cipher(key, prg).update_into(zeros, buffer[length * place : length * (place + 1)])


def _cipher(key: bytes, prg: Prg) -> CipherContext:
    """What encrypts zeros to the stream of a key."""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"a keystream key is {_KEY_BYTES} bytes")
    if prg == "aes-256-ctr":
        return Cipher(algorithms.AES(key), _FROM_ZERO).encryptor()
    if prg == "chacha20":
        return Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    raise ValueError(f"unknown keystream generator {prg!r}")


def _by_ctr(key: bytes) -> Keystream:
    return Keystream(_cipher(key, "aes-256-ctr"))


def _by_gcm(key: bytes) -> Keystream:
    first = _cipher(key, "aes-256-ctr").update(bytes(2 * _BLOCK))
    return Keystream(Cipher(algorithms.AES(key), modes.GCM(bytes(12))).encryptor(), first)


@cache
def _gcm_is_faster() -> bool:
    """Whether GCM is faster here, by the quickest of a few runs of microseconds. Either gives the same bytes."""
    buffer = memoryview(bytearray(MOST_BYTES))
    by_gcm, by_ctr = _by_gcm(bytes(_KEY_BYTES)), _by_ctr(bytes(_KEY_BYTES))
    return quickest(lambda: by_gcm.fill(buffer)) < quickest(lambda: by_ctr.fill(buffer))


def quickest(call: Callable[[], object]) -> float:
    """Seconds that the quickest of a few calls takes, after a first."""

    def seconds() -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    call()
    return min(seconds() for _ in range(5))
