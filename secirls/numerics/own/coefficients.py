"""Own coefficients at the table's: where IRLS begins, where its steps lead, and the best there are.

Promises: what is found follows from the site's data, the table's coefficients and the notes, so the same question gives
the same answer; a gene without own coefficients within the box has NaN. Refuses to know: queries, the table.

Everything but the steps of IRLS asks for the best own coefficients at given ones of the table: a small minimisation
that a site does alone. The likelihood that is left is a function of the table's coefficients, with the score of theirs
as gradient and what `eliminate` leaves of the curvature as its own (Murphy and van der Vaart 2000, profile likelihood).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from secirls.numerics.algebra.box_step import box_step
from secirls.numerics.algebra.solve import pack, packed_size
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.own_columns import Own
from secirls.numerics.held.samples import Samples
from secirls.numerics.inference.wald import LN2
from secirls.numerics.own.elimination import eliminate, hold
from secirls.numerics.regression import kernels
from secirls.numerics.regression.kernel_task import Sums
from secirls.numerics.regression.unclamped import unclamped_sums

BEST = -1
"""Instead of a step of IRLS: the best own coefficients for the likelihood without a floor under the means."""
R_BOX = 30.0 * LN2
"""R's DESeq2 keeps coefficients within 30 on the log2 scale, once it has given up IRLS: own ones and the table's."""
_STEPS = 200
_DECREMENT = 1e-13
"""A gene is settled when its step promises to lower the likelihood by less."""
_ARMIJO = 1e-4
_SMALLEST_SHARE = 0.5**40
_ROUNDING = 64 * np.finfo(np.float64).eps


def own_at(samples: Samples, beta: Floats, steps: Floats) -> tuple[Floats, Mask]:
    """Own coefficients ``(genes, own)`` at the table's and at steps ``(genes,)``, and which are a new step.

    `BEST` where the step says so. NaN where there are none within the box.
    """
    own = _own(samples)
    at = steps.astype(np.int32)
    delta, new = own.notes.at(beta, at)
    begin = at == 0
    if begin.any():
        delta[begin], new = own_start(samples.take(begin), beta[begin]), new | begin
    alone = at == BEST
    if alone.any():
        delta[alone] = best(samples.take(alone), beta[alone])[0]
    with np.errstate(invalid="ignore"):
        inside = (np.abs(delta) <= np.where(alone, R_BOX, own.box)[:, None]).all(axis=1)
    delta[~inside] = np.nan
    return delta, new & inside & ~alone


def own_start(samples: Samples, beta: Floats) -> Floats:
    """Where IRLS begins: least squares of log(y / s + 0.1), given the table's part of it, within the box."""
    box = _own(samples).box
    return np.clip(_regressed(samples, beta, lambda normalised: np.log(normalised + 0.1)), -box, box)


def linear_coefficients(samples: Samples, coefficients: Floats) -> Floats:
    """Those of the linear regression of y / s for `Samples.joint`, given the table's: ``(genes, own + params)``."""
    if samples.own is None:
        return coefficients
    return np.hstack([_regressed(samples, coefficients, lambda normalised: normalised), coefficients])


def _regressed(samples: Samples, coefficients: Floats, of: Callable[[Floats], Floats]) -> Floats:
    """Least squares on own columns of a function of y / s, once the table's part is taken off, ``(genes, own)``."""
    own = _own(samples)
    if samples.size_factors is None:
        raise ValueError("own coefficients need size factors: ask for them first")
    found = np.empty((samples.n_genes, own.size))
    for block in samples.gene_blocks():
        values = of(samples.counts.T[block] / samples.size_factors)
        found[block] = own.least_squares(values - linear(samples.design, coefficients[block]))
    return found


def linear(design: Floats, coefficients: Floats) -> Floats:
    """``X b`` of every gene, ``(genes, samples)``; without BLAS, whose bits depend on how many genes there are."""
    total = np.zeros((coefficients.shape[0], design.shape[0]))
    for column in range(design.shape[1]):
        total += coefficients[:, column, None] * design[:, column]
    return total


def joint_coefficients(samples: Samples, beta: Floats, steps: Floats) -> Floats:
    """Own coefficients before the table's, for `Samples.joint`: ``(genes, own + params)``."""
    return beta if samples.own is None else np.hstack([own_at(samples, beta, steps)[0], beta])


def irls_sums(samples: Samples, beta: Floats, min_mu: float, steps: Floats) -> Sums:
    """The sums of a step of IRLS with own columns taken out; what the next step needs is noted. NaN for lost genes."""
    own = _own(samples)
    delta, new = own_at(samples, beta, steps)
    at, known = finite(np.hstack([delta, beta]))
    sums = kernels.summands(samples.joint, at, min_mu)
    left = eliminate(sums.xtwx, sums.right, own.size)
    own.notes.keep(new, steps.astype(np.int32), delta, left.constant, left.slope)
    return Sums(*(_known(array, known) for array in (left.upper, left.right, sums.nll)))


def best_sums(
    samples: Samples, beta: Floats, min_mu: float = 0.0, ridge: float = 0.0, *, expected: bool = False
) -> Sums:
    """Information, score and nll of what is left when own coefficients are the best. NaN for lost genes.

    The information is the observed one without a floor under the means, unless the ``expected`` one is asked for, and
    the expected one with it. With a ``ridge``, own coefficients of the user's columns have a normal prior of that
    precision around zero, and all three are of nll with its part.
    """
    delta, held = best(samples, beta, min_mu, ridge)
    at, known = finite(np.hstack([delta, beta]))
    information, score, nll = _penalised(samples.joint, at, min_mu, ridge, _of_user(samples), expected=expected)
    left = eliminate(*hold(information, score, held), held.shape[1])
    return Sums(*(_known(array, known) for array in (left.upper, left.right, nll)))


def finite(at: Floats) -> tuple[Floats, Mask]:
    """Coefficients ``(genes, params)`` with zeros for genes that lack any, and which genes lack none, ``(genes,)``."""
    known: Mask = np.asarray(np.isfinite(at).all(axis=1))
    return np.where(known[:, None], at, 0.0), known


def _likelihood(joint: Samples, at: Floats, min_mu: float, *, expected: bool) -> tuple[Floats, Floats, Floats]:
    """Information, score and nll at joint coefficients."""
    if min_mu > 0 or expected:
        return kernels.summands(joint, at, min_mu, right="score")
    nll, score, information = unclamped_sums(joint, at)
    return information, score, nll


def _of_user(samples: Samples) -> Floats:
    """P with which own coefficients of the user's columns are ``P (delta, beta)``, ``(own, own + params)``."""
    k, back = samples.own_size, samples.back
    if back is None:
        return np.eye(k, k + samples.n_params)
    return np.hstack([back.own, back.shared])


def _penalised(
    joint: Samples, at: Floats, min_mu: float, ridge: float, of_user: Floats, *, expected: bool = False
) -> tuple[Floats, Floats, Floats]:
    """As `_likelihood`, with half a ridge times the squares of ``P (delta, beta)`` in nll; ``of_user`` is P."""
    information, score, nll = _likelihood(joint, at, min_mu, expected=expected)
    if not ridge:
        return information, score, nll
    score = score.copy()
    for row in of_user:
        own = linear(row[None], at)[:, 0]
        score -= ridge * (own[:, None] * row)
        nll = nll + 0.5 * ridge * (own * own)
    return information + ridge * pack((of_user[:, :, None] * of_user[:, None, :]).sum(axis=0)), score, nll


def best(samples: Samples, beta: Floats, min_mu: float = 0.0, ridge: float = 0.0) -> tuple[Floats, Mask]:
    """The best own coefficients ``(genes, own)`` at the table's, and which of them the box holds.

    Newton's method with halving: without a floor under the means the function is convex, and the minimum does not
    depend on where it begins. With one it is that of the valley next to the convex minimum.
    """
    joint, of_user = samples.joint, _of_user(samples)
    delta = np.clip(own_start(samples, beta), -R_BOX, R_BOX)
    if min_mu > 0:
        delta = best(samples, beta, ridge=ridge)[0]
    genes, k = delta.shape
    value, slope, share = np.full(genes, np.inf), np.zeros(genes), np.ones(genes)
    step, held = np.zeros_like(delta), np.zeros(delta.shape, dtype=bool)
    going = np.arange(genes)
    own_entries = np.concatenate([np.arange(k - j) + _row(j, k + beta.shape[1]) for j in range(k)])
    for _ in range(_STEPS):
        if not going.size:
            break
        tried = np.clip(delta[going] + share[going, None] * step[going], -R_BOX, R_BOX)
        at = np.hstack([tried, beta[going]])
        information, score, nll = _penalised(joint.at(going), at, min_mu, ridge, of_user)
        with np.errstate(invalid="ignore"):
            slack = _ROUNDING * np.maximum(np.abs(nll), 1.0)
            lower = nll <= value[going] + _ARMIJO * share[going] * slope[going] + slack
        here = going[lower]
        delta[here], value[here], share[here] = tried[lower], nll[lower], 1.0
        share[going[~lower]] *= 0.5
        curvature = information[lower][:, own_entries]
        step[here], held[here] = box_step(curvature, -score[lower, :k], delta[here], R_BOX)
        slope[here] = -(score[lower, :k] * step[here]).sum(axis=1)
        settled = lower.copy()
        settled[lower] = -slope[here] <= _DECREMENT
        stuck = ~lower & (~np.isfinite(value[going]) | (share[going] < _SMALLEST_SHARE))
        delta[going[stuck & ~np.isfinite(value[going])]] = np.nan
        going = going[~settled & ~stuck]
    return delta, held


def _row(j: int, params: int) -> int:
    """Where row j of an upper triangle begins."""
    return packed_size(params) - packed_size(params - j)


def _known(array: Floats, known: Mask) -> Floats:
    return np.where(known.reshape(-1, *[1] * (array.ndim - 1)), array, np.nan)


def _own(samples: Samples) -> Own:
    if samples.own is None:
        raise ValueError("this site has no columns of its own")
    return samples.own
