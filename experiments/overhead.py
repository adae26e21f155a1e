"""What secrecy costs, by round, party and verb, beside the same fit in the clear.

Every measurement is one whole fit; its rows are the ledger's, with waiting left out (it is other parties' work).
Offline is what needs no data: hellos, keys met, and Paillier's obfuscators (``precompute``), which a site on Ray makes
while it waits. Making a Paillier key is booked by nobody: it happens before the parties meet, once. Keys are real ones
of ``key_bits``, made in the run. What sites spend on checking the census that their rules are about is ``verify``.
CPU seconds are compared, because walls have neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

import secirls
from experiments.data_sets import open_set
from experiments.record import Configuration, Experiment, Measurement, Row
from secirls.agreement.ledger import SETUP_ROUND
from secirls.outputs.plots import (
    BLACK,
    BLUE,
    COLOURS,
    MEGABYTE,
    OFFLINE_VERBS,
    VERB_COLOURS,
    Figure,
    legend,
    panels,
    stack_by_verb,
)

PLAIN = "plain"
TRUSTING = "pairwise without consistency"
"""Pairwise as it was before sites saw who signed for the set of present ones: what that costs, by the difference."""
_ALL = (PLAIN, "additive", TRUSTING, "pairwise", "paillier", "paillier-threshold")

CONFIGURATION: Configuration = {
    "seed": 1,
    "engine": "local",
    "repeats": 3,
    "key_bits": 2048,
    # name of the set, every how many genes, protocols
    "fits": [
        ["simulated-20000x48x4", 1, ["plain", "additive", "pairwise"]],
        ["simulated-20000x48x4", 40, ["plain", "paillier", "paillier-threshold"]],
        ["airway", 1, ["plain", "additive", "pairwise"]],
        ["geuvadis_tsi", 1, ["plain", "additive", "pairwise"]],
        ["tcga_brca", 1, ["plain", "additive", "pairwise"]],
    ],
    # a key of safe primes takes up to a minute: measured in the first repeat alone
    "once": ["paillier-threshold"],
}
QUICK: Configuration = {
    "repeats": 1,
    "fits": [
        ["simulated-300x12x3", 1, ["plain", "additive", TRUSTING, "pairwise"]],
        ["simulated-300x12x3", 10, ["plain", "paillier"]],
    ],
}


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """One fit per repeat, set and protocol; repeats outermost and protocols in turn first, so that no one gains."""
    return [
        Measurement(
            f"{name}/{every}/{protocol}/{repeat}",
            partial(measure, name, every, protocol, repeat, configuration),
        )
        for repeat in range(configuration["repeats"])
        for name, every, protocols in configuration["fits"]
        for protocol in [*protocols[repeat % len(protocols) :], *protocols[: repeat % len(protocols)]]
        if repeat == 0 or protocol not in configuration["once"]
    ]


def measure(name: str, every: int, protocol: str, repeat: int, configuration: Configuration) -> Iterator[Row]:
    """One fit; one row per round, party and verb."""
    whole = open_set(name, configuration["seed"])
    chosen = whole if every == 1 else whole.genes(slice(None, None, every))
    result = secirls.fit(
        chosen.sites(),
        **chosen.options(),
        engine=configuration["engine"],
        protocol="pairwise" if protocol == TRUSTING else protocol,
        consistency=protocol != TRUSTING,
        key_bits=configuration["key_bits"],
    )
    values = 1 + result.ledger.columns.get_loc("values")
    for row in result.ledger.itertuples():
        if row.verb != "wait":
            yield {
                "set": name,
                "every": every,
                "genes": chosen.whole.n_vars,
                "protocol": protocol,
                "repeat": repeat,
                "round": row.round,
                "party": row.party,
                "role": row.role,
                "verb": row.verb,
                "seconds": round(row.seconds, 7),
                "cpu_seconds": round(row.cpu_seconds, 7),
                "bytes_up": row.bytes_up,
                "bytes_down": row.bytes_down,
                "values": row[values],
                "active_genes": row.active_genes,
            }


_CELL = ["set", "every", "genes", "protocol"]


def by_round(rows: pd.DataFrame) -> pd.DataFrame:
    """CPU seconds by round and verb, all parties together: the median over repeats."""
    sums = rows.groupby([*_CELL, "repeat", "round", "verb"], sort=False)["cpu_seconds"].sum().reset_index()
    return sums.groupby([*_CELL, "round", "verb"], sort=False)["cpu_seconds"].median().reset_index()


def totals(rows: pd.DataFrame) -> pd.DataFrame:
    """Per set and protocol: CPU seconds offline, online and without the statistics, megabytes; medians over repeats."""
    marked = rows.assign(
        offline=rows["cpu_seconds"].where(_offline(rows), 0.0),
        online=rows["cpu_seconds"].where(~_offline(rows), 0.0),
        statistics=rows["cpu_seconds"].where(rows["verb"].isin(["compute", "step"]), 0.0),
        up=rows["bytes_up"] / MEGABYTE,
        down=rows["bytes_down"] / MEGABYTE,
    )
    columns = ["offline", "online", "statistics", "up", "down"]
    sums = marked.groupby([*_CELL, "repeat"], sort=False)[columns].sum().reset_index()
    return sums.groupby(_CELL, sort=False)[columns].median().reset_index()


def _offline(rows: pd.DataFrame) -> pd.Series[bool]:
    return (rows["round"] == SETUP_ROUND) | rows["verb"].isin(OFFLINE_VERBS)


def against_plain(rows: pd.DataFrame) -> pd.DataFrame:
    """The totals beside plain's on the same genes: ratios of CPU and of bytes."""
    sums = totals(rows)
    plain = sums[sums["protocol"] == PLAIN].set_index(["set", "every"])
    index = pd.MultiIndex.from_frame(sums[["set", "every"]])
    cpu, plain_cpu = sums["offline"] + sums["online"], plain["offline"] + plain["online"]
    sent, plain_sent = sums["up"] + sums["down"], plain["up"] + plain["down"]
    return sums.assign(
        cpu_ratio=cpu.to_numpy() / plain_cpu.reindex(index).to_numpy(),
        bytes_ratio=sent.to_numpy() / plain_sent.reindex(index).to_numpy(),
    )


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """The headline, and every set beside plain."""
    return {"overhead": headline(rows), "overhead-by-set": by_set(rows)}


def headline(rows: pd.DataFrame) -> Figure:
    """Cost by round as genes leave the active set, stacked by verb, one panel per protocol (first set)."""
    first = rows[rows["set"] == rows["set"].iloc[0]]
    costs = by_round(first)
    shown = [protocol for protocol in _ALL if protocol in set(costs["protocol"])]
    figure, axes = panels(2, len(shown), width=3.0 * len(shown) + 1.0, height=5.8, sharex=True, height_ratios=[2.2, 1])
    largest: dict[int, float] = {}
    for column, protocol in enumerate(shown):
        above, below = axes[:, column]
        mine = costs[costs["protocol"] == protocol]
        every = mine["every"].min()
        mine = mine[mine["every"] == every]
        stack_by_verb(above, mine, costs["round"].max())
        above.set_title(f"{protocol}\n{int(mine['genes'].iloc[0]):,} genes")
        active = first[(first["protocol"] == protocol) & (first["every"] == every) & (first["round"] >= 0)]
        line = active.groupby("round")["active_genes"].max()
        below.step(line.index, line, where="mid", color=BLUE)
        below.set_yscale("log")
        below.set_ylim(0.7, 1.6 * first["active_genes"].max())
        below.set_xlabel("round (−1: meeting)")
        largest[every] = max(largest.get(every, 0.0), above.get_ylim()[1])
        if protocol.startswith("paillier"):
            above.set_ylabel("own scale")
    for column, protocol in enumerate(shown):
        if not protocol.startswith("paillier"):
            axes[0, column].set_ylim(0, largest[int(costs[costs["protocol"] == protocol]["every"].min())])
    axes[0, 0].set_ylabel("CPU ms per round,\nall parties")
    axes[1, 0].set_ylabel("active genes")
    _one_legend(axes[0, -1], axes[0])
    return figure


def _one_legend(place: Any, every: Sequence[Any]) -> None:
    """Every verb that any panel shows, once, right of the last panel; offline ones say so."""
    handles = {label: handle for axes in every for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    verbs = [verb for verb in reversed(VERB_COLOURS) if verb in handles]
    labels = [f"{verb} (offline)" if verb in OFFLINE_VERBS else verb for verb in verbs]
    legend(place, handles=[handles[verb] for verb in verbs], labels=labels, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def by_set(rows: pd.DataFrame) -> Figure:
    """CPU and bytes of every set and protocol as multiples of plain's, offline apart; absolute values beside them."""
    sums = against_plain(rows)
    labels = [f"{_title(cell.set)}\n{cell.genes:,} genes, {cell.protocol}" for cell in sums.itertuples()]
    place = range(len(sums))
    figure, ((left, right),) = panels(1, 2, width=12.0, height=0.45 * len(sums) + 1.6, sharey=True)
    cpu, sent = sums["offline"] + sums["online"], sums["up"] + sums["down"]
    for axes, parts, scale in (
        (
            left,
            [
                (sums["statistics"], VERB_COLOURS["compute"], "statistics"),
                (sums["online"] - sums["statistics"], BLUE, "sums, online"),
                (sums["offline"], COLOURS[1], "offline"),
            ],
            sums["cpu_ratio"] / cpu,
        ),
        (right, [(sums["up"], BLUE, "up"), (sums["down"], COLOURS[1], "down")], sums["bytes_ratio"] / sent),
    ):
        start = 0.0 * scale
        for part, colour, label in parts:
            axes.barh(place, part * scale, left=start, color=colour, label=label)
            start = start + part * scale
        axes.axvline(1.0, color=BLACK, linewidth=0.8)
        axes.set_xlim(0, _WIDEST * 1.35)
    for at, cell in enumerate(sums.itertuples()):
        _beside(left, at, cell.cpu_ratio, f"{cell.offline + cell.online:.2f} s")
        _beside(right, at, cell.bytes_ratio, f"{cell.up + cell.down:.1f} MB")
    left.set(xlabel="CPU time, whole fit, plain = 1", yticks=list(place), yticklabels=labels)
    right.set_xlabel("bytes, whole fit, plain = 1")
    left.invert_yaxis()
    left.tick_params(axis="y", labelsize=9)
    legend(left, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    legend(right, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
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
    """How much more than plain, in CPU and bytes, over all sets measured."""
    sums = against_plain(rows)
    told = []
    for protocol in _ALL[1:]:
        mine = sums[sums["protocol"] == protocol]
        if not mine.empty:
            told.append(
                f"{protocol} {_span(mine['cpu_ratio'])} the CPU time and {_span(mine['bytes_ratio'])} the bytes"
            )
    return f"A whole fit costs, in multiples of the same fit in the clear: {'; '.join(told)}."


def _span(ratios: Any) -> str:
    low, high = f"{min(ratios):.3g}", f"{max(ratios):.3g}"
    return f"{low}×" if low == high else f"{low}× to {high}×"


EXPERIMENT = Experiment(
    name="overhead",
    question="What does secrecy cost, by round, party and verb?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
