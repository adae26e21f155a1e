"""How the cost of one IRLS round grows with sites, genes, parameters and samples.

One round is one secure sum with the real messages of all parties in this process, keys made for this one round. A
site's own statistics are measured once, since all sites would measure the same; CPU seconds, medians over repeats. A
hello counts once up and once down to every other site.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from experiments.groundwork.record import Configuration, Experiment, Measurement, Row
from protocols import run
from protocols.sessions.settings import Settings
from protocols.table import Table
from secirls.agreement.ledger import MEGABYTE
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.inputs.simulate import simulate
from secirls.numerics.regression import kernels
from secirls.outputs.pictures.canvas import BLUE, GREEN, ORANGE, VERMILION, Figure, legend, panels

T = TypeVar("T")

CONFIGURATION: Configuration = {
    "seed": 5,
    "engine": "local",
    "protocol": "pairwise",
    "repeats": 3,
    "start": {"sites": 5, "genes": 2000, "params": 2, "samples": 20},
    "vary": {
        "sites": [3, 6, 12, 25, 50, 100, 200, 500, 1000],
        "genes": [500, 2000, 8000, 32000],
        "params": [2, 4, 8],
        "samples": [10, 40, 160, 640],
    },
    "few": {"sites": 500},
    "once_above": {"sites": 50},
}
QUICK: Configuration = {
    "repeats": 1,
    "start": {"sites": 3, "genes": 100, "params": 2, "samples": 8},
    "vary": {"sites": [3, 5], "genes": [50, 100], "params": [2, 3], "samples": [8, 16]},
    "few": {"sites": 50},
}

STAGES = {
    "statistics": ("statistics, one site", GREEN),
    "offline": ("keys, per site", ORANGE),
    "protect": ("protect, per site", BLUE),
    "aggregator": ("combine and open, aggregator", VERMILION),
}


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """One round per repeat, varied size and value; large federations are measured once."""
    return [
        Measurement(f"{varied}/{value}/{repeat}", partial(measure, varied, value, repeat, configuration))
        for repeat in range(configuration["repeats"])
        for varied, values in configuration["vary"].items()
        for value in values
        if repeat == 0 or value <= configuration["once_above"].get(varied, value)
    ]


def _cpu(call: Callable[[], T]) -> tuple[float, T]:
    before = time.process_time()
    result = call()
    return time.process_time() - before, result


def measure(varied: str, value: int, repeat: int, configuration: Configuration) -> Iterator[Row]:
    """One round; one row per stage."""
    size = {**configuration["start"], varied: value}
    if varied in configuration["few"]:
        size["genes"] = configuration["few"][varied]
    made = simulate(size["genes"], size["samples"], size["params"] - 1, continuous=True, seed=configuration["seed"])
    query = IrlsQuery(np.ones(size["genes"], dtype=bool), made.beta, 0.5)
    samples = query.apply(made.samples)
    kernels.warm_up()
    compute, arrays = _cpu(lambda: query.summands(samples, size["sites"]))
    layout = query.layout(size["sites"])
    encode, vector = _cpu(lambda: layout.encode(arrays))
    names = [f"site{number:03d}" for number in range(size["sites"])]
    table = run.sit_down(configuration["protocol"], names, Settings(rounds_per_batch=1))
    spent = timed(table)
    run.meet(table)
    offline = spent["hello"] + spent["meet"]
    total = run.add_up(table, dict.fromkeys(names, vector))
    if total.parties != tuple(names):
        raise RuntimeError("somebody is missing from the sum")
    sent = sum(len(message.data) for message in table.messages)
    sent += (size["sites"] - 1) * sum(len(message.data) for message in table.messages if message.leg == "hello")
    of_site = {"offline": offline, "protect": encode * size["sites"] + spent["protect"] + spent["assist"]}
    stages = {"statistics": compute, **{name: cpu / size["sites"] for name, cpu in of_site.items()}}
    stages["aggregator"] = spent["combine"] + spent["open"]
    for stage, seconds in stages.items():
        told = {"varied": varied, "value": value, "repeat": repeat, **size, "stage": stage}
        yield {**told, "cpu_seconds": round(seconds, 7), "bytes_per_site": sent / size["sites"]}


def timed(table: Table) -> dict[str, float]:
    """Wrap the verbs of everybody at a table; gives CPU seconds by verb, all parties together."""
    spent = dict.fromkeys(("hello", "meet", "protect", "assist", "combine", "open"), 0.0)

    def wrapped(owner: Any, verb: str) -> None:
        call = getattr(owner, verb)

        def timing(*given: Any, **named: Any) -> Any:
            seconds, result = _cpu(lambda: call(*given, **named))
            spent[verb] += seconds
            return result

        setattr(owner, verb, timing)

    for party in table.parties.values():
        for verb in ("hello", "meet", "protect", "assist"):
            wrapped(party, verb)
    for verb in ("combine", "open"):
        wrapped(table.collector, verb)
    return spent


# --- reading the rows --------------------------------------------------------------------------------------------


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Median over repeats by what was varied, its value and the stage."""
    columns = ["cpu_seconds", "bytes_per_site"]
    return rows.groupby(["varied", "value", "stage"], sort=False)[columns].median().reset_index()


def power_law(values: Any, costs: Any) -> tuple[float, Any, Any]:
    """Cost as a power of size: least squares on logarithms of the upper half, where fixed costs have faded.

    Gives the exponent, the sizes fitted and the fitted costs.
    """
    start = max(0, min(len(values) // 2, len(values) - 2))
    sizes = np.asarray(values, dtype=np.float64)[start:]
    exponent, constant = np.polyfit(np.log(sizes), np.log(np.maximum(np.asarray(costs)[start:], 1e-9)), 1)
    return float(exponent), sizes, np.exp(constant) * sizes**exponent


def _digits(exponent: float) -> str:
    return f"{round(exponent, 1) + 0.0:.1f}"


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """Cost against each size on log axes, fitted slopes dashed and in the legends; below it bytes."""
    table = medians(rows)
    sizes = list(dict.fromkeys(table["varied"]))
    figure, axes = panels(2, len(sizes), width=4.0 * len(sizes), height=7.4, height_ratios=[2, 1], sharex="col")
    for column, varied in enumerate(sizes):
        above, below = axes[:, column]
        mine = table[table["varied"] == varied]
        for stage, (label, colour) in STAGES.items():
            line = mine[mine["stage"] == stage]
            _draw(above, line["value"], 1e3 * line["cpu_seconds"].clip(lower=1e-6), colour, f"{label}: ")
        line = mine[mine["stage"] == "protect"]
        _draw(below, line["value"], line["bytes_per_site"] / MEGABYTE, BLUE, "")
        ticks = sorted(set(line["value"]))
        below.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45 if len(ticks) > 5 else 0)
        below.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        genes = rows[rows["varied"] == varied]["genes"]
        fixed = "" if varied == "genes" else f" ({genes.iloc[0]:,} genes)"
        below.set_xlabel({"samples": "samples per site", "params": "design columns"}.get(varied, varied) + fixed)
        low, high = _decades(above)
        above.set_ylim(low, high * (high / low) ** 0.5)
        legend(above, loc="upper left", fontsize=9)
        _decades(below)
        legend(below, loc="upper left")
    axes[0, 0].set_ylabel("CPU ms, one round")
    axes[1, 0].set_ylabel("MB per site, up and down")
    return {"scaling": figure}


def _draw(axes: Any, sizes: Any, costs: Any, colour: str, label: str) -> None:
    exponent, fitted, law = power_law(sizes, costs)
    axes.plot(sizes, costs, color=colour, marker="o", linestyle="none", label=f"{label}slope {_digits(exponent)}")
    axes.plot(sizes, costs, color=colour, linewidth=0.8, alpha=0.5)
    axes.plot(fitted, law, color=colour, linestyle="--")
    axes.set_xscale("log")
    axes.set_yscale("log")


def _decades(axes: Any) -> tuple[float, float]:
    """Widen the y axis to whole decades, so that it has labels."""
    low, high = axes.get_ylim()
    ends = 10.0 ** np.floor(np.log10(low)), 10.0 ** np.ceil(np.log10(high))
    axes.set_ylim(*ends)
    return ends


def answer(rows: pd.DataFrame) -> str:
    """Exponents in the number of sites, genes, parameters and samples."""
    table = medians(rows)
    told = []
    for varied in dict.fromkeys(table["varied"]):
        mine = table[table["varied"] == varied]
        parts = []
        for stage, word in (("statistics", "statistics"), ("protect", "protection"), ("aggregator", "aggregation")):
            line = mine[mine["stage"] == stage]
            parts.append(f"{word} {_digits(power_law(line['value'], line['cpu_seconds'])[0])}")
        told.append(f"{varied}: {', '.join(parts)}")
    return (
        "CPU time of a round as a power of the size, from the upper half of each range (statistics and protection per "
        f"site): {'; '.join(told)}."
    )


EXPERIMENT = Experiment(
    name="scaling",
    question="How does the cost of a round grow with sites, genes, parameters and samples?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
