"""Who is lost on the way and what befell them, in words that a disclosure can tell.

Promises: blames nobody for what one other party says; an accusation names who makes it.
Refuses to know: rules about going on.
"""

from __future__ import annotations

from typing import TypeAlias

from protocols.secure_sum import PartyId, PeerError, SecureSumError
from secirls.agreement.faults import BlockedPartyError, PartyFaultError

Loss: TypeAlias = tuple[PartyId, str]
"""Who is not asked any more, and what befell it, as a disclosure tells it."""


class LeftOutError(SecureSumError):
    """Sites that fell silent, or sent nonsense, before a session stood: it can begin anew without them.

    Where too few are left for that it ends the fit.
    """

    def __init__(self, lost: tuple[Loss, ...]) -> None:
        told = "; ".join(f"{party} {how}" for party, how in lost)
        super().__init__(f"before the first round {told}; too few sites are left to begin without it")
        self.lost = lost

    def __reduce__(self) -> tuple[type[LeftOutError], tuple[tuple[Loss, ...]]]:
        return type(self), (self.lost,)


def befell(verb: str, fault: PartyFaultError | None) -> str:
    """What befell who is silent, as a disclosure tells it."""
    if fault is None:
        return f"gave no answer to {verb!r} in time"
    if isinstance(fault, BlockedPartyError):
        return f"waited in vain for {fault.given[2]}, in the same process, to answer {verb!r}"
    return f"broke in {verb!r}"


def nonsense(error: PeerError) -> str:
    """What befell who sent something that does not hold up."""
    return f"sent nonsense: {error.reason}"


def said_by(accuser: PartyId, accusation: PeerError) -> PeerError:
    """An accusation that only one party makes, and is not proved by it."""
    return PeerError(accusation.sender, f"{accusation.reason} (so {accuser} says)")
