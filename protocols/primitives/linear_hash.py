"""A universal hash of vectors of integers that is linear: the hash of a sum is the sum of the hashes.

Promises: exactness, over the integers; few keys for long vectors. Refuses to know: modulo what, and whose the keys are.

The vector stands in rows of 512 values. With a key k_j for each place in a row and a key r_i for each row, all of 64
bits, the hash is the sum over rows of r_i <row i, k>. Modulo a prime above 2^128, the hashes of two vectors differ by
a given number with a chance of 2^-63 at most: some integer of their difference is not zero, and has an inverse; so the
product of its row with k is zero for one value of its key at most, and if it is not, one value of r_i at most fits
(Carter and Wegman 1979, section 3, one after the other).

How: integers are taken in digits of 32 bits, the highest with the sign, and keys in parts of 22, 21 and 21, so that 512
products add up below 2^63.
"""

from __future__ import annotations

from operator import lshift
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.primitives.ring import Vector, zeros

Keys: TypeAlias = NDArray[np.uint64]
Parts: TypeAlias = NDArray[np.int64]

ROW = 512
"""Values in a row: also, how many rows the compiled pass adds up without a carry."""
COMPILED_FROM = 4096
"""Values from which the compiled pass pays; below it nothing is compiled or loaded."""

_DIGITS = (0, 32, 64, 96)
_PARTS = (0, 22, 43)
"""Where each digit of an integer, and each part of a key, begins."""
_BEGINS = np.array(_PARTS, dtype=np.uint64)[:, np.newaxis]
_MASKS = np.array([(1 << bits) - 1 for bits in (22, 21, 21)], dtype=np.uint64)[:, np.newaxis]
_PLAIN = tuple(digit + part for digit in _DIGITS for part in _PARTS)
_COMPILED = tuple(place + half + part for place in _PLAIN for half in _DIGITS[:2] for part in _PARTS)


def keys_of(values: int) -> int:
    """How many keys a vector of so many values takes: one for each row, then one for each place in it."""
    return -(-values // ROW) + min(values, ROW)


def linear_hash(vector: Vector, keys: Keys) -> int:
    """Of ``(values, limbs)`` ring elements, as integers in two's complement, under ``keys_of(values)`` keys.

    Raises `ValueError` for another number of keys.
    """
    values, rows = vector.shape[0], -(-vector.shape[0] // ROW)
    if keys.shape != (keys_of(values),):
        raise ValueError(f"a vector of {values} values is hashed with {keys_of(values)} keys, not {keys.size}")
    form = _compiled if values >= COMPILED_FROM else _plain
    return form(vector, keys[:rows], _in_parts(keys[rows:]))


def warm_up() -> None:
    """Compile the pass over long vectors, or load it from the cache."""
    for limbs in (1, 2):
        linear_hash(zeros(COMPILED_FROM, limbs), np.zeros(keys_of(COMPILED_FROM), dtype=np.uint64))


def _plain(vector: Vector, rows: Keys, places: Parts) -> int:
    halves = np.ascontiguousarray(vector, dtype="<u8")
    digits = halves.view("<u4").astype(np.int64)
    digits[:, -1] = halves.view("<i4")[:, -1]
    total = 0
    for start, key in zip(range(0, len(digits), ROW), rows.tolist(), strict=True):
        row = digits[start : start + ROW]
        total += key * _joined(np.matmul(row.T, places[:, : len(row)].T), _PLAIN)
    return total


def _compiled(vector: Vector, rows: Keys, places: Parts) -> int:
    from protocols.primitives import compiled_hash

    limbs, words, total = vector.shape[1], np.ascontiguousarray(vector).view(np.int64).reshape(-1), 0
    words.setflags(write=False)  # so that vectors which may be written and such as may not are of one compiled type
    for first in range(0, len(rows), ROW):
        strip = words[limbs * ROW * first : limbs * ROW * (first + ROW)]
        sums = compiled_hash.add_rows(strip, limbs, _in_parts(rows[first : first + ROW]), places)
        total += _joined(sums, _COMPILED[: sums.size])
    return total


def _in_parts(keys: Keys) -> Parts:
    """Keys in three parts, lowest first: ``(3, keys)``."""
    return ((keys >> _BEGINS) & _MASKS).view(np.int64)


def _joined(sums: NDArray[np.int64], shifts: tuple[int, ...]) -> int:
    """Sums of products of digits and parts, each shifted to where these stand."""
    return sum(map(lshift, sums.reshape(-1).tolist(), shifts))
