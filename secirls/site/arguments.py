"""What a verb of a site or helper may be given: anything else is refused in a sentence before it is looked at.

Promises: a `MisuseError` that says which kind was expected, never what came. Refuses to know: what it means.
"""

from __future__ import annotations

from collections.abc import Mapping

from protocols.secure_sum import Context, MisuseError, PartyId

_LARGEST_NUMBER = 1 << 32


def numbers(*given: object) -> None:
    """Raise `MisuseError` unless these are numbers of rounds, attempts or batches."""
    for value in given:
        if type(value) is not int or not 0 <= value < _LARGEST_NUMBER:
            raise MisuseError(f"rounds, attempts and batches are counted from 0 to {_LARGEST_NUMBER - 1}")


def messages(*given: object) -> None:
    """Raise `MisuseError` unless these are bytes."""
    if not set(map(type, given)) <= {bytes}:
        raise MisuseError("a message to a party is bytes")


def table(given: Mapping[PartyId, bytes]) -> None:
    """Raise `MisuseError` unless this is a message for each of some names."""
    if not isinstance(given, Mapping) or not set(map(type, given)) <= {str}:
        raise MisuseError("messages of several parties come as a table by name")
    messages(*given.values())


def names(given: object) -> None:
    """Raise `MisuseError` unless this is a tuple of names."""
    if not isinstance(given, tuple) or not set(map(type, given)) <= {str}:
        raise MisuseError("a cohort is a tuple of names")


def context(given: Context) -> None:
    """Raise `MisuseError` unless this names a sum, and says itself what its digest is."""
    if type(given) is not Context:
        raise MisuseError("a sum is named by its context")
    numbers(given.round, given.attempt, given.values)
    names(given.cohort)
    messages(given.session, given.layout)
