"""What every whole fit begins with: the census and size factors; and what each checks on the way.

Promises: counts or a design that can't be fitted end in one sentence. Refuses to know: dispersions, coefficients.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.empty import drop_empty
from secirls.algorithms.groundwork.normalisation import NoCommonGeneError, Normalisation, normalise, scale_of
from secirls.algorithms.groundwork.scaling import Scaled, scale
from secirls.algorithms.query import Algorithm, Query, Total
from secirls.algorithms.regression.irls import State, steps_field
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.algorithms.sent_products import expand_field, opened
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.designs.design import Design
from secirls.inputs.designs.ranks import dependent_columns, inflated_columns
from secirls.numerics.algebra.solve import unpack
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.status import Status


@dataclass(frozen=True)
class Begun:
    """What the census told."""

    status: NDArray[np.int8]
    """The `Status` that each gene begins with, ``(genes,)``."""
    contributors: Floats
    """At how many sites a gene has any count, ``(genes,)``; NaN where that is not known."""
    n_samples: float
    xtx: Floats
    """Summed X'X, ``(params, params)``, of full rank; of the scaled design."""
    column_sites: Floats
    group_samples: Floats
    group_sites: Floats
    parties: tuple[str, ...]
    """Who is in the census."""
    size_factor_scale: float
    """What brought size factors are divided by."""
    size_factor_spread: float
    """Standard deviation of the logs of brought size factors."""
    columns: int
    """Of the whole design: those of the table, and those that are some site's own."""
    design: Design
    """Without its empty columns, where those are dropped."""
    scaled: Scaled | None = None
    """How numeric columns were centred and scaled, if there are any."""

    @property
    def genes(self) -> Mask:
        """Genes that are fitted, ``(genes,)``."""
        return np.equal(self.status, Status.ACTIVE)

    @property
    def base_means(self) -> Floats:
        """What is known of them without size factors, ``(genes,)``: zero of genes without counts, NaN of all others."""
        return np.where(self.status == Status.ALL_ZERO, 0.0, np.nan)


def begin(config: Config, design: Design, n_genes: int) -> Algorithm[Begun]:
    """The census, then where numeric columns stand.

    Raises `InputError` where there is nothing to fit, or the design can't be.
    """
    columns = design.columns
    products = design.products()
    census = CensusQuery(np.ones(n_genes, dtype=bool), len(columns), len(design.groups), expand_field(products))
    total = yield census
    gone = census.lost(total)
    if gone.all():
        raise InputError("a site's part of X'X is not finite or too large to be added: are columns of the design huge?")
    n_samples = float(total["samples"][0])
    contributors = np.where(gone, np.nan, total["presence"])
    left = yield from drop_empty(config, design, n_genes, total["column_sites"])
    kept = np.isin(design.at_the_table, left.at_the_table)
    scaled, xtx = None, unpack(opened(total["xtx"], products))[np.ix_(kept, kept)]
    if design.features:
        scaled, xtx = yield from scale(left, n_genes, left.products())
    _check_design(xtx, left, n_samples)
    status = np.where(gone, Status.FAILED, eligible(contributors, config.min_contributors)).astype(np.int8)
    if not ((status == Status.ACTIVE) | gone).any():
        raise InputError(f"no gene has counts at {config.min_contributors} or more sites: there is nothing to fit")
    sizes = total["column_sites"][kept], total["group_samples"], total["group_sites"]
    return Begun(
        status,
        contributors,
        n_samples,
        xtx,
        *sizes,
        total.parties,
        *scale_of(total["log_size_factors"], n_samples),
        left.size - len(left.dropped),
        left,
        scaled,
    )


def size_factors(config: Config, begun: Begun, control: Mask | None) -> Generator[Query, Total, Normalisation]:
    """Size factors, unless the sites have their own, and base means of the genes that are fitted.

    ``control`` are the genes that size factors are estimated from, ``(genes,)``; all if not given. Raises `InputError`.
    """
    try:
        result = yield from normalise(
            begun.genes,
            begun.xtx.shape[0],
            begun.n_samples,
            own_size_factors=config.size_factors is not None,
            estimate=config.size_factor_type,
            control=control,
            counts_of_one=config.choices.counts_of_one,
            scale=begun.size_factor_scale,
        )
    except NoCommonGeneError as error:
        other = "" if config.size_factor_type == "poscounts" else ", or take size_factor_type = 'poscounts'"
        raise InputError(f"{error}: name an obs column that holds size factors{other}") from None
    return result


def where_genes_stand(config: Config, begun: Begun, normalisation: Normalisation) -> tuple[NDArray[np.int8], Floats]:
    """Status and base mean of every gene, ``(genes,)``, once the normalised totals of those of `Begun.genes` are known.

    Genes whose totals are less than the configuration asks for are left out from here on, those without counts too, and
    lose their base means: as in R after ``dds[rowSums(counts(dds, normalized = TRUE)) >= least, ]``. It takes no sum
    but those of every fit. Raises `InputError` where none is left.
    """
    genes, least = begun.genes, config.min_total_count
    status, base_means = begun.status.copy(), begun.base_means
    base_means[genes] = normalisation.base_means
    status[genes] = np.where(normalisation.lost, Status.FAILED, Status.ACTIVE)
    few = base_means < least / begun.n_samples
    status[few], base_means[few] = Status.TOO_FEW_COUNTS, np.nan
    if few.any() and not np.isin(status, (Status.ACTIVE, Status.FAILED)).any():
        raise InputError(
            f"no gene's counts over size factors add up to min_total_count = {least:g} over all "
            f"{begun.n_samples:.0f} samples: there is nothing to fit"
        )
    return status, base_means


def check_degrees_of_freedom(n_samples: float, columns: int) -> None:
    """Raise `InputError` where nothing is left to estimate dispersions from."""
    if n_samples <= columns:
        raise InputError(
            f"{n_samples:.0f} samples and {columns} design columns leave nothing to estimate dispersions "
            "from: name a var column that holds them"
        )


def eligible(contributors: Floats, least: int) -> NDArray[np.int8]:
    """The status each gene starts with, from the number of sites that have counts for it."""
    status: NDArray[np.int8] = np.full(contributors.shape, Status.ACTIVE, dtype=np.int8)
    status[contributors < least] = Status.TOO_FEW_SITES
    status[contributors == 0] = Status.ALL_ZERO
    return status


def unclamped_information(state: State, *, own: bool = False) -> Algorithm[Floats]:
    """X'WX at the final beta without the clamp, as PyDESeq2 takes it for standard errors; NaN for genes not fitted."""
    information = np.full_like(state.xtwx, np.nan)
    genes = state.fitted
    if genes.any():
        query = IrlsQuery(genes, state.beta[genes], 0.0, steps=steps_field(state, genes, own=own))
        total = yield query
        gone = query.lost(total)
        information[genes] = np.where(gone[:, None], np.nan, total["xtwx"])
    return information


def _check_design(xtx: Floats, design: Design, n_samples: float) -> None:
    groups = dependent_columns(xtx, design.columns)
    if groups:
        named = "; ".join(", ".join(group) for group in groups)
        raise InputError(
            f"the design is rank-deficient over all {n_samples:.0f} samples: "
            f"these columns are zero or depend on each other: {named}"
        )
    numeric = np.asarray(design.expansion.holds[design.at_the_table].any(axis=1))
    if numeric.any() and (alike := inflated_columns(xtx, design.columns, numeric)):
        raise InputError(
            f"columns of numbers are nearly the same as others over all {n_samples:.0f} samples: {', '.join(alike)}. "
            "Numbers far from zero and their powers are: let a column have the numbers less one in their midst"
        )
