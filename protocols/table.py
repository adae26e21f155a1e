"""Who sits around the table of one secure sum, and what passed between them.

Promises: every message that passes is noted, once, as it was sent. Refuses to know: what a message holds, and
in which order the legs come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from protocols.choice import helpers
from protocols.secure_sum import Collector, Party, PartyId
from protocols.sessions.session import Roster

Leg: TypeAlias = Literal["hello", "grant", "payload", "request", "reply"]
"""The five kinds of message, in their order."""

_LEGS: tuple[Leg, ...] = get_args(Leg)

Silent: TypeAlias = Mapping[Leg, Collection[PartyId]]
"""Who falls silent at which leg: from there on nothing comes from them."""

Tamper: TypeAlias = Callable[[Leg, PartyId, bytes], bytes]
"""What the wire does to a message: leg, party it comes from (for a request: goes to), bytes."""


@dataclass(frozen=True)
class Message:
    """One message as it passed: of a party to the aggregator, or (a request) the other way."""

    leg: Leg
    party: PartyId
    data: bytes = field(repr=False)


@dataclass
class Table:
    """Everybody around the table: the parties with their secrets, the collector, what passed between them."""

    protocol: str
    roster: Roster
    parties: dict[PartyId, Party]
    collector: Collector
    messages: list[Message] = field(default_factory=list)
    tamper: Tamper | None = None
    silent: Silent = field(default_factory=dict)

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Those who have a vector; the others around the table are helpers."""
        return tuple(party for party in self.roster if party not in helpers(self.protocol))

    def speakers(self, leg: Leg) -> Iterator[PartyId]:
        """Who has not fallen silent by this leg."""
        gone: set[PartyId] = set()
        for earlier in _LEGS[: _LEGS.index(leg) + 1]:
            gone.update(self.silent.get(earlier, ()))
        return (party for party in self.roster if party not in gone)

    def carry(self, leg: Leg, party: PartyId, data: bytes) -> bytes:
        """A message on the wire: noted, and whatever the wire makes of it."""
        self.messages.append(Message(leg, party, data))
        return data if self.tamper is None else self.tamper(leg, party, data)
