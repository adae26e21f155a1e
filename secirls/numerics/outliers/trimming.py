"""Trimmed means, and variances made of them: how much is cut off, and what is left.

Promises: shares, scales and groups of sizes are those of R's DESeq2. Refuses to know: how order statistics are found
where nobody may see the values.
Love, Huber and Anders (2014), methods, Cook's distances; Tukey (1962) for the trimmed mean.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from secirls.numerics.arrays import Floats

FILTER_FROM = 3
"""Samples in a cell from which its outliers are told."""
REPLACE_FROM = 7
"""Samples in a cell from which its outliers are replaced."""
REPLACEMENT_SHARE = Fraction(1, 5)
"""Of all samples, cut off at each end of the mean that replaces an outlier."""
_SHARES = ((3, Fraction(1, 3), 2.04), (23, Fraction(1, 4), 1.86), (None, Fraction(1, 8), 1.51))
"""Largest cell, share cut off at each end, and the scale that makes up for it."""


def cut(samples: int, share: Fraction) -> int:
    """How many values are cut off at each end."""
    return int(samples * share)


def cell_cut(samples: int) -> int:
    """How many of a cell's values are cut off at each end."""
    return cut(samples, _rule(samples)[0])


def cell_scale(samples: int) -> float:
    """What a cell's trimmed mean of squares is multiplied by."""
    return _rule(samples)[1]


def trimmed_mean(values: Floats, g: int) -> Floats:
    """Mean of each row ``(rows, values)`` without its g smallest and g largest values, ``(rows,)``."""
    ordered = np.sort(values, axis=1)
    kept = ordered[:, g : values.shape[1] - g]
    mean: Floats = np.ascontiguousarray(kept).sum(axis=1) / kept.shape[1]
    return mean


def trimmed_variance(values: Floats) -> Floats:
    """Robust variance of one cell's normalised counts ``(genes, samples)``, ``(genes,)``; three samples or more."""
    n = values.shape[1]
    centre = trimmed_mean(values, cell_cut(n))
    return cell_scale(n) * trimmed_mean((values - centre[:, None]) ** 2, cell_cut(n))


def _rule(samples: int) -> tuple[Fraction, float]:
    return next((share, scale) for most, share, scale in _SHARES if most is None or samples <= most)
