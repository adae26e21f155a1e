"""The one door of a site or helper: its verbs, and what of a failure may be heard outside.

Promises: text that was not written for others to read stays inside, for it might quote data; a party that failed in
a way it has no sentence for is silent from then on, so that nobody learns from asking again what it fails over. One
verb runs at a time, however many threads whoever starts the party gave it: what is done once is looked up first.
Refuses to know: who carries the call.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, Protocol

from protocols.secure_sum import PartyId, SecureSumError
from secirls.agreement.faults import PartyFaultError, SilentSitesError
from secirls.algorithms.query import QueryError
from secirls.input_error import InputError

VERBS = frozenset(
    {
        *("look", "survey", "key", "join", "describe", "annotate", "prepare"),  # before a session
        *("hello", "meet", "greet", "deal", "take"),  # getting to know each other
        *("contribute", "assist", "hear", "recall", "remind"),  # sums
    }
)

SPOKEN = (InputError, SecureSumError, QueryError, SilentSitesError)
"""Exceptions whose text was written for others to read: a party that raises one refuses, and is not silent."""


class Named(Protocol):
    """A site or a helper."""

    name: PartyId


class Desk:
    """Where a party is asked."""

    def __init__(self, party: Named) -> None:
        self.party = party
        self._broken = False
        self._one_at_a_time = Lock()

    def ask(self, verb: str, *given: Any) -> Any:
        """Run one verb. Raises one of `SPOKEN`, or a `PartyFaultError` for any other failure and ever after."""
        if verb not in VERBS:
            raise SecureSumError(f"there is no verb {verb!r}")
        with self._one_at_a_time:
            if self._broken:
                raise PartyFaultError(self.party.name, verb, "failure before")
            try:
                return getattr(self.party, verb)(*given)
            except SPOKEN:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote data
                self._broken = True
                raise PartyFaultError(self.party.name, verb, type(error).__name__) from None
