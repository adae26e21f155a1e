"""The compiled kernel where samples share design rows: sums over a row's nodes in place of its samples.

Promises: the formulas of `kernels.summands` within a few roundings of each sum's magnitudes; a gene's bits are the
same on any number of threads and for any choice of genes. Genes it can't sum are left for the other kernel: those whose
means are clamped for some samples of a row only, whose likelihood would cancel, or whose predictor is extreme.
Refuses to know: where nodes come from.

A row has too few nodes to fill vectors, so genes stand side by side, always as many: what is alike for all of them, a
node's size factor and the samples it stands for, is read once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.elementary import compiled, exp, log1p_and_inverse, upper_half
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.level_nodes import LevelMoments, LevelNodes
from secirls.numerics.regression.kernel_task import LARGEST_PLAIN_COUNT, LARGEST_PLAIN_ETA, Extreme, Kernel, Sums, Task

LANES = 128
"""Genes side by side."""
LARGEST_GROWTH = 1e70
"""Genes where alpha mu is larger are left: a product of four 1 + alpha mu has a reciprocal."""


@compiled(inline=True)
def _lanes(room: Floats, k: int) -> Floats:
    """One number a gene; all lie in one array, so that loops need no check whether they overlap."""
    return room[k * LANES : (k + 1) * LANES]


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
def _add_row(row: Floats, weight: Floats, moment: Floats, sums: Floats) -> None:
    """Add what a level's weights and moments are in X'WX and in the right-hand side, ``(entries, lanes)`` in a row."""
    entry = 0
    for j in range(row.size):
        for k in range(j, row.size):
            x = row[j] * row[k]
            if x != 0.0:
                here = _lanes(sums, entry)
                for lane in range(LANES):
                    here[lane] += weight[lane] * x
            entry += 1
    for j in range(row.size):
        x = row[j]
        if x != 0.0:
            here = _lanes(sums, entry)
            for lane in range(LANES):
                here[lane] += moment[lane] * x
        entry += 1


@compiled(inline=True)
def _turn(lanes: Floats, sums: Floats) -> None:
    """One entry after another, a number a lane, into ``(genes, entries)``."""
    for entry in range(sums.shape[1]):
        for lane in range(LANES):
            sums[lane, entry] = lanes[entry * LANES + lane]


@compiled(inline=True)
def _fill_means(
    eta: Floats,
    rest: Floats,
    alpha: Floats,
    free: float,
    some: float,
    s_highest: float,
    up: Floats,
    growth: Floats,
    beyond: Floats,
) -> None:
    """Means over size factors, and alpha times these; 0 where a level is clamped.

    Above `free` no mean is clamped, above `some` not all are. Marks in `beyond` genes that can't be summed.
    """
    for lane in range(LANES):
        mean = exp(min(max(eta[lane], -LARGEST_PLAIN_ETA), LARGEST_PLAIN_ETA)) * (1.0 + rest[lane])
        up[lane] = mean if eta[lane] > free else 0.0
        growth[lane] = alpha[lane] * up[lane]
        wild = (abs(eta[lane]) > LARGEST_PLAIN_ETA) | (growth[lane] * s_highest > LARGEST_GROWTH)
        beyond[lane] = 1.0 if ((eta[lane] > some) & (eta[lane] <= free)) | wild else beyond[lane]


@compiled(inline=True)
def _add_logs(
    y: Floats, s: float, number: float, growth: Floats, size: Floats, total: Floats, weight: Floats, moment: Floats
) -> None:
    """Add a node's likelihood, its weight over exp(eta) and its y / (1 + alpha mu)."""
    for lane in range(LANES):
        softplus, over = log1p_and_inverse(growth[lane] * s)
        total[lane] += (y[lane] + size[lane] * number) * softplus
        weight[lane] += number * (s * over)
        moment[lane] += y[lane] * over


@compiled(inline=True)
def _add_slope(
    y: Floats,
    slope: Floats,
    s: float,
    number: float,
    of_number: float,
    growth: Floats,
    size: Floats,
    total: Floats,
    weight: Floats,
    moment: Floats,
) -> None:
    """The same by the likelihood's derivative, without its factor `growth`."""
    for lane in range(LANES):
        over = 1.0 / (1.0 + growth[lane] * s)
        total[lane] += (slope[lane] + size[lane] * of_number) * (s * over)
        weight[lane] += number * (s * over)
        moment[lane] += y[lane] * over


@compiled(inline=True)
def _add_four_slopes(
    counts: Floats,
    slopes: Floats,
    here: slice,
    node: int,
    s: Floats,
    numbers: Floats,
    number_slopes: Floats,
    growth: Floats,
    size: Floats,
    total: Floats,
    weight: Floats,
    moment: Floats,
) -> None:
    """The same of a node and the next three, by one division."""
    a, b, c, d = node, node + 1, node + 2, node + 3
    s_a, s_b, s_c, s_d = s[a], s[b], s[c], s[d]
    n_a, n_b, n_c, n_d = numbers[a], numbers[b], numbers[c], numbers[d]
    m_a, m_b, m_c, m_d = number_slopes[a], number_slopes[b], number_slopes[c], number_slopes[d]
    y_a, y_b, y_c, y_d = counts[a][here], counts[b][here], counts[c][here], counts[d][here]
    z_a, z_b, z_c, z_d = slopes[a][here], slopes[b][here], slopes[c][here], slopes[d][here]
    for lane in range(LANES):
        g, r = growth[lane], size[lane]
        u_a, u_b, u_c, u_d = 1.0 + g * s_a, 1.0 + g * s_b, 1.0 + g * s_c, 1.0 + g * s_d
        ab, cd = u_a * u_b, u_c * u_d
        over = 1.0 / (ab * cd)
        over_ab, over_cd = over * cd, over * ab
        o_a, o_b, o_c, o_d = over_ab * u_b, over_ab * u_a, over_cd * u_d, over_cd * u_c
        moment[lane] += (y_a[lane] * o_a + y_b[lane] * o_b) + (y_c[lane] * o_c + y_d[lane] * o_d)
        o_a, o_b, o_c, o_d = s_a * o_a, s_b * o_b, s_c * o_c, s_d * o_d
        weight[lane] += (n_a * o_a + n_b * o_b) + (n_c * o_c + n_d * o_d)
        first = (z_a[lane] + r * m_a) * o_a + (z_b[lane] + r * m_b) * o_b
        total[lane] += first + ((z_c[lane] + r * m_c) * o_c + (z_d[lane] + r * m_d) * o_d)


@compiled()
def by_nodes(
    counts: Floats,
    slopes: Floats,
    totals: Floats,
    shifts: Floats,
    numbers: Floats,
    number_slopes: Floats,
    s: Floats,
    starts: NDArray[np.intp],
    samples: Floats,
    centres: Floats,
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
    ``(levels, params)`` design rows, `beta` ``(params, genes)``; at least `LANES` genes, the last of which are summed
    with those before. Genes that can't be summed are put in `left`.
    """
    genes, (levels, params) = nll.size, rows.shape
    entries = params * (params + 1) // 2
    room, sums = np.empty(14 * LANES), np.empty((entries + params) * LANES)
    alpha, size, beyond, eta = _lanes(room, 0), _lanes(room, 1), _lanes(room, 2), _lanes(room, 3)
    rest, up, growth, at_centre = _lanes(room, 4), _lanes(room, 5), _lanes(room, 6), _lanes(room, 7)
    total, weight, moment, part = _lanes(room, 8), _lanes(room, 9), _lanes(room, 10), _lanes(room, 11)
    least, least_over = _lanes(room, 12), _lanes(room, 13)
    for block in range(0, genes, LANES):
        first = min(block, genes - LANES)
        here = slice(first, first + LANES)
        alpha[:] = alphas[here]
        for lane in range(LANES):
            size[lane] = 1.0 / alpha[lane]
            least[lane], least_over[lane] = log1p_and_inverse(alpha[lane] * min_mu)
        total[:], beyond[:], sums[:] = 0.0, 0.0, 0.0
        for level in range(levels):
            eta[:], rest[:] = 0.0, 0.0
            for j in range(params):
                if rows[level, j] != 0.0:
                    _add_exactly(beta[j][here], rows[level, j], eta, rest)
            free = log_min_mu - lowest[level]
            _fill_means(eta, rest, alpha, free, log_min_mu - highest[level], exp(highest[level]), up, growth, beyond)
            part[:], weight[:], moment[:] = 0.0, 0.0, 0.0
            node, last = starts[level], starts[level + 1]
            if centres[level] == 0.0:
                at_centre[:] = 0.0
                for k in range(node, last):
                    _add_logs(counts[k][here], s[k], numbers[k], growth, size, part, weight, moment)
            else:
                while node + 4 <= last:
                    of_nodes = s, numbers, number_slopes
                    _add_four_slopes(counts, slopes, here, node, *of_nodes, growth, size, part, weight, moment)
                    node += 4
                for k in range(node, last):
                    of_node = counts[k][here], slopes[k][here], s[k], numbers[k], number_slopes[k]
                    _add_slope(*of_node, growth, size, part, weight, moment)
                for lane in range(LANES):
                    at_centre[lane] = log1p_and_inverse(growth[lane] * centres[level])[0]
                    part[lane] *= growth[lane]
            number, of_counts, of_shifts = samples[level], totals[level][here], shifts[level][here]
            for lane in range(LANES):
                count, free_here = of_counts[lane], eta[lane] > free
                softplus = at_centre[lane] if free_here else least[lane]
                log_mean = eta[lane] * count + of_shifts[lane] if free_here else log_min_mu * count
                total[lane] += part[lane] + (count + size[lane] * number) * softplus - log_mean
                fitted = number * min_mu * least_over[lane]
                w = up[lane] * weight[lane] if free_here else fitted
                pull = (moment[lane] if free_here else count * least_over[lane]) - w
                z = eta[lane] if free_here else log_min_mu - middle[level]  # another in every sample; the weight is not
                weight[lane] = w
                moment[lane] = (pull if free_here else 0.0) if score else pull + w * z
            _add_row(rows[level], weight, moment, sums)
        nll[here] = total
        for lane in range(LANES):
            left[first + lane] |= beyond[lane] > 0.0
        _turn(sums, xtwx[here])
        _turn(sums[entries * LANES :], right[here])


def prepare(task: Task, nodes: LevelNodes) -> Kernel:
    """The kernel for one site's design: sums, and which genes are left for another kernel."""
    least, rows = float(np.exp(task.log_min_mu)), nodes.rows(task.design)
    places = nodes.numbers, nodes.slopes, nodes.s, nodes.node_starts, nodes.samples, nodes.centres
    ranges = nodes.lowest, nodes.highest, nodes.middle

    def run(part: Task) -> tuple[Sums, Extreme]:
        moments, genes = cast("LevelMoments", part.moments), part.alpha.size
        largest, beta, alpha = moments.largest, part.beta, part.alpha
        if genes < LANES:
            again = np.arange(LANES) % genes
            moments, beta, alpha = moments.take(again), beta[again], alpha[again]
        elif not moments.sums.flags.c_contiguous:
            moments = replace(moments, sums=np.ascontiguousarray(moments.sums))
        sums, left = Sums.empty(*beta.shape), np.zeros(alpha.size, dtype=np.bool_)
        by_nodes(
            moments.counts,
            moments.slopes,
            moments.totals,
            moments.shifts,
            *places,
            *ranges,
            rows,
            np.ascontiguousarray(beta.T),
            alpha,
            part.log_min_mu,
            least,
            part.score,
            *sums,
            left,
        )
        return Sums(*(array[:genes] for array in sums)), left[:genes] | (largest > LARGEST_PLAIN_COUNT)

    return run
