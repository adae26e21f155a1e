"""What tests and outliers came to: p-values by size, genes by what Cook's distances did to them.

Promises: every p-value is in one bar; counts are those of the report. Refuses to know: distances, which are of
samples and stay at their sites.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from secirls.outputs.pictures.canvas import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    SKY,
    VERMILION,
    Picture,
    finite,
    legend_below,
    name_bars,
    nothing_to_draw,
    panels,
    patch,
    stroke,
    titled,
    whole_numbers,
)

BARS: Final = 40
FILTERED: Final = "left out by the filter on base means"
COOKS: Final = {
    "replaced": ("counts replaced, fitted again", BLUE),
    "emptied": ("of these: no count is left", SKY),
    "without_p_value": ("no p-value: small cell", VERMILION),
    "kept_by_exception": ("kept: other counts are larger", GREEN),
}
"""Counts of the report's ``outliers`` in words."""


def pvalue_histogram(table: pd.DataFrame, title: str = "") -> Picture:
    """p-values in 40 bars; stacked on them those of genes that independent filtering left out of the adjusted ones.

    A dashed line is where bars would end if nothing changed anywhere: as many in each.
    """
    figure, ((axes,),) = panels(1, 1, width=6.4, height=4.0)
    titled(axes, title, xlabel="p-value", ylabel="genes")
    pvalue = finite(table["pvalue"])
    known = ~np.isnan(pvalue)
    if not known.any():
        nothing_to_draw(axes, "no gene has a p-value")
        return figure
    filtered = known & np.isnan(finite(table["padj"]))
    edges = np.linspace(0.0, 1.0, BARS + 1)
    kept_bars, _ = np.histogram(pvalue[known & ~filtered], edges)
    filtered_bars, _ = np.histogram(pvalue[filtered], edges)
    middles, width = (edges[1:] + edges[:-1]) / 2, 0.92 / BARS
    axes.bar(middles, kept_bars, width=width, color=BLUE, label="tested")
    axes.bar(middles, filtered_bars, width=width, bottom=kept_bars, color=ORANGE, label=FILTERED)
    even = known.sum() / BARS
    axes.axhline(even, color=BLACK, linewidth=0.8, linestyle="--")
    axes.set_xlim(0, 1)
    whole_numbers(axes, vertical=True)
    entries = [patch(BLUE, f"in adjusted p-values ({int(kept_bars.sum()):,})")]
    if filtered.any():
        entries.append(patch(ORANGE, f"{FILTERED} ({int(filtered.sum()):,})"))
    legend_below(figure, [*entries, stroke(BLACK, "if nothing changed anywhere", dashes="--", width=0.8)])
    return figure


def cooks_counts(outliers: Mapping[str, Any] | None, title: str = "") -> Picture:
    """How many genes had an outlying count, and what became of them: from the report's ``outliers``."""
    figure, ((axes,),) = panels(1, 1, width=6.4, height=2.6)
    titled(axes, title, xlabel="genes")
    if outliers is None or not outliers["looked_for"]:
        nothing_to_draw(axes, "outliers were not looked for")
        return figure
    counts = [int(outliers.get(name, 0)) for name in COOKS]
    words, colours = zip(*COOKS.values(), strict=True)
    places = np.arange(len(counts))[::-1]
    axes.barh(places, counts, color=list(colours), height=0.7)
    name_bars(axes, places, words)
    for place, count in zip(places, counts, strict=True):
        axes.annotate(f"{count:,}", (count, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=10)
    axes.set_xlim(0, 1.15 * max(*counts, 1))
    whole_numbers(axes)
    return figure
