"""Many residues of one modulus at once, eight side by side where the processor can: powers and products of powers.

Promises: the same integers as `big_numbers` gives without it. Refuses to know: which of them is a secret.

What is compiled is in `compiled_lanes`. Numbers are in Montgomery's form ``x R`` while they are multiplied, for a
product there is ``x y / R``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]

LEAST_BITS = 2000
"""Shorter moduli are those of keys for tests, where there is nothing to gain."""


@cache
def _compiled() -> ModuleType:
    """Loaded when it is needed, for numba takes a while."""
    from protocols.primitives.paillier import compiled_lanes

    return compiled_lanes


def fit(modulus: int) -> bool:
    """Whether this processor multiplies residues of that modulus side by side."""
    bits = int(modulus).bit_length()
    return bits >= LEAST_BITS and modulus % 2 == 1 and bits <= _compiled().MOST_BITS and _compiled().available()


class Lanes:
    """Arithmetic modulo one odd number."""

    def __init__(self, modulus: int) -> None:
        self._compiled, self._modulus = _compiled(), int(modulus)
        modulus, limb = self._modulus, self._compiled.LIMB
        self.limbs = -(-(modulus.bit_length() + 2) // limb)
        self._words = -(-self.limbs * limb // 64)
        whole = 1 << limb * self.limbs
        self._inverse = np.uint64(-pow(modulus, -1, 1 << limb) % (1 << limb))
        self._one, self._square, self._unit, self._digits = self._split(
            [whole % modulus, whole**2 % modulus, 1, modulus]
        )

    def powers(self, bases: Sequence[int], exponent: int) -> list[int]:
        """Every base, below the modulus, to one exponent above zero."""
        steps, odd = _windows(exponent)
        numbers = self.enter(bases)
        self._compiled.raise_all(numbers, steps, self._digits, self._inverse, self._scratch(odd + 2))
        return self.leave(numbers)

    def products_of_powers(self, bases: Sequence[int], exponents: bytes, width: int) -> list[int]:
        """Of each byte's place, highest first, the product of ``base ** byte``; exponents have ``width`` bytes each."""
        lanes = self._compiled.LANES
        digits = np.zeros((len(bases), -(-width // lanes) * lanes), dtype=np.uint8)
        digits[:, :width] = np.frombuffer(exponents, dtype=np.uint8).reshape(len(bases), width)
        totals = np.tile(self._one, (digits.shape[1], 1))
        numbers, scratch = self.enter(bases), self._scratch(4)
        for first in range(0, width, lanes):
            places = slice(first, first + lanes)
            buckets = np.tile(self._one, (lanes, 256, 1))
            self._compiled.fill_buckets(
                numbers, digits[:, places], buckets, totals[places], self._digits, self._inverse, scratch
            )
        return self.leave(totals[:width])

    def rows(self, steps: Sequence[int], length: int) -> Numbers:
        """``step ** digit`` for every step and digit below the length, for `look_up`: ``(steps, length, limbs)``.

        The first step's are not in Montgomery's form, so that products with all others' are not either.
        """
        rows = np.empty((len(steps), length, self.limbs), dtype=np.uint64)
        rows[0, 0], rows[1:, 0] = self._unit, self._one
        self._compiled.fill_rows(rows, self.enter(steps), self._digits, self._inverse, self._scratch(3))
        return rows

    def look_up(self, rows: Numbers, digits: NDArray[np.int64]) -> list[int]:
        """Of each column of the digits ``(steps, numbers)``, the product over the steps of ``step ** digit``."""
        results = np.empty((digits.shape[1], self.limbs), dtype=np.uint64)
        self._compiled.look_up(rows, digits, results, self._digits, self._inverse, self._scratch(3))
        return self._joined(results)

    def enter(self, values: Sequence[int]) -> Numbers:
        """Numbers below the modulus in Montgomery's form: ``(values, limbs)``."""
        return self._scaled(self._split(values), self._square)

    def leave(self, numbers: Numbers) -> list[int]:
        """Undo `enter`."""
        return self._joined(self._scaled(numbers, self._unit))

    def _scaled(self, numbers: Numbers, factor: Numbers) -> Numbers:
        out = np.empty_like(numbers)
        self._compiled.scale(numbers, factor, self._digits, self._inverse, out, self._scratch(3))
        return out

    def _split(self, values: Sequence[int]) -> Numbers:
        data = b"".join(int(value).to_bytes(8 * self._words, "little") for value in values)
        out = np.empty((len(values), self.limbs), dtype=np.uint64)
        self._compiled.split(np.frombuffer(data, dtype="<u8").reshape(len(values), self._words), out)
        return out

    def _joined(self, numbers: Numbers) -> list[int]:
        """Numbers out of Montgomery's form, below twice the modulus, as integers below it."""
        words = np.zeros((len(numbers), self._words), dtype="<u8")
        self._compiled.join(numbers, words)
        data, width = words.tobytes(), 8 * self._words
        values = (int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width))
        return [value % self._modulus for value in values]

    def _scratch(self, count: int) -> Numbers:
        """So many rooms for eight numbers, each limb's eight in one line of the cache."""
        line = 64 // 8
        room = np.empty(count * self.limbs * self._compiled.LANES + line, dtype=np.uint64)
        first = -room.ctypes.data % 64 // 8
        return room[first : first + room.size - line].reshape(count, self.limbs, self._compiled.LANES)


def _windows(exponent: int) -> tuple[NDArray[np.int64], int]:
    """Sliding windows over an exponent, from its highest bit: ``(squarings, which odd power or -1)``, and how many."""
    width = 4 if exponent.bit_length() < 128 else 5 if exponent.bit_length() < 768 else 6
    steps, bits, at, waiting = [], f"{int(exponent):b}", 0, 0
    while at < len(bits):
        if bits[at] == "0":
            waiting, at = waiting + 1, at + 1
            continue
        window = bits[at : at + width].rstrip("0")
        steps.append((waiting + len(window), int(window, 2) // 2))
        waiting, at = 0, at + len(window)
    if waiting:
        steps.append((waiting, -1))
    return np.array(steps, dtype=np.int64), 1 << (width - 1)
