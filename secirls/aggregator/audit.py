"""Reads a transcript again: whether all went as the protocol says, and what is there that should not be.

Promises: the aggregator's part is done again from what was received, so every signature is verified, every
sum recomputed, and every question, request and result found anew from the totals before it and compared, bit by bit;
where sites followed in lock-step, what they signed of the end too. What an audit can't tell it says in words. Refuses
to know: any secret of a site, and what passed beside the transcript.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from protocols.secure_sum import PartyId
from secirls.aggregator import transcript
from secirls.aggregator.aggregator import Outcome, lead
from secirls.aggregator.replay import Again, EndError, MismatchError, told_end
from secirls.aggregator.traces import traces_in
from secirls.agreement.agreement import release
from secirls.agreement.order import Task
from secirls.agreement.past import Begun, Past
from secirls.agreement.record import Record, sum_digest
from secirls.config import Config
from secirls.input_error import InputError

SUSPICIOUS = 10.0
"""Standard deviations that the bytes of a hidden payload may be from uniform."""

LEAST_BYTES = 2048
"""Payloads shorter than this are too short to tell."""

OFF_THE_RECORD = "only what was written down was read: what was asked beside the transcript leaves no trace in it"
FOLLOWED = (
    "what was asked beside the transcript leaves no trace in it; but sites in lock-step, as these signed that they "
    "are, answer each question once and no other"
)
UNSIGNED_END = (
    "the end is signed by nobody: whoever keeps the transcript can cut it and chain another end to it, such as a site "
    "that fell silent"
)
UNSIGNED_FACTS = "what sites say before they meet (gene names, levels) is signed by nobody"
NO_ROSTER = "no roster was given: nobody outside vouches for the keys, and all of it may be made up"
NOBODY_MET = "nobody signed anything before the fit ended: the keys of the roster vouch for nothing"
PLAIN = "the protocol 'plain' signs no payload: a roster vouches for who met, and not for what they sent"
NO_FILES = "no site's file was given, so no message was searched for what the file holds"


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
        done.limits = _limits(config, entries, roster, signed=config.lock_step and bool(done.result))
        if files:
            shown, unseen = traces_in([folder / transcript.LINES, *messages], files, config)
            done.findings += shown
            done.limits += unseen
        else:
            done.limits.append(NO_FILES)
        if done.findings or not done.result:
            done.limits += _releases(entries)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        told = f"folder {str(folder)!r}: an entry is not as a fit writes it ({type(error).__name__})"
        raise InputError(told) from error
    return done


def _limits(
    config: Config, entries: list[tuple[str, Any]], roster: Mapping[PartyId, str] | None, *, signed: bool
) -> list[str]:
    """What can't be told from the entries alone; the end is ``signed`` where sites in lock-step came to a result."""
    told = [FOLLOWED if config.lock_step else OFF_THE_RECORD, *([] if signed else [UNSIGNED_END]), UNSIGNED_FACTS]
    if roster is None:
        return [*told, NO_ROSTER]
    if config.protocol == "plain":
        told.append(PLAIN)
    if not any(what == "received" and content["map"]["verb"] == "meet" for what, content in entries):
        told.append(NOBODY_MET)
    return told


def _releases(entries: list[tuple[str, Any]]) -> list[str]:
    """Whether another release may ask otherwise than this one does again."""
    told = [content["map"].get("release") for what, content in entries if what in {"begun", "resumed"}]
    others = sorted({"an earlier one" if name is None else str(name) for name in told} - {release()})
    if not others:
        return []
    wrote = f"it was written by {', '.join(others)}, and this is {release()}"
    return [f"whether an early end, or what is found, lies at another release of secirls: {wrote}"]


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
        again = Again(folder, entries, start, end, len(records), keys)
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
        # Where all its rounds were kept nothing was asked again: the results had only not been written.
        if isinstance(outcome, Outcome) and not last and len(entries[end][1]["map"]["rounds"]) < len(records):
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
    how = f" (it had ended with {told_end(ended)})" if what == "ended" else ""
    left = f"; {len(told['left'])} messages had lost their entries" if told["left"] else ""
    cut = f"; an unfinished end of {told['cut']} bytes before it was cut off" if told["cut"] else ""
    return f"resumed at entry {place + 1}{how} after {len(told['rounds'])} rounds{left}{cut}"


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
