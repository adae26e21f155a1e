"""Likelihood ratios with more than one degree of freedom, a factor of many levels left out, against mathematics.

R's tables have one degree of freedom each. Here the statistic of every gene is twice the difference of the greatest
log-likelihoods, found by SciPy's optimiser from elsewhere on the pooled data, and the p-value SciPy's of chi-squared.
"""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from formulaic import Formula
from scipy.optimize import minimize
from scipy.stats import chi2, nbinom

import secirls
from secirls.outputs.tables import results_table

SITES, EACH, GENES = ("berlin", "lyon", "turin"), 20, 12
GIVEN = {"engine": "local", "kernel": "numpy", "protocol": "plain", "preset": "irls", "test": "lrt"}
GIVEN |= {"size_factors": "sf", "dispersions": "alpha", "ridge": 1e-12, "beta_tol": 1e-15}
PAIRS = [
    ("~ dose + condition", "~ condition", 4),
    ("~ dose * condition", "~ dose + condition", 4),
    ("~ dose * condition", "~ condition", 8),
    ("~ site + dose", "~ site", 4),
]


@pytest.fixture(scope="module")
def data():
    """AnnData by site, and all of them pooled: five doses that every other gene answers to, in no order."""
    rng = np.random.default_rng(11)
    base, alpha = rng.uniform(3.5, 7, GENES), rng.uniform(0.02, 0.3, GENES)
    answer = 0.5 * rng.normal(size=(5, GENES)) * (np.arange(GENES) % 2)
    found = {}
    for site in SITES:
        dose, condition = np.arange(EACH) % 5, rng.permutation(np.arange(EACH) // 5 % 2)
        depth = np.exp(0.3 * rng.normal(size=EACH))
        mu = np.exp(base + answer[dose] + 0.3 * condition[:, None] + 0.2 * rng.normal(size=GENES)) * depth[:, None]
        counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(np.int32)
        obs = pd.DataFrame({"site": site, "dose": np.array(list("vwxyz"))[dose], "sf": depth})
        obs["condition"] = np.where(condition, "b", "a")
        obs.index = [f"{site}{i}" for i in range(EACH)]
        var = pd.DataFrame({"alpha": alpha}, index=[f"g{i}" for i in range(GENES)])
        found[site] = anndata.AnnData(counts, obs=obs, var=var)
    return found, anndata.concat(found.values(), merge="same")


def greatest(pooled, formula):
    """The greatest log-likelihood of every gene ``(genes,)``: Newton's method in a trust region, from the mean."""
    X, s = np.asarray(Formula(formula).get_model_matrix(pooled.obs), dtype=float), pooled.obs["sf"].to_numpy()
    basis = np.linalg.qr(X)[0]
    found = []
    for y, alpha in zip(pooled.X.T, pooled.var["alpha"], strict=True):

        def value(b, y=y, alpha=alpha):
            return -nbinom.logpmf(y, 1 / alpha, 1 / (1 + alpha * s * np.exp(basis @ b))).sum()

        def slope(b, y=y, alpha=alpha):
            mu = s * np.exp(basis @ b)
            return -basis.T @ ((y - mu) / (1 + alpha * mu))

        def curvature(b, y=y, alpha=alpha):
            mu = s * np.exp(basis @ b)
            return (basis * (mu * (1 + alpha * y) / (1 + alpha * mu) ** 2)[:, None]).T @ basis

        begin = basis.T @ np.full(len(y), np.log((y / s).mean()))
        end = minimize(value, begin, jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-7})
        assert np.abs(slope(end.x)).max() < 1e-4, "the optimiser ended at its optimum"
        found.append(-end.fun)
    return np.array(found)


def assert_tested(result, pooled, design, small, freedom):
    stat = 2 * (greatest(pooled, design) - greatest(pooled, small))
    assert result.report["test"]["degrees_of_freedom"] == freedom
    np.testing.assert_allclose(result.table["stat"], stat, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.table["pvalue"], chi2.sf(stat, freedom), rtol=1e-8)
    assert (stat > chi2.isf(1e-2, freedom)).any()
    assert (stat < freedom).any()


@pytest.mark.parametrize(("design", "small", "freedom"), PAIRS)
def test_a_factor_of_many_levels_left_out_is_tested_as_mathematics_has_it(data, design, small, freedom):
    sites, pooled = data
    assert_tested(secirls.fit(sites, design=design, reduced=small, **GIVEN), pooled, design, small, freedom)


def test_p_values_of_one_degree_of_freedom_would_be_seen(data, monkeypatch):
    sites, pooled = data
    honest = results_table.chi_squared_pvalues
    monkeypatch.setattr(results_table, "chi_squared_pvalues", lambda statistics, _: honest(statistics, 1))
    result = secirls.fit(sites, design=PAIRS[0][0], reduced=PAIRS[0][1], **GIVEN)
    with pytest.raises(AssertionError):
        assert_tested(result, pooled, *PAIRS[0])


def test_a_design_that_leaves_one_level_out_only_would_be_seen(data):
    """Its smaller design has four doses of five: three levels too many are left in."""
    sites, pooled = data
    result = secirls.fit(sites, design=PAIRS[0][0], reduced=PAIRS[0][1], **GIVEN)
    merged = pooled.copy()
    merged.obs["dose"] = merged.obs["dose"].astype(str).replace("z", "v")
    other = 2 * (greatest(pooled, PAIRS[0][0]) - greatest(merged, PAIRS[0][0]))
    assert np.abs(result.table["stat"] - other).max() > 1.0
