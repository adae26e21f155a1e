"""X'WX at coefficients and dispersions that all know: what of it a round of IRLS need not ask for.

Promises: it is of the same sites as the sums beside it, or is not used. Refuses to know: how IRLS proceeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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

    def over(self, parties: tuple[str, ...]) -> bool:
        """Whether it is of these sites, and of no other."""
        return set(parties) == set(self.information.parties)
