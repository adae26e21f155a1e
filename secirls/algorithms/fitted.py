"""What a whole fit ends with: coefficients, dispersions, what became of outliers, and what each stage cost.

Promises: all of it is public. Refuses to know: how any of it was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.beginning import Begun
from secirls.algorithms.components.principal_components import Components
from secirls.algorithms.dispersion.shrunken_dispersions import TrendAndPrior
from secirls.algorithms.groundwork.scaling import Scaled
from secirls.algorithms.groundwork.sizing import Sizing
from secirls.algorithms.outliers.cells import Cells
from secirls.algorithms.query import Algorithm, Query, in_both
from secirls.algorithms.regression.irls import State, update_rows
from secirls.algorithms.regression.shrinkage import Shrinkage
from secirls.inputs.designs.reduced_design import ReducedDesign
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.status import Reason, Status

T = TypeVar("T")


@dataclass(frozen=True)
class StageCost:
    """One stage of a fit: what it asked, over whom, and how much it opened."""

    name: str
    kinds: tuple[str, ...]
    """Of its questions, in the order of their first appearance."""
    rounds: int
    opened: int
    """Numbers, in all."""
    parties: tuple[str, ...]
    """Who is in every one of its sums."""


@dataclass
class Stages:
    """Counts what the stages of a fit ask, as they ask it."""

    done: list[StageCost] = field(default_factory=list)
    of_rounds: list[str] = field(default_factory=list)
    """The name of every question's stage, in order."""

    def named(
        self, name: str, algorithm: Algorithm[T], kinds: Mapping[str, str] | None = None, then: str = ""
    ) -> Algorithm[T]:
        """The same algorithm, counted as a stage of that name.

        Questions of some ``kinds`` are counted under names of their own. ``then`` is the name of a kind: from its first
        question on, all are counted as the stage that `kinds` calls it.
        """
        kinds = kinds or {}
        try:
            query = next(algorithm)
            while True:
                total = yield query
                if query.kind == then:
                    name, kinds = kinds[then], {}
                self._count(kinds.get(query.kind, name), query, total.parties)
                query = algorithm.send(total)
        except StopIteration as end:
            result: T = end.value
            return result

    def _count(self, name: str, query: Query, parties: tuple[str, ...]) -> None:
        self.of_rounds.append(name)
        for i, stage in enumerate(self.done):
            if stage.name == name:
                asked = stage.kinds if query.kind in stage.kinds else (*stage.kinds, query.kind)
                both = in_both(stage.parties, parties)
                self.done[i] = StageCost(name, asked, stage.rounds + 1, stage.opened + query.values, both)
                return
        self.done.append(StageCost(name, (query.kind,), 1, query.values, parties))


@dataclass(frozen=True)
class GeneDispersions:
    """How each gene's dispersion came about, arrays over all agreed genes; NaN for genes without."""

    gene_wise: Floats
    iterations: NDArray[np.int32]
    """Of the search for the gene-wise estimate; 0 for genes without, and for optima."""
    trend: Floats
    maximum: Floats
    """Maximum a posteriori."""
    outlier: Mask
    """Genes too far above the trend, which keep their gene-wise estimate."""
    rough: Mask
    """Genes whose profile could not be interpolated to 1e-6."""


@dataclass(frozen=True)
class Treatment:
    """What became of outliers, masks over all agreed genes."""

    replaced: Mask
    """Genes that were fitted again after outliers were replaced, or emptied by it."""
    emptied: Mask
    """Those without any count left: fold change, its error and the statistic are 0, the p-value is 1 or missing."""
    missing: Mask
    """Genes without a p-value because of an outlier."""
    kept: Mask
    """Genes that keep theirs, for three samples have a larger count."""
    asked: int
    """Genes that may have had an outlier."""
    cells: Cells | None
    """The cells of the design, where they were asked about."""
    left_out: Mask
    """Cells of three samples or more in which outliers were not looked for, ``(cells,)``."""
    done: bool
    """Whether the design and the rules left anything to look for."""
    whole: bool = True
    """Whether all sites were still there when it would have begun; else nothing was looked for."""


@dataclass(frozen=True)
class LikelihoodRatio:
    """The fitted design beside a smaller one, arrays over all agreed genes."""

    reduced: ReducedDesign
    statistics: Floats
    """Twice the logarithm of the ratio of likelihoods, means not clamped, ``(genes,)``; NaN for genes without."""
    fit: State
    """The smaller design's, with its coefficients gamma ``(genes, columns)``."""
    reason: NDArray[np.int8]
    """`Reason` of fitted genes without a statistic, ``(genes,)``."""


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
    group_sites: Floats = field(repr=False)
    """Sites that have any, ``(groups,)``."""
    n_samples: int
    xtx: Floats = field(repr=False)
    """Summed X'X, ``(params, params)``."""
    size_factor_scale: float = 1.0
    """What brought size factors were divided by."""
    size_factor_spread: float = 0.0
    """Standard deviation of the logs of brought size factors."""
    scaled: Scaled | None = field(default=None, repr=False)
    """How numeric columns were centred and scaled: coefficients and information are of columns so scaled."""
    dropped: tuple[int, ...] = ()
    """Which of all design columns were left out, for no sample is in them."""
    stages: tuple[StageCost, ...] = ()
    stage_of_rounds: tuple[str, ...] = ()
    """The name of every round's stage, in order."""
    by_gene: GeneDispersions | None = field(default=None, repr=False)
    """Where dispersions were drawn towards a trend."""
    towards: TrendAndPrior | None = field(default=None, repr=False)
    """What they were drawn towards."""
    treatment: Treatment | None = field(default=None, repr=False)
    """Where outliers were looked for."""
    ratio: LikelihoodRatio | None = field(default=None, repr=False)
    """Where p-values are of a likelihood-ratio test."""
    shrinkage: Shrinkage | None = field(default=None, repr=False)
    """Where fold changes were drawn towards zero."""
    components: Components | None = field(default=None, repr=False)
    """Where principal components were asked for."""
    sizing: Sizing | None = field(default=None, repr=False)
    """What size factors follow from; ``None`` where no gene was left to ask about."""

    @classmethod
    def of(
        cls,
        begun: Begun,
        state: State,
        base_means: Floats,
        dispersions: Floats | None,
        information: Floats,
        sizing: Sizing | None,
    ) -> Fitted:
        """A fit that began so, with what it came to.

        Where a site adds nothing, a gene without a count at the others may have some there, which nobody is told.
        """
        if begun.design.own.adding_nothing:
            rows = np.flatnonzero(begun.status == Status.ALL_ZERO)
            state = update_rows(state, rows, reason=np.int8(Reason.NOT_ADDED))
        return cls(
            state,
            base_means,
            dispersions,
            information,
            begun.contributors,
            begun.column_sites,
            begun.group_samples,
            begun.group_sites,
            int(begun.n_samples),
            begun.xtx,
            begun.size_factor_scale,
            begun.size_factor_spread,
            scaled=begun.scaled,
            dropped=begun.design.dropped,
            sizing=sizing,
        )
