"""How much of what is summed is one site's, or one sample's: known from sums of before, without counts.

Promises: a share of a numeric column is known before X'X is opened. Where it is the whole, so is that of the site along
some combination of design columns, if the column is one of them or in a product beside what it is multiplied with. What
is said of size factors holds whatever those of the other sites are, if their logs have the sum that the census tells.
Refuses to know: what is too much; see `Policy`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secirls.algorithms.groundwork.scaling import CovariatesQuery
from secirls.algorithms.query import Total
from secirls.algorithms.summands import lost
from secirls.inputs.designs.design import Design
from secirls.inputs.designs.ranks import largest_leverage, largest_share
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples


def size_shares(
    size_factors: Floats, log_sum: float, samples: float, rows: Floats, every: Floats
) -> tuple[float, float, float]:
    """How much of sums of 1 / s^2 is this site's along any combination of design columns, one sample's, and both.

    The second is of the sum over all samples, the third along whichever combination has most of one sample.
    ``size_factors`` are the site's, ``(samples,)``, and ``rows`` its design ``(samples, params)``; ``log_sum`` is the
    sum of log s over so many ``samples`` of all sites, whose X'X is ``every``.

    From the logs follows the geometric mean of the other sites' size factors, and no more. Over all samples, their sum
    of 1 / s^2 is at least their number over the square of it (arithmetic means are no smaller than geometric ones).
    Along other combinations of columns there is no such bound, and each of them is taken to have that mean as its own.
    """
    known = np.isfinite(size_factors) & (size_factors > 0)
    logs, others = np.log(size_factors[known]), samples - size_factors.size
    if not logs.size or not others > 0:
        return (1.0, 1.0, 1.0) if logs.size else (0.0, 0.0, 0.0)
    mean = (log_sum - float(logs.sum())) / others
    largest = max(float(-logs.min()), -mean)
    weights, usual = np.exp(2.0 * (-logs - largest)), float(np.exp(2.0 * (-mean - largest)))
    own, here = float(weights.sum()), rows[known]
    with np.errstate(all="ignore"):  # what is too large has no share, and is lost in the sums
        some = here.T @ (here * weights[:, None])
        whole = some + usual * (every - rows.T @ rows)
        along, _ = largest_share(some, whole)
        alone = largest_leverage(here * np.sqrt(weights)[:, None], whole)
    return max(own / (own + others * usual), along), float(weights.max()) / (own + others * usual), alone


class NumberShares:
    """Of one site in one fit."""

    def __init__(self, samples: Samples, design: Design) -> None:
        """Take the site's numbers, in whichever columns they are summed: beside another as its product, or alone.

        Beside own columns what is summed is what these leave of a column, of which nothing is told before X'X.
        """
        self._numbers = None if samples.covariates is None or design.own.of else samples.covariates.numbers
        self._columns = [factor.expr for factor in design.features]
        self._heard: tuple[CovariatesQuery, Total] | None = None

    def hear(self, asked: CovariatesQuery, total: Total) -> None:
        """Take what is told last: each time from nearer to where a column stands."""
        self._heard = asked, total

    @np.errstate(all="ignore")
    def by_column(self) -> Iterator[tuple[str, float, float]]:
        """By its name, the site's share of each column, less whichever constant makes it largest; and one sample's."""
        if self._heard is None or self._numbers is None:
            return
        asked, total = self._heard
        z = (self._numbers - asked.centres) / asked.units
        gone = lost(total["values"], len(total.cohort)) | lost(total["squares"], len(total.cohort))
        for f, name in enumerate(self._columns):
            if not gone[f]:
                mine = _square(float(len(z)), z[:, f].sum(), (z[:, f] ** 2).sum())
                every = _square(total["samples"][0], total["values"][f], total["squares"][f])
                rows = np.column_stack([np.ones(len(z)), z[:, f]])
                yield name, largest_share(mine, every)[0], largest_leverage(rows, every)


def _square(samples: float, values: float, squares: float) -> Floats:
    """X'X of a constant and a column."""
    return np.array([[samples, values], [values, squares]])
