"""Other ways to a dispersion by secure sums than the product's profile, as algorithms over real questions.

Promises: each is driven over the same federation, genes and means as the profile, and asks for no more than its method
needs: R's line search one step a round, Newton's method from the start, FedPyDESeq2's grids. Refuses to know: what they
cost, which is booked by whoever drives them.

Love, Huber and Anders (2014, methods) for the line search, as `secirls.numerics.dispersion.path` walks it on an
interpolant; Muzellec et al. (2024) for the grids: 100 dispersions evenly in the logarithm over the whole range, twice
again around the best, with the log-likelihood and a whole matrix X'WX at each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.dispersion.dispersion_newton import DispersionNewtonQuery
from secirls.algorithms.dispersion.dispersion_start import MIN_MU
from secirls.algorithms.dispersion.shrunken_dispersions import Question
from secirls.algorithms.query import Algorithm, Query, QueryError, Total
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.dispersion import kernel
from secirls.numerics.dispersion.curvature import CurvatureSums, adjusted_derivatives, curvature_sums
from secirls.numerics.dispersion.interpolant import log_determinants
from secirls.numerics.held import held_counts
from secirls.numerics.held.samples import Samples

MIN_DISPERSION = 1e-8
ITERATIONS = 100
_LOWEST, _HIGHEST = -30.0, 10.0
_R_GRID = 20
_LONGEST_STEP, _SHORTEST_STEP, _NEWTON_ROUNDS = 3.0, 1e-8, 60
_CURVED = 1e-3
"""Newton's method begins no lower: a profile is flat near 1e-8."""
_PRECISE = 1e-9
"""What the kernels' slopes are good to."""
_STRAIGHT = 1e-6

Places = NDArray[np.intp]
"""Genes by their index among those asked about."""


@dataclass(frozen=True)
class Prior:
    """A normal one of log alpha: no method asks sites about it."""

    centre: Floats
    """Log trend, ``(genes,)``."""
    variance: float

    def value(self, places: Places, a: Floats) -> Floats:
        """What it adds to L at log dispersions ``(genes,)`` or ``(genes, k)``."""
        off = (a.T - self.centre[places]).T
        added: Floats = -0.5 * off**2 / self.variance
        return added

    def slope(self, places: Places, a: Floats) -> Floats:
        """And to its slope."""
        added: Floats = -((a.T - self.centre[places]).T) / self.variance
        return added


def flat(genes: int) -> Prior:
    """No prior."""
    return Prior(np.zeros(genes), np.inf)


@dataclass(frozen=True)
class LikelihoodsQuery(Query):
    """Log-likelihoods of each gene at any dispersions, with (1 + alpha) X'WX, and slopes if wanted.

    Its sum shows what `ProfileQuery` shows, at dispersions that the asker chooses freely; ``min_contributors`` keeps a
    site out of it. For experiments: no fit asks it.
    """

    coefficients: Floats
    """b of the means, ``(genes asked, params)``."""
    dispersions: Floats
    """alpha, ``(genes asked, k)``."""
    rows: Floats
    """First design column of each product that is summed, ``(q,)``."""
    columns: Floats
    """Second column of each, ``(q,)``."""
    linear: int
    """1: means are s X b; 0: s exp(X b)."""
    order: int
    """1: slopes too, at one dispersion a gene."""
    constant: int
    """1: the sum of y log mu - log y! too."""

    kind: ClassVar[str] = "experiment_likelihoods"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        genes, q = self.n_genes, self.rows.size
        k = self.dispersions.shape[1] if len(self.dispersions.shape) == 2 else 0
        shapes: dict[str, tuple[int, ...]] = {"loglik": (genes, k), "xwx": (genes, k, q)}
        if self.order:
            shapes |= {"slope": (genes,), "xwwx": (genes, q)}
        return shapes | ({"constant": (genes,)} if self.constant else {})

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if self.coefficients.shape != (self.n_genes, n_params) or self.dispersions.shape[:1] != (self.n_genes,):
            raise QueryError(f"query {self.kind!r}: its arrays do not fit {self.n_genes} genes, {n_params} params")

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site, by the kernels of the product."""
        if samples.size_factors is None:
            raise QueryError("this site has no size factors yet")
        genes, k = self.dispersions.shape
        pairs = Products(self.rows.astype(np.intp), self.columns.astype(np.intp), np.zeros(0, dtype=np.intp))
        starts = k * np.arange(genes + 1)
        flat = np.ascontiguousarray(self.dispersions.reshape(-1))
        loglik, xwx, constant = np.empty(flat.size), np.empty((flat.size, self.rows.size)), np.empty(genes)
        levels, level = np.unique(pairs.of(samples.design), axis=0, return_inverse=True)
        order = np.argsort(level.reshape(-1), kind="stable")
        kernel.profile(
            np.ascontiguousarray(held_counts.whole(samples.counts).T[:, order]),
            self.coefficients,
            np.ascontiguousarray(samples.design[order]),
            levels,
            np.ascontiguousarray(level.reshape(-1)[order]),
            np.ascontiguousarray(samples.size_factors[order]),
            MIN_MU,
            bool(self.linear),
            flat,
            starts,
            flat,
            starts,
            loglik,
            xwx,
            constant,
        )
        sums = {"loglik": loglik.reshape(genes, k), "xwx": xwx.reshape(genes, k, -1)}
        if self.order:
            found = curvature_sums(samples, self.coefficients, flat, pairs, linear=bool(self.linear), min_mu=MIN_MU)
            sums |= {"slope": found.derivatives[:, 0], "xwwx": found.powers[:, 1]}
        return sums | ({"constant": constant} if self.constant else {})


def about(question: Question, places: Places) -> Mask:
    """Some of the genes asked about, as a mask of all."""
    mask = np.zeros_like(question.genes)
    mask[np.flatnonzero(question.genes)[places]] = True
    return mask


def _asked(
    question: Question, places: Places, alpha: Floats, products: Products, *, order: int = 0, constant: int = 0
) -> Algorithm[Total]:
    return (
        yield LikelihoodsQuery(
            about(question, places),
            np.ascontiguousarray(question.means.coefficients[places]),
            alpha,
            products.rows.astype(np.float64),
            products.columns.astype(np.float64),
            int(question.means.linear),
            order,
            constant,
        )
    )


def _adjusted(total: Total, alpha: Floats, packed: Floats) -> Floats:
    """L at dispersions ``(genes, k)``, from (1 + alpha) X'WX as upper triangles ``(genes, k, p (p + 1) / 2)``."""
    entries = packed.shape[-1]
    params = int((np.sqrt(8 * entries + 1) - 1) / 2)
    log_det = log_determinants(packed.reshape(-1, entries))[0].reshape(alpha.shape)
    value: Floats = total["loglik"] - 0.5 * (log_det - params * np.log1p(alpha))
    return value


# --- R's line search, a round a step -----------------------------------------------------------------------------


@dataclass
class _Walk:
    """Where the search of each gene stands, arrays ``(genes,)``."""

    a: Floats
    value: Floats
    slope: Floats
    kappa: Floats
    accepted: NDArray[np.intp]
    tried: NDArray[np.intp]

    def propose(self, places: Places) -> Floats:
        """The next log dispersions, within what R allows."""
        a, slope, kappa = self.a[places], self.slope[places], self.kappa[places]
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa = np.where(a + kappa * slope < _LOWEST, (_LOWEST - a) / slope, kappa)
            kappa = np.where(a + kappa * slope > _HIGHEST, (_HIGHEST - a) / slope, kappa)
        self.kappa[places] = kappa
        proposed: Floats = a + kappa * slope
        return proposed

    def take(self, places: Places, proposed: Floats, new: Floats, new_slope: Floats) -> Places:
        """Judge the proposals; gives who goes on."""
        self.tried[places] += 1
        value, slope, kappa = self.value[places], self.slope[places], self.kappa[places]
        refused = -new > -value - kappa * 1e-4 * slope**2
        self.kappa[places[refused]] /= 2
        moved = places[~refused]
        rise, new, new_slope = (new - value)[~refused], new[~refused], new_slope[~refused]
        self.accepted[moved] += 1
        self.a[moved] = proposed[~refused]
        small, low = rise < 1e-6, self.a[moved] < np.log(MIN_DISPERSION / 10)
        self.value[moved[small]] = new[small]
        on = ~small & ~low
        going = moved[on]
        self.value[going], self.slope[going] = new[on], new_slope[on]
        self.kappa[going] = np.minimum(1.1 * self.kappa[going], 1.0)
        self.kappa[going[self.accepted[going] % 5 == 0]] /= 2
        left = np.concatenate([places[refused], going])
        left.sort()
        on_time: Places = left[self.tried[left] < ITERATIONS]
        return on_time


def line_search(
    question: Question, begin: Floats, prior: Prior | None = None
) -> Algorithm[tuple[Floats, NDArray[np.intp]]]:
    """R's gene-wise estimates from moments, or under a prior its MAP ones from their start, every step a round.

    Gives dispersions and how many steps were tried, ``(genes asked,)``.
    """
    genes, towards = begin.size, prior or flat(begin.size)
    everyone = np.arange(genes)
    a = np.log(begin)
    value, slope, constant = yield from _order_one(question, everyone, a, towards, constant=int(prior is None))
    walk = _Walk(a, value.copy(), slope, np.ones(genes), np.zeros(genes, np.intp), np.zeros(genes, np.intp))
    going = everyone
    while going.size:
        proposed = walk.propose(going)
        new, new_slope, _ = yield from _order_one(question, going, proposed, towards)
        going = walk.take(going, proposed, new, new_slope)
    found, searched = np.exp(walk.a), walk.tried == ITERATIONS
    if prior is None:
        kept = walk.value < value + 1e-6 * np.abs(value - constant)
        found = np.where(kept, begin, np.minimum(found, question.largest))
        searched = (searched | (walk.tried == 1)) & (found > 10 * MIN_DISPERSION)
    again = np.flatnonzero(searched)
    if again.size:
        low, high = np.log(MIN_DISPERSION), np.log(question.largest)
        spacing = (high - low) / (_R_GRID - 1)
        around = yield from _best(question, again, np.full(again.size, low), spacing, towards)
        best = yield from _best(question, again, around - spacing, 2 * spacing / (_R_GRID - 1), towards)
        found[again] = np.exp(best)
    return np.clip(found, MIN_DISPERSION, question.largest), walk.tried


def _order_one(
    question: Question, places: Places, a: Floats, prior: Prior, *, constant: int = 0
) -> Algorithm[tuple[Floats, Floats, Floats]]:
    """L, its slope in log alpha, and the constant where asked for, ``(genes,)``."""
    products, alpha = question.products, np.exp(a)
    total = yield from _asked(question, places, alpha[:, None], products, order=1, constant=constant)
    value = _adjusted(total, alpha[:, None], products.packed(total["xwx"]))[:, 0]
    none = np.zeros_like(total["xwwx"])
    derivatives = np.stack([total["slope"], np.zeros_like(total["slope"])], axis=1)
    powers = np.ascontiguousarray(np.stack([total["xwx"][:, 0], total["xwwx"], none], axis=1))
    slope, _, _ = adjusted_derivatives(CurvatureSums(derivatives, powers), products)
    known = total["constant"] if constant else np.zeros(places.size)
    return value + prior.value(places, a), slope + prior.slope(places, a), known


def _best(question: Question, places: Places, low: Floats, spacing: float, prior: Prior) -> Algorithm[Floats]:
    """The first best of R's 20 evenly spaced log dispersions."""
    grid = low[:, None] + spacing * np.arange(_R_GRID)
    total = yield from _asked(question, places, np.exp(grid), question.products)
    value = _adjusted(total, np.exp(grid), question.products.packed(total["xwx"])) + prior.value(places, grid)
    best: Floats = grid[np.arange(places.size), value.argmax(axis=1)]
    return best


# --- Newton's method ---------------------------------------------------------------------------------------------


def newton(question: Question, begin: Floats, prior: Prior | None = None) -> Algorithm[Floats]:
    """Optima by Newton's method, between the last places where the slope pointed up and down."""
    low, high = np.log(MIN_DISPERSION), np.log(question.largest)
    a = np.clip(np.log(begin), np.log(_CURVED), high)
    lower, upper, towards = np.full(a.size, low), np.full(a.size, high), prior or flat(a.size)
    products, going = question.products, np.arange(a.size)
    for _ in range(_NEWTON_ROUNDS):
        if not going.size:
            break
        here = a[going]
        total = yield DispersionNewtonQuery(
            about(question, going),
            np.ascontiguousarray(question.means.coefficients[going]),
            np.exp(here),
            products.rows.astype(np.float64),
            products.columns.astype(np.float64),
            int(question.means.linear),
            question.means.min_mu,
        )
        first, second, _ = adjusted_derivatives(CurvatureSums(total["derivatives"], total["powers"]), products)
        first, second = first + towards.slope(going, here), second - 1.0 / towards.variance
        up = first > 0
        lower[going[up]], upper[going[~up]] = here[up], here[~up]
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(second < 0, -first / second, np.where(up, np.inf, -np.inf))
        new = np.clip(here + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP), low, high)
        left, right = lower[going], upper[going]
        bracketed = ((new <= left) & (left > low)) | ((new >= right) & (right < high))
        new = np.where(bracketed, (left + right) / 2, new)
        level = np.abs(first) < _PRECISE
        flat_below = (np.abs(second) < _STRAIGHT) & (left == low)  # no slope pointed up, and none will
        a[going] = np.where(level, np.where(flat_below, low, here), new)
        going = going[~level & (np.abs(new - here) >= _SHORTEST_STEP)]
    found: Floats = np.exp(a)
    return found


# --- grids -------------------------------------------------------------------------------------------------------


def grids(question: Question, length: int, depth: int, prior: Prior | None = None) -> Algorithm[Floats]:
    """Optima as FedPyDESeq2 searches them, each grid twice its spacing around the best of the one before."""
    params, places = question.products.params, np.arange(question.means.lost.size)
    towards = prior or flat(places.size)
    first, second = (axis.reshape(-1) for axis in np.indices((params, params)))
    whole = Products(first, second, np.zeros(0, dtype=np.intp))
    triangle = np.flatnonzero(first <= second)
    low, high = np.log(MIN_DISPERSION), np.log(question.largest)
    lowest, highest = np.full(places.size, low), np.full(places.size, high)
    best = lowest
    for _ in range(depth):
        grid = np.linspace(lowest, highest, length, axis=1)
        total = yield from _asked(question, places, np.exp(grid), whole)
        value = _adjusted(total, np.exp(grid), np.ascontiguousarray(total["xwx"][:, :, triangle]))
        value += towards.value(places, grid)
        best = grid[places, value.argmax(axis=1)]
        spacing = grid[:, 1] - grid[:, 0]
        lowest, highest = np.maximum(low, best - spacing), np.minimum(high, best + spacing)
    found: Floats = np.exp(best)
    return found
