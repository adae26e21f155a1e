"""A whole fit as one algorithm: census, size factors, dispersions, IRLS, the catch, the refit.

Promises: every gene ends with a status; a design or counts that can't be fitted end in one sentence.
Refuses to know: who leads, who answers, and how a sum is made.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.catch import catch
from secirls.algorithms.dispersions import moments_dispersions
from secirls.algorithms.irls import IrlsConfig, IrlsQuery, State, irls, least_squares_start
from secirls.algorithms.normalisation import CensusQuery, NoCommonGeneError, Normalisation, normalise, scale_of
from secirls.algorithms.quasi_newton import CatchConfig
from secirls.algorithms.query import EXACT, Algorithm, Query, Total
from secirls.algorithms.refit import refit
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.design import Design, dependent_columns
from secirls.numerics.samples import Floats, Mask
from secirls.numerics.status import Reason, Status


@dataclass(frozen=True)
class Fitted:
    """What the algorithm ends with, over all agreed genes."""

    state: State
    base_means: Floats
    """Mean of y / s over all samples, ``(genes,)``; zero for all-zero genes, NaN for those left out."""
    dispersions: Floats | None = field(repr=False)
    """Estimated alpha ``(genes,)``; ``None`` where the sites brought their own."""
    information: Floats = field(repr=False)
    """Upper triangles of X'WX for standard errors, ``(genes, params (params + 1) / 2)``."""
    contributors: Floats = field(repr=False)
    """At how many sites a gene has any count, ``(genes,)``; NaN where that is not known."""
    column_sites: Floats = field(repr=False)
    """At how many sites a design column has any sample, ``(params,)``."""
    group_samples: Floats = field(repr=False)
    """Samples in every combination of levels of shared factors, ``(groups,)``."""
    n_samples: int
    size_factor_scale: float = 1.0
    """What brought size factors were divided by."""
    size_factor_spread: float = 0.0
    """Standard deviation of the logs of brought size factors."""


def refit_genes(config: Config, genes: tuple[str, ...]) -> Mask | None:
    """Which of the agreed genes are fitted again, ``(genes,)``. Raises `InputError` for one that is not there."""
    if not config.refit_genes:
        return None
    position = {gene: i for i, gene in enumerate(genes)}
    for gene in config.refit_genes:
        if gene not in position:
            raise InputError(f"refit_genes names {gene!r}, which is not among the {len(genes)} agreed genes")
    mask = np.zeros(len(genes), dtype=bool)
    mask[[position[gene] for gene in config.refit_genes]] = True
    return mask


def fit(config: Config, design: Design, n_genes: int, again: Mask | None = None) -> Generator[Query, Total, Fitted]:
    """The whole fit as one algorithm: census, normalisation, dispersions, IRLS, the catch, the refit.

    ``again`` marks the genes to refit on the second layer of counts, ``(genes,)``.
    A gene that some site can't send a sum of, at any stage, fails with that reason, and the others go on.
    Raises `InputError` for a rank-deficient design or counts that can't be normalised.
    """
    columns = design.columns
    census = CensusQuery(np.ones(n_genes, dtype=bool), len(columns), len(design.groups))
    total = yield census
    gone = census.lost(total)
    if gone.all():
        raise InputError("a site's part of X'X is not finite or too large to be added: are columns of the design huge?")
    n_samples, xtx = float(total["samples"][0]), total["xtx"]
    contributors = np.where(gone, np.nan, total["presence"])
    _check_design(xtx, columns, n_samples)
    status = np.where(gone, Status.FAILED, _eligible(contributors, config.min_contributors)).astype(np.int8)
    genes = status == Status.ACTIVE
    if not (genes | gone).any():
        raise InputError(f"no gene has counts at {config.min_contributors} or more sites: there is nothing to fit")
    base_means = np.where(status == Status.ALL_ZERO, 0.0, np.nan)
    dispersions = None if config.dispersions is not None else np.full(n_genes, np.nan)
    scale, spread = scale_of(total["log_size_factors"], n_samples)
    if genes.any():
        normalisation = yield from _normalise(genes, len(columns), n_samples, config, scale)
        base_means[genes] = normalisation.base_means
        status[genes] = np.where(normalisation.lost, Status.FAILED, Status.ACTIVE)
    if dispersions is not None and genes.any():
        if n_samples <= len(columns):
            raise InputError(
                f"{n_samples:.0f} samples and {len(columns)} design columns leave nothing to estimate dispersions "
                "from: name a var column that holds them"
            )
        dispersions[genes] = yield from moments_dispersions(genes, xtx, n_samples, normalisation)
        status[genes] = np.where(np.isnan(dispersions[genes]), Status.FAILED, Status.ACTIVE)
    plan = irls_plan(config)
    reason = np.where(status == Status.FAILED, Reason.LOST, Reason.NONE).astype(np.int8)
    state = yield from least_squares_start(status, len(columns), plan, reason=reason)
    state = yield from irls(state, plan)
    state = yield from catch(state, catch_plan(config))
    if again is not None:
        state = yield from refit(
            state, again, lambda sites: _eligible(sites, config.min_contributors), plan, catch_plan(config)
        )
    information = state.xtwx
    if config.se == "unclamped":
        information = yield from unclamped_information(state)
    return Fitted(
        state,
        base_means,
        dispersions,
        information,
        contributors,
        total["column_sites"],
        total["group_samples"],
        int(n_samples),
        scale,
        spread,
    )


def unclamped_information(state: State) -> Algorithm[Floats]:
    """X'WX at the final beta without the clamp, as PyDESeq2 takes it for standard errors; NaN for genes not fitted."""
    information = np.full_like(state.xtwx, np.nan)
    genes = state.fitted
    if genes.any():
        query = IrlsQuery(genes, state.beta[genes], 0.0)
        total = yield query
        gone = query.lost(total)
        information[genes] = np.where(gone[:, None], np.nan, total["xtwx"])
    return information


def irls_plan(config: Config) -> IrlsConfig:
    """How IRLS runs under this configuration."""
    plan = config.min_mu, config.beta_tol, config.max_beta, config.ridge, config.max_iter
    return IrlsConfig(*plan, config.fraction_bits or EXACT)


def catch_plan(config: Config) -> CatchConfig:
    """How the catch runs: clamped as IRLS is, except in the ``fedpydeseq2`` preset."""
    bits = config.fraction_bits or EXACT
    if config.preset == "fedpydeseq2":
        return replace(CatchConfig.fedpydeseq2(), max_beta=config.max_beta, ridge=config.ridge, fraction_bits=bits)
    return CatchConfig(min_mu=config.min_mu, max_beta=config.max_beta, ridge=config.ridge, fraction_bits=bits)


def _eligible(contributors: Floats, least: int) -> NDArray[np.int8]:
    """The status each gene starts with, from the number of sites that have counts for it."""
    status: NDArray[np.int8] = np.full(contributors.shape, Status.ACTIVE, dtype=np.int8)
    status[contributors < least] = Status.TOO_FEW_SITES
    status[contributors == 0] = Status.ALL_ZERO
    return status


def _check_design(xtx: Floats, columns: tuple[str, ...], n_samples: float) -> None:
    groups = dependent_columns(xtx, columns)
    if groups:
        named = "; ".join(", ".join(group) for group in groups)
        raise InputError(
            f"the design is rank-deficient over all {n_samples:.0f} samples: "
            f"these columns are zero or depend on each other: {named}"
        )


def _normalise(
    genes: Mask, params: int, n_samples: float, config: Config, scale: float
) -> Generator[Query, Total, Normalisation]:
    own = config.size_factors is not None
    try:
        result = yield from normalise(genes, params, n_samples, own_size_factors=own, scale=scale)
    except NoCommonGeneError as error:
        raise InputError(f"{error}: name an obs column that holds size factors") from None
    return result
