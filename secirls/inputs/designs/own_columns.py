"""Which design columns belong to one site alone: from the formula and the levels that each site told.

Promises: every column has one place, the table or one site; who finds it from the same public facts finds the same.
Refuses to know: samples, counts, and what is done with the columns.

A column is a site's *own* where that site alone adds anything to it. Two rules, until neither changes anything:

1. a site whose own columns span another column, restricted to its samples, adds nothing to that column: whatever its
   coefficient, the site's own ones make up for it;
2. a column to which one site alone still adds becomes that site's own.

With ``~ site + condition`` the centres' dummies are their own by the second rule, span the intercept at home by the
first, and leave it to the reference centre: every site ends with an intercept of its own, the table keeps `condition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from secirls.numerics.arrays import Floats
from secirls.numerics.held.own_columns import spans_each


@dataclass(frozen=True)
class OwnColumns:
    """Where each column of a design stays."""

    of: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By site, the columns that are its own, in the order of the design; sites without any are left out."""
    adding: tuple[tuple[str, ...], ...] = ()
    """By column of the design, the sites that add to it at the table, ``(params,)``; none where it is own."""

    @classmethod
    def find(cls, rows: Mapping[str, Floats]) -> OwnColumns:
        """Divide the columns, from the design rows ``(rows, params)`` that the samples of every site can have."""
        sites = sorted(rows)
        params = next(iter(rows.values())).shape[1] if rows else 0
        adds = {site: (rows[site] != 0).any(axis=0) for site in sites}
        own: dict[str, list[int]] = {site: [] for site in sites}
        shared = list(range(params))
        while True:
            lonely = [
                (column, adding[0])
                for column in shared
                if len(adding := [site for site in sites if adds[site][column]]) == 1
            ]
            if not lonely:
                break
            for column, site in lonely:
                own[site].append(column)
                shared.remove(column)
            for site in {site for _, site in lonely}:
                here = np.array([column for column in shared if adds[site][column]], dtype=np.intp)
                adds[site][here] = np.logical_not(spans_each(rows[site][:, own[site]], rows[site][:, here]))
        told = tuple(
            tuple(site for site in sites if column in shared and adds[site][column]) for column in range(params)
        )
        return cls({site: tuple(sorted(columns)) for site, columns in own.items() if columns}, told)

    @property
    def all(self) -> frozenset[int]:
        """Every column that is some site's own."""
        return frozenset(column for columns in self.of.values() for column in columns)

    @property
    def adding_nothing(self) -> tuple[str, ...]:
        """Sites whose own columns make up for every column of the table."""
        adding = {site for sites in self.adding for site in sites}
        return tuple(site for site in self.of if site not in adding)

    def at(self, site: str) -> list[int]:
        """The columns of one site."""
        return list(self.of.get(site, ()))

    def split(self, site: str, design: Floats) -> tuple[Floats, Floats]:
        """A site's design matrix ``(samples, params)``: the table's columns, zero where it adds nothing, and its own.

        Sites may lack combinations that their levels allow, so what a site adds nothing to is looked for in its own
        samples. `ValueError` where it does add to a column of another site.
        """
        mine = self.at(site)
        others = design[:, sorted(self.all.difference(mine))]
        if not all(spans_each(design[:, mine], others)):
            raise ValueError("it adds to a design column that is another site's own")
        own, shared = design[:, mine], np.delete(design, sorted(self.all), axis=1)
        if own.shape[1]:
            shared[:, spans_each(own, shared)] = 0.0
        return np.ascontiguousarray(shared), np.ascontiguousarray(own)
