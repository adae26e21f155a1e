"""Design columns without any sample, such as cells of a nested factor that nobody has: left out where that is wished.

Promises: which they are follows from the census alone. Refuses to know: formulas, and why they are empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secirls.algorithms.query import Algorithm, Query, QueryError, check_params
from secirls.config import Config
from secirls.inputs.designs.contrasts import reported
from secirls.inputs.designs.design import Design
from secirls.inputs.designs.reduced_design import reduced_design
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples


@dataclass(frozen=True)
class DropEmptyQuery(Query):
    """The design goes on without its empty columns, of the table's.

    Its sum shows how many sites there are, and is the same whatever they hold. A site takes it only if the census that
    it heard says the same of every column.
    """

    kept: Mask
    """The columns of the table that stay, ``(params,)``."""

    kind: ClassVar[str] = "drop_empty"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"sites"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"sites": (1,)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if self.kept.ndim != 1 or self.genes.any() or self.kept.all():
            raise QueryError(f"query {self.kind!r} drops no column, or is about genes")
        check_params(self, self.kept.size, n_params)

    def apply(self, samples: Samples) -> Samples:
        """The samples without those columns. Raises `QueryError` where one is not empty here."""
        if samples.design[:, ~self.kept].any():
            raise QueryError(f"query {self.kind!r} drops a column that is not empty at this site")
        return samples.with_columns(self.kept)

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        return {"sites": np.ones(1)}


def drop_empty(config: Config, design: Design, n_genes: int, column_sites: Floats) -> Algorithm[Design]:
    """The design without its empty columns, and the sites' too, where the configuration says so.

    ``column_sites`` have samples in each column, ``(params,)``. Raises `InputError` where what is asked for needs one
    of them.
    """
    kept = column_sites > 0
    if not config.drop_empty or kept.all() or not kept.any():
        return design
    left = design.without(tuple(int(i) for i in design.at_the_table[~kept]))
    reported(config.asked_contrast, config.shrink, left)
    if config.reduced is not None:
        reduced_design(left, config.reduced)
    yield DropEmptyQuery(np.zeros(n_genes, dtype=bool), kept)
    return left
