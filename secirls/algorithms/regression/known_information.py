"""X'WX at coefficients and dispersions that all know: what of it a question need not ask for.

Promises: it is of the same sites as the sums beside it, or is not used. Refuses to know: what the question is about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from secirls.algorithms.query import Algorithm, Query, Total
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.regression.information import Information


@dataclass(frozen=True, eq=False)
class KnownInformation:
    """What X'WX follows from, with the dispersions that sites hold."""

    information: Information
    dispersions: Floats
    """Of all agreed genes, ``(genes,)``; NaN for genes without."""

    def at(self, genes: Mask, beta: Floats, min_mu: float) -> tuple[Floats, Mask]:
        """Distinct products of X'WX at coefficients of the masked genes ``(genes asked, params)``, and where known."""
        ones = np.ones(beta.shape[0], dtype=np.intp)
        return self.information.at(beta, self.dispersions[genes], ones, linear=False, min_mu=min_mu)


def ask_the_rest(
    information: Information, whole: Query, rest: Query, name: str, known: Floats, rows: Mask
) -> Algorithm[Total]:
    """The total of a question that is asked without some rows of an array, with what is known put in.

    Parameters
    ----------
    information
        What those rows follow from: if some site's samples are in it and no longer in the sums, the whole is asked.
    whole, rest
        The question, and what is left of it.
    name, known, rows
        Of the array, all its rows, of which some are known, and which, ``(rows,)``; the others are filled in.
    """
    if not rows.any():
        return (yield whole)
    total = yield rest
    if not information.over(total.parties):
        return (yield whole)
    known[~rows] = total[name]
    return replace(total, arrays={**total.arrays, name: known})
