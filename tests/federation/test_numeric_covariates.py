"""Numeric columns wherever they stand: slopes, errors and contrasts are those of a pooled fit on the user's scale.

The pooled fit is Newton's method on the exact likelihood in an orthogonal basis of the pooled design, which no number
far from zero can harm; it shares no code with the package.
"""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from formulaic import Formula

import secirls
from secirls import fitting
from secirls.agreement.manifest import Manifest
from secirls.algorithms.groundwork import scaling
from secirls.input_error import InputError
from secirls.inputs.designs import ranks
from secirls.numerics.held import covariates
from secirls.outputs.tables import kept_fit

SITES, EACH, GENES, ALPHA = ("berlin", "lyon", "turin"), 14, 8, 0.05
SETTINGS = {"engine": "local", "kernel": "numpy", "protocol": "plain", "preset": "irls", "ridge": 1e-12}
SETTINGS |= {"size_factors": "sf", "dispersions": "alpha", "beta_tol": 1e-13, "min_mu": 1e-6}


def pooled_obs(seed=3):
    rng, n = np.random.default_rng(seed), len(SITES) * EACH
    obs = pd.DataFrame({"site": np.repeat(SITES, EACH), "condition": np.tile(["a", "b"], n // 2)})
    obs["sf"] = np.exp(0.2 * rng.normal(size=n))
    obs["year"] = rng.integers(2010, 2021, n)
    obs["days"] = rng.integers(30_000, 33_001, n)
    obs["stamp"] = 1_600_000_000 + rng.integers(0, 3_000_000, n)
    obs["nanoseconds"] = obs["stamp"].astype(float) * 1e9
    obs["tiny"] = 1e-9 * (5 + rng.normal(size=n))
    obs["dose"] = np.exp(rng.normal(size=n))
    obs.index = [f"s{i}" for i in range(n)]
    return obs


def standard(values):
    return (values - values.mean()) / values.std()


def made(obs, effect=("year", 0.3), seed=4):
    """AnnData by site, with an effect of a column on every gene."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(3, 5, GENES) + 0.5 * (obs["condition"] == "b").to_numpy()[:, None]
    mean = mean + effect[1] * np.outer(standard(obs[effect[0]].to_numpy(float)), np.linspace(-1, 1, GENES))
    mu = np.exp(mean) * obs["sf"].to_numpy()[:, None]
    counts = rng.poisson(mu * rng.gamma(1 / ALPHA, ALPHA, mu.shape)).astype(np.int32)
    genes = pd.DataFrame({"alpha": np.full(GENES, ALPHA)}, index=[f"g{i}" for i in range(GENES)])
    sites = {}
    for site in SITES:
        mine = (obs["site"] == site).to_numpy()
        sites[site] = anndata.AnnData(counts[mine], obs=obs[mine].copy(), var=genes)
    return sites, counts


def pooled(counts, X, s):
    """Coefficients ``(genes, params)`` and their covariances, in the columns of X: exact to rounding of X's rank."""
    scale = np.abs(X).max(axis=0)
    basis, triangle = np.linalg.qr(X / scale)
    back = np.linalg.inv(triangle)
    found, covariance = [], []
    for y in counts.T.astype(float):
        b = np.linalg.lstsq(basis, np.log(y / s + 0.5), rcond=None)[0]
        for _ in range(200):
            mu = s * np.exp(basis @ b)
            weights = mu / (1 + ALPHA * mu)
            step = np.linalg.solve((basis * weights[:, None]).T @ basis, basis.T @ ((y - mu) / (1 + ALPHA * mu)))
            b = b + step
            if np.abs(step).max() < 1e-14:
                break
        information = np.linalg.inv((basis * weights[:, None]).T @ basis)
        found.append(back @ b / scale)
        covariance.append(back @ information @ back.T / np.outer(scale, scale))
    return np.array(found), np.array(covariance)


def assert_pooled(result, counts, obs, X, contrast, rtol=2e-6):
    """Coefficients, the contrast and its error as of the pooled fit in the user's columns X."""
    beta, covariance = pooled(counts, X, obs["sf"].to_numpy())
    assert result.table["status"].eq("converged").all(), result.table["reason"].unique()
    error = np.sqrt(np.einsum("i,gij,j->g", contrast, covariance, contrast))
    np.testing.assert_allclose(result.table["lfcSE"] * np.log(2), error, rtol=rtol)
    np.testing.assert_allclose(result.table["log2FoldChange"] * np.log(2) / error, beta @ contrast / error, atol=rtol)
    mine = result.coefficients.drop(columns="gene").to_numpy()
    spread = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    np.testing.assert_allclose(mine / spread, beta / spread, atol=50 * rtol)  # intercepts at zero are far away


@pytest.mark.parametrize("column", ["year", "days", "stamp", "nanoseconds", "tiny", "dose"])
def test_a_slope_is_that_of_the_pooled_fit_wherever_the_column_stands(column):
    obs = pooled_obs()
    sites, counts = made(obs, (column, 0.3))
    result = secirls.fit(sites, design=f"~ condition + {column}", **SETTINGS)
    X = np.asarray(Formula(f"~ condition + {column}").get_model_matrix(obs), dtype=float)
    assert result.report["contrast"] == f"coefficient {column}"
    assert_pooled(result, counts, obs, X, np.array([0.0, 0, 1]))
    assert result.report["numeric_columns"].keys() == {column}


@pytest.mark.parametrize(
    ("design", "centred"),
    [
        ("~ condition * year", True),
        ("~ 0 + condition + year", True),
        ("~ year * days", True),
        ("~ condition / days", True),
        ("~ condition:dose", False),  # without the conditions themselves, doses can't be moved
        ("~ condition + dose + condition:year:dose", False),
    ],
)
def test_interactions_are_those_of_the_pooled_fit(design, centred):
    obs = pooled_obs().assign(year=lambda told: told["year"] - (2010 if "year:dose" in design else 0))
    sites, counts = made(obs)
    X = np.asarray(Formula(design).get_model_matrix(obs), dtype=float)
    result = secirls.fit(sites, design=design, **SETTINGS)
    unit = np.zeros(X.shape[1])
    unit[-1] = 1.0
    assert_pooled(result, counts, obs, X, unit, rtol=1e-5)
    assert all((told["centre"] != 0) == centred for told in result.report["numeric_columns"].values())


def test_contrasts_of_numbers_are_on_the_user_s_scale():
    obs = pooled_obs()
    sites, counts = made(obs)
    result = secirls.fit(sites, design="~ condition * year", contrast=("year", "2020", "2010"), **SETTINGS)
    X = np.asarray(Formula("~ condition * year").get_model_matrix(obs), dtype=float)
    assert_pooled(result, counts, obs, X, np.array([0, 0, 10.0, 0]))


FUNCTIONS = {
    "log(dose)": np.log,
    "np.log2(dose)": np.log2,
    "np.sqrt(dose)": np.sqrt,
    "I(dose**2)": np.square,
    "{dose**3}": lambda x: x**3,
    "I(log(dose)**2)": lambda x: np.log(x) ** 2,
    "center(log(dose))": lambda x: np.log(x) - np.log(x).mean(),
    "center(dose)": lambda x: x - x.mean(),
}


@pytest.mark.parametrize("expr", FUNCTIONS)
def test_functions_of_a_column_mean_what_formulaic_means(expr):
    obs = pooled_obs()
    sites, counts = made(obs, ("dose", 0.3))
    result = secirls.fit(sites, design=f"~ condition + {expr}", **SETTINGS)
    theirs = Formula(f"~ condition + {expr}").get_model_matrix(obs)
    assert list(result.coefficients.columns[1:]) == list(theirs.columns)
    X = np.asarray(theirs, dtype=float)
    np.testing.assert_allclose(X[:, 2], FUNCTIONS[expr](obs["dose"].to_numpy()), rtol=1e-12, atol=1e-12)
    assert_pooled(result, counts, obs, X, np.array([0.0, 0, 1]))


def test_without_the_way_back_the_slope_would_be_seen_to_be_wrong(monkeypatch):
    """The broken twin: coefficients of scaled columns, given as they are."""
    obs = pooled_obs()
    sites, counts = made(obs)
    X = np.asarray(Formula("~ condition + year").get_model_matrix(obs), dtype=float)
    monkeypatch.setattr(kept_fit, "of_scaled", lambda contrast, T: contrast)
    result = secirls.fit(sites, design="~ condition + year", **SETTINGS)
    with pytest.raises(AssertionError):
        assert_pooled(result, counts, obs, X, np.array([0.0, 0, 1]))


def test_without_scaling_there_would_be_no_fit(monkeypatch):
    """What scaling is for: the same fit with centres at zero and scales of one is refused."""
    obs = pooled_obs()
    obs["days"] = 2_460_000 + obs["days"] % 20  # Julian day numbers
    sites, _ = made(obs, ("days", 0.3))
    assert secirls.fit(sites, design="~ condition + days", **SETTINGS).table["status"].eq("converged").all()
    monkeypatch.setattr(scaling, "nearest", lambda centre, spread: (0.0, 1.0))
    with pytest.raises(InputError, match="rank-deficient"):
        secirls.fit(sites, design="~ condition + days", **SETTINGS)


def test_a_column_of_one_number_is_called_what_it_is():
    sites, _ = made(pooled_obs().assign(year=2015), ("days", 0.3))
    with pytest.raises(InputError, match=r"rank-deficient.*depend on each other: year"):
        secirls.fit(sites, design="~ condition + year", **SETTINGS)


def test_a_column_too_large_to_be_added_ends_in_a_sentence():
    obs = pooled_obs()
    sites, _ = made(obs.assign(year=obs["year"] * 1e200), ("days", 0.3))
    with pytest.raises(InputError, match="'year' has values that are too large to be added up"):
        secirls.fit(sites, design="~ condition + year", **SETTINGS)


def test_the_census_comes_first_and_without_products_of_numeric_columns():
    """A rule about columns of few sites has fired before any sum of a numeric column is asked for."""
    result = secirls.fit(made(pooled_obs())[0], design="~ condition + year", **SETTINGS)
    kinds = [told["query"] for told in result.report["rounds"]]
    assert kinds[:4] == ["census", "covariates", "covariates", "cross_products"]
    assert "covariates" in {stage["stage"] for stage in result.report["stages"]}


@pytest.mark.parametrize("centre", [0.0, 2015.0, -3e9])
@pytest.mark.parametrize("spread", [1e-7, 1.0, 3.3, 1e12])
def test_centres_and_scales_are_near_and_have_few_digits(centre, spread):
    near, scale = covariates.nearest(centre, spread)
    assert abs(near - centre) <= scale / 32
    assert 0.7 <= spread / scale < 1.5
    assert near / (scale / 16) == np.rint(near / (scale / 16))


class StoppedError(Exception):
    """Ends a fit after a round."""


@pytest.mark.parametrize("last", [0, 1, 3, 8])
def test_a_fit_that_stopped_goes_on_in_the_scaled_design(tmp_path, last):
    sites, _ = made(pooled_obs())
    files = {name: str(tmp_path / f"{name}.h5ad") for name in sites}
    for name, adata in sites.items():
        adata.write_h5ad(files[name])
    options = {name: value for name, value in SETTINGS.items() if name != "engine"}
    asked = Manifest.read("test", sites=files, engine="local", fit={"design": "~ condition * year", **options})

    def stop(told):
        if told.round == last:
            raise StoppedError

    with pytest.raises(StoppedError):
        fitting.fit_manifest(asked, tmp_path / "stopped", on_round=stop)
    resumed, whole = fitting.resume(tmp_path / "stopped"), fitting.fit_manifest(asked, tmp_path / "whole")
    assert resumed.table.equals(whole.table)
    assert resumed.coefficients.equals(whole.coefficients)


NEARLY = "columns of numbers are nearly the same as others over all 42 samples: year, I"


def test_powers_of_numbers_far_from_zero_are_refused_and_of_near_ones_fitted():
    """The square of a year is the year, but for a thousandth of it; counted from 2015 the same model is fitted."""
    obs = pooled_obs()
    sites, counts = made(obs)
    with pytest.raises(InputError, match=NEARLY):
        secirls.fit(sites, design="~ condition + year + I(year**2)", **SETTINGS)
    since = obs.assign(since=obs["year"] - 2015)
    sites, counts = made(since)
    X = np.asarray(Formula("~ condition + since + I(since**2)").get_model_matrix(since), dtype=float)
    result = secirls.fit(sites, design="~ condition + since + I(since**2)", **SETTINGS)
    assert_pooled(result, counts, since, X, np.array([0.0, 0, 0, 1]))


def test_without_the_refusal_most_genes_would_have_another_fold_change(monkeypatch):
    """The broken twin: coefficients leave the box that R's are kept in, and every other one of the gene is off."""
    obs = pooled_obs()
    obs["since"] = obs["year"] - 2015
    sites, _ = made(obs)
    options = {"engine": "local", "protocol": "plain", "kernel": "numpy", "contrast": ("condition", "b", "a")}
    options |= {"size_factors": "sf", "dispersions": "alpha"}
    right = secirls.fit(sites, design="~ since + I(since**2) + condition", **options).table
    monkeypatch.setattr(ranks, "MOST_INFLATED", 1e6)
    wrong = secirls.fit(sites, design="~ year + I(year**2) + condition", **options).table
    assert right["status"].eq("converged").all()
    caught = wrong["status"].eq("caught")
    assert caught.sum() > GENES / 2
    assert (np.abs(wrong["log2FoldChange"] - right["log2FoldChange"])[caught] > 0.01 * right["lfcSE"][caught]).all()
