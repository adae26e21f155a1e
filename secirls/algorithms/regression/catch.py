"""The catch: the genes that IRLS did not settle, brought to a minimum of the clamped likelihood.

Promises: no query when no gene needs it; afterwards every gene it tried is caught, or failed with a
reason. Refuses to know: protocols, sites, rounds, and how one descent goes (see `quasi_newton`).

Where no mean is clamped, ``f(beta) = nll(beta) + ridge |beta|^2 / 2`` is convex, and one descent from beta_0 finds its
minimum. Clamped, it has plateaus, kinks and several valleys: a sample whose mean lies below min_mu has no slope, and
a count above zero there is given up, at a price that does not depend on beta. So the clamped f is minimised

1. from the best of three places: the minimum of the convex f without the clamp, beta_0, and where IRLS left the gene;
2. then, as long as that helps, from the lowest of a fixed pattern of points around the minimum found, near and far
   (a pattern search: Hooke and Jeeves 1961; Torczon 1997).

No search of a function that is not convex proves that nothing is deeper. This one ends no higher than PyDESeq2's
descent on every gene of every data set at hand (tests/oracle/test_every_dataset.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from secirls.algorithms.query import LARGEST_ARRAY, LARGEST_CANDIDATES, Algorithm, Query
from secirls.algorithms.regression.irls import State, update_rows
from secirls.algorithms.regression.irls_queries import keep_constants
from secirls.algorithms.regression.quasi_newton import (
    CatchConfig,
    Rows,
    candidate_sums,
    check_candidates,
    descend,
    objective,
)
from secirls.algorithms.summands import EXACT, resolution
from secirls.numerics.algebra.eigen import eigenvectors
from secirls.numerics.algebra.solve import unpack
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.status import Status

STEPS = (*(0.25**k for k in range(5, 1, -1)), 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""How far around a minimum is looked: natural-log units, or standard errors along the principal axes of X'WX.

The long ones leave a valley; the short ones follow a kink, along which a descent creeps."""

DEEPER = 1e-9
"""A valley is deeper when f is lower there by more than this, relative to max(|f|, 1)."""

_LARGEST_PATTERN = 1024
"""Candidates of one gene in one question, at most: longer patterns take several rounds."""


@dataclass(frozen=True)
class LikelihoodQuery(Query):
    """The negative log-likelihood of each gene at several candidates for its coefficients, and nothing else.

    Its sum shows one number per gene and candidate: a profile of the likelihood, which at as many points as there are
    samples is enough to know small counts as a multiset. So each candidate counts against a site's budget of values per
    gene; ``min_contributors``, lonely columns and thin cells as in `IrlsQuery`. A candidate whose sum can't be sent is
    lost by itself.
    """

    candidates: Floats
    """Natural-log coefficients, ``(genes asked, candidates, params)``."""
    min_mu: float
    """Means are clamped below at this; 0 for none."""
    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""

    kind: ClassVar[str] = "likelihood"
    may_shrink: ClassVar[bool] = True
    sign: ClassVar[str] = "nll"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed, by gene and candidate."""
        return {"nll": self.candidates.shape[:2]}

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site, candidate by candidate."""
        return {"nll": candidate_sums(samples, self.candidates, self.min_mu, right="xtwz").nll}

    def apply(self, samples: Samples) -> Samples:
        """Keep the constants of the likelihood (all genes)."""
        return keep_constants(samples)

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_candidates(self, self.candidates, self.min_mu, n_params, _LARGEST_PATTERN)


def catch(state: State, config: CatchConfig) -> Algorithm[State]:
    """Settle the genes that are active or diverged; others are neither touched nor asked about."""
    genes = state.active | state.irls_diverged_mask
    if not genes.any():
        return state
    box = config.max_beta
    begin = np.clip(state.start[genes], -box, box)[:, None, :]
    left = np.clip(state.beta[genes], -box, box)[:, None, :]
    if config.min_mu == 0:
        return (yield from descend(state, genes, begin, config))
    free = yield from descend(state, genes, begin, replace(config, min_mu=0.0))
    starts = np.concatenate([begin, free.beta[genes][:, None, :], left], axis=1)
    state = replace(state, cohorts=free.cohorts, iterations=free.iterations)
    state = yield from descend(state, genes, starts, config)
    return (yield from _look_around(state, genes, config))


def _look_around(state: State, genes: Mask, config: CatchConfig) -> Algorithm[State]:
    """Move to deeper valleys while there are any in sight; a gene that would fail on its way stays where it is."""
    for _ in range(config.polls):
        rows = np.flatnonzero(genes & (state.status == Status.CAUGHT))
        if not rows.size:
            break
        parties, lowest, deeper = yield from _poll(state, rows, config)
        state = replace(state, cohorts=state.cohorts + parties)
        genes = np.zeros_like(genes)
        genes[rows[deeper]] = True
        if not deeper.any():
            break
        after = yield from descend(state, genes, lowest[deeper][:, None, :], config)
        failed = genes & (after.status == Status.FAILED)
        state = _kept(after, state, failed)
        genes &= ~failed
    return state


def _poll(state: State, rows: Rows, config: CatchConfig) -> Algorithm[tuple[tuple[tuple[str, ...], ...], Floats, Mask]]:
    """The parties in each sum, the lowest point of the pattern around every gene, and where it is deeper."""
    here = state.beta[rows][:, None, :]
    around = _pattern(state, rows, config)
    most = min(LARGEST_CANDIDATES // rows.size, LARGEST_ARRAY // here.size)
    width = min(_LARGEST_PATTERN, max(2, most))
    genes = np.zeros(state.status.size, dtype=bool)
    genes[rows] = True
    parties: list[tuple[str, ...]] = []
    lowest, deepest = here[:, 0].copy(), np.zeros(rows.size)
    for begin in range(0, around.shape[1], width - 1):
        # Every question holds the point itself, so that what is compared is over the same parties.
        candidates = np.concatenate([here, around[:, begin : begin + width - 1]], axis=1)
        query = LikelihoodQuery(genes, candidates, config.min_mu, config.fraction_bits)
        total = yield query
        parties.append(total.parties)
        gone = query.lost(total)
        value = np.where(gone, np.inf, objective(total["nll"], candidates, config))
        best = value.argmin(axis=1)
        scale = np.maximum(np.abs(value[:, 0]), 1.0)
        with np.errstate(invalid="ignore"):  # where the point itself is lost, all of its pattern may be
            fall = np.where(gone[:, 0], 0.0, value[:, 0] - value[np.arange(rows.size), best])
        fall = np.where(fall <= 2 * resolution(len(total.parties), config.fraction_bits), 0.0, fall) / scale
        better = fall > deepest
        lowest[better] = candidates[better, best[better]]
        deepest[better] = fall[better]
    return tuple(parties), lowest, np.greater(deepest, DEEPER)


def _pattern(state: State, rows: Rows, config: CatchConfig) -> Floats:
    """Points around each gene's coefficients, within the box, ``(rows, points, params)``.

    Along every axis; along the first, the intercept's, against every other, which moves one group and leaves the
    rest; and along the principal axes of X'WX, where the flattest directions reach farthest.
    """
    params = state.beta.shape[1]
    axes = np.eye(params)
    against = axes[0] - axes[1:]
    eigenvalues, vectors = eigenvectors(unpack(state.xtwx[rows]) + config.ridge * axes)
    errors = 1.0 / np.sqrt(np.maximum(eigenvalues, config.ridge))
    principal = vectors.transpose(0, 2, 1) * errors[:, :, None]
    fixed = np.broadcast_to(np.concatenate([axes, against]), (rows.size, 2 * params - 1, params))
    directions = np.concatenate([fixed, principal], axis=1)
    sizes = np.concatenate([STEPS, np.negative(STEPS)])
    moves = (sizes[:, None, None] * directions[:, None, :, :]).reshape(rows.size, -1, params)
    around: Floats = np.clip(state.beta[rows][:, None, :] + moves, -config.max_beta, config.max_beta)
    return around


def _kept(after: State, before: State, genes: Mask) -> State:
    """The later state with some genes as they were."""
    rows = np.flatnonzero(genes)
    names = ("status", "reason", "beta", "nll", "xtwx", "score", "evaluated")
    return update_rows(after, rows, **{name: getattr(before, name)[rows] for name in names})
