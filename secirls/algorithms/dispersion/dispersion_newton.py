"""Newton's method on profiles by sums, for the last digits of an optimum that an interpolant leaves open.

Promises: a gene is asked about only until its step is shorter than 1e-8 in log alpha, at most `ROUNDS` times; it ends
at a place where the slope is no larger than where it began. Refuses to know: interpolants, trends, protocols.
Cox and Reid (1987) for the adjusted profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from secirls.algorithms.dispersion.dispersion_start import Means
from secirls.algorithms.dispersion.dispersions import LARGEST_DISPERSION, MIN_DISPERSION
from secirls.algorithms.query import Algorithm, Query, QueryError, portions, some_of
from secirls.algorithms.regression.irls_queries import check_steps, known_steps
from secirls.algorithms.summands import EXACT, StandIns, largest_honest, largest_summand, resolution
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arithmetic import portable
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.dispersion.curvature import CurvatureSums, adjusted_derivatives, curvature_sums
from secirls.numerics.held.samples import Samples
from secirls.numerics.own.profile import own_curvature_sums

ROUNDS = 10
SHORT = 1e-8
"""A step in log alpha that is no longer worth a question."""
_LONGEST = 1.0
"""A longer step leaves the place that the interpolant found, and is not taken."""


@dataclass(frozen=True)
class DispersionNewtonQuery(Query):
    """Both derivatives of each gene's log-likelihood in log alpha at one dispersion, and X'WX, X'W^2X and X'W^3X.

    Its sum shows 2 + 3 q numbers of the pooled counts of a gene, of the kind that its profile has shown
    already. What keeps a site, a small cell or one sample out of it: as in `ProfileQuery`; the dispersion is the
    optimum of the pooled profile, and no gene is asked about more than `ROUNDS` times.

    A gene of which any sum is not finite, or beyond its honest share, is sent as zeros and a first derivative of
    ``bound``: the sign for *lost* of `IrlsQuery`.
    """

    coefficients: Floats
    """b of the means, ``(genes asked, params)``."""
    dispersions: Floats
    """alpha, ``(genes asked,)``."""
    rows: Floats
    """First design column of each distinct product, whole numbers, ``(q,)``."""
    columns: Floats
    """Second column of each, ``(q,)``."""
    linear: int
    """1: means are s X b; 0: s exp(X b)."""
    min_mu: float
    """Means are clamped below at this."""
    steps: Floats = field(default_factory=lambda: np.zeros(0))
    """Where own coefficients are, as in `IrlsQuery`, ``(genes asked,)``, or empty."""
    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""

    kind: ClassVar[str] = "dispersion_newton"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed, by gene."""
        return {"derivatives": (self.n_genes, 2), "powers": (self.n_genes, 3, self.rows.size)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if self.coefficients.shape != (self.n_genes, n_params) or self.dispersions.shape != (self.n_genes,):
            raise QueryError(f"query {self.kind!r}: its arrays do not fit {self.n_genes} genes, {n_params} params")
        alpha = self.dispersions
        if not ((alpha >= 0.1 * MIN_DISPERSION).all() and (alpha <= LARGEST_DISPERSION).all()):
            raise QueryError(f"query {self.kind!r}: dispersions no path comes to")
        for array in (self.rows, self.columns):
            whole = array.shape == self.rows.shape and len(array.shape) == 1 and (array == np.round(array)).all()
            if not (whole and (array >= 0).all() and (array < n_params).all()):
                raise QueryError(f"query {self.kind!r}: its products name columns that are not there")
        if self.linear not in (0, 1):
            raise QueryError(f"query {self.kind!r}: impossible kind of means")
        check_steps(self, self.steps)
        if not 0 < self.min_mu <= 1:
            raise QueryError(f"query {self.kind!r}: min_mu is above zero, and 1 or less")

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        if samples.size_factors is None:
            raise QueryError("this site has no size factors yet: the query that brings them was not asked")
        pairs = Products(self.rows.astype(np.intp), self.columns.astype(np.intp), np.zeros(0, dtype=np.intp))
        linear = bool(self.linear)
        with np.errstate(all="ignore"):
            if samples.own is None:
                derivatives, powers = curvature_sums(
                    samples, self.coefficients, self.dispersions, pairs, linear=linear, min_mu=self.min_mu
                )
            else:
                steps = known_steps(samples, self.steps)
                derivatives, powers = own_curvature_sums(
                    samples, self.coefficients, self.dispersions, steps, linear=linear, min_mu=self.min_mu
                )
        return {"derivatives": derivatives, "powers": powers}

    def signed(self, arrays: Mapping[str, Floats], parties: int) -> dict[str, Floats]:
        """With the sign for lost genes in their first derivative."""
        derivatives, powers = arrays["derivatives"], arrays["powers"]
        bound = largest_summand(parties, self.fraction_bits)
        largest = np.maximum(np.abs(derivatives).max(axis=1), np.abs(powers).max(axis=(1, 2), initial=0.0))
        sent: Mask = largest <= largest_honest(parties, self.fraction_bits)
        derivatives = np.where(sent[:, None], derivatives, np.array([bound, 0.0]))
        return {"derivatives": derivatives, "powers": np.where(sent[:, None, None], powers, 0.0)}

    def stand_ins(self, arrays: Mapping[str, Floats], bounds: Mapping[str, float]) -> StandIns:
        """As `signed` has them."""
        bound, powers = bounds["derivatives"], arrays["powers"]
        gone = arrays["derivatives"][:, 0] > bound / 2
        if not gone.any():
            return {}
        nothing = np.where(gone, 0.0, np.nan)
        others = np.broadcast_to(nothing[:, None, None], powers.shape)
        return {"derivatives": np.column_stack([np.where(gone, bound, np.nan), nothing]), "powers": others}


def polish(
    genes: Mask,
    means: Means,
    dispersions: Floats,
    products: Products,
    max_dispersion: float,
    *,
    trend: Floats | None = None,
    prior_variance: float = 1.0,
    fraction_bits: int = EXACT,
) -> Algorithm[Floats]:
    """Optima with the digits that an interpolant leaves open, ``(genes asked,)``.

    Parameters
    ----------
    genes
        Which of the agreed genes, ``(genes,)``.
    means
        Of those genes.
    dispersions
        Near each gene's optimum, ``(genes asked,)``; NaN for genes that are not asked about.
    products
        The distinct products of the design's columns.
    max_dispersion
        Optima at an end of [1e-8, max_dispersion] stay there, and are not asked about.
    trend, prior_variance
        A normal prior of log alpha around log trend, ``(genes asked,)``, if given.
    fraction_bits
        Of the sums. With few, steps shorter than their noise are not taken.
    """
    found = dispersions.copy()
    inside = (found > 1.01 * MIN_DISPERSION) & (found < 0.99 * max_dispersion)
    active = np.flatnonzero(np.isfinite(found) & inside)
    best = np.full(found.size, np.inf)
    place = np.zeros(found.size)
    place[active] = portable.logs(found[active])
    for _ in range(ROUNDS):
        if not active.size:
            break
        here = portable.exps(place[active])
        asked = some_of(genes, active)
        sums, lost, parties = yield from _ask(asked, means.take(active), here, products, fraction_bits)
        first, second, singular = adjusted_derivatives(sums, products)
        if trend is not None:
            first = first - (place[active] - portable.logs(trend[active])) / prior_variance
            second = second - 1.0 / prior_variance
        gone = singular | lost
        better = ~gone & (np.abs(first) < best[active])
        found[active[better]], best[active[better]] = here[better], np.abs(first)[better]
        with np.errstate(divide="ignore", invalid="ignore"):
            move = -first / second
        noise = 8.0 * resolution(parties, fraction_bits)
        goes_on = better & (second < 0) & (np.abs(move) > SHORT) & (np.abs(move) < _LONGEST) & (np.abs(first) > noise)
        active, moved = active[goes_on], place[active[goes_on]] + move[goes_on]
        place[active] = moved
        ends = portable.exps(moved)
        active = active[(ends > MIN_DISPERSION) & (ends < max_dispersion)]
    return found


def _ask(
    genes: Mask, means: Means, dispersions: Floats, products: Products, fraction_bits: int
) -> Algorithm[tuple[CurvatureSums, Mask, int]]:
    """The sums of the masked genes, which are lost, and over how many parties; in portions, if they are many."""
    parts: list[tuple[Floats, Floats, Mask]] = []
    parties = 0
    begin = 0
    for portion in portions(genes, 1, 2 + 3 * products.size):
        block = slice(begin, begin + int(portion.sum()))
        some = means.take(block)
        total = yield DispersionNewtonQuery(
            portion,
            some.coefficients,
            dispersions[block],
            products.rows.astype(np.float64),
            products.columns.astype(np.float64),
            int(means.linear),
            means.min_mu,
            some.steps,
            fraction_bits,
        )
        lost = total["derivatives"][:, 0] > largest_summand(len(total.cohort), fraction_bits) / 2
        parts.append((total["derivatives"], total["powers"], lost))
        parties, begin = len(total.parties), block.stop
    derivatives, powers, gone = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return CurvatureSums(derivatives, powers), gone, parties
