"""Values of numeric variables at which different functions of them differ.

Promises: the same at every party. Refuses to know: formulas and samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from secirls.numerics.arrays import Floats

PROBES = 3
"""Values of each numeric variable at which products of columns are told apart."""
_PRIMES = (2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0, 23.0)
"""Their square roots, and whole numbers added, stand for such values: no two variables take the same."""


def probed(probes: Sequence[int], count: int) -> Floats:
    """Values of so many numeric factors at each probe, such that no coincidence makes products of columns equal."""
    return np.array(
        [[math.sqrt(_PRIMES[(i + 3 * probe) % len(_PRIMES)]) + i + probe for i in range(count)] for probe in probes]
    ).reshape(len(probes), count)
