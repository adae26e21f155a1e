"""What happens when sites vanish: at every leg of one sum, and in the middle of a fit.

One sum: what it costs to open without the silent ones, who is in it, and whether it is their exact sum; everything
else is a refusal. A fit: from some IRLS round on a site is silent for good, under the product's own two rules, over
the real messages of ``pairwise``. ``abort`` stops, and what had settled by then is what a resumed fit finds;
``continue`` goes on without the site, and the genes still moving end as a fit over fewer samples.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.costs.scaling import timed
from experiments.groundwork.data_sets import DataSet, open_set
from experiments.groundwork.record import Configuration, Experiment, Measurement, Row
from protocols import run
from protocols.primitives import ring
from protocols.secure_sum import PartyId, SecureSumError
from protocols.sessions.settings import Settings
from secirls.aggregator.aggregator import Outcome, lead
from secirls.agreement.faults import SilentSitesError
from secirls.agreement.order import Place, Task
from secirls.agreement.record import Progress, Record
from secirls.algorithms.query import query_from_bytes
from secirls.algorithms.regression.irls import State
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.numerics.inference.wald import covariance
from secirls.numerics.status import Status
from secirls.outputs.pictures.canvas import BLUE, GREEN, GREY, ORANGE, VERMILION, Figure, legend, panels
from secirls.site.helper import Helper
from secirls.site.site import Site

CONFIGURATION: Configuration = {
    "seed": 6,
    "engine": "local",
    "repeats": 3,
    "sites": 8,
    "values": 30000,
    "protocols": ["plain", "additive", "pairwise"],
    "legs": ["nobody", "hello", "grant", "payload", "reply"],
    "silent": [1, 2, 3],
    "set": "simulated-5000x40x5",
    "rounds": [0, 1, 2, 3, 4, 6, 8],
}
QUICK: Configuration = {
    "repeats": 1, "sites": 4, "values": 200, "silent": [1, 2], "set": "simulated-200x16x4", "rounds": [0, 2],
}  # fmt: skip


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """Single sums first, then the fits."""
    steps = [
        Measurement(
            f"sum/{protocol}/{leg}/{silent}/{repeat}", partial(one_sum, protocol, leg, silent, repeat, configuration)
        )
        for repeat in range(configuration["repeats"])
        for protocol in configuration["protocols"]
        for leg in configuration["legs"]
        for silent in (configuration["silent"] if leg != "nobody" else [0])
    ]
    return steps + [
        Measurement(f"fit/{number}", partial(one_fit, number, configuration)) for number in configuration["rounds"]
    ]


def _row(**told: Any) -> Row:
    empty: dict[str, Any] = {
        "part": "sum", "protocol": "", "leg": "", "silent": 0, "repeat": 0, "sites": 0, "in_sum": 0, "outcome": "",
        "recovery_cpu_seconds": 0.0, "recovery_bytes": 0, "round": -1, "policy": "", "genes": 0, "answered": 0,
        "shift_median": 0.0, "shift_99": 0.0,
    }  # fmt: skip
    if set(told) - set(empty):
        raise ValueError(f"unknown columns {set(told) - set(empty)}")
    return {**empty, **told}


def one_sum(protocol: str, leg: str, silent: int, repeat: int, configuration: Configuration) -> Iterator[Row]:
    """One sum with the first so many sites silent from a leg on."""
    names = [f"site{number}" for number in range(configuration["sites"])]
    vectors = {name: ring.expand(secrets.token_bytes(32), configuration["values"], 2) for name in names}
    table = run.sit_down(protocol, names, Settings(rounds_per_batch=1))
    table.silent = {leg: names[:silent]} if silent else {}  # type: ignore[dict-item]
    spent = timed(table)
    try:
        run.meet(table)
        total = run.add_up(table, vectors)
    except SecureSumError as reason:
        outcome, inside = f"refused ({type(reason).__name__})", 0
    else:
        exact = ring.total_of((vectors[name] for name in total.parties), configuration["values"], 2)
        if not np.array_equal(total.vector, exact):
            raise RuntimeError(f"{protocol}: the opened sum is not that of its parties")
        outcome, inside = "opened", len(total.parties)
    yield _row(
        protocol=protocol,
        leg=leg,
        silent=silent,
        repeat=repeat,
        sites=len(names),
        in_sum=inside,
        outcome=outcome,
        recovery_cpu_seconds=round(spent["assist"] + spent["open"], 7),
        recovery_bytes=sum(len(message.data) for message in table.messages if message.leg in ("request", "reply")),
    )


@dataclass(frozen=True)
class Ended:
    """A fit that a site left, or that all stayed in."""

    state: State | None
    """`None` where the fit stopped."""
    irls_rounds: tuple[Progress, ...]
    stopped: str = ""
    """The sentence it stopped with."""


class Leaving(LocalFederation):
    """A federation in which one site answers nothing from some round of IRLS on."""

    def __init__(self, parties: Mapping[PartyId, Site | Helper], leaves: PartyId, at: int | None) -> None:
        super().__init__(parties)
        self._leaves, self._at, self._seen = leaves, at, 0

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """As a federation does, without the one who left."""
        if verb == "contribute":
            self._seen += query_from_bytes(next(iter(arguments.values()))[0]).kind == "irls"
        gone = self._at is not None and self._seen > self._at
        return super().ask(verb, {name: given for name, given in arguments.items() if not gone or name != self._leaves})


def fit_with_leaver(data: DataSet, leaves: int | None, policy: str) -> Ended:
    """One fit as `secirls.fit` makes it; the first site is silent from a round of IRLS on."""
    config = Config.read("experiment", **data.options(), protocol="pairwise", on_dropout=policy, trust_aggregator=True)
    parties = {name: Site(Place(name, adata), config) for name, adata in data.sites().items()}
    told: list[Progress] = []
    try:
        for event in lead(Task(config, "experiment"), Leaving(parties, min(parties), leaves)):
            if isinstance(event, Outcome):
                return Ended(event.fitted.state, tuple(told))
            if isinstance(event, Record) and event.told.kind == "irls":
                told.append(event.told)
    except SilentSitesError as reason:
        return Ended(None, tuple(told), str(reason))
    raise RuntimeError("the fit ended without a result")


def one_fit(number: int, configuration: Configuration) -> Iterator[Row]:
    """A site leaves at a round: what abort keeps, and how far continue moves coefficients, in standard errors."""
    data = open_set(configuration["set"], configuration["seed"])
    n_sites = len(data.sites())
    whole, stopped, after = (
        fit_with_leaver(data, leaves, policy)
        for leaves, policy in ((None, "abort"), (number, "abort"), (number, "continue"))
    )
    if whole.state is None or after.state is None or not stopped.stopped:
        raise RuntimeError("abort must stop the fit, and continue must go on")
    if number >= len(whole.irls_rounds):
        raise RuntimeError(f"there is no round {number} to leave at")
    in_sum = {len(told.parties) for told in after.irls_rounds[number:]}
    if in_sum != {n_sites - 1}:
        raise RuntimeError("the smaller sums are not those of all sites but one")
    known = (whole.state.status == Status.CONVERGED) & (after.state.status == Status.CONVERGED)
    genes = int((whole.state.status == Status.CONVERGED).sum())
    error = np.sqrt(np.diagonal(covariance(whole.state.xtwx[known], 1e-6)[0], axis1=1, axis2=2))
    shift = (np.abs(after.state.beta[known] - whole.state.beta[known]) / error)[:, -1]
    moved = np.isfinite(shift)
    # the question of the round that was never opened names the genes that had not settled
    settled = genes - min(genes, whole.irls_rounds[number].active_genes)
    shared = {"part": "fit", "sites": n_sites, "round": number, "genes": genes}
    yield _row(**shared, policy="abort", answered=settled, in_sum=n_sites, outcome=stopped.stopped)
    yield _row(
        **shared,
        policy="continue",
        answered=int(known.sum()),
        in_sum=n_sites - 1,
        outcome="went on",
        shift_median=float(np.median(shift[moved])),
        shift_99=float(np.quantile(shift[moved], 0.99)),
    )


# --- reading the rows --------------------------------------------------------------------------------------------


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """Who is in the sum, what recovery costs, and what abort and continue do to a fit."""
    figure, grid = panels(2, 2, width=12.0, height=8.8, height_ratios=[1.25, 1])
    axes = grid.reshape(1, 4)
    sums, fits = rows[rows["part"] == "sum"], rows[rows["part"] == "fit"]
    _draw_outcomes(axes[0, 0], sums)
    _draw_recovery(axes[0, 1], sums)
    abort, goes_on = fits[fits["policy"] == "abort"], fits[fits["policy"] == "continue"]
    answered = axes[0, 2]
    answered.plot(abort["round"], 100 * abort["answered"] / abort["genes"], color=BLUE, marker="s", label="abort")
    answered.plot(
        goes_on["round"], 100 * goes_on["answered"] / goes_on["genes"], color=VERMILION, marker="o", label="continue"
    )
    answered.set(xlabel="IRLS round at which a site leaves", ylabel="genes with an answer, %", ylim=(-3, 112))
    answered.set_title("C  a fit loses a site", loc="left")
    legend(answered, loc="center right")
    shift = axes[0, 3]
    shift.plot(goes_on["round"], goes_on["shift_99"], color=VERMILION, marker="^", label="99th percentile")
    shift.plot(goes_on["round"], goes_on["shift_median"], color=ORANGE, marker="o", label="median")
    shift.set(xlabel="IRLS round at which a site leaves", ylabel="shift of the fold change, standard errors")
    shift.set_title("D  continue changes coefficients", loc="left")
    legend(shift, loc="lower left")
    return {"dropout": figure}


def _draw_outcomes(axes: Any, rows: pd.DataFrame) -> None:
    """A table: protocol and leg against how many were silent; sites in the sum, or a refusal."""
    lines = list(dict.fromkeys(zip(rows["protocol"], rows["leg"], strict=True)))
    silent = sorted(set(rows["silent"]))
    for at, (protocol, leg) in enumerate(lines):
        for place, number in enumerate(silent):
            cell = rows[(rows["protocol"] == protocol) & (rows["leg"] == leg) & (rows["silent"] == number)]
            if cell.empty:
                continue
            opened = cell["outcome"].iloc[0] == "opened"
            text = f"{cell['in_sum'].iloc[0]} in sum" if opened else "refused"
            axes.text(
                place, at, text, ha="center", va="center", fontsize=9, color="white" if opened else "black",
                bbox={"facecolor": BLUE if opened else "#DDDDDD", "edgecolor": "none", "pad": 2.5},
            )  # fmt: skip
    axes.set(
        xlim=(-0.6, len(silent) - 0.4),
        ylim=(len(lines) - 0.4, -0.6),
        xticks=range(len(silent)),
        xticklabels=[str(number) for number in silent],
        yticks=range(len(lines)),
        yticklabels=[f"{protocol}: {'nobody' if leg == 'nobody' else 'from ' + leg}" for protocol, leg in lines],
        xlabel=f"silent sites, of {rows['sites'].iloc[0]}",
    )
    axes.tick_params(axis="y", labelsize=9)
    axes.set_title("A  a sum opens exactly, or not at all", loc="left")


def _draw_recovery(axes: Any, rows: pd.DataFrame) -> None:
    mine = rows[(rows["protocol"] == "pairwise") & (rows["outcome"] == "opened")]
    table = mine.groupby(["leg", "silent"], sort=False)["recovery_cpu_seconds"].median().reset_index()
    labels = ["nobody" if row.leg == "nobody" else f"{row.silent} from\n{row.leg}" for row in table.itertuples()]
    colours = [GREY if leg == "nobody" else GREEN for leg in table["leg"]]
    bars = axes.bar(range(len(table)), 1e3 * table["recovery_cpu_seconds"], color=colours)
    axes.bar_label(bars, fmt="%.1f", fontsize=9)
    axes.set_xticks(range(len(table)), labels, fontsize=8.5)
    axes.set_ylabel("CPU ms, assist and open, all parties")
    axes.set_title("B  pairwise: opening", loc="left")


def answer(rows: pd.DataFrame) -> str:
    """Opening without a site against with all, and what the two policies do."""
    sums = rows[(rows["protocol"] == "pairwise") & (rows["outcome"] == "opened")]
    cost = sums.groupby(["leg", "silent"])["recovery_cpu_seconds"].median()
    worst = cost[cost.index.get_level_values("silent") > 0].max() / cost.loc[("nobody", 0)]
    most = sums[sums["leg"] == "payload"]["silent"].max()
    fits = rows[(rows["part"] == "fit") & (rows["policy"] == "continue")]
    stopped = rows[(rows["part"] == "fit") & (rows["policy"] == "abort")]
    share = 100 * stopped["answered"] / stopped["genes"]
    return (
        f"Every sum that opened was exactly that of its sites and the rest were refused: additive with anybody silent, "
        f"pairwise with more than {0 if pd.isna(most) else most} of {rows['sites'].iloc[0]} silent after the keys were "
        f"exchanged; opening took up to {worst:.1f} times the CPU of opening with all; when a site leaves at one of "
        f"rounds {fits['round'].min()} to {fits['round'].max()} of IRLS, {share.min():.0f}% to {share.max():.0f}% of "
        f"genes have their answer under abort, while continue moves fold changes by up to "
        f"{fits['shift_median'].max():.2f} standard errors in the median gene."
    )


EXPERIMENT = Experiment(
    name="dropout",
    question="What happens when sites vanish, at every leg of a sum and in the middle of a fit?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
