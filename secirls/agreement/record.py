"""What a round leaves: what may be shown of it, and what is kept of it.

Promises: all of it is public. Refuses to know: how the sum was opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from protocols.primitives.keys import Identity
from protocols.secure_sum import PartyId, PeerError, begun, framed, framed_names, sha256
from protocols.sessions.session import Roster, open_message, sign_message
from secirls.agreement.ledger import Row
from secirls.algorithms.query import Query, Total, chained
from secirls.numerics.arrays import Floats

T = TypeVar("T")


@dataclass(frozen=True)
class Finished(Generic[T]):
    """An algorithm's result, once it has asked its last question."""

    result: T


@dataclass(frozen=True)
class Progress:
    """What the outside may know after a round."""

    round: int
    kind: str
    values: int
    active_genes: int
    parties: tuple[PartyId, ...]
    seconds: float
    lost: tuple[tuple[PartyId, str], ...] = ()
    """Who fell silent in this round and how; they are not asked again."""
    unfit: int = 0
    """Shares without which its sum was opened, for they did not fit; nobody can be named."""

    @property
    def losses(self) -> tuple[str, ...]:
        """In words, who is not asked any more."""
        return tuple(f"round {self.round}: {party} {how}; the fit goes on without it" for party, how in self.lost)


@dataclass(frozen=True)
class Record:
    """A finished round as a checkpoint keeps it. Public: a question's digest and the sum that was opened."""

    told: Progress
    query: bytes
    """`query_digest` of what was asked."""
    arrays: Mapping[str, Floats] = field(repr=False)
    cohort: tuple[PartyId, ...]
    rows: tuple[Row, ...] = field(repr=False)
    """What the round cost, and meeting each other before it."""

    @property
    def survivors(self) -> tuple[PartyId, ...]:
        """Who is asked in the next round."""
        gone = {party for party, _ in self.told.lost}
        return tuple(party for party in self.cohort if party not in gone)


@dataclass(frozen=True)
class Opening:
    """A sum is about to be opened: kept before it is, so that its round is never opened over other sites as well."""

    round: int
    query: bytes
    parties: tuple[PartyId, ...]


def query_digest(query: Query) -> bytes:
    """What names a question in a record."""
    return question_digest(query.to_bytes())


def question_digest(question: bytes) -> bytes:
    """The same, of a question as it travels."""
    return sha256(b"secirls asked v1", question)


def sum_digest(record: Record) -> bytes:
    """What names an opened sum, who was asked for it and who is in it."""
    parties, cohort = record.told.parties, record.cohort
    return _over(b"secirls sum v1", record.query, arrays=record.arrays, parties=parties, cohort=cohort)


def total_digest(total: Total) -> bytes:
    """What names a total as an algorithm takes it."""
    return _over(b"secirls told v1", arrays=total.arrays, parties=total.parties, cohort=total.cohort)


def followed(state: bytes, total: Total) -> bytes:
    """The state of a session in lock-step after one more total: what is asked follows from all of them."""
    return chained(state, total_digest(total))


def sign_head(identity: Identity, site: PartyId, session: bytes, state: bytes) -> bytes:
    """A site's signature that the fit ended for it in this state, after all questions and totals."""
    return sign_message(identity, b"head", site, sha256(b"secirls head v1", session, state))


def read_head(roster: Roster, site: PartyId, session: bytes, state: bytes, head: bytes) -> None:
    """Raise `PeerError` naming the site unless it signed this end."""
    if open_message(roster, b"head", site, sha256(b"secirls head v1", session, state), head):
        raise PeerError(site, "signs another end of the fit than there is")


def _over(
    label: bytes, *parts: bytes, arrays: Mapping[str, Floats], parties: Sequence[PartyId], cohort: Sequence[PartyId]
) -> bytes:
    """The digest over a label and parts, who was asked for a sum, whose sum it is, and the sum."""
    digest = begun(label, *parts)
    for those in (cohort, parties):
        digest.update(b"".join((*framed_names(tuple(those)), framed(b""))))
    for name, array in arrays.items():
        digest.update(framed(name.encode()) + framed(array.astype("<f8").tobytes()))
    return digest.digest()


class Lasting(str):
    """Words of a `Stage` that are to stay in sight: what was found or decided, rather than what is going on."""

    __slots__ = ()


@dataclass(frozen=True)
class Stage:
    """What is going on before the first round and within a long one, or `Lasting` words."""

    round: int
    text: str
