"""What a kernel is given and what it gives: one site's arrays of a round, and the sums over its samples.

Promises: arrays are contiguous, genes first. Refuses to know: which kernel computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.algebra.solve import packed_size
from secirls.numerics.arrays import Counts, Floats, Mask
from secirls.numerics.held.held_counts import Chosen, GeneRows, held
from secirls.numerics.held.level_nodes import LevelMoments
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.likelihood import SMALLEST_LOG_MU

LARGEST_PLAIN_COUNT = 1 << 17
"""Genes with a larger count have their likelihood summed by `likelihood.nll`, which does not cancel."""
LARGEST_PLAIN_ETA = 40.0
"""The same for genes with a linear predictor of larger magnitude."""


class Sums(NamedTuple):
    """One site's sums, by gene."""

    xtwx: Floats
    """Upper triangles of X'WX, ``(genes, params (params + 1) / 2)``."""
    right: Floats
    """X'Wz, or the score of the clamped likelihood, ``(genes, params)``."""
    nll: Floats
    """Negative log-likelihood, ``(genes,)``."""

    @classmethod
    def empty(cls, genes: int, params: int) -> Sums:
        """To be filled."""
        return cls(np.empty((genes, packed_size(params))), np.empty((genes, params)), np.empty(genes))


@dataclass(frozen=True)
class Task:
    """What a kernel works on: plain contiguous arrays, genes first."""

    rows: Counts | GeneRows
    """y, ``(genes, samples)``, as the site holds it."""
    beta: Floats
    """``(genes, params)``."""
    alpha: Floats
    """``(genes,)``."""
    design: Floats
    """X, ``(samples, params)``."""
    log_s: Floats
    """``(samples,)``."""
    log_min_mu: float
    """Log means are clamped below at this."""
    score: bool
    """Whether the right-hand side is the score."""
    moments: LevelMoments | None = None
    """What stands for the counts, if anything does."""

    @property
    def counts(self) -> Counts:
        """As one array, y of the few genes that a kernel is given at a time."""
        return np.ascontiguousarray(self.rows[:])

    @classmethod
    def of(cls, samples: Samples, beta: Floats, min_mu: float, *, score: bool) -> Task:
        """The task of one call of `summands`."""
        design, s, moments = samples.design, np.asarray(samples.size_factors), samples.moments
        if moments is not None and not moments.nodes.fit(design, s):
            moments = None
        log_min_mu = max(float(np.log(min_mu)), SMALLEST_LOG_MU) if min_mu > 0 else SMALLEST_LOG_MU
        return cls(
            rows=samples.counts.T,
            beta=np.ascontiguousarray(beta, dtype=np.float64),
            alpha=np.ascontiguousarray(samples.dispersions, dtype=np.float64),
            design=np.ascontiguousarray(design, dtype=np.float64),
            log_s=np.log(np.ascontiguousarray(s, dtype=np.float64)) if moments is None else moments.nodes.sample_log_s,
            log_min_mu=log_min_mu,
            score=score,
            moments=moments,
        )

    def take(self, genes: slice | Mask | NDArray[np.intp]) -> Task:
        """The same task for some of its genes."""
        if isinstance(self.rows, np.ndarray) and isinstance(genes, slice):
            rows: Counts | GeneRows = self.rows[genes]
        else:  # many are no array until a kernel needs their counts: by nodes, it needs none
            rows = held(Chosen.of(self.rows, np.arange(self.rows.shape[0])[genes])).T
        return replace(
            self,
            rows=rows,
            beta=self.beta[genes],
            alpha=self.alpha[genes],
            moments=None if self.moments is None else self.moments.take(genes),
        )

    @property
    def points(self) -> int:
        """How many values of a gene a kernel goes through."""
        return int(self.rows.shape[1] if self.moments is None else self.moments.nodes.size)


Extreme: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
Kernel: TypeAlias = Callable[[Task], tuple[Sums, Extreme]]
