"""Between ring vectors and packed Paillier plaintexts: many ring elements in one large integer.

Promises: the integer sum of up to `Packing.parties` packed vectors unpacks to their ring sum exactly,
whatever the vectors hold; a plaintext that no such sum can make raises `IntegrityError`.
Refuses to know: keys and ciphertexts.

A ring element is an unsigned digit of 64 or 128 bits in a slot with guard bits above it, lowest slot
first. The guard catches the carries of the sum, and dropping it is the reduction modulo 2^64 or
2^128, so that two's complement needs no further care.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from protocols.primitives.paillier.big_numbers import number
from protocols.secure_sum import IntegrityError, MisuseError, Vector


@dataclass(frozen=True)
class Packing:
    """How vectors of one shape lie in plaintexts of one key, for sums over at most `parties`."""

    key_bits: int
    values: int
    limbs: int
    parties: int

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise MisuseError(f"a plaintext of {self.key_bits} bits holds no slot of {self.slot_bits}")

    @property
    def digit_bits(self) -> int:
        """Length of a ring element."""
        return 64 * self.limbs

    @cached_property
    def slot_bits(self) -> int:
        """A ring element and its guard: ``parties <= 2 ** guard``, so that a slot can't overflow."""
        return self.digit_bits + (self.parties - 1).bit_length()

    @cached_property
    def slots(self) -> int:
        """Ring elements per plaintext: as many as surely stay below every modulus of that length."""
        return (self.key_bits - 1) // self.slot_bits

    @cached_property
    def plaintexts(self) -> int:
        """How many plaintexts hold the vector."""
        return -(-self.values // self.slots)

    @cached_property
    def width(self) -> int:
        """Bytes that hold the slots of one plaintext."""
        return -(-self.slots * self.slot_bits // 8)

    def pack(self, vector: Vector) -> list[int]:
        """The vector's plaintexts; empty slots at the end of the last are zero."""
        raw = np.ascontiguousarray(vector, dtype="<u8").view(np.uint8).reshape(self.values, self.digit_bits // 8)
        slots = np.zeros((self.plaintexts * self.slots, self.slot_bits), dtype=np.uint8)
        slots[: self.values, : self.digit_bits] = np.unpackbits(raw, axis=1, bitorder="little")
        rows = slots.reshape(self.plaintexts, self.slots * self.slot_bits)
        data = np.packbits(rows, axis=1, bitorder="little").tobytes()
        return [number(int.from_bytes(data[at : at + self.width], "little")) for at in range(0, len(data), self.width)]

    def unpack(self, plaintexts: Sequence[int], parties: int) -> Vector:
        """The ring sum in the sum of that many parties' plaintexts.

        Raises `IntegrityError` where a plaintext is not the sum of that many packed vectors: beyond its
        slots, with a carry that many parties can't make, or with something in an empty slot.
        """
        if len(plaintexts) != self.plaintexts or not 0 < parties <= self.parties:
            raise MisuseError(f"{len(plaintexts)} plaintexts of {parties} parties do not fit this packing")
        occupied = self.slots * self.slot_bits
        if any(int(plaintext) >> occupied for plaintext in plaintexts):
            raise IntegrityError("an opened plaintext is larger than its slots: it is no sum of vectors")
        data = b"".join(int(plaintext).to_bytes(self.width, "little") for plaintext in plaintexts)
        rows = np.frombuffer(data, dtype=np.uint8).reshape(self.plaintexts, self.width)
        bits = np.unpackbits(rows, axis=1, count=occupied, bitorder="little")
        slots = bits.reshape(self.plaintexts * self.slots, self.slot_bits)
        guard = slots[:, self.digit_bits :]
        carries = guard.astype(np.int64) @ np.left_shift(1, np.arange(guard.shape[1], dtype=np.int64))
        # A sum of P digits carries at most P - 1.
        if slots[self.values :].any() or (carries >= parties).any():
            raise IntegrityError(f"an opened plaintext is no sum of {parties} packed vectors")
        raw = np.packbits(slots[: self.values, : self.digit_bits], axis=1, bitorder="little")
        return raw.view("<u8").reshape(self.values, self.limbs).astype(np.uint64)
