"""Counts with a known truth: for tests, benchmarks and first steps.

Promises: the same seed gives the same counts; what generated them comes with them. Refuses to know: how
they are fitted. Nothing secret depends on these random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from secirls.numerics.arrays import Floats
from secirls.numerics.held.held_counts import whole
from secirls.numerics.held.samples import LARGEST_COUNT, Samples


@dataclass(frozen=True)
class Simulation:
    """Counts, and the coefficients that generated them."""

    samples: Samples
    """All samples together, with size factors and dispersions."""
    beta: Floats
    """True natural-log coefficients, ``(genes, params)``."""

    def split(self, sites: int) -> list[Samples]:
        """The samples dealt to so many sites in turn, each site with its own rows."""
        return [rows(self.samples, np.arange(site, self.samples.n_samples, sites)) for site in range(sites)]


def simulate(
    genes: int = 1000,
    samples: int = 40,
    effects: int = 1,
    *,
    noise: bool = True,
    continuous: bool = False,
    seed: int = 0,
) -> Simulation:
    """Negative-binomial counts with an intercept and some effects.

    Parameters
    ----------
    effects
        Design columns beside the intercept; a tenth of the genes have them all at zero.
    noise
        Without it, counts are the rounded means.
    continuous
        Whether effects are standard normal covariates instead of two groups.
    """
    rng = np.random.default_rng(seed)
    design = np.ones((samples, 1 + effects))
    if continuous:
        design[:, 1:] = rng.normal(size=(samples, effects))
    else:
        groups = [(np.arange(samples) >> level) % 2 for level in range(effects)]
        design[:, 1:] = np.transpose(groups)
    size_factors = np.exp(0.3 * rng.normal(size=samples))
    beta = np.column_stack([rng.uniform(1.0, 9.0, genes), 0.5 * rng.normal(size=(genes, effects))])
    beta[: genes // 10, 1:] = 0.0
    dispersions = 0.05 + 2.0 * np.exp(-beta[:, 0] / 2) * rng.gamma(4.0, 0.25, genes)
    mu = np.exp(design @ beta.T) * size_factors[:, None]
    drawn = rng.poisson(mu * rng.gamma(1.0 / dispersions, dispersions, mu.shape)) if noise else np.rint(mu)
    counts = np.minimum(drawn, LARGEST_COUNT).astype(np.int32)
    return Simulation(Samples(design, counts, size_factors, dispersions), beta)


def rows(samples: Samples, chosen: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Samples:
    """Some of the samples, by row number, as a site of their own."""
    if samples.size_factors is None:
        raise ValueError("simulated samples have size factors")
    return replace(
        samples,
        design=samples.design[chosen],
        counts=whole(samples.counts)[chosen],
        size_factors=samples.size_factors[chosen],
        nll_constants=None,
        moments=None,
    )
