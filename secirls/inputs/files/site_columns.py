"""Names and columns of a site's obs and var, validated.

Promises: a refusal is one sentence with site, file and column, that names nothing but what was asked for.
Refuses to know: files, matrices, designs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from secirls.input_error import complain
from secirls.inputs.annotation import Annotation, Column
from secirls.inputs.designs.design import Variable
from secirls.inputs.files.count_matrix import never_counted
from secirls.inputs.formulas.formula import Factor
from secirls.inputs.formulas.labels import MISSING, label, labels, numbered
from secirls.numerics.arrays import Counts, Floats
from secirls.numerics.held.held_counts import HeldCounts

OWN_NAME = "site"
"""The obs column for which a site's own name stands in, in a file that has none of it."""

TURNED = "var has it: an AnnData is samples x genes, and this one may be genes x samples"

SHOWN_NAMES = 12
"""Of columns or layers in a sentence."""

_OF_THE_SITE = frozenset({"site", "center", "centre", "hospital", "lab"})
"""What else a column is called that says where samples are from: whoever asks for it may think that it makes itself."""


def check_unique(
    names: Sequence[str], field_name: str, what: str, where: Mapping[str, str], *, quote: bool = True
) -> None:
    """Names of samples or genes are all different; ``quote`` one that is not. Raises `InputError`."""
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for name in names:
        if name in seen:
            detail = f"{what} {name!r}" if quote else ""
            raise complain(f"has the same {what} twice", **where, field=field_name, detail=detail)
        seen.add(name)


def there_are(what: str, names: Iterable[object], wanted: str = "") -> str:
    """What a file holds in the place of what is ``wanted``; of many a few, those that are called nearly so first."""
    told = [str(name) for name in names]
    first = get_close_matches(wanted, told, n=SHOWN_NAMES // 2) if len(told) > SHOWN_NAMES else []
    shown = list(dict.fromkeys((*first, *told)))[:SHOWN_NAMES]
    more = f" and {len(told) - len(shown):,} more" if len(told) > len(shown) else ""
    return f"there are the {what} {', '.join(map(repr, shown))}{more}" if shown else f"there are no {what}"


def stood_in(obs: Annotation, wanted: Sequence[str], site: str) -> Annotation:
    """As it is; or with values of `OWN_NAME`, where that is wanted and the file has none: the site's name in every row.

    Whoever leads named the site himself, so the name tells nothing.
    """
    if OWN_NAME not in wanted or OWN_NAME in obs.columns:
        return obs
    names = np.full(len(obs), site, dtype=object)
    column = Column(names, np.zeros(len(obs), dtype=np.bool_), numeric=False)
    return Annotation(obs.index, obs.columns, {**obs.held, OWN_NAME: column})


def is_stood_in(obs: Annotation, column: str = OWN_NAME) -> bool:
    """Whether values are held of a column that the file does not have: see `stood_in`."""
    return column in obs.held and column not in obs.columns


def variable(
    obs: Annotation,
    column: str,
    where: Mapping[str, str],
    *,
    declared: tuple[str, ...] | None,
    functions: Sequence[Factor],
    var: Sequence[str] = (),
) -> Variable:
    """What kind of variable a column of obs is; one with ``declared`` levels is text, whatever it holds.

    ``functions`` of numeric variables must be finite; ``var`` are the names of var's columns. Raises `InputError`.
    """
    field_name = f"obs column {column!r}"
    if is_stood_in(obs, column):
        return Variable(numeric=False, levels=(label(where["site"]),))
    if column not in obs.columns:
        detail = TURNED if column in var else there_are("columns", obs.columns, column)
        problem = "is missing, and the design needs it"
        if column.lower() in _OF_THE_SITE:
            problem += f"; the name {OWN_NAME!r} in a design needs none, and stands for the site's own name"
        raise complain(problem, **where, field=field_name, detail=detail)
    if column not in obs.held:
        raise complain("is there twice", **where, field=field_name)
    values = obs[column]
    if values.missing.any():
        raise complain("has a missing value", **where, field=field_name)
    if not values.numeric and any(isinstance(value, bytes | complex) for value in values):
        raise complain("holds neither text nor numbers that can be ordered", **where, field=field_name)
    if values.numeric and declared is None:
        numbers = values.to_numpy()
        if not np.isfinite(numbers).all():
            raise complain("has a value that is not finite", **where, field=field_name)
        for factor in functions:
            if factor.variable == column and not np.isfinite(factor.values(numbers)).all():
                raise complain(f"has a value at which {factor.expr} is not finite", **where, field=field_name)
        return Variable(numeric=True, numbered=numbered(numbers))
    levels = set(labels(values))
    missing = sorted((levels & MISSING) - set(labels(declared or ())))
    if missing:
        raise complain(
            f"has the text {missing[0]!r}, which stands for a missing value: leave those samples out, "
            "or declare it as a level (levels) if it is one",
            **where,
            field=field_name,
        )
    return Variable(numeric=False, levels=_in_order(values, levels))


def _in_order(values: Column, held: set[str]) -> tuple[str, ...]:
    """The levels that samples hold, in the order of the file's categories; numbers by size, texts sorted.

    Categories without samples are left out: they are nobody's business.
    """
    if values.categories is not None:
        ordered = labels(values.categories)
    elif values.numeric:
        ordered = labels(sorted(set(values)))
    else:
        ordered = sorted(held)
    return tuple(level for level in dict.fromkeys(ordered) if level in held)


def brought_dispersions(
    var: Annotation,
    column: str | None,
    counts: Counts | HeldCounts,
    replacement: Counts | HeldCounts | None,
    where: Mapping[str, str],
) -> Floats | None:
    """Brought dispersions. A gene without counts needs none: PyDESeq2 and DESeq2 leave it missing, here it gets 1."""
    if column is None:
        return None
    idle = never_counted(counts)
    if replacement is not None:
        idle &= never_counted(replacement)
    return positive(var, "var", column, where, fill=idle)


def positive(
    table: Annotation,
    axis: str,
    column: str | None,
    where: Mapping[str, str],
    *,
    fill: NDArray[np.bool_] | None = None,
) -> Floats | None:
    """A column of numbers above zero; where ``fill`` says so, one that is missing counts as 1. Raises `InputError`."""
    if column is None:
        return None
    field_name = f"{axis} column {column!r}"
    if column not in table.columns:
        raise complain("is missing", **where, field=field_name, detail=there_are("columns", table.columns, column))
    if column not in table.held:
        raise complain("is there twice", **where, field=field_name)
    try:
        values = table[column].to_numpy()
    except (TypeError, ValueError):
        raise complain("does not hold numbers", **where, field=field_name) from None
    if fill is not None:
        values = np.where(fill & np.isnan(values), 1.0, values)
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        detail = f"gene {table.index[int(np.flatnonzero(wrong)[0])]!r}" if axis == "var" else ""
        raise complain("has a missing value or one that is not above zero", **where, field=field_name, detail=detail)
    return np.ascontiguousarray(values)
