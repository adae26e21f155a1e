"""Everything the aggregator received and sent, in order, on its own disk: each line bound to all before it.

Promises: an entry holds the SHA-256 of the one before, and every message of bytes lies in a file named by
its own digest, so that nothing can be changed, left out or put in without `read` noticing. A round is on the disk
before anybody hears that it is over: where a machine stops, none is missing here that its checkpoint has. A fit that
ends with a result or an error says so in a closing entry, so that an end that was cut off is missed; a resumed fit goes
on in the same chain. Whoever keeps the folder can still chain another end: no entry is signed. Refuses to know: what
the messages mean. What is kept is what an honest-but-curious aggregator has: it is for the eyes of its owner alone,
from the moment it is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from protocols.primitives import ring
from protocols.secure_sum import PartyId
from protocols.secure_sum import Total as Opened
from secirls.aggregator.aggregator import Event, Outcome, lead
from secirls.aggregator.asking import Federation
from secirls.agreement.agreement import release
from secirls.agreement.faults import PartyFaultError
from secirls.agreement.ledger import LARGEST_COUNT
from secirls.agreement.order import Task
from secirls.agreement.record import Record, sum_digest
from secirls.input_error import InputError, complain
from secirls.inputs.files.kinds_of_file import kind_of
from secirls.site.desk import SPOKEN
from secirls.whole_file import UnwritableError, becoming, remove, settle, writing

LINES, MESSAGES, DRAFT, LOCK = "transcript.jsonl", "messages", ".draft", ".lock"
FIRST = "0" * 64
"""What the first entry names as the one before."""

FOLDER_MODE, FILE_MODE = 0o700, 0o600
_DIGEST = re.compile("[0-9a-f]{64}")

AT_ONCE = 8
"""Files that get to the disk together, which takes a fraction of one after another."""

UNSETTLED = 2
"""Rounds at the end that may not have got to the disk: the last, and one that was told of while that took its time."""

HOLD_SECONDS = 60.0
"""How long a resumed fit waits for the process that wrote the transcript before."""


class Transcript:
    """Writes a transcript into a folder of its own; a fit that goes on continues what it left there."""

    def __init__(self, folder: Path, before: str = FIRST, entries: int = 0) -> None:
        """Take the folder, and the digest of the last of so many entries in it; `begun` and `resumed` know them."""
        self._folder = folder
        self._before = before
        self._entries = entries
        self._torn = False
        self._unsettled: list[Path] = []

    @classmethod
    def begun(cls, folder: Path, task: Task, sites: tuple[PartyId, ...]) -> Transcript:
        """Begin in a folder that `make` made."""
        transcript = cls(folder)
        configuration = task.config.model_dump(mode="json")
        told = {"config": configuration, "sites": list(sites), "run": task.run, "release": release()}
        transcript.write("begun", told)
        return transcript

    @classmethod
    def resumed(cls, folder: Path, task: Task, sites: tuple[PartyId, ...]) -> Transcript:
        """Go on after the last whole entry, and say which rounds are not asked again and what a crash left behind.

        That is an end that was cut off, and messages whose entries were lost: they stay, and are named from now on.

        Raises `InputError` where the folder holds no transcript of this fit.
        """
        cut = _cut_torn_end(folder)
        before, whose, number = FIRST, None, 0
        kept: set[str] = set()
        for digest, what, content in _chain(folder):
            before, number = digest, number + 1
            kept |= named(content)
            whose = content["map"]["run"] if what == "begun" else whose
        if whose != task.run:
            raise complain("holds no transcript of this fit to continue", file=str(folder))
        unnamed = sorted(path.name for path in (folder / MESSAGES).iterdir() if path.name not in kept)
        left = [name for name in unnamed if _is_whole(folder, name)]
        for name in filter(_DIGEST.fullmatch, set(unnamed) - set(left)):  # a part of a message, which nobody can name
            remove(folder / MESSAGES / name)
        transcript = cls(folder, before, number)
        records = () if task.past is None else task.past.records
        rounds = [{"query": record.query.hex(), "sum": sum_digest(record).hex()} for record in records]
        told = {
            "config": task.config.model_dump(mode="json"),
            "sites": list(sites),
            "release": release(),
            "rounds": rounds,
            "cut": cut,
            "left": [(folder / MESSAGES / name).read_bytes() for name in left],
        }
        transcript.write("resumed", told)
        return transcript

    def write(self, what: str, content: Any) -> None:
        """Add an entry; bytes go to files of their own."""
        try:
            text = canonical({"what": what, "content": self._plain(content), "before": self._before})
            self._before = hashlib.sha256(text.encode()).hexdigest()
            with writing(self._folder / LINES):
                _write(self._folder / LINES, text.encode() + b"\n", os.O_APPEND)
        except UnwritableError:
            self._torn = True
            raise
        self._entries += 1

    def close(self, end: Outcome | Exception) -> None:
        """Say how the fit ended, and after how many entries; more can follow only where it ended early.

        Nothing is said after an entry that found no room, as in a crash: what it was about would be missing before it.
        """
        if self._torn:
            return
        self.write("ended", {**ending(end), "entries": self._entries})

    def settle(self) -> None:
        """Have all that was written on the disk: messages, entries, and the folders' own. Raises `UnwritableError`."""
        files = [*self._unsettled, self._folder / LINES, self._folder / MESSAGES, self._folder]
        with writing(self._folder, "folder"), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(settle, files))
        self._unsettled.clear()

    def entropy(self, count: int) -> bytes:
        """Random bytes for the collector, which the audit needs to do the same again."""
        drawn = secrets.token_bytes(count)
        self.write("drawn", drawn)
        return drawn

    def opened(self, total: Opened) -> None:
        """Note an opened sum."""
        self.write("opened", opened_sum(total))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, bytes):
            name = hashlib.sha256(value).hexdigest()
            path = self._folder / MESSAGES / name
            if not path.exists():
                draft = self._folder / DRAFT
                with writing(path), becoming(path, draft):
                    _write(draft, value, os.O_TRUNC)
                self._unsettled.append(path)
            return {"bytes": name}
        return plain(value, self._plain)


class Witnessed:
    """A federation whose messages are written down as they pass."""

    def __init__(self, federation: Federation, transcript: Transcript) -> None:
        self._federation = federation
        self._transcript = transcript

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        return self._federation.sites

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Write down what is sent, ask, and write down what is received."""
        self._transcript.write("sent", {"verb": verb, "to": dict(arguments)})
        answers = self._federation.ask(verb, arguments)
        self._transcript.write("received", {"verb": verb, "from": answers})
        return answers

    def fence(self, party: PartyId) -> None:
        """Have nothing more to do with a party."""
        self._transcript.write("fenced", party)
        self._federation.fence(party)


def witnessed(task: Task, federation: Federation) -> Iterator[Event]:
    """Lead a fit and, where a folder is named, write down every message; a resumed fit's after those it left.

    Who is interrupted (a signal, a driver that went away) says nothing more, as in a crash.
    """
    if task.transcript is None:
        yield from lead(task, federation)
        return
    place = Path(task.transcript)
    if task.past is None:
        make(place)
    with held(place):
        go_on = Transcript.begun if task.past is None else Transcript.resumed
        transcript = go_on(place, task, federation.sites)
        try:
            for event in lead(task, Witnessed(federation, transcript), transcript):
                if isinstance(event, Outcome):
                    transcript.close(event)
                if isinstance(event, Record | Outcome):
                    transcript.settle()
                yield event
        except Exception as error:
            with suppress(UnwritableError):  # a full disk ends the fit, and can't be told on it
                transcript.close(error)
                transcript.settle()
            raise


def ending(end: Outcome | Exception) -> dict[str, Any]:
    """How a fit ended: the digest of its result, or the kind of an error and what was written for others to read."""
    if isinstance(end, Outcome):
        return {"how": "result", "digest": result_digest(end)}
    spoken = isinstance(end, (*SPOKEN, PartyFaultError))
    return {"how": "error", "kind": type(end).__name__, "says": str(end) if spoken else None}


def result_digest(outcome: Outcome) -> str:
    """What names a fit's result, hexadecimal: every number of it, the genes in order, the design, and who took part."""
    told = {"fitted": outcome.fitted, "genes": outcome.genes, "design": outcome.design, "sites": outcome.sites}
    return hashlib.sha256(canonical(digests(told)).encode()).hexdigest()


def opened_sum(total: Opened) -> dict[str, Any]:
    """An opened sum as it is written down: ring elements before they are decoded, parties, unfit shares."""
    return {"vector": ring.to_bytes(total.vector), "parties": list(total.parties), "unfit": total.unfit}


def plain(value: Any, inner: Any) -> Any:
    """A value as JSON, parts of it by ``inner``: the same for equal values, whatever wrote them."""
    if isinstance(value, Exception):
        given = inner(value.__reduce__()[1])  # what it is made from, as for pickling
        return {"error": type(value).__name__, "says": str(value), "given": given}
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        return {"array": value.dtype.name, "shape": list(value.shape), "holds": inner(little.tobytes())}
    if is_dataclass(value) and not isinstance(value, type):
        told = {item.name: inner(getattr(value, item.name)) for item in fields(value)}
        return {"type": type(value).__name__, "fields": told}
    if isinstance(value, Mapping):
        return {"map": {str(name): inner(value[name]) for name in sorted(value, key=str)}}
    if isinstance(value, tuple | list):
        return [inner(item) for item in value]
    if isinstance(value, int) and abs(value) > LARGEST_COUNT:
        return {"type": "int"}  # of nonsense, which may be too long for a line
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return {"type": type(value).__name__}


def canonical(entry: Mapping[str, Any]) -> str:
    """The one JSON text of an entry."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"))


def digests(value: Any) -> Any:
    """As `plain`, with bytes by digest alone: to compare with what was written down."""
    if isinstance(value, bytes):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    return plain(value, digests)


def named(content: Any) -> set[str]:
    """The messages that an entry names."""
    if isinstance(content, list):
        return set().union(*map(named, content))
    if not isinstance(content, dict):
        return set()
    if content.keys() == {"bytes"} and isinstance(content["bytes"], str):
        return {content["bytes"]}
    return set().union(*map(named, content.values()))


def read(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every entry, each checked against the one before. Raises `InputError` at the first that does not hold."""
    for _, what, content in _chain(folder):
        yield what, content


def _chain(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """As `read`, with the digest of every entry."""
    before, number = FIRST, 0
    try:
        if kind_of(folder / LINES) != "file":
            raise complain("is no regular file", file=str(folder / LINES))
        with (folder / LINES).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                text = line.removesuffix("\n")
                entry = json.loads(text)
                if entry["before"] != before or canonical(entry) != text:
                    raise complain(f"entry {number} does not follow the one before it", file=str(folder / LINES))
                before = hashlib.sha256(text.encode()).hexdigest()
                yield before, entry["what"], entry["content"]
    except FileNotFoundError:
        raise complain("holds no transcript", file=str(folder)) from None
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise complain(f"entry {number} can't be read ({type(error).__name__})", file=str(folder / LINES)) from None


def make(folder: Path) -> None:
    """A folder for a transcript, its owner's alone. Raises `InputError` where it is there and holds anything."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise complain("is not empty, and only a resumed fit continues its own transcript", file=str(folder))
    with writing(folder, "folder"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.chmod(FOLDER_MODE)
        else:
            folder.mkdir(FOLDER_MODE)
        (folder / MESSAGES).mkdir(FOLDER_MODE)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Let no other process write here meanwhile. Raises `InputError` where one does and does not end soon."""
    if not folder.is_dir():
        raise complain("holds no transcript of this fit to continue", file=str(folder))
    lock = FileLock(folder / LOCK, mode=FILE_MODE)
    try:
        lock.acquire(timeout=HOLD_SECONDS)
    except Timeout:
        raise complain("is still written by another process", file=str(folder)) from None
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, data: bytes, how: int) -> None:
    """Write to a file that, where it is new, is its owner's alone from the start."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, FILE_MODE), "wb") as file:
        file.write(data)


def _cut_torn_end(folder: Path) -> int:
    """Cut off what a crash left unfinished, an entry or those from the first on that lost a message: so many bytes."""
    try:
        with (folder / LINES).open("r+b") as file:
            data = file.read()
            kept = _borne_out(folder, data[: data.rfind(b"\n") + 1])
            file.truncate(kept)
    except OSError:
        raise complain("holds no transcript of this fit to continue", file=str(folder)) from None
    return len(data) - kept


def _borne_out(folder: Path, data: bytes) -> int:
    """Up to where whole entries name whole messages; those before the last round but one have long been settled."""
    kept = place = len(data)
    rounds = 0
    with suppress(ValueError, LookupError, TypeError):  # what is no entry `_chain` complains of
        for line in reversed(data.splitlines(keepends=True)):
            place -= len(line)
            entry = json.loads(line)
            rounds += entry["what"] == "opened"
            if rounds > UNSETTLED:
                break
            if not all(_is_whole(folder, name) for name in named(entry["content"])):
                kept = place
    return kept


def _is_whole(folder: Path, name: str) -> bool:
    try:
        message(folder, name)
    except InputError:
        return False
    return True


def message(folder: Path, name: str) -> bytes:
    """A message by its digest. Raises `InputError` where it is missing or is another.

    Nothing is opened that whoever made the transcript may have named otherwise, or put a link or a device for.
    """
    path = folder / MESSAGES / name
    if not _DIGEST.fullmatch(name):
        raise complain("names a message otherwise than by its digest", file=str(folder / LINES))
    try:
        if kind_of(path, links=False) != "file":
            raise complain("is no regular file", file=str(path))
        data = path.read_bytes()
    except OSError:
        raise complain("is missing", file=str(path)) from None
    if hashlib.sha256(data).hexdigest() != name:
        raise complain("was changed", file=str(path))
    return data
