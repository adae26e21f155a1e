"""Who shares masks with whom: everybody with everybody, or, in a large room, each with a few (Bell et al. 2020).

Promises: the graph follows from session and roster alone, so every party draws the same one and the aggregator
chooses none of it; it is symmetric and connected, and `Graph.holds_together` says exactly whether a set of parties
stays connected whoever among them colludes. Refuses to know: keys, shares, masks.

The parties sit in a circle in the order of a hash, and each shares with the ``reach`` next on either side: a Harary
graph, which no fewer than ``2 * reach`` missing parties can split. Bell, Bonawitz, Gascon, Lepoint and Raykova,
*Secure single-server aggregation with (poly)logarithmic overhead*, CCS 2020, take the same graph.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from math import comb

from protocols.secure_sum import MINIMUM_PARTIES, MisuseError, PartyId, begun, framed_names
from protocols.sessions.demands import active_colluders
from protocols.sessions.session import Roster
from protocols.sessions.settings import Settings

COMPLETE_UP_TO = 50
"""Parties among whom everybody shares with everybody, unless the settings say otherwise."""

SILENT = Fraction(1, 20)
COLLUDING = Fraction(1, 5)
OPENS = Fraction(1, 2**20)
HIDES = Fraction(1, 2**40)
"""What the number of neighbours is made for where nobody sets it: `default_degree`."""


@dataclass(frozen=True)
class Graph:
    """The parties in a circle, each sharing with the ``reach`` next on both sides."""

    circle: tuple[PartyId, ...]
    reach: int

    @classmethod
    def draw(cls, session: bytes, roster: Roster, degree: int) -> Graph:
        """Seat the roster by SHA-256 of session, roster and name; ``degree`` neighbours each, or all others.

        Where everybody shares with everybody any circle would do, and they sit as in the roster.
        """
        names = tuple(roster)
        if degree >= len(names) - 1:
            return cls(names, len(names) // 2)
        shared, seats = begun(b"secirls seat v2", session, roster.digest), {}
        for name, framed in zip(names, framed_names(names), strict=True):
            digest = shared.copy()
            digest.update(framed)
            seats[name] = digest.digest()
        return cls(tuple(sorted(names, key=seats.__getitem__)), degree // 2)

    @property
    def complete(self) -> bool:
        """Whether everybody shares with everybody."""
        return 2 * self.reach >= len(self.circle) - 1

    @cached_property
    def index(self) -> dict[PartyId, int]:
        """Each party's place around the circle, from 1: where its Shamir shares lie."""
        return {party: place for place, party in enumerate(self.circle, start=1)}

    def among(self, party: PartyId, those: Container[PartyId]) -> tuple[PartyId, ...]:
        """The party's neighbours among those given (best as a set), sorted."""
        return tuple(filter(those.__contains__, self._near(party)))

    @cached_property
    def _known(self) -> dict[PartyId, tuple[PartyId, ...]]:
        return {}

    def _near(self, party: PartyId) -> tuple[PartyId, ...]:
        """All of the party's neighbours, sorted; found once, when they are first asked for."""
        if party not in self._known:
            seat, seats = self.index[party] - 1, len(self.circle)
            near = {self.circle[(seat + apart) % seats] for apart in range(-self.reach, self.reach + 1)}
            self._known[party] = tuple(sorted(near - {party}))
        return self._known[party]

    def holds_together(self, present: Collection[PartyId], lost: int) -> bool:
        """Whether those present stay connected whichever ``lost`` of them are taken away.

        Around the circle the rest falls apart only where two stretches of ``reach`` seats or more are empty, with
        somebody left on both sides; a stretch costs as many as are present in it. Two of them cost ``2 * reach``
        but for those who are absent, so where more would have to be taken away nobody needs to look.
        """
        absent = len(self.circle) - len(present)
        if self.complete or lost < 2 * self.reach - absent:
            return True
        seats = sorted(self.index[party] for party in present)
        here = len(seats)
        around = [*seats, *(seat + len(self.circle) for seat in seats)]
        stretches: list[tuple[int, int, int]] = []
        end = 0
        for start in range(here):
            end = max(end, start + 1)
            while end < start + here and around[end] - around[start] <= self.reach:
                end += 1
            if end < start + here and end - start - 1 <= lost:
                stretches.append((start, end, end - start - 1))
        cheapest = min((cost for _, _, cost in stretches), default=0)
        stretches = [stretch for stretch in stretches if stretch[2] + cheapest <= lost]
        return not any(
            one[2] + other[2] <= lost and one[1] <= other[0] and other[1] <= one[0] + here
            for one in stretches
            for other in stretches
        )


def degree_for(settings: Settings, parties: int) -> int:
    """With how many others each of so many parties shares masks: all of them, or an even number.

    Raises `MisuseError` where the settings' number can't be a graph, or would keep a secret by too few.
    """
    threshold = settings.threshold_for(parties)
    chosen = settings.neighbours
    if chosen is None:
        return parties - 1 if parties <= COMPLETE_UP_TO else default_degree(parties, threshold)
    if chosen >= parties - 1:
        return parties - 1
    if chosen < 4 or chosen % 2:
        raise MisuseError(f"{chosen} neighbours are impossible: an even number from 4 is needed, or all others")
    if share_threshold(threshold, parties, chosen) < MINIMUM_PARTIES:
        raise MisuseError(
            f"among {chosen} neighbours a threshold of {threshold} of {parties} lets fewer than {MINIMUM_PARTIES} "
            "open a secret: take more neighbours or a higher threshold"
        )
    return chosen


def share_threshold(threshold: int, parties: int, degree: int) -> int:
    """How many of a party and its neighbours open its secrets: the threshold's part of them, rounded up."""
    return -(-threshold * (degree + 1) // parties)


def most_colluders(settings: Settings, parties: int) -> int:
    """How many may collude with an aggregator that breaks the protocol before one party's vector comes out alone.

    Below 0, not even the aggregator alone is held off. With consistency all parties sign one set, a threshold of them;
    without it each may have been told another.
    """
    threshold, degree = settings.threshold_for(parties), degree_for(settings, parties)
    if not settings.consistency:
        return most_told_apart(parties, threshold, degree)
    return min(active_colluders(parties, threshold), share_threshold(threshold, parties, degree) - 1)


@lru_cache(maxsize=64)
def most_told_apart(parties: int, threshold: int, degree: int) -> int:
    """The same where each party may have been told another set of those present.

    No party's two secrets come out while 2 s > degree + 1 + c. Among neighbours that is not enough: each set hangs
    together, but each may lack a few others of one party's neighbours, and s shares for every one of these take all of
    its masks off. So the shares are counted that are needed for it, and those that honest parties give at most.
    """
    needed = share_threshold(threshold, parties, degree)
    once = min(active_colluders(degree + 1, needed), needed - 1)
    if degree >= parties - 1:
        return once
    reach, spare, most = degree // 2, degree - needed, parties - threshold
    # A set with the party in it has `needed` of its neighbours too, one without may lack as many on either side; what
    # a set of no more than a neighbourhood lacks is bounded by its size alone.
    wide = threshold >= degree + 2
    beside = min(most, spare if wide else max(spare, degree + 1 - threshold))
    without = min(most, 2 * spare) if wide else most
    steps = [step for step in range(-reach, reach + 1) if step]
    near = {step % parties for step in steps}
    around = {apart % parties for apart in range(-degree, degree + 1)} - {0}
    give = {apart: min(without, sum((apart + step) % parties in near for step in steps)) for apart in around}
    others = sum(given for apart, given in give.items() if apart not in near)
    holders = sorted((give[apart] for apart in near), reverse=True)

    def holds(colluders: int) -> bool:
        honest = needed - colluders
        given = honest * beside + sum(holders[: degree + 1 - honest]) + others
        return (degree - colluders) * honest > given

    return next((colluders - 1 for colluders in range(once + 1) if not holds(colluders)), once)


def degree_without_recovery(settings: Settings, parties: int) -> int:
    """With how many others each shares masks where no secret is shared, and a sum is over all of them or none.

    There nothing but the whole of somebody's neighbours, colluding, takes its masks off. Where nobody sets their
    number, colluders must be as many for that as where secrets are shared; what else those are for is not needed.
    """
    usual = replace(settings, threshold=None)
    degree = degree_for(usual, parties)
    if settings.neighbours is not None or degree == parties - 1:
        return degree
    enough = share_threshold(usual.threshold_for(parties), parties, degree)
    return enough + enough % 2


def most_colluders_without_recovery(settings: Settings, parties: int) -> int:
    """How many may collude with an aggregator, whatever it does, for all others' masks to hang together still."""
    degree = degree_without_recovery(settings, parties)
    return parties - 2 if degree == parties - 1 else degree - 1


@lru_cache(maxsize=64)
def default_degree(parties: int, threshold: int) -> int:
    """The smallest even number of neighbours that is enough twice over; all others, if no smaller one is.

    *It opens*: when a twentieth of all are silent, no matter who, every secret still has its shares and the
    rest can't be split by colluders, except with probability 2^-20. *It hides*: when a fifth of all collude
    without having looked at the graph, no party has a threshold of them among its neighbours, except with
    probability 2^-40. Both are union bounds over hypergeometric tails: over the pairs of stretches that make up
    one neighbourhood's size, and over the parties.
    """
    silent, colluding = -(-parties * SILENT // 1), -(-parties * COLLUDING // 1)
    for degree in range(4, parties - 1, 2):
        needed = share_threshold(threshold, parties, degree)
        stuck = _tail(parties - 1, int(silent), degree, degree - needed + 1) * parties**2 / 2
        told = _tail(parties - 1, int(colluding), degree, needed) * parties
        if needed >= MINIMUM_PARTIES and stuck <= OPENS and told <= HIDES:
            return degree
    return parties - 1


def _tail(population: int, marked: int, drawn: int, least: int) -> Fraction:
    """The chance that at least so many of those drawn are marked (hypergeometric)."""
    ways = sum(
        comb(marked, hit) * comb(population - marked, drawn - hit) for hit in range(least, min(marked, drawn) + 1)
    )
    return Fraction(ways, comb(population, drawn))
