"""Figures of a fit: volcano, MA, convergence, overhead. The one door to matplotlib.

Promises: every figure is a function of a results table, a ledger or a report alone; colours are told apart by
the colour-blind (Okabe and Ito 2008) and labels name units. Nothing global is changed and no window opens.
Refuses to know: how the numbers were made.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Figure  # noqa: PLC0414 - for those who type against it
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from secirls.agreement.whole_file import write_whole

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip
BROWN: Final = "#8C6D46"
COLOURS: Final = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK, YELLOW)
"""Okabe and Ito's, darkest contrasts first."""

VERB_COLOURS: Final = {
    "hello": "#DDDDDD",
    "meet": GREY,
    "precompute": "#B8D4E8",
    "compute": SKY,
    "encode": YELLOW,
    "protect": BLUE,
    "combine": GREEN,
    "assist": ORANGE,
    "open": VERMILION,
    "decode": PURPLE,
    "verify": BROWN,
    "step": BLACK,
}
"""The verbs that cost, in the order of a round; waiting is nobody's cost."""

OFFLINE_VERBS: Final = ("hello", "meet", "precompute")
"""What needs no data and can be done while nobody waits; hatched where verbs are stacked."""

SIGNIFICANT: Final = 0.05
MEGABYTE: Final = 1e6
_DOTS: Final = 150
_SMALLEST_P: Final = 1e-300
_STYLE: Final[Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "legend.fontsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "secirls",
}


def panels(rows: int, columns: int, *, width: float, height: float, **options: Any) -> tuple[Figure, NDArray[Any]]:
    """A figure in the house style and its axes ``(rows, columns)``; width and height in inches."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The figure as PNG; the same rows give the same picture."""
    buffer = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=_DOTS, metadata={"Software": ""})
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    write_whole(path, png(figure))


def legend(axes: Axes, **options: Any) -> None:
    """A legend in the house style."""
    with rc_context(_STYLE):
        axes.legend(**options)


def volcano(table: pd.DataFrame, contrast: str = "", *, named: int = 8) -> Figure:
    """-log10 of the p-value over the log2 fold change; the strongest genes by name."""
    figure, ((axes,),) = panels(1, 1, width=6.4, height=4.8)
    known = table.dropna(subset=["log2FoldChange", "pvalue"])
    height = -np.log10(np.maximum(known["pvalue"].to_numpy(), _SMALLEST_P))
    change = known["log2FoldChange"].to_numpy()
    _two_clouds(axes, change, height, (known["padj"] < SIGNIFICANT).to_numpy())
    best = np.lexsort((-np.abs(change), -height))[:named]
    _name_points(axes, change[best], height[best], known["gene"].astype(str).to_numpy()[best])
    axes.set(xlabel="log2 fold change", ylabel="−log10 p-value", title=contrast)
    axes.title.set_parse_math(False)
    axes.set_ylim(bottom=0, top=1.08 * max(float(height.max(initial=1.0)), 1.0))
    legend(axes, loc="upper left", markerscale=2)
    return figure


def mean_and_change(table: pd.DataFrame, contrast: str = "") -> Figure:
    """The MA plot: log2 fold change over the base mean."""
    figure, ((axes,),) = panels(1, 1, width=6.4, height=4.8)
    known = table.dropna(subset=["log2FoldChange", "baseMean"])
    mean = known["baseMean"].to_numpy()
    _two_clouds(axes, mean, known["log2FoldChange"].to_numpy(), (known["padj"] < SIGNIFICANT).to_numpy())
    if (mean > 0).any():
        axes.set_xscale("log")
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set(xlabel="mean of normalised counts", ylabel="log2 fold change", title=contrast)
    axes.title.set_parse_math(False)
    legend(axes, loc="upper right", markerscale=2)
    return figure


def convergence(rounds: Sequence[Mapping[str, Any]]) -> Figure:
    """Genes asked about by round, coloured by what was asked: from the report's ``rounds``."""
    figure, ((axes,),) = panels(1, 1, width=6.4, height=3.6)
    numbers = np.array([told["round"] for told in rounds])
    genes = np.array([told["active_genes"] for told in rounds])
    kinds = np.array([told["query"] for told in rounds])
    wheel = (*COLOURS, GREY)
    for place, kind in enumerate(dict.fromkeys(kinds)):
        chosen, again = kinds == kind, place >= len(wheel)
        look = {"color": wheel[place % len(wheel)], "hatch": "///" if again else None, "edgecolor": "white"}
        axes.bar(numbers[chosen], genes[chosen], label=str(kind).replace("_", " "), width=0.85, linewidth=0, **look)
    if genes.max(initial=1) > 100:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="round", ylabel="genes asked about")
    legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0), title="question")
    return figure


def overhead(ledger: pd.DataFrame, *, sites_role: str = "site") -> Figure:
    """CPU time by round, stacked by verb, all parties together; below it what travels."""
    figure, ((above,), (below,)) = panels(2, 1, width=7.2, height=5.6, sharex=True)
    kept = ledger[ledger["verb"] != "wait"]
    stack_by_verb(above, kept, kept["round"].max())
    above.set(ylabel="CPU ms, all parties", title=f"protocol: {ledger['protocol'].iloc[0]}")
    legend(above, loc="upper left", bbox_to_anchor=(1.0, 1.0), reverse=True)
    travel = kept[kept["role"] == sites_role].groupby("round")[["bytes_up", "bytes_down"]].sum() / MEGABYTE
    below.bar(travel.index - 0.2, travel["bytes_up"], width=0.4, color=BLUE, label="up: from sites")
    below.bar(travel.index + 0.2, travel["bytes_down"], width=0.4, color=ORANGE, label="down: to sites")
    below.set(xlabel="round (−1: getting to know each other)", ylabel="MB, all sites")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(below, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def stack_by_verb(axes: Axes, costs: pd.DataFrame, last_round: int, *, first_round: int = -1) -> None:
    """CPU milliseconds by round as bars stacked by verb, from rows with round, verb and cpu_seconds."""
    sums = costs.pivot_table(index="round", columns="verb", values="cpu_seconds", aggfunc="sum").fillna(0.0)
    index = np.arange(first_round, last_round + 1)
    bottom = np.zeros(index.size)
    for verb, colour in VERB_COLOURS.items():
        if verb in sums:
            height = 1e3 * sums[verb].reindex(index, fill_value=0.0).to_numpy()
            hatch: dict[str, Any] = {"hatch": "////", "edgecolor": "white"} if verb in OFFLINE_VERBS else {}
            axes.bar(index, height, bottom=bottom, color=colour, label=verb, width=0.85, linewidth=0, **hatch)
            bottom += height
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _two_clouds(axes: Axes, x: NDArray[Any], y: NDArray[Any], marked: NDArray[np.bool_]) -> None:
    for chosen, colour, label in ((~marked, GREY, "other"), (marked, VERMILION, f"adjusted p < {SIGNIFICANT}")):
        name = f"{label} ({int(chosen.sum()):,})"
        axes.scatter(x[chosen], y[chosen], s=5, color=colour, alpha=0.6, linewidths=0, label=name, rasterized=True)


def _name_points(axes: Axes, x: NDArray[Any], y: NDArray[Any], names: NDArray[Any]) -> None:
    """Names beside points, from the top down, each left out where it would stand on another."""
    span = max(float(y.max(initial=1.0)), 1.0)
    placed: list[tuple[float, float]] = []
    for left, height, name in zip(x, y, names, strict=True):
        near = any(abs(height - there) < 0.045 * span and (left > 0) == (here > 0) for here, there in placed)
        if near:
            continue
        placed.append((float(left), float(height)))
        right = left > 0
        axes.annotate(
            name,
            (left, height),
            xytext=(4 if right else -4, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=8.5,
            parse_math=False,  # a name may have a dollar sign
        )
    axes.margins(x=0.18)
