"""What a design by site opens, ``~ site + condition``: with every column summed, and with columns of one site at home.

Summed, the columns give every site's own sums, and from rounds of them its counts. At home, an attacker has sums over
all sites alone. He is given more than anybody has: every fitted mean and size factor, and what the determinants at home
take off; then a gene's profile, its totals and its number of zeros are linear in which sample has which count, and are
solved for that (Lawson and Hanson 1974). Promises: counts are used to mark a guess and for nothing else. Refuses to
know: how its rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import gammaln

from experiments.groundwork.data_sets import DataSet, open_set
from experiments.groundwork.record import Configuration, Row
from experiments.leakage.attacks import NO_RULE, row
from experiments.leakage.completing import irls_of, sums_of
from experiments.leakage.eavesdrop import Heard, Session, listen
from protocols.secure_sum import PartyId
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery
from secirls.algorithms.dispersion.profile import ProfileQuery
from secirls.algorithms.query import Query
from secirls.algorithms.regression.irls_queries import known_steps
from secirls.algorithms.sent_products import opened_square
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arrays import Floats
from secirls.numerics.dispersion.nodes import node_dispersions, offsets
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.held import held_counts
from secirls.numerics.held.samples import Samples
from secirls.numerics.own.coefficients import joint_coefficients, linear
from secirls.numerics.own.profile import own_profile_sums
from secirls.numerics.regression import likelihood
from secirls.site.site import Site

DESIGN = "~ site + condition"
OWN = "own columns"
BINS: Mapping[str, tuple[float, float]] = {
    "below 2": (0.0, 2.0), "2 to 10": (2.0, 10.0), "10 to 50": (10.0, 50.0), "50 and more": (50.0, np.inf),
}  # fmt: skip
"""Of a gene's mean count: above the first, up to the second."""
MEANS: Mapping[str, float] = {"every digit": 0.0, "three digits": 1e-3}
"""How well fitted means are known, and the standard deviation of the error of their logs."""
TOLD, UNTOLD, CHANCE = "means told by site", "means told, not whose", "true counts dealt to sites"
_THINNED = (0.5, 150.0)
"""Mean counts of simulated genes, log-uniform."""


# --- every column summed ------------------------------------------------------------------------------------------


def shared(configuration: Configuration) -> Iterator[Row]:
    """Counts of single samples from an honest fit's own opened sums, each site with one sample per condition."""
    data = open_set(configuration["set"], configuration["seed"])
    session = listen(data, "plain", design=DESIGN, own_columns="shared")
    guessed, genes = counts_by_column(session, len(data.sites()))
    truth = _in_order(data)[:, genes]
    for view, chosen in _binned(truth.mean(axis=0)):
        yield row(
            "attribution", NO_RULE, view=view, x=truth.shape[0], guesses=truth[:, chosen].size,
            exact=float((guessed == truth)[:, chosen].mean()), outcome="opened sums alone",
        )  # fmt: skip


def counts_by_column(session: Session, sites: int) -> tuple[Floats, NDArray[np.intp]]:
    """Counts ``(samples, genes)`` by site and condition, and which genes, from sums by column.

    X'WX gives every sample's weight and so, with the table's coefficients, its size factor; then each round's X'Wz is
    linear in the two counts that a site has of a gene.
    """
    adopted = session.rounds_of("adopt_dispersions")[0].query
    if not isinstance(adopted, AdoptDispersionsQuery):
        raise TypeError("dispersions come with their own query")
    genes = np.flatnonzero(adopted.genes)
    alpha = adopted.dispersions
    rounds = session.rounds_of("irls")
    shape = (len(rounds) + 1, 2, sites, genes.size)
    coefficients, answers, log_s = np.zeros(shape), np.zeros((shape[0], *shape[2:])), np.zeros((2, sites, 1))
    for number, told in enumerate(rounds):
        query, sums = irls_of(told), sums_of(session, told, told.cohort)
        at = np.searchsorted(genes, np.flatnonzero(query.genes))
        first = query.beta[:, :1]
        eta = np.hstack([first, first + query.beta[:, 1:sites]]).T
        eta = np.stack([eta, eta + query.beta[:, sites]])
        if not number:
            upper = opened_square(sums["xtwx"], query.expand)
            treated = _apart(upper[:, :sites, sites])
            weight = np.stack([_apart(upper[:, 0, :sites]) - treated, treated])
            with np.errstate(all="ignore"):
                logs = np.log(weight / (1.0 - alpha[at] * weight)) - eta
            sure = np.isfinite(logs).all(axis=(0, 1)) & (weight > 5.0).all(axis=(0, 1))
            log_s = np.median(logs[:, :, sure], axis=2, keepdims=True)
        mu = np.maximum(np.exp(eta + log_s), query.min_mu)
        share = 1.0 / (1.0 + alpha[at] * mu)
        coefficients[number][..., at] = share
        known = (share * mu * (np.log(mu) - log_s - 1.0)).sum(axis=0)
        answers[number][..., at] = _apart(sums["xtwz"][:, :sites]) - known
    normalised = session.rounds_of("normalised")[0]
    at = np.searchsorted(genes, np.flatnonzero(normalised.query.genes))
    here = at < genes.size
    here[here] = genes[at[here]] == np.flatnonzero(normalised.query.genes)[here]
    coefficients[-1][..., at[here]] = np.exp(-log_s)
    answers[-1][..., at[here]] = _apart(normalised.opened()["xt_normalised"][:, :sites])[:, here]
    found = np.linalg.pinv(coefficients.transpose(3, 2, 0, 1)) @ answers.transpose(2, 1, 0)[..., None]
    return np.rint(found[..., 0].transpose(1, 2, 0).reshape(2 * sites, -1)), genes


def _apart(sums: Floats) -> Floats:
    """Sums by site ``(sites, genes)``; the reference's are what the other sites' columns leave of the intercept's."""
    by_site: Floats = np.column_stack([sums[:, 0] - sums[:, 1:].sum(axis=1), sums[:, 1:]]).T
    return by_site


def _in_order(data: DataSet) -> Floats:
    """Counts by site, and within it by condition, ``(samples, genes)``."""
    treated = data.design()[:, 1]
    return data.counts()[np.lexsort([treated, data.whole.obs["site"].astype(str)])].astype(np.float64)


def _binned(means: Floats) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """The genes of every class of mean counts, by index, where there are any."""
    for view, (least, most) in BINS.items():
        chosen = np.flatnonzero((means > least) & (means <= most))
        if chosen.size:
            yield view, chosen


# --- columns of one site at home ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """What the attacker is given beside the opened sums, by site and within it by condition."""

    mu: Floats
    """Fitted means where the profile is taken, ``(genes asked, samples)``."""
    size_factors: Floats
    """``(samples,)``."""
    beside: Floats
    """The condition's column with the sites' own taken out, ``(samples,)``."""
    home: Floats
    """What determinants at home take off the log-likelihood, functions of the means, ``(sum of nodes,)``."""
    counts: NDArray[np.int32] = field(repr=False)
    """The truth, to mark a guess, ``(genes asked, samples)``."""
    sites: int


@dataclass
class Generous:
    """A witness that keeps `Given` of the first profile."""

    query: ProfileQuery | None = None
    given: Given | None = None

    def __call__(self, query: Query, sites: Mapping[PartyId, Site]) -> None:
        """Before the sites answer."""
        if self.query is not None or not isinstance(query, ProfileQuery):
            return
        self.query = query
        parts = [_given(query, site._samples.take(query.genes)) for site in sites.values() if site._samples]  # noqa: SLF001 - no message has it
        self.given = Given(
            np.hstack([part.mu for part in parts]),
            np.concatenate([part.size_factors for part in parts]),
            np.concatenate([part.beside for part in parts]),
            np.sum([part.home for part in parts], axis=0),
            np.hstack([part.counts for part in parts]),
            len(parts),
        )


def _given(query: ProfileQuery, samples: Samples) -> Given:
    """One site's part, by its own kernels: the determinant is what its answer is short of the joint likelihood."""
    if samples.size_factors is None or query.linear:
        raise ValueError("profiles of a design by site come after size factors, at means that are not linear")
    steps, places, joint = known_steps(samples, query.steps), query.places, samples.joint
    at = joint_coefficients(samples, query.coefficients, steps)
    products = Products.among(np.unique(joint.design, axis=0))
    answer = own_profile_sums(samples, query.coefficients, places, steps, linear=False, min_mu=query.min_mu)
    whole = profile_sums(joint, at, places, products, linear=False, min_mu=query.min_mu)
    mu = np.maximum(samples.size_factors * np.exp(linear(joint.design, at)), query.min_mu)
    order = np.argsort(samples.design[:, -1], kind="stable")
    return Given(
        mu[:, order],
        samples.size_factors[order],
        samples.beside_own[order, -1],
        answer.loglik - whole.loglik,
        held_counts.whole(samples.counts).T[:, order],
        1,
    )


def own_columns(name: str, configuration: Configuration) -> Iterator[Row]:
    """Solve for which sample has which count, gene by gene, and mark the multiset and whose counts they are."""
    data = open_set(name, configuration["seed"])
    if name != "airway":
        data = thinned(data, configuration["seed"])
    witness = Generous()
    session = listen(data, "plain", design=DESIGN, preset="deseq2", witness=witness)
    if witness.given is None:
        raise RuntimeError("the fit asked for no profile")
    solver = Solver.of(session, witness.given)
    stream = np.random.default_rng(configuration["seed"])
    fitted = np.flatnonzero(np.isfinite(witness.given.mu).all(axis=1))
    for view, chosen in _binned(witness.given.counts[fitted].mean(axis=1)):
        genes = _affordable(solver, stream.permutation(fitted[chosen]), configuration)
        for digits, error in MEANS.items():
            if not genes.size or (error and name != "airway"):
                continue
            off = error * stream.standard_normal(witness.given.mu.shape)
            guessed = [solver.solve(gene, witness.given.mu[gene] * np.exp(off[gene])) for gene in genes]
            yield from _marked(guessed, genes, witness.given, view, f"{_family(name)}, means to {digits}")


def _family(name: str) -> str:
    return name.partition("-")[0]


def thinned(data: DataSet, seed: int) -> DataSet:
    """The same with mean counts of a wide range: reads are kept at random, which leaves dispersions as they are."""
    stream, counts = np.random.default_rng(seed), data.counts()
    least, most = np.log(_THINNED)
    target = np.exp(stream.uniform(least, most, counts.shape[1]))
    whole = data.whole.copy()
    whole.X = stream.binomial(counts, np.minimum(target / counts.mean(axis=0), 1.0)).astype(np.int32)
    return replace(data, whole=whole)


def _affordable(solver: Solver, genes: NDArray[np.intp], configuration: Configuration) -> NDArray[np.intp]:
    """The first of them: so many, with so many unknowns in all; none where half of that is less than a gene has."""
    sizes = np.array([solver.unknowns(gene) for gene in genes])
    if np.median(sizes) > configuration["unknowns"] / 2:
        return genes[:0]
    within = int((np.cumsum(sizes) <= configuration["unknowns"]).sum())
    return genes[: min(within, configuration["tried"])]


@dataclass(frozen=True)
class Solver:
    """From opened sums and given means to shares ``(samples, counts)`` of one gene: how far a sample has a count."""

    query: ProfileQuery
    given: Given
    sums: Mapping[str, Floats]
    """Over all sites; those of other rounds in the order of the profile's genes."""
    alphas: Floats
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, session: Session, given: Given) -> Solver:
        """Of the first profile of a fit under `plain`."""
        told = session.rounds_of("profile")[0]
        query = told.query
        if not isinstance(query, ProfileQuery):
            raise TypeError(f"not a profile: {query.kind}")
        sums = told.opened()
        for kind, names in (("normalised", ("normalised", "xt_normalised")), ("log_counts", ("zeros", "log_counts"))):
            sums |= _among(session.rounds_of(kind)[0], query, names)
        alphas = node_dispersions(query.scale, query.reach, query.places.nodes)
        return cls(query, given, sums, alphas, offsets(query.places.nodes))

    def largest(self, gene: int) -> int:
        """No count is larger: the question says the bound of normalised counts that its nodes were made for."""
        bound = (self.query.scale[gene] / 2.0 - 2.0) / 4.0
        return int(np.floor(bound * self.given.size_factors.max() * (1 + 1e-9)))

    def unknowns(self, gene: int) -> int:
        """How many shares there are."""
        return self.given.size_factors.size * (self.largest(gene) + 1)

    def solve(self, gene: int, mu: Floats) -> Floats:
        """Shares that fit the sums, none below zero; zeros where no solution is found."""
        here = slice(self.starts[gene], self.starts[gene + 1])
        y = np.arange(self.largest(gene) + 1.0)
        n, s = mu.size, self.given.size_factors[:, None]
        log_mu = np.log(mu)[:, None]
        loglik = -likelihood.nll(np.tile(y, n)[:, None], np.repeat(log_mu[:, 0], y.size)[:, None], self.alphas[here])
        totals = {
            "constant": y * log_mu - gammaln(y + 1.0),
            "normalised": y / s,
            "xt_normalised": self.given.beside[:, None] * y / s,
            "zeros": np.broadcast_to(y == 0, (n, y.size)),
            "log_counts": np.broadcast_to(np.log(np.maximum(y, 1.0)), (n, y.size)),
        }
        one_each = np.kron(np.eye(n), np.ones(y.size))
        left = np.vstack([loglik.T, *(total.reshape(1, -1) for total in totals.values()), one_each])
        opened = [np.ravel(self.sums[name][gene]) for name in totals]
        right = np.concatenate([self.sums["loglik"][here] - self.given.home[here], *opened, np.ones(n)])
        scale = 1.0 / np.maximum(np.abs(left).max(axis=1), 1e-300)
        try:
            shares: Floats = nnls(left * scale[:, None], right * scale)[0].reshape(n, y.size)
        except RuntimeError:  # too many steps
            return np.zeros((n, y.size))
        return shares


def _among(told: Heard, query: ProfileQuery, names: tuple[str, ...]) -> dict[str, Floats]:
    """Sums of a round for the genes of the profile."""
    at = np.searchsorted(np.flatnonzero(told.query.genes), np.flatnonzero(query.genes))
    sums = told.opened()
    return {name: sums[name][at] for name in names}


def _marked(guessed: list[Floats], genes: NDArray[np.intp], given: Given, view: str, outcome: str) -> Iterator[Row]:
    """How many multisets are right; and whose counts, if means are known by site, if not, and by chance."""
    whole: list[bool] = []
    right: dict[str, list[float]] = {TOLD: [], UNTOLD: [], CHANCE: []}
    for shares, gene in zip(guessed, genes, strict=True):
        truth = given.counts[gene]
        by_sample = np.rint(shares @ np.arange(shares.shape[1])).astype(int)
        pooled = np.rint(shares.sum(axis=0)).astype(int)
        true_pool = np.bincount(truth, minlength=pooled.size)
        whole.append(np.array_equal(pooled, true_pool) or np.array_equal(np.sort(by_sample), np.sort(truth)))
        right[TOLD].append(float((by_sample == truth).mean()))
        right[UNTOLD].append(_dealt(by_sample, truth, given.sites))
        right[CHANCE].append(_dealt(truth, truth, given.sites))
    told: dict[str, Any] = {"view": view, "x": given.counts.shape[1]}
    yield row("multiset", OWN, guesses=len(whole), exact=float(np.mean(whole)), outcome=outcome, **told)
    for how, shares_right in right.items():
        exact, guesses = float(np.mean(shares_right)), len(whole) * given.counts.shape[1]
        yield row("attribution", OWN, guesses=guesses, exact=exact, outcome=f"{outcome}; {how}", **told)


def _dealt(guessed: NDArray[Any], truth: NDArray[Any], sites: int) -> float:
    """The share that is right with the sites dealt at random: in turn, the mean over every beginning.

    The sums are the same, bit for bit, whichever site has which data, so nobody who is not told does better.
    """
    by_site = guessed.reshape(sites, -1)
    return float(np.mean([np.roll(by_site, turn, axis=0).ravel() == truth for turn in range(sites)]))
