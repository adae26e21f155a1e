"""The compiled kernel where samples share design rows: sums over a row's nodes in place of its samples.

Promises: the formulas of `kernels.summands` within a few roundings of each sum's magnitudes; a gene's bits are the
same on any number of threads and for any choice of genes. Genes it can't sum are left for the other kernel: those whose
means are clamped for some samples of a row only, whose likelihood would cancel, or whose predictor is extreme.
Refuses to know: where nodes come from.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.elementary import compiled, exp, log1p_and_inverse
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.level_nodes import LevelMoments, LevelNodes
from secirls.numerics.regression.design_products import both_sums, plus
from secirls.numerics.regression.kernel_task import LARGEST_PLAIN_COUNT, LARGEST_PLAIN_ETA, Extreme, Kernel, Sums, Task


@compiled()
def by_nodes(
    counts: Floats,
    totals: Floats,
    shifts: Floats,
    numbers: Floats,
    beta: Floats,
    alphas: Floats,
    rows: Floats,
    starts: NDArray[np.intp],
    s: Floats,
    shift: Floats,
    lowest: Floats,
    highest: Floats,
    samples: Floats,
    log_min_mu: float,
    min_mu: float,
    score: bool,
    xtwx: Floats,
    right: Floats,
    nll: Floats,
    left: Mask,
) -> None:
    """Sums of genes by nodes; arrays of a gene, a node or a level as in `LevelMoments` and `LevelNodes`.

    `rows` ``(levels, params)`` are design rows, `s` ``(nodes,)`` size factors. Genes in `left` are passed over, and
    those that can't be summed are put there.
    """
    genes, nodes = counts.shape
    levels, params = rows.shape
    scratch = np.empty(2 * nodes + levels)
    weight, moment, z = scratch[:nodes], scratch[nodes:][:nodes], scratch[2 * nodes :]
    weight[:] = min_mu
    for gene in range(genes):
        y, alpha = counts[gene], alphas[gene]
        size = 1.0 / alpha
        linear = 0.0
        for level in range(levels):
            eta = 0.0
            for j in range(params):
                eta += beta[gene, j] * rows[level, j]
            z[level] = eta
            free, some = eta > log_min_mu - lowest[level], eta > log_min_mu - highest[level]
            left[gene] |= (free != some) | (abs(eta) > LARGEST_PLAIN_ETA)
            mu = weight[starts[level] : starts[level + 1]]
            if free:
                exp_eta = exp(min(max(eta, -LARGEST_PLAIN_ETA), LARGEST_PLAIN_ETA))
                s_here = s[starts[level] : starts[level + 1]]
                for k in range(mu.size):
                    mu[k] = s_here[k] * exp_eta
                linear += eta * totals[gene, level] + shifts[gene, level]
            else:
                mu[:] = min_mu
                linear += log_min_mu * totals[gene, level]
        if left[gene]:
            continue
        total = 0.0
        for k in range(nodes):
            mean, count, number = weight[k], y[k], numbers[k]
            softplus, over = log1p_and_inverse(alpha * mean)
            total = plus(total, (count + size * number) * softplus)
            weight[k] = number * mean * over
            moment[k] = (count - number * mean) * over
        nll[gene] = total - linear
        xtwx[gene, :] = 0.0
        right[gene, :] = 0.0
        for level in range(levels):
            here = slice(starts[level], starts[level + 1])
            w, m = both_sums(weight[here], moment[here])
            if z[level] > log_min_mu - lowest[level]:
                m += 0.0 if score else w * z[level]
            elif score:
                m = 0.0
            else:  # z is another in every sample, the weight is not
                m += w * (log_min_mu - shift[level] / samples[level])
            entry = 0
            for j in range(params):
                right[gene, j] += m * rows[level, j]
                for k in range(j, params):
                    xtwx[gene, entry] += w * (rows[level, j] * rows[level, k])
                    entry += 1


def prepare(task: Task, nodes: LevelNodes) -> Kernel:
    """The kernel for one site's design: sums, and which genes are left for another kernel."""
    least, rows = float(np.exp(task.log_min_mu)), nodes.rows(task.design)
    s, samples = np.exp(nodes.log_s), np.diff(nodes.starts).astype(np.float64)

    def run(part: Task) -> tuple[Sums, Extreme]:
        here, sums = cast("LevelMoments", part.moments), Sums.empty(*part.beta.shape)
        left = here.largest > LARGEST_PLAIN_COUNT
        by_nodes(
            here.counts,
            here.totals,
            here.shifts,
            nodes.numbers,
            part.beta,
            part.alpha,
            rows,
            nodes.node_starts,
            s,
            nodes.shift,
            nodes.lowest,
            nodes.highest,
            samples,
            part.log_min_mu,
            least,
            part.score,
            *sums,
            left,
        )
        return sums, left

    return run
