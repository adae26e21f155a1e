"""What travels between a hub and the parties that call it: questions, answers and refusals, as bytes.

Promises: every message has one of the types below and nothing else is read; nothing in it is code, and none of it is
unpickled. What is of no such type is a `WireError`, whatever it is. Refuses to know: who carries the bytes, and what
they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from protocols.secure_sum import Context, IntegrityError, MisuseError, PartyId, PeerError, SecureSumError
from secirls.agreement.agreement import Agreement, Facts
from secirls.agreement.faults import NONSENSE, PartyFaultError
from secirls.algorithms.query import QueryError
from secirls.input_error import InputError
from secirls.site.grounds.policy import RefusalError
from secirls.site.site import Answer
from secirls.whole_file import UnwritableError

T = TypeVar("T")
LARGEST_MESSAGE = 1 << 30
"""Bytes of one message, at most."""
LATER = HTTPStatus.TOO_EARLY
"""What a process is told, with an `End`, that may take part later only. The others: ``No Content`` where there is
nothing to do, ``Conflict`` for another session than this, ``Gone`` with an `End`, ``Forbidden`` for who is no party."""

Names: TypeAlias = tuple[PartyId, ...]
Messages: TypeAlias = Mapping[PartyId, bytes]

ARGUMENTS: dict[str, Any] = {
    "look": tuple[()],
    "survey": tuple[()],
    "key": tuple[()],
    "join": tuple[Agreement],
    "describe": tuple[()],
    "annotate": tuple[Messages],
    "prepare": tuple[()],
    "hello": tuple[int],
    "meet": tuple[Messages, int],
    "greet": tuple[()],
    "deal": tuple[Messages],
    "take": tuple[Messages, bytes],
    "contribute": tuple[bytes, int, int, Names],
    "assist": tuple[bytes, int, int],
    "hear": tuple[bytes, int, int, Names],
    "recall": tuple[bytes],
    "remind": tuple[bytes, bytes, Names, Names],
}
"""What a site is asked with, by verb."""
OF_A_HELPER: dict[str, Any] = {"assist": tuple[bytes, Context]}
"""Where a helper is asked with something else."""

ANSWERS: dict[str, Any] = {
    "look": None,
    "survey": Facts,
    "key": bytes,
    "join": bytes | bool,
    "describe": bytes,
    "annotate": bytes,
    "prepare": tuple[int, int] | None,
}
"""What is answered, by verb; to every other with an `Answer`."""

_SENTENCES: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (RefusalError, UnwritableError, InputError, QueryError, MisuseError, IntegrityError, SecureSumError)
}
"""Kinds of errors that are one sentence; those of another kind travel as the first of these that they are."""


LONGEST_SENTENCE = 1 << 14
"""Letters that are told of an error, at most: it stands on somebody's terminal."""
_Told: TypeAlias = Annotated[str, msgspec.Meta(max_length=LONGEST_SENTENCE)]


class WireError(Exception):
    """Bytes that are no message of the kind that is expected. Says nothing of what is in them."""


class Welcome(msgspec.Struct, frozen=True):
    """What a party is told first."""

    session: bytes
    """What names this session of the hub's: 16 bytes, drawn when it started."""
    release: str
    """Of secirls, at the hub."""
    config: str
    """The fit's configuration, as JSON."""


class Question(msgspec.Struct, frozen=True):
    """One verb for one party."""

    number: int
    """Counted from 1, by party."""
    verb: str
    given: bytes
    """Its arguments, packed by `arguments_to_bytes`."""


class Failure(msgspec.Struct, frozen=True):
    """What a party raised in place of an answer."""

    kind: str
    words: Annotated[tuple[_Told, ...], msgspec.Meta(max_length=3)]


class Reply(msgspec.Struct, frozen=True):
    """What a party answers to a question."""

    number: int
    value: bytes = b""
    failure: Failure | None = None


class Turn(msgspec.Struct, frozen=True):
    """A party's call: its last reply, where there is one, and that it waits for the next question."""

    session: bytes
    process: bytes
    """What names the party's own process and state: 16 bytes, drawn by it."""
    reply: Reply | None = None

    @property
    def answered(self) -> int:
        """The number of the last question that is answered."""
        return 0 if self.reply is None else self.reply.number


class Sign(msgspec.Struct, frozen=True):
    """A sign of life: the process is there, whatever it does. Or its last: that it leaves."""

    session: bytes
    process: bytes


class End(msgspec.Struct, frozen=True):
    """Why the hub has no more questions for a party."""

    well: bool
    why: str


def packed(message: object) -> bytes:
    """A message as bytes."""
    return msgspec.msgpack.encode(message)


def read(kind: type[T] | Any, data: bytes) -> T:
    """A message of a kind from bytes that anybody may have sent. Raises `WireError` and nothing else."""
    try:
        result: T = msgspec.msgpack.decode(data, type=kind)
    except Exception:  # noqa: BLE001 - msgspec has no error that is the root of all: text that is no UTF-8 raises its own
        raise WireError from None
    return result


def arguments_to_bytes(given: tuple[Any, ...]) -> bytes:
    """The arguments of a verb as they travel."""
    return packed(given)


def arguments_from(verb: str, data: bytes, *, helper: bool) -> tuple[Any, ...]:
    """What a verb is asked with. Raises `WireError`, also for a verb that there is none of."""
    kind = (OF_A_HELPER if helper else {}).get(verb) or ARGUMENTS.get(verb)
    if kind is None:
        raise WireError
    given: tuple[Any, ...] = read(kind, data)
    return given


def failure_of(error: Exception) -> Failure:
    """What is told of an error that a `Desk` raises."""
    if isinstance(error, PartyFaultError):
        return Failure("PartyFaultError", error.given)
    if type(error) is PeerError:
        return Failure("PeerError", (error.sender, error.reason[:LONGEST_SENTENCE]))
    kind = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _SENTENCES), "SecureSumError")
    return Failure(kind, (str(error)[:LONGEST_SENTENCE],))


def answer_of(party: PartyId, verb: str, reply: Reply) -> Any:
    """What a party answered, or the exception that it raised; nonsense is its fault."""
    try:
        if reply.failure is not None:
            return _raised(reply.failure)
        return read(ANSWERS.get(verb, Answer), reply.value)
    except (WireError, TypeError, KeyError):
        return PartyFaultError(party, verb, NONSENSE)


def _raised(failure: Failure) -> Exception:
    """The exception that a failure tells of. Raises `TypeError` or `KeyError` where it is none."""
    if failure.kind == "PartyFaultError":
        return PartyFaultError(*failure.words)
    if failure.kind == "PeerError":
        return PeerError(*failure.words)
    (told,) = _one(failure.words)
    return _SENTENCES[failure.kind](told)


def _one(words: tuple[str, ...]) -> tuple[str]:
    if len(words) != 1:
        raise TypeError
    return (words[0],)
