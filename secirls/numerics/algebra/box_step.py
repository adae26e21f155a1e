"""The Newton step of many small convex problems inside a box: a quadratic program per gene, solved exactly.

Promises: a step stays in the box, and is zero only at the constrained minimum; a gene's step depends on that gene
alone, to the last bit. Refuses to know: what is minimised.

Cutting a Newton step off at the box does not minimise: the coefficients that stay free must know where the others
stopped. So the quadratic model is minimised over the box by a primal active set (Nocedal and Wright 2006, algorithm
16.3), which ends after finitely many exchanges because the model is strictly convex.
"""

from __future__ import annotations

import numpy as np

from secirls.numerics.algebra.solve import pack, solve, unpack
from secirls.numerics.arrays import Floats, Mask

_EXCHANGES = 64
"""Per coefficient, at most; a step that is stopped there is still downhill and inside the box."""


def box_step(upper: Floats, gradient: Floats, beta: Floats, box: float) -> tuple[Floats, Mask]:
    """Minimise ``gradient'd + d'H d / 2`` over d with ``|beta + d| <= box``.

    Parameters
    ----------
    upper
        Upper triangles of H, positive definite, ``(genes, params (params + 1) / 2)``.
    gradient, beta
        ``(genes, params)``; beta lies in the box.
    box
        Largest magnitude of a coefficient.

    Returns
    -------
    d ``(genes, params)``, and which coefficients the box holds, ``(genes, params)``: they end on it and would go on.
    """
    step, failed = solve(upper, -gradient)
    held = np.zeros(beta.shape, dtype=bool)
    careful = failed | (np.abs(beta + step) >= box).any(axis=1) | (np.abs(beta) >= box).any(axis=1)
    for gene in np.flatnonzero(careful):
        step[gene], held[gene] = _active_set(unpack(upper[gene]), gradient[gene], beta[gene], box)
    return step, held


def _active_set(H: Floats, gradient: Floats, beta: Floats, box: float) -> tuple[Floats, Mask]:
    """The step of one gene, from no step at all: free coefficients go to their minimum, as far as the box lets them."""
    low, high = -box - beta, box - beta
    step = np.zeros_like(beta)
    held = _presses(gradient, step, low, high)
    for _ in range(_EXCHANGES * beta.size):
        free = np.flatnonzero(~held)
        slope = gradient + _times(H, step)
        move = np.zeros_like(step)
        if free.size:
            found, failed = solve(pack(H[np.ix_(free, free)][None]), -slope[free][None])
            move[free] = -slope[free] / np.diag(H)[free] if failed[0] else found[0]
        room = np.where(move > 0, high - step, step - low)
        reach = np.divide(room, np.abs(move), out=np.full_like(step, np.inf), where=move != 0)
        if reach.min() < 1.0:
            first = int(reach.argmin())
            step += reach[first] * move
            step[first] = high[first] if move[first] > 0 else low[first]
            held[first] = True
            continue
        step += move
        slope = gradient + _times(H, step)
        release = np.where(held & ~_presses(slope, step, low, high), np.abs(slope), 0.0)
        if not release.any():
            break
        held[int(release.argmax())] = False
    return step, held


def _presses(slope: Floats, step: Floats, low: Floats, high: Floats) -> Mask:
    """Where a step stands at an edge of its box and the slope presses it outwards."""
    return np.asarray(((step >= high) & (slope < 0)) | ((step <= low) & (slope > 0)))


def _times(H: Floats, step: Floats) -> Floats:
    """``H step``, without BLAS."""
    product: Floats = (H * step).sum(axis=1)
    return product
