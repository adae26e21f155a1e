"""A site's own design columns: an orthogonal basis of them, and what is left of anything beside them.

Promises: least squares on own columns alone, without BLAS; columns that depend on each other are told. Refuses to know:
whose columns they are, and why. Golub and Van Loan (2013, section 5.2) for Gram and Schmidt's method, done twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.own_notes import Notes

_NOTHING = 1e-9
"""Of a column's length: what is left of it beside others, if no more than this, is rounding."""


@dataclass(frozen=True)
class Own:
    """One site's own columns Z, and what it remembers of their coefficients."""

    design: Floats
    """Z, ``(samples, own)``."""
    basis: Floats
    """Orthonormal columns that span Z, ``(samples, own)``."""
    triangle: Floats
    """The upper triangle R with ``Z = basis R``, ``(own, own)``."""
    notes: Notes
    """Of all genes, or of those that were taken."""
    box: float
    """Coefficients of larger magnitude (natural log) are none."""

    @classmethod
    def of(cls, design: Floats, genes: int, shared: int, box: float) -> Own:
        """Before the first round; ``shared`` columns are at the table. `ValueError` if Z is rank-deficient."""
        basis, triangle = orthogonal(design)
        if (np.diag(triangle) == 0).any():
            raise ValueError("own design columns depend on each other")
        return cls(design, basis, triangle, Notes.empty(genes, design.shape[1], shared), box)

    @property
    def size(self) -> int:
        """How many columns."""
        return int(self.design.shape[1])

    @property
    def fitted_exactly(self) -> Mask:
        """Samples that own columns alone fit, whatever their counts: the only ones of a batch, say, ``(samples,)``."""
        return np.asarray(1.0 - (self.basis**2).sum(axis=1) <= _NOTHING)

    def take(self, genes: NDArray[np.intp]) -> Own:
        """The same with the notes of some genes, by index: what is noted there is noted here."""
        return Own(self.design, self.basis, self.triangle, self.notes.take(genes), self.box)

    def beside(self, columns: Floats) -> Floats:
        """What is left of ``(samples, columns)`` once Z is taken out, by least squares."""
        return _without(columns, self.basis)

    def least_squares(self, values: Floats) -> Floats:
        """Coefficients of Z for rows of values ``(genes, samples)``: ``(genes, own)``."""
        found = np.empty((values.shape[0], self.size))
        for j in range(self.size):
            found[:, j] = (values * self.basis[:, j]).sum(axis=1)
        for j in reversed(range(self.size)):
            for k in range(j + 1, self.size):
                found[:, j] -= self.triangle[j, k] * found[:, k]
            found[:, j] /= self.triangle[j, j]
        return found


def orthogonal(columns: Floats) -> tuple[Floats, Floats]:
    """An orthonormal basis of columns ``(samples, k)``, and the triangle that makes them of it.

    A column that depends on those before has zeros in the basis and on the diagonal.
    """
    samples, k = columns.shape
    basis, triangle = np.zeros((samples, k)), np.zeros((k, k))
    for j in range(k):
        rest, length = columns[:, j].copy(), np.sqrt((columns[:, j] ** 2).sum())
        for _ in range(2):
            for i in range(j):
                share = (basis[:, i] * rest).sum()
                triangle[i, j] += share
                rest -= share * basis[:, i]
        left = np.sqrt((rest**2).sum())
        if left > _NOTHING * length:
            triangle[j, j] = left
            basis[:, j] = rest / left
    return basis, triangle


def spans(columns: Floats, other: Floats) -> bool:
    """Whether another column ``(samples,)`` is a combination of columns ``(samples, k)``: nothing is left of it."""
    return spans_each(columns, other[:, None])[0]


def spans_each(columns: Floats, others: Floats) -> list[bool]:
    """Of several ``others``, ``(samples, others)``, whether each is."""
    if not others.shape[1]:
        return []
    basis = orthogonal(columns)[0]
    rests = (_without(other[:, None], basis) for other in others.T)
    return [bool((x**2).sum() <= _NOTHING**2 * (y**2).sum()) for x, y in zip(rests, others.T, strict=True)]


def _without(columns: Floats, basis: Floats) -> Floats:
    rest = columns.copy()
    for _ in range(2):
        for direction in basis.T:
            rest -= np.outer(direction, (direction[:, None] * rest).sum(axis=0))
    return rest
