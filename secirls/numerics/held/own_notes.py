"""What a site remembers of its own coefficients between the rounds of IRLS: the one thing that changes as it answers.

Promises: the same question again is answered the same; a step that does not follow from the last one has no
coefficients, and says so as what can't be computed does. Refuses to know: samples, and what a step is.

After each step the best own coefficients are a line in the table's: ``delta = constant - slope beta``. The table's next
beta is all that a site needs to go on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Floats, Mask


@dataclass(frozen=True)
class Notes:
    """Arrays over all genes of a fit, shared by whoever took some of them; ``rows`` are the genes taken."""

    rows: NDArray[np.intp]
    step: NDArray[np.int32]
    """The step of IRLS that was last evaluated, ``(all genes,)``; -1 before the first."""
    delta: Floats
    """Own coefficients there, ``(all genes, own)``."""
    constant: Floats
    """``(all genes, own)``."""
    slope: Floats
    """``(all genes, own, shared)``."""

    @classmethod
    def empty(cls, genes: int, own: int, shared: int) -> Notes:
        """Before the first round."""
        rows, step = np.arange(genes), np.full(genes, -1, dtype=np.int32)
        return cls(rows, step, np.zeros((genes, own)), np.zeros((genes, own)), np.zeros((genes, own, shared)))

    def take(self, genes: NDArray[np.intp]) -> Notes:
        """The notes of some of these genes, by index; they are the same notes."""
        return Notes(self.rows[genes], self.step, self.delta, self.constant, self.slope)

    def at(self, beta: Floats, steps: NDArray[np.int32]) -> tuple[Floats, Mask]:
        """Own coefficients at the table's ``(genes, shared)`` and at steps ``(genes,)``, and which are one step on.

        NaN where the step is neither the last one nor the next.
        """
        last = self.step[self.rows]
        following = self.constant[self.rows] - np.einsum("gkm,gm->gk", self.slope[self.rows], beta)
        on: Mask = steps == last + 1
        delta = np.where(on[:, None], following, self.delta[self.rows])
        delta[~on & (steps != last)] = np.nan
        return delta, on

    def keep(self, genes: Mask, steps: NDArray[np.int32], delta: Floats, constant: Floats, slope: Floats) -> None:
        """Note the step that some of these genes, ``(genes,)``, were evaluated at, and where the next one leads."""
        rows = self.rows[genes]
        self.step[rows], self.delta[rows] = steps[genes], delta[genes]
        self.constant[rows], self.slope[rows] = constant[genes], slope[genes]
