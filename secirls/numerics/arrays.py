"""Names for the kinds of arrays that everything is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]
Mask = NDArray[np.bool_]
"""Which genes, ``(genes,)``."""
