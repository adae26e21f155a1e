"""From one site's summand back to its counts, and how good such a guess is.

Promises: a guess uses what the aggregator receives or knows in public, and nothing else; the truth is opened only to
mark it. With one sample per design cell a site's summand *is* that sample: w = mu / (1 + alpha mu) gives mu, and
z = log(mu / s) + y / mu - 1 gives y. Refuses to know: how a summand was come by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.groundwork.data_sets import DataSet
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.numerics.arrays import Floats

USELESS, FINEST = 1e3, 1e-12
"""Relative errors are kept between these."""
_LEAST_MU, _SURE = 0.5, 5.0


def guess(arrays: Mapping[str, Floats], query: IrlsQuery, alpha: Floats, cell: int) -> dict[str, Floats]:
    """Counts per condition from one site's summand (intercept and treatment), each cell of that many samples.

    Exact for one sample per cell, a cell's mean otherwise. ``alpha`` is of the genes asked about.
    """
    xtwx, xtwz, beta = arrays["xtwx"], arrays["xtwz"], query.beta
    found = {}
    with np.errstate(all="ignore"):
        for name, weight, right, eta in (
            ("control", xtwx[:, 0] - xtwx[:, 1], xtwz[:, 0] - xtwz[:, 1], beta[:, 0]),
            ("treated", xtwx[:, 1], xtwz[:, 1], beta.sum(axis=1)),
        ):
            each = weight / cell
            mu = each / (1.0 - alpha * each)
            sure = (mu > _SURE) & (alpha * mu < 1e3) & np.isfinite(mu)
            factor = float(np.median(mu[sure] / np.exp(eta[sure]))) if sure.any() else 1.0
            mu = np.maximum(factor * np.exp(eta), _LEAST_MU)
            found[name] = mu * (right / weight - np.log(mu / factor) + 1.0)
    return found


def mark(guessed: Mapping[str, Floats], data: DataSet, site: str, genes: NDArray[Any]) -> dict[str, Any]:
    """How good a guess is, over every sample of the site and the genes given by index."""
    obs = data.whole.obs
    mine = (obs["site"].astype(str) == site).to_numpy()
    exact, error = [], []
    for name, level in zip(("control", "treated"), data.levels, strict=True):
        chosen = mine & (obs["condition"].astype(str) == level).to_numpy()
        truth = data.counts()[chosen][:, genes].astype(np.float64)
        with np.errstate(all="ignore"):
            off = np.abs(guessed[name][None, :] - truth)
            exact.append((off < 0.5).ravel())
            error.append(np.nan_to_num(off / (truth + 1.0), nan=USELESS, posinf=USELESS).ravel())
    hits, errors = np.concatenate(exact), np.clip(np.concatenate(error), FINEST, USELESS)
    return {"guesses": int(hits.size), "exact": float(hits.mean()), "error": float(np.median(errors))}
