"""What the aggregator could learn: attacks on a fit's messages, with and without the rule that stops each.

`experiments.attacks` makes the rows and `experiments.guessing` reads counts from summands; here is what is asked of
them, and how the answers are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.attacks import NO_RULE, difference, difference_refused, layers, lonely, second_cohort, summand
from experiments.guessing import FINEST, USELESS
from experiments.record import Configuration, Experiment, Measurement
from secirls.outputs.plots import BLUE, GREY, VERMILION, Figure, legend, panels

CONFIGURATION: Configuration = {
    "seed": 4,
    "engine": "local",
    "set": "airway",
    "cells": [1, 2, 4, 8, 16],
    "genes": 2000,
    "contributors": [1, 2, 3],
    "expressed": 10.0,
}
QUICK: Configuration = {"set": "simulated-200x6x3", "cells": [1, 2], "genes": 200, "contributors": [1, 3]}


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """The four attacks, each with and without its rule."""
    steps = [
        Measurement(f"summand/{cell}/{protocol}", partial(summand, cell, protocol, configuration))
        for cell in configuration["cells"]
        for protocol in ("plain", "pairwise")
    ]
    steps += [
        Measurement("difference/continue", partial(difference, configuration)),
        Measurement("difference/abort", partial(difference_refused, configuration)),
        Measurement("difference/one answer", partial(second_cohort, configuration)),
    ]
    steps += [
        Measurement(f"lonely/{least}", partial(lonely, least, configuration)) for least in configuration["contributors"]
    ]
    steps.append(Measurement("layers", partial(layers, configuration)))
    return steps


# --- reading the rows --------------------------------------------------------------------------------------------


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """Four panels, one per attack."""
    figure, axes = panels(2, 2, width=12.0, height=8.4)
    _draw_summand(axes[0, 0], rows[rows["attack"] == "summand"])
    _draw_difference(axes[0, 1], rows[rows["attack"] == "difference"])
    _draw_lonely(axes[1, 0], rows[rows["attack"] == "lonely genes"])
    _draw_layers(axes[1, 1], rows[rows["attack"] == "layers"])
    return {"leakage": figure}


_ERROR = "median relative error of a guessed count\n(1 and more: useless)"


def _draw_summand(axes: Any, rows: pd.DataFrame) -> None:
    for rule, colour, marker in ((NO_RULE, VERMILION, "o"), ("pairwise", BLUE, "s")):
        mine = rows[rows["rule"] == rule]
        label = "plain: summand in clear" if rule == NO_RULE else "pairwise: masked summand"
        axes.plot(mine["x"], mine["error"], color=colour, marker=marker, label=label)
        for cell in mine.itertuples():
            axes.annotate(
                f"{cell.exact:.0%}", (cell.x, cell.error), xytext=(6, -12), textcoords="offset points", fontsize=9
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(FINEST / 30, USELESS * 30)
    axes.set_xticks(sorted(set(rows["x"])), [str(x) for x in sorted(set(rows["x"]))], minor=False)
    axes.minorticks_off()
    axes.set(xlabel="samples per site and condition", ylabel=_ERROR, title="A  one site's message (%: exact counts)")
    legend(axes, loc="center right")


def _draw_difference(axes: Any, rows: pd.DataFrame) -> None:
    open_rows, closed = rows[rows["rule"] == NO_RULE], rows[rows["rule"] == "abort"]
    axes.plot(open_rows["x"], open_rows["error"], color=VERMILION, marker="o", label="continue: smaller sum opened")
    for cell in open_rows.itertuples():
        axes.annotate(
            f"{cell.exact:.0%}",
            (cell.x, cell.error),
            xytext=(0, 7),
            textcoords="offset points",
            fontsize=9,
            ha="center",
        )
    axes.plot(
        closed["x"], closed["error"], color=BLUE, marker="s", linestyle="none", label="abort: no smaller sum, fit stops"
    )
    axes.set_yscale("log")
    axes.set_ylim(FINEST / 30, USELESS * 30)
    axes.set(
        xlabel="IRLS round after which a site leaves", ylabel=_ERROR, title="B  sums with and without a site (%: exact)"
    )
    legend(axes, loc="lower left")


def _draw_lonely(axes: Any, rows: pd.DataFrame) -> None:
    labels = [str(x) for x in rows["x"]]
    colours = [VERMILION if rule == NO_RULE else BLUE for rule in rows["rule"]]
    bars = axes.bar(labels, rows["guesses"] * rows["exact"], color=colours)
    axes.bar_label(bars, labels=[f"{n:,.0f}" for n in rows["guesses"] * rows["exact"]])
    axes.set(
        xlabel="sites that must have counts for a gene (min_contributors)",
        ylabel="counts of single samples\npublished exactly",
        title="C  genes expressed in one sample",
    )


def _draw_layers(axes: Any, rows: pd.DataFrame) -> None:
    place = range(len(rows))
    colours = [VERMILION if rule == NO_RULE else BLUE for rule in rows["rule"]]
    axes.barh(place, np.abs(rows["departure"]), color=colours)
    axes.set_xscale("log")
    axes.axvline(5.0, color=GREY, linestyle="--", linewidth=1)
    for at, cell in enumerate(rows.itertuples()):
        told = f" {cell.exact:.0%} of counts exact" if cell.guesses else ""
        axes.text(max(abs(cell.departure), 6.0), at, told, va="center", fontsize=9)
    axes.set(
        yticks=list(place),
        yticklabels=[str(view).replace(", ", ",\n") for view in rows["view"]],
        xlabel="payload bytes' distance from uniform, chi-square,\nstandard deviations of chance (dashed: 5)",
        title="D  layers of the protocol",
    )
    axes.set_xlim(0.05, 1e6 * float(np.abs(rows["departure"]).max()))
    axes.tick_params(axis="y", labelsize=9)
    axes.invert_yaxis()


def answer(rows: pd.DataFrame) -> str:
    """What the attacks get without their rules, and with them."""
    summands = rows[(rows["attack"] == "summand") & (rows["x"] == 1)]
    clear, hidden = (float(summands[summands["rule"] == rule]["exact"].iloc[0]) for rule in (NO_RULE, "pairwise"))
    apart = rows[(rows["attack"] == "difference") & (rows["rule"] == NO_RULE)]
    alone = rows[rows["attack"] == "lonely genes"]
    published = alone["guesses"] * alone["exact"]
    return (
        f"With one sample per condition a summand in the clear gives {clear:.1%} of a site's counts exactly, a masked "
        f"one {hidden:.1%}; two sums that differ by a site give {apart['exact'].iloc[0]:.1%} when it leaves after the "
        f"first round and {apart['exact'].max():.1%} at best later on, which stopping prevents; genes seen in one "
        f"sample publish {published.iloc[0]:,.0f} counts without the rule on contributors and "
        f"{published.iloc[-1]:,.0f} with it; {_asked_again(rows)}."
    )


def _asked_again(rows: pd.DataFrame) -> str:
    """What a site does when it is asked again without one of the others."""
    told = {
        row.view: "answers" if row.outcome == "answered" else "refuses"
        for row in rows[rows["attack"] == "second cohort"].itertuples()
    }
    return "asked again without one of the others, a site " + " and ".join(
        f"{does} {view}" for view, does in told.items()
    )


EXPERIMENT = Experiment(
    name="leakage",
    question="What could the aggregator learn, and which rule stops it?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
