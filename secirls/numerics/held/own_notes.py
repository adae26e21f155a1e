"""What a site remembers of its own coefficients between the rounds of IRLS: the one thing that changes as it answers.

Promises: the same question again is answered the same, and the one before it; any other step than these and the next
has no coefficients, and says so as what can't be computed does. Refuses to know: samples, and what a step is.

After each step the best own coefficients are a line in the table's: ``delta = constant - slope beta``. The table's next
beta is all that a site needs to go on. The step before is kept for a gene that comes back to it, since own coefficients
of another site left the box (`secirls.algorithms.regression.betas`): leverages are asked for there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    step_before: NDArray[np.int32]
    """The step that was evaluated before the last, ``(all genes,)``; -1 before the second."""
    delta_before: Floats
    """Own coefficients there, ``(all genes, own)``."""

    @classmethod
    def empty(cls, genes: int, own: int, shared: int) -> Notes:
        """Before the first round."""
        step, delta = np.full(genes, -1, dtype=np.int32), np.zeros((genes, own))
        slope = np.zeros((genes, own, shared))
        return cls(np.arange(genes), step, delta, delta.copy(), slope, step.copy(), delta.copy())

    def take(self, genes: NDArray[np.intp]) -> Notes:
        """The notes of some of these genes, by index; they are the same notes."""
        return replace(self, rows=self.rows[genes])

    def at(self, beta: Floats, steps: NDArray[np.int32]) -> tuple[Floats, Mask]:
        """Own coefficients at the table's ``(genes, shared)`` and at steps ``(genes,)``, and which are one step on.

        NaN where the step is neither the next one, nor the last, nor the one before.
        """
        last, before = self.step[self.rows], self.step_before[self.rows]
        following = self.constant[self.rows] - np.einsum("gkm,gm->gk", self.slope[self.rows], beta)
        on: Mask = steps == last + 1
        delta = np.where(on[:, None], following, self.delta[self.rows])
        back = ~on & (steps != last)
        known = (steps == before) & (before == last - 1)
        delta[back] = np.where(known[:, None], self.delta_before[self.rows], np.nan)[back]
        return delta, on

    def keep(self, genes: Mask, steps: NDArray[np.int32], delta: Floats, constant: Floats, slope: Floats) -> None:
        """Note the step that some of these genes, ``(genes,)``, were evaluated at, and where the next one leads."""
        rows = self.rows[genes]
        on = rows[self.step[rows] != steps[genes]]
        self.step_before[on], self.delta_before[on] = self.step[on], self.delta[on]
        self.step[rows], self.delta[rows] = steps[genes], delta[genes]
        self.constant[rows], self.slope[rows] = constant[genes], slope[genes]
