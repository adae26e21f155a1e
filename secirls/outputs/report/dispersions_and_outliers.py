"""What a report says of dispersions that were drawn towards a trend, and of what became of outliers.

Promises: what was opened or published on the way is said. Refuses to know: how it is shown.
"""

from __future__ import annotations

from secirls.aggregator.aggregator import Outcome
from secirls.algorithms.dispersion.shrunken_dispersions import TrendAndPrior
from secirls.algorithms.outliers.cells import Cells
from secirls.config import Config
from secirls.numerics.arrays import Mask

TREND_WITHOUT = (
    "Genes with counts at fewer than {} sites have no part in the trend of dispersions and in independent filtering, "
    "which may so differ from those of the pooled data."
)

THIN_CELL = 5
"""Combinations of levels with fewer samples over all sites are named."""


def of_dispersions(outcome: Outcome, towards: TrendAndPrior, asked: str) -> list[str]:
    """What is to be said of dispersions that were drawn towards a trend, where it is not the one that was ``asked``."""
    fitted, told = outcome.fitted, []
    if towards.flat:
        told.append("No gene-wise dispersion was above 1e-6, so every dispersion is 1e-7.")
    elif towards.trend.kind == "local":
        failed = "" if asked == "local" else "The parametric trend could not be fitted. "
        told.append(f"{failed}Dispersions were drawn towards a local trend, which is not R's to the digit.")
    elif towards.trend.kind == "mean" and asked != "mean":
        told.append("The parametric trend could not be fitted. Dispersions were drawn towards their mean.")
    rough = 0 if fitted.by_gene is None else int(fitted.by_gene.rough.sum())
    if rough:
        told.append(f"The profiles of {rough} genes could not be interpolated to 1e-6: their dispersions are rougher.")
    return told


def of_outliers(config: Config, outcome: Outcome) -> list[str]:
    """What was done about outliers, and what that shows."""
    treatment = outcome.fitted.treatment
    if treatment is None:
        return [] if config.cooks or not config.choices.whole else ["Outliers were not looked for, as was asked."]
    around = treatment.cells
    told = []
    if around is not None and around.own[2]:
        told.append(
            f"{int(around.own[2])} cells of the design have a column of one site's own: their outliers and robust "
            "variances are found at home, and the largest is compared with what would make an outlier, not opened."
        )
    if around is not None and around.samples.any():
        told.append(f"Published: samples in the cells of the design over all sites: {_sizes(around)}.")
    elif around is not None and not around.enumerated:
        told.append(
            "The design has a numeric variable, so its cells were not enumerated: each site formed cells among its own "
            "samples, where R may join rows of several sites."
        )
    if not treatment.whole:
        return [*told, "Outliers were not looked for: not all sites were there any more, and their samples count."]
    if not treatment.done:
        told.append("The design or the rules left no cell in which outliers could be told.")
    if treatment.left_out.any():
        told.append(
            f"{int(treatment.left_out.sum())} cells of three samples or more took no part in robust variances, and "
            f"no outlier was looked for in them: they are at fewer than {config.min_contributors} sites, or fewer than "
            f"{config.min_kept} of their values would be kept."
        )
    if config.min_kept == 1 and around is not None and around.samples.any():
        told.append(
            "min_kept is 1, as in R: in cells of three samples the middle value of some genes can be told, in cells of "
            "four the mean of two."
        )
    return told + of_the_outliers(outcome)


def of_the_outliers(outcome: Outcome) -> list[str]:
    """In how many genes outliers were replaced, or left without a p-value."""
    treatment, told = outcome.fitted.treatment, list[str]()
    if treatment is None or not treatment.whole:
        return told
    if treatment.replaced.any():
        told.append(
            f"Outliers of {_genes(treatment.replaced)} were replaced at their sites, never saying whose. "
            "Where one sample was, sums before and after differ by little more than its part, and its count follows "
            "from the change of the base mean, up to its size factor."
        )
    if treatment.missing.any():
        told.append(
            f"No p-value because of an outlier, as the table says, for {_genes(treatment.missing)}: some sample is "
            "extreme there."
        )
    return told


def _genes(which: Mask) -> str:
    """How many genes, in words."""
    count = int(which.sum())
    return f"{count} gene{'s' if count != 1 else ''}"


def _sizes(around: Cells) -> str:
    """Sizes of cells in the order of the levels, small ones as such."""
    sizes = [int(size) for size in around.samples if size > 0]
    return ", ".join(str(size) if size >= THIN_CELL else f"fewer than {THIN_CELL}" for size in sizes)
