"""What the aggregator could learn: attacks on a fit's messages, with and without the rule that stops each.

Every attack takes what the aggregator receives or knows in public and guesses counts of single samples; the truth
is opened only to mark the guess. With one sample per design cell a site's summand *is* that sample: w = mu / (1 +
alpha mu) gives mu, and z = log(mu / s) + y / mu - 1 gives y.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.data_sets import DataSet, open_set
from experiments.eavesdrop import Heard, Session, listen
from experiments.record import Configuration, Experiment, Measurement, Row
from protocols import fixed_point
from protocols.primitives import ring
from protocols.secure_sum import MisuseError
from secirls.dispersions import AdoptDispersionsQuery
from secirls.input_error import InputError
from secirls.irls import IrlsQuery
from secirls.normalisation import LogCountsQuery
from secirls.plots import BLUE, GREY, VERMILION, Figure, legend, panels
from secirls.query import QueryError
from secirls.samples import Floats

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

NO_RULE, USELESS, FINEST = "none", 1e3, 1e-12
_LEAST_MU, _SURE = 0.5, 5.0


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


def _row(attack: str, rule: str, **told: Any) -> Row:
    """One attack's outcome; ``x`` is what the attack varies, fractions and errors are over the guessed counts."""
    empty: dict[str, Any] = {
        "attack": attack, "rule": rule, "view": "", "x": 0, "guesses": 0, "exact": 0.0, "error": USELESS,
        "departure": 0.0, "outcome": "opened",
    }  # fmt: skip
    if set(told) - set(empty):
        raise ValueError(f"unknown columns {set(told) - set(empty)}")
    return {**empty, **told}


# --- the guess ---------------------------------------------------------------------------------------------------


def guess(arrays: Mapping[str, Floats], query: IrlsQuery, alpha: Floats, cell: int) -> dict[str, Floats]:
    """Counts per condition from one site's summand (intercept and treatment), each cell of that many samples.

    Exact for one sample per cell, a cell's mean otherwise. ``alpha`` is of the genes asked about.
    """
    xtwx, xtwz, beta = arrays["xtwx"], arrays["xtwz"], query.beta
    found = {}
    with np.errstate(all="ignore"):
        for name, weight, right, eta in (
            ("control", xtwx[:, 0] - xtwx[:, 1], xtwz[:, 0] - xtwz[:, 1], beta[:, 0]),
            ("treated", xtwx[:, 1], xtwz[:, 1], beta.sum(axis=1)),
        ):
            each = weight / cell
            mu = each / (1.0 - alpha * each)
            sure = (mu > _SURE) & (alpha * mu < 1e3) & np.isfinite(mu)
            factor = float(np.median(mu[sure] / np.exp(eta[sure]))) if sure.any() else 1.0
            mu = np.maximum(factor * np.exp(eta), _LEAST_MU)
            found[name] = mu * (right / weight - np.log(mu / factor) + 1.0)
    return found


def mark(guessed: Mapping[str, Floats], data: DataSet, site: str, genes: NDArray[Any]) -> dict[str, Any]:
    """How good a guess is, over every sample of the site and the genes given by index."""
    obs = data.whole.obs
    mine = (obs["site"].astype(str) == site).to_numpy()
    exact, error = [], []
    for name, level in zip(("control", "treated"), data.levels, strict=True):
        chosen = mine & (obs["condition"].astype(str) == level).to_numpy()
        truth = data.counts()[chosen][:, genes].astype(np.float64)
        with np.errstate(all="ignore"):
            off = np.abs(guessed[name][None, :] - truth)
            exact.append((off < 0.5).ravel())
            error.append(np.nan_to_num(off / (truth + 1.0), nan=USELESS, posinf=USELESS).ravel())
    hits, errors = np.concatenate(exact), np.clip(np.concatenate(error), FINEST, USELESS)
    return {"guesses": int(hits.size), "exact": float(hits.mean()), "error": float(np.median(errors))}


def _alpha(session: Session, query: IrlsQuery) -> Floats:
    """Dispersions of the genes asked about: public, the aggregator broadcast them itself."""
    told = session.rounds_of("adopt_dispersions")[0].query
    if not isinstance(told, AdoptDispersionsQuery):
        raise TypeError("dispersions come with their own query")
    full = np.ones(told.genes.size)
    full[told.genes] = told.dispersions
    return full[query.genes]


def _irls(told: Heard) -> IrlsQuery:
    if not isinstance(told.query, IrlsQuery):
        raise TypeError(f"not an IRLS round: {told.query.kind}")
    return told.query


def _attack(session: Session, told: Heard, vector: ring.Vector, data: DataSet, site: str, cell: int) -> dict[str, Any]:
    """Guess and mark: expressed genes alone, so that a zero guessed is no success."""
    query = _irls(told)
    guessed = guess(told.read(vector), query, _alpha(session, query), cell)
    genes = np.flatnonzero(query.genes)
    expressed = data.counts()[:, genes].mean(axis=0) >= CONFIGURATION["expressed"]
    kept = {name: values[expressed] for name, values in guessed.items()}
    return mark(kept, data, site, genes[expressed])


# --- the attacks -------------------------------------------------------------------------------------------------


def summand(cell: int, protocol: str, configuration: Configuration) -> Iterator[Row]:
    """Read one site's payload of the second IRLS round as if nothing hid it."""
    data = open_set(f"simulated-{configuration['genes']}x{6 * cell}x3", configuration["seed"])
    session = listen(data, protocol)
    told = session.rounds_of("irls")[1]
    site = told.cohort[0]
    marked = _attack(session, told, told.vector(site), data, site, cell)
    rule = NO_RULE if protocol == "plain" else protocol
    yield _row("summand", rule, view=f"payload of {protocol}", x=cell, **marked)


def difference(configuration: Configuration) -> Iterator[Row]:
    """Subtract the sum without one site, a round later, from the sum with it: what ``continue`` would publish."""
    data = open_set(configuration["set"], configuration["seed"])
    session = listen(data, "plain")
    rounds = session.rounds_of("irls")
    site = rounds[0].cohort[0]
    cell = _cell(data)
    for number, (before, after) in enumerate(pairwise(rounds)):
        both = before.query.genes & after.query.genes
        if both.sum() < 100:
            break
        whole = _sums(before, before.cohort, both)
        rest = _sums(after, [name for name in after.cohort if name != site], both)
        apart = {name: whole[name] - rest[name] for name in whole}
        query = IrlsQuery(both, _irls(before).beta[both[before.query.genes]], _irls(before).min_mu)
        guessed = guess(apart, query, _alpha(session, query), cell)
        genes = np.flatnonzero(both)
        kept = data.counts()[:, genes].mean(axis=0) >= configuration["expressed"]
        marked = mark({name: values[kept] for name, values in guessed.items()}, data, site, genes[kept])
        yield _row("difference", NO_RULE, view="sums with and without one site", x=number, **marked)


def _sums(told: Heard, sites: Sequence[str], genes: NDArray[np.bool_]) -> dict[str, Floats]:
    """The opened sums of a round over some sites, for some genes: the aggregator sees these and no summand."""
    layout = told.query.layout(len(told.cohort))
    total = ring.total_of((told.vector(site) for site in sites), layout.values, layout.limbs)
    kept = genes[told.query.genes]
    return {name: array[kept] for name, array in told.read(total).items()}


def _cell(data: DataSet) -> int:
    """Samples per site and condition, where that is one number."""
    sizes = data.whole.obs.groupby(["site", "condition"], observed=True).size()
    if sizes.min() != sizes.max():
        raise ValueError(f"set {data.name!r} has design cells of different sizes")
    return int(sizes.iloc[0])


def difference_refused(configuration: Configuration) -> Iterator[Row]:
    """The same with the rule in place: a site falls silent, and the fit stops without opening a smaller sum."""
    data = open_set(configuration["set"], configuration["seed"])
    whole = listen(data, "pairwise")
    for number, told in enumerate(whole.rounds_of("irls")):
        if number % 4 or told.query.n_genes < 100:
            continue
        session = listen(data, "pairwise", silent=told.cohort[0], since=told.round)
        if not session.stopped or session.federation.opened != told.round:
            raise RuntimeError("a sum was opened without the silent site")
        yield _row("difference", "abort", view="sums with and without one site", x=number, outcome=session.stopped)


def second_cohort(configuration: Configuration) -> Iterator[Row]:
    """An aggregator that breaks the protocol asks a site again, without one of the others."""
    data = open_set(configuration["set"], configuration["seed"])
    session = listen(data, "pairwise")
    last = session.rounds_of("irls")[-1]
    site, rest = session.federation.parties[last.cohort[0]], last.cohort[:-1]
    moved = IrlsQuery(last.query.genes, _irls(last).beta * (1 + 1e-12), _irls(last).min_mu)
    for view, query in (("the same question", last.query), ("a question 1e-12 apart", moved)):
        number = session.heard[-1].round + 1
        try:
            site.contribute(query.to_bytes(), number, 0, rest)  # type: ignore[union-attr]
        except (QueryError, MisuseError, InputError) as reason:
            outcome = f"refused: {reason}"
        else:
            outcome = "answered"
        yield _row("second cohort", "one answer", view=view, outcome=outcome)


def lonely(least: int, configuration: Configuration) -> Iterator[Row]:
    """Counts of genes with a count in one sample only: the sum of logarithms is that count's."""
    data = open_set(configuration["set"], configuration["seed"])
    told = listen(data, "plain", min_contributors=least).rounds_of("log_counts")[0]
    if not isinstance(told.query, LogCountsQuery):
        raise TypeError("the sum of logarithms comes with its own query")
    sums = _sums(told, told.cohort, told.query.genes)
    alone = sums["zeros"] == data.whole.n_obs - 1
    genes = np.flatnonzero(told.query.genes)[alone]
    guessed = np.exp(sums["log_counts"][alone])
    truth = data.counts()[:, genes].max(axis=0, initial=0)
    exact = float((np.rint(guessed) == truth).mean()) if genes.size else 0.0
    error = float(np.median(np.abs(guessed - truth) / (truth + 1.0))) if genes.size else USELESS
    rule = NO_RULE if least == 1 else "min_contributors"
    yield _row(
        "lonely genes", rule, view="opened sums", x=least, guesses=int(genes.size), exact=exact,
        error=max(error, FINEST), outcome="opened" if genes.size else "never asked about",
    )  # fmt: skip


def layers(configuration: Configuration) -> Iterator[Row]:
    """Take the layers of the pairwise protocol off one by one, and look at what then lies open."""
    data = open_set(configuration["set"], configuration["seed"])
    session = listen(data, "plain")
    first, second = session.rounds_of("irls")[:2]
    site, cell = first.cohort[0], _cell(data)
    clear, later = first.vector(site), second.vector(site)
    hidden = listen(data, "pairwise").rounds_of("irls")
    keys = [secrets.token_bytes(32) for _ in range(3)]

    pairs_only = clear.copy()
    ring.mask_into(pairs_only, keys[:2], [])
    stripped = pairs_only.copy()
    ring.mask_into(stripped, [], keys[:2])  # what shares of a dropped site's keys give, if its payload comes late
    with_self = clear.copy()
    ring.mask_into(with_self, keys, [])
    late = with_self.copy()
    ring.mask_into(late, [], keys[:2])
    stream = np.random.default_rng(configuration["seed"])
    scale = float(np.abs(fixed_point.decode(clear, fixed_point.FRACTION_BITS)).max())
    noisy = fixed_point.decode(clear, fixed_point.FRACTION_BITS) + stream.normal(0, scale, len(clear))
    size = min(len(clear), len(later))
    apart = clear[:size].copy()
    ring.subtract_into(apart, later[:size].copy())
    hidden_apart = hidden[0].vector(site)[:size].copy()
    ring.subtract_into(hidden_apart, hidden[1].vector(site)[:size].copy())
    views = [
        ("plain", NO_RULE, clear),
        ("noise added as floats", NO_RULE, fixed_point.encode(noisy, fixed_point.FRACTION_BITS, 2)),
        ("one mask for two rounds, subtracted", NO_RULE, apart),
        ("late payload without self-mask, its pair masks recovered", NO_RULE, stripped),
        ("late payload with self-mask, its pair masks recovered", "self-mask", late),
        ("two rounds of pairwise, subtracted", "fresh keys", hidden_apart),
        ("pairwise", "pairwise", hidden[0].vector(site)),
    ]
    for view, rule, vector in views:
        told = {"exact": 0.0, "error": USELESS, "guesses": 0}
        if len(vector) == len(clear):
            told = _attack(session, first, np.ascontiguousarray(vector), data, site, cell)
        yield _row("layers", rule, view=view, departure=departure(vector), **told)


def departure(vector: ring.Vector) -> float:
    """How far payload bytes are from uniform: chi-square over 256 values, in standard deviations of chance."""
    counted = np.bincount(np.frombuffer(ring.to_bytes(vector), dtype=np.uint8), minlength=256)
    expected = counted.sum() / 256
    return float((((counted - expected) ** 2 / expected).sum() - 255.0) / np.sqrt(510.0))


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
        axes.text(max(abs(cell.departure), 0.05), at, told, va="center", fontsize=9)
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
