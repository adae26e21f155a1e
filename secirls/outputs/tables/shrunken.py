"""Shrunken fold changes in the table of results and in the report; the estimates without a prior stay beside them.

Promises: every gene without a shrunken fold change has a sentence that says why. Everything here is public.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from secirls.algorithms.regression.shrinkage import Shrinkage
from secirls.input_error import InputError
from secirls.inputs.designs.design import Design
from secirls.numerics.arrays import Floats
from secirls.numerics.inference.shrinkage import OTHERS_DEVIATION, running_shares, s_values
from secirls.numerics.inference.wald import LN2
from secirls.numerics.status import Reason
from secirls.outputs.tables.kept_fit import KeptFit

SHRUNKEN: Final = "shrunkenLog2FoldChange"
"""Column of shrunken fold changes, where a fit has them."""
COLUMNS = (SHRUNKEN, "posteriorSD", "svalue")
"""Maximum a posteriori (apeglm) or posterior mean (ashr), its standard deviation, log2; and the expected share of wrong
signs among surer genes."""

WHY = {
    Reason.LOST: "a site's sums for it were not finite or too large to be added securely",
    Reason.NO_DESCENT: "no step was found that lowers the function that is minimised",
    Reason.NEWTON_OUT_OF_ITERATIONS: "Newton's method did not settle in its rounds",
    Reason.SINGULAR: "the posterior is not curved at its maximum",
}
NOT_SHRUNKEN = "Its fold change was not shrunken: {}."


def is_of_the_shrunken(contrast: Floats, kept: KeptFit) -> bool:
    """Whether a contrast ``(params,)`` is of the one coefficient that was shrunken."""
    unit = np.array([name == kept.config.shrink for name in kept.design.columns])
    return bool(unit.any() and (contrast == unit).all())


def beside_shrunken(table: pd.DataFrame, kept: KeptFit) -> pd.DataFrame:
    """The table of results with the columns of a shrunken coefficient after R's, and reasons where one is missing."""
    estimate, deviation = kept.shrunken / LN2, kept.posterior_deviation / LN2
    wider = _with_columns(table, estimate, deviation, s_values(estimate, deviation))
    wider["reason"] = [
        f"{told} {NOT_SHRUNKEN.format(WHY[Reason(code)])}".strip() if code else told
        for told, code in zip(table["reason"], kept.not_shrunken, strict=True)
    ]
    return wider


def beside_ashr(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table with fold changes drawn towards zero by what all of them say, as ashr; and what a report says of it.

    A gene without a fold change or its standard error has none, nor one whose fold change is known to be zero (its
    counts were replaced, and none is left): its reason says so already. Raises `InputError` where no gene has any.
    """
    from secirls.numerics.inference import adaptive_shrinkage

    estimates, errors = (table[name].to_numpy(dtype=np.float64) for name in ("log2FoldChange", "lfcSE"))
    known = np.isfinite(estimates) & np.isfinite(errors) & (errors > 0)
    if not known.any():
        raise InputError("no gene has a fold change with a standard error, so ashr has nothing to shrink")
    try:
        prior = adaptive_shrinkage.fit_mixture(estimates[known], errors[known])
    except ArithmeticError as error:
        raise InputError(f"ashr came to no prior: {error}") from None
    columns = np.full((3, len(table)), np.nan)
    columns[:, known] = adaptive_shrinkage.posterior(estimates[known], errors[known], prior)
    mean, deviation, wrong = columns
    told = {
        "prior": "mixture of normal laws around zero; log2",
        "deviations": prior.deviations.tolist(),
        "weights": prior.weights.tolist(),
        "genes": int(known.sum()),
    }
    return _with_columns(table, mean, deviation, running_shares(wrong)), told


def _with_columns(table: pd.DataFrame, *columns: Floats) -> pd.DataFrame:
    """The table with `COLUMNS` after R's."""
    wider, at = table.copy(), list(table.columns).index("padj") + 1
    for i, values in enumerate(columns):
        wider.insert(at + i, COLUMNS[i], values)
    return wider


def told_of_shrinkage(shrinkage: Shrinkage | None, design: Design) -> dict[str, Any] | None:
    """What the report says of the prior, and of how many genes it was held against."""
    if shrinkage is None:
        return None
    return {
        "coefficient": design.columns[shrinkage.coefficient],
        "prior": "Cauchy, around zero; natural log",
        "prior_scale": shrinkage.scale if np.isfinite(shrinkage.scale) else None,
        "deviation_of_others": OTHERS_DEVIATION,
        "genes": int(np.isfinite(shrinkage.estimate).sum()),
        "not_shrunken": int((shrinkage.reason != Reason.NONE).sum()),
        "next_to_zero": int(shrinkage.second.sum()),
    }
