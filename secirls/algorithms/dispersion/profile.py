"""The profile of a gene in one round: its likelihood at some fifty dispersions, summed over sites.

Promises: which dispersions are asked for follows from public moments alone; long questions go in blocks, none of which
depends on another's answer; a gene whose sums can't be sent, or whose series can't be trusted, is told apart.
Refuses to know: what is searched for on a profile, trends, protocols.
Cox and Reid (1987) for the adjusted profile; Trefethen (2013) for the interpolant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import Field
from secirls.algorithms.dispersion.dispersion_start import Means
from secirls.algorithms.query import Algorithm, Query, QueryError, SignedLayout, Total, in_both, some_of
from secirls.algorithms.regression.irls_queries import check_steps, keep_moments, known_steps
from secirls.algorithms.regression.known_information import ask_the_rest
from secirls.algorithms.summands import EXACT, StandIns, largest_honest, largest_summand, resolution
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import packed_size
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.dispersion.interpolant import LARGEST_TAIL, Profiles, interpolate
from secirls.numerics.dispersion.nodes import FEWEST, MOST, Nodes, finer, offsets
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.held.samples import Samples
from secirls.numerics.own.profile import own_profile_sums
from secirls.numerics.regression.information import Information
from secirls.numerics.status import Reason

LARGEST_QUESTION = 1 << 21
"""Numbers in one answer, at most, unless a single gene has more."""
MANY_GENES = 40_000
SHORTER = 4
"""So many times shorter they are where more genes than that have profiles: a site holds a long answer as sums, vector,
message and total, beside the series of all of them."""
CONSTANT_BITS = 10
"""Fraction bits of the constants where the ring is narrow: they reach 1e9, and only a rule of 1e-6 needs them."""
_LARGEST_REACH = 300.0


@dataclass(frozen=True)
class ProfileQuery(Query):
    """Log-likelihoods of each gene at its own dispersions, and (1 + alpha) X'WX at fewer of them.

    Its sum shows a function of the pooled counts of a gene. Whoever knows all its fitted means, as somebody
    who knows every sample's covariates and size factor does, can find the pooled multiset of low counts from exact
    values, and by unequal means which sample each belongs to, so that whoever is told which site a mean is from knows
    whose it is; without that nobody does; with 20 fraction bits seldom. What keeps a site out of it:
    genes are asked about at `min_contributors` sites or more, and all sites are in the sum, so that only all the
    others together find one's part. What keeps a small cell or one sample out of it: the sum is over all
    samples whatever their cell, and its dispersions follow from public moments; none is chosen to single out
    a count, and no gene is asked about more than four times, each time at dispersions of one family.

    A gene of which any sum is not finite, or beyond its honest share, is sent as zeros and ``constant = bound``: the
    sign for *lost* of `IrlsQuery`.
    """

    coefficients: Floats
    """b of the means, ``(genes asked, params)``."""
    scale: Floats
    """C, ``(genes asked,)``."""
    reach: Floats
    """T, ``(genes asked,)``."""
    nodes: Floats
    """Dispersions of the likelihood, whole numbers, ``(genes asked,)``."""
    det_nodes: Floats
    """Dispersions of X'WX, whole numbers, ``(genes asked,)``; 0 of genes whose X'WX is known."""
    rows: Floats
    """First design column of each distinct product, whole numbers, ``(q,)``."""
    columns: Floats
    """Second column of each, ``(q,)``."""
    expand: Floats
    """Which product each entry of the upper triangle is, -1 for zero, ``(params (params + 1) / 2,)``."""
    linear: int
    """1: means are s X b; 0: s exp(X b)."""
    min_mu: float
    """Means are clamped below at this."""
    steps: Floats = field(default_factory=lambda: np.zeros(0))
    """Where own coefficients are, as in `IrlsQuery`, ``(genes asked,)``, or empty."""
    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""

    kind: ClassVar[str] = "profile"

    @classmethod
    def about(cls, genes: Mask, means: Means, nodes: Nodes, products: Products, fraction_bits: int) -> ProfileQuery:
        """The question about these genes, of which `means` and `nodes` are."""
        return cls(
            genes,
            means.coefficients,
            nodes.scale,
            nodes.reach,
            nodes.nodes.astype(np.float64),
            nodes.det_nodes.astype(np.float64),
            products.rows.astype(np.float64),
            products.columns.astype(np.float64),
            products.expand.astype(np.float64),
            int(means.linear),
            means.min_mu,
            means.steps,
            fraction_bits,
        )

    @property
    def products(self) -> Products:
        """Which products of design columns are summed."""
        return Products(*(array.astype(np.intp) for array in (self.rows, self.columns, self.expand)))

    @property
    def places(self) -> Nodes:
        """Where each gene's dispersions are."""
        return Nodes(self.scale, self.reach, self.nodes.astype(np.intp), self.det_nodes.astype(np.intp))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed: ragged by gene, flat."""
        det = int(self.det_nodes.sum())
        return {"loglik": (int(self.nodes.sum()),), "xwx": (det, self.rows.size), "constant": (self.n_genes,)}

    @property
    def values_per_gene(self) -> int:
        """Of the gene with the most nodes."""
        return int(self.places.values(self.rows.size).max(initial=0))

    def layout(self, parties: int, state: bytes = b"") -> SignedLayout:
        """As any query's, but the constants keep few fraction bits where the ring is narrow."""
        layout = super().layout(parties, state)
        if self.fraction_bits == EXACT:
            return layout
        loglik, xwx, constant = layout.fields
        bound = largest_summand(parties, CONSTANT_BITS)
        return replace(layout, fields=(loglik, xwx, Field(constant.name, constant.shape, bound, CONSTANT_BITS)))

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        asked = (self.n_genes,)
        by_gene = (self.scale, self.reach, self.nodes, self.det_nodes)
        if self.coefficients.shape != (self.n_genes, n_params) or any(array.shape != asked for array in by_gene):
            raise QueryError(f"query {self.kind!r}: its arrays do not fit {self.n_genes} genes, {n_params} params")
        det_nodes = self.det_nodes[self.det_nodes != 0]
        if not _whole(self.nodes, FEWEST, 2 * MOST) or not _whole(det_nodes, FEWEST, 2 * MOST):
            raise QueryError(f"query {self.kind!r}: impossible numbers of nodes")
        if not ((self.det_nodes <= self.nodes).all() and (self.scale >= 1).all() and (self.scale <= 1e100).all()):
            raise QueryError(f"query {self.kind!r}: impossible nodes")
        if not ((self.reach > 0).all() and (self.reach <= _LARGEST_REACH).all()) or self.linear not in (0, 1):
            raise QueryError(f"query {self.kind!r}: impossible reach or kind of means")
        if not 0 < self.min_mu <= 1:
            raise QueryError(f"query {self.kind!r}: min_mu is above zero, and 1 or less")
        q = self.rows.shape
        if len(q) != 1 or self.columns.shape != q or self.expand.shape != (packed_size(n_params),):
            raise QueryError(f"query {self.kind!r}: its products do not fit {n_params} params")
        inside = _whole(self.rows, 0, n_params - 1) and _whole(self.columns, 0, n_params - 1)
        if not inside or not _whole(self.expand, -1, self.rows.size - 1):
            raise QueryError(f"query {self.kind!r}: its products name columns that are not there")
        check_steps(self, self.steps)
        values = self.places.values(self.rows.size)
        if values.sum() > max(LARGEST_QUESTION, values.max(initial=0)):
            raise QueryError(f"query {self.kind!r} asks for {values.sum()} numbers at once")

    def apply(self, samples: Samples) -> Samples:
        """Keep what stands for the counts (all genes). Whoever changes counts drops it."""
        return keep_moments(samples)

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        if samples.size_factors is None:
            raise QueryError("this site has no size factors yet: the query that brings them was not asked")
        products, places = self.products, self.places
        if not products.hold(samples.design):
            raise QueryError("products of design columns that are called equal differ at this site")
        linear = bool(self.linear)
        with np.errstate(all="ignore"):
            if samples.own is None:
                loglik, xwx, constant = profile_sums(
                    samples, self.coefficients, places, products, linear=linear, min_mu=self.min_mu
                )
            else:
                steps = known_steps(samples, self.steps)
                loglik, xwx, constant = own_profile_sums(
                    samples, self.coefficients, places, steps, linear=linear, min_mu=self.min_mu
                )
        return {"loglik": loglik, "xwx": xwx, "constant": constant}

    def signed(self, arrays: Mapping[str, Floats], parties: int) -> dict[str, Floats]:
        """With the sign for lost genes in their constants: the other arrays are ragged."""
        places, (loglik, xwx, constant) = self.places, (arrays[name] for name in self.shapes())
        share = largest_honest(parties, self.fraction_bits)
        constant_bits = EXACT if self.fraction_bits == EXACT else CONSTANT_BITS
        constant_bound = largest_summand(parties, constant_bits)
        with np.errstate(invalid="ignore"):
            sent: Mask = np.abs(constant) <= largest_honest(parties, constant_bits)
        sent &= _all_within(np.abs(loglik), places.nodes, share)
        sent &= _all_within(np.abs(xwx).max(axis=1, initial=0.0), places.det_nodes, share)
        if not sent.all():
            loglik = np.where(np.repeat(sent, places.nodes), loglik, 0.0)
            xwx = np.where(np.repeat(sent, places.det_nodes)[:, None], xwx, 0.0)
            constant = np.where(sent, constant, constant_bound)
        return {"loglik": loglik, "xwx": xwx, "constant": constant}

    def stand_ins(self, arrays: Mapping[str, Floats], bounds: Mapping[str, float]) -> StandIns:
        """As `signed` has them."""
        bound, places, xwx = bounds["constant"], self.places, arrays["xwx"]
        gone = arrays["constant"] > bound / 2
        if not gone.any():
            return {}
        nothing = np.where(gone, 0.0, np.nan)
        others = np.broadcast_to(np.repeat(nothing, places.det_nodes)[:, None], xwx.shape)
        loglik = np.repeat(nothing, places.nodes)
        return {"loglik": loglik, "xwx": others, "constant": np.where(gone, bound, np.nan)}


def _whole(array: Floats, least: int, most: int) -> bool:
    """Whether all are whole numbers within a range."""
    return bool(((array == np.round(array)) & (array >= least) & (array <= most)).all())


def _all_within(values: Floats, counts: NDArray[np.intp], limit: float) -> Mask:
    """Which genes have all their values, flat and ragged, within a limit."""
    within, some = np.ones(counts.size, dtype=bool), counts > 0
    if some.any():
        within[some] = np.logical_and.reduceat(values <= limit, offsets(counts)[:-1][some])
    return within


@dataclass(frozen=True)
class Fetched:
    """The profiles of the genes asked about, arrays ``(genes asked,)``."""

    profiles: Profiles
    nodes: Nodes
    reason: NDArray[np.int8]
    """Why a gene has no profile: `Reason.LOST`, `Reason.SINGULAR`; else `Reason.NONE`."""
    rough: Mask
    """Genes whose series stayed too short after a second, finer question; their estimates are good to what it is."""
    cohort: tuple[str, ...]
    """Who is in the sums."""

    @property
    def known(self) -> Mask:
        """Genes with a profile."""
        return np.equal(self.reason, Reason.NONE)


def fetch_profiles(
    genes: Mask,
    means: Means,
    nodes: Nodes,
    products: Products,
    fraction_bits: int = EXACT,
    information: Information | None = None,
) -> Algorithm[Fetched]:
    """The profiles of the masked genes, ``(genes,)``; `means` and `nodes` are of those genes.

    X'WX is asked for where it does not follow from `information`. A gene whose last coefficients are too large has
    counts beyond their bound: it is asked about once more, at a scale that no count is beyond, at more nodes.
    """
    most = _longest(int(np.count_nonzero(genes)))
    fetched = yield from _ask(genes, means, nodes, products, fraction_bits, most, information)
    short = np.flatnonzero(fetched.rough)
    if not short.size:
        return fetched
    there = finer(nodes.take(short))
    return (yield from fetch_again(genes, means, fetched, short, there, products, fraction_bits, information))


def fetch_again(
    genes: Mask,
    means: Means,
    fetched: Fetched,
    again: NDArray[np.intp],
    nodes: Nodes,
    products: Products,
    fraction_bits: int = EXACT,
    information: Information | None = None,
) -> Algorithm[Fetched]:
    """The same profiles with some, by index, asked for anew at other nodes, of which `nodes` are."""
    if not again.size:
        return fetched
    most, some = _longest(fetched.reason.size), some_of(genes, again)
    new = yield from _ask(some, means.take(again), nodes, products, fraction_bits, most, information)
    replaced = {}
    for name in ("reason", "rough"):
        replaced[name] = getattr(fetched, name).copy()
        replaced[name][again] = getattr(new, name)
    places = []
    for name in ("scale", "reach", "nodes", "det_nodes"):
        places.append(getattr(fetched.nodes, name).copy())
        places[-1][again] = getattr(nodes, name)
    profiles = fetched.profiles.replaced(again, new.profiles)
    return Fetched(profiles, Nodes(*places), **replaced, cohort=in_both(fetched.cohort, new.cohort))


def _longest(genes: int) -> int:
    """How many numbers one question asks for at most, where so many genes have profiles."""
    return LARGEST_QUESTION if genes <= MANY_GENES else LARGEST_QUESTION // SHORTER


def _ask(
    genes: Mask,
    means: Means,
    nodes: Nodes,
    products: Products,
    fraction_bits: int,
    most: int,
    information: Information | None,
) -> Algorithm[Fetched]:
    """One round in as many blocks as questions of `most` numbers need."""
    asked, q = int(np.count_nonzero(genes)), products.rows.size
    parts: list[Profiles] = []
    lost, cohort, noise = np.zeros(asked, dtype=bool), None, 0.0
    for block in _blocks(nodes.values(q), most):
        of, at = means.take(block), nodes.take(block)
        if cohort is not None and information is not None and not information.over(cohort):
            information = None
        total = yield from _ask_block(some_of(genes, block), of, at, products, fraction_bits, information)
        bits = EXACT if fraction_bits == EXACT else CONSTANT_BITS
        lost[block] = total["constant"] > largest_summand(len(total.cohort), bits) / 2
        # At once, so that no more is kept of a long answer than its series.
        parts.append(interpolate(total["loglik"], total["xwx"], total["constant"], at, products))
        cohort = total.parties if cohort is None else in_both(cohort, total.parties)
        noise = resolution(len(total.parties), fraction_bits)
    if not parts:
        parts.append(interpolate(np.zeros(0), np.zeros((0, q)), np.zeros(0), nodes, products))
    profiles = Profiles.joined(parts)
    gone = lost | (means.lost == Reason.LOST)
    reason = np.select([gone, profiles.singular], [Reason.LOST, Reason.SINGULAR], Reason.NONE).astype(np.int8)
    rough = (profiles.tail > LARGEST_TAIL + noise) & (reason == Reason.NONE)
    return Fetched(profiles, nodes, reason, rough, cohort or ())


def _ask_block(
    genes: Mask, means: Means, nodes: Nodes, products: Products, fraction_bits: int, information: Information | None
) -> Algorithm[Total]:
    """The total of a question about the masked genes, of which what is known is not asked."""
    whole = ProfileQuery.about(genes, means, nodes, products, fraction_bits)
    if information is None:
        return (yield whole)
    alpha = nodes.det_dispersions
    xwx, known = information.at(means.coefficients, alpha, nodes.det_nodes, linear=means.linear, min_mu=means.min_mu)
    rest = ProfileQuery.about(genes, means, nodes.without(known), products, fraction_bits)
    scaled, rows = xwx * (1.0 + alpha)[:, None], np.repeat(known, nodes.det_nodes)
    return (yield from ask_the_rest(information, whole, rest, "xwx", scaled, rows))


def _blocks(values: NDArray[np.intp], most: int) -> Iterator[slice]:
    """Slices over genes, of at most so many values each unless a single gene has more."""
    ends = np.cumsum(values)
    start = 0
    while start < values.size:
        sent = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, sent + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
