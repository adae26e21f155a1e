"""A factor of sixty patients, two samples each: the sums of three sites give the maximum of the pooled likelihood."""

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls

GENES, PATIENTS, ALPHA = 8, 20, 0.1
SITES = ("berlin", "lyon", "turin")
TREATED = np.tile([0.0, 1.0], PATIENTS)


@pytest.fixture(scope="module")
def pairs():
    """AnnData by site: every patient before and after."""
    rng = np.random.default_rng(7)
    made = {}
    for site in SITES:
        means = np.exp(3 + 0.7 * rng.normal(size=(PATIENTS, GENES)).repeat(2, axis=0))
        means *= np.exp(np.outer(TREATED, np.linspace(-1, 1, GENES)))
        counts = rng.poisson(means * rng.gamma(1 / ALPHA, ALPHA, means.shape))
        obs = pd.DataFrame({"patient": np.repeat([f"{site}{i:02}" for i in range(PATIENTS)], 2), "sf": 1.0})
        obs["time"] = np.where(TREATED > 0, "post", "pre")
        obs.index = [f"{site}-{i}" for i in range(2 * PATIENTS)]
        var = pd.DataFrame({"alpha": ALPHA}, index=[f"g{i}" for i in range(GENES)])
        made[site] = anndata.AnnData(counts, obs=obs, var=var)
    return made


@pytest.fixture(scope="module")
def fitted(pairs):
    return secirls.fit(
        pairs,
        design="~ patient + time",
        own_columns="shared",
        levels={"time": ("pre", "post")},
        size_factors="sf",
        dispersions="alpha",
        preset="irls",
        engine="local",
        kernel="numpy",
    )


def pooled(pairs):
    """Counts ``(samples, genes)`` and the design of all, by pandas."""
    obs = pd.concat([site.obs for site in pairs.values()])
    dummies = pd.get_dummies(obs["patient"], dtype=float).to_numpy()[:, 1:]
    design = np.column_stack([np.ones(len(obs)), dummies, (obs["time"] == "post").astype(float)])
    return np.concatenate([site.X for site in pairs.values()]), design


def distance_and_errors(counts, design, beta):
    """How far one Newton step from here would go, ``(params, genes)``, and the errors of the last column."""
    mean = np.exp(np.clip(design @ beta, -30, 30))
    weights = mean / (1 + ALPHA * mean)
    steps, errors = np.empty_like(beta), np.empty(beta.shape[1])
    for gene in range(beta.shape[1]):
        inverse = np.linalg.inv(design.T * weights[:, gene] @ design)
        score = design.T @ ((counts[:, gene] - mean[:, gene]) / (1 + ALPHA * mean[:, gene]))
        steps[:, gene], errors[gene] = inverse @ score, np.sqrt(inverse[-1, -1])
    return steps, errors


def test_sixty_patients_are_fitted_as_if_their_samples_lay_together(pairs, fitted):
    counts, design = pooled(pairs)
    steps, errors = distance_and_errors(counts, design, fitted.coefficients.iloc[:, 1:].to_numpy(float).T)
    assert np.abs(steps[-1]).max() < 1e-4
    np.testing.assert_allclose(fitted.table["lfcSE"] * np.log(2), errors, rtol=1e-3)


def test_without_one_patients_column_the_maximum_is_elsewhere(pairs, fitted):
    counts, design = pooled(pairs)
    beta = fitted.coefficients.iloc[:, 1:].to_numpy(float).T
    without = np.delete(design, 5, axis=1)
    steps, _ = distance_and_errors(counts, without, np.delete(beta, 5, axis=0))
    assert np.abs(steps).max() > 1e-2
