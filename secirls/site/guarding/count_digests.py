"""Digests of a site's counts, taken a block of genes at a time.

Promises: the same as `sha256` of parts and of the counts' bytes in one piece. Refuses to know: what they name.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

from secirls.numerics.arrays import Counts
from secirls.numerics.held.held_counts import HeldCounts, in_blocks

_BLOCK_VALUES = 1 << 22
"""Counts whose bytes are sorted by sample at a time (16 MiB): each sample's of so many genes go into its digest."""


def digest_of(counts: Counts | HeldCounts, *parts: bytes) -> bytes:
    """`sha256` of parts and of all counts, gene after gene."""
    told = _begun(parts, counts.shape[0] * counts.shape[1])
    for _, block in in_blocks(counts):
        told.update(block.data)
    return told.digest()


def sample_digests(counts: Counts | HeldCounts, *parts: bytes) -> list[bytes]:
    """`sha256` of parts and of each sample's counts, in the order of genes."""
    samples, genes = counts.shape
    told = [_begun(parts, genes) for _ in range(samples)]
    for _, block in in_blocks(counts, _BLOCK_VALUES):
        for one, row in zip(told, np.ascontiguousarray(block.T, dtype="<i4"), strict=True):
            one.update(row.data)
    return [one.digest() for one in told]


def _begun(parts: tuple[bytes, ...], values: int) -> hashlib._Hash:
    told = hashlib.sha256()
    for part in parts:
        told.update(struct.pack("<Q", len(part)) + part)
    told.update(struct.pack("<Q", np.dtype(np.int32).itemsize * values))
    return told
