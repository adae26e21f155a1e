"""Who is lost on the way and what befell them, in words that a disclosure can tell; and what a party's words are worth.

Promises: blames nobody for what one other party says; an accusation names who makes it, and so does whatever else a
party says in place of an answer. Who fell silent or is left out nobody says but whoever leads.
Refuses to know: rules about going on.
"""

from __future__ import annotations

from typing import TypeAlias

from protocols.secure_sum import (
    RESERVED,
    DropoutError,
    IntegrityError,
    MisuseError,
    PartyId,
    PeerError,
    SecureSumError,
)
from secirls.agreement.faults import NONSENSE, BlockedPartyError, PartyFaultError, own_fault
from secirls.algorithms.query import QueryError
from secirls.input_error import InputError
from secirls.site.grounds.policy import RefusalError
from secirls.whole_file import UnwritableError

Loss: TypeAlias = tuple[PartyId, str]
"""Who is not asked any more, and what befell it, as a disclosure tells it."""

_OWN_WORDS = (InputError, UnwritableError, RefusalError, QueryError, SecureSumError, MisuseError, IntegrityError)
"""Kinds of errors that are one sentence, which a party may say of itself."""


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


def heard(party: PartyId, verb: str, error: Exception) -> Exception:
    """What a party raised in place of an answer, as its own word: another's name in it is no proof against that one.

    Of a kind that it can't say of itself it is a fault: only whoever leads knows who is left out, or fell silent.
    """
    if isinstance(error, PartyFaultError):  # blocked it is called by who carries its messages
        return error if isinstance(error, BlockedPartyError) else own_fault(party, verb, error)
    if isinstance(error, PeerError):
        return said_by(party, error)
    told, kind = str(error), type(error)
    if kind is DropoutError:
        return SecureSumError(f"{told} (so {party} says)")
    if kind not in _OWN_WORDS:
        return PartyFaultError(party, verb, NONSENSE)
    own = (f"site {party!r}", f"site {party} ", f"site {party}: ", *((f"the {party}",) if party in RESERVED else ()))
    return error if told.startswith(own) else kind(f"{told} (so {party} says)")
