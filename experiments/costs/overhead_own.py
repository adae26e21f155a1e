"""The part *own columns* of overhead: what a whole DESeq2 saves by keeping columns of one site at home.

The same fit twice, under pairwise masks: once with ``own_columns = "own"``, once with ``"shared"``. Values are what one
site sends, over all rounds; bytes and CPU are all parties'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd

from experiments.costs.overhead_fits import CELL, PAIRWISE, account, booked, load
from experiments.groundwork.record import Configuration, Measurement, Row
from secirls.agreement.ledger import MEGABYTE
from secirls.outputs.pictures.canvas import BLUE, GREY, Figure, legend, panels

PART = "own columns"
WAYS = {f"{PAIRWISE}, {kept} columns": kept for kept in ("own", "shared")}
"""What stands in the column ``protocol``, and the field of the configuration."""
OWN, SHARED = WAYS
COLOURS = {OWN: BLUE, SHARED: GREY}


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """One fit per repeat, set and way; repeats outermost, and the ways in turn first."""
    part = configuration["own_columns"]
    return [
        Measurement(
            f"{PART}/{name}/{every}/{WAYS[way]}/{repeat}", partial(measure, name, every, way, repeat, configuration)
        )
        for repeat in range(part["repeats"])
        for name, every in part["fits"]
        for way in (tuple(WAYS) if repeat % 2 == 0 else tuple(WAYS)[::-1])
    ]


def measure(name: str, every: int, way: str, repeat: int, configuration: Configuration) -> Iterator[Row]:
    """One fit; rows as in the rest of overhead."""
    design = configuration["own_columns"]["design"]
    load(design)
    options = {"design": design, "engine": configuration["engine"], "protocol": PAIRWISE, "min_contributors": 1}
    return account(name, every, configuration["seed"], way, repeat, own_columns=WAYS[way], **options)


def of_part(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which rows are this part's."""
    return rows["protocol"].isin(list(WAYS))


COSTS = {"values": "values a gene", "sent": "MB", "cpu": "CPU s", "rounds": "rounds"}


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    """Per set, genes and way: values a gene that a site sends, megabytes, CPU seconds, rounds; medians over repeats."""
    told = booked(rows[of_part(rows)])
    told = told.assign(sent=(told["bytes_up"] + told["bytes_down"]) / MEGABYTE, cpu=told["cpu_seconds"])
    fit = [*CELL, "repeat"]
    asked = told.drop_duplicates([*fit, "stage"]).groupby(fit, sort=False)[["values", "rounds"]].sum()
    found = told.groupby(fit, sort=False)[["sent", "cpu"]].sum().join(asked).reset_index()
    found["values"] /= found["genes"]
    return found.groupby(CELL, sort=False)[list(COSTS)].median().reset_index()


def saving(rows: pd.DataFrame) -> pd.DataFrame:
    """Costs with own columns in parts of those with shared ones, by set: values, sent, cpu, rounds."""
    by_way = {way: mine.set_index("set")[list(COSTS)] for way, mine in costs(rows).groupby("protocol", sort=False)}
    return by_way[OWN] / by_way[SHARED]


def figure(rows: pd.DataFrame) -> Figure:
    """The costs by set, own beside shared."""
    table = costs(rows)
    sets = list(dict.fromkeys(zip(table["set"], table["genes"], strict=True)))
    drawn, (grid,) = panels(1, len(COSTS), width=13.0, height=0.72 * len(sets) + 1.6, sharey=True)
    for axes, (cost, label) in zip(grid, COSTS.items(), strict=True):
        for offset, way in ((-0.2, OWN), (0.2, SHARED)):
            values = table[table["protocol"] == way].set_index("set")[cost].reindex([name for name, _ in sets])
            places = [place + offset for place in range(len(sets))]
            axes.barh(places, values, height=0.38, color=COLOURS[way], label=f"{WAYS[way]} columns")
            for place, value in zip(places, values, strict=True):
                axes.text(value, place, _short(value), va="center", fontsize=9.5)
        axes.set(xlabel=label, xlim=(0, 1.3 * table[cost].max()))
        axes.tick_params(axis="y", length=0)
    grid[0].set_yticks(range(len(sets)), [f"{name.split('-')[0]}\n{genes:,} genes" for name, genes in sets])
    grid[0].set_ylim(len(sets) - 0.5, -0.5)
    legend(grid[-1], loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn


def _short(value: float) -> str:
    return f" {value:,.0f}" if value >= 10 else f" {value:#.2g}"


def answer(rows: pd.DataFrame) -> str:
    """What keeping columns of one site at home saves, over all sets."""
    told = {cost: _span(ratios) for cost, ratios in saving(rows).items()}
    return (
        f"With columns of one site kept at home instead of summed, ~ site + condition takes {told['values']} the "
        f"values, {told['sent']} the bytes, {told['cpu']} the CPU time and {told['rounds']} the rounds."
    )


def _span(ratios: Any) -> str:
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    return f"{low}×" if low == high else f"{low}× to {high}×"
