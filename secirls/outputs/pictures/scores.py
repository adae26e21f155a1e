"""One site's samples along the first two principal components. Drawn at the site, from its own file.

Promises: the two axes have one unit, so that distances are what they look like. Refuses to know: other sites' samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from secirls.inputs.formulas.labels import labels
from secirls.numerics.arrays import Floats
from secirls.outputs.pictures.canvas import COLOURS, GREY, Axes, Figure, Picture, legend_below, marker, panels, titled

MOST_COLOURS = len(COLOURS)


def site_scores(table: pd.DataFrame, axis_titles: Sequence[str], by: str | None = None, title: str = "") -> Picture:
    """PC2 over PC1; coloured by an obs column of the table, ``by``.

    Few levels have a colour each. Of many, numbers have a scale, and texts, which can't be told apart, no colour.
    """
    figure, ((axes,),) = panels(1, 1, width=6.4, height=5.6)
    first = table["PC1"].to_numpy(dtype=np.float64)
    second = table["PC2"].to_numpy(dtype=np.float64) if "PC2" in table else np.zeros(first.size)
    titled(axes, title, xlabel=axis_titles[0], ylabel=axis_titles[1] if "PC2" in table else "")
    axes.axhline(0.0, color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.axvline(0.0, color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.set_aspect("equal", adjustable="datalim")
    if "PC2" not in table:  # one component is a line
        axes.set_yticks([])
    groups = np.array(labels(table[by])) if by is not None else np.full(first.size, "")
    levels = list(dict.fromkeys(groups))
    if len(levels) > MOST_COLOURS and by is not None and pd.api.types.is_any_real_numeric_dtype(table[by]):
        _on_a_scale(figure, axes, first, second, table[by])
        return figure
    if len(levels) > MOST_COLOURS:
        levels, groups = [""], np.full(first.size, "")
    for colour, level in zip(COLOURS, levels, strict=False):
        mine = groups == level
        axes.scatter(first[mine], second[mine], s=34, color=colour, edgecolors="white", linewidths=0.6)
    if levels != [""]:
        sizes = [f"{level} ({int((groups == level).sum())})" for level in levels]
        legend_below(figure, [marker(colour, size) for colour, size in zip(COLOURS, sizes, strict=False)], columns=4)
    return figure


def _on_a_scale(figure: Figure, axes: Axes, first: Floats, second: Floats, by: pd.Series[Any]) -> None:
    """Points coloured by numbers, with a bar beside them; grey where there is none."""
    values = by.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(values)
    axes.scatter(first[~known], second[~known], s=34, color=GREY, edgecolors="white", linewidths=0.6)
    points = axes.scatter(
        first[known], second[known], s=34, c=values[known], cmap="viridis", edgecolors="white", linewidths=0.6
    )
    titled(figure.colorbar(points, ax=axes).ax, "", ylabel=str(by.name))
