"""What a fit's sites took their size factors from, kept for afterwards: a site makes the same ones again from it.

Promises: size factors are those of the fit to the last bit, for they are made by the question that brought them.
Refuses to know: what they are wanted for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from secirls.algorithms.groundwork.normalisation import (
    Normalisation,
    NormalisedQuery,
    PositiveNormalisedQuery,
    SizeFactors,
    known_size_factors,
)
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples


@dataclass(frozen=True)
class Sizing:
    """The public numbers that size factors follow from, and one that follows from them."""

    log_means: Floats = field(repr=False)
    """Mean log count of the genes that count, ``(genes,)``, NaN for others; ``(0,)`` where sites brought their own."""
    scale: float
    """What brought size factors are divided by."""
    log_scale: float
    """``poscounts``: mean over all samples of log size factors before they are scaled; else 0."""
    mean_inverse: float
    """Mean of 1 / s over all samples; NaN where that is not known."""

    @classmethod
    def of(cls, normalisation: Normalisation) -> Sizing | None:
        """What a normalisation told its sites; ``None`` where it came to no size factors."""
        asked = normalisation.asked
        if asked is None:
            return None
        log_means = np.zeros(0)
        if asked.log_means.size:
            log_means = np.full(asked.genes.size, np.nan)
            log_means[np.flatnonzero(asked.genes)[asked.usable]] = asked.log_means[asked.usable]
        log_scale = asked.log_scale if isinstance(asked, PositiveNormalisedQuery) else 0.0
        return cls(log_means, asked.scale, log_scale, normalisation.mean_inverse_size_factor)

    def size_factors(self, samples: Samples, estimate: SizeFactors) -> Floats:
        """Those of any samples over the fit's genes, ``(samples,)``, estimated as the fit did, or from those brought.

        NaN for a sample without a count in any gene that counts. Raises `QueryError` where nothing is known of them.
        """
        genes = np.isfinite(self.log_means) if self.log_means.size else np.ones(samples.n_genes, dtype=bool)
        log_means = self.log_means[genes] if self.log_means.size else self.log_means
        usable = np.ones(log_means.size, dtype=bool)
        question = NormalisedQuery(genes, log_means, usable, samples.n_params, self.scale)
        if self.log_means.size and estimate == "poscounts":
            question = PositiveNormalisedQuery(genes, log_means, usable, samples.n_params, log_scale=self.log_scale)
        question.check(samples.n_genes, samples.n_params)
        return known_size_factors(question.apply(samples))
