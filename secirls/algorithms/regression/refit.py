"""Refit mode: some genes fitted again on replaced counts, the rest of the fit kept.

Promises: size factors, dispersions and base means stay as they were; a gene whose replaced counts are at too few
sites is never asked about. Refuses to know: how the counts were replaced, protocols, sites.
Love, Huber and Anders (2014), methods, automatic treatment of outliers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.groundwork.census import PresenceQuery
from secirls.algorithms.query import Algorithm, Query, QueryError
from secirls.algorithms.regression.catch import catch
from secirls.algorithms.regression.irls import IrlsConfig, State, irls, least_squares_start
from secirls.algorithms.regression.quasi_newton import CatchConfig
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.status import Reason, Status


@dataclass(frozen=True)
class ReplaceCountsQuery(Query):
    """Sites take the replaced counts of these genes for the rest of the fit, and confirm by being counted.

    Its sum shows how many sites there are, and is the same whatever they hold. What is asked about these genes
    afterwards is asked about other counts of the same samples: the budget of values per gene counts both.
    """

    kind: ClassVar[str] = "replace_counts"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"sites"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"sites": (1,)}

    def apply(self, samples: Samples) -> Samples:
        """What the site keeps."""
        if samples.replacement is None:
            raise QueryError("this site has no replaced counts: its configuration names no refit layer")
        return samples.with_replaced(self.genes)

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        return {"sites": np.ones(1)}


def refit(
    state: State,
    genes: Mask,
    eligible: Callable[[Floats], NDArray[np.int8]],
    plan: IrlsConfig,
    catch_plan: CatchConfig,
) -> Algorithm[State]:
    """The state with some genes, ``(genes,)``, fitted again; genes that were never fitted stay as they are.

    ``eligible`` gives the statuses genes begin with, from the number of sites that have counts for them.
    """
    genes = genes & np.isfinite(state.start).all(axis=1)
    if not genes.any():
        return state
    params = state.beta.shape[1]
    yield ReplaceCountsQuery(genes)
    census = PresenceQuery(genes)
    total = yield census
    status, reason = np.full(genes.size, Status.TOO_FEW_SITES, dtype=np.int8), np.zeros(genes.size, dtype=np.int8)
    gone = census.lost(total)
    status[genes] = np.where(gone, Status.FAILED, eligible(total["presence"]))
    reason[genes] = np.where(gone, Reason.LOST, Reason.NONE)
    again = yield from least_squares_start(status, params, plan, reason=reason)
    again = yield from irls(again, plan)
    again = yield from catch(again, catch_plan)
    return state.replaced(again, genes)
