"""Rounds and what they cost: convergence, cost by verb beside the clear, cost round by round.

Promises: bars add up to the ledger; waiting is nobody's cost and in none of them. Refuses to know: how times and bytes
were taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from secirls.agreement.ledger import MEGABYTE, SETUP_ROUND, by_verb
from secirls.outputs.pictures.canvas import (
    BLACK,
    BLUE,
    BROWN,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    Axes,
    Picture,
    legend,
    legend_below,
    name_bars,
    nothing_to_draw,
    panels,
    patch,
    titled,
    whole_numbers,
)

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
    "follow": "#AA3377",
    "step": BLACK,
}
"""The verbs that cost, in the order of a round; waiting is nobody's cost."""

OFFLINE_VERBS: Final = ("hello", "meet", "precompute")
"""What needs no data and can be done while nobody waits; hatched where verbs are stacked."""

WAITING: Final = "wait"
IN_THE_CLEAR: Final = "the same fit in the clear"
_OFTEN: Final = 100
"""Most genes of a round from which the axis is logarithmic."""


def convergence(rounds: Sequence[Mapping[str, Any]], title: str = "") -> Picture:
    """Genes asked about by round, coloured by stage: from the report's ``rounds``."""
    figure, ((axes,),) = panels(1, 1, width=6.4, height=3.8)
    titled(axes, title, xlabel="round", ylabel="genes asked about")
    if not rounds:
        nothing_to_draw(axes, "no round was asked")
        return figure
    numbers = np.array([told["round"] for told in rounds])
    genes = np.array([told["active_genes"] for told in rounds])
    stages = np.array([told.get("stage", told["query"]) for told in rounds])
    wheel = (*COLOURS[:6], BROWN, YELLOW, GREY, BLACK)
    entries = []
    for place, stage in enumerate(dict.fromkeys(stages.tolist())):
        chosen, colour = stages == stage, wheel[place % len(wheel)]
        hatch = "///" if place >= len(wheel) else None
        bars = axes.bar(
            numbers[chosen],
            genes[chosen],
            label=str(stage),
            width=0.85,
            linewidth=0,
            color=colour,
            hatch=hatch,
            edgecolor="white",
        )
        entries.append(bars.patches[0])
        unseen = " (of no gene)" if not genes[chosen].any() else ""
        entries[-1].set_label(str(stage).replace("_", " ") + unseen)
    if genes.max(initial=1) > _OFTEN:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    whole_numbers(axes)
    legend_below(figure, entries, columns=4)
    return figure


def overhead(ledger: pd.DataFrame, plain: pd.DataFrame | None = None, title: str = "") -> Picture:
    """CPU seconds and megabytes by verb, all parties and rounds together; the fit in the clear beside, where given.

    Bytes are those that sites sent and received. Both are ledgers, as `secirls.agreement.ledger` has them.
    """
    figure, ((left, right),) = panels(1, 2, width=7.6, height=4.2, sharey=True)
    verbs = _verbs(ledger, plain)
    places = np.arange(len(verbs))[::-1]
    ledgers = [(ledger, BLUE)] if plain is None else [(ledger, BLUE), (plain, ORANGE)]
    height = 0.8 / len(ledgers)
    for number, (costs, colour) in enumerate(ledgers):
        at = places + height * ((len(ledgers) - 1) / 2 - number)
        sums = by_verb(costs).set_index("verb").reindex(verbs, fill_value=0)
        left.barh(at, sums["cpu_seconds"], height=height, color=colour)
        sites = by_verb(costs[costs["role"] == "site"]).set_index("verb").reindex(verbs, fill_value=0)
        right.barh(at, (sites["bytes_up"] + sites["bytes_down"]) / MEGABYTE, height=height, color=colour)
    name_bars(left, places, verbs)
    right.tick_params(axis="y", length=0)
    titled(left, title, xlabel="CPU seconds, all parties")
    titled(right, "", xlabel="MB to and from sites")
    entries = [patch(BLUE, f"protocol: {_protocol(ledger)}")]
    legend_below(figure, entries if plain is None else [*entries, patch(ORANGE, IN_THE_CLEAR)])
    return figure


def cost_by_round(ledger: pd.DataFrame) -> Picture:
    """CPU time by round, stacked by verb, all parties together; below it what travels."""
    figure, ((above,), (below,)) = panels(2, 1, width=7.6, height=5.6, sharex=True)
    kept = ledger[ledger["verb"] != WAITING]
    _stack_by_verb(above, kept)
    titled(above, f"protocol: {_protocol(ledger)}", ylabel="CPU ms, all parties")
    legend(above, loc="upper left", bbox_to_anchor=(1.0, 1.0), reverse=True)
    travel = kept[kept["role"] == "site"].groupby("round")[["bytes_up", "bytes_down"]].sum() / MEGABYTE
    below.bar(travel.index - 0.2, travel["bytes_up"], width=0.4, color=BLUE, label="up: from sites")
    below.bar(travel.index + 0.2, travel["bytes_down"], width=0.4, color=ORANGE, label="down: to sites")
    below.set(xlabel="round (−1: getting to know each other)", ylabel="MB, all sites")
    whole_numbers(below)
    legend(below, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _stack_by_verb(axes: Axes, costs: pd.DataFrame) -> None:
    """CPU milliseconds by round as bars stacked by verb, from rows with round, verb and cpu_seconds."""
    sums = costs.pivot_table(index="round", columns="verb", values="cpu_seconds", aggfunc="sum").fillna(0.0)
    index = np.arange(SETUP_ROUND, costs["round"].max() + 1)
    bottom = np.zeros(index.size)
    for verb, colour in VERB_COLOURS.items():
        if verb in sums:
            height = 1e3 * sums[verb].reindex(index, fill_value=0.0).to_numpy()
            hatch: dict[str, Any] = {"hatch": "////", "edgecolor": "white"} if verb in OFFLINE_VERBS else {}
            axes.bar(index, height, bottom=bottom, color=colour, label=verb, width=0.85, linewidth=0, **hatch)
            bottom += height
    whole_numbers(axes)


def _verbs(*ledgers: pd.DataFrame | None) -> list[str]:
    """Every verb that cost something, in the order of a round; waiting is none."""
    found = {str(verb): None for ledger in ledgers if ledger is not None for verb in ledger["verb"]}
    order = [*VERB_COLOURS, *found]
    return sorted(set(found) - {WAITING}, key=order.index)


def _protocol(ledger: pd.DataFrame) -> str:
    return str(ledger["protocol"].iloc[0]) if len(ledger) else "none"
