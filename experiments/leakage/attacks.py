"""The attacks on a fit's messages, each with and without the rule that stops it, as tidy rows.

Promises: every attack takes what the aggregator receives, opens or broadcasts. Refuses to know: how its rows are read.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from experiments.groundwork.data_sets import DataSet, open_set
from experiments.groundwork.record import Configuration, Row
from experiments.leakage.completing import completed, dispersions_of, irls_of, sums_of
from experiments.leakage.eavesdrop import Heard, Session, listen
from experiments.leakage.guessing import FINEST, USELESS, guess, mark
from protocols import fixed_point
from protocols.primitives import ring
from protocols.secure_sum import MisuseError
from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.algorithms.query import QueryError
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.input_error import InputError

NO_RULE = "none"


def row(attack: str, rule: str, **told: Any) -> Row:
    """One attack's outcome; ``x`` is what the attack varies, fractions and errors are over the guessed counts."""
    empty: dict[str, Any] = {
        "attack": attack, "rule": rule, "view": "", "x": 0, "guesses": 0, "exact": 0.0, "error": USELESS,
        "departure": 0.0, "outcome": "opened",
    }  # fmt: skip
    if set(told) - set(empty):
        raise ValueError(f"unknown columns {set(told) - set(empty)}")
    return {**empty, **told}


def _attack(
    session: Session, told: Heard, vector: ring.Vector, data: DataSet, site: str, cell: int, least: float
) -> dict[str, Any]:
    """Guess and mark: expressed genes alone, so that a zero guessed is no success."""
    query = irls_of(told)
    guessed = guess(completed(session, told, vector, [site]), query, dispersions_of(session, query), cell)
    genes = np.flatnonzero(query.genes)
    expressed = data.counts()[:, genes].mean(axis=0) >= least
    kept = {name: values[expressed] for name, values in guessed.items()}
    return mark(kept, data, site, genes[expressed])


def summand(cell: int, protocol: str, configuration: Configuration) -> Iterator[Row]:
    """Read one site's payload of the second IRLS round as if nothing hid it."""
    data = open_set(f"simulated-{configuration['genes']}x{6 * cell}x3", configuration["seed"])
    session = listen(data, protocol)
    told = session.rounds_of("irls")[1]
    site = told.cohort[0]
    marked = _attack(session, told, told.vector(site), data, site, cell, configuration["expressed"])
    rule = NO_RULE if protocol == "plain" else protocol
    yield row("summand", rule, view=f"payload of {protocol}", x=cell, **marked)


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
        sums = [(before, before.cohort), (after, [name for name in after.cohort if name != site])]
        whole, rest = (
            {name: array[both[told.query.genes]] for name, array in sums_of(session, told, sites).items()}
            for told, sites in sums
        )
        apart = {name: whole[name] - rest[name] for name in whole}
        query = IrlsQuery(both, irls_of(before).beta[both[before.query.genes]], irls_of(before).min_mu)
        guessed = guess(apart, query, dispersions_of(session, query), cell)
        genes = np.flatnonzero(both)
        kept = data.counts()[:, genes].mean(axis=0) >= configuration["expressed"]
        marked = mark({name: values[kept] for name, values in guessed.items()}, data, site, genes[kept])
        yield row("difference", NO_RULE, view="sums with and without one site", x=number, **marked)


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
        yield row("difference", "abort", view="sums with and without one site", x=number, outcome=session.stopped)


def second_cohort(configuration: Configuration) -> Iterator[Row]:
    """An aggregator that breaks the protocol asks a site again, without one of the others."""
    data = open_set(configuration["set"], configuration["seed"])
    session = listen(data, "pairwise")
    last = session.rounds_of("irls")[-1]
    site, rest = session.federation.parties[last.cohort[0]], last.cohort[:-1]
    moved = IrlsQuery(last.query.genes, irls_of(last).beta * (1 + 1e-12), irls_of(last).min_mu)
    for view, query in (("the same question", last.query), ("a question 1e-12 apart", moved)):
        number = session.heard[-1].round + 1
        try:
            site.contribute(query.to_bytes(), number, 0, rest)  # type: ignore[union-attr]
        except (QueryError, MisuseError, InputError) as reason:
            outcome = f"refused: {reason}"
        else:
            outcome = "answered"
        yield row("second cohort", "one answer", view=view, outcome=outcome)


def lonely(least: int, configuration: Configuration) -> Iterator[Row]:
    """Counts of genes with a count in one sample only: the sum of logarithms is that count's."""
    data = open_set(configuration["set"], configuration["seed"])
    told = listen(data, "plain", min_contributors=least).rounds_of("log_counts")[0]
    if not isinstance(told.query, LogCountsQuery):
        raise TypeError("the sum of logarithms comes with its own query")
    sums = told.opened()
    alone = sums["zeros"] == data.whole.n_obs - 1
    genes = np.flatnonzero(told.query.genes)[alone]
    guessed = np.exp(sums["log_counts"][alone])
    truth = data.counts()[:, genes].max(axis=0, initial=0)
    exact = float((np.rint(guessed) == truth).mean()) if genes.size else 0.0
    error = float(np.median(np.abs(guessed - truth) / (truth + 1.0))) if genes.size else USELESS
    rule = NO_RULE if least == 1 else "min_contributors"
    yield row(
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
            told = _attack(session, first, np.ascontiguousarray(vector), data, site, cell, configuration["expressed"])
        yield row("layers", rule, view=view, departure=departure(vector), **told)


def departure(vector: ring.Vector) -> float:
    """How far payload bytes are from uniform: chi-square over 256 values, in standard deviations of chance."""
    counted = np.bincount(np.frombuffer(ring.to_bytes(vector), dtype=np.uint8), minlength=256)
    expected = counted.sum() / 256
    return float((((counted - expected) ** 2 / expected).sum() - 255.0) / np.sqrt(510.0))
