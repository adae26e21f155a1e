"""What a site tells of the var columns that a fit's user names: digests first, text where all sites have the same.

Promises: nothing is said of a few genes that somebody chose; text leaves only against the signatures of all sites of
the agreement, by the roster's keys, under the same digest as the site's own. Refuses to know: the file, and which
columns its policy lists; see `PolicyChecks.check_config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from protocols.primitives.keys import Identity
from protocols.secure_sum import MisuseError, PartyId
from protocols.sessions.session import Roster
from secirls.agreement.agreement import Agreement
from secirls.agreement.told_columns import Texts, alike, pack_texts, read_columns, sign_columns
from secirls.inputs.files.site_file import SiteTable
from secirls.inputs.files.var_columns import Unfit


@dataclass(frozen=True)
class Telling:
    """One site's columns in one session. Never leaves the site's process."""

    site: PartyId
    identity: Identity = field(repr=False)
    agreement: Agreement
    columns: Mapping[str, Texts | Unfit] = field(repr=False)
    """Texts over the agreed genes in order."""

    FEWEST_GENES: ClassVar[int] = 1_000
    """Of fewer, where its file has twice as many, nothing is said: whoever leads names the genes, and from a digest of
    the text of a few follows which of few possible texts it is."""

    @classmethod
    def of(cls, site: PartyId, identity: Identity, agreement: Agreement, table: SiteTable) -> Telling:
        """From a site's file; the agreed genes are among its own."""
        columns = table.var_columns
        if agreement.genes is not None:
            few = len(agreement.genes) < min(cls.FEWEST_GENES, len(table.genes) / 2)
            place = {gene: i for i, gene in enumerate(table.genes)}
            order = [place[gene] for gene in agreement.genes]
            columns = {
                name: held if isinstance(held, Unfit) else Unfit.FEW_GENES if few else tuple(held[i] for i in order)
                for name, held in columns.items()
            }
        return cls(site, identity, agreement, columns)

    def digests(self) -> bytes:
        """A digest of each column, or why it is none, signed."""
        return sign_columns(self.identity, self.site, self.agreement.digest, self.columns)

    def texts(self, said: Mapping[PartyId, bytes]) -> bytes:
        """The text of the columns that all sites have alike, by what they signed.

        Raises `MisuseError` where somebody's is missing, `PeerError` for what a site did not sign.
        """
        agreement, names = self.agreement, tuple(self.columns)
        if set(said) != set(agreement.sites):
            raise MisuseError(f"site {self.site} tells var columns only where all the agreed sites have them alike")
        roster, agreed = Roster(agreement.roster), agreement.digest
        read = {site: read_columns(roster, site, agreed, names, said[site]) for site in agreement.sites}
        if read[self.site] != read_columns(roster, self.site, agreed, names, self.digests()):
            raise MisuseError(f"site {self.site} said something else of its var columns")
        told = {name: held for name in alike(read, names) if not isinstance(held := self.columns[name], Unfit)}
        return pack_texts(told)
