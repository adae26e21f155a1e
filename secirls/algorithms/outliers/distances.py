"""Questions about Cook's distances: the fit that they are computed from, and what of it a question carries.

Promises: a distance is computed where its count is and stays there. Refuses to know: what is counted.
Cook (1977); Love, Huber and Anders (2014), methods, Cook's distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from secirls.algorithms.outliers.robust_dispersion import Searching
from secirls.algorithms.query import Query, QueryError
from secirls.algorithms.regression.betas import Betas
from secirls.algorithms.regression.irls import steps_field
from secirls.algorithms.regression.irls_queries import check_steps, known_steps
from secirls.numerics.algebra.solve import packed_size
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers.cooks import Fit, cooks_distances


@dataclass(frozen=True)
class DistanceQuery(Query):
    """About Cook's distances of the genes asked about, at a public fit and public robust dispersions."""

    beta: Floats
    """See `secirls.numerics.outliers.cooks.Fit`, as the next two, ``(genes asked, params)``."""
    hat_beta: Floats
    hat_xtwx: Floats
    robust: Floats
    """Robust dispersions, ``(genes asked,)``."""
    cutoff: float
    """A distance above this is an outlier's."""
    ridge: float
    min_mu: float
    steps: Floats
    """See `secirls.numerics.outliers.cooks.Fit`, as the next: ``(genes asked,)``, or empty."""
    hat_steps: Floats

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_steps(self, self.steps)
        check_steps(self, self.hat_steps)
        shape = (self.n_genes, n_params)
        if self.beta.shape != shape or self.hat_beta.shape != shape:
            raise QueryError(f"query {self.kind!r}: coefficients do not fit {shape[0]} genes, {n_params} params")
        if self.hat_xtwx.shape != (self.n_genes, packed_size(n_params)) or self.robust.shape != (self.n_genes,):
            raise QueryError(f"query {self.kind!r}: information and dispersions do not fit the genes asked about")
        if not (self.robust > 0).all() or self.cutoff <= 0 or self.ridge < 0 or self.min_mu < 0:
            raise QueryError(
                f"query {self.kind!r}: dispersions and the cutoff are above zero, ridge and min_mu not below"
            )

    def distances(self, samples: Samples) -> Iterator[tuple[slice, Floats]]:
        """Cook's distances of some genes at a time, ``(genes, samples)``: they stay in the site that computes them.

        ``samples`` holds the asked genes only.
        """
        for block, here, fit in self.fits(samples):
            yield block, cooks_distances(here, fit, self.robust[block])

    def fits(self, samples: Samples) -> Iterator[tuple[slice, Samples, Fit]]:
        """The fit of some genes at a time, and the samples of those; ``samples`` holds the asked genes only."""
        if samples.dispersions is None:
            raise QueryError("this site has no dispersions yet: the query that brings them was not asked")
        steps, hat_steps = (known_steps(samples, given) for given in (self.steps, self.hat_steps))
        for block in samples.gene_blocks():
            fit = Fit(
                self.beta[block],
                self.hat_beta[block],
                self.hat_xtwx[block],
                self.ridge,
                self.min_mu,
                steps[block],
                hat_steps[block],
            )
            yield block, samples.at(np.arange(block.start, block.stop)), fit


@dataclass(frozen=True)
class CooksConfig:
    """What counts as an outlier, and how it is looked for."""

    ridge: float
    """Of the fit."""
    min_mu: float = 0.5
    """Of the fit."""
    own: bool = False
    """Whether some site has columns of its own."""
    columns: int = 0
    """Of the whole design; as many as there are coefficients if not given."""
    quantile: float = 0.99
    """Of the F distribution with params and samples - params degrees of freedom."""
    searching: Searching = field(default_factory=Searching)


def distance_fields(
    genes: Mask, betas: Betas, robust: Floats, limit: float, config: CooksConfig
) -> tuple[Floats, Floats, Floats, Floats, float, float, float, Floats, Floats]:
    """The fields of a `DistanceQuery` after its genes, from arrays over all genes."""
    fit = betas.state.beta[genes], betas.hat_beta[genes], betas.hat_xtwx[genes]
    hat_steps = betas.hat_steps[genes].astype(np.float64) if config.own else np.zeros(0)
    steps = steps_field(betas.state, genes, own=config.own)
    return *fit, robust[genes], limit, config.ridge, config.min_mu, steps, hat_steps
