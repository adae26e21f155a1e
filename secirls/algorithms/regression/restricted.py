"""A regression in fewer coefficients, ``beta = T gamma``, made of what sites answer about beta.

Promises: an algorithm about gamma is run as it is; its questions become ones about beta, and what comes back are sums
about gamma. Where T has fewer columns than rows sites make them, so that nothing of the columns left out is opened;
where it has as many, the table does; where it has none, sites are asked for likelihoods alone.
Refuses to know: what the algorithm does, and where T comes from.

With ``beta = T gamma`` the normal equations of gamma are ``T'X'WX T`` and ``T'X'Wz``, the score is ``T'`` that of beta.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import numpy as np

from secirls.algorithms.query import Algorithm, Query, QueryError, Total
from secirls.algorithms.regression.irls_queries import AtCoefficients, IrlsQuery, sums_at
from secirls.algorithms.regression.unclamped import UnclampedQuery
from secirls.algorithms.sent_products import expand_field, opened
from secirls.algorithms.summands import EXACT
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.restriction import lifted, projected, projected_upper
from secirls.numerics.algebra.solve import packed_size
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples
from secirls.numerics.own.coefficients import BEST

T = TypeVar("T")


@dataclass(frozen=True)
class LikelihoodAtQuery(AtCoefficients):
    """The negative log-likelihood of each gene at given coefficients, and nothing else.

    Its sum shows one number per gene, a sum over all samples of all sites: two of them in a likelihood-ratio test, more
    where the smaller design has only columns that sites keep. The rules that hold for `IrlsQuery` keep a site, a small
    cell and one sample out of it, and each number counts against a site's budget of values per gene. A site's policy
    may refuse it by itself, with the stage "likelihood ratio".
    """

    beta: Floats
    """Natural-log coefficients, ``(genes asked, params)``."""
    min_mu: float
    """Means are clamped below at this; 0 for none."""
    fraction_bits: int = EXACT
    """Of the sums; see `secirls.algorithms.summands`."""
    steps: Floats = field(default_factory=lambda: np.zeros(0))
    """As in `IrlsQuery`; own coefficients go on by such a step, too."""

    kind: ClassVar[str] = "likelihood_at"
    may_shrink: ClassVar[bool] = True
    sign: ClassVar[str] = "nll"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed, by gene."""
        return {"nll": self.beta.shape[:1]}

    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        return {"nll": sums_at(samples, self.beta, self.min_mu, steps=self.steps).nll}


@dataclass(frozen=True)
class ReducedIrlsQuery(IrlsQuery):
    """T'X'WX T, T'X'Wz and the negative log-likelihood at ``beta = T gamma``.

    Its sum shows what that of `IrlsQuery` does in a design of fewer columns, ``X T``, and nothing of what was left out;
    the same rules keep a site, a small cell and one sample out of it. T follows from the two formulas of a
    likelihood-ratio test. A site's policy may refuse it by itself, with the stage "likelihood ratio".
    """

    basis: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    """T, ``(params, q)`` with fewer columns than rows."""

    kind: ClassVar[str] = "reduced_irls"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed, by gene."""
        genes, q = self.beta.shape[0], self.basis.shape[1]
        return {"xtwx": (genes, packed_size(q)), "xtwz": (genes, q), "nll": (genes,)}

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        told = super().summands(samples, parties)
        told["xtwx"] = projected_upper(told["xtwx"], self.basis)
        told["xtwz"] = projected(told["xtwz"], self.basis)
        return told

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        _check_basis(self, self.basis, self.expand, n_params)
        if self.with_xtwx.size:
            raise QueryError(f"query {self.kind!r} asks for X'WX of all its genes")


@dataclass(frozen=True)
class ReducedUnclampedQuery(UnclampedQuery):
    """The negative log-likelihood without a floor under the means, T' its slope and T' its information T.

    Its sum shows what that of `UnclampedQuery` does in a design of fewer columns, and nothing of what was left out; the
    same rules hold for it as for `IrlsQuery`. A site's policy may refuse it by itself, as `ReducedIrlsQuery`.
    """

    basis: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    """T, as in `ReducedIrlsQuery`."""

    kind: ClassVar[str] = "reduced_unclamped"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed, by gene."""
        genes, q = self.beta.shape[0], self.basis.shape[1]
        return {"nll": (genes,), "score": (genes, q), "information": (genes, packed_size(q))}

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        whole = UnclampedQuery(self.genes, self.beta, self.fraction_bits, own_ridge=self.own_ridge)
        told = whole.summands(samples, parties)
        told["score"] = projected(told["score"], self.basis)
        told["information"] = projected_upper(told["information"], self.basis)
        return told

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        _check_basis(self, self.basis, self.expand, n_params)


def _check_basis(query: Query, basis: Floats, expand: Floats, n_params: int) -> None:
    if basis.ndim != 2 or basis.shape[0] != n_params or not 0 < basis.shape[1] < n_params or expand.size:
        raise QueryError(f"query {query.kind!r}: a basis {basis.shape} leaves nothing out of {n_params} columns")


def restricted(algorithm: Algorithm[T], basis: Floats, products: Products | None) -> Algorithm[T]:
    """An algorithm about gamma ``(genes, q)`` as one about beta; the basis T is ``(params, q)``.

    ``products`` are those of the design whose coefficients are beta; the algorithm asks for all entries of its own.
    """
    total: Total | None = None
    while True:
        try:
            query = next(algorithm) if total is None else algorithm.send(total)
        except StopIteration as end:
            result: T = end.value
            return result
        answer = yield _about_beta(query, basis, products)
        total = _about_gamma(answer, basis, products)


def _about_beta(query: Query, basis: Floats, products: Products | None) -> Query:
    """The question about beta that answers one about gamma."""
    if not isinstance(query, IrlsQuery | UnclampedQuery):
        raise TypeError(f"a question {query.kind!r} can't be asked about fewer coefficients")
    beta = lifted(query.beta, basis)
    if basis.shape[1] == basis.shape[0]:
        return replace(query, beta=beta, expand=expand_field(products))
    genes, bits, some = query.genes, query.fraction_bits, bool(basis.shape[1])
    if isinstance(query, IrlsQuery):
        if some:
            return ReducedIrlsQuery(genes, beta, query.min_mu, bits, steps=query.steps, basis=basis)
        return LikelihoodAtQuery(genes, beta, query.min_mu, bits, query.steps)
    if some:
        return ReducedUnclampedQuery(genes, beta, bits, own_ridge=query.own_ridge, basis=basis)
    return LikelihoodAtQuery(genes, beta, 0.0, bits, np.full(query.n_genes, float(BEST)))


def _about_gamma(total: Total, basis: Floats, products: Products | None) -> Total:
    """The sums for gamma: those of the sites, or made from those for beta."""
    if 0 < basis.shape[1] < basis.shape[0]:
        return total
    nll = total["nll"]
    none = np.zeros((nll.size, 0))
    arrays: dict[str, Floats] = {"nll": nll}
    for name in ("xtwx", "information"):
        found = total.arrays.get(name)
        arrays[name] = none if found is None else projected_upper(opened(found, products), basis)
    for name in ("xtwz", "score"):
        found = total.arrays.get(name)
        arrays[name] = none if found is None else projected(found, basis)
    return replace(total, arrays=arrays)
