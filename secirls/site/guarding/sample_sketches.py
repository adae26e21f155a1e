"""By what a sample is known although genes were taken out of its file, or put in: a few marks of its counts.

A mark is that of the gene and count, among those of one part of the genes' names, whose hash is the smallest (minimum
hashing, Broder 1997, in one permutation). So two samples have about as large a part of their marks in common as they
have counts in common.

Promises: marks depend on names and counts, not on their order. Refuses to know: what is done about samples that are the
same; see `Memory`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Counts
from secirls.numerics.held.held_counts import Chosen, HeldCounts, in_blocks

MARKS = 32
_GENES = 1 << 15
"""So many genes are looked at: those whose names have the smallest hashes, which another file mostly has too."""
_LEAST = 10
"""Lower counts are looked at by nobody: genes that are taken out mostly have such, and samples have many in common."""
_SAME = 0.5
"""Samples with so large a part of their marks in common are one."""
_FEWEST = 8
_BLOCK_VALUES = 1 << 16
"""Counts at a time, which stay in a processor's cache."""
_NONE = np.uint64(0xFFFFFFFFFFFFFFFF)
_SPREAD, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def sketches(counts: Counts | HeldCounts, genes: Sequence[str]) -> list[str]:
    """The marks of each sample of counts ``(samples, genes)``, two bytes each, in hexadecimal."""
    names = (hashlib.sha256(b"secirls gene mark v1" + gene.encode()).digest()[:8] for gene in genes)
    named = np.frombuffer(b"".join(names), dtype="<u8").astype(np.uint64)
    chosen = np.argsort(named, kind="stable")[:_GENES]
    part = (named[chosen] % np.uint64(MARKS)).astype(np.intp)
    order = np.argsort(part, kind="stable")
    chosen, part = chosen[order], part[order]
    least = np.full((MARKS, counts.shape[0]), _NONE)
    for block, values in in_blocks(HeldCounts(Chosen.of(counts.T, chosen)), _BLOCK_VALUES):
        marks = values.astype(np.uint64)
        marks *= _SPREAD
        marks ^= named[chosen[block]][:, None]
        marks ^= marks >> np.uint64(31)
        marks *= _MIX
        marks[values < _LEAST] = _NONE
        parts, starts = np.unique(part[block], return_index=True)
        least[parts] = np.minimum(least[parts], np.minimum.reduceat(marks, starts, axis=0))
    short = np.where(least == _NONE, 0, (least >> np.uint64(16)) % np.uint64(0xFFFF) + np.uint64(1)).astype(">u2")
    return [row.tobytes().hex() for row in np.ascontiguousarray(short.T)]


def same_samples(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Which samples of before are which of those now, though not all counts are the same: from both sketches by name.

    Each is one other at most.
    """
    old = {name: text for name, text in before.items() if name not in now}
    new = {name: text for name, text in now.items() if name not in before}
    if not old or not new:
        return {}
    first, second = _read(list(old.values())), _read(list(new.values()))
    found: dict[str, str] = {}
    names, free = list(new), np.ones(len(new), dtype=bool)
    for name, marks in zip(old, first, strict=True):
        there = ((second > 0) | (marks > 0)).sum(axis=1)
        alike = ((second == marks) & (marks > 0)).sum(axis=1)
        alike = np.where(free & (there >= _FEWEST) & (alike >= _SAME * there), alike, 0)
        best = int(alike.argmax())
        if alike[best]:
            found[name], free[best] = names[best], False
    return found


def _read(told: Sequence[str]) -> NDArray[np.uint16]:
    """Marks ``(samples, MARKS)``. Raises `ValueError` for others."""
    return np.frombuffer(bytes.fromhex("".join(told)), dtype=">u2").astype(np.uint16).reshape(len(told), MARKS)
