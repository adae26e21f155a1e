"""What of a site's data stands in messages: sample names, and the counts of a sample or a gene, however written.

Promises: a sequence of counts is found at any byte, as whole numbers or floats of usual sizes, in either byte order,
as decimal text, and in zlib or gzip; what is too short or too plain to tell from chance is counted and said.
Refuses to know: what a message is for, and what it hides.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.secure_sum import PartyId
from secirls.aggregator import transcript
from secirls.config import Config
from secirls.inputs.designs.design import variables
from secirls.inputs.files.site_file import Reading, SiteTable, read_site
from secirls.inputs.formulas.levels import declared_in
from secirls.numerics.arrays import Mask
from secirls.numerics.held.held_counts import whole

KINDS = ("<u2", ">u2", "<i4", ">i4", "<i8", ">i8", "<f4", ">f4", "<f8", ">f8")
"""How counts are looked for; signed ones look the same, and those above 65,535 wrap in two bytes."""

RUN = 16, 64
"""One mark in a quarter of a sequence's values, at least in the first and at most in the second of these."""

LEAST_BITS, LEAST_DISTINCT, LEAST_MARK_BITS = 32.0, 4, 4.0
"""What can't stand by chance has so many bits, sum log2(1 + y), and distinct values; and its marks so many bits."""

AT_ONCE = 1 << 18
"""So many marks that stand somewhere are compared at once."""

FAR = 256
"""How far around a mark the values are compared."""

LARGEST_UNPACKED = 1 << 28

NUMBER = re.compile(rb"(?<![\w.])\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?![\w.])")
PACKED = re.compile(rb"\x78[\x01\x5e\x9c\xda]"), re.compile(rb"\x1f\x8b\x08")
"""How zlib and gzip begin; one pattern each, because those that start with known bytes are found faster."""

Words: TypeAlias = NDArray[np.uint64]


def traces_in(paths: list[Path], files: Mapping[PartyId, str], config: Config) -> tuple[list[str], list[str]]:
    """Whether sites' sample names, or the counts of a sample or gene, stand anywhere; and what could not be seen."""
    search = Search()
    for site, file in files.items():
        declared = declared_in(config.design, config.levels)
        reading = Reading(variables(config.design), config.layer, declared=declared, round_counts=config.round_counts)
        search.look_for(site, read_site(site, file, reading))
    search.ready()
    for path in paths:
        data = path.read_bytes()
        if path.name == transcript.LINES:
            search.words(data)
        for found in _readings(data):
            search.within(found)
    return [f"{what} of site {site} stands in a message" for site, what in sorted(search.found)], search.unseen


def _readings(data: bytes) -> Iterator[bytes]:
    """A message as it is, what is packed in it, and the numbers that stand in either as text, as eight-byte floats."""
    yield data
    yield from _text_numbers(data)
    end = 0
    for start in sorted(match.start() for pattern in PACKED for match in pattern.finditer(data)):
        if start < end:
            continue
        stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data[start : start + 64])
            unpacked = stream.decompress(memoryview(data)[start:], LARGEST_UNPACKED)
        except zlib.error:
            continue
        if len(unpacked) >= 8:
            end = len(data) - len(stream.unused_data)
            yield unpacked
            yield from _text_numbers(unpacked)


def _text_numbers(data: bytes) -> Iterator[bytes]:
    """The numbers of every stretch in which digits are more frequent than in noise."""
    size = 64
    blocks = np.frombuffer(data.ljust(-(-len(data) // size) * size, b"\0"), np.uint8).reshape(-1, size)
    dense = (blocks - np.uint8(ord("0")) < 10).sum(axis=1) >= size // 8
    near = np.flatnonzero(np.convolve(dense, [1, 1, 1], "same")) if dense.any() else np.zeros(0, np.intp)
    for stretch in np.split(near, np.flatnonzero(np.diff(near) > 1) + 1) if near.size else ():
        numbers = NUMBER.findall(data, int(stretch[0]) * size, (int(stretch[-1]) + 1) * size)
        if len(numbers) >= LEAST_DISTINCT:
            yield np.array([float(number) for number in numbers]).astype("<f8").tobytes()


@dataclass(frozen=True)
class _Sequence:
    """What may not leave a site: a sample's counts over its genes, a gene's over its samples, or a name."""

    site: PartyId
    what: str
    values: NDArray[np.int32] | bytes


class Search:
    """Looks for many sequences at once: marks of a few bytes are looked up at every place, and the rest compared."""

    def __init__(self) -> None:
        self.found: set[tuple[PartyId, str]] = set()
        self.unseen: list[str] = []
        self._sequences: list[_Sequence] = []
        self._short: dict[bytes, PartyId] = {}
        self._marks: dict[int, list[tuple[Words, NDArray[np.int64]]]] = {6: [], 8: [], 16: []}
        self._tables: dict[int, _Table] = {}
        self._values = np.zeros(0, np.int32)
        self._ends = np.zeros(0, np.int64)

    def look_for(self, site: PartyId, table: SiteTable) -> None:
        """Add what a site holds."""
        names = [str(sample).encode() for sample in table.obs.index]
        for name in names:
            if len(name) >= 6:
                word = np.frombuffer(name[:6].ljust(8, b"\0"), "<u8").astype(np.uint64)
                self._marks[6].append((word, np.array([[len(self._sequences), 0, -1]])))
                self._sequences.append(_Sequence(site, "a sample name", name))
            elif len(name) >= 3 and not name.isdigit():
                self._short[name] = site
        short = sum(len(name) < 3 or (len(name) < 6 and name.isdigit()) for name in names)
        counts = whole(table.counts)
        samples = self._counts(site, "the counts of a sample", counts)
        genes = self._counts(site, "the counts of a gene", counts.T)
        self.unseen.append(
            f"of site {site}: {short} of {len(names)} sample names, and the counts of {len(names) - samples} samples "
            f"and {len(table.genes) - genes} of {len(table.genes)} genes, are too short or too alike to be told from "
            "chance; counts that were changed (scaled, added, reordered, encrypted), parts of a sequence below "
            f"{2 * RUN[1]} values, or in other forms than integers of 2 to 8 bytes, floats of 4 or 8, decimal text, "
            "and zlib of these, are not seen"
        )

    def ready(self) -> None:
        """Make the tables, once all is added."""
        for width, marks in self._marks.items():
            if marks:
                words, places = zip(*marks, strict=True)
                self._tables[width] = _Table(width, np.concatenate(words), np.concatenate(places))
        held = [np.zeros(0, np.int32) if isinstance(one.values, bytes) else one.values for one in self._sequences]
        self._values = np.concatenate([*held, self._values])
        self._ends = np.cumsum([len(values) for values in held])

    def words(self, data: bytes) -> None:
        """Look for short names, which among random bytes stand by chance: where they are words of a text."""
        if self._short:
            for word in set(re.findall(rb"[^\s\"',:;/()\[\]{}]+", data)) & set(self._short):
                self.found.add((self._short[word], "a sample name"))

    def within(self, data: bytes) -> None:
        """Look for everything in these bytes."""
        padded = data + bytes(64)
        for table in self._tables.values():
            for places, marks in table.places(padded, len(data)):
                likely = self._likely(padded, len(data), places, marks)
                for place, (number, index, kind) in zip(places[likely].tolist(), marks[likely].tolist(), strict=True):
                    sequence = self._sequences[number]
                    told = sequence.site, sequence.what
                    if told not in self.found and _stands(data, place, sequence.values, index, kind):
                        self.found.add(told)

    def _likely(self, padded: bytes, length: int, places: NDArray[np.int64], marks: NDArray[np.int64]) -> Mask:
        """Where four values with the mark at their beginning or end stand; the mark alone may be chance."""
        octets = np.frombuffer(padded, np.uint8)
        likely: Mask = marks[:, 2] < 0
        for kind in np.unique(marks[~likely, 2]).tolist():
            mine = np.flatnonzero(marks[:, 2] == kind)
            number, index = marks[mine, 0], marks[mine, 1]
            size = np.dtype(KINDS[kind]).itemsize
            end = self._ends[number]
            start = np.where(number > 0, self._ends[number - 1], 0)
            for first in (index, index + _held(size) - LEAST_DISTINCT):
                begin = np.clip(first, 0, end - start - LEAST_DISTINCT)
                place = places[mine] + (begin - index) * size
                inside = (place >= 0) & (place + LEAST_DISTINCT * size <= length)
                taken = octets[np.where(inside, place, 0)[:, None] + np.arange(LEAST_DISTINCT * size)]
                want = self._values[(start + begin)[:, None] + np.arange(LEAST_DISTINCT)]
                likely[mine] |= inside & (taken.view(KINDS[kind]) == _as_kind(want, KINDS[kind])).all(axis=1)
        return likely

    def _counts(self, site: PartyId, what: str, matrix: NDArray[np.int32]) -> int:
        """Mark every run of every row that has enough in it; how many rows that were."""
        if matrix.shape[1] < LEAST_DISTINCT:
            return 0
        matrix = np.ascontiguousarray(matrix)
        ordered = np.sort(matrix, axis=1)
        distinct = 1 + (np.diff(ordered, axis=1) > 0).sum(axis=1)
        bits = np.log2(1.0 + matrix).astype(np.float32)
        telling = (distinct >= LEAST_DISTINCT) & (bits.sum(axis=1) >= LEAST_BITS)
        matrix, bits = matrix[telling], bits[telling]
        if not len(matrix):
            return 0
        run = int(np.clip(matrix.shape[1] // 4, *RUN))
        first = len(self._sequences)
        self._sequences += [_Sequence(site, what, row) for row in matrix]
        seen = np.ones(len(matrix), dtype=bool)
        for number, kind in enumerate(KINDS):
            held = _held(np.dtype(kind).itemsize)
            told = np.lib.stride_tricks.sliding_window_view(bits, held, axis=1).sum(axis=2)
            blocks = -(-told.shape[1] // run)
            told = np.pad(told, ((0, 0), (0, blocks * run - told.shape[1])), constant_values=-1.0)
            told = told.reshape(len(told), blocks, run)
            best = told.argmax(axis=2) + np.arange(blocks) * run
            rows, block = np.nonzero(told.max(axis=2) >= LEAST_MARK_BITS)
            seen &= np.bincount(rows, minlength=len(seen)) > 0
            index = best[rows, block]
            values = matrix[rows[:, None], index[:, None] + np.arange(held)]
            words = np.ascontiguousarray(_as_kind(values, kind)).view("<u8").astype(np.uint64)
            keys = words[:, 0] if words.shape[1] == 1 else _mixed(words[:, 0], words[:, 1])
            places = np.stack([rows + first, index, np.full(len(rows), number)], axis=1)
            self._marks[8 * words.shape[1]].append((keys, places))
        return int(seen.sum())


class _Table:
    """Which words are marks, and of what: most others are told apart by one look into a small table."""

    def __init__(self, width: int, words: Words, places: NDArray[np.int64]) -> None:
        self._width = width
        order = np.argsort(words, kind="stable")
        self._words, self._places = words[order], places[order]
        bits = int(np.clip(np.ceil(np.log2(128 * len(words) + 1)), 12, 26))
        self._shift = np.uint64(64 - bits)
        self._maybe = np.zeros(1 << bits, dtype=bool)
        self._maybe[self._slots(words)] = True

    def places(self, padded: bytes, length: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Where in the bytes marks stand, and what they mark."""
        chunk = 1 << 17
        for offset in range(min(8, length)):
            count = -(-(length - offset) // 8)
            words = np.frombuffer(padded, "<u8", count + 1, offset)
            for start in range(0, count, chunk):
                keys = self._keys(words[start : min(start + chunk, count) + 1])
                near = np.flatnonzero(self._maybe[self._slots(keys)])
                first = np.searchsorted(self._words, keys[near], "left")
                times = np.searchsorted(self._words, keys[near], "right") - first
                hits = np.flatnonzero(times)
                if not hits.size:
                    continue
                for part in np.split(hits, np.flatnonzero(np.diff(np.cumsum(times[hits]) // AT_ONCE)) + 1):
                    often = times[part]
                    within = np.arange(often.sum()) - np.repeat(np.cumsum(often) - often, often)
                    place = offset + 8 * (start + np.repeat(near[part], often))
                    yield place, self._places[np.repeat(first[part], often) + within]

    def _keys(self, words: Words) -> Words:
        """The key at every word but the last."""
        if self._width == 16:
            return _mixed(words[:-1], words[1:])
        return words[:-1] & np.uint64((1 << 48) - 1) if self._width == 6 else words[:-1]

    def _slots(self, words: Words) -> Words:
        slots: Words = (words * np.uint64(0x9E3779B97F4A7C15)) >> self._shift
        return slots


def _mixed(one: Words, other: Words) -> Words:
    """Two words as one."""
    first, second = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA0761D6478BD642F)
    mixed: Words = np.bitwise_xor(one * first, (other ^ (other >> np.uint64(29))) * second)
    return mixed


def _held(size: int) -> int:
    """How many numbers of so many bytes a mark holds."""
    return 2 if size == 8 else 8 // size


def _as_kind(values: NDArray[np.int32], kind: str) -> NDArray[Any]:
    return (values & 0xFFFF if kind.endswith("u2") else values).astype(kind)


def _stands(data: bytes, place: int, values: NDArray[np.int32] | bytes, index: int, kind: int) -> bool:
    """Whether enough of a sequence stands around its mark to be no chance."""
    if isinstance(values, bytes):
        return data.startswith(values, place)
    dtype = np.dtype(KINDS[kind])
    before = min(index, place // dtype.itemsize, FAR)
    after = min(len(values) - index, (len(data) - place) // dtype.itemsize, FAR)
    want = _as_kind(values[index - before : index + after], KINDS[kind])
    have = np.frombuffer(data, dtype, before + after, place - before * dtype.itemsize)
    other = np.flatnonzero(want != have)
    start = other[other < before].max(initial=-1) + 1
    end = other[other >= before].min(initial=before + after)
    same = want[start:end].astype(np.float64)
    return bool(np.unique(same).size >= LEAST_DISTINCT and np.log2(1.0 + same).sum() >= LEAST_BITS)
