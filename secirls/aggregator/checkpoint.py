"""What a fit leaves on disk so that no finished round is lost: public questions and opened sums.

Promises: a file is there whole or not at all, whenever the process ends; nothing here is secret, so a
checkpoint needs no more protection than the results. Refuses to know: keys, payloads, sessions. A fit
that goes on meets anew, with fresh keys, and ends with the same bits because sums are exact.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from secirls.agreement.ledger import Row
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Opening, Progress, Record
from secirls.agreement.whole_file import UnwritableError, remove, write_whole, writing
from secirls.input_error import InputError, complain

FOLDER = "checkpoint"
HEAD, OPENING, LOCK = "fit.json", "opening.json", ".lock"
FORMAT = 1
_OURS = re.compile(r"(fit\.json|opening\.json|round-\d+\.npz)|\.(fit\.json|opening\.json|round-\d+\.npz)\.draft")
"""Files of a checkpoint, and drafts of them: whatever else a folder of that name holds is somebody's own."""


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
        if head.exists() and head.read_text(encoding="utf-8") == text:
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
        return self.folder / f"round-{number:05d}.npz"

    @classmethod
    def open(cls, folder: Path) -> tuple[Checkpoint, dict[str, Any], Past]:
        """A checkpoint, what was ordered, and the finished rounds. Raises `InputError` where there is none."""
        try:
            head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
            if head["format"] != FORMAT:
                raise complain(f"has format {head['format']}, this release reads {FORMAT}", file=str(folder / HEAD))
            told = head["begun"]
            begun = Begun(
                tuple(told["sites"]),
                told["genes"],
                {name: tuple(levels) for name, levels in told["levels"].items()},
                tuple(told["columns"]),
                dict(told.get("data", {})),
            )
            checkpoint = cls(folder, head["order"])
        except FileNotFoundError:
            raise complain("holds no unfinished fit", file=str(folder)) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise complain(f"is not a checkpoint ({type(error).__name__})", file=str(folder / HEAD)) from None
        records: list[Record] = []
        while checkpoint._round(len(records)).exists():
            records.append(_read(checkpoint._round(len(records))))
        opening = _read_opening(folder / OPENING)
        if opening is not None and opening.round < len(records):
            opening = None  # it is over
        return checkpoint, dict(head["order"]), Past(begun, tuple(records), opening)


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


def _read_opening(path: Path) -> Opening | None:
    if not path.exists():
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Opening(told["round"], bytes.fromhex(told["query"]), tuple(told["parties"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise complain(f"is not a note of a round ({type(error).__name__})", file=str(path)) from None


def _read(path: Path) -> Record:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            told = json.loads(file["told"].tobytes())
            arrays = {name: file[f"array{i}"] for i, name in enumerate(told["arrays"])}
        progress = dict(told["told"])
        progress["parties"] = tuple(progress["parties"])
        progress["lost"] = tuple((party, how) for party, how in progress["lost"])
        return Record(
            Progress(**progress),
            bytes.fromhex(told["query"]),
            arrays,
            tuple(told["cohort"]),
            tuple(Row(**row) for row in told["rows"]),
        )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise complain(f"is not a finished round ({type(error).__name__})", file=str(path)) from None
