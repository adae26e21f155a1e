"""Dispersions by the method of moments through secure sums, where the sites bring none.

Promises: the smaller of two moment estimates per gene, clipped to [1e-8, max(10, samples)], as
DESeq2 and PyDESeq2 take for their starting values: the excess of the variance over Poisson
(Anders and Huber 2010), and the mean excess of the residuals of a linear fit of y / s on X.
They are not shrunken towards a trend; whoever reports a fit made with them must say so.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from secirls.algorithms.groundwork.normalisation import Normalisation, known_size_factors, sum_by_gene
from secirls.algorithms.query import Query, QueryError, Total, some_of
from secirls.algorithms.summands import largest_summand
from secirls.numerics.algebra.solve import pack, packed_size, solve
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.own.coefficients import linear, linear_coefficients

MIN_DISPERSION = 1e-8
MAX_DISPERSION = 10.0
LARGEST_DISPERSION = 1e5
"""The likelihood has its digits for dispersions from `MIN_DISPERSION` to this; estimates end at the sample size."""
SMALLEST_MEAN = 2.0**-32
"""Of y / s; below it the moments are those of a gene that was all but never counted."""


@dataclass(frozen=True)
class ResidualsQuery(Query):
    """Squared deviations of y / s from the gene's mean in units of it, and relative excess over a linear fit.

    Its sum shows two numbers per gene over the pool, both of them of the means and coefficients that were asked about:
    asked again and again at others, they would give the moments of the pool one by one, so each counts against the
    budget of values per gene. No design column selects samples here; ``min_contributors`` and the pool's least number
    of samples keep one site or one sample out of it.
    """

    means: Floats
    """Base mean of every gene asked about, ``(genes asked,)``, above zero."""
    coefficients: Floats
    """Least-squares coefficients of y / s on X, ``(genes asked, params)``."""

    kind: ClassVar[str] = "residuals"
    sign: ClassVar[str] = "excess"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"squares": (self.n_genes,), "excess": (self.n_genes,)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if self.means.shape != (self.n_genes,) or self.coefficients.shape != (self.n_genes, n_params):
            raise QueryError("query 'residuals': means and coefficients do not fit the genes asked about")
        if not (self.means > 0).all():
            raise QueryError("query 'residuals': a mean is not above zero")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        s = known_size_factors(samples)
        sums = {name: np.empty(samples.n_genes) for name in ("squares", "excess")}
        # Beyond this a sum could not be added up. Whatever is cut off, the gene's rough estimate is far above the
        # largest dispersion, so that it is not the smaller of the two, or not what clips it.
        largest = largest_summand(parties) / (4 * parties)
        joint, coefficients = samples.joint, linear_coefficients(samples, self.coefficients)
        for block in samples.gene_blocks():
            normalised = samples.counts.T[block] / s
            fitted = np.maximum(linear(joint.design, coefficients[block]), 1.0)
            means = self.means[block, None]
            squares = sum_by_gene(((normalised - means) / means) ** 2)
            excess = sum_by_gene((normalised / fitted - 1.0) ** 2 - 1.0 / fitted)
            sums["squares"][block], sums["excess"][block] = np.minimum(squares, largest), np.minimum(excess, largest)
        return sums


@dataclass(frozen=True)
class AdoptDispersionsQuery(Query):
    """Sites keep these dispersions for the rest of the fit, beside those of other genes, and confirm by being counted.

    Its sum shows how many sites there are, and is the same whatever they hold: no rule is needed.
    """

    dispersions: Floats
    """alpha of every gene asked about, ``(genes asked,)``."""

    kind: ClassVar[str] = "adopt_dispersions"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"sites"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"sites": (1,)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        alpha = self.dispersions
        if alpha.shape != (self.n_genes,) or not ((alpha >= MIN_DISPERSION) & (alpha <= LARGEST_DISPERSION)).all():
            raise QueryError(
                f"query {self.kind!r}: one dispersion from {MIN_DISPERSION:g} to {LARGEST_DISPERSION:g} is needed per "
                "gene asked about"
            )

    def apply(self, samples: Samples) -> Samples:
        """What the site keeps."""
        full = np.ones(samples.n_genes) if samples.dispersions is None else samples.dispersions.copy()
        full[self.genes] = self.dispersions
        return replace(samples, dispersions=full, nll_constants=None)

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        return {"sites": np.ones(1)}


def moments_dispersions(
    genes: Mask, xtx: Floats, n_samples: float, normalisation: Normalisation, columns: int | None = None
) -> Generator[Query, Total, Floats]:
    """Estimate dispersions of the masked genes, ``(genes asked,)``, and have the sites adopt them.

    NaN where some site's sums are lost, or a mean is too small to be told from zero: sites adopt none for those.
    ``xtx`` is the summed X'X ``(params, params)`` of full rank; ``columns`` are all of the design, own ones too.
    """
    params = columns or xtx.shape[0]
    dispersions: Floats = np.full(normalisation.base_means.size, np.nan)
    repeated = np.broadcast_to(pack(xtx), (dispersions.size, packed_size(xtx.shape[0])))
    coefficients, _ = solve(np.ascontiguousarray(repeated), normalisation.xt_normalised)
    known = np.flatnonzero(normalisation.base_means**2 > 0)
    if not known.size:
        return dispersions
    mean = np.maximum(normalisation.base_means[known], SMALLEST_MEAN)
    query = ResidualsQuery(some_of(genes, known), mean, np.ascontiguousarray(coefficients[known]))
    total = yield query
    relative_variance = total["squares"] / (n_samples - 1)
    moments = relative_variance - normalisation.mean_inverse_size_factor / mean
    rough = np.maximum(total["excess"] / (n_samples - params), 0.0)
    estimates = np.clip(np.minimum(rough, moments), MIN_DISPERSION, max(MAX_DISPERSION, n_samples))
    sent = ~query.lost(total)
    dispersions[known[sent]] = estimates[sent]
    if sent.any():
        yield AdoptDispersionsQuery(some_of(genes, known[sent]), estimates[sent])
    return dispersions
