"""Dispersions over base means: gene by gene, the trend, and drawn towards it.

Promises: every gene with a gene-wise dispersion is drawn; outliers, which keep theirs, are ringed.
Refuses to know: how dispersions were estimated.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from secirls.numerics.arrays import Floats
from secirls.outputs.pictures.canvas import (
    BLUE,
    GREY,
    VERMILION,
    Line2D,
    Picture,
    finite,
    legend_below,
    marker,
    nothing_to_draw,
    panels,
    stroke,
    titled,
)
from secirls.outputs.pictures.edges import Window, cloud, cut_entry

RINGED: Final = "kept as outliers"
_FLOOR: Final = 1e-7
"""Gene-wise dispersions below this have met the least that is looked for, 1e-8."""


def dispersions(table: pd.DataFrame, title: str = "") -> Picture:
    """Gene-wise and final dispersions and the trend over base means, outliers ringed.

    ``table`` has R's columns: baseMean, dispGeneEst, dispFit, dispersion, dispOutlier. The axis ends where few genes
    lie below; those are triangles at its lower edge.
    """
    figure, ((axes,),) = panels(1, 1, width=6.4, height=5.0)
    titled(axes, title, xlabel="mean of normalised counts", ylabel="dispersion")
    mean, by_gene, trend, final = (finite(table[name]) for name in ("baseMean", "dispGeneEst", "dispFit", "dispersion"))
    drawn = (mean > 0) & (by_gene > 0)
    if not drawn.any():
        nothing_to_draw(axes, "no gene has a dispersion of its own")
        return figure
    window = Window(bottom=_lowest(by_gene[drawn], final[drawn & (final > 0)]))
    axes.set(xscale="log", yscale="log")
    cut = cloud(axes, mean[drawn], by_gene[drawn], window, colour=GREY, label="gene by gene", size=5, opacity=0.5)
    settled = drawn & (final > 0)
    cloud(axes, mean[settled], final[settled], window, colour=BLUE, label="final", size=4, opacity=0.25)
    outlier = settled & (table["dispOutlier"].to_numpy() == True)  # noqa: E712 - a column read from a file may be of objects
    axes.scatter(
        mean[outlier],
        final[outlier],
        s=26,
        facecolors="none",
        edgecolors=BLUE,
        linewidths=0.7,
        label=RINGED,
        rasterized=True,
    )
    along = np.flatnonzero((mean > 0) & (trend > 0))
    along = along[np.argsort(mean[along], kind="stable")]
    axes.plot(mean[along], trend[along], color=VERMILION, linewidth=1.8, label="trend", zorder=4)
    axes.set_ylim(bottom=window.bottom * 0.9)
    entries: list[Line2D] = [
        marker(GREY, f"gene by gene ({int(drawn.sum()):,})"),
        marker(BLUE, f"drawn towards the trend ({int((settled & ~outlier).sum()):,})"),
        stroke(VERMILION, "trend", width=1.8),
        marker(BLUE, f"{RINGED} ({int(outlier.sum()):,})", hollow=True, size=7),
    ]
    legend_below(figure, entries + cut_entry(cut, where="below"))
    return figure


def _lowest(by_gene: Floats, final: Floats) -> float:
    """Where the axis ends: a power of ten below all final dispersions and all but few gene-wise ones."""
    off_the_floor = by_gene[by_gene > _FLOOR]
    low = float(np.quantile(off_the_floor, 0.01)) if off_the_floor.size else float(by_gene.min())
    return float(10.0 ** np.floor(np.log10(min(low, float(final.min(initial=low))))))
