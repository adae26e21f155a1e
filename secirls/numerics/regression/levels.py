"""Which samples share a design row: asked in every round, so in one pass over the rows.

Promises: levels are in the order in which their first samples stand, a level's samples in their own order.
Refuses to know: what the rows are for.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.elementary import bits_of
from secirls.numerics.arithmetic.portable import strictly
from secirls.numerics.arrays import Floats

Places: TypeAlias = NDArray[np.intp]

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio (Knuth 1973, section 6.4: multiplicative hashing)."""
_UPPER = np.uint64(32)


@strictly()
def _fill_levels(design: Floats, most: int, factor: np.uint64, table: Places, firsts: Places, level: Places) -> int:
    """Number each sample's row in `level`, ``(samples,)``, and note the first of each; gives how many there are.

    Stops beyond `most`. `factor` mixes bits; `table` is room for a power of two of places, at least twice as many as
    samples, all -1.
    """
    found, last = 0, table.size - 1
    for i in range(level.size):
        mixed = np.uint64(0)
        for k in range(design.shape[1]):
            mixed = (mixed ^ bits_of(design[i, k] + 0.0)) * factor  # -0.0 is 0.0
            mixed ^= mixed >> _UPPER
        place, here = np.intp(mixed) & last, -1
        while here < 0:
            there = table[place]
            if there < 0:
                if found == most:
                    return most + 1
                table[place], firsts[found], here, found = found, i, found, found + 1
            else:
                same = True
                for k in range(design.shape[1]):
                    same &= design[i, k] == design[firsts[there], k]
                here = there if same else -1
                place = (place + 1) & last
        level[i] = here
    return found


def levels(design: Floats, most: int) -> tuple[Places, Places] | None:
    """The samples, those of a row of ``(samples, params)`` together, and where each row's begin and end.

    ``(samples,)`` and ``(levels + 1,)``; ``None`` where there are more levels than `most`.
    """
    level, _, found = _numbered(design, most)
    if found > most:
        return None
    return np.argsort(level, kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(level, minlength=found))])


def numbered(design: Floats) -> tuple[Places, Places]:
    """The level of each sample of a design ``(samples, params)``, and the first sample of each level.

    ``(samples,)`` and ``(levels,)``.
    """
    level, firsts, found = _numbered(design, design.shape[0])
    return level, firsts[:found]


def _numbered(design: Floats, most: int) -> tuple[Places, Places, int]:
    samples = design.shape[0]
    level, firsts = np.empty(samples, dtype=np.intp), np.empty(most, dtype=np.intp)
    table = np.full(1 << (2 * samples).bit_length(), -1, dtype=np.intp)
    found = _fill_levels(np.ascontiguousarray(design, dtype=np.float64), most, _FACTOR, table, firsts, level)
    return level, firsts, found
