"""Principal components of variance-stabilised values within sites: loadings in public, scores at home.

Promises: few directions are multiplied, fewer than a share of the samples, and as few as the angle asks for; where they
end without an answer there are no loadings, and a word for why. Refuses to know: protocols, sites, rounds.

With x a sample's values less its site's means and S = sum x x' over all samples, components are the leading
eigenvectors of S: the right singular vectors of the pooled, within-site centred matrix. They are found from products
S W with a growing basis W (block Krylov: Golub and Underwood 1977), for whatever is opened of S is known to everybody
for good, and this way the least of it is. Why site means stay out: overall centring would put the differences of site
means into S, and with few sites their components would publish them; they are batch effects before all else.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.components.component_queries import (
    Scale,
    VstDominatedQuery,
    VstGramQuery,
    VstProductsQuery,
    VstSquaresQuery,
)
from secirls.algorithms.query import Algorithm
from secirls.numerics.algebra.subspace import Leading, crossed, leading_of, orthonormal, signed, start_directions
from secirls.numerics.arrays import Floats, Mask

LEAST_BLOCKS = 3
"""Nothing is multiplied where not even so many blocks of directions may be: their angle would be of no use."""
_FARTHEST = 0.25
"""Loadings further than this from those of the pooled data, as far as can be told, are not given."""
_MOST_DEGREES = 1 << 53
"""Every number below is one that floats tell from its neighbours."""
_LOOKED_THROUGH = 2
"""Times as many genes as are wanted are looked through for such as no sample dominates."""


class Ending(StrEnum):
    """Why no further direction was multiplied."""

    CONVERGED = "the angle was reached"
    EXHAUSTED = "there are no further directions, and the answer is exact"
    LIMIT = "one direction more would have been too many for so few samples"
    DOMINATED = "one direction more would have been mostly one sample's"
    FEW_SAMPLES = "the samples are too few for as many directions as it takes"
    FEW_GENES = "too few genes vary in more than one sample"
    NO_TRANSFORM = "the fit has no trend of dispersions, or none that gives a transform"
    NOT_ALL = "not all sites were there any more"


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    components: int
    genes: int = 500
    """So many of largest variance within sites."""
    tolerance: float = 0.05
    """Sine of the angle to the components of the pooled data, as it is estimated, at which it ends."""
    directions_per_sample: float = 0.2
    """Directions multiplied at most, over samples less sites."""
    sample_share: float = 0.5
    """Of a gene's variance, and of that along any direction multiplied, that may be one sample's."""

    def limit(self, degrees: int) -> int:
        """Directions that may be multiplied of so many samples less sites."""
        return int(self.directions_per_sample * degrees)

    @property
    def least(self) -> int:
        """Directions that it takes to begin."""
        return LEAST_BLOCKS * self.components

    @property
    def least_degrees(self) -> int:
        """The fewest samples less sites that suffice."""
        return bisect_left(range(_MOST_DEGREES), self.least, key=self.limit)


@dataclass(frozen=True)
class Components:
    """What came of it."""

    genes: NDArray[np.intp] = field(repr=False)
    """Which of the agreed genes, ``(genes,)``."""
    loadings: Floats = field(repr=False)
    """Orthonormal columns, the largest entry of each above zero, ``(genes, components)``; ``(0, 0)`` for none."""
    variances: Floats
    """Of the scores, over samples less sites, ``(components,)``."""
    total: float
    """Of all these genes together."""
    ending: Ending
    angle: float = np.nan
    """Sine of the largest angle to the components of the pooled data, estimated and mostly several times too large; NaN
    where nothing was multiplied, infinite where nothing tells."""
    directions: int = 0
    """So many were multiplied."""
    degrees: int = 0
    """Samples less sites."""
    among: int = 0
    """Genes that directions were multiplied over."""
    dominated: int = 0
    """Genes left out because one sample makes up most of their variance."""

    @property
    def why(self) -> str:
        """Why it ended where it did, and whether that is of no use."""
        useless = self.directions and not self.loadings.size
        return f"{self.ending}{', and the angle is still too large to be of use' if useless else ''}"

    @classmethod
    def nothing(cls, ending: Ending, **told: float) -> Components:
        """No loadings."""
        return cls(np.zeros(0, dtype=np.intp), np.zeros((0, 0)), np.zeros(0), np.nan, ending, **told)  # type: ignore[arg-type]


def principal_components(plan: Plan, scale: Scale, genes: Mask, degrees: int) -> Algorithm[Components]:
    """Leading components over the ``genes`` that may be asked about, ``(genes,)``; ``degrees`` are samples less sites.

    Where these are too few nothing is asked.
    """
    if not scale.usable:
        return Components.nothing(Ending.NO_TRANSFORM)
    if not genes.any():
        return Components.nothing(Ending.FEW_GENES)
    if plan.limit(degrees) < plan.least:
        return Components.nothing(Ending.FEW_SAMPLES, degrees=degrees)
    asked = VstSquaresQuery(genes, *scale.fields)
    total = yield asked
    if total.parties != total.cohort:
        return Components.nothing(Ending.NOT_ALL)
    squares = np.zeros(genes.size)
    squares[genes] = np.where(asked.lost(total), 0.0, total["squares"])
    chosen, dominated = yield from _most_varying(plan, scale, squares)
    if chosen.sum() <= plan.components:
        return Components.nothing(Ending.FEW_GENES, degrees=degrees, dominated=dominated)
    found, ending, directions = yield from _leading(plan, scale, chosen, plan.limit(degrees))
    told = {"degrees": degrees, "dominated": dominated, "directions": directions, "among": int(chosen.sum())}
    if found is None or not found.angle <= _FARTHEST:
        return Components.nothing(ending, angle=np.nan if found is None else found.angle, **told)
    return Components(
        np.flatnonzero(chosen),
        signed(found.vectors),
        found.values / degrees,
        float(np.cumsum(squares[chosen])[-1]) / degrees,
        ending,
        found.angle,
        **told,
    )


def _most_varying(plan: Plan, scale: Scale, squares: Floats) -> Algorithm[tuple[Mask, int]]:
    """The genes of largest sums of squares that no sample dominates, ``(genes,)``; and how many were passed over."""
    varying = np.argsort(-squares, kind="stable")[: _LOOKED_THROUGH * plan.genes]
    varying = varying[squares[varying] > 0]
    chosen = np.zeros(squares.size, dtype=bool)
    if not varying.size:
        return chosen, 0
    candidates = chosen.copy()
    candidates[varying] = True
    looked = VstDominatedQuery(candidates, *scale.fields, squares[candidates], plan.sample_share)
    total = yield looked
    out = np.zeros_like(chosen)
    out[candidates] = looked.lost(total) | (total["dominated"] > 0)
    stay = np.flatnonzero(~out[varying])[: plan.genes]
    chosen[varying[stay]] = True
    seen = stay[-1] if stay.size else varying.size
    return chosen, int(out[varying[:seen]].sum())


def _leading(plan: Plan, scale: Scale, chosen: Mask, limit: int) -> Algorithm[tuple[Leading | None, Ending, int]]:
    """Multiply directions, until the angle is reached or may not be; with how many were."""
    n, leading = int(chosen.sum()), plan.components
    basis, products, gram = np.zeros((n, 0)), np.zeros((n, 0)), np.zeros((0, 0))
    block, found = start_directions(n, leading), None
    while True:
        m = basis.shape[1]
        if m == limit:
            return found, Ending.LIMIT, m
        block = block[:, : limit - m]
        along = VstGramQuery(chosen, *scale.fields, block)
        total = yield along
        if along.lost(total).any() or total.parties != total.cohort:
            return found, Ending.DOMINATED if total.parties == total.cohort else Ending.NOT_ALL, m
        across, wider = crossed(products, block), np.column_stack([basis, block])
        among = np.block([[gram, across], [across.T, _symmetric(total["gram"])]])
        new = block.shape[1]
        multiplied = VstProductsQuery(chosen, *scale.fields, wider, among, new, plan.sample_share)
        total = yield multiplied
        if multiplied.lost(total).any() or total.parties != total.cohort:
            return found, Ending.DOMINATED if total.parties == total.cohort else Ending.NOT_ALL, m
        basis, products, gram = wider, np.column_stack([products, total["products"]]), among
        found = leading_of(basis, products, gram, leading)
        if found.angle <= plan.tolerance:
            return found, Ending.CONVERGED, m + new
        # Directions are added where they are wanted: what has its angle has its share of what may be opened, too.
        wanted = found.residuals[:, found.parts > plan.tolerance / (2.0 * np.sqrt(leading))]
        block = orthonormal(wanted, basis)
        if not block.shape[1]:
            return replace(found, angle=0.0), Ending.EXHAUSTED, m + new  # S W lies in W


def _symmetric(gram: Floats) -> Floats:
    return 0.5 * (gram + gram.T)
