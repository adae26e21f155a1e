"""What the aggregator computes between rounds: plain arithmetic alone, the same bits on every machine.

A sum, a product, a quotient and a square root are rounded in one way. exp, log and matrix products are not: their last
bit depends on the library and the processor. A site that follows an algorithm must come to the very same questions.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numba.np.npyimpl  # noqa: F401 - whose rules are made of NumPy's functions: before these are refused
import numpy as np
import pandas as pd
import pytest

from secirls.algorithms import likelihood_ratio
from secirls.algorithms.components import component_queries, principal_components
from secirls.algorithms.dispersion import (
    dispersion_newton,
    dispersion_start,
    dispersions,
    profile,
    shrunken_dispersions,
)
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery
from secirls.algorithms.fitted import Fitted
from secirls.algorithms.groundwork import empty, scaling
from secirls.algorithms.groundwork.normalisation import normalise
from secirls.algorithms.outliers import cells, cooks, exceptions, outlier_replacement, robust_dispersion, selection
from secirls.algorithms.outliers.cells import Cells, CellsQuery
from secirls.algorithms.outliers.robust_dispersion import Searching
from secirls.algorithms.query import Total
from secirls.algorithms.regression import betas as betas_file
from secirls.algorithms.regression import catch, irls, plans, quasi_newton, restricted, unclamped
from secirls.algorithms.regression import shrinkage as shrinkage_file
from secirls.algorithms.regression.irls import IrlsConfig, least_squares_start
from secirls.algorithms.regression.unclamped import NewtonConfig
from secirls.algorithms.whole_fit import agreed_fit
from secirls.config import Config
from secirls.inputs.designs.design import Design, Variable
from secirls.inputs.designs.reduced_design import reduced_design
from secirls.numerics.algebra import box_step, distinct_products, eigen, restriction, solve, subspace
from secirls.numerics.arithmetic import float_order
from secirls.numerics.held import covariates
from secirls.numerics.held.samples import Samples
from secirls.numerics.inference import shrinkage
from secirls.numerics.status import Status
from secirls.presets import R_RIDGE

LIBRARY = ("exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "power", "dot", "matmul", "vecdot", "einsum")
LINEAR = ("solve", "inv", "eigh", "lstsq", "cholesky", "qr", "svd")


@contextmanager
def plain_arithmetic(monkeypatch) -> Iterator[None]:
    """No function of NumPy whose last bit may differ."""

    def refuse(*_, **__):
        raise AssertionError("between rounds something was computed whose last bit may differ")

    with monkeypatch.context() as patch:
        for name in LIBRARY:
            patch.setattr(np, name, refuse)
        for name in LINEAR:
            patch.setattr(np.linalg, name, refuse)
        yield


def run(algorithm, sites, monkeypatch):
    """Drive an algorithm; the sites may compute what they like, what lies between may not."""
    total = None
    names = tuple(map(str, range(len(sites))))
    while True:
        with plain_arithmetic(monkeypatch):
            try:
                query = algorithm.send(total)
            except StopIteration as end:
                return end.value
        sites = [query.apply(site) for site in sites]
        parts = [query.summands(site.take(query.genes), len(sites)) for site in sites]
        total = Total({key: sum(part[key] for part in parts) for key in parts[0]}, names, names)


def sites_with_outliers():
    random = np.random.default_rng(0)
    design = np.column_stack([np.ones(24), np.repeat([0.0, 1.0], 12)])
    mean = np.exp(random.uniform(0, 6, 60))
    counts = random.negative_binomial(5, 1 / (1 + 0.2 * mean), size=(24, 60))
    counts[random.integers(0, 24, 30), np.arange(30)] += (50 * mean[:30]).astype(int)
    counts[:12, 40:44] = 0
    counts = counts.astype(np.int32)
    counts[3, 44:50] = 900
    alpha = np.full(60, 0.2)
    return [Samples(design[i::3], counts[i::3], dispersions=alpha) for i in range(3)], counts


def everything(counts, estimate):
    genes = np.ones(60, dtype=bool)
    plans = IrlsConfig.deseq2(), NewtonConfig(), cooks.CooksConfig(R_RIDGE, searching=Searching(min_kept=1))
    found = yield from normalise(genes, 2, 24.0, own_size_factors=False, estimate=estimate)
    start = yield from least_squares_start(np.zeros(60, dtype=np.int8), 2, plans[0])
    fit = yield from betas_file.betas(start, *plans[:2])
    total = yield CellsQuery(~genes, np.array([[1.0, 0.0], [1.0, 1.0]]))
    around = Cells(
        np.array([[1.0, 0.0], [1.0, 1.0]]), total["cell_samples"], total["cell_sites"], np.array([24.0, 24.0]), 24, 3
    )
    mean, variance = found.base_means, counts.var(axis=0, ddof=1)
    outliers = yield from cooks.outliers(genes, fit, mean, variance, around, plans[2])
    kept = yield from exceptions.exceptions(outliers.any, fit, outliers, plans[2])

    def again(asked, _):
        yield AdoptDispersionsQuery(asked, np.full(int(asked.sum()), 0.1))
        return np.full(int(asked.sum()), 0.1)

    def eligible(presence):
        return np.where(presence > 0, Status.ACTIVE, Status.ALL_ZERO).astype(np.int8)

    refit = yield from outlier_replacement.replace_outliers(
        fit, np.full(60, 0.2), mean, outliers, eligible, again, plans
    )
    return fit, outliers, kept, refit


@pytest.mark.parametrize("estimate", ["ratio", "poscounts"])
def test_between_rounds_is_plain_arithmetic(estimate, monkeypatch):
    sites, counts = sites_with_outliers()
    fit, outliers, _, refit = run(everything(counts, estimate), sites, monkeypatch)
    assert (fit.state.status == Status.CAUGHT).any()
    assert outliers.any.sum() > 10
    assert refit.genes.any()


@pytest.mark.parametrize("small", ["~ 1", "~ 0 + batch"])
def test_between_rounds_of_a_likelihood_ratio_is_plain_arithmetic(small, monkeypatch):
    sites, counts = sites_with_outliers()
    levels = {"batch": ("p", "q"), "condition": ("a", "b")}
    said = {name: Variable(numeric=False, levels=told) for name, told in levels.items()}
    design = Design.agree("~ batch + condition", {}, {"x": said})
    batch = np.arange(24) // 3 % 2
    X = np.column_stack([np.ones(24), batch, np.repeat([0.0, 1.0], 12)])
    sites = [replace(site, design=X[i::3], size_factors=np.ones(8)) for i, site in enumerate(sites)]
    config, none = Config(design=design.formula, test="lrt", reduced=small), np.zeros(0)
    reduced = reduced_design(design, small)

    def whole():
        plan = IrlsConfig.deseq2(), NewtonConfig()
        start = yield from least_squares_start(np.zeros(60, dtype=np.int8), 3, plan[0])
        fit = (yield from betas_file.betas(start, *plan)).state
        fitted = Fitted(fit, counts.mean(axis=0), None, fit.xtwx, none, none, none, none, 24, xtx=xtx)
        return (yield from likelihood_ratio.likelihood_ratio(config, design, reduced, fitted))

    xtx = X.T @ X
    found = run(whole(), sites, monkeypatch)
    assert np.isfinite(found.statistics).all()
    assert found.statistics.max() > 10


def test_shrinkage_is_plain_arithmetic(monkeypatch):
    """After a regression alone: what outliers do stands above."""
    sites = [replace(site, size_factors=np.ones(8)) for site in sites_with_outliers()[0]]

    def shrunken():
        start = yield from least_squares_start(np.zeros(60, dtype=np.int8), 2, IrlsConfig.deseq2())
        fit = yield from betas_file.betas(start, IrlsConfig.deseq2(), NewtonConfig())
        return (yield from shrinkage_file.shrink(fit.state, np.full(60, 0.05), 1))

    assert np.isfinite(run(shrunken(), sites, monkeypatch).estimate).all()


def test_principal_components_are_plain_arithmetic(monkeypatch):
    rng = np.random.default_rng(2)
    shared = 60 * np.exp(rng.normal(size=(24, 1)) @ rng.normal(size=(1, 60)))
    sites = [Samples(np.ones((8, 1)), rng.poisson(shared[i::3]).astype(np.int32), np.ones(8)) for i in range(3)]
    scale = component_queries.Scale(np.array([0.1, 1.0, 0.0]), np.zeros((3, 0)), np.zeros(0), 1.0)
    monkeypatch.setattr(component_queries.Scale, "usable", True)  # what a site checks too, by its own transform
    plan = principal_components.Plan(1, 40, directions_per_sample=1.0, sample_share=1.0)
    found = run(principal_components.principal_components(plan, scale, np.ones(60, dtype=bool), 21), sites, monkeypatch)
    assert found.ending == principal_components.Ending.CONVERGED
    assert found.loadings.shape == (40, 1)


def test_a_fit_of_numbers_is_plain_arithmetic(monkeypatch):
    """Scales, a smaller design in them, and a prior on the user's columns; an empty column is left out."""
    sites, _ = sites_with_outliers()
    obs = pd.DataFrame({"condition": np.repeat(["a", "b"], 12), "age": 40.0 + np.arange(24) * 7 % 23})
    obs["plate"] = np.where(obs["condition"] == "a", np.resize(list("pq"), 24), "p")
    said = {"condition": Variable(numeric=False, levels=("a", "b")), "age": Variable(numeric=True)}
    said["plate"] = Variable(numeric=False, levels=("p", "q"))
    design = Design.agree("~ age + condition + condition:plate", {}, dict.fromkeys("012", said))
    for i, site in enumerate(sites):
        part = obs.iloc[i::3]
        mine = design.covariates(part, str(i))
        X, sizes = mine.design(*mine.at_home()), design.group_sizes(part)
        sites[i] = replace(site, design=X, covariates=mine, group_sizes=sizes)
    small, names = "~ age + condition", tuple(f"g{i}" for i in range(60))
    asked = {"dispersions": "alpha", "test": "lrt", "reduced": small, "shrink": "age", "drop_empty": True}
    config = Config(design=design.formula, **asked)
    fitted = run(agreed_fit(config, design, names), sites, monkeypatch)
    assert fitted.dropped
    assert fitted.scaled.centres[0] > 0
    assert np.isfinite(fitted.ratio.statistics).any()
    assert np.isfinite(fitted.shrinkage.estimate).any()


def test_a_logarithm_between_rounds_would_be_seen(monkeypatch):
    sites, _ = sites_with_outliers()

    def careless():
        total = yield CellsQuery(np.zeros(60, dtype=bool), np.array([[1.0, 0.0], [1.0, 1.0]]))
        return np.log(total["cell_samples"])

    with pytest.raises(AssertionError, match="last bit"):
        run(careless(), sites, monkeypatch)


SITES_ONLY = {"apply", "summands", "values", "distances", "_replaced"}
"""What runs inside a site, where bits may be its own."""


def matrix_products(module):
    """Lines with ``@`` between two values, or a power that is not a square, outside what runs in a site."""
    tree, found = ast.parse(inspect.getsource(module)), []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in SITES_ONLY:
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp):
            square = isinstance(node.right, ast.Constant) and node.right.value == 2
            constant = isinstance(node.left, ast.Constant | ast.UnaryOp)
            if isinstance(node.op, ast.MatMult) or (isinstance(node.op, ast.Pow) and not square and not constant):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "module",
    [
        betas_file,
        box_step,
        catch,
        cells,
        component_queries,
        cooks,
        covariates,
        dispersion_newton,
        dispersion_start,
        dispersions,
        distinct_products,
        eigen,
        empty,
        exceptions,
        float_order,
        irls,
        likelihood_ratio,
        outlier_replacement,
        plans,
        principal_components,
        profile,
        quasi_newton,
        restricted,
        restriction,
        robust_dispersion,
        scaling,
        selection,
        shrinkage,
        shrinkage_file,
        shrunken_dispersions,
        solve,
        subspace,
        unclamped,
    ],
    ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_no_matrix_product_is_written_there(module):
    assert matrix_products(module) == []


def test_a_matrix_product_would_be_seen():
    from secirls.numerics.inference import wald

    assert matrix_products(wald)
