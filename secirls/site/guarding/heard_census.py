"""What a site heard in the census of who is in a sum, and what of it is left where sites have fallen silent since.

To ask anew would tell, by the difference, what a silent site has. So each is taken for one that had a count of every
gene, and samples wherever the levels that it told allow them.

Promises: never more than there are. Refuses to know: which rules are held against it (see `PolicyChecks`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from protocols.secure_sum import PartyId
from secirls.inputs.designs.design import Design, Variable
from secirls.numerics.arrays import Floats, Mask

Said = Mapping[PartyId, Mapping[str, Variable]]
"""What sites told of their obs columns before the session."""


class HeardCensus:
    """The sums of one census, and later ones of in which sites genes have counts."""

    def __init__(self, sums: Mapping[str, Floats], parties: tuple[PartyId, ...], said: Said) -> None:
        self.column_sites = sums["column_sites"]
        """Sites with samples in each column of the table, ``(columns,)``."""
        self._sums = sums
        self.parties = parties
        """Who is in it."""
        self._said = said
        self._presence = np.zeros(sums["presence"].size)
        self._lost_before = np.zeros(sums["presence"].size)

    def take_presence(self, genes: Mask, presence: Floats, parties: Collection[PartyId]) -> None:
        """At how many of these parties some of the genes have counts, from now on."""
        self._presence[genes] = presence
        self._lost_before[genes] = len(self._silent(parties))

    def forget_presence(self, genes: Mask) -> None:
        """That of some genes is not known any more."""
        self._presence[genes] = 0.0

    def presence(self, parties: Collection[PartyId]) -> Floats:
        """At how many of these each gene has counts at least, ``(genes,)``; see `left`."""
        if parties == self.parties:
            return self._presence
        return left(self._presence, np.maximum(len(self._silent(parties)) - self._lost_before, 0.0))

    def drop(self, kept: Mask) -> None:
        """Only some columns of the design are left."""
        self.column_sites = self.column_sites[kept]

    def among(self, parties: Collection[PartyId], design: Design) -> dict[str, Floats]:
        """The census as `PolicyChecks.check_census` reads it: columns and combinations at these parties at least.

        How many samples a silent site had is not known.
        """
        columns, groups = np.zeros(self.column_sites.size), np.zeros(len(design.groups))
        for party in self._silent(parties):
            columns += self._could_hold(party, design)
            groups += [self._could_be_in(party, design, group) for group in design.groups]
        column_sites, group_sites = left(self.column_sites, columns), left(self._sums["group_sites"], groups)
        return {**self._sums, "column_sites": column_sites, "group_sites": group_sites}

    def held(self, parties: Collection[PartyId], design: Design) -> dict[str, int]:
        """How many of these have each level of the shared factors, as ``factor=level``: from what they said."""
        return {
            f"{factor}={level}": sum(level in told[factor].levels for told in self._told(parties).values())
            for factor in design.shared
            for level in design.levels[factor]
        }

    def apart(self, parties: Collection[PartyId], design: Design) -> tuple[PartyId, ...] | None:
        """Whose own sums follow from those of all columns over these: see `Design.told_apart`."""
        return design.told_apart(self._told(parties))

    def _silent(self, parties: Collection[PartyId]) -> frozenset[PartyId]:
        """Who was in the census and is not among these."""
        return frozenset(self.parties).difference(parties)

    # Of who was in the census of a session before, and is not in this one, nothing is known.

    def _told(self, parties: Collection[PartyId]) -> Said:
        return {party: self._said[party] for party in parties if party in self._said}

    def _could_hold(self, party: PartyId, design: Design) -> Mask:
        if party not in self._said:
            return np.ones(design.at_the_table.size, dtype=bool)
        held: Mask = design.could_hold(self._said[party])[design.at_the_table]
        return held

    def _could_be_in(self, party: PartyId, design: Design, group: tuple[str, ...]) -> bool:
        told, levels = self._said.get(party), zip(design.shared, group, strict=True)
        return told is None or all(level in told[factor].levels for factor, level in levels)


def left(sites: Floats | float, lost: Floats | float) -> Floats:
    """How many sites are left at least of so many: one where there are any, since over none there is no sum to hide."""
    least: Floats = np.where(sites > 0, np.maximum(sites - lost, 1.0), 0.0)
    return least
