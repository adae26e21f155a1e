"""What a notebook shows of a fit: what was compared, and its strongest genes; everything in it is escaped."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from secirls.outputs.results import Result

SHOWN = 10


def result_html(result: Result) -> str:
    """One paragraph and a table of the genes with the smallest p-values."""
    table, alpha = result.table, result.asked.alpha
    told = (
        f"{result.report['contrast']}: {len(table):,} genes, {result.report['samples']:,} samples, "
        f"{len(result.report['sites'])} sites; {int((table['padj'] < alpha).sum()):,} genes with adjusted p below "
        f"{alpha:g}"
    )
    columns = ["gene", *result.kept.annotation, "baseMean", "log2FoldChange", "lfcSE", "pvalue", "padj"]
    best = table.dropna(subset=["pvalue"]).sort_values("pvalue", kind="stable").head(SHOWN)
    shown = best[columns].to_html(index=False, escape=True, float_format=lambda number: f"{number:.4g}")
    return f"<p>{html.escape(told)}</p>{shown}"
