"""Reads a transcript again: whether all went as the protocol says, and what is there that should not be.

Promises: the aggregator's part is done again from what was received, so every signature is verified, every
sum recomputed and every question and request compared, bit by bit. (Questions are floating point: audit with the
NumPy that made them.) Refuses to know: any secret of a site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from protocols.choice import helpers
from protocols.primitives import ring
from protocols.secure_sum import PartyId
from protocols.secure_sum import Total as Opened
from secirls.aggregator import transcript
from secirls.aggregator.aggregator import lead
from secirls.aggregator.rounds import SPOKEN
from secirls.agreement.agreement import Facts
from secirls.agreement.faults import PartyFaultError
from secirls.agreement.order import Task
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Record, sum_digest
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.design import Variable, variables
from secirls.inputs.site_file import Reading, read_site
from secirls.site.site import Answer

SUSPICIOUS = 10.0
"""Standard deviations that the bytes of a hidden payload may be from uniform."""

LEAST_BYTES = 2048
"""Payloads shorter than this are too short to tell."""


@dataclass
class Audit:
    """What was checked and what was found; nothing found is good."""

    entries: int = 0
    messages: int = 0
    rounds: int = 0
    ended: str = "with a result"
    breaks: list[str] = field(default_factory=list)
    """Where the fit ended early and was resumed, and what a crash cut off there."""
    findings: list[str] = field(default_factory=list)


def audit(folder: Path, files: Mapping[PartyId, str] | None = None) -> Audit:
    """Check a transcript, where given also against sites' own ``files`` (run where those may be read).

    Raises `InputError` where the chain or a message does not hold: then nothing else can be said.
    """
    entries = list(transcript.read(folder))
    if not entries or entries[0][0] != "begun":
        raise InputError(f"folder {str(folder)!r}: the transcript has no beginning")
    done = Audit(entries=len(entries))
    for path in sorted((folder / transcript.MESSAGES).iterdir()):
        transcript.message(folder, path.name)
        done.messages += 1
    _again(folder, entries, done)
    config = Config.read("transcript", **_options(entries[0][1]))
    done.findings += _lengths(folder, config, entries) + _shows(folder, files or {}, config)
    return done


def _again(folder: Path, entries: list[tuple[str, Any]], done: Audit) -> None:
    """Do every part again: up to the first break, and from each break on with the sums recomputed until then."""
    run = entries[0][1]["map"]["run"]
    starts = [place for place, (what, _) in enumerate(entries) if place == 0 or what == "resumed"]
    begun: Begun | None = None
    records: list[Record] = []
    opened: dict[bytes, tuple[PartyId, ...]] = {}
    for start, end in zip(starts, [*starts[1:], len(entries)], strict=True):
        told = entries[start][1]
        past = None
        if start:
            done.breaks.append(_break(start, told["map"]))
            kept = told["map"]["rounds"]
            mine = [{"map": {"query": record.query.hex(), "sum": sum_digest(record).hex()}} for record in records]
            wrong = [number for number, entry in enumerate(kept) if mine[number : number + 1] != [entry]]
            if wrong or begun is None:
                number = wrong[0] if wrong else 0
                done.findings.append(f"entry {start + 1}: the sum of round {number} is not that of the earlier part")
                return
            del records[len(kept) :]
            past = Past(begun, tuple(records))
        config = Config.read("transcript", **_options(told))
        again = _Again(folder, config, entries, start, end, len(records))
        last = end == len(entries)
        done.ended = "with a result"
        try:
            for event in lead(Task(config, run, past), again, again):
                if isinstance(event, Begun):
                    begun = event
                elif isinstance(event, Record):
                    records.append(event)
                    done.findings += _other_sites(opened, event)
        except (*SPOKEN, PartyFaultError) as error:
            done.ended = f"early: {error}"
        except EndError as error:
            # Where nothing follows, an end that was cut off looks as an interruption does.
            done.ended = "unknown"
            done.findings += [str(error)] if last else []
        except MismatchError as error:
            done.ended = "unknown"
            done.findings.append(str(error))
            return
        finally:
            done.rounds += again.opened_again
        if done.ended != "unknown" and again.left():
            done.findings.append(f"{again.left()} entries follow the end of the fit")
        # Where all its rounds were kept nothing was asked again: the results had only not been written.
        if done.ended == "with a result" and not last and len(entries[end][1]["map"]["rounds"]) < len(records):
            done.findings.append(f"entry {end + 1}: a fit that ended with a result was resumed")


def _other_sites(opened: dict[bytes, tuple[PartyId, ...]], record: Record) -> list[str]:
    """Whether a question was opened over other sites before, which gives the difference away."""
    parties = record.told.parties
    before = opened.setdefault(record.query, parties)
    if before == parties:
        return []
    return [f"round {record.told.round}: opened over {', '.join(before)} and again over {', '.join(parties)}"]


def _break(place: int, told: Mapping[str, Any]) -> str:
    cut = f"; an unfinished entry of {told['cut']} bytes before it was cut off" if told["cut"] else ""
    return f"resumed at entry {place + 1} after {len(told['rounds'])} rounds{cut}"


class MismatchError(Exception):
    """The transcript says something else than the protocol would."""


class EndError(MismatchError):
    """The transcript, or a part of it, ends before the fit does."""


class _Again:
    """A federation that answers from a transcript, and compares what it is asked with what was asked then."""

    def __init__(
        self, folder: Path, config: Config, entries: list[tuple[str, Any]], start: int, end: int, first: int
    ) -> None:
        """Take one part: the entries after ``start`` up to ``end``, and the number of its ``first`` round."""
        self._folder = folder
        self._extra = helpers(config.protocol)
        self._entries = entries[:end]
        self._next = start + 1
        self.sites: tuple[PartyId, ...] = tuple(entries[start][1]["map"]["sites"])
        self.sums = first
        self.opened_again = 0

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Compare the questions; give the answers of then."""
        asked = transcript.digests({"verb": verb, "to": dict(arguments)})
        self._expect("sent", asked, f"{verb!r} of round {self.sums} was asked otherwise")
        told = self._take("received")["map"]
        return {name: self._value(verb, name, answer) for name, answer in told["from"]["map"].items()}

    def fence(self, party: PartyId) -> None:
        """As it was then."""
        self._expect("fenced", party, f"{party} should have been fenced")

    def entropy(self, count: int) -> bytes:
        """What the collector drew then."""
        drawn = transcript.message(self._folder, self._take("drawn")["bytes"])
        if len(drawn) != count:
            raise MismatchError("the collector drew another number of random bytes")
        return drawn

    def opened(self, total: Opened) -> None:
        """Compare a sum that was opened again with the one of then."""
        mine = transcript.digests({"vector": ring.to_bytes(total.vector), "parties": list(total.parties)})
        self._expect("opened", mine, f"the sum of round {self.sums} is another")
        self.sums += 1
        self.opened_again += 1

    def left(self) -> int:
        """How many entries were not needed."""
        return len(self._entries) - self._next

    def _take(self, what: str) -> Any:
        if self._next >= len(self._entries):
            raise EndError(f"the transcript ends where {what!r} should follow")
        said, content = self._entries[self._next]
        if said != what:
            raise MismatchError(f"entry {self._next + 1} says {said!r} where {what!r} should follow")
        self._next += 1
        return content

    def _expect(self, what: str, content: Any, otherwise: str) -> None:
        if self._take(what) != content:
            raise MismatchError(f"entry {self._next}: {otherwise}")

    def _value(self, verb: str, name: PartyId, told: Any) -> Any:
        """An answer as it was received, of the few kinds there are; anything else is nonsense then and now."""
        if isinstance(told, dict):
            if "bytes" in told:
                return transcript.message(self._folder, told["bytes"])
            if "error" in told:
                kind = told["error"]
                return PartyFaultError(name, verb, kind) if kind == "PartyFaultError" else InputError(told["says"])
            if told.get("type") == "Answer" and isinstance(told.get("fields", {}).get("message"), dict):
                return Answer(transcript.message(self._folder, told["fields"]["message"]["bytes"]), ())
            if told.get("type") == "Facts":
                return self._facts(told["fields"])
            return object()
        return told

    def _facts(self, told: dict[str, Any]) -> Facts:
        seen = {
            name: Variable(entry["fields"]["numeric"], tuple(entry["fields"]["levels"]))
            for name, entry in told["variables"]["map"].items()
        }
        identity = transcript.message(self._folder, told["identity"]["bytes"])
        return Facts(told["site"], told["file"], identity, tuple(told["genes"]), seen)


def _options(begun: Any) -> dict[str, Any]:
    """The configuration from its entry."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: bare(item) for name, item in value["map"].items()}
        return [bare(item) for item in value] if isinstance(value, list) else value

    return dict(bare(begun["map"]["config"]))


def _lengths(folder: Path, config: Config, entries: list[tuple[str, Any]]) -> list[str]:
    """Payloads of one round are as long as each other, and those that should hide look like noise."""
    found = []
    number = -1
    for what, content in entries:
        if what == "resumed":
            number = len(content["map"]["rounds"]) - 1
        if what != "received" or content["map"]["verb"] != "contribute":
            continue
        number += 1
        sent = {}
        for name, answer in content["map"]["from"]["map"].items():
            if isinstance(answer, dict) and answer.get("type") == "Answer":
                sent[name] = transcript.message(folder, answer["fields"]["message"]["bytes"])
        if len({len(data) for data in sent.values()}) > 1:
            told = ", ".join(f"{name} {len(data)}" for name, data in sent.items())
            found.append(f"round {number}: payloads differ in length ({told} bytes)")
        if config.protocol != "plain":
            found += [
                f"round {number}: the payload of {name} does not look like noise"
                for name, data in sent.items()
                if unlike_noise(data)
            ]
    return found


def unlike_noise(data: bytes) -> bool:
    """Whether the bytes are further from uniform than chance allows (chi-square with 255 degrees of freedom)."""
    if len(data) < LEAST_BYTES:
        return False
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    return chi_square > 255 + SUSPICIOUS * float(np.sqrt(2 * 255))


def _shows(folder: Path, files: Mapping[PartyId, str], config: Config) -> list[str]:
    """Whether a site's sample names, or the counts of a sample or gene, stand anywhere in the transcript."""
    found = []
    kept: list[Callable[[], bytes]] = [(folder / transcript.LINES).read_bytes]
    kept += [path.read_bytes for path in sorted((folder / transcript.MESSAGES).iterdir())]
    for site, file in files.items():
        needles = _needles(site, file, config)
        for load in kept:
            data = load()
            found += sorted(
                {f"{what} of site {site} stands in a message" for needle, what in needles if needle in data}
            )
    return found


def _needles(site: PartyId, file: str, config: Config) -> list[tuple[bytes, str]]:
    """What to look for: names as text, and counts of a sample as numbers of four or eight bytes."""
    table = read_site(site, file, Reading(variables(config.design), config.layer, declared=config.levels))
    needles = [(str(sample).encode(), "a sample name") for sample in table.obs.index]
    for row in table.counts:
        telling = row[: max(8, len(row) // 4)]
        if np.unique(telling).size > 3:
            needles += [
                (telling.astype(kind).tobytes(), "the counts of a sample") for kind in ("<i4", "<i8", "<f4", "<f8")
            ]
    return needles
