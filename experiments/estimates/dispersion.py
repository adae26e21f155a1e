"""What a round of profiles costs beside other ways to a gene-wise dispersion, and how near each comes.

One session of real sites and pairwise masks per design runs all of them one after the other over the same genes: the
product's profile, R's line search with a round for every step, Newton's method from the moments, FedPyDESeq2's grids,
and the profile again with other numbers of nodes and fraction bits. Costs are the ledger's, without meeting. The path's
truth is R's search on exact sums at every step; the optimum's is Newton's method from a profile of 14 digits.

Two of them are emulated by questions that no fit asks (`dispersion_rounds`). The line search has the kernels compute
second derivatives that it does not send, so its CPU time is somewhat too large. The grids are sent as the others are,
16 bytes a value under masks; FedPyDESeq2 sends 8 in the clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from experiments.estimates import dispersion_rounds as rounds
from experiments.estimates.dispersion_figures import GRIDS, NEWTON, POLISHED, PROFILE, SEARCH, SWEEP, answer, figures
from experiments.groundwork.data_sets import DataSet, open_set, size_factors
from experiments.groundwork.record import Configuration, Experiment, Measurement, Row
from secirls.aggregator.asking import check_present
from secirls.aggregator.rounds import SecureRounds
from secirls.agreement.agreement import agree
from secirls.agreement.ledger import Ledger
from secirls.agreement.ledger import table as ledger_table
from secirls.agreement.order import Place
from secirls.agreement.record import Finished
from secirls.algorithms import beginning
from secirls.algorithms.dispersion.dispersion_newton import polish
from secirls.algorithms.dispersion.dispersion_start import Moments, fitted_means, moments
from secirls.algorithms.dispersion.profile import ProfileQuery
from secirls.algorithms.dispersion.shrunken_dispersions import (
    Question,
    gene_wise,
    map_dispersions,
    trend_and_prior,
)
from secirls.algorithms.fitted import Stages
from secirls.algorithms.query import Algorithm
from secirls.algorithms.regression.irls import IrlsConfig
from secirls.algorithms.regression.unclamped import NewtonConfig
from secirls.algorithms.summands import EXACT
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.inputs.designs.design import Design
from secirls.numerics.arrays import Floats
from secirls.numerics.dispersion.interpolant import Profiles, interpolate
from secirls.numerics.dispersion.nodes import FEWEST, MOST, Nodes, farther, nodes_for
from secirls.numerics.dispersion.optimum import maximise
from secirls.numerics.dispersion.path import walk_gene_wise
from secirls.site.site import Site

CONFIGURATION: Configuration = {
    "seed": 8,
    "engine": "local",
    "protocol": "pairwise",
    # set, design, about how many of its genes with a count
    "designs": [
        ["pasilla", "~ condition", 600],
        ["airway", "~ condition", 600],
        ["airway", "~ site + condition", 600],
        ["hapmap_lcl", "~ condition", 600],
        ["tcga_brca", "~ site + condition", 300],
    ],
    "digits": [6, 7, 8, 9, 10, 11, 12],
    "fraction_bits": [20, 30, 32, EXACT],
    "grid_length": 100,
    "grid_depth": 3,
}
QUICK: Configuration = {
    "designs": [["simulated-60x24x3", "~ site + condition", 60]],
    "digits": [6, 10],
    "fraction_bits": [20, EXACT],
    "grid_length": 20,
}

GENE_WISE, MAP = "gene-wise", "MAP"
_TRUTH_DIGITS = 14
_DET_FEWER = 2
"""Digits of the determinant fewer than of the likelihood, as in the product."""

T = TypeVar("T")


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """One session per design."""
    return [
        Measurement(f"{name}/{design}", partial(measure, name, design, genes, configuration))
        for name, design, genes in configuration["designs"]
    ]


class Key(NamedTuple):
    """What one row is about."""

    method: str
    estimate: str
    digits: int = 0
    """Of the likelihood, in a sweep; 0 elsewhere: the product's own."""
    bits: int = EXACT
    """Fraction bits of the sums."""


@dataclass
class Found:
    """What the methods ended with, arrays ``(genes,)``."""

    params: int
    products: int
    profiles: Profiles
    """Of 14 digits."""
    best: dict[str, Floats] = field(default_factory=dict)
    """The true optimum, by estimate."""
    priors: dict[str, rounds.Prior] = field(default_factory=dict)
    stages: dict[Key, str] = field(default_factory=dict)
    paths: dict[Key, Floats] = field(default_factory=dict)
    """Ends of R's path."""
    optima: dict[Key, Floats] = field(default_factory=dict)

    def shortfall(self, key: Key) -> float | None:
        """By how much L of any gene falls short of its maximum at the optimum that was found."""
        if key not in self.optima:
            return None
        best = self.best[key.estimate]
        both = np.stack([self.optima[key], best], axis=1)
        value, _ = self.profiles.evaluate(both)
        value += self.priors[key.estimate].value(np.arange(best.size), np.log(both))
        return float((value[:, 1] - value[:, 0]).max())


def measure(name: str, design: str, genes: int, configuration: Configuration) -> Iterator[Row]:
    """One row per method, estimate, digits and fraction bits."""
    data = chosen_genes(open_set(name, configuration["seed"]), genes)
    # Once before: to compile, or to load what is compiled, is no method's cost.
    swept = ("digits", "fraction_bits")
    for asked in ({**configuration, **{choice: configuration[choice][:1] for choice in swept}}, configuration):
        stages = Stages()
        methods = partial(every_method, stages=stages, data=data, configuration=asked)
        found, ledger = in_session(data, design, configuration["protocol"], methods)
    ledger = ledger[ledger["verb"] != "wait"]
    ends = np.cumsum([stage.rounds for stage in stages.done])
    costs = {
        stage.name: (stage, ledger[ledger["round"].between(end - stage.rounds, end - 1)])
        for stage, end in zip(stages.done, ends, strict=True)
    }
    sites, n_genes = len(data.parties()), found.best[GENE_WISE].size
    for key, stage_name in found.stages.items():
        row: dict[str, Any] = {
            "set": name, "design": design, "samples": data.whole.n_obs, "sites": sites, "genes": n_genes,
            "params": found.params, "products": found.products, "method": key.method, "estimate": key.estimate,
            "digits": key.digits, "fraction_bits": key.bits,
            "rounds": 0, "values": 0.0, "bytes_up": 0.0, "bytes_down": 0.0, "cpu_seconds": 0.0,
        }  # fmt: skip
        if stage_name in costs:  # a profile that is there already is asked for no more
            stage, here = costs[stage_name]
            row |= {"rounds": stage.rounds, "values": stage.opened / n_genes}
            row |= {column: here[column].sum() / n_genes / sites for column in ("bytes_up", "bytes_down")}
            row["cpu_seconds"] = round(here["cpu_seconds"].sum(), 6)
        ended = found.paths.get(key, found.optima.get(key))
        row |= apart("path", ended, found.paths[Key(SEARCH, key.estimate)])
        row |= apart("optimum", found.optima.get(key), found.best[key.estimate])
        yield row | {"shortfall": found.shortfall(key)}


def apart(what: str, ours: Floats | None, truth: Floats) -> dict[str, Any]:
    """Differences of log dispersions: median, 99 %, largest."""
    if ours is None:
        return dict.fromkeys((f"{what}_median", f"{what}_high", f"{what}_largest"))
    gap = np.abs(np.log(ours / truth))
    return {f"{what}_median": np.median(gap), f"{what}_high": np.quantile(gap, 0.99), f"{what}_largest": gap.max()}


def chosen_genes(data: DataSet, count: int) -> DataSet:
    """About so many of the genes with a count, evenly; size factors of all of them."""
    counts = data.counts()
    known = np.flatnonzero(counts.any(axis=0))
    some = data.genes(known[:: max(1, known.size // count)])
    some.whole.obs["size_factor"] = size_factors(counts)
    return some


# --- one session -------------------------------------------------------------------------------------------------


def in_session(
    data: DataSet, formula: str, protocol: str, algorithm: Callable[[Config, Design, int], Algorithm[T]]
) -> tuple[T, pd.DataFrame]:
    """Lead an algorithm over real sites in this process; gives its result and the ledger."""
    config = Config.read(
        "experiment",
        design=formula,
        levels={"condition": data.levels},
        protocol=protocol,
        trust_aggregator=True,  # what is asked is compared, and is no whole fit
        min_contributors=1,
        own_columns="shared",
        size_factors="size_factor",
    )
    federation = LocalFederation(
        {name: Site(Place(name, adata), config, own_process=False) for name, adata in data.parties().items()}
    )
    sites = federation.sites
    facts = federation.ask("survey", dict.fromkeys(sites, ()))
    check_present("survey", sites, facts)
    agreement, genes = agree(list(facts.values()), config, {}, "experiment")
    check_present("join", sites, federation.ask("join", dict.fromkeys(sites, (agreement,))))
    session = SecureRounds(config, federation, agreement, Ledger("experiment", protocol))
    for event in session.run(algorithm(config, agreement.design(config), len(genes))):
        if isinstance(event, Finished):
            return event.result, ledger_table(list(session.rows))
    raise RuntimeError("the session ended without a result")


def every_method(
    config: Config, design: Design, n_genes: int, stages: Stages, data: DataSet, configuration: Configuration
) -> Algorithm[Found]:
    """From the census to means, then every method as a stage of its own."""
    question, start = yield from stages.named("start", _started(config, design, n_genes, data))
    means, largest = start.base_means, question.largest
    nodes = nodes_for(means, start.base_variances, question.n_samples, largest)
    truth, _ = yield from stages.named("truth", _profiles(question, with_digits(nodes, _TRUTH_DIGITS), EXACT))
    found = Found(question.products.params, question.products.size, truth)

    def named(key: Key, asked: Algorithm[T]) -> Algorithm[T]:
        found.stages[key] = "/".join(map(str, key))
        return stages.named(found.stages[key], asked)

    def others(
        estimate: str, begin: Floats, profiles: Profiles, trend: Floats | None, variance: float
    ) -> Algorithm[None]:
        """The optimum on the profile, and everything but the profile."""
        prior = rounds.flat(begin.size) if trend is None else rounds.Prior(np.log(trend), variance)
        found.priors[estimate] = prior
        told = None if trend is None else prior
        sharpen = partial(
            polish, question.genes, question.means, products=question.products, max_dispersion=largest, trend=trend,
            prior_variance=variance,
        )  # fmt: skip
        near = maximise(truth, largest, trend, variance)
        found.best[estimate] = yield from stages.named(f"best {estimate}", sharpen(near))
        near = maximise(profiles, largest, trend, variance)
        found.optima[Key(PROFILE, estimate)] = near
        key = Key(POLISHED, estimate)
        found.optima[key] = yield from named(key, sharpen(near))
        key = Key(SEARCH, estimate)
        found.paths[key], _ = yield from named(key, rounds.line_search(question, begin, told))
        key = Key(NEWTON, estimate)
        found.optima[key] = yield from named(key, rounds.newton(question, begin, told))
        key, size = Key(GRIDS, estimate), (configuration["grid_length"], configuration["grid_depth"])
        found.optima[key] = yield from named(key, rounds.grids(question, *size, told))

    key = Key(PROFILE, GENE_WISE)
    first = yield from named(key, gene_wise(question, start))
    found.paths[key] = first.dispersions
    yield from others(GENE_WISE, start.start, first.fetched.profiles, None, 1.0)
    towards = trend_and_prior(means, first.dispersions, int(question.n_samples), found.params)
    trend = towards.trend.at(means)
    key = Key(PROFILE, MAP)
    last = yield from named(key, map_dispersions(question, first, means, towards))
    found.paths[key] = last.maximum
    begin = np.where(first.dispersions > 0.1 * trend, first.dispersions, trend)
    yield from others(MAP, begin, last.fetched.profiles, trend, towards.prior_variance)
    for digits in configuration["digits"]:
        for bits in configuration["fraction_bits"]:
            key = Key(SWEEP, GENE_WISE, digits, bits)
            found.paths[key], found.optima[key] = yield from named(key, _swept(question, start, nodes, digits, bits))
    return found


def _started(config: Config, design: Design, n_genes: int, data: DataSet) -> Algorithm[tuple[Question, Moments]]:
    """What all methods rest on: moments and means."""
    begun = yield from beginning.begin(config, design, n_genes)
    normalisation = yield from beginning.size_factors(config, begun, None)
    start = yield from moments(begun.genes, begun.xtx, begun.n_samples, normalisation)
    cells = len(data.whole.obs[[name for name in ("site", "condition") if name in config.design]].drop_duplicates())
    products = design.products()
    way = replace(IrlsConfig.deseq2(), products=products), NewtonConfig(products=products)
    means = yield from fitted_means(begun.genes, start, *way, linear=cells == len(design.columns))
    if means.lost.any() or not begun.genes.all():
        raise RuntimeError("every chosen gene must have means")
    return Question(begun.genes, means, products, begun.n_samples), start


def with_digits(nodes: Nodes, digits: int) -> Nodes:
    """As many nodes as so many digits of the likelihood need, two fewer for the determinant; places as they are."""
    half_width = 2.0 * np.pi / nodes.reach
    decay = np.log(half_width + np.sqrt(1.0 + half_width**2))
    likelihood, det = (
        np.clip(np.ceil(wanted * np.log(10.0) / decay), FEWEST, MOST).astype(np.intp)
        for wanted in (digits, digits - _DET_FEWER)
    )
    return Nodes(nodes.scale, nodes.reach, likelihood, det)


def _profiles(
    question: Question, nodes: Nodes, bits: int, genes: rounds.Places | None = None
) -> Algorithm[tuple[Profiles, Nodes]]:
    """One question and its series, whatever its last coefficients are."""
    means, mask = question.means, question.genes
    if genes is not None:
        mask = rounds.about(question, genes)
        means = means.take(genes)
    total = yield ProfileQuery.about(mask, means, nodes, question.products, bits)
    return interpolate(total["loglik"], total["xwx"], total["constant"], nodes, question.products), nodes


def _swept(
    question: Question, start: Moments, nodes: Nodes, digits: int, bits: int
) -> Algorithm[tuple[Floats, Floats]]:
    """Path and optimum from one question, and a second for genes whose path goes beyond its nodes."""
    profiles, asked = yield from _profiles(question, with_digits(nodes, digits), bits)
    walked = walk_gene_wise(profiles, start.start, question.largest)
    path, far = walked.dispersions.copy(), np.flatnonzero(walked.beyond)
    if far.size:
        again = with_digits(farther(asked.take(far)), digits)
        more, _ = yield from _profiles(question, again, bits, far)
        path[far] = walk_gene_wise(more, start.start[far], question.largest).dispersions
    return path, maximise(profiles, question.largest)


EXPERIMENT = Experiment(
    name="dispersion",
    question="What does a round of profiles cost beside a line search, Newton's method or grids by rounds?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
