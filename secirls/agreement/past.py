"""A fit's finished rounds, and what its sites had agreed on: what a later session goes on from.

Promises: public as the rounds are. Refuses to know: where it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from protocols.secure_sum import PartyId
from secirls.agreement.agreement import Agreement, Facts
from secirls.agreement.record import Opening, Record
from secirls.input_error import InputError, complain
from secirls.inputs.designs.design import Design


class OverError(InputError):
    """A fit can't go on from its past, whatever is put right elsewhere."""


@dataclass(frozen=True)
class Begun:
    """What the sites agreed on before the first round; a fit that goes on must agree on the same."""

    sites: tuple[PartyId, ...]
    genes: str
    """Digest of the gene names in order, hexadecimal."""
    levels: Mapping[str, tuple[str, ...]]
    columns: tuple[str, ...]
    data: Mapping[PartyId, str] = field(default_factory=dict)
    """What names each site's data, hexadecimal: see `Facts.data`."""

    @classmethod
    def of(cls, agreement: Agreement, design: Design, facts: Sequence[Facts]) -> Begun:
        """What an agreement says, with the design that follows from it and the facts that it rests on."""
        data = {fact.site: fact.data.hex() for fact in sorted(facts, key=lambda fact: fact.site)}
        return cls(agreement.sites, agreement.genes_digest.hex(), dict(design.levels), design.columns, data)


@dataclass(frozen=True)
class Past:
    """A fit's finished rounds."""

    begun: Begun
    records: tuple[Record, ...]
    opening: Opening | None = None
    """The round after them, where its sum may have been opened already."""

    @property
    def cohort(self) -> tuple[PartyId, ...]:
        """Whom the next round asks."""
        return self.records[-1].survivors if self.records else self.begun.sites

    def check(self, now: Begun, facts: Sequence[Facts]) -> None:
        """Raise `InputError` unless the sites agree on what they agreed on then, and hold the data they held."""
        for name, then, today in (
            ("the genes", self.begun.genes, now.genes),
            ("the levels", self.begun.levels, now.levels),
            ("the design's columns", self.begun.columns, now.columns),
        ):
            if then != today:
                raise complain(f"{name} of the sites' files are not those of the checkpoint, so the fit can't go on")
        for fact in facts:
            if self.begun.data.get(fact.site, now.data[fact.site]) != now.data[fact.site]:
                raise complain(
                    "holds other data than when the fit began, so the fit can't go on: put the file back as it was, "
                    "or begin a new fit",
                    site=fact.site,
                    file=fact.file,
                )
        missing = sorted(set(self.cohort) - set(self.cohort if self.opening is None else self.opening.parties))
        if missing:
            raise OverError(
                f"round {len(self.records)} may have been opened without {', '.join(missing)} when the fit ended, and "
                "opened again with it the two sums would differ by its summand: this fit can't go on"
            )
