"""Fold changes: the MA picture and the volcano.

Promises: up and down are told apart by colour and counted in the legend; limits that cut points are marked by
triangles and say how many. Refuses to know: how a fold change was estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from secirls.input_error import InputError
from secirls.numerics.arrays import Floats, Mask
from secirls.outputs.pictures.canvas import (
    BLACK,
    BLUE,
    GREY,
    PURPLE,
    SKY,
    VERMILION,
    Axes,
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
from secirls.outputs.pictures.edges import Window, cloud, cut_entry, usual_size
from secirls.outputs.pictures.names import name_points
from secirls.outputs.tables.shrunken import SHRUNKEN

SIGNIFICANT: Final = 0.05
TWOFOLD: Final = 1.0
"""log2 fold change of the volcano's upright lines."""
SMALLEST_P: Final = 1e-300
"""Below this a p-value is drawn at the upper edge."""
NO_GENE: Final = "no gene has both numbers"
OTHER: Final = "other"
_OF_WHAT: Final = {True: "log2 fold change", False: "log2 fold change, of one coefficient"}
_P_OF: Final = {True: "−log10 p-value", False: "−log10 p-value, of the likelihood ratio"}

Labels = Mapping[str, str]
"""Gene to the name it is drawn with, such as a symbol; others keep their own."""


@dataclass(frozen=True)
class Group:
    """Genes that are drawn alike."""

    label: str
    colour: str
    genes: Mask


def mean_and_change(
    table: pd.DataFrame,
    title: str = "",
    *,
    alpha: float = SIGNIFICANT,
    labels: Labels | None = None,
    named: int = 10,
    limit: float | None = None,
    direction: bool = True,
    within: float = 0.0,
    shrunken_title: str = "",
) -> Picture:
    """The MA picture: log2 fold change over the mean of normalised counts; shrunken ones beside where there are.

    Parameters
    ----------
    table
        gene (or the index), baseMean, log2FoldChange, pvalue, padj.
    alpha
        Adjusted p-value below which a gene is coloured.
    labels, named
        What genes are called, and how many of the strongest are.
    limit
        Largest log2 fold change on the axis; chosen so that a few far genes don't flatten the rest if not given.
    direction
        Whether up and down are told apart: not where the test is of several coefficients at once.
    within
        Where it is above zero, p-values are of changes smaller than it, and what is found is neither up nor down.
    shrunken_title
        Of the picture of shrunken fold changes, which may be of another coefficient.
    """
    columns = [name for name in ("log2FoldChange", SHRUNKEN) if name == "log2FoldChange" or name in table]
    width = 6.4 if len(columns) == 1 else 9.6
    figure, (row,) = panels(1, len(columns), width=width, height=4.8, sharey=True)
    entries: list[Line2D] = []
    window = Window()
    for axes, column in zip(row, columns, strict=True):
        mean, change = finite(table["baseMean"]), finite(table[column])
        known = (mean > 0) & ~np.isnan(change)
        kind = {"log2FoldChange": "", SHRUNKEN: "shrunken "}[column]
        titled(
            axes,
            title if axes is row[0] else shrunken_title,
            xlabel="mean of normalised counts",
            ylabel=kind + _OF_WHAT[direction],
        )
        if not known.any():
            nothing_to_draw(axes, NO_GENE)
            continue
        if column == "log2FoldChange":
            size = _limit(change[known], limit)
            window = Window(bottom=-size, top=size)
        axes.set_xscale("log")
        groups = _by_direction(table, change, known, alpha, direction=direction, within=within)
        cut = _draw(axes, mean, change, groups, window)
        axes.set_ylim(1.04 * window.bottom, 1.04 * window.top)
        axes.axhline(0, color=BLACK, linewidth=0.8)
        entries = entries or _entries(groups)
        entries += cut_entry(cut, what=", shrunken" if kind else "")
    legend_below(figure, entries, columns=2 if len(columns) == 1 else 3)
    for axes, column in zip(row, columns, strict=True):
        _name_strongest(axes, table, finite(table["baseMean"]), finite(table[column]), window, labels, named, alpha)
    return figure


def volcano(
    table: pd.DataFrame,
    title: str = "",
    *,
    alpha: float = SIGNIFICANT,
    fold: float = TWOFOLD,
    labels: Labels | None = None,
    named: int = 14,
    limit: float | None = None,
    direction: bool = True,
    within: float = 0.0,
) -> Picture:
    """-log10 of the p-value over the log2 fold change; lines at ``fold`` and where adjusted p-values meet ``alpha``.

    Parameters are those of `mean_and_change`; up and down are the genes beyond both lines. p-values below `SMALLEST_P`
    are triangles at the upper edge. Where ``direction`` is false there are no upright lines.
    """
    figure, ((axes,),) = panels(1, 1, width=6.4, height=5.2)
    titled(axes, title, xlabel=_OF_WHAT[direction], ylabel=_P_OF[direction])
    change, pvalue = finite(table["log2FoldChange"]), finite(table["pvalue"])
    known = ~np.isnan(change) & ~np.isnan(pvalue)
    if not known.any():
        nothing_to_draw(axes, NO_GENE)
        return figure
    with np.errstate(divide="ignore"):
        height = np.where(known, -np.log10(pvalue), np.nan)
    fold = fold if direction else 0.0
    size = max(_limit(change[known], limit), 1.2 * fold if limit is None else 0.0)
    highest = height[known & (pvalue >= SMALLEST_P)].max(initial=1.0)
    top = -np.log10(SMALLEST_P) if (pvalue[known] < SMALLEST_P).any() else float(highest)
    window = Window(left=-size, right=size, top=top)
    groups = _by_direction(table, change, known, alpha, fold=fold, direction=direction, within=within)
    cut = _draw(axes, change, height, groups, window)
    axes.set_xlim(-1.04 * size, 1.04 * size)
    axes.set_ylim(0, 1.06 * top)
    entries = _entries(groups)
    if fold:
        for side in (-fold, fold):
            axes.axvline(side, color=BLACK, linewidth=0.8, linestyle=":")
        entries.append(stroke(BLACK, f"log2 fold change of ±{fold:g}", dashes=":", width=0.8))
    padj = finite(table["padj"])
    if (found := known & (padj < alpha)).any():
        axes.axhline(height[found].min(), color=BLACK, linewidth=0.8, linestyle="--")
        entries.append(stroke(BLACK, f"adjusted p = {alpha:g}", dashes="--", width=0.8))
    legend_below(figure, entries + cut_entry(cut))
    _name_strongest(axes, table, change, height, window, labels, named, alpha)
    return figure


def _limit(change: Floats, asked: float | None) -> float:
    """The largest fold change on an axis. Raises `InputError` where none can be."""
    if asked is not None and not 0 < asked < np.inf:
        raise InputError(f"limit = {asked!r}: the largest log2 fold change on the axis is a number above zero")
    return usual_size(change) if asked is None else asked


def genes_of(table: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """Names of genes, from the column or the index."""
    return np.asarray(table.get("gene", table.index), dtype=object)


def drawn_names(table: pd.DataFrame, labels: Labels | None) -> list[str]:
    """What genes are called in pictures: by ``labels`` where those have a name for them."""
    labels = {} if labels is None else labels
    called = ((str(gene), labels.get(str(gene))) for gene in genes_of(table))
    return [name.strip() if isinstance(name, str) and name.strip() else gene for gene, name in called]


def _by_direction(
    table: pd.DataFrame,
    change: Floats,
    known: Mask,
    alpha: float,
    *,
    fold: float = 0.0,
    direction: bool = True,
    within: float = 0.0,
) -> list[Group]:
    """Genes that are drawn, in the order of drawing: every one in one group."""
    sure = known & (finite(table["padj"]) < alpha)
    is_sure = f"adjusted p < {alpha:g}"
    rest = Group(OTHER, GREY, known & ~sure)
    if not direction:
        return [rest, Group(is_sure, PURPLE, sure)]
    if within:
        return [rest, Group(f"{is_sure}, within ±{within:g}", SKY, sure)]
    far = np.abs(change) >= fold
    small = [Group(f"{is_sure}, smaller change", SKY, sure & ~far)] if fold else []
    return [
        rest,
        *small,
        Group(f"{is_sure}, down", BLUE, sure & far & (change < 0)),
        Group(f"{is_sure}, up", VERMILION, sure & far & (change >= 0)),
    ]


def _draw(axes: Axes, x: Floats, y: Floats, groups: list[Group], window: Window) -> int:
    """Draw each group; gives how many genes lie beyond the window."""
    cut = 0
    for group in groups:
        faint = {"opacity": 0.3, "size": 5.0} if group.label == OTHER else {"opacity": 0.6, "size": 7.0}
        cut += cloud(axes, x[group.genes], y[group.genes], window, colour=group.colour, label=group.label, **faint)
    return cut


def _entries(groups: list[Group]) -> list[Line2D]:
    return [marker(group.colour, f"{group.label} ({int(group.genes.sum()):,})") for group in reversed(groups)]


def _name_strongest(
    axes: Axes,
    table: pd.DataFrame,
    x: Floats,
    y: Floats,
    window: Window,
    labels: Labels | None,
    named: int,
    alpha: float,
) -> None:
    """Name the significant genes with the smallest p-values, those with larger changes first where they tie."""
    pvalue, change = finite(table["pvalue"]), finite(table["log2FoldChange"])
    can = np.flatnonzero(
        (finite(table["padj"]) < alpha) & ~np.isnan(x) & ~np.isnan(y) & ((x > 0) | (axes.get_xscale() != "log"))
    )
    best = can[np.lexsort((-np.abs(change[can]), pvalue[can]))][:named]
    names = drawn_names(table.iloc[best], labels)
    name_points(axes, np.clip(x[best], window.left, window.right), np.clip(y[best], window.bottom, window.top), names)
