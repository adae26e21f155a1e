"""The agreed algorithm as a site runs it itself: from totals that it verified to the only question it answers next.

Promises: a question is asked once, and follows from the agreement and from totals that this site checked; nothing of
a message but a total is ever believed. Refuses to know: samples, rules, and how a total is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocols.secure_sum import AGGREGATOR, MisuseError, PartyId, PeerError
from secirls.agreement.ledger import Meter
from secirls.agreement.record import question_digest
from secirls.algorithms.query import Algorithm, Query, Total, query_from_bytes
from secirls.site.in_common import Apart


@dataclass(frozen=True)
class Question:
    """What the algorithm asks."""

    asked: Query
    """In the form in which it would arrive."""
    text: bytes
    digest: bytes


class Run:
    """One run of the algorithm: each question follows from the state of a session, in which all before it has gone."""

    def __init__(self, algorithm: Algorithm[Any], state: bytes = b"") -> None:
        """From the state of a session before any question; nothing is run yet."""
        self._algorithm = algorithm
        self._state = state
        self._broke: Exception | None = None

    def go_on(self, site: PartyId, before: bytes, state: bytes, total: Total | None = None) -> Question | None:
        """The question that comes first, or follows from a total that brings a session to a state; ``None`` at the end.

        Where sites share the run, it raises what the first of them heard, and `PeerError` for a site whose totals are
        others.
        """
        if self._broke is not None and state == self._state:
            raise self._broke
        if before != self._state:
            raise PeerError(AGGREGATOR, f"leads {site} another way than sites that share its process")
        self._state = state
        try:
            return _question(next(self._algorithm) if total is None else self._algorithm.send(total))
        except StopIteration:
            return None
        except Exception as error:
            self._broke = error
            raise


def _question(query: Query) -> Question:
    text = query.to_bytes()
    return Question(query_from_bytes(text), text, question_digest(text))


class Follower:
    """One site's way through the algorithm, in lock-step with everybody's."""

    def __init__(self, site: PartyId, run: Run, state: bytes, common: Apart, meter: Meter) -> None:
        """Take a run of the algorithm, and the session's state before any question: the agreement's digest.

        The first question is found when it is asked for.
        """
        self._site = site
        self._run = run
        self._state = state
        self._common = common
        self._meter = meter
        self._question: Question | None = None
        self._begun = self._owed = False

    @property
    def finished(self) -> bool:
        """Whether the algorithm has asked its last question."""
        return self._begun and self._question is None

    @property
    def asked(self) -> Query:
        """The question whose total comes next. Raises `MisuseError` where there is none."""
        return self._now().asked

    def _now(self) -> Question:
        if not self._begun:
            self._begun = True
            self._go_on(self._state)
        if self._question is None:
            raise MisuseError(f"site {self._site}: the fit that was agreed on has ended, and nothing is asked after it")
        return self._question

    def next(self, digest: bytes) -> tuple[Query, bytes]:
        """The question that comes next, and its bytes; once. Raises `PeerError` where a digest means another."""
        if self._owed:
            raise MisuseError(f"site {self._site} answers nothing before it is told the total of its last answer")
        asked = self.meant(digest)
        self._owed = True
        return asked, self._now().text

    def meant(self, digest: bytes) -> Query:
        """The question whose total comes next. Raises `PeerError` where a digest means another."""
        asked = self.asked
        if digest != self._now().digest:
            raise PeerError(
                AGGREGATOR,
                f"asks {self._site} something else than the agreed algorithm does, which asks {asked.kind!r} about "
                f"{asked.n_genes} genes: it deviates, or one of the two machines computes otherwise",
            )
        return asked

    def follow(self, total: Total, state: bytes) -> None:
        """Take the total of the last question, which brings the session into a state: go on to the next, or the end."""
        if not self._owed:
            raise MisuseError(f"site {self._site} waits for no total")
        self._owed = False
        self._go_on(state, total)

    def _go_on(self, state: bytes, total: Total | None = None) -> None:
        before, self._state = self._state, state
        found = self._common.once(
            "question", (state,), lambda: self._run.go_on(self._site, before, state, total), self._meter
        )
        self._question = found
