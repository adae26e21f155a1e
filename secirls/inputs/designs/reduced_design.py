"""A smaller design inside an agreed one: which coefficients of the large one it leaves free.

Promises: the answer follows from formulas and levels alone, so all parties find the same; a design that is not inside,
or not smaller, or gives up what sites keep at home, ends in one sentence. Refuses to know: formulas, which
`secirls.inputs.designs.design` reads, and samples.

The small design's columns are ``X_r = X T``. With columns of one site taken out at home, what is left of X_r beside
them is ``X_t T_t``, the table's columns and their rows of T: so the small model is the large one with
``beta = T_t gamma``, as long as it contains every column that a site keeps.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secirls.input_error import InputError
from secirls.inputs.designs.design import Design, variables
from secirls.inputs.designs.own_columns import OwnColumns
from secirls.inputs.designs.probes import PROBES, probed
from secirls.numerics.algebra.restriction import SMALLEST_SHARE, expressed, independent
from secirls.numerics.arrays import Floats
from secirls.numerics.held.covariates import Expansion


@dataclass(frozen=True)
class ReducedDesign:
    """The smaller design of a likelihood-ratio test, in the coefficients of the larger."""

    formula: str
    columns: tuple[str, ...]
    """Names of its columns that are at the table, in order."""
    basis: Floats
    """T: the table's coefficients are T gamma, ``(params, columns)``; it may have no columns."""
    degrees_of_freedom: int
    """Columns of the larger design that it has not."""
    intercept_alone: bool
    """Whether it says that every sample has the same mean, but for size factors."""
    kept: tuple[int, ...] = ()
    """Which of all its columns those are."""
    numeric: tuple[str, ...] = ()
    """Its numeric factors."""
    expansion: Expansion | None = None
    """How all its columns hold those."""


def within_terms(
    terms: Sequence[tuple[str, ...]], levels: Mapping[str, Sequence[str]], numbers: Mapping[str, Floats]
) -> tuple[dict[str, list[str]], Floats]:
    """All combinations within each term, the others at reference or zero: levels, and numbers ``(rows, numeric)``.

    Terms are of factors and numeric factors; ``numbers`` are a few values of each of those. A design column is a sum of
    functions of the factors of one term each; it is zero everywhere if it is zero at these, by inclusion and exclusion.
    """
    held: list[dict[str, str]] = []
    values: list[list[float]] = []
    for names in dict.fromkeys(terms):
        factors = [name for name in names if name in levels]
        axes = [(0.0, *map(float, known)) if name in names else (0.0,) for name, known in numbers.items()]
        for row in itertools.product(*(levels[name] for name in factors)):
            for point in itertools.product(*axes):
                held.append(dict(zip(factors, row, strict=True)))
                values.append(list(point))
    given = {name: [row.get(name, known[0]) for row in held] for name, known in levels.items()}
    return given, np.array(values).reshape(len(values), len(numbers))


def reduced_design(design: Design, formula: str) -> ReducedDesign:
    """A smaller design for a likelihood-ratio test. Raises `InputError` where it is not inside the larger."""
    for name in variables(formula):
        if name not in design.names:
            raise InputError(
                f"reduced design {formula!r} uses {name!r}, which the design {design.formula!r} does not use"
            )
    small = replace(design, formula=formula, own=OwnColumns(), dropped=())
    for factor in small.parsed.factors:
        if factor.categorical and factor.variable in design.numeric:
            raise InputError(
                f"reduced design {small.formula!r} has {factor.variable!r} as a factor, "
                f"the design {design.formula!r} as a number"
            )
    terms = [
        tuple(x.variable if x.variable in design.levels else x.expr for x in term)
        for each in (design, small)
        for term in each.parsed.terms
    ]
    numeric = tuple(dict.fromkeys(x.expr for each in (design, small) for x in each.features))
    points = probed(range(PROBES), len(numeric))
    given, numbers = within_terms(terms, design.levels, {name: points[:, f] for f, name in enumerate(numeric)})
    rows = [each.rows(given, numbers[:, [numeric.index(x.expr) for x in each.features]]) for each in (design, small)]
    columns = design.all_columns, small.all_columns
    found = _of_rows((design.formula, small.formula), (rows[0], rows[1]), columns, design.own, design.at_the_table)
    return replace(found, numeric=tuple(x.expr for x in small.features), expansion=small.expansion)


def _of_rows(
    names: tuple[str, str],
    rows: tuple[Floats, Floats],
    columns: tuple[Sequence[str], Sequence[str]],
    own: OwnColumns,
    at_the_table: NDArray[np.intp],
) -> ReducedDesign:
    """The smaller of two designs in terms of the larger, which comes first in every pair.

    Parameters
    ----------
    names, columns
        Formulas, and the names of all their columns.
    rows
        Their rows at the same combinations of levels, enough to tell all such functions apart: ``(rows, columns)``.
    own, at_the_table
        Which columns of the larger are one site's alone, and which are the table's. In others there is no sample.

    Raises
    ------
    InputError
        Where no test can be made of the two.
    """
    large, small = rows
    told = f"reduced design {names[1]!r}"
    basis, missed = expressed(large, small)
    outside = np.flatnonzero(missed > SMALLEST_SHARE * np.maximum(np.abs(small).max(axis=0, initial=0.0), 1.0))
    if outside.size:
        raise InputError(
            f"{told}: its column {columns[1][int(outside[0])]!r} is no combination of the columns of the design "
            f"{names[0]!r}, so the one is not inside the other"
        )
    held = sorted({*map(int, at_the_table), *own.all})
    size, here = len(independent(basis[held])), basis[at_the_table]
    if size == len(held):
        raise InputError(f"{told} has as many columns as the design {names[0]!r}: leave a term out")
    kept = independent(here)
    if size < len(own.all) + len(kept):
        site, column = _lacking(basis, own, at_the_table)
        raise InputError(
            f"{told} is without the design column {columns[0][column]!r}, which {site} alone adds to and "
            "keeps: leave such columns in it, or publish that site's own sums with own_columns = 'shared'"
        )
    alone = bool((small == 1.0).all()) and small.shape[1] == 1
    chosen = tuple(columns[1][k] for k in kept)
    return ReducedDesign(
        names[1], chosen, np.ascontiguousarray(here[:, kept]), len(held) - size, alone, kept=tuple(kept)
    )


def _lacking(basis: Floats, own: OwnColumns, at_the_table: NDArray[np.intp]) -> tuple[str, int]:
    """The first site and column of its own that a smaller design can't move, all of the others' staying as they are."""
    sites = [(site, column) for site, columns in own.of.items() for column in columns]
    rows = np.vstack([basis[at_the_table], basis[[column for _, column in sites]]])
    free = independent(rows.T)
    return next(sites[i] for i in range(len(sites)) if at_the_table.size + i not in free)
