"""How exact sums are under each way of writing numbers down for them, and what that does to the fit.

Every measurement runs the same IRLS over the same sites; only how summands are written and added differs. A sum is
*identical* where it is the correctly rounded exact sum of the sites' float64 summands. Quantisation is given more than
it has in practice: each array of each round is scaled to its largest magnitude over all sites, except in the row that
clips at 8 (Flower's default for SecAgg+ at 22 bits).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from experiments.groundwork.data_sets import open_set
from experiments.groundwork.record import Configuration, Experiment, Measurement, Row
from protocols import fixed_point
from protocols.primitives import ring
from secirls.algorithms.query import Query, Total
from secirls.algorithms.regression.irls import IrlsConfig, State, irls, least_squares_start
from secirls.algorithms.summands import largest_summand
from secirls.numerics.arrays import Floats
from secirls.numerics.held import held_counts
from secirls.numerics.held.samples import Samples
from secirls.numerics.status import Status
from secirls.outputs.pictures.canvas import BLUE, GREEN, GREY, ORANGE, VERMILION, Figure, panels

CONFIGURATION: Configuration = {
    "seed": 3,
    "engine": "local",
    "sets": ["airway", "simulated-5000x60x10"],
    "max_iter": 30,
    "compact": [8, 16, 24, 28, 32],
    "quantised": [8, 16, 22, 32],
}
QUICK: Configuration = {"sets": ["simulated-200x12x3"], "compact": [16, 24], "quantised": [8, 32], "max_iter": 30}

Adding: TypeAlias = Callable[[Sequence[Floats]], tuple[Floats, Floats]]
"""Summands of one array, one per site, to their sum and a mask of values that were refused."""

EXACT = "exact 128-bit"
FLOAT = "float64 addition"
COMPACT, QUANTISED, CLIPPED = "compact 64-bit", "scaled quantisation", "quantisation clipped at 8"
RIGHT = 1e-3
"""A coefficient further from the exact fit's than this is called wrong (natural log)."""
COLOURS = {EXACT: BLUE, FLOAT: GREY, COMPACT: GREEN, QUANTISED: ORANGE, CLIPPED: VERMILION}
_SMALLEST = 1e-17


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """One fit per set and way of adding."""
    ways: list[tuple[str, int]] = [(EXACT, 64), (FLOAT, 53)]
    ways += [(COMPACT, bits) for bits in configuration["compact"]]
    ways += [(QUANTISED, bits) for bits in configuration["quantised"]]
    ways.append((CLIPPED, 22))
    return [
        Measurement(f"{name}/{way}/{bits}", partial(measure, name, way, bits, configuration))
        for name in configuration["sets"]
        for way, bits in ways
    ]


# --- ways of adding ----------------------------------------------------------------------------------------------


def in_ring(parts: Sequence[Floats], fraction_bits: int, limbs: int) -> tuple[Floats, Floats]:
    """As the protocols do: encode, add in the ring, decode; what is beyond the bound is refused, never clipped."""
    bound = fixed_point.largest_bound(len(parts), fraction_bits, limbs)
    refused = np.any([np.abs(part) > bound for part in parts], axis=0)
    encoded = (fixed_point.encode(np.where(refused, 0.0, part).reshape(-1), fraction_bits, limbs) for part in parts)
    total = ring.total_of(encoded, parts[0].size, limbs)
    return fixed_point.decode(total, fraction_bits).reshape(parts[0].shape), refused


def in_floats(parts: Sequence[Floats]) -> tuple[Floats, Floats]:
    """One site after the other, each addition rounded."""
    total = parts[0].copy()
    for part in parts[1:]:
        total = total + part
    return total, np.zeros(total.shape, dtype=bool)


def quantised(parts: Sequence[Floats], bits: int, clip: float | None = None) -> tuple[Floats, Floats]:
    """Each summand clipped, rounded to one of 2^bits levels, added as integers."""
    largest = clip or max((float(np.abs(part).max(initial=0.0)) for part in parts), default=1.0) or 1.0
    step = 2.0 * largest / (2**bits - 1)
    total = np.sum([np.rint((np.clip(part, -largest, largest) + largest) / step) for part in parts], axis=0)
    return total * step - len(parts) * largest, np.zeros(parts[0].shape, dtype=bool)


def way_of(name: str, bits: int) -> Adding:
    """The way of adding by its name."""
    ways: dict[str, Adding] = {
        EXACT: partial(in_ring, fraction_bits=fixed_point.FRACTION_BITS, limbs=2),
        FLOAT: in_floats,
        COMPACT: partial(in_ring, fraction_bits=bits, limbs=1),
        QUANTISED: partial(quantised, bits=bits),
        CLIPPED: partial(quantised, bits=bits, clip=8.0),
    }
    return ways[name]


def exact_sum(parts: Sequence[Floats]) -> Floats:
    """The correctly rounded sum (Shewchuk 1997, by `math.fsum`)."""
    stacked = np.stack([part.reshape(-1) for part in parts], axis=1)
    return np.array([math.fsum(row) for row in stacked.tolist()]).reshape(parts[0].shape)


# --- one fit -----------------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """A fit, and how its sums came out."""

    state: State
    sums: int = 0
    identical: int = 0
    refused: int = 0
    rounds: int = 0
    errors: list[float] = field(default_factory=list)
    """Median relative error of the sums, by round."""


def watch(sites: Mapping[str, Samples], adding: Adding, max_iter: int) -> Watched:
    """Run IRLS over the sites with one way of adding, and compare every sum with the exact one.

    Starting values come from exact sums, so that only the rounds of IRLS differ.
    """
    config = IrlsConfig(max_iter=max_iter)
    names = tuple(sites)
    params = next(iter(sites.values())).n_params
    counts = np.sum([(held_counts.whole(part.counts) > 0).any(axis=0) for part in sites.values()], axis=0)
    status = np.where(counts >= 3, Status.ACTIVE, Status.TOO_FEW_SITES).astype(np.int8)
    kept = dict(sites)

    def ask(query: Query) -> dict[str, list[Floats]]:
        parts: dict[str, list[Floats]] = {name: [] for name in query.shapes()}
        for name in names:
            kept[name] = query.apply(kept[name])
            for array, values in query.summands(kept[name].take(query.genes), len(names)).items():
                parts[array].append(values)
        return parts

    start = least_squares_start(status, params, config)
    first = ask(next(start))
    try:
        start.send(Total({name: exact_sum(parts) for name, parts in first.items()}, names, names))
    except StopIteration as stop:
        watched = Watched(stop.value)
    fitting = irls(watched.state, config)
    try:
        query = next(fitting)
        while True:
            query = fitting.send(_total(ask(query), adding, watched, names))
    except StopIteration as stop:
        watched.state = stop.value
    return watched


def _total(parts: Mapping[str, list[Floats]], adding: Adding, watched: Watched, names: tuple[str, ...]) -> Total:
    """Add each array; a gene with a refused value is lost, as where a site can't send it."""
    arrays, off, lost = {}, [], np.zeros(len(parts["nll"][0]), dtype=bool)
    for name, summands in parts.items():
        total, refused = adding(summands)
        truth = exact_sum(summands)
        arrays[name] = total
        watched.sums += truth.size
        watched.identical += int((total == truth).sum())
        watched.refused += int(refused.sum())
        lost |= refused if refused.ndim == 1 else refused.any(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            off.append((np.abs(total - truth) / np.abs(truth))[truth != 0].ravel())
    watched.rounds += 1
    watched.errors.append(float(np.median(np.concatenate(off))))
    arrays["nll"] = np.where(lost, largest_summand(len(names)), arrays["nll"])
    return Total(arrays, names, names)


@lru_cache(maxsize=2)
def _reference(name: str, seed: int, max_iter: int) -> Watched:
    return watch(open_set(name, seed).samples(), way_of(EXACT, fixed_point.FRACTION_BITS), max_iter)


def measure(name: str, way: str, bits: int, configuration: Configuration) -> Iterator[Row]:
    """One fit, beside the exact one."""
    sites = open_set(name, configuration["seed"]).samples()
    watched = watch(sites, way_of(way, bits), configuration["max_iter"])
    truth = _reference(name, configuration["seed"], configuration["max_iter"]).state
    both = (truth.status == Status.CONVERGED) & (watched.state.status == Status.CONVERGED)
    eligible = int((truth.status == Status.CONVERGED).sum())
    error = np.abs(watched.state.beta[both] - truth.beta[both]).max(axis=1)
    middle, high, largest = np.quantile(error, [0.5, 0.99, 1.0]) if error.size else (np.nan, np.nan, np.nan)
    yield {
        "set": name,
        "sites": len(sites),
        "way": way,
        "bits": bits,
        "rounds": watched.rounds,
        "sums": watched.sums,
        "identical": watched.identical / watched.sums,
        "refused": watched.refused,
        "sum_error": float(np.median(watched.errors)),
        "genes": eligible,
        "converged": int(both.sum()),
        "right": int((error <= RIGHT).sum()),
        "diverged": int((watched.state.status[truth.status == Status.CONVERGED] == Status.DIVERGED).sum()),
        "beta_error_median": float(middle),
        "beta_error_99": float(high),
        "beta_error_max": float(largest),
    }


# --- reading the rows --------------------------------------------------------------------------------------------


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """Identical sums, error of beta, genes that converge; one row of panels per set."""
    sets = list(dict.fromkeys(rows["set"]))
    figure, axes = panels(len(sets), 3, width=13.0, height=0.6 + 3.6 * len(sets), sharey="row")
    for line, name in enumerate(sets):
        mine = rows[rows["set"] == name]
        place = np.arange(len(mine))
        colours = [COLOURS[way] for way in mine["way"]]
        labels = [f"{way}, {_digits(way, bits)}" for way, bits in zip(mine["way"], mine["bits"], strict=True)]
        left, middle, right = axes[line]
        bars = left.barh(place, 100 * mine["identical"], color=colours)
        left.bar_label(bars, labels=[f" {_percent(share)}" for share in mine["identical"]], fontsize=9)
        left.set_xlim(0, 125)
        left.set(yticks=place, yticklabels=labels, xlabel="sums identical to the exact sum, %")
        left.set_title(
            f"{name.split('x')[0].replace('-', ', ')}{' genes' if '-' in name else ''}, {mine['sites'].iloc[0]} sites",
            loc="left",
        )
        left.tick_params(axis="y", labelsize=9)
        _errors(middle, place, mine, colours)
        right.barh(place, 100 * mine["converged"] / mine["genes"], color=colours, alpha=0.35)
        right.barh(place, 100 * mine["right"] / mine["genes"], color=colours)
        shares = [
            f" {_percent(n / g)} of {_percent(c / g)}"
            for n, c, g in zip(mine["right"], mine["converged"], mine["genes"], strict=True)
        ]
        for at, text, length in zip(place, shares, 100 * mine["converged"] / mine["genes"], strict=True):
            right.text(length, at, text, va="center", fontsize=9)
        right.set_xlim(0, 165)
        right.set_xticks([0, 50, 100])
        right.set_xlabel(f"genes, %: beta within {RIGHT:g} (dark)\nof those that converge (light)")
        left.invert_yaxis()
    return {"fidelity": figure}


def _errors(axes: Any, place: Any, rows: pd.DataFrame, colours: list[str]) -> None:
    """Median and 99th percentile of the error of beta, among genes that converged."""
    low, high = (np.maximum(rows[f"beta_error_{which}"].to_numpy(), _SMALLEST) for which in ("median", "99"))
    for at, start, end, colour in zip(place, low, high, colours, strict=True):
        if np.isfinite(start):
            axes.plot([start, end], [at, at], color=colour, linewidth=2)
            axes.plot([start], [at], color=colour, marker="o", linestyle="none")
            axes.plot([end], [at], color=colour, marker="|", markersize=12, linestyle="none")
    axes.set_xscale("log")
    axes.set_xlim(_SMALLEST / 3, 1e2)
    axes.set_xlabel("error of beta, natural log:\nmedian to 99th percentile")


def _digits(way: str, bits: int) -> str:
    return {FLOAT: "53-bit mantissa", EXACT: f"{bits} fraction bits", COMPACT: f"{bits} fraction bits"}.get(
        way, f"{bits} bits"
    )


def _percent(share: float) -> str:
    return "100" if share == 1 else f"{min(100 * share, 99.99):.2f}" if share > 0.99 else f"{100 * share:.1f}"


def answer(rows: pd.DataFrame) -> str:
    """Identity of sums and convergence, over all sets."""
    exact, floats = rows[rows["way"] == EXACT], rows[rows["way"] == FLOAT]
    coarse = rows[(rows["way"] == QUANTISED)]
    fewest, finest = coarse[coarse["bits"] == coarse["bits"].min()], coarse[coarse["bits"] == coarse["bits"].max()]
    clipped = rows[rows["way"] == CLIPPED]

    def share(table: pd.DataFrame) -> str:
        return _between(table["right"] / table["genes"])

    return (
        f"The exact profile gives {_between(exact['identical'])} of sums bit-identical to the exact sum, float64 "
        f"addition {_between(floats['identical'])}; of the genes that converge with exact sums, {share(finest)} reach "
        f"the same coefficients within {RIGHT:g} with {finest['bits'].iloc[0]}-bit quantisation scaled to the largest "
        f"summand, {share(fewest)} with {fewest['bits'].iloc[0]} bits, and {share(clipped)} with 22 bits clipped at 8."
    )


def _between(shares: pd.Series[float]) -> str:
    low, high = _percent(float(shares.min())), _percent(float(shares.max()))
    return f"{low}%" if low == high else f"{low}% to {high}%"


EXPERIMENT = Experiment(
    name="fidelity",
    question="Are the sums exact, and what do coarser numbers do to the fit?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
