"""Figures and the answer of *dispersion*: functions of its rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from secirls.outputs.pictures.canvas import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, Figure, panels

PROFILE, POLISHED, SEARCH, NEWTON, GRIDS = (
    "profile", "profile, then Newton", "line search by rounds", "Newton by rounds", "grids",
)  # fmt: skip
SWEEP = "profile of D digits"
COLOURS = {PROFILE: BLUE, POLISHED: SKY, SEARCH: ORANGE, NEWTON: GREEN, GRIDS: VERMILION}
MARKERS = {PROFILE: "o", POLISHED: "D", SEARCH: "s", NEWTON: "^", GRIDS: "X"}
EXACT = 64
_SMALLEST = 1e-13
_BITS = {20: ORANGE, 30: GREEN, 32: SKY, EXACT: BLACK}
_PRODUCTS_DIGITS = 10


def whole(rows: pd.DataFrame) -> pd.DataFrame:
    """Per design and method: what both estimates cost together, and the larger of their differences.

    What Newton's method adds to a profile is counted with the profile.
    """
    main = rows[rows["method"] != SWEEP]
    place = ["set", "design", "method"]
    costs = ["rounds", "values", "bytes_up", "bytes_down", "cpu_seconds"]
    gaps = ["path_high", "path_largest", "optimum_high", "optimum_largest", "shortfall"]
    sums = main.groupby(place, sort=False)[costs].sum().join(main.groupby(place, sort=False)[gaps].max())
    sums = sums.reset_index()
    profile = sums[sums["method"] == PROFILE].set_index(["set", "design"])[costs]
    polished = sums["method"] == POLISHED
    index = pd.MultiIndex.from_frame(sums.loc[polished, ["set", "design"]])
    sums[costs] = sums[costs].astype(float)
    sums.loc[polished, costs] += profile.reindex(index).to_numpy()
    genes = (
        main.groupby(["set", "design"], sort=False)["genes"]
        .first()
        .reindex(pd.MultiIndex.from_frame(sums[["set", "design"]]))
    )
    return sums.assign(
        kilobytes=(sums["bytes_up"] + sums["bytes_down"]) / 1e3, cpu_ms=1e3 * sums["cpu_seconds"] / genes.to_numpy()
    )


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """Costs and differences of all methods, and of the profile by its number of nodes and fraction bits."""
    return {"dispersion": methods(rows), "dispersion-nodes": nodes(rows[rows["method"] == SWEEP])}


_PANELS = (
    ("values", "values a site sends, per gene"),
    ("rounds", "rounds"),
    ("kilobytes", "kB per gene and site, up and down"),
    ("cpu_ms", "CPU ms per gene, all parties"),
    ("path_high", "R's path: 99 % of |Δ log α| below"),
    ("optimum_high", "optimum: 99 % of |Δ log α| below"),
)


def _place(name: str, design: str) -> str:
    return f"{'simulated' if name.startswith('simulated') else name}\n{design}"


def methods(rows: pd.DataFrame) -> Figure:
    """One panel per cost or difference, designs side by side."""
    table = whole(rows)
    designs = list(dict.fromkeys(zip(table["set"], table["design"], strict=True)))
    figure, grid = panels(2, 3, width=13.0, height=8.6)
    for axes, (column, label) in zip(grid.flat, _PANELS, strict=True):
        for number, (method, colour) in enumerate(COLOURS.items()):
            mine = table[table["method"] == method]
            at = [designs.index(pair) for pair in zip(mine["set"], mine["design"], strict=True)]
            height = mine[column].astype(float)
            if column == "path_high" and method == SEARCH:
                continue  # the truth itself
            height = height.clip(lower=_SMALLEST) if column.endswith("high") else height
            place = np.array(at) + 0.13 * (number - 2)
            axes.scatter(place, height, s=52, color=colour, marker=MARKERS[method], label=method, zorder=3)
        axes.set(yscale="log", ylabel=label)
        axes.set_xlim(-0.5, len(designs) - 0.5)
        for edge in range(1, len(designs)):
            axes.axvline(edge - 0.5, color=GREY, linewidth=0.5, alpha=0.6)
        axes.grid(visible=True, axis="y", color=GREY, alpha=0.25)
        names = [_place(*pair) for pair in designs]
        axes.set_xticks(range(len(designs)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=9)
    _key(figure, grid[0, 0], 5)
    return figure


def _key(figure: Figure, axes: Any, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=11)


def nodes(rows: pd.DataFrame) -> Figure:
    """Differences over the digits that nodes are made for, a line per number of fraction bits."""
    designs = list(dict.fromkeys(zip(rows["set"], rows["design"], strict=True)))
    figure, grid = panels(2, len(designs), width=2.7 * len(designs) + 1.6, height=6.4, sharex=True, sharey="row")
    for column, (name, design) in enumerate(designs):
        mine = rows[(rows["set"] == name) & (rows["design"] == design)]
        for axes, what in zip(grid[:, column], ("path_high", "optimum_high"), strict=True):
            for bits, told in mine.groupby("fraction_bits"):
                label = "exact" if bits == EXACT else f"{bits} fraction bits"
                gap = told[what].clip(lower=_SMALLEST)
                axes.plot(told["digits"], gap, color=_BITS.get(int(str(bits)), GREY), marker="o", ms=4, label=label)
            axes.axvline(_PRODUCTS_DIGITS, color=GREY, linewidth=0.8, linestyle=":")
            axes.set_yscale("log")
            axes.grid(visible=True, axis="y", color=GREY, alpha=0.25)
        low, high = mine["values"].min(), mine["values"].max()
        grid[0, column].set_title(f"{_place(name, design)}\n{low:,.0f} to {high:,.0f} values", fontsize=10.5)
        grid[1, column].set_xlabel("digits D")
    grid[0, 0].set_ylabel("R's path: 99 % of\n|Δ log α| below")
    grid[1, 0].set_ylabel("optimum: 99 % of\n|Δ log α| below")
    _key(figure, grid[0, 0], 4)
    return figure


def answer(rows: pd.DataFrame) -> str:
    """What both estimates of a gene cost by each method, and how near they come."""
    table = whole(rows)
    told = []
    for method, name in (
        (PROFILE, "profiles"),
        (SEARCH, "R's line search by rounds"),
        (NEWTON, "Newton's method by rounds"),
        (GRIDS, "FedPyDESeq2's grids"),
    ):
        mine = table[table["method"] == method]
        told.append(f"{_span(mine['values'], ',.0f')} values in {_rounds(mine['rounds'])} by {name}")
    sweep = rows[(rows["method"] == SWEEP) & (rows["digits"] == _PRODUCTS_DIGITS)]
    bits = [
        f"{gap:.0e} with {count} fraction bits"
        for count, gap in sweep.groupby("fraction_bits")["path_high"].max().items()
        if count != EXACT
    ]

    def within(method: str, column: str = "optimum_high") -> str:
        return f"within {float(table.loc[table['method'] == method, column].max()):.0e}"

    return (
        f"For both estimates of a gene a site sends {'; '.join(told)}. In 99 % of genes profiles end R's path "
        f"{within(PROFILE, 'path_high')} of the search in log alpha, {', '.join(bits)}; optima are "
        f"{within(PROFILE)} by profiles, {within(POLISHED)} with Newton's method after them, "
        f"{within(NEWTON)} by Newton's method alone and {within(GRIDS)} by grids."
    )


def _rounds(values: pd.Series[float]) -> str:
    text = _span(values, ".0f")
    return f"{text} round{'' if text == '1' else 's'}"


def _span(values: pd.Series[float], form: str) -> str:
    low, high = f"{values.min():{form}}", f"{values.max():{form}}"
    return low if low == high else f"{low} to {high}"
