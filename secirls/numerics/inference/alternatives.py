"""Which alternatives there are to the null hypothesis about a fold change, in the words of R's ``results()``."""

from __future__ import annotations

import math
from typing import Literal, get_args

Alternative = Literal["greaterAbs", "lessAbs", "greater", "less"]
ALTERNATIVES: tuple[str, ...] = get_args(Alternative)


def check_threshold(threshold: float, alternative: str) -> None:
    """Raise `ValueError` unless the two make a test."""
    if alternative not in ALTERNATIVES:
        raise ValueError(f"there is no alternative {alternative!r}, choose one of {', '.join(ALTERNATIVES)}")
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"lfc_threshold is zero or more, on the log2 scale, not {threshold}")
    if alternative == "lessAbs" and threshold == 0:
        raise ValueError("the alternative 'lessAbs' needs an lfc_threshold above zero: no fold change is below none")
