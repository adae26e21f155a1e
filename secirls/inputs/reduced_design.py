"""A smaller design inside an agreed one: which coefficients of the large one it leaves free.

Promises: the answer follows from formulas and levels alone, so all parties find the same; a design that is not inside,
or not smaller, or gives up what sites keep at home, ends in one sentence. Refuses to know: formulas, which
`secirls.inputs.design` reads, and samples.

The small design's columns are ``X_r = X T``. With columns of one site taken out at home, what is left of X_r beside
them is ``X_t T_t``, the table's columns and their rows of T: so the small model is the large one with
``beta = T_t gamma``, as long as it contains every column that a site keeps.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secirls.input_error import InputError
from secirls.inputs.own_columns import OwnColumns
from secirls.numerics.restriction import SMALLEST_SHARE, expressed, independent
from secirls.numerics.samples import Floats


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


def within_terms(
    terms: Sequence[tuple[str, ...]], levels: Mapping[str, Sequence[str]], numbers: Mapping[str, Sequence[float]]
) -> tuple[dict[str, Any], int]:
    """Values of every variable at all combinations within each term, the others at reference or zero; and how many.

    ``numbers`` are a few values of each numeric variable. A design column is a sum of functions of the variables of one
    term each; it is zero everywhere if it is zero at these, by inclusion and exclusion.
    """
    rows: list[dict[str, Any]] = []
    for names in dict.fromkeys(terms):
        axes = {name: levels.get(name) or numbers[name] for name in names if name in levels or name in numbers}
        rows += [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    given: dict[str, Any] = {name: [row.get(name, known[0]) for row in rows] for name, known in levels.items()}
    given |= {name: np.array([row.get(name, 0.0) for row in rows]) for name in numbers}
    return given, len(rows)


def reduce(
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
        Which columns of the larger are one site's alone, and which are not.

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
    size, here = len(independent(basis)), basis[at_the_table]
    if size == large.shape[1]:
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
    return ReducedDesign(names[1], chosen, np.ascontiguousarray(here[:, kept]), large.shape[1] - size, alone)


def _lacking(basis: Floats, own: OwnColumns, at_the_table: NDArray[np.intp]) -> tuple[str, int]:
    """The first site and column of its own that a smaller design can't move, all of the others' staying as they are."""
    sites = [(site, column) for site, columns in own.of.items() for column in columns]
    rows = np.vstack([basis[at_the_table], basis[[column for _, column in sites]]])
    free = independent(rows.T)
    return next(sites[i] for i in range(len(sites)) if at_the_table.size + i not in free)
