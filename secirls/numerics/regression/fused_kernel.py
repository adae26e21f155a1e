"""The compiled kernel: one pass over a gene's counts makes every sum of a round.

Promises: the formulas of `kernels.summands`, one exponential and one logarithm per count, bit for bit
the same on any number of threads and for any choice of genes; the interpreter's lock is released.
Refuses to know: everything but arrays.

The loops are shaped for vector units: exp and log are polynomials without branches, and whatever a
loop writes lies in one array, because each further array costs an overlap check. Fast-math is off but for
flags that cannot change a rounding; full fast-math may remove the additions of large constants that
round to integers. Additions into a sum alone (`plus`) may be reordered, by the compiler and once for all:
the order depends on the number of samples and on nothing else.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.elementary import compiled, exp, log1p_and_inverse
from secirls.numerics.arrays import Counts, Floats
from secirls.numerics.held.level_nodes import LevelNodes
from secirls.numerics.regression import nodes_kernel
from secirls.numerics.regression.design_products import add_products, both_sums, plus
from secirls.numerics.regression.kernel_task import LARGEST_PLAIN_COUNT, LARGEST_PLAIN_ETA, Extreme, Kernel, Sums, Task
from secirls.numerics.regression.levels import levels
from secirls.numerics.regression.likelihood import LARGEST_LOG_MU

BLOCK = 1024
"""Samples whose intermediate values are held at a time."""
SMALLEST_EXP_ETA = -708.0
_LEFT_VALUES = 1 << 20
"""Counts of genes left by nodes that are put into an array at a time."""
SAMPLES_PER_LEVEL = 4
"""Designs with at least so many samples per distinct row are summed by level."""


@compiled(inline=True)
def _terms(y: float, mu: float, log_mu: float, alpha: float, size: float) -> tuple[float, float, float]:
    """Weight, pull (y - mu) / (1 + alpha mu) and moving likelihood of one count."""
    softplus, over = log1p_and_inverse(alpha * mu)
    return mu * over, (y - mu) * over, (y + size) * softplus - y * log_mu


@compiled(inline=True)
def _larger(a: float, b: float) -> float:
    """The larger number; written out, because max() would order zeros and NaN."""
    return a if a > b else b  # noqa: FURB136


@compiled(inline=True)
def _weigh(
    y: Counts,
    log_s: Floats,
    z: Floats,
    weight: Floats,
    moment: Floats,
    alpha: float,
    size: float,
    log_min_mu: float,
    score: bool,
) -> tuple[float, float, float]:
    """Turn means, given in `weight`, into weights, and fill `moment`, what the right-hand side sums.

    Returns the sums of moving likelihoods, of weights and of moments.
    """
    total, weights, moments = 0.0, 0.0, 0.0
    for i in range(z.size):
        w, pull, term = _terms(float(y[i]), weight[i], z[i] + log_s[i], alpha, size)
        total = plus(total, term)
        weights = plus(weights, w)
        weight[i] = w
        moment[i] = pull
    if score:
        for i in range(z.size):
            m = moment[i] if z[i] > log_min_mu - log_s[i] else 0.0
            moments = plus(moments, m)
            moment[i] = m
    else:
        for i in range(z.size):
            m = weight[i] * z[i] + moment[i]
            moments = plus(moments, m)
            moment[i] = m
    return total, weights, moments


@compiled(inline=True)
def _too_large(y: Counts) -> float:
    """How many counts are too large for the plain likelihood."""
    found = 0.0
    for i in range(y.size):
        found = plus(found, 1.0 if y[i] > LARGEST_PLAIN_COUNT else 0.0)
    return found


@compiled()
def _general(
    counts: Counts,
    beta: Floats,
    alphas: Floats,
    columns: Floats,
    ones: int,
    log_s: Floats,
    log_min_mu: float,
    score: bool,
    xtwx: Floats,
    right: Floats,
    nll: Floats,
    extreme: Extreme,
) -> None:
    """Every sample has its own design row; `columns` is X', ``(params, samples)``; `ones`: its first is all 1."""
    genes, samples = counts.shape
    params = columns.shape[0]
    scratch = np.empty(3 * BLOCK)
    for gene in range(genes):
        alpha = alphas[gene]
        size = 1.0 / alpha
        xtwx[gene, :] = 0.0
        right[gene, :] = 0.0
        total, beyond, weight_sum, moment_sum = 0.0, 0.0, 0.0, 0.0
        for start in range(0, samples, BLOCK):
            stop = min(start + BLOCK, samples)
            width = stop - start
            y, log_s_here = counts[gene][start:stop], log_s[start:stop]
            z, weight, moment = scratch[:width], scratch[BLOCK:][:width], scratch[2 * BLOCK :][:width]
            z[:] = beta[gene, 0] if ones else 0.0
            for j in range(ones, params, 2):
                a, to_a = columns[j][start:stop], beta[gene, j]
                if j + 1 == params:
                    for i in range(width):
                        z[i] += to_a * a[i]
                else:
                    b, to_b = columns[j + 1][start:stop], beta[gene, j + 1]
                    for i in range(width):
                        z[i] += to_a * a[i] + to_b * b[i]
            beyond += _too_large(y)
            for i in range(width):
                eta, s = z[i], log_s_here[i]
                beyond = plus(beyond, 1.0 if abs(eta) > LARGEST_PLAIN_ETA else 0.0)
                z[i] = _larger(eta, log_min_mu - s)
                weight[i] = exp(-_larger(-(z[i] + s), -LARGEST_LOG_MU))  # mu, until the weight takes its place
            part, weights, moments = _weigh(y, log_s_here, z, weight, moment, alpha, size, log_min_mu, score)
            total += part
            weight_sum += weights
            moment_sum += moments
            add_products(weight, moment, columns, ones, start, xtwx[gene], right[gene])
        if ones:
            xtwx[gene, 0] = weight_sum
            right[gene, 0] = moment_sum
        nll[gene] = total
        extreme[gene] = beyond > 0.0


@compiled()
def _by_level(
    counts: Counts,
    beta: Floats,
    alphas: Floats,
    rows: Floats,
    starts: NDArray[np.intp],
    order: NDArray[np.uint32],
    s: Floats,
    log_s: Floats,
    min_mu: float,
    log_min_mu: float,
    score: bool,
    xtwx: Floats,
    right: Floats,
    nll: Floats,
    extreme: Extreme,
) -> None:
    """Samples share design rows: `rows` ``(levels, params)``; sample ``order[i]`` has the level whose range holds i.

    `s` and `log_s` are in that order; an empty `order` says that the samples are, too. The exponential
    is taken once per level: mu = s exp(eta).
    """
    genes, samples = counts.shape
    levels, params = rows.shape
    scratch = np.empty(3 * samples)
    z, weight, moment = scratch[:samples], scratch[samples:][:samples], scratch[2 * samples :]
    sorted_counts = np.empty(samples if order.size else 0, dtype=np.int32)
    for gene in range(genes):
        y = counts[gene]
        if order.size:
            for i in range(samples):
                sorted_counts[i] = y[order[i]]
            y = sorted_counts
        alpha = alphas[gene]
        size = 1.0 / alpha
        xtwx[gene, :] = 0.0
        right[gene, :] = 0.0
        beyond = _too_large(y)
        for level in range(levels):
            first, last = starts[level], starts[level + 1]
            eta = 0.0
            for j in range(params):
                eta += beta[gene, j] * rows[level, j]
            beyond += abs(eta) > LARGEST_PLAIN_ETA
            exp_eta = exp(min(max(eta, SMALLEST_EXP_ETA), LARGEST_LOG_MU))
            z_here, mu, s_here, log_s_here = z[first:last], weight[first:last], s[first:last], log_s[first:last]
            for i in range(last - first):
                z_here[i] = _larger(eta, log_min_mu - log_s_here[i])
                mu[i] = s_here[i] * exp_eta if eta > log_min_mu - log_s_here[i] else min_mu
        nll[gene] = _weigh(y, log_s, z, weight, moment, alpha, size, log_min_mu, score)[0]
        for level in range(levels):
            here = slice(starts[level], starts[level + 1])
            w, m = both_sums(weight[here], moment[here])
            entry = 0
            for j in range(params):
                right[gene, j] += m * rows[level, j]
                for k in range(j, params):
                    xtwx[gene, entry] += w * (rows[level, j] * rows[level, k])
                    entry += 1
        extreme[gene] = beyond > 0.0


def prepare(task: Task) -> Kernel:
    """The kernel for one site's design: by nodes or by level where samples share design rows, general otherwise."""
    if task.moments is not None:
        return _by_nodes_or_levels(task, task.moments.nodes)
    shared = levels(task.design, task.design.shape[0] // SAMPLES_PER_LEVEL)
    if shared is not None and shared[0].size:
        return _prepare_levels(task, *shared)
    columns = np.ascontiguousarray(task.design.T)
    ones = int((columns[0] == 1.0).all())

    def run(part: Task) -> tuple[Sums, Extreme]:
        sums, extreme = Sums.empty(*part.beta.shape), np.zeros(part.alpha.size, dtype=np.bool_)
        _general(
            part.counts,
            part.beta,
            part.alpha,
            columns,
            ones,
            part.log_s,
            part.log_min_mu,
            part.score,
            *sums,
            extreme,
        )
        return sums, extreme

    return run


def _prepare_levels(task: Task, order: NDArray[np.intp], starts: NDArray[np.intp]) -> Kernel:
    """The kernel by level, for samples in an order in which those of a level stand together."""
    rows = np.ascontiguousarray(task.design[order[starts[:-1]]])
    log_s = task.log_s[order]
    sorted_already = (order == np.arange(order.size)).all()
    places = (order[:0] if sorted_already else order).astype(np.uint32)
    of_levels = (rows, starts, places, np.exp(log_s), log_s, float(np.exp(task.log_min_mu)), task.log_min_mu)

    def run(part: Task) -> tuple[Sums, Extreme]:
        sums, extreme = Sums.empty(*part.beta.shape), np.zeros(part.alpha.size, dtype=np.bool_)
        _by_level(part.counts, part.beta, part.alpha, *of_levels, part.score, *sums, extreme)
        return sums, extreme

    return run


def _by_nodes_or_levels(task: Task, nodes: LevelNodes) -> Kernel:
    """By nodes, and those genes that nodes leave as if there were none."""
    by_nodes, over_samples = nodes_kernel.prepare(task, nodes), replace(task, moments=None)

    def run(part: Task) -> tuple[Sums, Extreme]:
        sums, left = by_nodes(part)
        genes, size = np.flatnonzero(left), max(1, _LEFT_VALUES // max(part.rows.shape[1], 1))
        if not genes.size:
            return sums, left
        extreme, kernel = np.zeros_like(left), prepare(over_samples)
        for some in (genes[first : first + size] for first in range(0, genes.size, size)):
            rest, extreme[some] = kernel(part.take(some))
            for whole, piece in zip(sums, rest, strict=True):
                whole[some] = piece
        return sums, extreme

    return run
