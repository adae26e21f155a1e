"""Cook's distances, compiled: exponentials and quadratic forms by design row, the rest of a count in plain loops.

Promises: the formulas of `cooks`, in IEEE operations in a written order, so that a distance has the same bits on every
machine and depends on its own gene and sample alone; the interpreter's lock is released. Refuses to know: who asks.

A mean is ``s exp(x beta)`` and not ``exp(x beta + log s)``: what samples of one design row share is found once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.portable import exp, strictly
from secirls.numerics.arrays import Counts, Floats
from secirls.numerics.regression.levels import numbered
from secirls.numerics.regression.likelihood import LARGEST_LOG_MU

_SMALLEST_ETA = -708.0
_WRITEABLE: Final = ("C", "W")
"""Arrays are contiguous and not read-only: for others the kernel would be compiled anew."""


@strictly()
def _fill_distances(
    counts: Counts,
    betas: Floats,
    inverse: Floats,
    dispersions: Floats,
    robust: Floats,
    columns: Floats,
    level: NDArray[np.uint32],
    s: Floats,
    min_mu: float,
    n_columns: float,
    out: Floats,
) -> None:
    """Fill `out` ``(genes, samples)``.

    `betas` ``(2, genes, params)`` are those of means and those of weights; `columns` ``(params, rows)`` are of the
    different design rows, of which `level` is each sample's.
    """
    genes, samples = counts.shape
    params, rows = columns.shape
    exps, form, means = np.zeros((2, rows)), np.empty(rows), np.empty((3, samples))
    mu, hat_mu, h = means[0], means[1], means[2]
    for gene in range(genes):
        for which in range(2):
            e = exps[which]
            e[:] = 0.0
            for j in range(params):
                to, x = betas[which, gene, j], columns[j]
                for row in range(rows):
                    e[row] += to * x[row]
            for row in range(rows):
                eta = e[row]
                e[row] = exp(min(max(eta, _SMALLEST_ETA), LARGEST_LOG_MU)) + (eta - eta)  # NaN where eta is
        form[:] = 0.0
        for i in range(params):
            for j in range(i, params):
                to, x, z = inverse[gene, i, j] * (1.0 if i == j else 2.0), columns[i], columns[j]
                for row in range(rows):
                    form[row] += to * (x[row] * z[row])
        for i in range(samples):
            here = level[i]
            mu[i], hat_mu[i], h[i] = s[i] * exps[0, here], s[i] * exps[1, here], form[here]
        y, distance, alpha, rho = counts[gene], out[gene], dispersions[gene], robust[gene]
        for i in range(samples):
            clamped = max(hat_mu[i], min_mu)
            h[i] *= clamped / (1.0 + alpha * clamped)
        for i in range(samples):
            gap, left = float(y[i]) - mu[i], 1.0 - h[i]
            distance[i] = gap * gap * h[i] / (n_columns * (mu[i] + rho * (mu[i] * mu[i])) * (left * left))


def distances(
    counts: Counts,
    beta: Floats,
    hat_beta: Floats,
    inverse: Floats,
    dispersions: Floats,
    robust: Floats,
    design: Floats,
    s: Floats,
    min_mu: float,
    n_columns: int,
) -> Floats:
    """Of counts ``(genes, samples)``; ``inverse`` is of X'WX + ridge, ``(genes, params, params)``; see `cooks`."""
    level, firsts = numbered(design)
    out = np.empty(counts.shape)
    _fill_distances(
        np.require(counts, np.int32, _WRITEABLE),
        np.stack([beta, hat_beta]),
        np.require(inverse, np.float64, _WRITEABLE),
        np.require(dispersions, np.float64, _WRITEABLE),
        np.require(robust, np.float64, _WRITEABLE),
        np.require(design[firsts].T, np.float64, _WRITEABLE),
        level.astype(np.uint32),
        np.require(s, np.float64, _WRITEABLE),
        float(min_mu),
        float(n_columns),
        out,
    )
    return out
