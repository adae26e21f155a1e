"""Coefficients as R's DESeq2 finds them: IRLS as it does it, and the way out for the genes it does not settle.

Promises: iterates and their number are R's; a gene that goes round in circles leaves early, and what R would hold of it
after its last iteration is kept for Cook's distances. Refuses to know: protocols, sites, rounds.
Love, Huber and Anders (2014), methods, in the form of DESeq2 1.38.

The clamped map of IRLS has cycles: on some genes a few iterates repeat for ever. R runs to its last iteration and then
gives the gene to an optimiser; but the leverages it uses later stay those of that last iterate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from secirls.algorithms.query import Algorithm
from secirls.algorithms.regression.catch import catch
from secirls.algorithms.regression.irls import IrlsConfig, State, one_round, update_rows
from secirls.algorithms.regression.quasi_newton import CatchConfig
from secirls.algorithms.regression.unclamped import NewtonConfig, newton
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.own.coefficients import BEST
from secirls.numerics.status import Reason, Status

CYCLES_FROM = 12
"""Iterations before which nothing is called a cycle."""
LONGEST_CYCLE = 8
SAME = 1e-9
"""Two iterates are the same if no coefficient differs by more than this (natural log)."""
R_ITERATIONS = 100
"""R's last iteration, whose iterate its leverages are made of."""


@dataclass(frozen=True)
class Betas:
    """A finished fit, and where IRLS left each gene."""

    state: State
    hat_beta: Floats
    """The last iterate of IRLS within its box, ``(genes, params)``: leverages are computed there."""
    hat_xtwx: Floats
    """Upper triangle of X'WX at that iterate, ``(genes, params (params + 1) / 2)``."""
    hat_steps: NDArray[np.int32]
    """Its number, ``(genes,)``."""

    def replaced(self, other: Betas, genes: Mask) -> Betas:
        """This fit with some genes taken from another."""
        chosen = genes[:, None]
        return Betas(
            self.state.replaced(other.state, genes),
            np.where(chosen, other.hat_beta, self.hat_beta),
            np.where(chosen, other.hat_xtwx, self.hat_xtwx),
            np.where(genes, other.hat_steps, self.hat_steps).astype(np.int32),
        )


WayOut: TypeAlias = NewtonConfig | CatchConfig
"""Newton without a clamp, after which leverages stay those of IRLS, as in R; or the catch, with its own leverages."""


def betas(state: State, config: IrlsConfig, way_out: WayOut) -> Algorithm[Betas]:
    """Fit the active genes from where they stand: IRLS, and a way out for those it does not settle."""
    past: tuple[Floats, ...] = ()
    last = np.full(state.status.size, config.max_iter, dtype=np.int32)
    for _ in range(config.max_iter + 1):
        going = state.active
        if not going.any():
            break
        past = (*past, state.beta)[-LONGEST_CYCLE:]
        state = yield from one_round(state, config, last)
        out = np.flatnonzero(state.reason == Reason.OUT_OF_ITERATIONS)
        state = update_rows(state, out, status=Status.DIVERGED)
        if config.own:
            state = _step_back(state, np.flatnonzero(going & (state.reason == Reason.OWN_BEYOND_BOX)), past)
            rows, _, ahead = cycles(state, past, config)
            last[rows] = np.minimum(last[rows], state.iterations[rows] + ahead)
        else:
            state = leave_cycles(state, past, config)
    hat_beta, hat_xtwx, hat_steps = state.beta, state.xtwx, state.iterations
    lost = state.irls_diverged_mask & (state.reason == Reason.LOST)
    state = update_rows(state, np.flatnonzero(lost), status=Status.FAILED)
    if isinstance(way_out, CatchConfig):
        state = yield from catch(state, way_out)
        return Betas(state, state.beta, state.xtwx, np.where(state.status == Status.CAUGHT, BEST, hat_steps))
    state = yield from newton(state, state.irls_diverged_mask, way_out)
    return Betas(state, hat_beta, hat_xtwx, hat_steps)


def _step_back(state: State, rows: NDArray[np.intp], past: tuple[Floats, ...]) -> State:
    """The state in which genes, by index, are at the iterate before: the last that was within the box everywhere."""
    if not rows.size:
        return state
    return update_rows(state, rows, beta=past[-2][rows], iterations=state.iterations[rows] - 1)


def cycles(
    state: State, past: tuple[Floats, ...], config: IrlsConfig
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Genes that came back to an earlier iterate: by index, their period, and how far ahead is R's last iterate of it.

    ``past`` holds the iterates before, newest last, each ``(genes, params)``. A gene that equals the iterate m back,
    but not the one before, has period m, and no deviance of the period settled it: so none will.
    """
    none = np.zeros(0, dtype=np.intp)
    rows = np.flatnonzero(state.active & (state.iterations >= CYCLES_FROM) & (state.iterations < config.max_iter))
    if not rows.size or len(past) < 2:
        return none, none, none
    now = state.beta[rows]
    period = np.zeros(rows.size, dtype=np.intp)
    moves = (np.abs(now - past[-1][rows]) > SAME).any(axis=1)
    for back in range(min(LONGEST_CYCLE, len(past)), 1, -1):
        same = (np.abs(now - past[-back][rows]) <= SAME).all(axis=1)
        period[moves & same] = back
    found = np.flatnonzero(period)
    return rows[found], period[found], (R_ITERATIONS - state.iterations[rows[found]]) % period[found]


def leave_cycles(state: State, past: tuple[Floats, ...], config: IrlsConfig) -> State:
    """The state in which genes that came back to an earlier iterate are at their last one: see `cycles`.

    Its beta is the iterate of the cycle that stands at R's last iteration, and is evaluated once more. Where sites have
    columns of their own, whose coefficients are in no past of the table's, such genes walk there instead.
    """
    rows, period, ahead = cycles(state, past, config)
    if not rows.size:
        return state
    before = np.where(ahead == 0, 0, period - ahead)
    last = np.stack([state.beta[rows], *(past[-k][rows] for k in range(1, min(LONGEST_CYCLE, len(past)) + 1))])
    return update_rows(state, rows, beta=last[before, np.arange(rows.size)], iterations=config.max_iter)
