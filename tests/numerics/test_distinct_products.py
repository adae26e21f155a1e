"""Distinct products of design columns: a matrix made whole again is the matrix, and a wrong map is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.query import QueryError
from secirls.algorithms.regression.betas import betas
from secirls.algorithms.regression.catch import catch
from secirls.algorithms.regression.irls import IrlsConfig, irls, least_squares_start
from secirls.algorithms.regression.irls_queries import IrlsQuery
from secirls.algorithms.regression.quasi_newton import CatchConfig
from secirls.algorithms.regression.unclamped import NewtonConfig, UnclampedQuery
from secirls.algorithms.sent_products import expand_field
from secirls.inputs.designs.design import Design, Variable
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import unpack
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import kernels

LEVELS = {"site": tuple("abcdef"), "batch": tuple("xyz"), "condition": ("u", "t"), "lab": tuple("klmnopq")}


def design(formula, numeric=("age", "dose")):
    names = [name for name in (*LEVELS, *numeric) if name in formula]
    said = {"all": {n: Variable(n in numeric, () if n in numeric else LEVELS[n]) for n in names}}
    return Design.agree(formula, {n: LEVELS[n] for n in names if n in LEVELS}, said)


def obs(n, seed=0):
    random = np.random.default_rng(seed)
    table = {name: random.choice(levels, n) for name, levels in LEVELS.items()}
    return pd.DataFrame({**table, "age": random.uniform(20, 80, n), "dose": random.integers(0, 3, n).astype(float)})


FORMULAS = {
    "~ condition": (2, 2),
    "~ batch + condition": (4, 6),
    "~ site + condition": (7, 12),
    "~ lab + condition": (8, 14),
    "~ site + age + condition": (8, 20),
    "~ batch * condition": (6, 6),
    "~ age + dose": (3, 6),
    "~ condition * age": (4, 6),
    "~ 0 + batch": (3, 3),
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_only_distinct_entries_are_sent_and_the_matrix_is_whole_again(formula):
    agreed = design(formula)
    products = agreed.products()
    assert (len(agreed.columns), products.size) == FORMULAS[formula]
    X = agreed.matrix(obs(50))
    assert products.hold(X)
    weight = np.random.default_rng(1).uniform(0, 3, (4, 50))
    upper = np.stack([w @ kernels.upper_products(X) for w in weight])
    np.testing.assert_allclose(products.packed(products.chosen(upper)), upper, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_two_entries_that_can_differ_are_called_equal(formula):
    agreed = design(formula)
    entries = kernels.upper_products(agreed.matrix(obs(400)))
    products = agreed.products()
    zero = ~entries.any(axis=0)
    np.testing.assert_array_equal(products.expand == -1, zero)
    for i in range(entries.shape[1]):
        for j in range(i):
            same = bool((entries[:, i] == entries[:, j]).all())
            assert (products.expand[i] == products.expand[j]) == same


def test_the_map_comes_from_levels_not_from_samples():
    agreed = design("~ site + condition")
    assert agreed.products().hold(agreed.matrix(obs(3)))
    few = agreed.matrix(obs(40).assign(site="a"))
    assert agreed.products().hold(few)
    assert Products.among(few).size < agreed.products().size


def test_a_design_with_very_many_combinations_sends_everything():
    names = [f"v{i}" for i in range(13)]
    levels = dict.fromkeys(names, ("0", "1"))
    agreed = Design.agree(
        "~ " + " + ".join(names), levels, {"all": {n: Variable(numeric=False, levels=("0", "1")) for n in names}}
    )
    assert agreed.products().size == 14 * 15 // 2


def sites_of(agreed, n=36, genes=30):
    random = np.random.default_rng(5)
    X = agreed.matrix(obs(n))
    counts = random.negative_binomial(3, 0.05, size=(n, genes)).astype(np.int32)
    counts[:, 0] = (np.arange(n) == 3) * 900  # leaves IRLS
    s, alpha = np.exp(random.normal(0, 0.3, n)), random.uniform(0.02, 1, genes)
    return [Samples(X[rows], counts[rows], s[rows], alpha) for rows in np.array_split(np.arange(n), 3)]


@pytest.mark.parametrize("formula", ["~ condition", "~ batch + condition", "~ batch + age + condition"])
def test_a_fit_by_distinct_products_is_the_fit(formula, drive, kernel):
    agreed = design(formula)
    sites, products = sites_of(agreed), agreed.products()

    def run(plan, free):
        start = yield from least_squares_start(np.zeros(30, dtype=np.int8), len(agreed.columns), plan)
        return (yield from betas(start, plan, free))

    plan, free = IrlsConfig.deseq2(), NewtonConfig()
    usual, short = drive(*sites), drive(*sites)
    whole = usual(run(plan, free))
    few = short(run(replace(plan, products=products), replace(free, products=products)))
    np.testing.assert_array_equal(few.state.iterations, whole.state.iterations)
    np.testing.assert_allclose(few.state.beta, whole.state.beta, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(few.state.xtwx, whole.state.xtwx, rtol=1e-9, atol=1e-9)
    p = len(agreed.columns)
    for query in short.queries:
        if query.kind in ("irls", "unclamped"):
            name = "xtwx" if query.kind == "irls" else "information"
            assert query.shapes()[name] == (query.n_genes, products.size)
    assert p * (p + 1) // 2 > products.size


@pytest.mark.parametrize(
    "formula", ["~ batch + condition", pytest.param("~ batch + age + condition", marks=pytest.mark.slow)]
)
def test_a_catch_and_a_census_by_distinct_products_are_the_same(formula, drive):
    agreed = design(formula)
    products, p = agreed.products(), len(agreed.columns)
    sites = sites_of(agreed)

    def run(chosen):
        plan = IrlsConfig(products=chosen)
        total = yield CensusQuery(np.ones(30, dtype=bool), p, expand=expand_field(chosen))
        start = yield from least_squares_start(np.zeros(30, dtype=np.int8), p, plan)
        return total["xtx"], (yield from catch(start, CatchConfig(products=chosen)))

    seen = drive(*sites)
    (xtx, whole), (few_xtx, few) = drive(*sites)(run(None)), seen(run(products))
    np.testing.assert_allclose(unpack(products.packed(few_xtx)), xtx, rtol=1e-14)
    np.testing.assert_allclose(few.nll, whole.nll, rtol=1e-9)
    assert np.array_equal(few.status, whole.status)
    for query in seen.queries:
        for name in set(query.shapes()) & {"xtx", "xtwx"}:
            assert query.shapes()[name][-1] == products.size


def test_where_levels_are_summed_by_level_the_bits_are_the_same(drive):
    agreed = design("~ batch + condition")
    sites = sites_of(agreed, n=300)

    def run(plan):
        start = yield from least_squares_start(np.zeros(30, dtype=np.int8), len(agreed.columns), plan)
        return (yield from irls(start, plan))

    whole, few = (drive(*sites)(run(IrlsConfig(products=p))) for p in (None, agreed.products()))
    np.testing.assert_array_equal(few.beta, whole.beta)
    np.testing.assert_array_equal(few.xtwx, whole.xtwx)


def test_a_site_whose_rows_do_not_fit_refuses():
    agreed = design("~ batch + condition")
    (site, *_), expand = sites_of(agreed), expand_field(agreed.products())
    odd = replace(site, design=site.design * np.array([1.0, 2.0, 2.0, 2.0]))
    beta = np.zeros((30, 4))
    for query in (
        IrlsQuery(np.ones(30, bool), beta, 0.5, expand=expand),
        UnclampedQuery(np.ones(30, bool), beta, expand=expand),
    ):
        query.check(30, 4)
        query.summands(site, 3)
        with pytest.raises(QueryError, match="equal"):
            query.summands(odd, 3)
        for wrong in (expand[:-1], expand + 1, expand - 1, expand + 0.5, np.where(expand == 0, 3, expand)):
            with pytest.raises(QueryError):
                replace(query, expand=wrong).check(30, 4)


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_any_numbering_is_read_back(params, seed):
    random = np.random.default_rng(seed)
    rows = random.integers(0, 2, (8, params)).astype(float)
    products = Products.among(rows)
    again = Products.numbered(products.expand)
    for name in ("rows", "columns", "expand"):
        np.testing.assert_array_equal(getattr(again, name), getattr(products, name))
    assert products.hold(rows)
    full = Products.full(params)
    upper = random.normal(size=(3, params * (params + 1) // 2))
    np.testing.assert_array_equal(full.packed(full.chosen(upper)), upper)
    np.testing.assert_array_equal(
        products.chosen(products.packed(upper[:, : products.size])), upper[:, : products.size]
    )


def test_products_that_are_kept_are_changed_by_nobody():
    kept = Products.full(3)
    assert Products.full(3) is kept
    for array in (kept.rows, kept.columns, kept.expand):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
