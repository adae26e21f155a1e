"""Numeric columns beside the likelihood-ratio test, shrinkage and contrasts afterwards: all on the user's scale.

Held to pooled fits by Newton's method in the user's columns, which share no code with the package.
"""

from __future__ import annotations

import numpy as np
import pytest
from formulaic import Formula
from scipy.special import gammaln
from scipy.stats import chi2

import secirls
from secirls import Result, fitting
from secirls.agreement.manifest import Manifest
from secirls.algorithms.groundwork.scaling import Scaled
from secirls.input_error import InputError
from secirls.numerics.inference import shrinkage
from secirls.numerics.own import coefficients
from secirls.outputs.tables.gene_tables import csv_of
from tests.federation.test_numeric_covariates import ALPHA, SETTINGS, made, pooled, pooled_obs


def columns(design, obs):
    return np.asarray(Formula(design).get_model_matrix(obs), dtype=float)


def likelihoods(counts, X, s, beta):
    """Log-likelihood of each gene ``(genes,)`` at coefficients ``(genes, params)``."""
    mu, r = s * np.exp(beta @ X.T), 1 / ALPHA
    y = counts.T.astype(float)
    terms = gammaln(y + r) - gammaln(r) - gammaln(y + 1) + y * np.log(mu / (mu + r)) + r * np.log(r / (mu + r))
    return terms.sum(axis=1)


PAIRS = [
    ("~ condition * year", "~ condition + year", 1),
    ("~ condition * year", "~ condition", 2),
    ("~ condition + year", "~ 0 + condition", 1),
    ("~ year + condition", "~ year", 1),
    ("~ condition + year", "~ 1", 2),
    ("~ dose + condition", "~ 0 + dose", 2),  # through the origin: the zero of a dose may not be moved there
    ("~ condition + center(days) + stamp", "~ center(days)", 2),
]


def assert_ratio(result, obs, counts, large, small, freedom):
    s = obs["sf"].to_numpy()
    if "center" in large:
        obs = obs.assign(days=obs["days"] - obs["days"].mean())
        large, small = (text.replace("center(days)", "days") for text in (large, small))
    both = [columns(text, obs) for text in (large, small)]
    likelihood = [likelihoods(counts, X, s, pooled(counts, X, s)[0]) for X in both]
    stat = 2 * (likelihood[0] - likelihood[1])
    np.testing.assert_allclose(result.table["stat"], stat, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(result.table["pvalue"], chi2.sf(stat, freedom), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("large", "small", "freedom"), PAIRS)
def test_a_likelihood_ratio_is_that_of_the_user_s_columns(large, small, freedom):
    obs = pooled_obs()
    sites, counts = made(obs)
    options = {name: value for name, value in SETTINGS.items() if name != "min_mu"}
    result = secirls.fit(sites, design=large, test="lrt", reduced=small, **options)
    assert result.report["test"]["degrees_of_freedom"] == freedom
    if small != "~ 1":  # R's way there is the mean, which is not the most likely one
        assert_ratio(result, obs, counts, large, small, freedom)
    assert result.table["stat"].notna().all()


def test_without_the_way_between_the_two_scales_the_ratio_would_be_wrong(monkeypatch):
    """The broken twin: the smaller design in the user's columns, the larger one in the scaled."""
    obs = pooled_obs()
    sites, counts = made(obs)
    monkeypatch.setattr(Scaled, "reduced", lambda scaled, small: small)
    options = {name: value for name, value in SETTINGS.items() if name != "min_mu"}
    result = secirls.fit(sites, design="~ dose + condition", test="lrt", reduced="~ 0 + dose", **options)
    with pytest.raises(AssertionError):
        assert_ratio(result, obs, counts, "~ dose + condition", "~ 0 + dose", 2)


def most_likely_beside(counts, X, s, at, scale, begin):
    """Maxima a posteriori ``(genes, params)`` in the user's columns: Newton's method, from a point."""
    found = []
    others = np.full(X.shape[1], 1 / 225.0)
    others[at] = 0.0
    for gene in range(counts.shape[1]):
        b = begin[gene]
        y = counts[:, gene].astype(float)

        def value(b, gene=gene):
            nll = -likelihoods(counts[:, [gene]], X, s, b[None])[0]
            return nll + 0.5 * others @ (b * b) + np.log1p((b[at] / scale) ** 2)

        for _ in range(500):
            mu = s * np.exp(X @ b)
            gradient = -X.T @ ((y - mu) / (1 + ALPHA * mu)) + others * b
            gradient[at] += 2 * b[at] / (scale**2 + b[at] ** 2)
            weights = mu * (1 + ALPHA * y) / (1 + ALPHA * mu) ** 2
            curvature = (X * weights[:, None]).T @ X + np.diag(others)
            curvature[at, at] += 2 / (scale**2 + b[at] ** 2)
            step, size = np.linalg.solve(curvature, -gradient), 1.0
            while value(b + size * step) > value(b) and size > 1e-12:
                size /= 2
            b = b + size * step
            if np.abs(size * step).max() < 1e-11:
                break
        found.append((value(b), b))
    return found


@pytest.mark.parametrize(
    ("design", "name", "at"), [("~ condition + year", "condition[T.b]", 1), ("~ condition + dose", "dose", 2)]
)
def test_the_prior_of_shrinkage_is_on_the_user_s_coefficients(design, name, at):
    obs = pooled_obs().assign(year=lambda told: told["year"] - 2000)
    sites, counts = made(obs, ("dose", 0.3))
    X, s = columns(design, obs), obs["sf"].to_numpy()
    result = secirls.fit(sites, design=design, shrink=name, **SETTINGS)
    scale = result.report["shrinkage"]["prior_scale"]
    likely = pooled(counts, X, s)[0]
    zero = likely.copy()
    zero[:, at] = 0.0
    ends = [most_likely_beside(counts, X, s, at, scale, begin) for begin in (likely, zero)]
    best = np.array([min(pair, key=lambda end: end[0])[1][at] for pair in zip(*ends, strict=True)])
    np.testing.assert_allclose(result.table["shrunkenLog2FoldChange"] * np.log(2), best, atol=1e-5)


UNIT = 1e-6


@pytest.fixture(scope="module")
def small_doses():
    """Doses in a millionth of their unit, so that slopes per unit are a million times as large; and the lower minima.

    Those are of slopes in the smaller unit, where the prior is narrower by as much.
    """
    obs = pooled_obs()
    sites, counts = made(obs, ("dose", 1.5))
    for site in sites.values():
        site.obs["dose"] *= UNIT
    result = secirls.fit(sites, design="~ condition + dose", shrink="dose", **SETTINGS)
    X, s = columns("~ condition + dose", obs), obs["sf"].to_numpy()
    likely = pooled(counts, X, s)[0]
    zero = likely * np.array([1.0, 1.0, 0.0])
    scale = result.report["shrinkage"]["prior_scale"] * UNIT
    ends = [most_likely_beside(counts, X, s, 2, scale, begin) for begin in (likely, zero)]
    best = np.array([min(pair, key=lambda end: end[0])[1][2] for pair in zip(*ends, strict=True)])
    return sites, best


def assert_lower_minima(small_doses):
    sites, best = small_doses
    table = secirls.fit(sites, design="~ condition + dose", shrink="dose", **SETTINGS).table
    np.testing.assert_allclose(table["shrunkenLog2FoldChange"] * np.log(2) * UNIT, best, rtol=1e-5, atol=1e-9)


def test_slopes_per_unit_of_small_numbers_are_shrunken_to_the_lower_minimum(small_doses):
    assert (np.abs(small_doses[1]) > 0.1).any(), "some dose has an effect that no prior hides"
    assert_lower_minima(small_doses)


@pytest.mark.slow
def test_slopes_that_went_four_of_their_own_units_at_a_time_would_never_arrive(small_doses, monkeypatch):
    monkeypatch.setattr(shrinkage.Prior, "_longest", lambda self: shrinkage.LONGEST_STEP)
    with pytest.raises(AssertionError):
        assert_lower_minima(small_doses)


def test_without_the_way_to_the_user_s_columns_the_prior_would_be_another(monkeypatch):
    """The broken twin: the prior on scaled coefficients, which a dose in thousandths makes a thousand times smaller."""
    obs = pooled_obs()
    sites, _ = made(obs, ("dose", 0.3))
    right = secirls.fit(sites, design="~ condition + dose", shrink="dose", **SETTINGS)
    from secirls.algorithms import whole_fit

    monkeypatch.setattr(whole_fit, "restricted", lambda algorithm, basis, products: algorithm)
    monkeypatch.setattr(whole_fit, "to_user", lambda beta, T: beta)
    other = secirls.fit(sites, design="~ condition + dose", shrink="dose", **SETTINGS)
    difference = right.table["shrunkenLog2FoldChange"] - other.table["shrunkenLog2FoldChange"]
    assert difference.abs().max() > 1e-3


BESIDE_OWN = [
    ("~ site + condition + year", "~ 0 + site + condition + year", "condition[T.b]"),
    ("~ site + condition + year", "~ 0 + site + condition + year", "year"),
    ("~ site + condition + stamp", "~ 0 + site + condition + stamp", "condition[T.b]"),
    ("~ site * dose + condition", "~ 0 + site + site:dose + condition", "condition[T.b]"),
]


def shrunken_twice(own, joint, name):
    """Shrunken changes and their deviations ``(genes, 2)``, with columns at home and with all of them summed."""
    sites, _ = made(pooled_obs(), ("dose", 0.3))
    results = (
        secirls.fit(sites, design=own, shrink=name, **SETTINGS),
        secirls.fit(sites, design=joint, shrink=name, own_columns="shared", **SETTINGS),
    )
    assert len(results[0].coefficients.columns) < len(results[1].coefficients.columns)
    return [result.table[["shrunkenLog2FoldChange", "posteriorSD"]].to_numpy() for result in results]


@pytest.mark.parametrize(
    ("own", "joint", "name"),
    [*(pytest.param(*case, marks=pytest.mark.slow) for case in BESIDE_OWN[1:3]), BESIDE_OWN[0], BESIDE_OWN[3]],
)
def test_shrinkage_beside_numbers_and_own_columns_is_that_of_all_columns_together(own, joint, name):
    home, shared = shrunken_twice(own, joint, name)
    np.testing.assert_allclose(home, shared, rtol=0, atol=1e-8)
    assert (np.abs(shared) > 1e-8).all()


@pytest.mark.parametrize(("own", "joint", "name"), [BESIDE_OWN[0], BESIDE_OWN[3]])
def test_with_the_prior_on_scaled_own_columns_it_would_be_another(own, joint, name, monkeypatch):
    """The broken twin: a site that takes its scaled columns for the user's."""
    monkeypatch.setattr(coefficients, "_of_user", lambda samples: np.eye(samples.own_size, samples.joint.n_params))
    home, shared = shrunken_twice(own, joint, name)
    assert np.abs(home - shared)[:, 0].max() > 1e-5


def test_contrasts_made_afterwards_are_those_of_a_fit_that_asked_for_them(tmp_path):
    sites, _ = made(pooled_obs())
    whole = secirls.fit(sites, design="~ condition * year", **SETTINGS)
    whole.write(tmp_path / "fit")
    kept = Result.read(tmp_path / "fit")
    assert csv_of(kept.table) == (tmp_path / "fit" / "results.csv").read_bytes()
    assert csv_of(kept.coefficients) == (tmp_path / "fit" / "coefficients.csv").read_bytes()
    asked = secirls.fit(sites, design="~ condition * year", contrast=("year", "2020", "2010"), **SETTINGS)
    assert csv_of(kept.contrast("year", "2020", "2010").table) == csv_of(asked.table)
    sum_of_two = kept.contrast(coefficients=["year", "condition[T.b]:year"]).table["log2FoldChange"]
    slopes = (kept.coefficients["year"] + kept.coefficients["condition[T.b]:year"]) / np.log(2)
    np.testing.assert_allclose(sum_of_two, slopes, rtol=1e-9)


def test_groups_without_a_count_are_told_beside_numbers_too():
    obs = pooled_obs().assign(batch=lambda told: np.tile(["p", "q", "r"], len(told) // 3))
    sites, _ = made(obs)
    for adata in sites.values():
        adata.X[np.isin(adata.obs["batch"], ["q", "r"]), 0] = 0
    result = secirls.fit(sites, design="~ year + condition + batch", contrast=("batch", "r", "q"), **SETTINGS)
    assert result.table["reason"].str.contains("No sample of the compared groups").tolist() == [True] + [False] * 7


NESTED = "~ condition + condition:animal + year"


def nested(obs):
    """Three animals in one group, two in the other."""
    animals = {"a": np.resize(list("ijk"), len(obs)), "b": np.resize(list("ijji"), len(obs))}
    return obs.assign(animal=np.where(obs["condition"] == "a", animals["a"], animals["b"]))


def test_dropped_columns_are_out_of_the_smaller_design_and_of_contrasts_too(tmp_path):
    obs = nested(pooled_obs())
    sites, counts = made(obs)
    empty = "condition[b]:animal[T.k]"
    options = {"design": NESTED, "drop_empty": True, **{k: v for k, v in SETTINGS.items() if k != "min_mu"}}
    result = secirls.fit(sites, test="lrt", reduced="~ condition + year", **options)
    assert result.report["test"]["degrees_of_freedom"] == 3
    full = Formula(NESTED).get_model_matrix(obs)
    X, s = np.asarray(full.drop(columns=empty), dtype=float), obs["sf"].to_numpy()
    both = [likelihoods(counts, x, s, pooled(counts, x, s)[0]) for x in (X, columns("~ condition + year", obs))]
    np.testing.assert_allclose(result.table["stat"], 2 * (both[0] - both[1]), rtol=1e-5, atol=1e-4)
    result.write(tmp_path / "fit")
    kept = Result.read(tmp_path / "fit")
    assert csv_of(kept.table) == (tmp_path / "fit" / "results.csv").read_bytes()
    with pytest.raises(InputError, match="dropped: no sample is in it"):
        kept.contrast(coefficients=[empty])
    vector = tuple(float(name == "year") for name in kept.report["design_columns"])
    assert (
        secirls.fit(sites, contrast_vector=vector, **options)
        .table["log2FoldChange"]
        .equals(kept.contrast(vector=vector).table["log2FoldChange"])
    )
    with pytest.raises(InputError, match="leave a term out"):
        secirls.fit(sites, test="lrt", reduced=NESTED, **options)


class StoppedError(Exception):
    """Ends a fit after a round."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What is asked of sites that follow the algorithm, columns dropped and scaled; and the whole fit."""
    folder = tmp_path_factory.mktemp("undisturbed")
    sites, _ = made(nested(pooled_obs()))
    files = {name: str(folder / f"{name}.h5ad") for name in sites}
    for name, adata in sites.items():
        adata.write_h5ad(files[name])
    options = {"kernel": "numpy", "size_factors": "sf", "dispersions": "alpha", "cooks": False, "drop_empty": True}
    options |= {"test": "lrt", "reduced": "~ condition + year", "design": NESTED}
    asked = Manifest.read("test", sites=files, engine="local", fit=options)
    return asked, fitting.fit_manifest(asked, folder / "whole")


@pytest.mark.parametrize("last", [0, *(pytest.param(last, marks=pytest.mark.slow) for last in (1, 3)), 9])
def test_sites_that_follow_the_algorithm_go_on_where_columns_were_dropped_and_scaled(undisturbed, tmp_path, last):
    asked, whole = undisturbed
    assert asked.fit.lock_step

    def stop(told):
        if told.round == last:
            raise StoppedError

    with pytest.raises(StoppedError):
        fitting.fit_manifest(asked, tmp_path / "stopped", on_round=stop)
    resumed = fitting.resume(tmp_path / "stopped")
    assert csv_of(resumed.table) == csv_of(whole.table)
    assert "drop_empty" in [told["query"] for told in whole.report["rounds"]]
