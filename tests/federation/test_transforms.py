"""A site's transformed samples: the size factors of the fit, bit for bit, on the scale of its trend."""

import json
import shutil
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.algorithms.groundwork.normalisation import NormalisedQuery, PositiveNormalisedQuery
from secirls.input_error import InputError
from secirls.numerics.trend.local_trend import LocalTrend
from secirls.numerics.trend.stabilised import stabilised
from secirls.numerics.trend.trend import Trend
from secirls.outputs.free_folder import KEPT
from secirls.outputs.results import Result
from secirls.outputs.tables.kept_fit import KeptFit

GENES, EACH = 80, 6
OPTIONS = {"engine": "local", "kernel": "numpy", "protocol": "plain", "design": "~ condition", "genes": "intersection"}
QUICK = {**OPTIONS, "preset": "irls"}
NAMES = [f"g{i}" for i in range(GENES)]


@pytest.fixture(scope="module")
def sites():
    """Three sites of six samples: genes in other orders, one more at each; g7 is at one site alone, g8 nowhere."""
    rng = np.random.default_rng(5)
    base = rng.uniform(1.0, 6.0, GENES)
    found = {}
    for k, site in enumerate(("berlin", "lyon", "turin")):
        depth = rng.uniform(0.4, 2.5, EACH)
        mu = depth[:, None] * np.exp(base + 0.1 * rng.normal(size=(EACH, 1)))
        counts = rng.negative_binomial(6, 6 / (6 + mu))
        counts[:, 8] = 0
        counts[:, 7] *= site == "lyon"
        counts = np.column_stack([counts, rng.poisson(5, EACH)])
        order = rng.permutation(GENES + 1)
        obs = pd.DataFrame(
            {
                "condition": ["u", "t"] * (EACH // 2),
                "near": depth / 1.3,
                "library": depth * 2e6,
                "age": np.arange(EACH) + k,
            },
            index=[f"{site}{i}" for i in range(EACH)],
        )
        names = np.array([*NAMES, f"only-{site}"])[order]
        var = pd.DataFrame({"symbol": [f"sym-{name}" for name in names]}, index=names)
        found[site] = anndata.AnnData(counts[:, order].astype(np.int32), obs=obs, var=var)
    return found


@pytest.fixture(scope="module")
def fitted(sites):
    return secirls.fit(sites, **OPTIONS)


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    place = tmp_path_factory.mktemp("fit") / "out"
    fitted.write(place)
    return place


@pytest.fixture
def overheard(monkeypatch):
    """Sets of size factors that sites kept during a fit."""
    kept = []
    for kind in (NormalisedQuery, PositiveNormalisedQuery):
        own = kind.apply

        def apply(self, samples, own=own):
            after = own(self, samples)
            if samples.n_genes == GENES:  # else a site tries its arithmetic on invented samples
                kept.append(after.size_factors.tobytes())
            return after

        monkeypatch.setattr(kind, "apply", apply)
    return kept


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"control_genes": ("g3", "g60", "g11", "g12", "g40")},
        {"size_factor_type": "poscounts"},
        {"size_factor_type": "poscounts", "control_genes": ("g3", "g7", "g61", "g11", "g12")},
        {"size_factors": "near"},
        {"size_factors": "library"},
        {"design": "~ site + condition"},
        {"protocol": "pairwise"},
    ],
    ids=["ratio", "control", "poscounts", "poscounts-control", "brought", "brought-scaled", "own-columns", "lock-step"],
)
def test_size_factors_are_those_of_the_fit_to_the_last_bit(sites, overheard, tmp_path, asked):
    given = {
        name: anndata.AnnData(data.X, obs=data.obs.assign(site=name), var=data.var) for name, data in sites.items()
    }
    secirls.fit(given, **{**QUICK, **asked}).write(tmp_path / "fit")
    in_the_fit = set(overheard)
    kept = KeptFit.read(tmp_path / "fit")
    result = replace(Result.read(tmp_path / "fit"), report={"trend": {"kind": "mean", "mean": 0.1}})
    assert len(in_the_fit) == len(sites)
    made = {name: result.transform(data) for name, data in sites.items()}
    assert {data.obs["size_factor"].to_numpy().tobytes() for data in made.values()} == in_the_fit
    for name, data in made.items():
        raw = sites[name][:, list(kept.genes)].X
        assert np.array_equal(data.X, raw)
        assert np.array_equal(data.layers["normalised"], raw / data.obs["size_factor"].to_numpy()[:, None])
    twin = replace(kept, log_means=kept.log_means * (1 + 1e-15), sizing=kept.sizing * (1 + 3e-16))
    broken = replace(result, kept=twin)
    if asked != {"size_factors": "near"}:  # which nothing public is needed for
        off = {broken.transform(data).obs["size_factor"].to_numpy().tobytes() for data in sites.values()}
        assert off != in_the_fit


@pytest.mark.parametrize("trend", ["parametric", "mean", "local"])
def test_values_are_the_stabilised_counts_of_the_trend_in_the_report(sites, folder, tmp_path, trend):
    if trend != "parametric":
        folder = tmp_path / "fit"
        secirls.fit(sites, **OPTIONS, trend=trend).write(folder)
    result, again = Result.read(folder), KeptFit.read(folder)
    told = result.report["trend"]
    assert told["kind"] == trend
    made = result.transform(sites["lyon"])
    if trend == "local":
        known = ~np.isnan(result.dispersions["dispFit"].to_numpy())
        curve = Trend("local", local=LocalTrend(*again.local_trend))
        assert np.array_equal(curve.at(again.base_means[known]), result.dispersions["dispFit"].to_numpy()[known])
        sizes = [result.transform(data).obs["size_factor"].to_numpy() for data in sites.values()]
        inverse = float(np.mean(1.0 / np.concatenate(sizes)))
        want = stabilised(made.layers["normalised"], curve, again.base_means, inverse)
        assert made.layers["vst"] == pytest.approx(want, rel=1e-9)
        here = float(np.mean(1.0 / made.obs["size_factor"]))  # as if a site took its own samples for all
        assert made.layers["vst"] != pytest.approx(stabilised(made.layers["normalised"], curve, again.base_means, here))
        return
    named = {name: told[name] for name in ("asymptotic", "extra_poisson", "mean") if name in told}
    want = stabilised(made.layers["normalised"], Trend(trend, **named), again.base_means, np.nan)
    assert np.array_equal(made.layers["vst"], want)
    if trend == "parametric":
        swapped = Trend(trend, named["extra_poisson"], named["asymptotic"])
        assert not np.allclose(
            made.layers["vst"], stabilised(made.layers["normalised"], swapped, np.zeros(0), 1), atol=0.1
        )


def test_a_fit_without_groups_is_a_blind_transform(sites):
    """R's ``blind = TRUE``: dispersions are around one mean, so that a gene which differs between groups is noisy."""
    moved, shifted = NAMES[10:40], {}
    for name, data in sites.items():
        treated = data.obs["condition"].to_numpy() == "t"
        times = np.where(np.outer(treated, data.var_names.isin(moved)), 40, 1)
        shifted[name] = anndata.AnnData(data.X * times, obs=data.obs, var=data.var)
    asked = {**OPTIONS, "trend": "mean"}
    fits = {design: secirls.fit(shifted, **{**asked, "design": design}) for design in ("~ 1", "~ condition")}
    blind, seeing = (fit.dispersions["dispGeneEst"].loc[moved] for fit in fits.values())
    assert (blind > 2 * seeing).mean() > 0.9
    made, other = (fit.transform(shifted["lyon"]).layers for fit in fits.values())
    curve = Trend("mean", mean=fits["~ 1"].report["trend"]["mean"])
    assert np.array_equal(made["normalised"], other["normalised"])
    assert np.array_equal(made["vst"], stabilised(made["normalised"], curve, np.zeros(0), np.nan))
    assert not np.allclose(made["vst"], other["vst"], atol=0.1)


def test_a_sample_has_the_same_values_beside_any_others(sites, fitted):
    whole = fitted.transform(sites["turin"])
    some = fitted.transform(sites["turin"][[4, 1]].copy())
    assert np.array_equal(some.layers["vst"], whole.layers["vst"][[4, 1]])
    other = sites["turin"][[4]].copy()
    other.X = other.X * 2
    double = fitted.transform(other)
    assert double.obs["size_factor"].iloc[0] == pytest.approx(2 * whole.obs["size_factor"].iloc[4])


def test_the_genes_are_the_fits_in_its_order_and_the_rest_of_obs_and_var_stays(sites, fitted):
    made = fitted.transform(sites["berlin"])
    assert list(made.var_names) == list(fitted.kept.genes)
    assert set(made.var_names) == set(NAMES)
    assert made.var["symbol"].tolist() == [f"sym-{gene}" for gene in made.var_names]
    assert made.obs["age"].tolist() == sites["berlin"].obs["age"].tolist()
    assert "size_factor" not in sites["berlin"].obs


def test_what_lacks_genes_counts_or_a_trend_is_refused(sites, fitted):
    with pytest.raises(InputError, match=r"AnnData in memory.*lacks 2 of the fit's 80 genes, 'g1\d?' the first"):
        fitted.transform(sites["lyon"][:, ~sites["lyon"].var_names.isin(["g1", "g10"])].copy())
    broken = sites["lyon"].copy()
    broken.X = broken.X + 0.5
    with pytest.raises(InputError, match="X: has a fractional count"):
        fitted.transform(broken)
    with pytest.raises(InputError, match="layer 'counts': is missing"):
        fitted.transform(sites["lyon"], layer="counts")
    with pytest.raises(InputError, match="neither a path nor an AnnData"):
        fitted.transform(7)
    for told, why in (
        (None, "has no trend"),
        ({"kind": "mean", "mean": 1e-7, "flat": True}, "at its floor"),
        ({"kind": "parametric", "asymptotic": 0.1}, "tell no trend"),
        ({"kind": "parametric", "asymptotic": 0.1, "extra_poisson": -1.0}, "tell no trend"),
        ({"kind": "local"}, "tell no trend"),
        ({"kind": "spline"}, "tell no trend"),
    ):
        with pytest.raises(InputError, match=why):
            replace(fitted, report={"trend": told}).transform(sites["lyon"])
    unknown = replace(fitted.kept, sizing=np.array([1.0, 0.0, np.nan]), local_trend=np.array([[0.0], [-2.0], [0.0]]))
    with pytest.raises(InputError, match="tell no trend"):
        replace(fitted, kept=unknown, report={"trend": {"kind": "local"}}).transform(sites["lyon"])
    nothing = replace(fitted.kept, log_means=np.full(GENES, np.nan))
    with pytest.raises(InputError, match="came to no size factors"):
        replace(fitted, kept=nothing).transform(sites["lyon"])


def test_a_sample_without_counts_that_count_is_refused_by_name_at_home(sites):
    result = secirls.fit(sites, **QUICK, size_factor_type="poscounts", control_genes=("g3", "g11"))
    result = replace(result, report={"trend": {"kind": "mean", "mean": 0.1}})
    empty = sites["lyon"].copy()
    counts = empty.X.copy()
    counts[2, empty.var_names.isin(["g3", "g11"])] = 0
    empty.X = counts
    with pytest.raises(InputError, match="has a sample without a count in any gene") as refused:
        result.transform(empty)
    assert "lyon2" not in str(refused.value)
    assert "lyon2" in refused.value.in_full


@pytest.mark.parametrize(
    "wrong",
    [
        {"log_means": np.zeros(0)},
        {"log_means": np.zeros(GENES + 1)},
        {"sizing": np.ones(2)},
        {"sizing": np.array([0.0, 0.0, 1.0])},
        {"sizing": np.array([1.0, 1e300, 1.0])},
        {"local_trend": np.zeros((2, 6))},
        {"local_trend": np.zeros((3, 2))},
        {"local_trend": np.array([[0.0], [np.nan], [0.0]])},
    ],
)
def test_a_folder_whose_public_numbers_do_not_fit_is_refused(fitted, folder, tmp_path, wrong):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    replace(fitted.kept, **wrong).write(copy / KEPT)
    with pytest.raises(InputError, match="is damaged"):
        Result.read(copy)


def test_what_is_kept_for_it_was_opened_in_a_sum(sites, fitted):
    counts = np.concatenate([data[:, list(fitted.kept.genes)].X for data in sites.values()])
    logs, used = fitted.kept.log_means, np.isfinite(fitted.kept.log_means)
    assert used.tolist() == (counts > 0).all(axis=0).tolist()
    assert logs[used] == pytest.approx(np.log(counts[:, used]).mean(axis=0), rel=1e-12)
    assert json.loads(json.dumps(fitted.report["trend"])) == fitted.report["trend"]
