"""One site's arrays, validated and frozen: what its answers are computed from.

Promises: shapes agree, counts are gene-major in memory, nothing is mutated, no second matrix of counts is made.
Refuses to know: where the arrays came from, and who asks for sums over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Counts, Floats, Mask
from secirls.numerics.held.covariates import Back, Covariates
from secirls.numerics.held.held_counts import Chosen, HeldCounts, Spliced, held
from secirls.numerics.held.own_columns import Own

if TYPE_CHECKING:
    from secirls.numerics.held.level_nodes import LevelMoments

LARGEST_COUNT = int(np.iinfo(np.int32).max)


BLOCK_VALUES = 1 << 18
"""Counts that are turned into float64 at a time, so that no site holds a second matrix: 2 MiB a copy."""
PART_VALUES = 1 << 22
"""Counts that are turned round at a time where samples are gone through and not genes: 16 MiB."""


@dataclass(frozen=True)
class Samples:
    """The samples of one site. Never leaves the site's process.

    `size_factors`, `dispersions` and `nll_constants` are ``None`` until a query's ``apply`` sets them
    (or the site's own file gave them). Repr shows shapes only.
    """

    design: Floats = field(repr=False)
    """Design matrix X of the table's columns, ``(samples, params)``."""
    counts: Counts | HeldCounts = field(repr=False)
    """Raw counts y, ``(samples, genes)``, stored so that one gene's counts are contiguous; where they are many and no
    array, ``counts.T[genes]`` is one of some genes."""
    size_factors: Floats | None = field(repr=False, default=None)
    """s, ``(samples,)``, above zero."""
    dispersions: Floats | None = field(repr=False, default=None)
    """alpha, ``(genes,)``, above zero."""
    nll_constants: Floats | None = field(repr=False, default=None)
    """The part of each gene's negative log-likelihood that does not depend on beta, ``(genes,)``."""

    moments: LevelMoments | None = field(repr=False, default=None)
    """What stands for the counts in sums over samples that share a design row, where that saves time; dropped by
    whoever changes counts."""

    replacement: Counts | HeldCounts | None = field(repr=False, default=None)
    """Counts with which genes are fitted again (refit mode), ``(samples, genes)``, held as `counts`."""

    filed: Counts | HeldCounts | None = field(repr=False, default=None)
    """Counts of the site's file, ``(samples, genes)``, where some genes have others by now."""

    own: Own | None = field(repr=False, default=None)
    """The design columns that are this site's own, if it has any."""
    columns: int = 0
    """Columns of the whole design, those of other sites too; as many as X has if not given."""

    covariates: Covariates | None = field(repr=False, default=None)
    """What the design is made of where it has numeric columns, for centring and scaling them."""
    back: Back | None = field(repr=False, default=None)
    """From own coefficients to those on the user's scale, once the design is scaled."""

    group_sizes: Floats | None = field(repr=False, default=None)
    """How many of the samples are in each combination of levels of the shared factors, ``(groups,)``; all in one
    group if not given."""

    def __post_init__(self) -> None:
        samples, genes = self.counts.shape
        if self.replacement is not None and self.replacement.shape != self.counts.shape:
            raise ValueError(f"replaced counts {self.replacement.shape} do not fit counts {self.counts.shape}")
        if not isinstance(self.counts, HeldCounts) and not (
            self.counts.flags.f_contiguous and self.counts.dtype == np.int32
        ):
            object.__setattr__(self, "counts", np.asfortranarray(self.counts, dtype=np.int32))
        if self.design.shape[0] != samples or self.design.ndim != 2:
            raise ValueError(f"design matrix {self.design.shape} does not fit counts {self.counts.shape}")
        if self.size_factors is not None and self.size_factors.shape != (samples,):
            raise ValueError(f"size factors {self.size_factors.shape} do not fit {samples} samples")
        for name in ("dispersions", "nll_constants"):
            array = getattr(self, name)
            if array is not None and array.shape != (genes,):
                raise ValueError(f"{name} {array.shape} do not fit {genes} genes")

    def scaled(self, centres: Floats, scales: Floats, base: Floats) -> Samples:
        """The same in a design of centred and scaled numeric columns; ``base`` is what the user's are centred at.

        `ValueError` without that many numeric columns, and where own columns depend on each other.
        """
        if self.covariates is None or self.covariates.numbers.shape[1] != scales.size:
            raise ValueError(f"the design has other numeric columns than {scales.size}")
        design, columns, _, _ = self.covariates.split(centres, scales, base)
        own = None if self.own is None else Own.of(columns, self.n_genes, design.shape[1], self.own.box)
        back = None if own is None else self.covariates.back(centres, scales, base)
        return replace(self, design=design, own=own, back=back)

    def with_columns(self, kept: Mask) -> Samples:
        """The same with some of the table's columns, ``(params,)``; the others are zero here."""
        design, away = np.ascontiguousarray(self.design[:, kept]), int((~kept).sum())
        own = None if self.own is None else Own.of(self.own.design, self.n_genes, design.shape[1], self.own.box)
        covariates = None if self.covariates is None else self.covariates.with_columns(kept)
        return replace(self, design=design, own=own, covariates=covariates, columns=self.n_columns - away)

    def with_replaced(self, genes: Mask) -> Samples:
        """The same with the replaced counts of these genes, ``(genes,)``; those of the file are kept aside."""
        if self.replacement is None:
            raise ValueError("there are no replaced counts")
        counts = held(Spliced(self.counts.T, self.replacement.T, genes))
        return replace(self, counts=counts, nll_constants=None, moments=None, filed=self.as_filed)

    @property
    def as_filed(self) -> Counts | HeldCounts:
        """Counts as the site's file has them, ``(samples, genes)``."""
        return self.counts if self.filed is None else self.filed

    @property
    def n_columns(self) -> int:
        """Columns of the whole design, over all sites."""
        return self.columns or self.n_params

    @property
    def own_size(self) -> int:
        """How many design columns are this site's own."""
        return 0 if self.own is None else self.own.size

    @property
    def joint(self) -> Samples:
        """The same with its own columns in X, before the table's: nothing is its own any more."""
        if self.own is None:
            return self
        return replace(self, design=np.hstack([self.own.design, self.design]), own=None, columns=self.n_columns)

    @property
    def beside_own(self) -> Floats:
        """What is left of X once the site's own columns are taken out by least squares, ``(samples, params)``."""
        return self.design if self.own is None else self.own.beside(self.design)

    @property
    def n_samples(self) -> int:
        """How many samples the site holds."""
        return int(self.counts.shape[0])

    @property
    def n_genes(self) -> int:
        """How many genes are described."""
        return int(self.counts.shape[1])

    @property
    def n_params(self) -> int:
        """Columns of the design matrix."""
        return int(self.design.shape[1])

    def gene_blocks(self) -> Iterator[slice]:
        """Slices over genes of about `BLOCK_VALUES` counts each. A gene's sums don't depend on the block it is in."""
        yield from self._blocks(self.n_genes)

    def _blocks(self, genes: int) -> Iterator[slice]:
        size = max(1, BLOCK_VALUES // max(self.n_samples, 1))
        for start in range(0, genes, size):
            yield slice(start, min(start + size, genes))

    def by_sample(self, genes: NDArray[np.intp]) -> Iterator[Counts]:
        """One sample's counts of these genes after another's, ``(genes,)`` and contiguous."""
        size, rows = max(1, PART_VALUES // max(genes.size, 1)), self.counts.T
        for start in range(0, self.n_samples, size):
            part = slice(start, min(start + size, self.n_samples))
            counts = np.empty((part.stop - start, genes.size), dtype=np.int32)
            for block in self._blocks(genes.size):
                counts[:, block] = rows[genes[block], part].T
            yield from counts

    def take(self, genes: NDArray[np.bool_]) -> Samples:
        """The same samples over a subset of genes, given as a mask ``(genes,)``."""
        return self if genes.all() else self.at(np.flatnonzero(genes))

    def at(self, genes: NDArray[np.intp]) -> Samples:
        """The same samples over genes given by index, each as often as it stands there."""

        def chosen(array: Floats | None) -> Floats | None:
            return None if array is None else array[genes]

        return replace(
            self,
            counts=held(Chosen.of(self.counts.T, genes)),
            own=None if self.own is None else self.own.take(genes),
            replacement=None,
            filed=None,
            dispersions=chosen(self.dispersions),
            nll_constants=chosen(self.nll_constants),
            moments=None if self.moments is None else self.moments.take(genes),
        )
