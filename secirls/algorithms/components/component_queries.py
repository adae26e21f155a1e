"""Questions about variance-stabilised values over all samples, each site's own means taken off at home.

Promises: no sum has a site's mean in it; what one sample would make up is told apart before it is sent. Refuses to
know: which directions are asked about, and what becomes of the answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from secirls.algorithms.dispersion.shrunken_dispersions import TrendAndPrior
from secirls.algorithms.groundwork.normalisation import known_size_factors, sum_by_gene
from secirls.algorithms.query import Query, QueryError
from secirls.numerics.algebra.subspace import crossed, leverages, product
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.samples import Samples
from secirls.numerics.trend.local_trend import LocalTrend
from secirls.numerics.trend.stabilised import LARGEST_NORMALISED, NoTransformError, stabilised
from secirls.numerics.trend.trend import Trend

_ROUNDING = 1e-9
"""By so much more than its share a sample's part is no more than its share."""


@dataclass(frozen=True)
class Scale:
    """What a fit says of the variance-stabilising transform, as questions carry it."""

    trend: Floats
    """Asymptotic dispersion, extra-Poisson, mean; zero for what the trend has not, ``(3,)``."""
    local: Floats
    """Log means, log dispersions and slopes of a local trend, ``(3, points)``; ``(3, 0)`` for another."""
    base_means: Floats
    """Of all genes that have one, for a local trend; else none."""
    mean_inverse: float
    """Mean of 1 / s, for a local trend; else 1."""

    @classmethod
    def of(cls, towards: TrendAndPrior, base_means: Floats, mean_inverse: float) -> Scale:
        """From a fit's trend, its base means ``(genes,)`` and the mean of 1 / s."""
        trend = towards.trend
        told = np.nan_to_num(np.array([trend.asymptotic, trend.extra_poisson, trend.mean]))
        if trend.local is None:
            return cls(told, np.zeros((3, 0)), np.zeros(0), 1.0)
        local = np.stack([trend.local.log_means, trend.local.values, trend.local.slopes])
        return cls(told, local, base_means[np.isfinite(base_means)], mean_inverse)

    @property
    def fields(self) -> tuple[Floats, Floats, Floats, float]:
        """As questions take them."""
        return self.trend, self.local, self.base_means, self.mean_inverse

    @property
    def usable(self) -> bool:
        """Whether it says of every count where it comes to lie."""
        positive = int((self.trend[:2] > 0).all()) + int(self.trend[2] > 0) + int(self.local.shape[1] > 0)
        if positive != 1 or not self.mean_inverse > 0 or (np.diff(self.local[0]) <= 0).any():
            return False
        with np.errstate(all="ignore"):
            try:
                return bool(np.isfinite(self(np.array([0.0, 1.0, 1e6]))).all())
            except NoTransformError:
                return False

    def __call__(self, normalised: Floats) -> Floats:
        """The transform of normalised counts of any shape. Raises `NoTransformError`."""
        asymptotic, extra_poisson, mean = map(float, self.trend)
        if self.local.size:
            trend = Trend("local", local=LocalTrend(*self.local))
        elif mean > 0:
            trend = Trend("mean", mean=mean)
        else:
            trend = Trend("parametric", asymptotic, extra_poisson)
        return stabilised(normalised, trend, self.base_means, self.mean_inverse)


@dataclass(frozen=True)
class VstQuery(Query):
    """About x = VST of y / s less its mean over the site's own samples: site means are in no sum."""

    trend: Floats
    local: Floats
    base_means: Floats
    mean_inverse: float

    @property
    def scale(self) -> Scale:
        """The transform."""
        return Scale(self.trend, self.local, self.base_means, self.mean_inverse)

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if self.trend.shape != (3,) or self.local.shape[:1] != (3,) or self.local.ndim != 2:
            raise QueryError(f"query {self.kind!r}: the trend is three numbers, or a curve of three rows")
        if self.base_means.ndim != 1 or not self.scale.usable:
            raise QueryError(f"query {self.kind!r}: the trend gives no transform")

    @np.errstate(all="ignore")
    def residuals(self, samples: Samples) -> Floats:
        """Every sample's x, ``(genes asked, samples)``; NaN where the size factor is none or next to nothing."""
        normalised = samples.counts.T[:] / known_size_factors(samples)
        known = normalised <= LARGEST_NORMALISED
        values = np.where(known, self.scale(np.where(known, normalised, 0.0)), np.nan)
        centred: Floats = values - (sum_by_gene(values) / samples.n_samples)[:, None]
        return centred


def told_apart(parts: Floats, samples: int) -> Floats:
    """By how much a site's sum of squares falls without each sample: of squares around the mean of all ``samples``.

    Without it the mean moves too, so that is n / (n - 1) times its own square; for a lone one, which is its mean, zero.
    """
    return parts * (samples / (samples - 1.0)) if samples > 1 else np.zeros_like(parts)


@dataclass(frozen=True)
class VstSquaresQuery(VstQuery):
    """Sums of x^2, of every gene. With it a site goes back to the counts of its file, where outliers were replaced.

    Its sum shows one number of a gene, its variance within sites on the scale of VST; as that of moments, which is
    about the same counts, it is over all samples of all sites. A gene of few sites is kept out by ``min_contributors``.
    In a gene that varies in one sample alone the sum is that sample's; no gene whose variance is mostly one sample's is
    asked about further (`VstDominatedQuery`).
    """

    kind: ClassVar[str] = "vst_squares"
    sign: ClassVar[str] = "squares"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"squares": (self.n_genes,)}

    def apply(self, samples: Samples) -> Samples:
        """What the site keeps."""
        return replace(samples, counts=samples.as_filed, nll_constants=None, moments=None, filed=None)

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        squares = np.empty(samples.n_genes)
        for block in samples.gene_blocks():
            genes = np.arange(block.start, block.stop)
            squares[block] = sum_by_gene(self.residuals(samples.at(genes)) ** 2)
        return {"squares": squares}


@dataclass(frozen=True)
class VstDominatedQuery(VstQuery):
    """In which genes one sample makes up more than a share of the variance.

    Its sum shows at how many sites there is such a sample, not which, nor who: as the counts of outliers in a gene. A
    gene of few sites is kept out by ``min_contributors``.
    """

    squares: Floats
    """Sums of x^2 over all samples, ``(genes asked,)``."""
    share: float

    kind: ClassVar[str] = "vst_dominated"
    sign: ClassVar[str] = "dominated"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"dominated": (self.n_genes,)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if self.squares.shape != (self.n_genes,) or not 0 < self.share <= 1:
            raise QueryError(f"query {self.kind!r}: sums of squares or share do not fit the question")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        parts = told_apart(self.residuals(samples) ** 2, samples.n_samples)
        largest: Floats = parts.max(axis=1, initial=0.0)
        return {"dominated": (largest > self.share * (1.0 + _ROUNDING) * self.squares).astype(np.float64)}


@dataclass(frozen=True)
class VstGramQuery(VstQuery):
    """Q'SQ for S = sum x x' over all samples, and directions Q.

    Its sum shows how much all samples vary along each direction, and together along two: no gene by itself, and of few
    directions. ``min_contributors`` holds for its genes. It is asked so that each site knows, before S Q is opened,
    whether that would be one sample's.
    """

    directions: Floats
    """Q, ``(genes asked, directions)``."""

    kind: ClassVar[str] = "vst_gram"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"gram"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"gram": (self.directions.shape[1],) * 2}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        if self.directions.ndim != 2 or self.directions.shape[0] != self.n_genes:
            raise QueryError(f"query {self.kind!r}: directions do not fit the genes asked about")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        scores = crossed(self.residuals(samples), self.directions)
        return {"gram": crossed(scores, scores)}


@dataclass(frozen=True)
class VstProductsQuery(VstQuery):
    """S Q for the last of the directions W that were asked about: of every gene, its part in their scores.

    Its sum shows one number of a gene for every direction, over all samples. Numbers of several genes at the same
    directions go together, and so many directions as there are samples would give S, and with it every sample's
    x up to a rotation; that is why a site counts directions over all sessions (``max_directions_per_sample``). Along
    any combination of the directions, one sample may make up no more than a ``share`` of W'SW: where it would, its
    site sends the sign for lost, nothing is opened, and nobody learns whose it is. ``min_contributors`` holds for
    genes.
    """

    basis: Floats
    """W, ``(genes asked, directions)``."""
    gram: Floats
    """W'SW over all samples, ``(directions, directions)``."""
    asked: int
    """How many of the last directions are asked about; the others were."""
    share: float

    kind: ClassVar[str] = "vst_products"
    sign: ClassVar[str] = "products"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"products": (self.n_genes, self.asked)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        if not 0 < self.asked <= (self.basis.shape[1] if self.basis.ndim == 2 else 0):
            raise QueryError(f"query {self.kind!r} asks about other directions than it has")
        super().check(n_genes, n_params)
        directions = self.basis.shape[1]
        if self.basis.shape[0] != self.n_genes or self.gram.shape != (directions,) * 2 or not 0 < self.share <= 1:
            raise QueryError(f"query {self.kind!r}: directions or their products do not fit the question")

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        x = self.residuals(samples)
        scores = crossed(x, self.basis)
        if not self.allowed(scores).all():
            return {"products": np.full((self.n_genes, self.asked), np.nan)}
        return {"products": product(x, scores[:, -self.asked :])}

    def allowed(self, scores: Floats) -> Mask:
        """Which samples keep to their share along all combinations of the directions, of scores ``(samples, m)``."""
        parts = told_apart(leverages(scores, self.gram), scores.shape[0])
        kept: Mask = parts <= self.share * (1.0 + _ROUNDING)
        return kept
