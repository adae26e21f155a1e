"""X'WX of any gene, without asking: its weights mu / (1 + alpha mu) hold size factors and no count.

Promises: over a cell, whose samples share a design row and so m = mu / s, the weights add up to m S(alpha m), S the
cell's Stieltjes transform (`stieltjes`); where all means of a cell are clamped, to as many equal weights. A gene of
which some means of a cell may be clamped and others not is told apart; IEEE operations in a written order, and a gene's
bits are its own. Refuses to know: counts, sites, protocols.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arithmetic.portable import exp, log, strictly
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.regression.stieltjes import LOWEST, NODES, PIECES, Transforms, spread, transforms

_LARGEST_ETA = 40.0
_LEAST_MEAN = 1e-12
_SLACK = 1e-9
"""Relative: a mean so near to the clamp is on either side of it."""
_EMPTY, _FREE, _CLAMPED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Information:
    """What X'WX follows from, for a design whose cells are known one by one."""

    rows: Floats
    """Design rows of the cells, ``(cells, params)``."""
    products: Floats
    """Their distinct products, ``(cells, q)``."""
    transforms: Transforms
    """Of the cells."""
    parties: tuple[str, ...]
    """Whose samples are in them."""

    def over(self, parties: tuple[str, ...]) -> bool:
        """Whether it is of these sites, and of no other."""
        return set(parties) == set(self.parties)

    def at(
        self, coefficients: Floats, alphas: Floats, counts: NDArray[np.intp], *, linear: bool, min_mu: float
    ) -> tuple[Floats, Mask]:
        """Distinct products of X'WX, and of which genes they are known.

        Parameters
        ----------
        coefficients
            b of mu = max(s X b, min_mu) where `linear`, else of max(s exp(X b), min_mu), ``(genes, params)``.
        alphas
            Dispersions, gene after gene, ``(sum of counts,)``.
        counts
            How many each gene has, ``(genes,)``.

        Returns
        -------
        ``(sum of counts, q)``, zeros where not known; and ``(genes,)``.
        """
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
        out, known = np.zeros((starts[-1], self.products.shape[1])), np.zeros(counts.size, dtype=np.bool_)
        held = self.transforms
        b = np.ascontiguousarray(coefficients, dtype=np.float64)
        _fill(
            b,
            alphas,
            starts,
            self.rows,
            self.products,
            held.series,
            held.samples,
            held.least,
            held.most,
            linear,
            min_mu,
            out,
            known,
        )
        return out, known


def warm_up() -> None:
    """Compile the kernel, or load it from the cache: seconds the first time on a machine, then instant."""
    rows, s, cell, one = np.array([[1.0, 0.0], [1.0, 1.0]]), np.ones(2), np.arange(2), np.ones(1, dtype=np.intp)
    held = Transforms.of(transforms(s, cell, 2), spread(s, cell, 2))
    Information(rows, rows, held, ()).at(np.ones((1, 2)), np.ones(1), one, linear=False, min_mu=0.5)


def follows_from_cells(rows: Floats, products: Products) -> bool:
    """Whether a sum over each cell ``(cells, params)`` follows from the distinct products of X'WX, as X'WX from them.

    Then the cells' transforms tell nothing that X'WX of many genes does not.
    """
    return bool(rows.shape[0]) and int(np.linalg.matrix_rank(products.of(rows))) == rows.shape[0]


@strictly(inline=True)
def _fill_cells(
    b: Floats,
    rows: Floats,
    samples: Floats,
    least: Floats,
    most: Floats,
    linear: bool,
    min_mu: float,
    mean: Floats,
    kind: NDArray[np.int8],
) -> bool:
    """Each cell's mean over its size factor, and whether its means are free or clamped; False where one is neither."""
    fine = True
    for cell in range(rows.shape[0]):
        if samples[cell] < 0.5:
            kind[cell] = _EMPTY
            continue
        eta = 0.0
        for k in range(b.size):
            eta += b[k] * rows[cell, k]
        if not linear:
            fine &= abs(eta) <= _LARGEST_ETA
            eta = exp(min(max(eta, -_LARGEST_ETA), _LARGEST_ETA))
        mean[cell] = eta
        if least[cell] * eta >= min_mu * (1.0 + _SLACK) and eta >= _LEAST_MEAN:
            kind[cell] = _FREE
        elif most[cell] * eta <= min_mu * (1.0 - _SLACK) or (eta <= 0.0 and min_mu > 0.0):
            kind[cell] = _CLAMPED
        else:
            fine = False
    return fine


@strictly(inline=True)
def _at_piece(series: Floats, t: float) -> float:
    """A cell's polynomials ``(pieces, nodes)`` at log u, within their range."""
    piece = min(int(t - LOWEST), PIECES - 1)
    x, c = 2.0 * (t - LOWEST - float(piece)) - 1.0, series[piece]
    value = 0.0
    for k in range(NODES - 1, -1, -1):
        value = value * x + c[k]
    return value


@strictly()
def _fill(
    coefficients: Floats,
    alphas: Floats,
    starts: NDArray[np.intp],
    rows: Floats,
    products: Floats,
    series: Floats,
    samples: Floats,
    least: Floats,
    most: Floats,
    linear: bool,
    min_mu: float,
    out: Floats,
    known: Mask,
) -> None:
    cells, distinct = products.shape
    mean, log_mean, kind = np.empty(cells), np.empty(cells), np.empty(cells, dtype=np.int8)
    for gene in range(coefficients.shape[0]):
        fine = _fill_cells(coefficients[gene], rows, samples, least, most, linear, min_mu, mean, kind)
        for cell in range(cells):
            if fine and kind[cell] == _FREE:
                log_mean[cell] = log(mean[cell])
        for j in range(starts[gene], starts[gene + 1]):
            alpha = alphas[j]
            fine &= alpha >= 1e-30
            if not fine:
                break
            log_alpha = log(alpha)
            for cell in range(cells):
                if kind[cell] == _EMPTY:
                    continue
                if kind[cell] == _CLAMPED:
                    weight = samples[cell] * (min_mu / (1.0 + alpha * min_mu))
                else:
                    t = log_alpha + log_mean[cell]
                    fine &= (t >= LOWEST) & (t <= LOWEST + float(PIECES))
                    if not fine:
                        break
                    weight = mean[cell] * (_at_piece(series[cell], t) / (1.0 + alpha * mean[cell]))
                for e in range(distinct):
                    out[j, e] += weight * products[cell, e]
        known[gene] = fine
        if not fine:
            out[starts[gene] : starts[gene + 1]] = 0.0
