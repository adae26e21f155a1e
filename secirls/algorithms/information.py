"""What X'WX follows from, asked once a fit: sums over the size factors in each cell of the design.

Promises: asked only where X'WX of the genes tells these sums anyway, and where they are fewer numbers than those it
stands for. Refuses to know: means and dispersions that X'WX is wanted at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secirls.algorithms.groundwork.normalisation import known_size_factors
from secirls.algorithms.outliers.cells import CellsQuery, cell_of
from secirls.algorithms.query import Algorithm, QueryError, Total
from secirls.algorithms.regression.known_information import KnownInformation
from secirls.algorithms.summands import EXACT, lost
from secirls.inputs.designs.design import Design
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.information import Information, follows_from_cells
from secirls.numerics.regression.stieltjes import BINS, PLACES, Transforms, spread, transforms

IN_A_PROFILE, IN_A_FIT = 16, 4
"""How often each distinct product of a gene's X'WX is asked for, at least: by a profile, and by IRLS alone."""
UNIT = 2.0**-16
"""Of the dispersions that are summed, so that small ones keep their digits."""


@dataclass(frozen=True)
class CellTransformsQuery(CellsQuery):
    """What `CellsQuery` asks, and the Stieltjes transform of each cell's size factors at fixed places; their spread.

    Its sum shows the size factors of a cell's samples over all sites, of few samples one by one, not whose each is. It
    is asked, and answered, only where a cell's sum of weights follows from X'WX: there X'WX of many genes, at means
    that all know, shows the same function at as many places, and is not asked for any more. What keeps a small cell or
    a site out of it is what keeps them out of X'WX: ``min_contributors``, for combinations of levels and columns too,
    and the rule about thin cells.

    Of genes that it is about, it shows the dispersions that sites brought, which are the same everywhere.
    """

    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""

    kind: ClassVar[str] = "cell_transforms"
    not_by_gene: ClassVar[frozenset[str]] = CellsQuery.not_by_gene | {"transforms", "spread"}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        cells = self.rows.shape[0]
        told = {"transforms": (cells, PLACES), "spread": (cells, BINS), "dispersions": (self.n_genes,)}
        return {**super().shapes(), **told}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if self.replace_from or not follows_from_cells(self.rows, Products.among(self.rows)):
            raise QueryError(f"query {self.kind!r}: sums over cells would tell more than X'WX does")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site. Raises `QueryError` where it has no dispersions of genes that are asked about."""
        s, cell, cells = known_size_factors(samples), cell_of(samples, self.rows), self.rows.shape[0]
        brought = np.zeros(0) if samples.dispersions is None else samples.dispersions
        if brought.size != self.n_genes and self.n_genes:
            raise QueryError(f"query {self.kind!r} asks for dispersions, and this site brought none")
        return {
            **super().summands(samples, parties),
            "transforms": transforms(s, cell, cells),
            "spread": spread(s, cell, cells),
            "dispersions": brought[: self.n_genes] / UNIT,
        }


@dataclass(frozen=True, eq=False)
class Told:
    """What the opened sum of a `CellTransformsQuery` says."""

    total: Total
    information: Information | None
    """What X'WX follows from; ``None`` where some site could not send its own."""
    brought: Floats | None
    """The dispersions that sites brought, ``(genes,)``, NaN for genes not asked about; ``None`` where they did not."""

    def known(self, estimated: Floats | None) -> KnownInformation | None:
        """X'WX at the dispersions that sites brought, or at estimated ones, ``(genes,)``."""
        dispersions = estimated if self.brought is None else self.brought
        if self.information is None or dispersions is None:
            return None
        return KnownInformation(self.information, dispersions)


def ask_cells(
    genes: Mask,
    design: Design,
    products: Products,
    fraction_bits: int = EXACT,
    *,
    times: int = IN_A_PROFILE,
    brought: bool = False,
) -> Algorithm[Told | None]:
    """What the cells tell, in one round; ``None``, and none, where X'WX has to be asked for.

    Parameters
    ----------
    genes
        Whose X'WX it stands for, ``(genes,)``.
    times
        How often that would be asked for.
    brought
        Whether sites have brought dispersions, which are asked for too.
    """
    if not design.enumerable or design.own.of:
        return None
    rows = design.cells()
    fewer = rows.shape[0] * (PLACES + BINS) <= times * products.size * np.count_nonzero(genes)
    if not fewer or not follows_from_cells(rows, products):
        return None
    query = CellTransformsQuery(genes if brought else np.zeros_like(genes), rows, fraction_bits=fraction_bits)
    total = yield query
    gone = {name: lost(total[name], len(total.cohort), fraction_bits) for name in query.shapes()}
    information, dispersions = None, None
    if not (gone["transforms"].any() or gone["spread"].any()):
        told = Transforms.of(total["transforms"], total["spread"])
        information = Information(rows, products.of(rows), told, total.parties)
    if brought:
        dispersions = np.full(genes.size, np.nan)
        dispersions[genes] = np.where(gone["dispersions"], np.nan, total["dispersions"] / len(total.parties) * UNIT)
    return Told(total, information, dispersions)
