"""What secrecy costs a whole DESeq2, by stage, party and verb, beside the same fit in the clear.

Every measurement is one whole fit; its rows are the ledger's, summed over the rounds of each stage, with waiting left
out (it is other parties' work). Offline is what needs no data: hellos, keys met, and Paillier's obfuscators
(``precompute``), which a site on Ray makes while it waits. Making a Paillier key is booked by nobody: it happens before
the parties meet, once. Keys are real ones of ``key_bits``, made in the run. ``verify`` is what sites spend on checking
the census that their rules are about: they trust the aggregator for the rest, and what they pay for not doing so is the
experiment *distrust*. What no verb is booked for (opening files, joining, looking into the rules
before each answer, tests and tables) is a stage of its own, and in no total. CPU seconds are compared, because walls
have neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from experiments.costs import overhead_own
from experiments.costs.overhead_fits import CELL, MEETING, PAIRWISE, PLAIN, account, booked, load
from experiments.groundwork.reading import lines
from experiments.groundwork.record import Configuration, Experiment, Measurement, Row
from secirls.agreement.ledger import MEGABYTE
from secirls.outputs.pictures.canvas import (
    BLACK,
    BLUE,
    BROWN,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    Figure,
    legend,
    panels,
)
from secirls.outputs.pictures.rounds import OFFLINE_VERBS, VERB_COLOURS

TRUSTING = "pairwise without consistency"
"""Pairwise as it was before sites saw who signed for the set of present ones: what that costs, by the difference."""
_ALL = (PLAIN, "additive", TRUSTING, PAIRWISE, "paillier", "paillier-threshold")
_IN_THE_RING = [PLAIN, "additive", TRUSTING, PAIRWISE]

STAGE_COLOURS: Mapping[str, str] = {
    MEETING: "#DDDDDD",
    "census": BROWN,
    "size factors": YELLOW,
    "cells": PURPLE,
    "moments": GREY,
    "means": SKY,
    "profile": BLUE,
    "handing out": "#B8D4E8",
    "coefficients": GREEN,
    "own coefficients": "#A5D6B7",
    "outliers": ORANGE,
    "refit": VERMILION,
}
"""The stages of DESeq2 in their order, after meeting each other."""

CONFIGURATION: Configuration = {
    "seed": 1,
    "engine": "local",
    "repeats": 3,
    "key_bits": 2048,
    # name of the set, every how many genes, protocols
    "fits": [
        ["simulated-20000x48x4", 1, _IN_THE_RING],
        ["simulated-20000x48x4", 80, ["plain", "paillier", "paillier-threshold"]],
        ["airway", 1, _IN_THE_RING],
        ["geuvadis_tsi", 1, _IN_THE_RING],
        ["tcga_brca", 1, _IN_THE_RING],
    ],
    # minutes each, where plain takes a fraction of a second: measured in the first repeat alone
    "once": ["paillier", "paillier-threshold"],
    # pairwise, each with own columns and with shared ones, once; pasilla's two sites are fewer than a sum needs
    "own_columns": {
        "design": "~ site + condition",
        "repeats": 1,
        "fits": [[name, 1] for name in ("airway", "bottomly", "hapmap_lcl", "geuvadis_tsi", "tcga_brca")],
    },
}
QUICK: Configuration = {
    "repeats": 1,
    "fits": [["simulated-300x12x3", 1, _IN_THE_RING], ["simulated-300x12x3", 10, ["plain", "paillier"]]],
    "own_columns": {"design": "~ site + condition", "repeats": 1, "fits": [["simulated-300x12x3", 1]]},
}


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """One fit per repeat, set and protocol; repeats outermost and protocols in turn first, so that no one gains."""
    protocols_beside_plain = [
        Measurement(
            f"{name}/{every}/{protocol}/{repeat}",
            partial(measure, name, every, protocol, repeat, configuration),
        )
        for repeat in range(configuration["repeats"])
        for name, every, protocols in configuration["fits"]
        for protocol in [*protocols[repeat % len(protocols) :], *protocols[: repeat % len(protocols)]]
        if repeat == 0 or protocol not in configuration["once"]
    ]
    return [*protocols_beside_plain, *overhead_own.plan(configuration)]


def measure(name: str, every: int, protocol: str, repeat: int, configuration: Configuration) -> Iterator[Row]:
    """One fit; one row per stage, party and verb, and one for all that is not booked."""
    load()
    if protocol.startswith("paillier"):
        load(protocol="paillier")
    return account(
        name,
        every,
        configuration["seed"],
        protocol,
        repeat,
        engine=configuration["engine"],
        protocol=PAIRWISE if protocol == TRUSTING else protocol,
        consistency=protocol != TRUSTING,
        key_bits=configuration["key_bits"],
    )


def by_stage(rows: pd.DataFrame, *within: str) -> pd.DataFrame:
    """CPU seconds and megabytes by stage (and what else is named), all parties together: the medians over repeats."""
    told = booked(rows)
    told = told.assign(sent=(told["bytes_up"] + told["bytes_down"]) / MEGABYTE)
    index, costs = [*CELL, "stage", "rounds", "values", *within], ["cpu_seconds", "sent"]
    sums = told.groupby([*index, "repeat"], sort=False)[costs].sum().reset_index()
    return sums.groupby(index, sort=False)[costs].median().reset_index()


def totals(rows: pd.DataFrame) -> pd.DataFrame:
    """Per set and protocol: CPU seconds in all, of the census with its checks, of opening sums; megabytes; medians."""
    told = booked(rows)
    rules = (told["stage"] == "census") | (told["verb"] == "verify")
    marked = told.assign(
        cpu=told["cpu_seconds"],
        rules=told["cpu_seconds"].where(rules, 0.0),
        opening=told["cpu_seconds"].where(told["verb"].isin(["combine", "assist", "open"]), 0.0),
        sent=(told["bytes_up"] + told["bytes_down"]) / MEGABYTE,
    )
    columns = ["cpu", "rules", "opening", "sent"]
    sums = marked.groupby([*CELL, "repeat"], sort=False)[columns].sum().reset_index()
    return sums.groupby(CELL, sort=False)[columns].median().reset_index()


def against_plain(rows: pd.DataFrame) -> pd.DataFrame:
    """The totals beside plain's on the same genes: ratios of CPU and of bytes."""
    sums = totals(rows)
    plain = sums[sums["protocol"] == PLAIN].set_index(["set", "every"])
    index = pd.MultiIndex.from_frame(sums[["set", "every"]])
    return sums.assign(
        cpu_ratio=sums["cpu"].to_numpy() / plain["cpu"].reindex(index).to_numpy(),
        bytes_ratio=sums["sent"].to_numpy() / plain["sent"].reindex(index).to_numpy(),
    )


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """The headline, every set beside plain, and own columns beside shared ones."""
    ways = rows[~overhead_own.of_part(rows)]
    return {
        "overhead": headline(ways),
        "overhead-by-set": by_set(ways),
        "overhead-own-columns": overhead_own.figure(rows),
    }


def headline(rows: pd.DataFrame) -> Figure:
    """Cost by stage, stacked by verb, one panel per protocol (first set)."""
    first = rows[rows["set"] == rows["set"].iloc[0]]
    costs = by_stage(first, "verb")
    shown = [protocol for protocol in _ALL if protocol in set(costs["protocol"])]
    stages = [stage for stage in STAGE_COLOURS if stage in set(costs["stage"])]
    figure, axes = panels(1, len(shown), width=2.7 * len(shown) + 3.0, height=0.42 * len(stages) + 2.0, sharey=True)
    largest: dict[int, float] = {}
    every = {protocol: int(costs[costs["protocol"] == protocol]["every"].min()) for protocol in shown}
    for protocol, axis in zip(shown, axes[0], strict=True):
        mine = costs[(costs["protocol"] == protocol) & (costs["every"] == every[protocol])]
        _by_verb(axis, mine, stages)
        axis.set_title(f"{protocol.replace(' without', chr(10) + 'without')}\n{int(mine['genes'].iloc[0]):,} genes")
        axis.set_xlabel("CPU s, all parties" + (", own scale" if protocol.startswith("paillier") else ""))
        largest[every[protocol]] = max(largest.get(every[protocol], 0.0), axis.get_xlim()[1])
    for protocol, axis in zip(shown, axes[0], strict=True):
        if not protocol.startswith("paillier"):
            axis.set_xlim(0, largest[every[protocol]])
    asked = costs[(costs["protocol"] == shown[-1]) | (costs["protocol"] == PAIRWISE)].drop_duplicates("stage")
    asked = asked.set_index("stage")
    axes[0, 0].set_yticks(range(len(stages)), [_asked(stage, asked) for stage in stages])
    axes[0, 0].set_ylim(len(stages) - 0.5, -0.5)
    _one_legend(axes[0, -1], axes[0])
    return figure


def _asked(stage: str, asked: pd.DataFrame) -> str:
    """A stage's name, rounds, and values: a gene, or in all where they are fewer than genes."""
    if stage not in asked.index or not asked.loc[stage, "rounds"]:
        return stage
    line: Any = asked.loc[stage]
    rounds, values, genes = (int(line[name]) for name in ("rounds", "values", "genes"))
    told = f"{values / genes:.3g} a gene" if values >= genes else f"{values:,} value{'s' * (values > 1)}"
    return f"{stage} ({rounds} round{'s' * (rounds > 1)}, {told})"


def _by_verb(axis: Any, costs: pd.DataFrame, stages: Sequence[str]) -> None:
    """A bar per stage, stacked by verb; what is offline is hatched."""
    left = pd.Series(0.0, index=list(stages))
    sums = costs.pivot_table(index="stage", columns="verb", values="cpu_seconds", aggfunc="sum").fillna(0.0)
    for verb, colour in VERB_COLOURS.items():
        if verb in sums:
            width = sums[verb].reindex(list(stages), fill_value=0.0)
            hatch: dict[str, Any] = {"hatch": "////", "edgecolor": "white"} if verb in OFFLINE_VERBS else {}
            axis.barh(range(len(stages)), width, left=left, color=colour, label=verb, height=0.8, linewidth=0, **hatch)
            left = left + width


def _one_legend(place: Any, every: Sequence[Any]) -> None:
    """Every verb that any panel shows, once, right of the last panel; offline ones say so."""
    handles = {label: handle for axes in every for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    verbs = [verb for verb in VERB_COLOURS if verb in handles]
    labels = [f"{verb} (offline)" if verb in OFFLINE_VERBS else verb for verb in verbs]
    legend(place, handles=[handles[verb] for verb in verbs], labels=labels, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def by_set(rows: pd.DataFrame) -> Figure:
    """CPU and bytes of every set and protocol as multiples of plain's, stacked by stage; absolute values beside."""
    sums, costs = against_plain(rows), by_stage(rows).set_index([*CELL, "stage"])[["cpu_seconds", "sent"]]
    labels = [f"{_title(cell.set)}\n{cell.genes:,} genes, {cell.protocol}" for cell in lines(sums)]
    place = range(len(sums))
    figure, ((left, right),) = panels(1, 2, width=12.0, height=0.45 * len(sums) + 2.0, sharey=True)
    cells = pd.MultiIndex.from_frame(sums[CELL])
    for axes, cost, ratio in ((left, "cpu_seconds", "cpu_ratio"), (right, "sent", "bytes_ratio")):
        edge = _WIDEST * 1.35  # what runs out of the picture is drawn in proportion
        parts = costs[cost].unstack("stage", fill_value=0).reindex(cells)  # noqa: PD010 - an index, not a table
        parts = parts.mul((sums[ratio].where(sums[ratio] <= _WIDEST, edge)).to_numpy() / parts.sum(axis=1), axis=0)
        start = 0.0 * parts.sum(axis=1).to_numpy()
        for stage in [stage for stage in STAGE_COLOURS if stage in parts]:
            axes.barh(place, parts[stage], left=start, color=STAGE_COLOURS[stage], label=stage)
            start = start + parts[stage].to_numpy()
        axes.axvline(1.0, color=BLACK, linewidth=0.8)
        axes.set_xlim(0, edge)
    for at, cell in enumerate(lines(sums)):
        _beside(left, at, cell.cpu_ratio, f"{cell.cpu:.2f} s")
        _beside(right, at, cell.bytes_ratio, f"{cell.sent:.1f} MB")
    left.set(xlabel="CPU time, whole fit, plain = 1", yticks=list(place), yticklabels=labels)
    right.set_xlabel("bytes, whole fit, plain = 1")
    left.set_ylim(len(sums) - 0.4, -0.6)
    left.tick_params(axis="y", labelsize=9)
    legend(right, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


_WIDEST = 3.0


def _beside(axes: Any, at: int, ratio: float, absolute: str) -> None:
    """The value at a bar's end, on a white ground where the bar runs out of the picture."""
    beyond = ratio > _WIDEST
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2.0} if beyond else None
    text = f"×{ratio:.0f} →  {absolute}" if beyond else f" ×{ratio:.2f}  {absolute}"
    axes.text(min(ratio, _WIDEST), at, text, va="center", fontsize=9, bbox=box)


def _title(name: str) -> str:
    if not name.startswith("simulated-"):
        return name
    _, samples, sites = name.removeprefix("simulated-").split("x")
    return f"simulated, {samples} samples, {sites} sites"


def answer(rows: pd.DataFrame) -> str:
    """How much more than plain, in CPU and bytes, over all sets; consistency's part and the rules'; own columns."""
    saved, rows = overhead_own.answer(rows), rows[~overhead_own.of_part(rows)]
    sums = against_plain(rows)
    told = []
    for protocol in _ALL[1:]:
        mine = sums[sums["protocol"] == protocol]
        if not mine.empty:
            told.append(
                f"{protocol} {_span(mine['cpu_ratio'])} the CPU time and {_span(mine['bytes_ratio'])} the bytes"
            )
    return (
        f"A whole DESeq2 costs, in multiples of the same fit in the clear: {'; '.join(told)}. Of pairwise's CPU time "
        f"consistency is {_shares(_consistency(sums))}, and the census with all checks of it, which the sites' rules "
        f"need, {_shares(_rules(sums))}; of what pairwise adds to plain, {_added(rows)}. {saved}"
    )


def _of(sums: pd.DataFrame, protocol: str) -> pd.DataFrame:
    return sums[sums["protocol"] == protocol].set_index(["set", "every"])


def _consistency(sums: pd.DataFrame) -> pd.Series[float]:
    """What consistency adds to opening sums, in parts of pairwise's CPU time, by set; all else is the same with it."""
    whole, without = _of(sums, PAIRWISE), _of(sums, TRUSTING)
    return ((whole["opening"] - without["opening"]) / whole["cpu"]).dropna()


def _rules(sums: pd.DataFrame) -> pd.Series[float]:
    """The census and the checks of it, in parts of pairwise's CPU time, by set."""
    mine = _of(sums, PAIRWISE)
    return mine["rules"] / mine["cpu"]


def _added(rows: pd.DataFrame) -> str:
    """The three stages in which pairwise adds most to plain, over all sets."""
    costs = by_stage(rows).set_index(["protocol", "set", "every", "stage"])["cpu_seconds"]
    more = (costs[PAIRWISE] - costs[PLAIN]).dropna()
    by_name = more.groupby("stage").sum().sort_values(ascending=False) / more.sum()
    return ", ".join(f"{share:.0%} is in {stage}" for stage, share in by_name.head(3).items())


def _shares(parts: pd.Series[float]) -> str:
    low, high = f"{100 * min(parts):.2g}%", f"{100 * max(parts):.2g}%"
    return low if low == high else f"{low} to {high}"


def _span(ratios: Any) -> str:
    low, high = f"{min(ratios):.3g}", f"{max(ratios):.3g}"
    return f"{low}×" if low == high else f"{low}× to {high}×"


EXPERIMENT = Experiment(
    name="overhead",
    question="What does secrecy cost a whole DESeq2, by stage, party and verb?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
