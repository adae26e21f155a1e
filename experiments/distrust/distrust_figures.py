"""Figures of distrust: what each layer adds, bytes both ways, and which layer stops which attack.

Promises: every figure is a function of the rows alone. Refuses to know: how they were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.distrust.distrust_reading import (
    BARE,
    CONSISTENCY,
    LOCK_STEP,
    VERIFIED,
    attack_table,
    by_layer,
    costs,
    fits,
    proof_ratios,
    stopped,
)
from secirls.agreement.ledger import MEGABYTE
from secirls.outputs.pictures.canvas import (
    BLACK,
    BLUE,
    BROWN,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    VERMILION,
    Figure,
    legend,
    panels,
)

COLOURS: Mapping[str, str] = {BARE: GREY, CONSISTENCY: ORANGE, VERIFIED: BROWN, LOCK_STEP: BLUE}
PROOF_COLOURS: Mapping[str, str] = {"encrypt": GREY, "prove": ORANGE, "verify": BROWN}
LAYERS = (
    "lock-step",
    "verified totals",
    "proofs",
    "session",
    "protocol",
    "rules",
    "questions",
    "audit",
)
"""Columns of the attacks, as docs/attacks.md names them."""


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """Costs by layer, and the attacks."""
    return {"distrust": by_cost(rows), "distrust-attacks": attacks(rows)}


def by_cost(rows: pd.DataFrame) -> Figure:
    """CPU of the verbs in multiples of sums alone, stacked by layer: by sites and protocol, and of the first set."""
    table = by_layer(rows)
    first = fits(rows)["set"].iloc[0]
    whole, small = table[table["set"] == first], table[table["set"] != first].sort_values("sites")
    columns = [mine for _, mine in small.groupby("protocol", sort=False)]
    figure, axes = panels(2, 3, width=12.6, height=7.4)
    for place, mine in zip(axes[0], [whole, *columns], strict=False):
        _stacked(place, mine, by_protocol=mine is whole)
    _bytes(axes[1, 0], rows, first)
    _proofs(axes[1, 1], rows)
    for place in (*axes[0, 1 + len(columns) :], axes[1, 2]):
        place.set_axis_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    legend(axes[1, 2], handles=handles, labels=labels, loc="upper left", title="CPU of")
    return figure


def _stacked(axes: Any, table: pd.DataFrame, *, by_protocol: bool) -> None:
    places, left = range(len(table)), 0.0 * table[BARE].to_numpy()
    base = table[BARE].to_numpy()
    for layer, colour in COLOURS.items():
        width = table[layer].to_numpy().clip(min=0.0) / base
        axes.barh(places, width, left=left, color=colour, height=0.7, linewidth=0, label=layer)
        left = left + width
    for place, end in zip(places, left, strict=True):
        axes.text(end, place, f" ×{end:.2f}  ({base[place] * end:.3g} s)", va="center", fontsize=9.5)
    cell = table.iloc[0]
    if by_protocol:
        labels = [f"{line.protocol}\n{line.genes:,} genes" for line in table.itertuples()]
        title = f"whole DESeq2, {cell['sites']} sites\n{_title(cell['set'])}"
    else:
        labels = [f"n = {sites}" for sites in table["sites"]]
        title = f"{cell['protocol']}, by sites\n{cell['genes']:,} genes"
    axes.set_yticks(places, labels)
    axes.set(ylim=(len(table) - 0.4, -0.6), xlim=(0, 1.6 * left.max()), title=title)
    axes.set_xlabel(f"CPU of all verbs, {BARE} = 1")
    axes.axvline(1.0, color=BLACK, linewidth=0.8)
    axes.tick_params(axis="y", length=0)


def _title(name: str) -> str:
    genes, samples, _ = map(int, name.removeprefix("simulated-").split("x"))
    return f"simulated, {genes:,} × {samples}"


def _proofs(axes: Any, rows: pd.DataFrame) -> None:
    """A proof that Paillier's ciphertexts are known, in multiples of making them."""
    told = proof_ratios(rows)
    verbs, many = list(PROOF_COLOURS), rows[rows["verb"] == "prove"]["count"].astype("int64").iloc[0]
    axes.bar(range(len(verbs)), told[verbs], color=list(PROOF_COLOURS.values()), width=0.7)
    for place, verb in enumerate(verbs):
        axes.text(place, told[verb], f"×{told[verb]:.2f}", ha="center", va="bottom", fontsize=9.5)
    axes.set_xticks(range(len(verbs)), verbs)
    axes.set(
        ylabel="CPU, encrypting = 1",
        ylim=(0, 1.12 * told[verbs].max()),
        title=f"proofs (Paillier)\none for {many} ciphertexts",
    )


def _bytes(axes: Any, rows: pd.DataFrame, first: str) -> None:
    """Megabytes of a site, up and down, by protocol and layers, of the first set."""
    table = costs(rows).loc[first].reset_index()
    most = table.groupby("protocol")["genes"].transform("max")
    table = table[(table["genes"] == most) & (most == most.max())]
    labels = [f"{line.protocol}\n{line.layers}" for line in table.itertuples()]
    for offset, way, colour in ((-0.19, "up", SKY), (0.19, "down", VERMILION)):
        values = table[way].to_numpy() / MEGABYTE
        axes.barh([place + offset for place in range(len(table))], values, height=0.36, color=colour, label=way)
        for place, value in enumerate(values):
            axes.text(value, place + offset, f" {value:.3g}", va="center", fontsize=9.5)
    axes.set_yticks(range(len(table)), labels)
    axes.set(ylim=(len(table) - 0.4, -0.6), xlabel="MB of a site, whole fit", title=f"bytes\n{_title(first)}")
    axes.set_xlim(0, 1.2 * max(table["up"].max(), table["down"].max()) / MEGABYTE)
    axes.tick_params(axis="y", length=0)
    legend(axes, loc="upper left", bbox_to_anchor=(0.0, -0.14), ncols=2)


def attacks(rows: pd.DataFrame) -> Figure:
    """The attacks by layer: a disc where one was stopped and its twin succeeded, a cross where not both."""
    table = attack_table(rows)
    held = stopped(table)
    layers = [layer for layer in LAYERS if layer in set(table["layer"])]
    figure, ((axes,),) = panels(1, 1, width=7.2 + 0.75 * len(layers), height=0.29 * len(table) + 1.6)
    for place, (line, kept) in enumerate(zip(table.itertuples(), held, strict=True)):
        column = layers.index(str(line.layer))
        axes.axhline(place, color="#E6E6E6", linewidth=0.8, zorder=0)
        marker, colour = ("o", GREEN) if kept else ("X", VERMILION)
        axes.scatter([column], [place], s=90, marker=marker, color=colour, linewidths=0)
    gave = table["gave"].str.replace("`", "")
    labels = [f"{text}   {name}" for text, name in zip(gave, table["attack"], strict=True)]
    axes.set_yticks(range(len(table)), labels)
    axes.set_xticks(range(len(layers)), layers, rotation=40, ha="left")
    axes.xaxis.tick_top()
    axes.set(xlim=(-0.6, len(layers) - 0.4), ylim=(len(table) - 0.4, -0.6))
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.scatter(
        [], [], s=90, marker="o", color=GREEN, linewidths=0, label="stopped; succeeds without the layer's check"
    )
    axes.scatter([], [], s=90, marker="X", color=VERMILION, linewidths=0, label="not both")
    legend(axes, loc="upper right", bbox_to_anchor=(1.0, -0.01), ncols=2)
    return figure
