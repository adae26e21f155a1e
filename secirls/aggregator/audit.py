"""Reads a transcript again: whether all went as the protocol says, and what is there that should not be.

Promises: the aggregator's part is done again from what was received, so every signature is verified, every
sum recomputed and every question, request and result compared, bit by bit. (Questions are floating point: audit with
the NumPy that made them.) What an audit can't tell it says in words. Refuses to know: any secret of a site, and
what passed beside the transcript.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.choice import helpers
from protocols.primitives import ring
from protocols.secure_sum import DropoutError, IntegrityError, MisuseError, PartyId, PeerError, SecureSumError
from protocols.secure_sum import Total as Opened
from secirls.aggregator import transcript
from secirls.aggregator.aggregator import Outcome, lead
from secirls.agreement.agreement import Facts
from secirls.agreement.faults import BlockedPartyError, PartyFaultError, SilentSitesError
from secirls.agreement.order import Task
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Record, sum_digest
from secirls.algorithms.query import QueryError
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.design import Variable, variables
from secirls.inputs.site_file import Reading, SiteTable, read_site
from secirls.numerics.samples import Mask
from secirls.site.policy import RefusalError
from secirls.site.site import Answer

SUSPICIOUS = 10.0
"""Standard deviations that the bytes of a hidden payload may be from uniform."""

LEAST_BYTES = 2048
"""Payloads shorter than this are too short to tell."""

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

OFF_THE_RECORD = "only what was written down was read: what was asked beside the transcript leaves no trace in it"
UNSIGNED_END = (
    "the end is signed by nobody: whoever keeps the transcript can cut it and chain another end to it, such as a site "
    "that fell silent"
)
UNSIGNED_FACTS = "what sites say before they meet (gene names, levels) is signed by nobody"
NO_ROSTER = "no roster was given: nobody outside vouches for the keys, and all of it may be made up"
NOBODY_MET = "nobody signed anything before the fit ended: the keys of the roster vouch for nothing"
PLAIN = "the protocol 'plain' signs no payload: a roster vouches for who met, and not for what they sent"
NO_FILES = "no site's file was given, so no message was searched for what the file holds"

RAISED = {
    kind.__name__: kind
    for kind in (
        InputError,
        RefusalError,
        QueryError,
        SecureSumError,
        MisuseError,
        PeerError,
        DropoutError,
        IntegrityError,
        SilentSitesError,
        PartyFaultError,
        BlockedPartyError,
    )
}
"""Errors that a party answers with, by name."""


Words: TypeAlias = NDArray[np.uint64]


@dataclass
class Audit:
    """What was checked and what was found; nothing found is good."""

    entries: int = 0
    messages: int = 0
    rounds: int = 0
    ended: str = "with a result"
    result: str = ""
    """Digest of the result, hexadecimal, where there is one."""
    breaks: list[str] = field(default_factory=list)
    """Where the fit ended early and was resumed, and what a crash cut off or left there."""
    findings: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    """What this audit can't tell."""


def audit(
    folder: Path, files: Mapping[PartyId, str] | None = None, roster: Mapping[PartyId, str] | None = None
) -> Audit:
    """Check a transcript, where given also against sites' own ``files`` (run where those may be read).

    A ``roster`` comes from elsewhere than the transcript: names and hexadecimal keys, as `read_roster` gives them.

    Raises `InputError` where the chain or a message does not hold: then nothing else can be said.
    """
    entries = list(transcript.read(folder))
    if not entries or entries[0][0] != "begun":
        raise InputError(f"folder {str(folder)!r}: the transcript has no beginning")
    done = Audit(entries=len(entries))
    messages = sorted((folder / transcript.MESSAGES).iterdir())
    for path in messages:
        transcript.message(folder, path.name)
    done.messages = len(messages)
    try:
        keys = _again(folder, entries, done)
        config = Config.read("transcript", **_options(entries[0][1]))
        done.findings += _two_questions(entries) + _lengths(folder, config, entries) + _unnamed(folder, entries)
        if roster is not None:
            done.findings += _strangers(keys, roster)
        done.limits = _limits(config, entries, roster)
        if files:
            shown, unseen = _shows([folder / transcript.LINES, *messages], files, config)
            done.findings += shown
            done.limits += unseen
        else:
            done.limits.append(NO_FILES)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        told = f"folder {str(folder)!r}: an entry is not as a fit writes it ({type(error).__name__})"
        raise InputError(told) from error
    return done


def _limits(config: Config, entries: list[tuple[str, Any]], roster: Mapping[PartyId, str] | None) -> list[str]:
    """What can't be told from the entries alone."""
    told = [OFF_THE_RECORD, UNSIGNED_END, UNSIGNED_FACTS]
    if roster is None:
        return [*told, NO_ROSTER]
    if config.protocol == "plain":
        told.append(PLAIN)
    if not any(what == "received" and content["map"]["verb"] == "meet" for what, content in entries):
        told.append(NOBODY_MET)
    return told


def _again(folder: Path, entries: list[tuple[str, Any]], done: Audit) -> dict[PartyId, set[bytes]]:
    """Do every part again: up to the first break, and from each break on with the sums recomputed until then.

    Gives the keys that everyone came with.
    """
    run = entries[0][1]["map"]["run"]
    starts = [place for place, (what, _) in enumerate(entries) if place == 0 or what == "resumed"]
    begun: Begun | None = None
    records: list[Record] = []
    opened: dict[bytes, tuple[PartyId, ...]] = {}
    keys: dict[PartyId, set[bytes]] = {}
    for start, end in zip(starts, [*starts[1:], len(entries)], strict=True):
        told = entries[start][1]
        past = None
        if start:
            done.breaks.append(_break(entries, start))
            kept = told["map"]["rounds"]
            wrong = _first_other(kept, records)
            if wrong is not None or begun is None:
                done.findings.append(
                    f"entry {start + 1}: the sum of round {wrong or 0} is not that of the earlier part"
                )
                return keys
            del records[len(kept) :]
            past = Past(begun, tuple(records))
            done.findings += [f"entry {start + 1}: {what}" for what in _another_fit(entries[0][1], told, past)]
        config = Config.read("transcript", **_options(told))
        again = _Again(folder, config, entries, start, end, len(records), keys)
        last = end == len(entries)
        done.ended, done.result = "unknown", ""
        outcome: Outcome | Exception | None = None
        try:
            for event in lead(Task(config, run, past), again, again):
                if isinstance(event, Begun):
                    begun = event
                elif isinstance(event, Record):
                    records.append(event)
                    done.findings += _other_sites(opened, event)
                elif isinstance(event, Outcome):
                    outcome = event
        except EndError as error:
            done.findings += [str(error)] if last else []
        except MismatchError as error:
            done.findings.append(str(error))
            return keys
        except Exception as error:  # noqa: BLE001 - whatever ended the fit ends it again, and must be what it says
            outcome = error
        finally:
            done.rounds += again.opened_again
        if outcome is None:
            continue
        if isinstance(outcome, Outcome):
            done.ended, done.result = "with a result", transcript.result_digest(outcome)
        else:
            done.ended = f"early: {transcript.ending(outcome)['says'] or type(outcome).__name__}"
        done.findings += again.closing(outcome, last=last)
        if isinstance(outcome, Outcome) and not last:
            done.findings.append(f"entry {end + 1}: a fit that ended with a result was resumed")
    return keys


def _first_other(kept: list[Any], records: list[Record]) -> int | None:
    """The first round that a part goes on from and that was not opened so before."""
    mine = [{"map": {"query": record.query.hex(), "sum": sum_digest(record).hex()}} for record in records]
    return next((number for number, entry in enumerate(kept) if mine[number : number + 1] != [entry]), None)


def _another_fit(first: Any, told: Any, past: Past) -> list[str]:
    """Whether a part asks other sites, or for something else, than what it goes on from allows."""
    found = []
    if tuple(told["map"]["sites"]) != past.cohort:
        found.append(f"resumed over {', '.join(told['map']['sites'])}, and {', '.join(past.cohort)} were left")
    was, now = (Config.read("transcript", **_options(part)) for part in (first, told))
    if past.cohort != past.begun.sites:
        threshold = was.settings().threshold_for(len(past.begun.sites))
        was = was.model_copy(update={"threshold": threshold, "levels": dict(past.begun.levels)})
    changed = [name for name in Config.model_fields if getattr(was, name) != getattr(now, name)]
    if changed:
        found.append(f"resumed with another {', '.join(changed)}")
    return found


def _other_sites(opened: dict[bytes, tuple[PartyId, ...]], record: Record) -> list[str]:
    """Whether a question was opened over other sites before, which gives the difference away."""
    parties = record.told.parties
    before = opened.setdefault(record.query, parties)
    if before == parties:
        return []
    return [f"round {record.told.round}: opened over {', '.join(before)} and again over {', '.join(parties)}"]


def _break(entries: list[tuple[str, Any]], place: int) -> str:
    told = entries[place][1]["map"]
    what, ended = entries[place - 1]
    how = f" (it had ended with {_ending(ended)})" if what == "ended" else ""
    left = f"; {len(told['left'])} messages had lost their entries" if told["left"] else ""
    cut = f"; an unfinished entry of {told['cut']} bytes before it was cut off" if told["cut"] else ""
    return f"resumed at entry {place + 1}{how} after {len(told['rounds'])} rounds{left}{cut}"


def _ending(told: Any) -> str:
    """A closing entry in words."""
    return "a result" if told["map"]["how"] == "result" else str(told["map"]["kind"])


def _strangers(keys: Mapping[PartyId, set[bytes]], roster: Mapping[PartyId, str]) -> list[str]:
    """Who signs, and is not in a roster from elsewhere with that key."""
    found = [f"{party} signs, and is not in the roster" for party in sorted(keys) if party not in roster]
    return found + [
        f"{party} signs with another key than the roster's"
        for party in sorted(keys)
        if party in roster and any(key.hex() != roster[party].lower() for key in keys[party])
    ]


def _two_questions(entries: list[tuple[str, Any]]) -> list[str]:
    """Where not everyone who should be asked was asked, or not everyone the same: what a site keeps depends on it.

    Looks at each entry for itself, so also behind the first at which doing it again had to stop.
    """
    found = []
    sites: list[PartyId] = []
    for number, (what, content) in enumerate(entries, start=1):
        if what in {"begun", "resumed"}:
            sites = content["map"]["sites"]
        if what != "sent" or content["map"]["verb"] not in {"recall", "contribute"}:
            continue
        verb, asked = content["map"]["verb"], content["map"]["to"]["map"]
        texts = {name: transcript.canonical({"asked": given}) for name, given in asked.items()}
        usual = Counter(texts.values()).most_common(1)[0][0] if texts else ""
        others = [name for name in sorted(texts) if texts[name] != usual]
        if others:
            found.append(f"entry {number}: {verb!r} asks {', '.join(others)} something else than the others")
        named = {name for given in asked.values() for name in (sites if verb == "recall" else given[3])}
        if named != set(asked):
            found.append(f"entry {number}: {verb!r} asks {', '.join(sorted(asked))} for {', '.join(sorted(named))}")
    return found


def _unnamed(folder: Path, entries: list[tuple[str, Any]]) -> list[str]:
    """What lies in the folder and no entry names."""
    named = {name for _, content in entries for name in transcript.named(content)}
    found = [
        f"no entry names the message {path.name[:16]}... of {path.stat().st_size} bytes"
        for path in sorted((folder / transcript.MESSAGES).iterdir())
        if path.name not in named
    ]
    parts = {transcript.LINES, transcript.MESSAGES, transcript.LOCK}
    return found + [
        f"{path.name} is no part of a transcript" for path in sorted(folder.iterdir()) if path.name not in parts
    ]


class MismatchError(Exception):
    """The transcript says something else than the protocol would."""


class EndError(MismatchError):
    """The transcript, or a part of it, ends before the fit does."""


class _Again:
    """A federation that answers from a transcript, and compares what it is asked with what was asked then."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        entries: list[tuple[str, Any]],
        start: int,
        end: int,
        first: int,
        keys: dict[PartyId, set[bytes]],
    ) -> None:
        """Take one part: the entries after ``start`` up to ``end``, and the number of its ``first`` round.

        Everyone's signing keys are added to ``keys``.
        """
        self._folder = folder
        self._extra = helpers(config.protocol)
        self._entries = entries[:end]
        self._next = start + 1
        self._keys = keys
        self._recalled = 0
        self.sites: tuple[PartyId, ...] = tuple(entries[start][1]["map"]["sites"])
        self.sums = first
        self.opened_again = 0

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Compare the questions; give the answers of then."""
        number = self._recalled if verb == "recall" else self.sums
        self._recalled += verb == "recall"
        asked = transcript.digests({"verb": verb, "to": dict(arguments)})
        self._expect("sent", asked, f"{verb!r} of round {number} was asked otherwise")
        told = self._take("received")["map"]
        answers = {name: self._value(verb, name, answer) for name, answer in told["from"]["map"].items()}
        for name, answer in answers.items():
            if verb == "survey" and isinstance(answer, Facts):
                self._keys.setdefault(answer.site, set()).add(answer.identity)
            elif verb == "key" and isinstance(answer, bytes):
                self._keys.setdefault(name, set()).add(answer)
        return answers

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

    def closing(self, outcome: Outcome | Exception, *, last: bool) -> list[str]:
        """Whether the part says that it ended as it does again; one that was interrupted says nothing, and goes on."""
        if self._next == len(self._entries):
            told = "the transcript ends without a closing entry: its end was cut off, or the process ended there"
            return [told] if last else []
        mine = transcript.digests({**transcript.ending(outcome), "entries": self._next})
        said, told = self._entries[self._next]
        number = self._next + 1
        if said != "ended":
            return [f"{len(self._entries) - self._next} entries follow the end of the fit"]
        if told != mine:
            how = f"with {_ending(mine)}" if _ending(mine) != _ending(told) else "otherwise"
            return [f"entry {number}: the fit says that it ended with {_ending(told)}; done again it ends {how}"]
        after = len(self._entries) - number
        return [f"{after} entries follow the end of the fit"] if after else []

    def _take(self, what: str) -> Any:
        if self._next >= len(self._entries):
            raise EndError(
                f"the transcript ends where {what!r} should follow: the fit was interrupted, or the end was cut off"
            )
        said, content = self._entries[self._next]
        if said == "ended" and content["map"].get("says", "") is None:
            told = f"entry {self._next + 1}: the fit ended with {_ending(content)}; done again it goes on with {what!r}"
            raise EndError(told)  # as an interruption, for the reason of it is nothing that passes here
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
                return RAISED[told["error"]](*told["given"]) if told["error"] in RAISED else InputError(told["says"])
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


def _shows(paths: list[Path], files: Mapping[PartyId, str], config: Config) -> tuple[list[str], list[str]]:
    """Whether sites' sample names, or the counts of a sample or gene, stand anywhere; and what could not be seen."""
    search = _Search()
    for site, file in files.items():
        search.look_for(site, read_site(site, file, Reading(variables(config.design), config.layer)))
    search.ready()
    for path in paths:
        data = path.read_bytes()
        if path.name == transcript.LINES:
            search.words(data)
        for reading in _readings(data):
            search.within(reading)
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


class _Search:
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
        samples = self._counts(site, "the counts of a sample", table.counts)
        genes = self._counts(site, "the counts of a gene", table.counts.T)
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
