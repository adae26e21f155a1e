"""What IRLS asks of sites: normal equations, and the sums of a step; with a site's own columns taken out.

Promises: a question is about the table's columns alone; what own coefficients are is a function of the site's data, of
the questions before and of nothing that leaves. Refuses to know: how IRLS proceeds.
Love, Huber and Anders (2014); Muzellec, Marteau-Ferey and Marchand (2024) for the federated form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from secirls.algorithms.groundwork.normalisation import known_size_factors
from secirls.algorithms.query import Query, QueryError, check_params
from secirls.algorithms.sent_products import check_expand, sent, sent_entries
from secirls.algorithms.summands import EXACT, StandIns
from secirls.numerics.algebra.solve import packed_size
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.covariates import to_user
from secirls.numerics.held.samples import Samples
from secirls.numerics.own.coefficients import BEST, best_sums, irls_sums, own_at
from secirls.numerics.regression import kernels
from secirls.numerics.regression.kernel_task import Sums

LARGEST_STEP = 1 << 16
"""Of IRLS, in a question about own columns."""


@dataclass(frozen=True)
class LeastSquaresQuery(Query):
    """Normal equations of the regression of log(y / s + 0.1) on the design: where IRLS starts.

    Its sum shows, of each gene, one number per design column: the sum of log(y / s + 0.1) over the samples of each
    group of a factor; and X'X and the number of samples again, as in `CensusQuery`. A gene that fewer than
    ``min_contributors`` sites count is never asked about; a column that one site alone fills is that site's own, and
    not in the sum; a group of few samples is what the rule about thin cells is for.
    """

    params: int
    """Columns of the design."""
    expand: Floats = field(default_factory=lambda: np.zeros(0))
    """Which products of columns are sent, as in `IrlsQuery`."""

    kind: ClassVar[str] = "least_squares"
    sign: ClassVar[str] = "xty"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"xtx", "samples"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """X'X (upper triangle), X' log(y / s + 0.1) and the number of samples."""
        return {"xtx": (sent_entries(self.expand, self.params),), "xty": (self.n_genes, self.params), "samples": (1,)}

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site. It needs size factors."""
        known_size_factors(samples)
        about = replace(samples, design=samples.beside_own)
        return {
            "xtx": sent(self, kernels.upper_products(about.design).sum(axis=0), samples, self.expand),
            "xty": kernels.log_moments(about),
            "samples": np.array([float(samples.n_samples)]),
        }

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_params(self, self.params, n_params)
        check_expand(self, self.expand, n_params)


class AtCoefficients(Query):
    """A question at one coefficient vector a gene, at which own coefficients of sites go on by its ``steps``."""

    beta: Floats
    min_mu: float
    steps: Floats

    def recalled(self, samples: Samples) -> Samples:
        """Keep the constants, and follow the step: own coefficients of the next one depend on it."""
        return followed(self, self.apply(samples))

    def apply(self, samples: Samples) -> Samples:
        """Keep the constants of the likelihood (all genes). Whoever changes counts or dispersions drops them."""
        return keep_constants(samples)

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_beta(self, self.beta, n_params)
        if self.min_mu < 0:
            raise QueryError(f"query {self.kind!r}: min_mu is zero or more")
        check_steps(self, self.steps)


@dataclass(frozen=True)
class IrlsQuery(AtCoefficients):
    """X'WX, X'Wz and the negative log-likelihood at given coefficients.

    Its sum shows, of each gene and at each round's coefficients, ``params (params + 3) / 2 + 1`` numbers: with a factor
    alone in the design, a sum of weights and one of working responses per group. Rounds are many, and each is another
    function of the same counts: n numbers are enough to know the counts of n samples as a multiset. That is what a
    site's budget of values per gene is about; ``min_contributors`` keeps a gene of few sites out, the rule about lonely
    columns a site that would stand in one alone, and that about thin cells a group of few samples.
    """

    beta: Floats
    """Natural-log coefficients, ``(genes asked, params)``."""
    min_mu: float
    """Means are clamped below at this; 0 for none."""
    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""
    expand: Floats = field(default_factory=lambda: np.zeros(0))
    """Which products of columns are sent, as `Products.expand`; empty for all. A site where it is wrong refuses."""
    steps: Floats = field(default_factory=lambda: np.zeros(0))
    """Where sites have columns of their own, the step that each gene is at, ``(genes asked,)``, or
    `secirls.numerics.own.coefficients.BEST`; else empty."""
    with_xtwx: Mask = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """Whose X'WX is sent, ``(genes asked,)``; empty for all. That of the others is known."""

    kind: ClassVar[str] = "irls"
    may_shrink: ClassVar[bool] = True
    sign: ClassVar[str] = "nll"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed, by gene."""
        genes, params = self.beta.shape
        sent_of = int(self.with_xtwx.sum()) if self.with_xtwx.size else genes
        return {"xtwx": (sent_of, sent_entries(self.expand, params)), "xtwz": (genes, params), "nll": (genes,)}

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        xtwx, xtwz, nll = sums_at(samples, self.beta, self.min_mu, steps=self.steps)
        asked = sent(self, xtwx, samples, self.expand)
        return {"xtwx": asked[self.with_xtwx] if self.with_xtwx.size else asked, "xtwz": xtwz, "nll": nll}

    def signed(self, arrays: Mapping[str, Floats], parties: int) -> dict[str, Floats]:
        """As any query's; X'WX that is not asked for can't make a gene lost."""
        if not self.with_xtwx.size:
            return super().signed(arrays, parties)
        told = super().signed(self._with_all(arrays), parties)
        return {**told, "xtwx": told["xtwx"][self.with_xtwx]}

    def stand_ins(self, arrays: Mapping[str, Floats], bounds: Mapping[str, float]) -> StandIns:
        """As any query's, of the X'WX that is sent."""
        if not self.with_xtwx.size:
            return super().stand_ins(arrays, bounds)
        found = super().stand_ins(self._with_all(arrays), bounds)
        return {name: array[self.with_xtwx] if name == "xtwx" else array for name, array in found.items()}

    def _with_all(self, arrays: Mapping[str, Floats]) -> dict[str, Floats]:
        """The arrays with X'WX of all genes, of zeros where it is not sent."""
        whole = np.zeros((self.with_xtwx.size, arrays["xtwx"].shape[1]))
        whole[self.with_xtwx] = arrays["xtwx"]
        return {**arrays, "xtwx": whole}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_expand(self, self.expand, n_params)
        if self.with_xtwx.shape not in ((self.n_genes,), (0,)):
            raise QueryError(f"query {self.kind!r}: X'WX of {self.with_xtwx.shape} genes for {self.n_genes}")


@dataclass(frozen=True)
class OwnCoefficientsQuery(Query):
    """The fit is done: whoever has columns of its own may note their coefficients, which belong to these of the table.

    Its sum shows how many sites there are, and is the same whatever they hold: no rule is needed.
    """

    beta: Floats
    """Natural-log coefficients, ``(genes asked, params)``."""
    steps: Floats
    """As in `IrlsQuery`, ``(genes asked,)``."""

    kind: ClassVar[str] = "own_coefficients"
    may_shrink: ClassVar[bool] = True
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"sites"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"sites": (1,)}

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        return {"sites": np.ones(1)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_beta(self, self.beta, n_params)
        check_steps(self, self.steps)

    @np.errstate(all="ignore")
    def coefficients(self, samples: Samples) -> Floats:
        """Those of a site's own columns, which stay there, ``(all genes, own)``; NaN for genes not asked about.

        On the user's scale, where numeric columns were scaled for the fit.
        """
        found = np.full((samples.n_genes, samples.own_size), np.nan)
        delta = own_at(samples.take(self.genes), self.beta, self.steps)[0]
        if samples.back is not None:
            delta = to_user(delta, samples.back.own) + to_user(self.beta, samples.back.shared)
        found[self.genes] = delta
        return found


def followed(query: Query, samples: Samples) -> Samples:
    """The samples, whose own coefficients have gone the step that a question is about."""
    if samples.own is not None:
        query.summands(samples.take(query.genes), 1)
    return samples


@np.errstate(all="ignore")
def keep_constants(samples: Samples) -> Samples:
    """The samples with the constants of the likelihood beside them, and what stands for their counts."""
    if samples.nll_constants is not None or samples.dispersions is None:
        return samples
    return replace(keep_moments(samples), nll_constants=kernels.nll_constants(samples))


@np.errstate(all="ignore")
def keep_moments(samples: Samples) -> Samples:
    """The samples with what stands for their counts in sums beside them, if anything does."""
    moments = kernels.level_moments(samples) if samples.moments is None else samples.moments
    return samples if moments is samples.moments else replace(samples, moments=moments)


@np.errstate(all="ignore")
def sums_at(
    samples: Samples,
    beta: Floats,
    min_mu: float,
    *,
    right: kernels.RightSide = "xtwz",
    steps: Floats | None = None,
) -> Sums:
    """A site's sums at coefficients ``(genes, params)``: NaN, which is signed as lost, where it has no size factors.

    Own columns are taken out: at the ``steps`` of IRLS for its right-hand side, at the best of their coefficients for
    the score, beside which X'WX is the expected information, as it is without them. Raises `QueryError` where the
    questions that bring size factors or dispersions were not asked.
    """
    s = known_size_factors(samples)
    if samples.dispersions is None:
        raise QueryError("this site has no dispersions yet: the query that brings them was not asked")
    if np.isnan(s).any():
        genes, params = beta.shape
        return Sums(*(np.full(shape, np.nan) for shape in ((genes, packed_size(params)), (genes, params), (genes,))))
    if samples.own is None:
        return kernels.summands(samples, beta, min_mu, right=right)
    if right == "score":
        return best_sums(samples, beta, min_mu, expected=True)
    return irls_sums(samples, beta, min_mu, known_steps(samples, steps))


def known_steps(samples: Samples, steps: Floats | None) -> Floats:
    """The steps that own columns are at. Raises `QueryError` where a question does not know of them."""
    if steps is None or not steps.size:
        if samples.own is not None and samples.n_genes:
            raise QueryError("this site has design columns of its own, which the question does not know of")
        return np.zeros(samples.n_genes)
    return steps


def check_beta(query: Query, beta: Floats, n_params: int) -> None:
    """Raise `QueryError` unless there are coefficients of every gene asked about, ``(genes asked, params)``."""
    if beta.shape != (query.n_genes, n_params):
        raise QueryError(f"query {query.kind!r}: beta {beta.shape} for {query.n_genes} genes, {n_params} params")


def check_steps(query: Query, steps: Floats) -> None:
    """Raise `QueryError` unless a query says of every gene at which step it is, or of none."""
    if steps.shape not in ((query.n_genes,), (0,)):
        raise QueryError(f"query {query.kind!r}: steps {steps.shape} for {query.n_genes} genes")
    if not ((steps >= BEST) & (steps <= LARGEST_STEP) & (steps == np.rint(steps))).all():
        raise QueryError(f"query {query.kind!r}: impossible steps")
