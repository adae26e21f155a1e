"""Genes of airway sent through the catch, as if IRLS had lost them: none fails, and none ends above IRLS."""

import numpy as np
import pytest

from secirls.algorithms.query import Total
from secirls.algorithms.regression.catch import catch
from secirls.algorithms.regression.irls import IrlsConfig, irls, least_squares_start
from secirls.algorithms.regression.quasi_newton import CatchConfig
from secirls.inputs.datasets import airway_counts, airway_obs
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import kernels
from secirls.numerics.status import Reason, Status


def drive(algorithm, samples):
    total = None
    while True:
        try:
            query = algorithm.send(total)
        except StopIteration as end:
            return end.value
        samples = query.apply(samples)
        total = Total(query.summands(samples.take(query.genes), 1), ("all",), ("all",))


DESIGNS = ["condition", "site"]
FEW, MANY = 50, 5


def airway(design, every):
    counts, obs = airway_counts(), airway_obs()
    y = counts.to_numpy()[:, ::every]
    obs = obs.loc[counts.index]
    columns = [np.ones(len(obs)), (obs["condition"] == "trt").to_numpy(float)]
    if design == "site":
        columns += [(obs["site"] == site).to_numpy(float) for site in sorted(set(obs["site"]))[1:]]
    logs = np.log(y[:, (y > 0).all(axis=0)])
    s = np.exp(np.median(logs - logs.mean(axis=0), axis=1))
    mean, variance = (y / s[:, None]).mean(axis=0), (y / s[:, None]).var(axis=0, ddof=1)
    alpha = np.clip((variance - mean) / mean**2, 1e-8, 10.0)
    return Samples(np.column_stack(columns), y.astype(np.int32), s, alpha)


def both(samples, config):
    def start():
        return least_squares_start(np.zeros(samples.n_genes, dtype=np.int8), samples.n_params, IrlsConfig())

    def by_irls():
        return (yield from irls((yield from start()), IrlsConfig()))

    def by_catch():
        return (yield from catch((yield from start()), config))

    return drive(by_irls(), samples), drive(by_catch(), samples)


def unclamped(samples, state):
    return (kernels.clamped_log_mu(samples, state.beta, 0.0) > np.log(0.5)).all(axis=1)


@pytest.mark.parametrize(
    ("every", "design"),
    [
        (FEW, "condition"),
        *(
            pytest.param(*asked, marks=pytest.mark.slow)
            for asked in [(FEW, "site"), (MANY, "condition"), (MANY, "site")]
        ),
    ],
)
def test_no_gene_fails_and_none_ends_above_irls(design, every):
    samples = airway(design, every)
    settled, caught = both(samples, CatchConfig())
    assert (caught.status == Status.CAUGHT).all(), caught.counts()
    print({Reason(r).name: int((caught.reason == r).sum()) for r in np.unique(caught.reason)})
    genes = unclamped(samples, settled) & (settled.status == Status.CONVERGED)
    assert genes.sum() > 15000 / every
    above = (caught.nll - settled.nll)[genes]
    assert above.max() <= 1e-6


@pytest.mark.parametrize("design", ["condition", pytest.param("site", marks=pytest.mark.slow)])
def test_a_catch_that_gives_up_early_would_be_noticed(design):
    samples = airway(design, FEW)
    settled, caught = both(samples, CatchConfig(max_iter=2))
    assert (caught.status == Status.FAILED).any()
    loose = both(samples, CatchConfig(ftol=1e-3, polls=0))[1]
    genes = unclamped(samples, settled)
    assert (loose.nll - settled.nll)[genes].max() > 1e-6
