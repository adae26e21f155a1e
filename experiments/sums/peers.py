"""The same sums by other packages: time, bytes and error side by side.

The vectors are summands of an IRLS round over simulated counts, divided by a power of two above the largest of all
parties, since every peer but phe and TenSEAL clips. Slow peers are measured on fewer values (`peer_sums.CAPS`) and
read per value. A peer whose package is missing is skipped with a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.groundwork.reading import lines
from experiments.groundwork.record import Configuration, Experiment, Measurement, Row
from experiments.sums.fidelity import exact_sum
from experiments.sums.peer_sums import CAPS, OURS, PACKAGES, THEIRS, Way, installed, ours
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.inputs.simulate import simulate
from secirls.numerics.arrays import Floats
from secirls.outputs.pictures.canvas import (
    BLACK,
    BLUE,
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

CONFIGURATION: Configuration = {
    "seed": 7,
    "engine": "local",
    "repeats": 3,
    "key_bits": 2048,
    "values": [600, 6000, 60000],
    "parties": [3, 5, 10],
    "middle": 6000,
    # the grid is a cross: every size with 5 parties, every number of parties with the middle size
    "few": 5,
    "slow_once": ["phe, a float each", "declearn Joye-Libert", "paillier"],
}
QUICK: Configuration = {
    "repeats": 1, "values": [60, 120], "parties": [3], "middle": 60, "few": 3,
}  # fmt: skip

STYLES: Mapping[str, tuple[str, str]] = {
    "plain": (GREY, "o"),
    "additive": (SKY, "o"),
    "pairwise": (BLUE, "o"),
    "paillier": (GREEN, "o"),
    "Flower SecAgg+": (ORANGE, "s"),
    "declearn masking": (PURPLE, "^"),
    "declearn Joye-Libert": (YELLOW, "^"),
    "TenSEAL CKKS": (VERMILION, "D"),
    "phe, a float each": (BLACK, "v"),
}
"""Colour and marker; circles are ours."""
_LEAST_ERROR = 1e-17


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """Every way over the cross of sizes and parties."""
    cells = [(values, configuration["few"]) for values in configuration["values"]]
    cells += [(configuration["middle"], parties) for parties in configuration["parties"]]
    return [
        Measurement(
            f"sum/{way}/{values}/{parties}/{repeat}", partial(measure, way, values, parties, repeat, configuration)
        )
        for repeat in range(configuration["repeats"])
        for values, parties in dict.fromkeys(cells)
        for way in STYLES
        if repeat == 0 or way not in configuration["slow_once"]
        if values <= CAPS.get(way, values) or values == min(configuration["values"])
    ]


def summands(values: int, parties: int, seed: int) -> list[Floats]:
    """What the parties would send in an IRLS round of six values a gene, scaled into -1 to 1."""
    genes = values // 6
    found = []
    for party in range(parties):
        made = simulate(genes, 12, seed=seed + party)
        query = IrlsQuery(np.ones(genes, dtype=bool), made.beta, 0.5)
        arrays = query.summands(query.apply(made.samples), parties)
        found.append(np.concatenate([array.reshape(-1) for array in arrays.values()]))
    largest = max(float(np.abs(part).max()) for part in found)
    return [part / 2.0 ** np.ceil(np.log2(largest)) for part in found]


def measure(way: str, values: int, parties: int, repeat: int, configuration: Configuration) -> Iterator[Row]:
    """One sum by one way."""
    parts = [part[: CAPS.get(way, values)] for part in summands(values, parties, configuration["seed"])]
    summing: Way = THEIRS[way] if way in THEIRS else partial(ours, way, key_bits=configuration["key_bits"])
    done = summing(parts)
    exact = exact_sum(parts)
    known = exact != 0
    error = np.abs(done.total[known] / exact[known] - 1.0)
    yield {
        "way": way,
        "version": installed(PACKAGES.get(way, "secirls")),
        "values": values,
        "measured": parts[0].size,
        "parties": parties,
        "repeat": repeat,
        "keys_cpu_seconds": round(done.keys, 7),
        "protect_cpu_seconds": round(done.protect, 7),
        "aggregate_cpu_seconds": round(done.aggregate, 7),
        "bytes_up": done.bytes_up,
        "error_median": float(np.median(error)),
        "error_max": float(error.max()),
    }


# --- reading the rows --------------------------------------------------------------------------------------------


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Per way, size and number of parties: microseconds and bytes per value, errors; medians over repeats."""
    told = rows.assign(
        protect=1e6 * rows["protect_cpu_seconds"] / rows["measured"],
        aggregate=1e6 * rows["aggregate_cpu_seconds"] / rows["measured"],
        sent=rows["bytes_up"] / rows["measured"],
    )
    columns = ["protect", "aggregate", "sent", "error_median", "error_max"]
    return told.groupby(["way", "values", "parties"], sort=False)[columns].median().reset_index()


def _one_size(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per way: the largest size measured, at the number of parties that all sizes share."""
    table = medians(rows)
    shared = table[table["parties"] == rows["parties"].iloc[0]]
    largest: pd.DataFrame = shared.sort_values("values", kind="stable").groupby("way").tail(1).set_index("way")
    return largest.reindex([way for way in STYLES if way in largest.index])


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """What a party and the aggregator spend per value, what travels, how far the sum is off; sizes below."""
    table, line = medians(rows), _one_size(rows)
    figure, axes = panels(2, 2, width=13.0, height=9.0)
    place = np.arange(len(line))
    time, bytes_, error, by_size = axes.reshape(-1)
    time.barh(place - 0.2, line["protect"], height=0.38, color=BLUE, label="one party protects")
    time.barh(place + 0.2, line["aggregate"], height=0.38, color=ORANGE, label="aggregator and key-holder add and open")
    _label(time, place - 0.2, line["protect"])
    _label(time, place + 0.2, line["aggregate"])
    parties = int(line["parties"].iloc[0])
    time.set(xlabel=f"CPU µs per value, {parties} parties", title="A  time")
    legend(time, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)
    bytes_.barh(place, line["sent"], color=GREEN)
    _label(bytes_, place, line["sent"])
    bytes_.set(xlabel="bytes per value, up from one party", title="B  traffic")
    low, high = line["error_median"].clip(lower=_LEAST_ERROR), line["error_max"].clip(lower=_LEAST_ERROR)
    error.hlines(place, low, high, color=GREY, linewidth=2)
    error.plot(low, place, "o", color=BLUE, label="median value")
    error.plot(high, place, "D", color=VERMILION, label="worst value")
    error.set(xlabel="relative error of the sum (10⁻¹⁷: exact)", title="C  error")
    legend(error, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)
    for each in (time, bytes_, error):
        each.set_xscale("log")
        each.set_yticks(place, list(line.index))
        each.tick_params(axis="y", labelsize=10)
        each.set_ylim(len(line) - 0.4, -0.6)
    for each in (time, bytes_):
        left, right = each.get_xlim()
        each.set_xlim(left, right * 6)
    error.set_xlim(_LEAST_ERROR / 5, 10 * float(high.max()))
    ticks = sorted(set(table["values"]))
    for way, (colour, marker) in STYLES.items():
        mine = table[(table["way"] == way) & (table["parties"] == parties)].sort_values("values")
        if len(mine) > 1:
            by_size.plot(mine["values"], mine["protect"], color=colour, marker=marker, label=way)
    by_size.set(xscale="log", yscale="log", xlabel=f"values in the vector, {parties} parties")
    by_size.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    by_size.minorticks_off()
    by_size.set(ylabel="CPU µs per value, one party", title="D  a party's time by size")
    legend(by_size, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return {"peers": figure}


def _label(axes: Any, place: Any, values: pd.Series[float]) -> None:
    for at, value in zip(place, values, strict=True):
        axes.text(value, at, f" {value:,.0f}" if value >= 100 else f" {value:.2g}", va="center", fontsize=9)


def answer(rows: pd.DataFrame) -> str:
    """A party's time and bytes as multiples of pairwise's, and the errors."""
    of = {cell.Index: cell for cell in lines(_one_size(rows))}
    own = of["pairwise"]
    told = [
        f"{way} takes {_times(of[way].protect / own.protect)} times the CPU and {of[way].sent / own.sent:.2g} times "
        f"the bytes of pairwise, {_worst(of[way].error_max)}"
        for way in THEIRS
        if way in of
    ]
    worst = max(of[way].error_max for way in OURS)
    peers = f"per value at a party, {'; '.join(told)}" if told else "no other package is installed"
    return f"Sums by our protocols: {_worst(worst)}; {peers}."


def _times(ratio: float) -> str:
    return f"{float(f'{ratio:.2g}'):,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _worst(error: float) -> str:
    return "exact to float64" if error == 0.0 else f"worst error {error:.0e}"


EXPERIMENT = Experiment(
    name="peers",
    question="What do other packages' secure sums cost, and how exact are they?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
