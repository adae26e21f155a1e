"""Who has what: the first question of a fit, and what the sites' rules are about.

Promises: its total is told to the sites and checked by them; nothing of it says which site has what. Refuses to know:
the rules, and what is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from secirls.algorithms.query import Query, QueryError, Total, check_params
from secirls.algorithms.sent_products import check_expand, opened_square, sent, sent_entries
from secirls.numerics.algebra.solve import pack
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples


@dataclass(frozen=True)
class CensusQuery(Query):
    """Who has what: the first question of a fit, and the one that the sites' rules are about.

    Its sum shows how many sites a gene is counted at and a design column has samples at, not which, and sizes of the
    pool: samples in all, and in every combination of levels of the shared factors, with the number of sites that have
    any; by X'X samples with each pair of levels, zeros where the design has numeric columns, whose X'X is asked for
    once this total has passed (`groundwork.scaling`); and the sums of log s and of its square, zero where the
    sites bring no size factors. The sites are told the total, check it, and hold their rules against it:
    ``min_contributors`` for genes, levels, columns and combinations, ``min_total_samples_per_cell`` for combinations
    (`secirls.site.guarding.policy_checks`).
    """

    params: int
    groups: int = 1
    """Combinations of levels of shared factors; see `secirls.inputs.designs.design`."""
    expand: Floats = field(default_factory=lambda: np.zeros(0))
    """Which products of columns are sent, as in `IrlsQuery`; if empty, the square X'X."""

    kind: ClassVar[str] = "census"
    verified: ClassVar[bool] = True
    sign: ClassVar[str] = "presence"
    not_by_gene: ClassVar[frozenset[str]] = frozenset(
        {"xtx", "samples", "column_sites", "group_samples", "group_sites", "log_size_factors"}
    )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        xtx = (sent_entries(self.expand, self.params),) if self.expand.size else (self.params, self.params)
        return {
            "presence": (self.n_genes,),
            "xtx": xtx,
            "samples": (1,),
            "column_sites": (self.params,),
            "group_samples": (self.groups,),
            "group_sites": (self.groups,),
            "log_size_factors": (2,),
        }

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_params(self, self.params, n_params)
        check_expand(self, self.expand, n_params)

    def xtx_of(self, total: Total) -> Floats:
        """Summed X'X, ``(params, params)``; zeros where the design has numeric columns."""
        return opened_square(total["xtx"], self.expand) if self.expand.size else total["xtx"]

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        X, left = samples.design, samples.beside_own
        n = np.array([float(samples.n_samples)])
        sizes = n if samples.group_sizes is None else samples.group_sizes
        if sizes.shape != (self.groups,):
            raise QueryError(f"query 'census' is about {self.groups} groups of samples, the fit has {sizes.size}")
        log_s = np.zeros(1) if samples.size_factors is None else np.log(samples.size_factors)
        log_s = np.where(np.isfinite(log_s), log_s, 0.0)  # others lose genes, not the census
        xtx: Floats = np.einsum("ni,nj->ij", left, left) if samples.covariates is None else np.zeros((X.shape[1],) * 2)
        return {
            "presence": _presence(samples),
            "xtx": sent(self, pack(xtx), samples, self.expand) if self.expand.size else xtx,
            "samples": n,
            "column_sites": (X != 0).any(axis=0).astype(np.float64),
            "group_samples": sizes,
            "group_sites": (sizes > 0).astype(np.float64),
            "log_size_factors": np.array([log_s.sum(), (log_s**2).sum()]),
        }


@dataclass(frozen=True)
class PresenceQuery(Query):
    """At how many sites a gene has any count, once more: after counts were replaced. Told and checked as the census.

    Its sum shows at how many sites a gene is counted, not at which; ``min_contributors`` holds for it from then on.
    """

    kind: ClassVar[str] = "presence"
    verified: ClassVar[bool] = True
    sign: ClassVar[str] = "presence"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"presence": (self.n_genes,)}

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        return {"presence": _presence(samples)}


def _presence(samples: Samples) -> Floats:
    """Which genes a site counts, ``(genes,)``: none if its own columns make up for all others."""
    presence = np.zeros(samples.n_genes)
    if samples.own is not None and not samples.design.any():
        return presence
    for block in samples.gene_blocks():
        presence[block] = (samples.counts.T[block] > 0).any(axis=1)
    return presence
