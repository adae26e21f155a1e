"""Where dispersion estimates start: moments of y / s, and the means they are estimated at.

Promises: DESeq2's starting dispersions, base variances, and for each gene the coefficients of its means: linear where
the design has as many distinct rows as columns, else by IRLS at the starting dispersions; means themselves are never
sent or stored. Refuses to know: profiles, trends, protocols.
Anders and Huber (2010) for the moments; Love, Huber and Anders (2014, methods) for the means.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.dispersion.dispersions import (
    MAX_DISPERSION,
    MIN_DISPERSION,
    AdoptDispersionsQuery,
    ResidualsQuery,
)
from secirls.algorithms.groundwork.normalisation import Normalisation
from secirls.algorithms.query import Algorithm
from secirls.algorithms.regression.betas import WayOut, betas
from secirls.algorithms.regression.irls import IrlsConfig, least_squares_start, steps_field
from secirls.algorithms.regression.known_information import KnownInformation
from secirls.numerics.algebra.solve import pack, packed_size, solve
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.regression.information import Information
from secirls.numerics.status import Reason, Status

MIN_MU = 0.5


@dataclass(frozen=True)
class Moments:
    """First moments of the asked genes, arrays ``(genes asked,)``."""

    base_means: Floats
    """Mean of y / s."""
    base_variances: Floats
    """Variance of y / s, with n - 1; NaN for a gene that some site could not send."""
    coefficients: Floats
    """Least squares of y / s on X, ``(genes asked, params)``."""
    start: Floats
    """The smaller of two moment estimates of alpha, within [1e-8, max(10, n)]."""

    def take(self, genes: Mask) -> Moments:
        """The moments of some of these genes."""
        return Moments(self.base_means[genes], self.base_variances[genes], self.coefficients[genes], self.start[genes])


@dataclass(frozen=True)
class Means:
    """What the means of the asked genes follow from: max(s X b, min_mu) if linear, else max(s exp(X b), min_mu)."""

    coefficients: Floats
    """b, ``(genes asked, params)``; zeros for genes without."""
    linear: bool
    lost: NDArray[np.int8]
    """`Reason` of each gene that has no means, `Reason.NONE` for all others, ``(genes asked,)``."""
    min_mu: float = MIN_MU
    steps: Floats = field(default_factory=lambda: np.zeros(0))
    """Where own coefficients are, as `irls.steps_field` says it, ``(genes asked,)``; or empty."""
    begun: Floats | None = None
    """Where their regression began, ``(genes asked, params)``, if there was one."""

    def take(self, genes: NDArray[np.intp] | slice) -> Means:
        """The means of some of these genes."""
        return replace(
            self,
            coefficients=np.ascontiguousarray(self.coefficients[genes]),
            lost=self.lost[genes],
            steps=self.steps[genes] if self.steps.size else self.steps,
        )


def largest_dispersion(n_samples: float) -> float:
    """The largest dispersion that is an estimate."""
    return max(MAX_DISPERSION, n_samples)


def moments(
    genes: Mask, xtx: Floats, n_samples: float, normalisation: Normalisation, columns: int | None = None
) -> Algorithm[Moments]:
    """Base variances and starting dispersions of the masked genes, in one round; sites adopt nothing yet.

    ``xtx`` is the summed X'X ``(params, params)`` of full rank. ``columns`` are those of the whole design, own ones
    too, and n exceeds them.
    """
    params, mean = xtx.shape[0], normalisation.base_means
    repeated = np.ascontiguousarray(np.broadcast_to(pack(xtx), (mean.size, packed_size(params))))
    coefficients, _ = solve(repeated, normalisation.xt_normalised)
    unit = np.where(mean > 0, mean, 1.0)  # a gene without a mean has no moments either
    query = ResidualsQuery(genes, unit, coefficients)
    total = yield query
    variance = np.where(query.lost(total), np.nan, total["squares"] / (n_samples - 1.0) * mean * mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_moments = (variance - normalisation.mean_inverse_size_factor * mean) / (mean * mean)
    rough = np.maximum(total["excess"] / (n_samples - (columns or params)), 0.0)
    smaller = np.fmin(rough, by_moments)
    known = np.where(np.isfinite(smaller), smaller, MIN_DISPERSION)
    start: Floats = np.clip(known, MIN_DISPERSION, largest_dispersion(n_samples))
    return Moments(mean, variance, coefficients, start)


def fitted_means(
    genes: Mask,
    start: Moments,
    plan: IrlsConfig,
    way_out: WayOut,
    *,
    linear: bool,
    min_mu: float = MIN_MU,
    information: Information | None = None,
) -> Algorithm[Means]:
    """The coefficients that the masked genes' means follow from: linear, or as `regression.betas` finds them.

    Parameters
    ----------
    genes
        Which of the agreed genes, ``(genes,)``.
    start
        Of those genes.
    plan, way_out
        Of the regression.
    linear
        Whether the design has as many distinct rows as columns, over all sites: then nothing is asked.
    min_mu
        Means by regression are clamped below at this where dispersions are estimated.
    information
        What X'WX follows from; it is asked for if not given.
    """
    params, asked = start.coefficients.shape[1], np.flatnonzero(genes)
    none = np.zeros(asked.size, dtype=np.int8)
    if linear or not asked.size:
        steps = np.zeros(asked.size if plan.own else 0)
        return Means(start.coefficients, linear=linear, lost=none, steps=steps)
    yield AdoptDispersionsQuery(genes, start.start)
    if information is not None:
        dispersions = np.full(genes.size, np.nan)
        dispersions[asked] = start.start
        plan = replace(plan, known=KnownInformation(information, dispersions))
    status = np.where(genes, Status.ACTIVE, Status.TOO_FEW_SITES).astype(np.int8)
    start_at = yield from least_squares_start(status, params, plan)
    state = (yield from betas(start_at, plan, way_out)).state
    coefficients = state.beta[asked]
    known = np.isfinite(coefficients).all(axis=1)
    gone = ~known | (state.reason[asked] == Reason.LOST)
    reason = np.where(gone, Reason.LOST, Reason.NONE).astype(np.int8)
    steps = steps_field(state, genes, own=plan.own)
    coefficients = np.where(gone[:, None], 0.0, coefficients)
    begun = start_at.start[asked]
    return Means(coefficients, linear=False, lost=reason, min_mu=min_mu, steps=steps, begun=begun)
