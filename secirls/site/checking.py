"""What a site checks totals with, and the one total that it waits for.

Promises: a seed is shared once, among all the agreed sites; a total is told once, and is the sum of what these sent.
Refuses to know: the site's data, and the rules that are held against a total.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from protocols.fixed_point import Layout
from protocols.primitives.keys import Identity, Secret
from protocols.secure_sum import Context, MisuseError, PartyId
from protocols.sessions.session import Roster
from protocols.totals import unpack_total
from protocols.verified import Checks, SeedTable
from secirls.agreement.ledger import Meter
from secirls.algorithms.query import Query, Total
from secirls.site.in_common import Apart


class Checking(Secret):
    """One site's check values: how they come about, and what they are held against."""

    def __init__(self, site: PartyId) -> None:
        self._site = site
        self._sites: frozenset[PartyId] = frozenset()
        self._seeds: SeedTable | None = None
        self._checks: Checks | None = None
        self._untold: tuple[Query, Layout] | None = None

    def greet(self, identity: Identity, sites: Roster, session: bytes) -> bytes:
        """This site's channel key, over which the sites share the seed."""
        self._seeds = SeedTable(self._site, identity, sites, session, secrets.token_bytes)
        self._sites = frozenset(sites.keys)
        return self._seeds.greeting()

    def deal(self, greetings: Mapping[PartyId, bytes]) -> bytes:
        """Draw the seed, and seal it for each of the others."""
        dealt, self._checks = self._greeted(greetings).deal(greetings)
        return dealt

    def take(self, greetings: Mapping[PartyId, bytes], dealt: bytes) -> bytes:
        """Open this site's box; nothing is said."""
        self._checks = self._greeted(greetings).take(greetings, dealt)
        return b""

    @property
    def checks(self) -> Checks:
        """What goes with vectors and stands in totals. Raises `MisuseError` before the seed is shared."""
        if self._checks is None:
            raise MisuseError(f"site {self._site} shares nothing yet that totals could be checked with")
        return self._checks

    def expect(self, asked: Query, layout: Layout) -> None:
        """Wait for the total of this question, answered in this layout."""
        self._untold = asked, layout

    def expected(self) -> tuple[Query, Layout]:
        """The question whose total is told, once, and the layout of its answer. Raises `MisuseError` for another."""
        if self._untold is None:
            raise MisuseError(f"site {self._site} was told a total that it does not wait for")
        untold, self._untold = self._untold, None
        return untold

    def opened(
        self, total: bytes, layout: Layout, context: Context, parties: tuple[PartyId, ...], common: Apart, meter: Meter
    ) -> Total:
        """The arrays of a total that is the sum of what these sent. Raises `PeerError` for any other."""

        def arrays() -> Total:
            return Total(layout.decode(vector[: layout.values], len(parties)), parties, context.cohort)

        vector = common.once("vector", (total, context), lambda: unpack_total(total, context), meter)
        self.checks.verify(vector, context, parties)
        return common.once("total", (total, context, layout, parties), arrays, meter)

    def _greeted(self, greetings: Mapping[PartyId, bytes]) -> SeedTable:
        if self._seeds is None or set(greetings) != self._sites:
            raise MisuseError(f"site {self._site} shares what totals are checked with among all the agreed sites, once")
        table, self._seeds = self._seeds, None
        return table
