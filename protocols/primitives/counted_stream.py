"""AES-256-CTR keystreams of long masks, with their counters still on: as CFB gives them, and the fastest there are.

Decrypting in CFB gives ``text i xor E(text i - 1)``. Under a zero IV, of a text whose block i is the counter i + 1,
that is CTR's keystream E(i) xor the counter i + 1 (NIST SP 800-38A, sections 6.3 and 6.5). GCM takes a tag besides, and
for CTR libraries do not use the processor's vector instructions for AES; for CFB OpenSSL does, from 3.5 on: 16 GB/s
where these have 10.6 and 8. Counters are the same under every key, so whoever adds a stream takes them off in the same
pass: they stand in the high limbs alone.

CFB is called decrepit where it is imported from: a mode that nothing new should be encrypted in, and nothing is here.

Promises: stream and marks together are the bytes of `protocols.primitives.keystream`. Refuses to know: what they hide.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from numpy.typing import NDArray

from protocols.primitives.keystream import LONG, MOST_BYTES, Prg, keystream, quickest

_BLOCKS = MOST_BYTES // 16
_FROM_ONE = np.arange(1, _BLOCKS + 1, dtype="<u8").byteswap()
"""The second halves of counters 1 to `_BLOCKS`, big-endian as they are encrypted."""


class Counters:
    """The text that is decrypted, a piece of up to `MOST_BYTES` at a time, and the marks that it leaves."""

    def __init__(self) -> None:
        self._block = 0
        text = np.zeros((_BLOCKS, 2), dtype="<u8")
        self._halves, self._text = text[:, 1], text.reshape(-1).view(np.uint8).data
        self._marks = np.empty(_BLOCKS, dtype="<u8")

    def next(self, blocks: int) -> tuple[memoryview, NDArray[np.uint64]]:
        """The text of so many blocks, and what the high limbs of the stream are XORed with; both last until the next.

        Every piece but the last has `MOST_BYTES`.
        """
        np.bitwise_or(_FROM_ONE, _half(self._block), out=self._marks)
        self._block += _BLOCKS
        self._marks[-1] = _half(self._block)
        self._halves[:] = self._marks
        return self._text[: 16 * blocks], self._marks[:blocks]


def counted_stream(key: bytes) -> CipherContext:
    """What makes the stream of a key out of `Counters`, piece by piece from the first."""
    mode = _cfb()
    return Cipher(algorithms.AES(key), mode(bytes(16))).decryptor()


def pays(prg: Prg, length: int) -> bool:
    """Whether so many bytes of keystream are made fastest this way, here."""
    return prg == "aes-256-ctr" and length >= MOST_BYTES and _is_faster()


@cache
def _is_faster() -> bool:
    """Timed once, by the quickest of a few runs of microseconds."""
    if _cfb() is None:
        return False
    (text, _), buffer = Counters().next(_BLOCKS), memoryview(bytearray(MOST_BYTES))
    counted, other = counted_stream(bytes(32)), keystream(bytes(32), "aes-256-ctr", LONG)
    return quickest(lambda: counted.update_into(text, buffer)) < quickest(lambda: other.fill(buffer))


@cache
def _cfb() -> Any:
    """The mode, from where this version of the library has it; ``None`` for one without."""
    for place in ("decrepit.ciphers.modes", "primitives.ciphers.modes"):
        with suppress(ImportError, AttributeError):
            return import_module(f"cryptography.hazmat.{place}").CFB
    return None


def _half(counter: int) -> np.uint64:
    """The second half of a counter, big-endian, as a little-endian number."""
    return np.uint64(int.from_bytes(counter.to_bytes(8, "big"), "little"))
