"""Shrunken fold changes beside PyDESeq2's ``lfc_shrink``, on real counts at R's dispersions, over their natural sites.

Who is right where they differ: both minimise one function, so whoever ends lower. PyDESeq2's optimiser stops early,
and begins at one place; ours never ends higher by more than the rounding of either. Its standard deviation is wrong
(`nbinomGLM` adds the prior's second derivatives to whole rows of the likelihood's), so it is no oracle for ours:
finite differences are, and they refuse it.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pydeseq2.default_inference import DefaultInference
from pydeseq2.ds import DeseqStats
from pydeseq2.utils import nbinomFn

from secirls.algorithms.regression.betas import betas
from secirls.algorithms.regression.irls import IrlsConfig, least_squares_start
from secirls.algorithms.regression.shrinkage import shrink
from secirls.algorithms.regression.unclamped import NewtonConfig
from secirls.numerics.inference.wald import contrast_variances
from secirls.numerics.status import Status

EVERY = 60
"""PyDESeq2 takes some milliseconds a gene."""
SELDOM = 4 * EVERY
"""For every day."""
TOLERANCE = 0.02
"""Of a standard deviation, beside the curvature by finite differences of PyDESeq2's own function."""
HIGHER = 1e-7
"""Of f: more than this is another end. PyDESeq2's own value is a difference of numbers a million times as large."""


def whole(data):
    """The fit, then the last coefficient of it drawn towards zero."""
    params, products = data.samples.n_params, data.design.products()
    start = yield from least_squares_start(np.zeros(len(data.genes), dtype=np.int8), params, IrlsConfig.deseq2())
    fit = yield from betas(start, IrlsConfig.deseq2(), NewtonConfig())
    unit = np.eye(params)[-1]
    variances = contrast_variances(fit.state.xtwx, unit, IrlsConfig.deseq2().ridge)
    found = yield from shrink(fit.state, variances, params - 1, products)
    return fit.state, variances, found


def objective(samples, gene, beta, scale):
    """f by PyDESeq2's own function."""
    size, offset = 1.0 / samples.dispersions[gene], np.log(samples.size_factors)
    counts = samples.counts[:, gene].astype(float)
    return nbinomFn(beta, samples.design, counts, size, offset, 15, scale, beta.size - 1)


def curvature(samples, gene, beta, scale, h=1e-3):
    """Of f, by finite differences."""
    p, found = beta.size, np.empty((beta.size, beta.size))

    def at(move):
        return objective(samples, gene, beta + move, scale)

    for i in range(p):
        for j in range(p):
            e, d = h * np.eye(p)[i], h * np.eye(p)[j]
            found[i, j] = (at(e + d) - at(e - d) - at(d - e) + at(-e - d)) / (4 * h * h)
    return found


@pytest.mark.parametrize(
    ("name", "design", "every"),
    [
        ("bottomly", "site", SELDOM),
        *(
            pytest.param(*data, marks=pytest.mark.slow)
            for data in [("bottomly", "site", EVERY), ("airway", "condition", SELDOM), ("airway", "condition", EVERY)]
        ),
    ],
)
def test_ours_ends_where_theirs_does_or_lower(name, design, every, frozen, drive):
    data = frozen(name, design)
    (state, variances, found), asked = drive(whole(data), data.split)
    assert not found.reason.any()
    samples, at = data.samples, data.samples.n_params - 1

    kept = SimpleNamespace(LFC=pd.DataFrame(state.beta), SE=pd.Series(np.sqrt(variances)))
    theirs = np.sqrt(DeseqStats._fit_prior_var(kept, at))
    assert found.scale == pytest.approx(min(theirs, 1.0), rel=1e-6)

    chosen = np.flatnonzero(state.status == Status.CONVERGED)[::every]
    lfc, inverse, _ = DefaultInference(n_cpus=1).lfc_shrink_nbinom_glm(
        design_matrix=samples.design,
        counts=samples.counts[:, chosen].astype(float),
        size=1.0 / samples.dispersions[chosen],
        offset=np.log(samples.size_factors),
        prior_no_shrink_scale=15,
        prior_scale=found.scale,
        optimizer="L-BFGS-B",
        shrink_index=at,
    )
    lfc = np.array(lfc)
    other = np.abs(lfc[:, at] - found.estimate[chosen])
    print(f"{name} {design}: |difference| {np.quantile(other, [0.5, 0.9, 0.99, 1])}, {len(asked)} questions")
    assert np.median(other) < 1e-3
    lower = higher = 0
    for row, gene in enumerate(chosen):
        ours = best_beside(samples, gene, lfc[row], found)
        difference = ours - objective(samples, gene, lfc[row], found.scale)
        lower, higher = lower + (difference < -HIGHER), higher + (difference > HIGHER)
    print(f"ours ends lower in {lower} of {chosen.size} genes, higher in {higher}")
    assert higher == 0
    assert lower > 0

    ratios = []
    for row in range(0, chosen.size, 5):
        if other[row] > 1e-3:
            continue
        truth = np.sqrt(np.linalg.inv(curvature(samples, chosen[row], lfc[row], found.scale))[at, at])
        assert found.deviation[chosen[row]] == pytest.approx(truth, rel=TOLERANCE)
        ratios.append(np.sqrt(np.abs(inverse[row][at, at])) / truth)
    print(f"PyDESeq2's standard deviations over those of the curvature: {np.quantile(ratios, [0, 0.5, 1])}")
    assert np.mean(np.abs(np.array(ratios) - 1) > TOLERANCE) > 0.5, "theirs would have passed"


def best_beside(samples, gene, begin, found):
    """f at our estimate, the other coefficients at their best: Newton's method, PyDESeq2's objective."""
    at = begin.size - 1
    beta = begin.copy()
    beta[at] = found.estimate[gene]
    y, offset, alpha = samples.counts[:, gene], np.log(samples.size_factors), samples.dispersions[gene]
    X = samples.design[:, :at]
    for _ in range(50):
        mu = np.exp(samples.design @ beta + offset)
        slope = X.T @ ((y - mu) / (1 + alpha * mu)) - beta[:at] / 225
        bend = (X.T * ((1 + alpha * y) * mu / (1 + alpha * mu) ** 2)) @ X + np.eye(at) / 225
        beta[:at] += np.linalg.solve(bend, slope)
    return objective(samples, gene, beta, found.scale)
