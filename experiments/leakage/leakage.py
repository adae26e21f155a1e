"""What the aggregator could learn: attacks on a fit's messages, with and without the rule that stops each.

`attacks` and `by_site` make the rows, `guessing` reads counts from summands; here is what is asked
of them, and how the answers are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.groundwork.reading import lines
from experiments.groundwork.record import Configuration, Experiment, Measurement
from experiments.leakage.attacks import NO_RULE, difference, difference_refused, layers, lonely, second_cohort, summand
from experiments.leakage.by_site import BINS, CHANCE, MEANS, OWN, TOLD, UNTOLD, own_columns, shared
from experiments.leakage.guessing import FINEST, USELESS
from secirls.outputs.pictures.canvas import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, Figure, legend, panels

CONFIGURATION: Configuration = {
    "seed": 4,
    "engine": "local",
    "set": "airway",
    "cells": [1, 2, 4, 8, 16],
    "genes": 2000,
    "contributors": [1, 2, 3],
    "expressed": 10.0,
    "by_site": ["airway", "simulated-400x6x3", "simulated-400x12x3", "simulated-400x30x3", "simulated-400x100x5"],
    "tried": 60,
    "unknowns": 60_000,
}
QUICK: Configuration = {
    # of fewer genes all X'WX is asked for
    "set": "simulated-300x6x3",
    "cells": [1, 2],
    "genes": 300,
    "contributors": [1, 3],
    "by_site": ["simulated-300x6x3"],
    "tried": 8,
}


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """The attacks, each with and without its rule."""
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
    steps.append(Measurement("by site/shared", partial(shared, configuration)))
    steps += [
        Measurement(f"by site/own/{name}", partial(own_columns, name, configuration))
        for name in configuration["by_site"]
    ]
    return steps


# --- reading the rows --------------------------------------------------------------------------------------------


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """A panel per attack, two for the design by site."""
    figure, axes = panels(3, 2, width=12.0, height=12.6)
    _draw_summand(axes[0, 0], rows[rows["attack"] == "summand"])
    _draw_difference(axes[0, 1], rows[rows["attack"] == "difference"])
    _draw_lonely(axes[1, 0], rows[rows["attack"] == "lonely genes"])
    _draw_layers(axes[1, 1], rows[rows["attack"] == "layers"])
    _draw_multisets(axes[2, 0], rows[rows["attack"] == "multiset"])
    _draw_attribution(axes[2, 1], rows[rows["attack"] == "attribution"])
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
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(
        xlabel="IRLS round after which a site leaves",
        ylabel=_ERROR,
        title="B  sums with and without a site (%: exact)",
    )
    legend(axes, loc="lower left")


def _draw_lonely(axes: Any, rows: pd.DataFrame) -> None:
    labels = [str(x) for x in rows["x"]]
    colours = [VERMILION if rule == NO_RULE else BLUE for rule in rows["rule"]]
    bars = axes.bar(labels, rows["guesses"] * rows["exact"], color=colours)
    axes.bar_label(bars, labels=[f"{n:,.0f}" for n in rows["guesses"] * rows["exact"]])
    axes.set_ylim(bottom=0)
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
    for at, cell in enumerate(lines(rows)):
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


EVERY, ROUGHLY = MEANS


def _draw_multisets(axes: Any, rows: pd.DataFrame) -> None:
    exact = rows[rows["outcome"].str.endswith(EVERY)]
    for view, colour, marker in zip(BINS, (VERMILION, ORANGE, GREEN, BLUE), "os^D", strict=True):
        mine = exact[exact["view"] == view].sort_values("x")
        axes.plot(mine["x"], mine["exact"], color=colour, marker=marker, label=f"mean count {view}", clip_on=False)
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(rows["x"])), [f"{x}" for x in sorted(set(rows["x"]))])
    axes.minorticks_off()
    axes.set(
        xlabel="samples (8: airway; else simulated)",
        ylabel="genes whose counts are recovered\nas a multiset, of those tried",
        ylim=(0, 1.02),
        title="E  own columns at home, every fitted mean given",
    )
    legend(axes, loc="upper right")


def _draw_attribution(axes: Any, rows: pd.DataFrame) -> None:
    largest = rows[rows["rule"] == NO_RULE]["x"].max()
    rows = rows[rows["x"] == largest]
    bars = (
        ("shared columns, opened sums alone", VERMILION, rows["rule"] == NO_RULE),
        ("own columns, means given by site", ORANGE, rows["outcome"].str.endswith(f"{EVERY}; {TOLD}")),
        ("the same to three digits", SKY, rows["outcome"].str.endswith(f"{ROUGHLY}; {TOLD}")),
        ("own columns, means given, not whose", BLUE, rows["outcome"].str.endswith(f"{EVERY}; {UNTOLD}")),
        ("true counts, sites dealt at random", GREY, rows["outcome"].str.endswith(f"{EVERY}; {CHANCE}")),
    )
    for at, (label, colour, chosen) in enumerate(bars):
        share = rows[chosen].set_index("view")["exact"].reindex(list(BINS))
        axes.bar([place + 0.17 * (at - 2) for place in range(len(BINS))], share, 0.16, color=colour, label=label)
    axes.set_xticks(range(len(BINS)), list(BINS))
    axes.set(
        xlabel="mean count of a gene",
        ylabel="counts recovered and attributed\nto the right sample",
        ylim=(0, 1.75),
        yticks=[0, 0.25, 0.5, 0.75, 1.0],
        title=f"F  design by site, {largest} samples",
    )
    legend(axes, loc="upper right")


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
        f"{published.iloc[-1]:,.0f} with it; {_asked_again(rows)}. {_by_site(rows)}"
    )


def _by_site(rows: pd.DataFrame) -> str:
    """What a design by site gives, with all columns summed and with own ones at home."""
    whose = rows[rows["attack"] == "attribution"]
    summed = whose[whose["rule"] == NO_RULE]
    n = int(summed["x"].max())
    share = (summed["exact"] * summed["guesses"]).sum() / summed["guesses"].sum()
    own = whose[(whose["rule"] == OWN) & (whose["x"] == n) & (whose["view"] == "2 to 10")]
    told, untold, chance = (
        float(own[own["outcome"].str.endswith(f"{EVERY}; {how}")]["exact"].iloc[0]) for how in (TOLD, UNTOLD, CHANCE)
    )
    exact = rows[(rows["attack"] == "multiset") & rows["outcome"].str.endswith(EVERY)].sort_values("x")
    pooled = "; ".join(
        f"mean {view}: " + ", ".join(f"{cell.exact:.0%} (n = {cell.x})" for cell in mine.itertuples())
        for view in BINS
        if (mine := exact[exact["view"] == view])["exact"].max() > 0
    )
    return (
        f"A design by site with all columns summed gives {share:.1%} of all counts of {n} samples, each with its "
        f"sample; with own columns at home, whoever is given every fitted mean recovers a gene's counts as a multiset "
        f"in so many genes: {pooled}; at n = {n}, means 2 to 10, he then has {told:.0%} of counts at the right sample "
        f"if he is told which site each mean is of, and {untold:.0%} if not, where chance gives {chance:.0%}."
    )


def _asked_again(rows: pd.DataFrame) -> str:
    """What a site does when it is asked again without one of the others."""
    told = {
        row.view: "answers" if row.outcome == "answered" else "refuses"
        for row in lines(rows[rows["attack"] == "second cohort"])
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
