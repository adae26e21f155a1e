"""What is done about outliers, from a first fit to the table: told, kept, replaced or without a p-value.

Promises: R's order of things: outliers in cells of seven samples or more are replaced and their genes fitted again; a
gene with another outlier, in a cell of three to six, has no p-value, unless three samples have a larger count in a
design of one factor with two levels. Refuses to know: how any of it is computed.
Love, Huber and Anders (2014), methods, automatic treatment of outliers, in the form of DESeq2 1.38.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.outliers.cells import Cells
from secirls.algorithms.outliers.cooks import Outliers, outliers
from secirls.algorithms.outliers.exceptions import exceptions
from secirls.algorithms.outliers.outlier_replacement import Dispersions, Plans, Refit, replace_outliers, replaces
from secirls.algorithms.query import Algorithm
from secirls.algorithms.regression.betas import Betas
from secirls.inputs.designs.design import Design
from secirls.numerics.arrays import Floats, Mask


@dataclass(frozen=True)
class Treated:
    """A fit whose outliers were dealt with, over all agreed genes."""

    refit: Refit
    """The fit, base means and dispersions that the table shows, and which genes they are new for."""
    missing: Mask
    """Genes without a p-value, because of an outlier that is not replaced, ``(genes,)``."""
    kept: Mask
    """Genes that the exception kept from that, ``(genes,)``."""
    found: Outliers | None
    """The outliers of the first fit; ``None`` where design or `min_kept` left nothing to compare."""


def _is_of_two_levels(design: Design, around: Cells) -> bool:
    """Whether a design is of one factor, with samples at two levels: others that were declared are dropped, as in R."""
    return not design.numeric and not design.own.of and len(design.levels) == 1 and around.distinct == 2


def treat_outliers(
    genes: Mask,
    fit: Betas,
    dispersions: Floats,
    base_means: Floats,
    base_variances: Floats,
    design: Design,
    around: Cells,
    eligible: Callable[[Floats], NDArray[np.int8]],
    again: Dispersions,
    plans: Plans,
    *,
    two_levels_only: bool = True,
    emptied: Literal["tested", "missing"] = "tested",
) -> Algorithm[Treated]:
    """Find the outliers of a first fit and deal with them.

    Parameters
    ----------
    genes
        Fitted genes, ``(genes,)``.
    fit, dispersions, base_means, base_variances
        Of the first fit; over all samples, of y / s; ``(genes, ...)``.
    design, around
        Agreed; and its cells.
    eligible
        Gives the statuses genes begin a second fit with, from the number of sites that have counts for them.
    again
        The dispersion stage of a second fit.
    plans
        Of IRLS, of the way out of it, and of Cook's distances.
    two_levels_only
        Whether only a design of one factor with two levels has the exception, as in R; else every design.
    emptied
        Whether genes that replacing leaves no count have a p-value. Without, one with outliers in a cell of three or
        more has none: whether three larger counts excuse it is not asked, for all that it had were outliers.
    """
    none = np.zeros_like(genes)
    untouched = Refit(fit, none, none, base_means, dispersions)
    found = yield from outliers(genes, fit, base_means, base_variances, around, plans[2])
    if found is None:
        return Treated(untouched, none, none, None)
    replacing = replaces(found.cells)
    missing, kept = found.filtered(replaced=replacing), none
    if not two_levels_only or _is_of_two_levels(design, around):
        kept = yield from exceptions(missing, fit, found, plans[2])
    refit = untouched
    if replacing:
        refit = yield from replace_outliers(fit, dispersions, base_means, found, eligible, again, plans)
        if emptied == "missing":
            missing = missing | (refit.emptied & found.filtered(replaced=False))
    return Treated(refit, missing & ~kept, kept, found)
