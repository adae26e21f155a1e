"""Which samples a contrast compares, as a sum over design columns: from formula and levels, without a sample.

Promises: what it marks holds for every sample that the levels allow, or nothing is marked. Refuses to know: counts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from secirls.inputs.designs.contrasts import Contrast
from secirls.inputs.designs.design import Design, Variable
from secirls.inputs.formulas.labels import label
from secirls.numerics.algebra.solve import pack, solve
from secirls.numerics.arrays import Floats, Mask


def compared_groups(contrast: Contrast, design: Design) -> Floats | None:
    """Numbers v by column such that ``x v`` is 1 for samples of a compared group, else 0; ``(groups, params)``.

    The groups are those whose counts R's ``results()`` looks at before it takes a fold change for one: samples of both
    levels, as one group; or, where numbers have both signs, samples with ``x b`` not zero, b being 1 where the contrast
    is not 0. Those are the samples of any of its columns, which are zeros and ones: each column marks a group itself.
    ``None`` where R looks at none (the default contrast, numbers of one sign), where a site has columns of its own,
    where numbers are of a column that holds some, and where no such v follows from formula and levels.
    """
    numbers, _ = contrast.of(design)
    if contrast == Contrast() or design.own.of:
        return None
    if contrast.levels is None:
        chosen = np.flatnonzero(numbers)
        holds = np.asarray(design.expansion.holds[design.at_the_table].any(axis=1))
        mixed = (numbers > 0).any() and (numbers < 0).any()
        return np.eye(numbers.size)[chosen] if mixed and not holds[chosen].any() else None
    factor = contrast.levels[0].strip()
    if factor not in design.levels:
        return None
    pair = tuple(label(text) for text in contrast.levels[1:])
    others = tuple(level for level in design.levels[factor] if level not in pair)
    everything = _everything(design)
    found = design.possible_rows(
        {
            part: {**everything, factor: replace(everything[factor], levels=levels)}
            for part, levels in (("compared", pair), ("other", others))
            if levels
        }
    )
    if found is None:
        return None
    parts = {part: _allowed(design, rows) for part, rows in found.items()}
    inside = [np.full(len(rows), part == "compared") for part, rows in parts.items()]
    marks = _solved(design, np.concatenate(list(parts.values())), np.concatenate(inside))
    return None if marks is None else marks[None]


def _everything(design: Design) -> dict[str, Variable]:
    """What a site would say that holds every level."""
    factors = {name: Variable(numeric=False, levels=levels) for name, levels in design.levels.items()}
    return factors | {name: Variable(numeric=True) for name in design.numeric}


def _allowed(design: Design, rows: Floats) -> Floats:
    """The table's columns ``(rows, params)`` of rows ``(rows, all params)`` that are not in a dropped column."""
    return rows[~rows[:, list(design.dropped)].any(axis=1)][:, design.at_the_table]


def _solved(design: Design, rows: Floats, inside: Mask) -> Floats | None:
    """Numbers v with ``rows v = inside``, or ``None`` where there is none; ``(rows, params)`` and ``(rows,)``.

    Zero for columns that hold numbers: so v is the same where those are centred and scaled.
    """
    without = ~design.expansion.holds[design.at_the_table].any(axis=1)
    columns = rows[:, without]
    if not columns.size:
        return None
    normal = (columns[:, :, None] * columns[:, None, :]).sum(axis=0)
    found, failed = solve(pack(normal[None]), (columns * inside[:, None]).sum(axis=0)[None])
    exact = bool(np.abs((columns * found[0]).sum(axis=1) - inside).max() < 1e-9)
    if failed[0] or not exact:
        return None
    marks = np.zeros(rows.shape[1])
    marks[without] = found[0]
    return marks
