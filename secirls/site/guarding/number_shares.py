"""How much of a numeric design column's spread is one site's, by the sums that tell where columns stand.

Promises: a share that is told is no larger than that of the site along some combination of design columns in X'X, so it
is known before X'X is opened. Refuses to know: what is too much; see `Policy`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secirls.algorithms.groundwork.scaling import CovariatesQuery
from secirls.algorithms.query import Total
from secirls.algorithms.summands import lost
from secirls.inputs.designs.design import Design
from secirls.inputs.designs.ranks import largest_share
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples


class NumberShares:
    """Of one site in one fit."""

    def __init__(self, samples: Samples, design: Design) -> None:
        """Take the site's numbers, and which of them are themselves columns that are summed.

        Beside own columns what is summed is what these leave of a column, of which nothing is told before X'X.
        """
        self._numbers = None if samples.covariates is None or design.own.of else samples.covariates.numbers
        names = [factor.expr for factor in design.features]
        self._columns = [(f, name) for f, name in enumerate(names) if name in design.columns]
        self._heard: tuple[CovariatesQuery, Total] | None = None

    def hear(self, asked: CovariatesQuery, total: Total) -> None:
        """Take what is told last: each time from nearer to where a column stands."""
        self._heard = asked, total

    @np.errstate(all="ignore")
    def by_column(self) -> Iterator[tuple[str, float]]:
        """By its name, the site's share of each column, less whichever constant makes it largest."""
        if self._heard is None or self._numbers is None:
            return
        asked, total = self._heard
        z = (self._numbers - asked.centres) / asked.units
        gone = lost(total["values"], len(total.cohort)) | lost(total["squares"], len(total.cohort))
        for f, name in self._columns:
            if not gone[f]:
                mine = _square(float(len(z)), z[:, f].sum(), (z[:, f] ** 2).sum())
                every = _square(total["samples"][0], total["values"][f], total["squares"][f])
                yield name, largest_share(mine, every)[0]


def _square(samples: float, values: float, squares: float) -> Floats:
    """X'X of a constant and a column."""
    return np.array([[samples, values], [values, squares]])
