"""From a kept fit and what is compared to a table of results; in a fit and afterwards, the same to the last bit.

Promises: every gene has a row, and every missing p-value a reason. Refuses to know: sites; no round is needed.
Order of things as in R's ``results()``: estimate, groups without any count, threshold, outliers, adjustment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from secirls.input_error import InputError
from secirls.inputs.designs.compared_groups import compared_groups
from secirls.inputs.designs.contrasts import Contrast
from secirls.inputs.designs.reduced_design import reduced_design
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.inference.likelihood_ratio import chi_squared_pvalues
from secirls.numerics.inference.lowess import lowess, pydeseq2_lowess
from secirls.numerics.inference.thresholds import against_threshold
from secirls.numerics.inference.wald import WaldTest, benjamini_hochberg, independent_filtering, wald
from secirls.numerics.status import Reason, labels
from secirls.outputs.tables.comparison import Comparison
from secirls.outputs.tables.gene_tables import known_means, objects
from secirls.outputs.tables.kept_fit import KeptFit
from secirls.outputs.tables.shrunken import beside_ashr, beside_shrunken, is_of_the_shrunken

FILTERED = "Its base mean is below {:.4g}, so independent filtering left it out of the adjusted p-values."
OUTLYING = (
    "A sample has an outlying count by its Cook's distance, in a cell with too few samples to replace it: no p-value."
)
EMPTIED = "Its outlying counts were replaced, and no count above zero is left."
NOT_TESTED = "It has no p-value, as in PyDESeq2."
WITHOUT_RATIO = "It has no likelihood ratio: {}"
UNCOUNTED = "No sample of the compared groups has a count: its fold change is taken for 0, as in R."
NO_COUNT = -2.302585092994046
"""log(0 / s + 0.1)."""
LEAST_EXCESS = 1e-6
"""Sums of log(y / s + 0.1) that exceed those of no counts by less: one count in a sample of size factor 1000 adds 0.01,
rounding less than 1e-9."""


@dataclass(frozen=True)
class Compared:
    """A comparison of all genes."""

    table: pd.DataFrame
    name: str
    """What is compared, in words."""
    cutoff: float | None
    """The base mean that independent filtering asks for; ``None`` without it."""
    ashr: dict[str, Any] | None = None
    """What a report says of the prior, where fold changes were drawn towards zero as ashr does."""


def compare(kept: KeptFit, asked: Comparison) -> Compared:
    """The table of results of one comparison. Raises `InputError` where the design can't answer it."""
    contrast, name = asked.contrast.of(kept.design)
    beta = np.where(kept.fitted[:, None], kept.beta, np.nan)
    test = wald(beta, kept.information, kept.scaled(contrast), kept.config.ridge)
    reasons = {**test.reasons, **kept.reasons()}
    uncounted = _uncounted(kept, asked.contrast) & ~np.isnan(test.pvalue)
    if uncounted.any():
        test = replace(
            test,
            log2_fold_change=np.where(uncounted, 0.0, test.log2_fold_change),
            stat=np.where(uncounted, 0.0, test.stat),
            pvalue=np.where(uncounted, 1.0, test.pvalue),
        )
        _add(reasons, uncounted, UNCOUNTED)
    test = against_threshold(test, asked.lfc_threshold, asked.alternative)
    if kept.ratio.size:
        test = _by_likelihoods(test, kept, asked, reasons)
    emptied, missing = kept.emptied, kept.outlier
    test = replace(
        test,
        log2_fold_change=np.where(emptied, 0.0, test.log2_fold_change),
        lfc_se=np.where(emptied, 0.0, test.lfc_se),
        stat=np.where(emptied, 0.0, test.stat),
        pvalue=np.where(missing, np.nan, np.where(emptied, 1.0, test.pvalue)),
    )
    reasons |= dict.fromkeys(np.flatnonzero(emptied).tolist(), EMPTIED)
    _add(reasons, missing & ~emptied, OUTLYING)
    _add(reasons, missing & emptied, NOT_TESTED)
    padj, cutoff = benjamini_hochberg(test.pvalue), None
    if asked.filtering:
        padj, cutoff = _filtered(test.pvalue, kept, asked.alpha)
        _add(reasons, np.isnan(padj) & ~np.isnan(test.pvalue), FILTERED.format(cutoff))
    genes, said = objects(kept.genes), np.full(len(kept.genes), "", dtype=object)
    for gene, reason in reasons.items():
        said[gene] = reason
    table = pd.DataFrame(
        {
            "gene": genes,
            **kept.annotation,
            "baseMean": known_means(kept.base_means, kept.reason),
            "log2FoldChange": test.log2_fold_change,
            "lfcSE": test.lfc_se,
            "stat": test.stat,
            "pvalue": test.pvalue,
            "padj": padj,
            "status": labels(kept.status),
            "iterations": kept.iterations,
            "dispersion": kept.dispersions,
            "replaced": kept.replaced,
            "outlier": missing,
            "reason": said,
        },
        index=genes,
    )
    told = None
    if asked.ashr:
        table, told = beside_ashr(table)
    elif is_of_the_shrunken(contrast, kept):
        table = beside_shrunken(table, kept)
    return Compared(table, f"{name}{asked.against}", cutoff, told)


def _uncounted(kept: KeptFit, contrast: Contrast) -> Mask:
    """Genes that no sample of the compared groups has a count of, ``(genes,)``, from public sums where they tell.

    With v such that ``X v`` marks those of a group, ``v' X'X start`` is the sum of log(y / s + 0.1) over them, for
    residuals of least squares are orthogonal to X; it is least where every y is zero. Not told (and not R's zero) where
    sites have columns of their own or were lost, where no such v is, and of genes whose counts were replaced.
    """
    nobody = np.zeros(len(kept.genes), dtype=bool)
    looked_for = kept.xtx.size and kept.config.choices.zero_where_uncounted
    marks = compared_groups(contrast, kept.design) if looked_for else None
    if marks is None:
        return nobody
    uncounted = ~kept.replaced
    for mark in marks:
        towards = (kept.xtx * mark).sum(axis=1)
        excess = (kept.start * towards).sum(axis=1) - NO_COUNT * float((towards * mark).sum())
        uncounted &= np.abs(excess) < LEAST_EXCESS
    return uncounted


def _by_likelihoods(test: WaldTest, kept: KeptFit, asked: Comparison, reasons: dict[int, str]) -> WaldTest:
    """The test with statistics and p-values of likelihood ratios; fold changes and their errors stay.

    Raises `InputError` where a threshold is asked for, which such a test has not.
    """
    if asked.lfc_threshold or asked.alternative != "greaterAbs" or kept.config.reduced is None:
        raise InputError("p-values of this fit are of a likelihood-ratio test, which has no threshold of fold changes")
    reduced = reduced_design(kept.design, kept.config.reduced)
    without = np.isnan(kept.ratio) & np.isfinite(test.log2_fold_change)
    for code in np.unique(kept.without_ratio[without]):
        _add(reasons, without & (kept.without_ratio == code), WITHOUT_RATIO.format(Reason(code).sentence))
    return replace(test, stat=kept.ratio, pvalue=chi_squared_pvalues(kept.ratio, reduced.degrees_of_freedom))


def _add(reasons: dict[int, str], genes: Mask, sentence: str) -> None:
    """Say one sentence more of some genes."""
    for gene in np.flatnonzero(genes).tolist():
        reasons[gene] = f"{reasons.get(gene, '')} {sentence}".strip()


def _filtered(pvalue: Floats, kept: KeptFit, alpha: float) -> tuple[Floats, float]:
    """Adjusted p-values after independent filtering over the genes that have a base mean, and its cutoff."""
    known = ~np.isnan(kept.base_means)
    padj = np.full_like(pvalue, np.nan)
    curve = lowess if kept.config.choices.lowess == "R" else pydeseq2_lowess
    padj[known], cutoff = independent_filtering(pvalue[known], kept.base_means[known], alpha, curve)
    return padj, cutoff
