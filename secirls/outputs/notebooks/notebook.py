"""What a notebook shows of a fit: what was compared, and its strongest genes; everything in it is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

SHOWN = 10


def result_html(table: pd.DataFrame, report: Mapping[str, Any], named: Sequence[str], alpha: float) -> str:
    """One paragraph and a table of the genes with the smallest p-values, with the columns ``named`` beside the gene."""
    told = (
        f"{report['contrast']}: {len(table):,} genes, {report['samples']:,} samples, {len(report['sites'])} sites; "
        f"{int((table['padj'] < alpha).sum()):,} genes with adjusted p below {alpha:g}"
    )
    shrunken = [name for name in ("shrunkenLog2FoldChange", "svalue") if name in table]
    columns = ["gene", *named, "baseMean", "log2FoldChange", "lfcSE", *shrunken, "pvalue", "padj"]
    best = table.dropna(subset=["pvalue"]).sort_values("pvalue", kind="stable").head(SHOWN)
    shown = best[columns].to_html(index=False, escape=True, float_format=lambda number: f"{number:.4g}")
    return f"<p>{html.escape(told)}</p>{shown}"
