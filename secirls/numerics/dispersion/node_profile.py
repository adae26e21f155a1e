"""One gene's likelihood at many dispersions, compiled, from few points in place of its samples.

Promises: the sums of `kernel.profile` where samples share design rows, to about a rounding of sums of y |log(y / m)|,
m the gene's mean count; no libm, no fused or reordered operation: a gene's bits are its own. Genes with extreme means
or counts are left. Refuses to know: where nodes come from, who asks.

With r = 1/alpha and X(v) = log((1 + alpha v) / (1 + alpha m)), a count y above the table is worth

    (y + r) (X(y) - X(mu)) - log(1 + alpha y) / 2 + rest(y + r)

and terms without its mean or without alpha, `rest` being what Stirling's formula leaves. The sum of (y + r) X(mu)
is one over `LevelNodes`. All that depends on y and alpha alone is a function of log y, analytic in the same strip, so
larger counts are stood for by Chebyshev nodes in log y. Where alpha m > 1, log(v / m) is taken out of X(v): what is
left of y (X(y) - X(mu)) is small, and its logarithms cancel exactly against those of the constant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arithmetic.portable import exp, log, log1p, strictly
from secirls.numerics.arrays import Counts, Floats, Mask
from secirls.numerics.dispersion.kernel import (
    LOG_FACTORIALS,
    TABLE,
    _add_products,
    _add_rising,
    _fill_places,
    _fill_rest,
    _fill_rising,
    _filled_up,
    _stirling_rest,
)
from secirls.numerics.dispersion.node_means import ALL, NONE, SOME, add_means, add_point
from secirls.numerics.dispersion.points import LANES, MOST_POINTS, fill_logs, fill_points, sum_of

_LARGEST_LOG_MEAN = 40.0
_SMALLEST_MEAN, _LARGEST_MEAN = 1e-100, 1e15


@strictly(inline=True)
def _fill_forms(mean: float, alpha: Floats, size: Floats, part: Floats, over: Floats, growth: Floats) -> None:
    """What of the forms of X(v) depends on alpha alone, and r and log(1 + alpha m).

    `part` is alpha / (1 + alpha m) where alpha m is at most 1, else 0; `over` is 1 / (1 + alpha m) where it is larger.
    """
    for j in range(alpha.size):
        under = 1.0 / (1.0 + alpha[j] * mean)
        by_size = alpha[j] * mean > 1.0
        size[j] = 1.0 / alpha[j]
        part[j] = 0.0 if by_size else alpha[j] * under
        over[j] = under if by_size else 0.0
        growth[j] = log1p(alpha[j] * mean)


@strictly(inline=True)
def _fill_means(
    b: Floats, rows: Floats, reach_of_s: Floats, min_mu: float, linear: bool, q: Floats, clamped: NDArray[np.int8]
) -> bool:
    """Means over size factors of a gene's rows, and whether none, some or all of a row's are clamped.

    False where a mean is beyond all counts.
    """
    fine = True
    for row in range(q.size):
        eta = 0.0
        for k in range(b.size):
            eta += b[k] * rows[row, k]
        if not linear:
            fine &= abs(eta) < _LARGEST_LOG_MEAN
            eta = exp(min(max(eta, -_LARGEST_LOG_MEAN), _LARGEST_LOG_MEAN))
        q[row] = max(eta, _SMALLEST_MEAN)
        least, largest = q[row] * reach_of_s[row, 0], q[row] * reach_of_s[row, 1]
        fine &= largest < _LARGEST_MEAN
        clamped[row] = NONE if least > min_mu else (SOME if largest > min_mu else ALL)
    return fine


@strictly(inline=True)
def _gather(
    y: Counts, order: NDArray[np.intp], t: Floats, log_q: float, floor: float, equal: Floats, large: Floats, found: int
) -> tuple[int, float, float, float]:
    """Append the larger counts of a row to `large`, and count the others by value in `equal`.

    Gives how many `large` has then, of the others the sums of y and of y log(mu / m), and that of all counts.
    """
    total, small, every = 0.0, 0.0, 0.0
    for i in range(order.size):
        count = y[order[i]]
        value = float(count)
        part = value * max(log_q + t[i], floor)
        every += part
        large[found] = value
        if count < TABLE:
            equal[count] += 1.0
            total += value
            small += part
        else:
            found += 1
    return found, total, small, every


@strictly(inline=True)
def _add_counts(
    points: Floats,
    numbers: Floats,
    mean: float,
    log_mean: float,
    size: Floats,
    part: Floats,
    over: Floats,
    out: Floats,
) -> float:
    """Add what larger counts are worth, without log(y / m) where that is taken out; gives the sum of it."""
    logs = 0.0
    for k in range(points.size):
        v, number = points[k], numbers[k]
        add_point(v, mean, number, number * (v - 0.5), size, part, over, out)
        for j in range(out.size):
            out[j] += number * _stirling_rest(1.0 / (v + size[j]))
        logs += number * (log(v) - log_mean)
    return logs


@strictly(inline=True)
def _add_forms(
    by_count: tuple[float, float, float],
    to_mean: float,
    logs: float,
    by_size: float,
    size: Floats,
    over: Floats,
    growth: Floats,
    rest: Floats,
    out: Floats,
) -> None:
    """Add what no point stands for.

    `by_count` is how often log(1 + alpha m), r of it and `rest` are taken off; one form adds `to_mean`, the other r
    times `by_size` less `logs`.
    """
    once, times_size, rests = by_count
    for j in range(out.size):
        out[j] += size[j] * by_size - logs if over[j] > 0.0 else to_mean
        out[j] -= (once + times_size * size[j]) * growth[j] + rests * rest[j]


@strictly(inline=True)
def _of_equal(equal: Floats) -> tuple[float, int]:
    """The sum of log y! over small counts, and the largest there is."""
    total, highest = 0.0, 0
    for c in range(2, TABLE):
        total += equal[c] * LOG_FACTORIALS[c]
        highest = c if equal[c] > 0.0 else highest
    return total, highest


@strictly()
def _exps(x: Floats) -> Floats:
    """Exponentials."""
    out = np.empty(x.size)
    for i in range(x.size):
        out[i] = exp(x[i])
    return out


@strictly(inline=True)
def _fill_counts(
    y: Counts,
    order: NDArray[np.intp],
    t: Floats,
    row_starts: NDArray[np.intp],
    totals: Floats,
    shifts: Floats,
    q: Floats,
    clamped: NDArray[np.int8],
    log_mean: float,
    log_min_mu: float,
    equal: Floats,
    gathered: Floats,
) -> tuple[int, float, float, float]:
    """Count small counts by value in `equal` and gather the others.

    Gives how many these are, the sum of small counts, and of y log(mu / m) over small counts and over all.
    """
    found, small_total, small_logs, all_logs = 0, 0.0, 0.0, 0.0
    equal[:] = 0.0
    for row in range(q.size):
        log_q, here = log(q[row]) - log_mean, slice(row_starts[row], row_starts[row + 1])
        found, total, logs, every = _gather(
            y, order[here], t[here], log_q, log_min_mu - log_mean, equal, gathered, found
        )
        small_total += total
        small_logs += logs
        all_logs += log_q * totals[row] + shifts[row] if clamped[row] == NONE else every
    return found, small_total, small_logs, all_logs


@strictly()
def profile_by_nodes(
    counts: Counts,
    order: NDArray[np.intp],
    t: Floats,
    row_starts: NDArray[np.intp],
    basis: Floats,
    integrals: Floats,
    masses: Floats,
    slopes: Floats,
    totals: Floats,
    shifts: Floats,
    node_numbers: Floats,
    node_slopes: Floats,
    node_starts: NDArray[np.intp],
    node_log_s: Floats,
    centres: Floats,
    reach_of_s: Floats,
    coefficients: Floats,
    rows: Floats,
    products: Floats,
    min_mu: float,
    linear: bool,
    places_of: Floats,
    places_at: NDArray[np.intp],
    alphas: Floats,
    starts: NDArray[np.intp],
    det_alphas: Floats,
    det_starts: NDArray[np.intp],
    loglik: Floats,
    xwx: Floats,
    constant: Floats,
    left: Mask,
) -> None:
    """Fill `loglik`, `xwx` and `constant` for counts ``(genes, samples)``, but of genes that are put into `left`.

    `order`, `t` (log size factors in that order), `row_starts`, `basis` and what is of nodes are of `LevelNodes`;
    `masses`, `slopes`, `totals` and `shifts` of `LevelMoments`, genes first; `reach_of_s` ``(rows, 2)`` the least and
    the largest size factor; `rows` and `products` design rows and their products; `places_of` and `places_at` of
    `places`; the rest as in `kernel.profile`.
    """
    genes, samples = counts.shape
    levels, distinct = products.shape
    log_min_mu = log(min_mu)
    most, det_most = 0, 0
    for gene in range(genes):
        most = max(most, _filled_up(starts[gene + 1] - starts[gene]))
        det_most = max(det_most, _filled_up(det_starts[gene + 1] - det_starts[gene]))
    scratch, det_scratch = np.empty((TABLE + 7) * most), np.empty((distinct + 2) * det_most)
    equal, q, clamped = np.empty(TABLE), np.empty(levels), np.empty(levels, dtype=np.int8)
    gathered, logs_of = np.empty(samples + 1), np.empty(samples)
    points, numbers, room = np.empty(MOST_POINTS), np.empty(MOST_POINTS), np.empty((MOST_POINTS + 3) * LANES)
    s, node_s, free = _exps(t), _exps(node_log_s), np.empty((4, basis.shape[1]))
    for gene in range(genes):
        y, mean = counts[gene], max(1.0, sum_of(totals[gene]) / float(samples))
        log_mean = log(mean)
        left[gene] = not _fill_means(coefficients[gene], rows, reach_of_s, min_mu, linear, q, clamped)
        found, small_total, small_logs, all_logs = _fill_counts(
            y, order, t, row_starts, totals[gene], shifts[gene], q, clamped, log_mean, log_min_mu, equal, gathered
        )
        large, x = gathered[:found], logs_of[:found]
        large_total, large_logs, around = fill_logs(large, log_mean, x)
        used = fill_points(large, x, places_of, places_at, room, points, numbers)
        left[gene] |= used < 0
        if left[gene]:
            continue
        log_factorials, highest = _of_equal(equal)
        fixed = small_logs + log_mean * small_total - around - log_factorials
        to_mean = (all_logs - small_logs) - large_logs  # of larger counts, y log(mu / y)
        constant[gene] = to_mean + large_total + fixed

        nodes, det_nodes = starts[gene + 1] - starts[gene], det_starts[gene + 1] - det_starts[gene]
        width, det_width = _filled_up(nodes), _filled_up(det_nodes)
        of = scratch[: 7 * width].reshape(7, width)
        alpha, size, part, over, growth, out, rest = of[0], of[1], of[2], of[3], of[4], of[5], of[6]
        rising, sums = scratch[7 * width : (TABLE + 7) * width], det_scratch[2 * det_width : (distinct + 2) * det_width]
        det_alpha, weights = det_scratch[:det_width], det_scratch[det_width : 2 * det_width]
        _fill_places(alphas[starts[gene] : starts[gene + 1]], alpha)
        _fill_places(det_alphas[det_starts[gene] : det_starts[gene + 1]], det_alpha)
        _fill_forms(mean, alpha, size, part, over, growth)
        out[:], sums[:], mean_logs = 0.0, 0.0, 0.0
        for row in range(levels):
            here, at = slice(row_starts[row], row_starts[row + 1]), slice(node_starts[row], node_starts[row + 1])
            of_row = y, order[here], s[here], basis[here], masses[gene][at], slopes[gene][at], node_numbers[at]
            of_nodes = node_slopes[at], node_s[at], centres[row], integrals[at], totals[gene, row], q[row], clamped[row]
            weights[:] = 0.0
            mean_logs += add_means(
                *of_row, *of_nodes, free, min_mu, mean, log_mean, alpha, size, part, over, out, det_alpha, weights
            )
            _add_products(weights, products[row], sums)
        count_logs = _add_counts(points[:used], numbers[:used], mean, log_mean, size, part, over, out)
        _fill_rising(alpha, highest, rising)
        _add_rising(equal, highest, rising, out)
        _fill_rest(alpha, size, rest)
        by_count = small_total + 0.5 * float(found), float(samples - found), float(found)
        _add_forms(
            by_count, to_mean, small_logs + 0.5 * count_logs, count_logs - mean_logs, size, over, growth, rest, out
        )
        for j in range(nodes):
            loglik[starts[gene] + j] = out[j] + fixed
        for j in range(det_nodes):
            for e in range(distinct):
                xwx[det_starts[gene] + j, e] = (1.0 + det_alpha[j]) * sums[e * det_width + j]
