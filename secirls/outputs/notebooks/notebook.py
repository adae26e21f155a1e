"""What a notebook shows of a fit: what was compared, and its strongest genes; everything in it is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from secirls.outputs.tables.shrunken import SHRUNKEN

SHOWN = 10


def tested(report: Mapping[str, Any]) -> str:
    """What fold changes and p-values are of, in a few words: two things after a likelihood-ratio test."""
    test = report.get("test") or {}
    if "reduced" not in test:
        return str(report["contrast"])
    return f"p of {report['configuration']['design']} against {test['reduced']}; fold changes of {report['contrast']}"


def in_short(table: pd.DataFrame, report: Mapping[str, Any], alpha: float) -> str:
    """What was compared, and how many genes changed, in a line."""
    return (
        f"{tested(report)}: {len(table):,} genes, {report['samples']:,} samples, {len(report['sites'])} sites; "
        f"{int((table['padj'] < alpha).sum()):,} genes with adjusted p below {alpha:g}"
    )


def result_html(table: pd.DataFrame, report: Mapping[str, Any], named: Sequence[str], alpha: float) -> str:
    """One paragraph and a table of the genes with the smallest p-values, with the columns ``named`` beside the gene."""
    shrunken = [name for name in (SHRUNKEN, "svalue") if name in table]
    columns = ["gene", *named, "baseMean", "log2FoldChange", "lfcSE", *shrunken, "pvalue", "padj"]
    best = table.dropna(subset=["pvalue"]).sort_values("pvalue", kind="stable").head(SHOWN)
    shown = best[columns].to_html(
        index=False, escape=True, float_format="{:.4g}".format, formatters={"baseMean": "{:,.1f}".format}
    )
    return f"<p>{html.escape(in_short(table, report, alpha))}</p>{shown}"
