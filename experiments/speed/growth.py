"""What one process grows by as it holds a site's counts over a fit: a program, for a process of its own.

``python -m experiments.speed.growth make FOLDER GENES SAMPLES SHARE`` writes four sites, of which *large* has so many
samples and so large a part of its counts above zero; ``grow FOLDER`` prints by how many bytes the highest size of the
process grows over IRLS of it, once as counts are held and once with the matrix and its active genes held whole.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numba.core.registry import cpu_target
from scipy import sparse

import secirls
from experiments.groundwork.data_sets import AnnData
from secirls.inputs.files import count_matrix
from secirls.numerics.held import held_counts

EVERYWHERE = 0.02
"""Of genes, so many have no zero: size factors need them."""


def make(folder: Path, genes: int, samples: int, share: float) -> None:
    """Counts in float sparse matrices where most are zero; in dense ones where ``share`` is 1."""
    rng = np.random.default_rng(0)
    mean, everywhere = np.exp(rng.uniform(0, 5, genes)), rng.random(genes) < EVERYWHERE
    for name, number in (("large", samples), ("little", 12), ("small", 6), ("tiny", 6)):
        parts: list[Any] = []
        for start in range(0, number, 100):
            counts = rng.poisson(mean * rng.gamma(5, 0.2, (min(100, number - start), genes))).astype(np.int32)
            if name == "large" and share < 1:
                counts[(rng.random(counts.shape) > share) & ~everywhere] = 0
            parts.append(sparse.csr_matrix(counts) if share < 1 else counts)
        matrix = sparse.vstack(parts, format="csr") if share < 1 else np.concatenate(parts)
        obs = pd.DataFrame({"condition": ["c", "t"] * (number // 2)}, index=[f"{name}{i}" for i in range(number)])
        AnnData(matrix, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(genes)])).write_h5ad(
            folder / f"{name}.h5ad"
        )


def grow(folder: Path) -> tuple[int, int]:
    """Bytes that the process grows by, as counts are held and with whole arrays."""
    cpu_target.target_context.refresh()  # what compiles is there before, whether or not a fit needs it
    before = _highest_after(folder, "little")
    held = _highest_after(folder, "large")
    count_matrix.PLAIN_VALUES = held_counts.FEW_VALUES = 1 << 62
    return held - before, _highest_after(folder, "large") - before


def _highest_after(folder: Path, first: str) -> int:
    files = {name: folder / f"{name}.h5ad" for name in (first, "small", "tiny")}
    secirls.fit(files, design="~ condition", protocol="plain", engine="local", preset="irls")
    return _high_water_mark()


def _high_water_mark() -> int:
    # Not `ru_maxrss`, which begins at what the process was that started this one.
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return 1024 * int(lines["VmHWM"].split()[0])


if __name__ == "__main__":
    verb, where, *sizes = sys.argv[1:]
    if verb == "make":
        make(Path(where), int(sizes[0]), int(sizes[1]), float(sizes[2]))
    else:
        print(*grow(Path(where)))
