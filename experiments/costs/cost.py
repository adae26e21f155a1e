"""What a whole DESeq2 by secure sums costs beside FedPyDESeq2's, and beside PyDESeq2's on pooled counts.

Three bars were set before measuring: so many times less CPU and so many times fewer bytes up than FedPyDESeq2, and
less CPU than PyDESeq2. CPU is that of all parties together. Ours is the whole call, opening the counts and writing the
report included, and so is PyDESeq2's; FedPyDESeq2's is that of its nodes' tasks alone, without opening files and
without writing messages. Its bytes are those of the shared states that its aggregator is given, as substrafl pickles
them: a simulation hands them on in memory. Which genes are called significant is kept for each, as bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.costs.cost_fits import WAYS, cohort, unpacked
from experiments.groundwork.reading import lines, parts
from experiments.groundwork.record import Configuration, Experiment, Measurement, Row
from secirls.agreement.ledger import MEGABYTE
from secirls.outputs.pictures.canvas import BLUE, GREEN, ORANGE, Figure, legend, panels

OURS, POOLED, RIVAL = "secirls", "PyDESeq2", "FedPyDESeq2"
CPU_BAR, BYTES_BAR = 15.0, 10.0
"""How many times less CPU, and how many times fewer bytes, than FedPyDESeq2."""

CONFIGURATION: Configuration = {
    "seed": 7,
    "engine": "local",
    # name of the set, design columns
    "fits": [["hapmap_lcl", 2], ["simulated-20000x300x3", 2], ["simulated-20000x300x3", 5]],
    # ours before, between and after the others, whose neighbours may be others
    "order": [OURS, POOLED, OURS, RIVAL, OURS],
}
QUICK: Configuration = {
    "fits": [["simulated-200x48x3", 3]],
    "order": [OURS, POOLED, RIVAL],
}
COLOURS: Mapping[str, str] = {OURS: BLUE, POOLED: GREEN, RIVAL: ORANGE}


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """The fits of a set one after another, in the order that is given."""
    order = configuration["order"]
    return [
        Measurement(
            f"{name}/{params}/{way}/{order[:place].count(way)}",
            partial(measure, name, params, way, order[:place].count(way), configuration),
        )
        for name, params in configuration["fits"]
        for place, way in enumerate(order)
    ]


def measure(name: str, params: int, way: str, repeat: int, configuration: Configuration) -> Iterator[Row]:
    """One fit, one row."""
    data = cohort(name, params, configuration["seed"])
    told = WAYS[way](data)
    yield {
        "set": name,
        "params": params,
        "genes": data.whole.n_vars,
        "samples": data.whole.n_obs,
        "sites": len(data.sites()),
        "way": way,
        "version": told["version"],
        "repeat": repeat,
        "rounds": told.get("rounds", 0),
        "seconds": round(told.get("seconds", 0.0), 4),
        "cpu_seconds": round(told.get("cpu_seconds", 0.0), 4),
        "bytes_up": told.get("bytes_up", 0),
        "bytes_down": told.get("bytes_down", 0),
        "significant": told["significant"],
    }


# --- reading the rows --------------------------------------------------------------------------------------------

_COSTS = ["rounds", "seconds", "cpu_seconds", "bytes_up", "bytes_down"]


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Costs by set, number of design columns and way; medians over repeats."""
    return rows.groupby(["set", "params", "way"], sort=False)[_COSTS].median()


def times(rows: pd.DataFrame, cost: str, way: str) -> list[float]:
    """How many times as much another way takes as ours, for every set where both were measured."""
    costs = medians(rows)[cost]
    ways = costs.index.get_level_values("way")
    if way not in ways:
        return []
    return list((costs.xs(way, level="way") / costs.xs(OURS, level="way")).dropna())


def differing(rows: pd.DataFrame) -> pd.DataFrame:
    """How many genes a way calls significant that PyDESeq2 does not (more), and the other way round (fewer)."""
    found = []
    for (name, params), mine in parts(rows[rows["repeat"] == 0], ["set", "params"]):
        genes = {cell.way: unpacked(cell.significant, cell.genes) for cell in lines(mine)}
        pooled = genes.get(POOLED)
        if pooled is None:
            continue
        for way, marked in genes.items():
            more, fewer = int((marked & ~pooled).sum()), int((pooled & ~marked).sum())
            told = {"way": way, "significant": int(marked.sum()), "more": more, "fewer": fewer}
            found.append({"set": name, "params": params, **told})
    return pd.DataFrame(found)


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """CPU, bytes and rounds by set and way, and the genes called otherwise than by PyDESeq2."""
    table, sets = medians(rows), list(dict.fromkeys(zip(rows["set"], rows["params"], strict=True)))
    figure, axes = panels(1, 4, width=14.0, height=1.0 * len(sets) + 1.8, sharey=True)
    cpu, sent, rounds, calls = axes[0]
    for axis, cost, unit, label in (
        (cpu, "cpu_seconds", 1.0, "CPU s, all parties"),
        (sent, "bytes_up", MEGABYTE, "MB up, all sites"),
        (rounds, "rounds", 1.0, "rounds"),
    ):
        costs = table[cost][table[cost] > 0] / unit
        for place, cell in enumerate(sets):
            for way in COLOURS:
                if (*cell, way) in costs.index:
                    _bar(axis, place, way, float(costs[(*cell, way)]))
        axis.set(xscale="log", xlabel=label, xlim=(costs.min() / 3, costs.max() * 6))
    for line in lines(differing(rows)):
        beside = "" if line.way == POOLED else f": {line.more} more, {line.fewer} fewer"
        text = f"{line.significant:,}{beside}"
        calls.text(0.0, sets.index((line.set, line.params)) + _OFFSETS[line.way], text, va="center", fontsize=9.5)
    calls.set(xlim=(0, 1), xticks=[], xlabel=f"significant genes\n(beside {POOLED}'s)")
    calls.spines[["left", "bottom"]].set_visible(False)
    cpu.set_ylim(len(sets) - 0.5, -0.5)
    cpu.set_yticks(range(len(sets)), [_title(*cell) for cell in sets])
    for axis in axes[0]:
        axis.tick_params(axis="y", length=0)
    handles, labels = cpu.get_legend_handles_labels()
    legend(calls, handles=handles, labels=labels, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return {"cost": figure}


_OFFSETS = {OURS: -0.27, POOLED: 0.0, RIVAL: 0.27}
_NAMES = {OURS: "secirls, pairwise masks", POOLED: "PyDESeq2, counts pooled", RIVAL: "FedPyDESeq2, simulated"}


def _bar(axes: Any, place: int, way: str, value: float) -> None:
    label = _NAMES[way] if place == 0 else "_another"
    axes.barh(place + _OFFSETS[way], value, height=0.25, color=COLOURS[way], label=label)
    text = f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
    axes.text(value, place + _OFFSETS[way], f" {text}", va="center", fontsize=9.5)


def _title(name: str, params: int) -> str:
    if not name.startswith("simulated-"):
        return name
    genes, samples, sites = map(int, name.removeprefix("simulated-").split("x"))
    return f"simulated, p = {params}\n{genes:,} x {samples}, {sites} sites"


def answer(rows: pd.DataFrame) -> str:
    """The ratios, whether each bar is met, and who calls which genes significant."""
    cpu, sent, rounds = (times(rows, cost, RIVAL) for cost in ("cpu_seconds", "bytes_up", "rounds"))
    beside = "FedPyDESeq2 was not measured"
    if cpu:
        beside = (
            f"FedPyDESeq2 takes {_span(cpu)} times the CPU ({_met(cpu, CPU_BAR)}), {_span(sent)} times the bytes "
            f"({_met(sent, BYTES_BAR)}) and {_span(rounds)} times the rounds"
        )
    pooled = times(rows, "cpu_seconds", POOLED)
    return (
        f"Of a whole DESeq2 by pairwise masks {beside}; PyDESeq2 on pooled counts takes {_span(pooled)} times the CPU "
        f"({_met(pooled, 1.0)}); {'; '.join(_calls(rows))}."
    )


def _calls(rows: pd.DataFrame) -> Iterator[str]:
    """Each set's significant genes, and who differs."""
    for (name, params), mine in parts(differing(rows), ["set", "params"]):
        pooled = int(mine.loc[mine["way"] == POOLED, "significant"].iloc[0])
        others = [f"{line.way} {line.more} more and {line.fewer} fewer" for line in lines(mine) if line.way != POOLED]
        title = _title(name, params).replace("\n", ", ")
        yield f"on {title}, {POOLED} calls {pooled:,} genes, {', '.join(others)}"


def _met(ratios: Sequence[float], bar: float) -> str:
    """Whether a bar is met on all sets."""
    missed = int(np.sum(np.asarray(ratios) < bar))
    return f"at least {bar:g} wanted: {'met' if not missed else f'missed on {missed} of {len(ratios)}'}"


def _span(ratios: Sequence[float]) -> str:
    low, high = f"{min(ratios):.2g}", f"{max(ratios):.2g}"
    return low if low == high else f"{low} to {high}"


EXPERIMENT = Experiment(
    name="cost",
    question="What does a whole DESeq2 cost beside FedPyDESeq2's, and beside PyDESeq2's on pooled counts?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
