"""The compiled kernel where samples share design rows: sums over a row's nodes in place of its samples.

Promises: the formulas of `kernels.summands` within a few roundings of each sum's magnitudes; a gene's bits are the
same on any number of threads and for any choice of genes. Genes it can't sum are left for the other kernel: those whose
means are clamped for some samples of a row only, whose likelihood would cancel, or whose predictor is extreme.
Refuses to know: where nodes come from.

A row has too few nodes to fill vectors, so genes stand side by side, always as many: what is alike for all of them, a
node's size factor and the samples it stands for, is read once.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.elementary import compiled, exp, log1p_and_inverse, upper_half
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.level_nodes import LevelMoments, LevelNodes
from secirls.numerics.regression.kernel_task import LARGEST_PLAIN_COUNT, LARGEST_PLAIN_ETA, Extreme, Kernel, Sums, Task

LANES = 64
"""Genes side by side; places of the last ones that have no gene are filled up."""


@compiled(inline=True)
def _lanes(room: Floats, k: int) -> Floats:
    """One number a gene; all lie in one array, so that loops need no check whether they overlap."""
    return room[k * LANES : (k + 1) * LANES]


@compiled(inline=True)
def _fill(values: Floats, lanes: Floats) -> None:
    """Values ``(genes,)`` into the lanes, the first again where there are no more."""
    for lane in range(LANES):
        lanes[lane] = values[lane] if lane < values.size else values[0]


@compiled(inline=True)
def _add_exactly(b: Floats, x: float, eta: Floats, rest: Floats) -> None:
    """Add b x to eta, and what that rounds away to `rest` (Dekker 1971, Knuth's two-sum).

    An eta of 8 is rounded by 1e-15, which every mean and weight would be wrong by.
    """
    upper_x = upper_half(x)
    lower_x = x - upper_x
    for lane in range(LANES):
        product, upper_b = b[lane] * x, upper_half(b[lane])
        lower_b = b[lane] - upper_b
        lost = ((upper_b * upper_x - product) + upper_b * lower_x + lower_b * upper_x) + lower_b * lower_x
        before = eta[lane]
        after = before + product
        part = after - before
        rest[lane] += ((before - (after - part)) + (product - part)) + lost
        eta[lane] = after


@compiled(inline=True)
def _add_row(row: Floats, weight: Floats, moment: Floats, xtwx: Floats, right: Floats) -> None:
    """Add what a level's weights and moments ``(genes,)`` are in X'WX and in the right-hand side."""
    entry = 0
    for j in range(row.size):
        for k in range(j, row.size):
            if row[j] * row[k] != 0.0:
                for lane in range(weight.size):
                    xtwx[lane, entry] += weight[lane] * (row[j] * row[k])
            entry += 1
        if row[j] != 0.0:
            for lane in range(weight.size):
                right[lane, j] += moment[lane] * row[j]


@compiled()
def by_nodes(
    counts: Floats,
    totals: Floats,
    shifts: Floats,
    numbers: Floats,
    s: Floats,
    starts: NDArray[np.intp],
    lowest: Floats,
    highest: Floats,
    middle: Floats,
    rows: Floats,
    beta: Floats,
    alphas: Floats,
    log_min_mu: float,
    min_mu: float,
    score: bool,
    xtwx: Floats,
    right: Floats,
    nll: Floats,
    left: Mask,
) -> None:
    """Sums of genes by nodes; arrays of a gene, a node or a level as in `LevelMoments` and `LevelNodes`.

    `s` ``(nodes,)`` are size factors, `middle` ``(levels,)`` a level's mean log size factor, `rows`
    ``(levels, params)`` design rows. Genes that can't be summed are put in `left`.
    """
    genes, (levels, params) = nll.size, rows.shape
    room = np.empty(11 * LANES)
    alpha, size, b, filled = _lanes(room, 0), _lanes(room, 1), _lanes(room, 2), _lanes(room, 3)
    eta, rest, up, floor = _lanes(room, 4), _lanes(room, 5), _lanes(room, 6), _lanes(room, 7)
    total, weight, moment = _lanes(room, 8), _lanes(room, 9), _lanes(room, 10)
    for first in range(0, genes, LANES):
        here = slice(first, min(first + LANES, genes))
        width = here.stop - first
        _fill(alphas[here], alpha)
        for lane in range(LANES):
            size[lane] = 1.0 / alpha[lane]
        total[:] = 0.0
        xtwx[here] = 0.0
        right[here] = 0.0
        for level in range(levels):
            eta[:] = 0.0
            rest[:] = 0.0
            for j in range(params):
                for lane in range(LANES):
                    b[lane] = beta[first + lane, j] if lane < width else beta[first, j]
                _add_exactly(b, rows[level, j], eta, rest)
            free, some = log_min_mu - lowest[level], log_min_mu - highest[level]
            for lane in range(width):
                left[first + lane] |= ((eta[lane] > free) != (eta[lane] > some)) | (abs(eta[lane]) > LARGEST_PLAIN_ETA)
            for lane in range(LANES):
                mean = exp(min(max(eta[lane], -LARGEST_PLAIN_ETA), LARGEST_PLAIN_ETA)) * (1.0 + rest[lane])
                up[lane] = mean if eta[lane] > free else 0.0
                floor[lane] = 0.0 if eta[lane] > free else min_mu
            weight[:] = 0.0
            moment[:] = 0.0
            for node in range(starts[level], starts[level + 1]):
                y = counts[node][here]
                if width < LANES:
                    _fill(y, filled)
                    y = filled
                s_here, number = s[node], numbers[node]
                for lane in range(LANES):
                    mean = s_here * up[lane] + floor[lane]
                    fitted = number * mean
                    softplus, over = log1p_and_inverse(alpha[lane] * mean)
                    total[lane] += (y[lane] + size[lane] * number) * softplus
                    weight[lane] += fitted * over
                    moment[lane] += (y[lane] - fitted) * over
            for lane in range(width):
                count, w = totals[level, first + lane], weight[lane]
                if eta[lane] > free:
                    total[lane] -= eta[lane] * count + shifts[level, first + lane]
                    moment[lane] += 0.0 if score else w * eta[lane]
                else:  # z is another in every sample, the weight is not
                    total[lane] -= log_min_mu * count
                    moment[lane] = 0.0 if score else moment[lane] + w * (log_min_mu - middle[level])
            _add_row(rows[level], weight[:width], moment[:width], xtwx[here], right[here])
        nll[here] = total[:width]


def prepare(task: Task, nodes: LevelNodes) -> Kernel:
    """The kernel for one site's design: sums, and which genes are left for another kernel."""
    least, rows = float(np.exp(task.log_min_mu)), nodes.rows(task.design)
    places = nodes.numbers, nodes.s, nodes.node_starts, nodes.lowest, nodes.highest, nodes.middle

    def run(part: Task) -> tuple[Sums, Extreme]:
        here, sums = cast("LevelMoments", part.moments), Sums.empty(*part.beta.shape)
        left = here.largest > LARGEST_PLAIN_COUNT
        by_nodes(
            np.ascontiguousarray(here.counts),
            np.ascontiguousarray(here.totals),
            np.ascontiguousarray(here.shifts),
            *places,
            rows,
            part.beta,
            part.alpha,
            part.log_min_mu,
            least,
            part.score,
            *sums,
            left,
        )
        return sums, left

    return run
