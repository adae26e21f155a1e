"""Figures of *agreement*: functions of its rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from secirls.outputs.pictures.canvas import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, Figure, legend, panels

NAMES = {
    "R": "R's DESeq2",
    "federated": "federated",
    "pooled": "pooled PyDESeq2",
    "meta": "meta-analysis",
    "given": "federated, given PyDESeq2's dispersions",
}
COLOURS = {"federated": BLUE, "pooled": GREEN, "given": VERMILION}
ORDER = (
    "size factors", "base mean", "gene-wise dispersion", "trend", "prior variance", "MAP dispersion",
    "final dispersion", "log2 fold change", "standard error", "p-value", "filter threshold", "adjusted p-value",
)  # fmt: skip
_SMALLEST, _LARGEST, _LEAST_P = 1e-16, 1e3, 1e-30
"""What is beyond is drawn there."""
_STEPS = (("median", "o", 26), ("high", "_", 60), ("largest", "x", 26))
_LABELS = {"median": "median", "high": "99 %", "largest": "largest"}


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """Stages; sets of genes; fold changes over base means; p-values against p-values."""
    kinds = {kind: rows[rows["kind"] == kind] for kind in ("stage", "set", "gene")}
    genes = _shown(kinds["gene"])
    return {
        "agreement": stages(_against_the_best(kinds["stage"])),
        "agreement-sets": overlaps(kinds["set"]),
        "agreement-ma": changes(genes),
        "agreement-p": pvalues(genes),
    }


def span(values: pd.Series[float], form: str = ".0e") -> str:
    """The range of some numbers, or the number."""
    low, high = f"{values.min():{form}}", f"{values.max():{form}}"
    return low if low == high else f"{low} to {high}"


def _against_the_best(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each design the rows beside R where there are any, else those beside pooled."""
    has_r = rows.groupby(["set", "design"])["beside"].transform(lambda told: (told == "R").any())
    return rows[(rows["beside"] == "R") == has_r]


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """One design of each set: that on which most ways were measured."""
    best = _against_the_best(rows)
    ways = best.groupby(["set", "design"], sort=False)["way"].nunique().reset_index()
    kept = ways.sort_values("way", ascending=False, kind="stable").drop_duplicates("set")[["set", "design"]]
    return best.merge(kept, on=["set", "design"])


def _panels(rows: pd.DataFrame) -> Sequence[tuple[str, str]]:
    return list(dict.fromkeys(zip(rows["set"], rows["design"], strict=True)))


def _title(name: str, design: str) -> str:
    return f"{'simulated' if name.startswith('simulated') else name}\n{design}"


def stages(rows: pd.DataFrame) -> Figure:
    """Relative differences of every stage, a panel per design."""
    designs = _panels(rows)
    columns = min(3, len(designs))
    lines = -(-len(designs) // columns)
    figure, grid = panels(lines, columns, width=4.1 * columns + 1.2, height=2.9 * lines + 2.2, sharex=True, sharey=True)
    for axes in grid.flat[len(designs) :]:
        axes.set_visible(False)
    for at, (axes, (name, design)) in enumerate(zip(grid.flat, designs, strict=False)):
        mine = rows[(rows["set"] == name) & (rows["design"] == design)]
        shown = [way for way in COLOURS if way in set(mine["way"])]
        for number, way in enumerate(shown):
            told = mine[mine["way"] == way].set_index("item")
            place = np.array([ORDER.index(item) for item in told.index]) + 0.22 * (number - (len(shown) - 1) / 2)
            gaps = told[[column for column, _, _ in _STEPS]].clip(_SMALLEST, _LARGEST)
            axes.vlines(place, gaps["median"], gaps["largest"], color=COLOURS[way], linewidth=1)
            for column, marker, size in _STEPS:
                axes.scatter(place, gaps[column], s=size, marker=marker, color=COLOURS[way])
        axes.set(yscale="log", ylim=(_SMALLEST / 5, 5 * _LARGEST))
        axes.set_title(f"{_title(name, design)}\nbeside {NAMES[mine['beside'].iloc[0]]}", fontsize=11)
        axes.set_xticks(range(len(ORDER)), ORDER, rotation=60, ha="right", rotation_mode="anchor", fontsize=9.5)
        axes.tick_params(labelbottom=at + columns >= len(designs))
        axes.grid(visible=True, axis="y", color=GREY, alpha=0.25)
    for axes in grid[:, 0]:
        axes.set_ylabel("relative difference")
    _key(grid[0, 0], [way for way in COLOURS if way in set(rows["way"])], 2 * columns)
    return figure


def _key(axes: Any, shown: Sequence[str], columns: int) -> None:
    """Ways by colour, steps by marker, above everything."""
    handles = [axes.scatter([], [], s=40, marker="s", color=COLOURS[way], label=NAMES[way]) for way in shown]
    handles += [axes.scatter([], [], s=30, marker=m, color=BLACK, label=_LABELS[step]) for step, m, _ in _STEPS]
    axes.figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, fontsize=10.5)


def overlaps(rows: pd.DataFrame) -> Figure:
    """Differentially expressed genes one way, the other, and both, as shares of all of them."""
    chosen = rows[rows["item"] == "differentially expressed"].reset_index(drop=True)
    figure, ((axes,),) = panels(1, 1, width=11.5, height=0.33 * len(chosen) + 1.6)
    either = (chosen["ours"] + chosen["theirs"] - chosen["common"]).clip(lower=1)
    parts = {
        "both": (chosen["common"], GREY),
        "the first alone": (chosen["ours"] - chosen["common"], BLUE),
        "the second alone": (chosen["theirs"] - chosen["common"], ORANGE),
    }
    start = 0.0 * either
    for label, (count, colour) in parts.items():
        axes.barh(chosen.index, 100 * count / either, left=start, color=colour, label=label)
        start = start + 100 * count / either
    for at, row in chosen.iterrows():
        alone = f"{int(row['ours'] - row['common']):,} + {int(row['theirs'] - row['common']):,}"
        axes.text(101, float(str(at)), f"{int(row['common']):,} both, {alone} alone", va="center", fontsize=9)
    labels = [
        f"{_title(name, design).replace(chr(10), ' ')}: {NAMES[way]} and {NAMES[beside]}"
        for name, design, way, beside in chosen[["set", "design", "way", "beside"]].astype(str).to_numpy()
    ]
    axes.set_yticks(chosen.index, labels, fontsize=9)
    axes.set(
        xlim=(0, 140),
        ylim=(-0.6, len(chosen) - 0.4),
        xticks=range(0, 101, 20),
        xlabel="% of the genes differentially expressed in either",
    )
    axes.invert_yaxis()
    legend(axes, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)
    return figure


_CALLS = (
    ("neither", GREY, 5),
    ("both", BLACK, 6),
    ("this way alone", BLUE, 12),
    ("the reference alone", ORANGE, 12),
)


def _called(mine: pd.DataFrame, way: str) -> tuple[pd.DataFrame, pd.Series[str]]:
    """A way's genes, and who calls them differentially expressed."""
    ours, theirs = (mine[mine["way"] == name].set_index("item") for name in (way, mine["beside"].iloc[0]))
    names = [label for label, _, _ in _CALLS]
    code = 2 * ours["called"] + theirs["called"].reindex(ours.index)
    return ours.assign(reference=theirs["pvalue"].reindex(ours.index)), code.map(
        dict(zip((0, 3, 2, 1), names, strict=True))
    )


def _grid(rows: pd.DataFrame, first: Sequence[str]) -> tuple[Figure, Any, list[tuple[Any, pd.DataFrame, str]]]:
    """A line of panels per design, a column per way: the figure, its axes, and what to draw where."""
    designs, found = _panels(rows), set(rows.loc[rows["way"] != rows["beside"], "way"])
    columns = [*first, *(way for way in ("federated", "pooled", "meta") if way in found)]
    figure, axes = panels(len(designs), len(columns), width=3.1 * len(columns) + 0.6, height=2.25 * len(designs) + 0.8)
    drawn = []
    for line, (name, design) in zip(axes, designs, strict=True):
        mine = rows[(rows["set"] == name) & (rows["design"] == design)]
        beside = mine["beside"].iloc[0]
        for place, column in zip(line, columns, strict=True):
            way = beside if column == "reference" else column
            place.set_visible(column == "reference" or (way != beside and way in set(mine["way"])))
            place.set_title(NAMES[way], fontsize=10.5)
            if place.get_visible():
                drawn.append((place, mine, way))
        line[0].set_ylabel(f"{_title(name, design)}\n{'log2 fold change' if 'reference' in first else '−log10 p'}")
    return figure, axes, drawn


def _dots(axes: Any, x: pd.Series[float], y: pd.Series[float], calls: pd.Series[str]) -> None:
    for label, colour, size in _CALLS:
        here = calls == label
        axes.scatter(x[here], y[here], s=size, color=colour, alpha=0.7, linewidths=0, label=label, rasterized=True)


def _calls_key(figure: Figure, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=10.5, markerscale=2.5)


def changes(rows: pd.DataFrame) -> Figure:
    """MA plots, the reference first."""
    figure, axes, drawn = _grid(rows, ["reference"])
    for place, mine, way in drawn:
        genes, calls = _called(mine, way)
        _dots(place, genes["base_mean"], genes["change"], calls)
        place.axhline(0, color=BLACK, linewidth=0.6)
        reach = 1.05 * mine.loc[mine["way"] == mine["beside"], "change"].abs().quantile(0.998)
        place.set(xscale="log", ylim=(-reach, reach))
    for place in axes[-1]:
        place.set_xlabel("base mean")
    _calls_key(figure, axes[0, 0])
    return figure


def pvalues(rows: pd.DataFrame) -> Figure:
    """P-values of each way against the reference's."""
    figure, axes, drawn = _grid(rows, [])
    for place, mine, way in drawn:
        genes, calls = _called(mine, way)
        x, y = (-np.log10(genes[column].clip(lower=_LEAST_P)) for column in ("reference", "pvalue"))
        place.axline((0, 0), slope=1, color=GREY, linewidth=0.8)
        _dots(place, x, y, calls)
        reach = 1.05 * max(float(x.max()), float(y.max()))
        place.set(xlim=(0, reach), ylim=(0, reach), xlabel=f"−log10 p, {NAMES[mine['beside'].iloc[0]]}")
    _calls_key(figure, axes[0, 0])
    return figure
