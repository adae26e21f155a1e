"""The agreed algorithm as a site runs it itself: from totals that it verified to the only question it answers next.

Promises: a question is asked once, and follows from the agreement and from totals that this site checked; nothing of
a message but a total is ever believed. Refuses to know: samples, rules, and how a total is checked.
"""

from __future__ import annotations

from typing import Any

from protocols.secure_sum import AGGREGATOR, MisuseError, PartyId, PeerError
from secirls.agreement.record import question_digest
from secirls.algorithms.query import Algorithm, Query, Total, query_from_bytes


class Follower:
    """One site's run of the algorithm, in lock-step with everybody's."""

    def __init__(self, site: PartyId, algorithm: Algorithm[Any]) -> None:
        """Nothing is run yet: the first question is found when it is asked for."""
        self._site = site
        self._algorithm = algorithm
        self._asked: Query | None = None
        self._question = b""
        self._begun = self._owed = False

    @property
    def finished(self) -> bool:
        """Whether the algorithm has asked its last question."""
        return self._begun and self._asked is None

    @property
    def asked(self) -> Query:
        """The question whose total comes next. Raises `MisuseError` where there is none."""
        if not self._begun:
            self._begun = True
            self._ask(next(self._algorithm))
        if self._asked is None:
            raise MisuseError(f"site {self._site}: the fit that was agreed on has ended, and nothing is asked after it")
        return self._asked

    def next(self, digest: bytes) -> tuple[Query, bytes]:
        """The question that comes next, and its bytes; once. Raises `PeerError` where a digest means another."""
        if self._owed:
            raise MisuseError(f"site {self._site} answers nothing before it is told the total of its last answer")
        asked = self.meant(digest)
        self._owed = True
        return asked, self._question

    def meant(self, digest: bytes) -> Query:
        """The question whose total comes next. Raises `PeerError` where a digest means another."""
        asked = self.asked
        if digest != question_digest(self._question):
            raise PeerError(
                AGGREGATOR,
                f"asks {self._site} something else than the agreed algorithm does, which asks {asked.kind!r} about "
                f"{asked.n_genes} genes: it deviates, or one of the two machines computes otherwise",
            )
        return asked

    def follow(self, total: Total) -> None:
        """Take the total of the last question: go on to the next, or to the end."""
        if not self._owed:
            raise MisuseError(f"site {self._site} waits for no total")
        self._owed = False
        try:
            self._ask(self._algorithm.send(total))
        except StopIteration:
            self._asked = None

    def _ask(self, query: Query) -> None:
        """Take a question in the form in which it would arrive."""
        self._question = query.to_bytes()
        self._asked = query_from_bytes(self._question)
