"""How much a site has told about its data, over all sessions: questions, numbers about every gene, design columns.

Promises: an answer is counted on the disk before it leaves, whole or not at all, whoever asks and under whatever name;
the same question about the same samples, after the same questions, gives the same numbers and is counted once.
Refuses to know: how much is too much; see `Policy`.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from protocols.secure_sum import PartyId, sha256
from secirls.input_error import InputError
from secirls.numerics.arrays import Mask
from secirls.whole_file import UnwritableError, becoming, new_file, settle

Places: TypeAlias = NDArray[np.intp]
Allowed: TypeAlias = Callable[[int, NDArray[np.int64], int], None]
"""Told how many questions were answered before this one, how many numbers of each gene it asks about will have left
with it, ``(genes asked,)``, and how many directions will have been multiplied; raises where that is too much."""

_ANY = bytes(32)


@dataclass
class Told:
    """What was told: numbers by gene of the file, directions, and digests of questions with those of their cohorts."""

    values: NDArray[np.int64]
    """``(genes of the file,)``, in the order of their names."""
    answered: list[tuple[bytes, bytes]] = field(default_factory=list)
    directions: int = 0
    """That genes' values were multiplied with, for principal components."""
    columns: frozenset[bytes] = frozenset()
    """Digests of design columns, at this site, that sums were made with."""

    def knows(self, question: bytes, cohort: bytes) -> bool:
        """Whether a question was answered for a cohort, or for any."""
        return any(asked == question and cohort in (whom, _ANY) for asked, whom in self.answered)


@lru_cache(maxsize=8)
def _named(cohort: tuple[PartyId, ...]) -> bytes:
    """A cohort, by a digest."""
    return sha256(b"secirls cohort v1", *map(str.encode, cohort))


def places_of(agreed: Sequence[str], genes: Sequence[str]) -> Places:
    """Where agreed genes stand among a file's, sorted by name: an order that does not change with the file's."""
    return np.searchsorted(np.sort(np.array(genes)), np.array(agreed))


class Budget:
    """What one site has told of one data set; in a file, or where it has none in this process alone."""

    def __init__(self, site: PartyId, genes: int, places: Places | None = None, file: Path | None = None) -> None:
        """Take how many genes the data has, where the agreed ones stand among them, and where it is kept."""
        self._site = site
        self._file = file
        self._places = np.arange(genes) if places is None else places
        self._told = Told(np.zeros(genes, dtype=np.int64))
        self._seen: bytes | None = None

    def spend(
        self,
        question: bytes,
        cohort: tuple[PartyId, ...] | None,
        genes: Mask,
        values: int,
        allowed: Allowed,
        directions: int = 0,
    ) -> None:
        """Count a question, by its digest and all before it, about some agreed genes: so many ``values`` of each.

        One that was counted before for this cohort is not counted again; one that is recalled, with ``None`` for a
        cohort, is not where it was counted for any. Raises what ``allowed`` raises, and `InputError` where nothing can
        be kept: then the question must not be answered.
        """
        whom = _ANY if cohort is None else _named(cohort)
        with self._held():
            told = self._told
            if told.knows(question, whom):
                return
            after, asked = told.values.copy(), self._places[genes]
            after[asked] += values
            multiplied = told.directions + directions
            allowed(len(told.answered), after[asked], multiplied)
            self._keep(replace(told, values=after, answered=[*told.answered, (question, whom)], directions=multiplied))

    def take_columns(self, columns: Iterable[bytes], allowed: Callable[[int], None]) -> None:
        """Count design columns, by digest; those of before are not counted again.

        Raises what ``allowed`` raises, told how many there will have been, and `InputError` where nothing can be kept.
        """
        with self._held():
            after = self._told.columns.union(columns)
            if after != self._told.columns:
                allowed(len(after))
                self._keep(replace(self._told, columns=after))

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Read what is kept; no other process reads or writes meanwhile."""
        if self._file is None:
            yield
            return
        with held(self._site, self._file, "told"):
            # What nobody else changed meanwhile is known: to unpack it anew takes longer than all else of a count.
            if self._file.exists() and (found := self._file.read_bytes()) != self._seen:
                self._told, self._seen = _read(found, self._told.values.size), found
            yield

    def _keep(self, told: Told) -> None:
        if self._file is not None:
            self._seen = _write(self._file, told)
        self._told = told


@contextmanager
def held(site: PartyId, file: Path, what: str) -> Iterator[None]:
    """No other process reads or writes the file meanwhile.

    Raises `InputError` where it can't be read or kept: a site's memory of ``what`` it did.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock"), mode=0o600):
            yield
    except InputError:
        raise
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise unkept(site, what, error) from None


def unkept(site: PartyId, what: str, error: Exception) -> UnwritableError:
    """What is said where a site's memory of ``what`` it did can't be kept: no mistake of the fit's, which can go on."""
    why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return UnwritableError(f"site {site!r}: can't keep what it {what} ({why}): its policy may name a folder as memory")


def _read(data: bytes, genes: int) -> Told:
    told = _unpacked(data)
    if told.values.shape != (genes,):
        raise ValueError("another data set's")
    return told


def read_told(file: Path) -> Told:
    """What a file of a budget says, whichever data it is about. Raises `ValueError` and others where it is none."""
    return _unpacked(file.read_bytes())


def _unpacked(data: bytes) -> Told:
    with np.load(io.BytesIO(data), allow_pickle=False) as kept:
        values, answered = kept["values"], kept["answered"]
        directions = int(kept["directions"]) if "directions" in kept else 0  # a file of before there were any
        columns = kept["columns"] if "columns" in kept else np.zeros((0, 32), dtype=np.uint8)
    if values.ndim != 1 or values.dtype != np.int64 or answered.shape[1:] != (2, 32):
        raise ValueError("no budget")
    told = [(question.tobytes(), whom.tobytes()) for question, whom in answered]
    return Told(values, told, directions, frozenset(column.tobytes() for column in columns))


def _write(file: Path, told: Told) -> bytes:
    """Replace the file, so that it is there whole or as it was, also where the machine stops; gives what it holds."""
    rows = np.frombuffer(b"".join(map(b"".join, told.answered)), dtype=np.uint8).reshape(-1, 2, 32)
    columns = np.frombuffer(b"".join(sorted(told.columns)), dtype=np.uint8).reshape(-1, 32)
    text = io.BytesIO()
    np.savez(text, values=told.values, answered=rows, directions=np.int64(told.directions), columns=columns)
    replace_file(file, text.getbuffer())
    return text.getvalue()


def replace_file(file: Path, data: memoryview) -> None:
    """Have a file with these bytes, for its owner's eyes alone, on the disk, or what was there before."""
    draft = file.with_suffix(".draft")
    with becoming(file, draft), new_file(draft, 0o600) as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    settle(file.parent)
