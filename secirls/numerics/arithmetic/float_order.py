"""The order of floating-point numbers of zero or more, as whole numbers: how far apart two are, and what lies between.

Promises: points between two floats are found by whole-number arithmetic alone, so they are the same bits on every
machine, without a logarithm; within a power of two they are evenly spaced, over many they are spaced by ratio.
Refuses to know: what is searched for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Floats

Places = NDArray[np.int64]
"""Places of floats in their order; the float after the one at place k has place k + 1."""


def place(values: Floats) -> Places:
    """The place of each float of zero or more in the order of all floats."""
    return np.ascontiguousarray(values + 0.0, dtype=np.float64).view(np.int64)


def at(places: Places) -> Floats:
    """The float at each place."""
    return np.ascontiguousarray(places, dtype=np.int64).view(np.float64)


def between(low: Floats, high: Floats, points: int) -> Floats:
    """So many floats that cut each ``(low, high)`` into parts of equal places, ``(len, points)``; they may repeat."""
    first, last = place(low)[:, None], place(high)[:, None]
    steps = np.arange(1, points + 1, dtype=np.int64)
    part, rest = np.divmod(last - first, points + 1)
    places: Places = first + part * steps + rest * steps // np.int64(points + 1)
    return at(places)
