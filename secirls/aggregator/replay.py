"""What was received once, received again: a federation that answers from a transcript, entry by entry.

Promises: whoever leads over it must send what was sent then, bit by bit, or a `MismatchError` says where it differs.
Refuses to know: why the transcript is read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocols.secure_sum import DropoutError, IntegrityError, MisuseError, PartyId, PeerError, SecureSumError
from protocols.secure_sum import Total as Opened
from secirls.aggregator import transcript
from secirls.aggregator.aggregator import Outcome
from secirls.aggregator.losses import LeftOutError
from secirls.agreement.agreement import Facts
from secirls.agreement.faults import BlockedPartyError, PartyFaultError, SilentSitesError
from secirls.agreement.ledger import Cost
from secirls.algorithms.query import QueryError
from secirls.input_error import InputError
from secirls.inputs.designs.design import Variable
from secirls.site.grounds.policy import RefusalError
from secirls.site.site import Answer
from secirls.whole_file import UnwritableError

RAISED = {
    kind.__name__: kind
    for kind in (
        InputError,
        UnwritableError,
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
        LeftOutError,
    )
}
"""Errors that a party answers with, by name."""

ANSWERED = {kind.__name__: kind for kind in (Answer, Cost, Facts, Variable)}
"""What else an answer is made of than bytes, texts and numbers, by name."""


def told_end(told: Any) -> str:
    """A closing entry in words."""
    return "a result" if told["map"]["how"] == "result" else str(told["map"]["kind"])


class MismatchError(Exception):
    """The transcript says something else than the protocol would."""


class EndError(MismatchError):
    """The transcript, or a part of it, ends before the fit does."""


class Again:
    """A federation that answers from a transcript, and compares what it is asked with what was asked then."""

    def __init__(
        self,
        folder: Path,
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
        answers = {name: self._value(answer) for name, answer in told["from"]["map"].items()}
        for name, answer in answers.items():
            if verb == "survey" and isinstance(answer, Facts) and isinstance(answer.identity, bytes):
                self._keys.setdefault(name, set()).add(answer.identity)
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
        mine = transcript.digests(transcript.opened_sum(total))
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
            how = f"with {told_end(mine)}" if told_end(mine) != told_end(told) else "otherwise"
            return [f"entry {number}: the fit says that it ended with {told_end(told)}; done again it ends {how}"]
        after = len(self._entries) - number
        return [f"{after} entries follow the end of the fit"] if after else []

    def _take(self, what: str) -> Any:
        if self._next >= len(self._entries):
            raise EndError(
                f"the transcript ends where {what!r} should follow: the fit was interrupted, or the end was cut off"
            )
        said, content = self._entries[self._next]
        if said == "ended" and content["map"].get("says", "") is None:
            told = (
                f"entry {self._next + 1}: the fit ended with {told_end(content)}; done again it goes on with {what!r}"
            )
            raise EndError(told)  # as an interruption, for the reason of it is nothing that passes here
        if said != what:
            raise MismatchError(f"entry {self._next + 1} says {said!r} where {what!r} should follow")
        self._next += 1
        return content

    def _expect(self, what: str, content: Any, otherwise: str) -> None:
        if self._take(what) != content:
            raise MismatchError(f"entry {self._next}: {otherwise}")

    def _value(self, told: Any) -> Any:
        """An answer as it was received, of the few kinds there are; anything else is nonsense then and now."""
        if isinstance(told, list):
            return tuple(map(self._value, told))
        if not isinstance(told, dict):
            return told
        if "bytes" in told:
            return transcript.message(self._folder, told["bytes"])
        if "error" in told:
            return RAISED.get(told["error"], Exception)(*told["given"])
        if "map" in told:
            return {name: self._value(inner) for name, inner in told["map"].items()}
        if told.get("type") in ANSWERED and "fields" in told:
            given = {name: self._value(inner) for name, inner in told["fields"].items()}
            return ANSWERED[told["type"]](**given)
        return object()
