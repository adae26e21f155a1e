"""A regression in fewer coefficients, ``beta = T gamma``, made of what sites answer about beta.

Promises: an algorithm about gamma is run as it is; its questions become ones about beta, and the sums that come back
are brought to gamma, so sites need know nothing of T. Where T has no columns, sites are asked for likelihoods alone.
Refuses to know: what the algorithm does, and where T comes from.

With ``beta = T gamma`` the normal equations of gamma are ``T'X'WX T`` and ``T'X'Wz``, the score is ``T'`` that of beta.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import numpy as np

from secirls.algorithms.irls_queries import AtCoefficients, IrlsQuery, sums_at
from secirls.algorithms.query import EXACT, Algorithm, Query, Total
from secirls.algorithms.sent_products import expand_field, opened
from secirls.algorithms.unclamped import UnclampedQuery
from secirls.numerics.distinct_products import Products
from secirls.numerics.own.coefficients import BEST
from secirls.numerics.restriction import lifted, projected, projected_upper
from secirls.numerics.samples import Floats, Samples

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
    """Of the sums; see `secirls.algorithms.query`."""
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
    if basis.shape[1]:
        return replace(query, beta=beta, expand=expand_field(products))
    if isinstance(query, IrlsQuery):
        return LikelihoodAtQuery(query.genes, beta, query.min_mu, query.fraction_bits, query.steps)
    return LikelihoodAtQuery(query.genes, beta, 0.0, query.fraction_bits, np.full(query.n_genes, float(BEST)))


def _about_gamma(total: Total, basis: Floats, products: Products | None) -> Total:
    """The sums for gamma, from those for beta."""
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
