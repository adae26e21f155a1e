"""Numeric columns of a design, centred and scaled before anything is fitted: year 2015 stands at zero, days at one.

Promises: where a column stands, and how wide, follows from sums over all sites, with the same bits for whoever repeats
it; the fit is that of the user's columns, whose coefficients are given back. Refuses to know: formulas, and what is
fitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from secirls.algorithms.query import Algorithm, Query, QueryError, Total, check_params
from secirls.algorithms.sent_products import check_expand, expand_field, opened, opened_square, sent, sent_entries
from secirls.algorithms.summands import lost
from secirls.input_error import InputError
from secirls.inputs.designs.design import Design
from secirls.inputs.designs.reduced_design import ReducedDesign
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.restriction import nearly_whole
from secirls.numerics.algebra.solve import pack, unpack
from secirls.numerics.arrays import Floats
from secirls.numerics.held.covariates import nearest, product
from secirls.numerics.held.samples import Samples

_ROUNDS = 6
"""Two are enough for numbers up to 1e8; more find the unit of larger and of tiny ones."""
_LEAP = 2.0**24
"""By how much a unit is changed that was too small or too large."""
_ENOUGH = 2.0**-20
"""Squares, in units, that have digits enough to tell a spread from."""
_FAR = 64.0
"""A mean whose square is so many times the variance is taken off before the spread is told."""
_NOTHING = 2.0**-50
"""Of a column's magnitude: a spread below this is rounding, and the column is one number."""


@dataclass(frozen=True)
class CovariatesQuery(Query):
    """Where numeric columns stand, and how wide.

    Its sum shows, over all sites, how many samples there are, and of every numeric column the sums of its values and of
    their squares, from public centres and in public units: whatever those are, no more than a mean and a variance
    follows, and which of them are too large to be added. It is asked after the census, whose rule ``min_contributors``
    refuses a design with a column that is not zero at fewer sites; ``min_sites`` holds for it as for every sum.
    """

    centres: Floats
    """What is taken off each column, ``(numeric,)``."""
    units: Floats
    """What is left is divided by, above zero, ``(numeric,)``."""

    kind: ClassVar[str] = "covariates"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"samples", "values", "squares"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"samples": (1,), "values": self.centres.shape, "squares": self.centres.shape}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_covariates(self, self.centres, self.units)

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        if samples.covariates is None or samples.covariates.numbers.shape[1] != self.units.size:
            raise QueryError(f"query 'covariates' is about {self.units.size} numeric columns, the fit has others")
        z = (samples.covariates.numbers - self.centres) / self.units
        return {"samples": np.array([float(len(z))]), "values": z.sum(axis=0), "squares": (z * z).sum(axis=0)}


@dataclass(frozen=True)
class CrossProductsQuery(Query):
    """X'X of the design, once its numeric columns are centred and scaled; the sites keep the design so.

    Its sum shows X'X, as the census does of a design without numeric columns: how samples with each pair of levels are
    spread over the numeric columns, and how those go together. It is asked after the census, whose rules
    ``min_contributors`` and ``min_total_samples_per_cell`` keep a few samples from standing in it alone.
    """

    params: int
    centres: Floats
    """What is taken off each numeric column, ``(numeric,)``."""
    scales: Floats
    """What is left is divided by, above zero, ``(numeric,)``."""
    base: Floats
    """What the formula itself has them centred at, which coefficients are given back for, ``(numeric,)``."""
    expand: Floats = field(default_factory=lambda: np.zeros(0))
    """Which products of columns are sent, as in `secirls.algorithms.regression.irls_queries.IrlsQuery`."""

    kind: ClassVar[str] = "cross_products"
    not_by_gene: ClassVar[frozenset[str]] = frozenset({"xtx"})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is summed."""
        return {"xtx": (sent_entries(self.expand, self.params),)}

    def check(self, n_genes: int, n_params: int) -> None:
        """Raise `QueryError` unless the query fits the fit."""
        super().check(n_genes, n_params)
        check_params(self, self.params, n_params)
        check_expand(self, self.expand, n_params)
        check_covariates(self, self.centres, self.scales)
        if self.base.shape != self.scales.shape:
            raise QueryError(f"query {self.kind!r} is centred at other columns than it scales")

    def xtx_of(self, total: Total) -> Floats:
        """Summed X'X, ``(params, params)``."""
        return opened_square(total["xtx"], self.expand)

    @np.errstate(all="ignore")
    def apply(self, samples: Samples) -> Samples:
        """The samples in the scaled design."""
        try:
            return samples.scaled(self.centres, self.scales, self.base)
        except ValueError as error:
            raise QueryError(f"query {self.kind!r}: {error}") from None

    @np.errstate(all="ignore")
    def summands(self, samples: Samples, parties: int) -> dict[str, Floats]:
        """The sums of one site."""
        left = samples.beside_own
        return {"xtx": sent(self, pack(np.einsum("ni,nj->ij", left, left)), samples, self.expand)}


def check_covariates(query: Query, centres: Floats, scales: Floats) -> None:
    """Raise `QueryError` unless these can be centres and scales of a design's numeric columns."""
    if centres.ndim != 1 or scales.shape != centres.shape or centres.size > LARGEST_NUMERIC:
        raise QueryError(f"query {query.kind!r} does not centre and scale the same columns")
    if not (scales > 0).all() or query.genes.any():
        raise QueryError(f"query {query.kind!r} has a scale that is not above zero, or is about genes")


LARGEST_NUMERIC = 1 << 10
"""Numeric columns of a design."""


@dataclass(frozen=True)
class Scaled:
    """How numeric columns were centred and scaled for a fit, and the way back: arrays ``(numeric,)``."""

    names: tuple[str, ...]
    """As the formula has them."""
    centres: Floats
    scales: Floats
    base: Floats
    """What the formula itself has them centred at."""
    to_user: Floats
    """T with ``beta = T beta~`` for the table's columns, ``(params, params)``; a contrast c of beta is ``T' c``."""
    from_user: Floats
    """Its inverse."""

    def reduced(self, small: ReducedDesign) -> ReducedDesign:
        """A smaller design's basis where the large one is so scaled; its own numeric columns are, where it spans that.

        With ``X~ = X T`` and ``X_r~ = X_r T_r``, the basis B of ``X_r = X B`` becomes ``inv(T) B T_r``.
        """
        if small.expansion is None or not small.columns:
            return small
        which, kept = [self.names.index(name) for name in small.numeric], list(small.kept)
        inside = small.expansion.matrix((self.centres - self.base)[which], self.scales[which])[np.ix_(kept, kept)]
        basis = np.ascontiguousarray(product(product(self.from_user, small.basis), inside))
        return replace(small, basis=nearly_whole(basis))


def scale(design: Design, n_genes: int, products: Products) -> Algorithm[tuple[Scaled, Floats]]:
    """Centre and scale a design's numeric columns; gives X'X of the table's columns, ``(params, params)``, too.

    Raises `InputError` where a column is too large to be added up.
    """
    nobody = np.zeros(n_genes, dtype=bool)
    names, movable = tuple(x.expr for x in design.features), design.expansion.centrable
    places = [_Place(centrable=bool(free)) for free in movable]
    for _ in range(_ROUNDS):
        query = CovariatesQuery(
            nobody, np.array([place.centre for place in places]), np.array([place.unit for place in places])
        )
        total = yield query
        cohort = len(total.cohort)
        gone = lost(total["values"], cohort), lost(total["squares"], cohort)
        means, squares = (total[name] / total["samples"][0] for name in ("values", "squares"))
        for f, place in enumerate(places):
            if not place.settled:
                place.hear(float(means[f]), float(squares[f]), *(bool(which[f]) for which in gone))
        if all(place.settled for place in places):
            break
    large = [name for name, place in zip(names, places, strict=True) if place.beyond and not place.settled]
    if large:
        raise InputError(
            f"design {design.formula!r}: {large[0]!r} has values that are too large to be added up: divide them first"
        )
    base = np.where(design.centred, [place.centre for place in places], 0.0)
    near = [nearest(place.centre, place.spread) for place in places]
    centres = np.where(design.centred, base, [centre for centre, _ in near])
    scales = np.array([width for _, width in near])
    asked = CrossProductsQuery(nobody, len(design.columns), centres, scales, base, expand_field(products))
    total = yield asked
    if lost(total["xtx"], len(total.cohort)).any():
        raise InputError(f"design {design.formula!r}: a product of its numeric columns is too large to be added up")
    table = design.at_the_table
    to_user = design.expansion.matrix(centres - base, scales)[np.ix_(table, table)]
    from_user = design.expansion.matrix((base - centres) / scales, 1.0 / scales)[np.ix_(table, table)]
    return Scaled(names, centres, scales, base, to_user, from_user), unpack(opened(total["xtx"], products))


@dataclass
class _Place:
    """What is known so far of where one numeric column stands."""

    centrable: bool
    centre: float = 0.0
    unit: float = 1.0
    spread: float = 1.0
    settled: bool = False
    beyond: bool = False
    """Whether the last sum was too large to be added."""

    def hear(self, mean: float, square: float, no_mean: bool, no_square: bool) -> None:
        """Take a mean and a mean square from the centre, in units; or that there is none."""
        self.beyond = no_mean or no_square
        if self.beyond:
            self._move(0.0 if no_mean else mean)
            self.unit *= _LEAP
            return
        self._move(mean)
        variance = square - mean * mean if self.centrable else square
        if square > _ENOUGH and variance * _FAR > square:
            self.spread, self.settled = self.unit * math.sqrt(variance), True
        elif square <= _ENOUGH:
            self.settled = self.unit <= _NOTHING * abs(self.centre)
            self.unit /= _LEAP

    def _move(self, mean: float) -> None:
        if self.centrable:
            self.centre += self.unit * mean
