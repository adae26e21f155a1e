"""What a fit leaves on disk so that no finished round is lost: public questions and opened sums.

Promises: a file is there whole or not at all, whenever the process ends; nothing here is secret, so a
checkpoint needs no more protection than the results. Refuses to know: keys, payloads, sessions. A fit
that goes on meets anew, with fresh keys, and ends with the same bits because sums are exact.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import TypeAdapter

from protocols.secure_sum import PartyId
from secirls.agreement.ledger import SETUP_ROUND, Row, are_counts, are_seconds
from secirls.agreement.manifest import Manifest
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Opening, Progress, Record
from secirls.input_error import InputError, complain
from secirls.numerics.arrays import Floats
from secirls.whole_file import UnwritableError, read_file, remove, stored, write_whole, writing

FOLDER = "checkpoint"
HEAD, OPENING, LOCK = "fit.json", "opening.json", ".lock"
FORMAT = 1
_NAMES = r"(fit\.json|opening\.json|round-\d+\.npz)"
_OURS = re.compile(rf"{_NAMES}|\.{_NAMES}(\.[0-9a-f]{{8}})?\.draft")
"""Files of a checkpoint, and drafts of them: whatever else a folder of that name holds is somebody's own."""


def round_file(number: int) -> str:
    """The name of a finished round's file."""
    return f"round-{number:05d}.npz"


class Checkpoint:
    """A folder with one file for the fit and one for every finished round."""

    def __init__(self, folder: Path, order: Mapping[str, Any]) -> None:
        """Take where it lies and what was ordered: the JSON from which the fit can be started again."""
        self.folder = folder
        self._order = dict(order)
        self.begun = False
        """Whether what the folder holds is this fit's from its beginning."""

    def take(self, event: Begun | Opening | Record) -> None:
        """Keep what a fit tells, by its kind."""
        match event:
            case Begun():
                self.begin(event)
            case Opening():
                self.note(event)
            case Record():
                self.keep(event)

    def begin(self, begun: Begun) -> None:
        """Start afresh, unless the folder holds this very fit already."""
        text = json.dumps({"format": FORMAT, "order": self._order, "begun": asdict(begun)}, indent=2)
        head = self.folder / HEAD
        if head.is_file() and read_file(head) == text.encode():
            return
        with writing(self.folder, "folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            _empty(self.folder)
        write_whole(head, text.encode())
        self.begun = True

    def note(self, opening: Opening) -> None:
        """Keep that a sum is about to be opened, before it is."""
        write_whole(self.folder / OPENING, json.dumps(asdict(opening) | {"query": opening.query.hex()}).encode())

    def keep(self, record: Record) -> None:
        """Keep a finished round."""
        told = {
            "told": asdict(record.told),
            "query": record.query.hex(),
            "cohort": record.cohort,
            "rows": [asdict(row) for row in record.rows],
            "arrays": list(record.arrays),
        }
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f"array{i}": array for i, array in enumerate(record.arrays.values())}
        np.savez(buffer, told=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8), **arrays)
        write_whole(self._round(record.told.round), buffer.getvalue())

    def _round(self, number: int) -> Path:
        return self.folder / round_file(number)

    @classmethod
    def open(cls, folder: Path) -> tuple[Checkpoint, dict[str, Any], Past]:
        """A checkpoint, what was ordered, and the finished rounds. Raises `InputError` where there is none."""
        head = folder / HEAD
        try:
            text = read_file(head).decode()
            told = json.loads(text)
            if told["format"] != FORMAT:
                raise complain(f"has format {told['format']!r}, this release reads {FORMAT}", file=str(head))
            begun = _HEADS.validate_json(text, strict=True).checked().begun
        except FileNotFoundError:
            raise complain("holds no unfinished fit", file=str(folder)) from None
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise complain(f"is not a checkpoint ({type(error).__name__})", file=str(head)) from None
        checkpoint = cls(folder, told["order"])
        records: list[Record] = []
        asked = begun.sites
        while (path := checkpoint._round(len(records))).exists():
            records.append(_read(path, len(records), asked))
            asked = records[-1].survivors
        opening = _read_opening(folder / OPENING)
        if opening is not None and opening.round < len(records):
            opening = None  # it is over
        return checkpoint, dict(told["order"]), Past(begun, tuple(records), opening)


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Let no other fit work in a folder for results meanwhile; nothing is left of it where no fit was begun.

    Raises `UnwritableError` where it takes no files, `InputError` where another fit works in it.
    """
    folder = out / FOLDER
    lock = FileLock(folder / LOCK)
    try:
        with writing(out, "folder"):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise InputError(f"folder {str(out)!r}: another fit is at work in it; name another folder") from None
    except UnwritableError:
        for made in (folder / LOCK, folder, out):
            remove(made)
        raise
    try:
        yield
    finally:
        if not holds_a_fit(out):
            discard(out)
        lock.release()


def holds_a_fit(out: Path) -> bool:
    """Whether a folder for results holds a fit that can go on."""
    return (out / FOLDER / HEAD).is_file()


def discard(out: Path) -> None:
    """The fit is finished, or was a mistake: take its rounds away, and the folders if nothing else is in them."""
    folder = out / FOLDER
    with suppress(OSError):
        _empty(folder)
        (folder / LOCK).unlink(missing_ok=True)
    for left in (folder, out):
        with suppress(OSError):
            left.rmdir()


def _empty(folder: Path) -> None:
    """Take away what an earlier fit left, its head first; not the lock, which is held, nor what is not a fit's."""
    head = folder / HEAD
    head.unlink(missing_ok=True)
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()


@dataclass(frozen=True)
class _Order:
    """What was ordered, as far as it is used before `Manifest` reads the rest."""

    run: str
    manifest: dict[str, Any]
    transcript: str | None = None


@dataclass(frozen=True)
class _Head:
    order: _Order
    begun: Begun

    def checked(self) -> _Head:
        """Itself. Raises `ValueError` for an order that no manifest can be of, and for sites that are not its own."""
        sites = self.begun.sites
        if not set(self.order.manifest) <= set(Manifest.model_fields):
            raise ValueError("manifest")
        if sites != tuple(sorted(set(sites) & set(self.order.manifest["sites"]))):
            raise ValueError("sites")
        return self


@dataclass(frozen=True)
class _Note:
    """An `Opening` as it is kept."""

    round: int
    query: str
    parties: tuple[PartyId, ...]


@dataclass(frozen=True)
class _Round:
    """What is kept of a `Record` beside the numbers of its arrays."""

    told: Progress
    query: str
    cohort: tuple[PartyId, ...]
    rows: tuple[Row, ...]
    arrays: tuple[str, ...]

    def checked(self, number: int, asked: tuple[PartyId, ...]) -> _Round:
        """Itself. Raises `ValueError` unless it can be the round of this number, which at most these were asked in."""
        told = self.told
        if told.round != number or not set(told.parties) <= set(self.cohort) <= set(asked):
            raise ValueError("round")
        counts = [told.values, told.active_genes, told.unfit]
        for row in self.rows:
            counts += [row.round - SETUP_ROUND, row.values, row.active_genes, row.bytes_up, row.bytes_down]
        seconds = [told.seconds, *(taken for row in self.rows for taken in (row.seconds, row.cpu_seconds))]
        if not are_counts(*counts) or not are_seconds(*seconds):
            raise ValueError("numbers")
        return self


_HEADS, _NOTES, _ROUNDS = TypeAdapter(_Head), TypeAdapter(_Note), TypeAdapter(_Round)


def _read_opening(path: Path) -> Opening | None:
    if not path.exists():
        return None
    try:
        told = _NOTES.validate_json(read_file(path), strict=True)
        return Opening(told.round, bytes.fromhex(told.query), told.parties)
    except (OSError, ValueError) as error:
        raise complain(f"is not a note of a round ({type(error).__name__})", file=str(path)) from None


def _read(path: Path, number: int, asked: tuple[PartyId, ...]) -> Record:
    """The finished round of this number, in which at most these were asked."""
    try:
        with np.load(io.BytesIO(stored(read_file(path))), allow_pickle=False) as file:
            told = _ROUNDS.validate_json(file["told"].tobytes(), strict=True).checked(number, asked)
            arrays = {name: _sums(file[f"array{i}"]) for i, name in enumerate(told.arrays)}
        return Record(told.told, bytes.fromhex(told.query), arrays, told.cohort, told.rows)
    except Exception as error:  # noqa: BLE001 - whatever reading it stumbles over, the file is none of a fit's
        raise complain(f"is not a finished round ({type(error).__name__})", file=str(path)) from None


def _sums(array: NDArray[Any]) -> Floats:
    """The same array. Raises `ValueError` for numbers that no sum is opened to."""
    if array.dtype != np.float64 or not np.isfinite(array).all():
        raise ValueError("sums")
    return array
