"""How a session ends early where nobody broke a rule: parties that fall silent, fail or wait in vain.

Promises: a fault carries names and kinds, never the text of an unforeseen exception, which might quote data.
"""

from __future__ import annotations

import re

from protocols.secure_sum import PartyId

NONSENSE = "answer"
"""The kind of a fault that is an answer of no kind there is: what a party calls it is not repeated."""

_KIND = re.compile(r"\w{1,64}|failure before")


class SilentSitesError(Exception):
    """Sites fell silent, and the rule is to stop rather than to open a sum without them."""

    def __init__(self, round_number: int, silent: tuple[PartyId, ...]) -> None:
        super().__init__(f"round {round_number}: {', '.join(silent)} fell silent, so the fit stops here")
        self.round_number = round_number
        self.silent = silent

    def __reduce__(self) -> tuple[type[SilentSitesError], tuple[int, tuple[PartyId, ...]]]:
        return type(self), (self.round_number, self.silent)


class PartyFaultError(Exception):
    """A party failed in a way it has no sentence for. Carries the kind of the failure, never its text."""

    def __init__(self, party: PartyId, verb: str, kind: str) -> None:
        super().__init__(f"{party} failed in {verb!r} with an unexpected {kind}")
        self.given = party, verb, kind

    def __reduce__(self) -> tuple[type[PartyFaultError], tuple[str, str, str]]:
        return type(self), self.given


class BlockedPartyError(PartyFaultError):
    """A party did not come to answer, because it waits in one process with another that gives no answer."""

    def __init__(self, party: PartyId, verb: str, other: PartyId) -> None:
        super().__init__(party, verb, other)
        self.args = (f"{party} waited in vain for {other}, in the same process, to answer {verb!r}",)


def own_fault(party: PartyId, verb: str, error: BaseException) -> PartyFaultError:
    """What went wrong at a party, as its own fault, whomever the error is about; and not blocked by another."""
    kind = error.given[2] if type(error) is PartyFaultError else type(error).__name__
    return PartyFaultError(party, verb, kind if isinstance(kind, str) and _KIND.fullmatch(kind) else NONSENSE)
