"""A whole DESeq2 in which columns of one site stay there: the joint fit, symmetric sums, and what may go wrong.

Held to the fit with every column shared, at a ridge too small to be seen on either side: the ridge is all that block
elimination leaves different, for own columns have none.
"""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls import fitting
from secirls.aggregator.aggregator import lead
from secirls.agreement.manifest import Manifest
from secirls.agreement.order import Place, Task
from secirls.agreement.record import Record
from secirls.algorithms.regression import irls_queries
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.designs.own_columns import OwnColumns
from secirls.numerics.own.coefficients import best_sums
from secirls.site.site import Site
from tests.files import write

SITES, GENES, EACH = ("berlin", "lyon", "turin", "vigo"), 30, 16
NO_RIDGE = 1e-12
SILENT = {"engine": "local", "protocol": "plain", "min_kept": 1}


def made(sites=SITES, each=EACH, seed=3, patients=False):
    """AnnData by site: a site's effect on every gene, a treatment's on some, and a few counts that are far off."""
    rng = np.random.default_rng(seed)
    base, effect = rng.uniform(2.5, 6, GENES), np.where(np.arange(GENES) % 3 == 0, 0.8, 0.0)
    alpha = 0.05 + 2.0 / np.exp(base)
    found = {}
    for site in sites:
        treated = np.arange(each) % 2
        depth = np.exp(0.25 * rng.normal(size=(each, 1)))
        mu = np.exp(base + 0.5 * rng.normal(size=GENES) + np.outer(treated, effect)) * depth
        counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(np.int32)
        obs = pd.DataFrame(
            {"site": site, "condition": np.where(treated, "b", "a"), "age": rng.uniform(30, 70, each).round(1)},
            index=[f"{site}{i}" for i in range(each)],
        )
        if patients:
            obs["patient"] = [f"{site}-p{i // 2}" for i in range(each)]
        found[site] = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)]))
    found[sites[0]].X[3, 4] = 40 * found[sites[0]].X[:, 4].max()
    found[sites[1]].X[5, 9] = 40 * found[sites[1]].X[:, 9].max()
    return found


@pytest.fixture(scope="module")
def data():
    return made()


def fitted(way, sites, **options):
    asked = {**SILENT, "design": "~ site + condition", "ridge": NO_RIDGE, **options}
    return secirls.fit(sites, own_columns=way, **asked)


def both(sites, **options):
    """The fit with own columns at home, and with all of them shared."""
    return [fitted(way, sites, **options) for way in ("own", "shared")]


def assert_equal(own, shared, *, coefficient="condition[T.b]", lfc=1e-6, error=1e-7, dispersion=1e-6):
    ours, theirs = own.table, shared.table
    np.testing.assert_allclose(own.coefficients[coefficient], shared.coefficients[coefficient], rtol=lfc, atol=lfc)
    np.testing.assert_allclose(ours["lfcSE"], theirs["lfcSE"], rtol=error)
    np.testing.assert_allclose(ours["dispersion"], theirs["dispersion"], rtol=dispersion)
    for name in ("status", "replaced", "outlier", "iterations"):
        assert ours[name].tolist() == theirs[name].tolist(), name
    assert (ours["padj"] < 0.05).tolist() == (theirs["padj"] < 0.05).tolist()


@pytest.fixture(scope="module")
def commonest(data):
    return both(data)


def test_the_commonest_design_is_the_joint_fit_and_sends_a_part_of_it(commonest):
    own, shared = commonest
    assert_equal(own, shared)
    assert own.table["replaced"].sum() >= 2, "the planted counts were found"
    assert list(own.coefficients.columns) == ["gene", "condition[T.b]"]
    opened = [sum(stage["values"] for stage in fit.report["stages"]) for fit in (own, shared)]
    assert opened[0] < 0.4 * opened[1]


def test_dispersions_given_leave_rounding_alone(data):
    sites = {name: site.copy() for name, site in data.items()}
    for site in sites.values():
        site.var["alpha"] = np.linspace(0.05, 0.4, GENES)
    own, shared = both(sites, dispersions="alpha", preset="irls")
    assert_equal(own, shared, lfc=1e-10, error=1e-11)


@pytest.mark.parametrize("preset", ["irls", pytest.param("pydeseq2", marks=pytest.mark.slow)])
def test_fits_of_other_presets_are_those_with_shared_columns(data, preset):
    own, shared = both(data, preset=preset)
    np.testing.assert_allclose(own.table["log2FoldChange"], shared.table["log2FoldChange"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(own.table["lfcSE"], shared.table["lfcSE"], rtol=1e-5)


def lost():
    """Counts in no proportion to their dispersions, of which IRLS loses some genes, and a count far off in each."""
    sites = made(seed=5)
    rng, alpha = np.random.default_rng(7), np.linspace(1.0, 6.0, GENES)
    for site in sites.values():
        site.X = rng.poisson(rng.gamma(1 / alpha, 3 * alpha, site.shape)).astype(np.int32)
        site.var["alpha"] = alpha
        site.X[rng.integers(EACH), rng.permutation(GENES)[: GENES // 2]] = 60
    given = {"dispersions": "alpha", "size_factor_type": "poscounts"}
    return sites, {**given, "preset": "fedpydeseq2", "se": "clamped", "ridge": 1e-6}


def assert_as_shared(own, shared):
    caught = shared.table["status"] == "caught"
    assert caught.sum() >= 3
    np.testing.assert_allclose(own.table["lfcSE"][caught], shared.table["lfcSE"][caught], rtol=1e-3)
    assert own.table["outlier"].tolist() == shared.table["outlier"].tolist()


@pytest.fixture(scope="module")
def lost_and_shared():
    sites, given = lost()
    return fitted("shared", sites, **given)


def test_genes_of_the_catch_have_the_errors_and_the_outliers_of_shared_columns(lost_and_shared):
    sites, given = lost()
    assert_as_shared(fitted("own", sites, **given), lost_and_shared)


def test_with_the_observed_information_they_have_others(lost_and_shared, monkeypatch):
    """The broken twin."""
    sites, given = lost()
    monkeypatch.setattr(irls_queries, "best_sums", lambda *asked, **_: best_sums(*asked))
    own = fitted("own", sites, **given)
    with pytest.raises(AssertionError):
        assert_as_shared(own, lost_and_shared)


def test_fits_by_optima_of_profiles_are_those_with_shared_columns(data):
    own, shared = both(data, dispersion_fit="optimum", cooks=False)
    assert_equal(own, shared, dispersion=1e-7)


def test_paired_patients_some_without_a_partner():
    sites = made(patients=True)
    sites["lyon"] = sites["lyon"][1:].copy()
    own, shared = both(sites, design="~ patient + condition", min_contributors=1)
    assert list(own.coefficients.columns) == ["gene", "condition[T.b]"]
    assert_equal(own, shared)


def test_a_batch_of_one_site_is_its_own_column_and_the_fit_that_with_shared_ones(data):
    sites = {name: site.copy() for name, site in data.items()}
    for name, site in sites.items():
        site.obs["batch"] = "odd" if name == "vigo" else np.where(np.arange(EACH) % 4 < 2, "one", "two")
    levels = {"batch": ("one", "two", "odd")}
    own, shared = both(sites, design="~ batch + condition", levels=levels)
    assert list(own.coefficients.columns) == ["gene", "Intercept", "batch[T.two]", "condition[T.b]"]
    assert_equal(own, shared)


def test_a_reference_level_of_one_site_is_no_column_and_its_site_is_named(data):
    """No column is that site's, but a difference of columns is: what follows is said, and declaring levels mends it."""
    sites = {name: site.copy() for name, site in data.items()}
    for name, site in sites.items():
        site.obs["batch"] = "odd" if name == "vigo" else np.where(np.arange(EACH) % 4 < 2, "one", "two")
    own = fitted("own", sites, design="~ batch + condition")
    assert list(own.coefficients.columns) == ["gene", "Intercept", "batch[T.one]", "batch[T.two]", "condition[T.b]"]
    assert any("the sums of vigo alone follow" in told for told in own.report["disclosure"])


def test_fits_with_a_numeric_covariate_and_interactions_are_those_with_shared_columns(data):
    for design in ("~ site + age + condition", "~ site * age + condition"):
        own, shared = both(data, design=design, cooks=False, contrast=("condition", "b", "a"))
        assert_equal(own, shared, lfc=1e-5, error=1e-6, dispersion=1e-5)


def test_a_site_that_is_absorbed_adds_nothing_and_is_named(data):
    sites = {name: site.copy() for name, site in data.items()}
    sites["zurich"] = sites["vigo"][sites["vigo"].obs["condition"] == "b"].copy()
    sites["zurich"].obs["site"] = "zurich"
    sites["zurich"].obs_names = [f"z{i}" for i in range(sites["zurich"].n_obs)]
    own, shared = both(sites, cooks=False)
    assert_equal(own, shared)
    assert any("zurich adds nothing to the coefficients" in told for told in own.report["disclosure"])


def test_a_site_that_is_absorbed_is_no_contributor(data):
    """Two sites add to the condition, the third to nothing: no gene is at three sites, and none is fitted."""
    sites = {name: data[name].copy() for name in ("berlin", "lyon", "turin")}
    options = {**SILENT, "design": "~ site + condition"}
    assert secirls.fit(sites, **options).table["status"].eq("converged").all(), "as long as all three add"
    sites["turin"] = sites["turin"][sites["turin"].obs["condition"] == "b"].copy()
    with pytest.raises(InputError, match="no gene has counts at 3 or more sites"):
        secirls.fit(sites, **options)


def absorbed(data):
    """The last of four sites adds nothing; the first gene is counted there alone, the second nowhere."""
    sites = {name: data[name].copy() for name in ("berlin", "lyon", "turin", "vigo")}
    sites["vigo"] = sites["vigo"][sites["vigo"].obs["condition"] == "b"].copy()
    for name, site in sites.items():
        site.X[:, 1 if name == "vigo" else [0, 1]] = 0
    assert (sites["vigo"].X[:, 0] > 0).any()
    return secirls.fit(sites, design="~ site + condition", **SILENT)


def test_of_a_gene_that_an_absorbed_site_alone_counts_nothing_is_said_that_is_not_known(data):
    fit = absorbed(data)
    rows = fit.table.iloc[:2]
    assert rows["status"].eq("all_zero").all(), "no sum tells them apart"
    assert rows["baseMean"].isna().all()
    assert rows["reason"].str.contains("whether another did is not known").all()
    assert fit.dispersions["baseMean"].iloc[:2].isna().all()
    assert fit.table["baseMean"].iloc[2:].notna().any()


def test_the_twin_that_takes_them_for_empty_says_that_no_site_counted_it(data, monkeypatch):
    monkeypatch.setattr(OwnColumns, "adding_nothing", ())
    first = absorbed(data).table.iloc[0]
    assert first["baseMean"] == 0
    assert first["reason"] == "No site counted this gene in any sample."


def test_means_that_are_linear_in_the_design(data):
    """Three groups, one of them at one site alone: as many cells as columns, so no regression is needed for them."""
    sites = {name: site.copy() for name, site in data.items()}
    for name, site in sites.items():
        other = np.where(np.arange(EACH) % 4 == 3, "c", site.obs["condition"])
        site.obs["group"] = other if name == "vigo" else site.obs["condition"]
    own, shared = both(sites, design="~ group", contrast=("group", "b", "a"), min_contributors=1)
    assert list(own.coefficients.columns) == ["gene", "Intercept", "group[T.b]"]
    assert_equal(own, shared, coefficient="group[T.b]")
    assert not any(stage["stage"] == "means" for stage in own.report["stages"]), "nothing was asked for the means"


def test_what_stays_is_said(commonest):
    own, _ = commonest
    told = " ".join(own.report["disclosure"])
    assert "site[T.lyon] at lyon" in told
    assert not any(sentence.startswith("Published: the sums") for sentence in own.report["disclosure"])


def test_a_contrast_of_sites_is_refused_before_the_first_round(data):
    with pytest.raises(InputError, match="which lyon alone adds to and keeps"):
        secirls.fit(data, design="~ site + condition", contrast=("site", "lyon", "berlin"), **SILENT)


def opened_sums(sites, folder, **options):
    """Every sum that an honest aggregator opens, in order: kinds of question and arrays."""
    asked = {name: value for name, value in {**SILENT, **options}.items() if name != "engine"}
    config = Config(design="~ site + condition", **asked)
    parties = {}
    for name, adata in sites.items():
        path = folder / f"{name}.h5ad"
        write(adata, path)
        parties[name] = Site(Place(name, str(path)), config, own_process=False)
    events = lead(Task(config, "fit"), LocalFederation(parties))
    return [event.arrays for event in events if isinstance(event, Record)]


def exchanged(sites):
    """The same files at other sites: everybody has another's."""
    names = list(sites)
    return {name: sites[other] for name, other in zip(names, names[1:] + names[:1], strict=True)}


def same(ours, theirs):
    if len(ours) != len(theirs):
        return False
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def opened(data, tmp_path_factory):
    """The sums of the sites with their own data."""
    return opened_sums(data, tmp_path_factory.mktemp("opened"))


def test_sites_that_exchange_their_data_open_the_same_sums(data, opened, tmp_path):
    """So nothing that is opened can be attributed to a site: every sum of a whole DESeq2, bit for bit."""
    assert len(opened) > 20
    assert same(opened, opened_sums(exchanged(data), tmp_path))


def relabelled(sites):
    """As `exchanged`, but each file says the name of the site that it is at now."""
    told = {}
    for name, site in exchanged(sites).items():
        told[name] = site.copy()
        told[name].obs["site"] = name
    return told


def test_whoever_calls_themselves_what_opens_the_same_sums(data, opened, tmp_path):
    assert same(opened, opened_sums(relabelled(data), tmp_path))


def test_with_shared_columns_exchanging_shows_in_the_sums(data, tmp_path):
    """The broken twin: a site's dummy selects its own samples, whoever they belong to now."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = opened_sums(data, tmp_path / "a", own_columns="shared")
    theirs = opened_sums(relabelled(data), tmp_path / "b", own_columns="shared")
    first = [
        number
        for number, (a, b) in enumerate(zip(ours, theirs, strict=False))
        if any(not np.array_equal(a[k], b[k]) for k in a)
    ]
    assert first[0] <= 2, "in the first sums already"


@pytest.mark.parametrize("protocol", [pytest.param("additive", marks=pytest.mark.slow), "pairwise"])
def test_every_protocol_opens_the_same_bits(data, protocol, undisturbed):
    _, plain = undisturbed
    other = secirls.fit(data, design="~ site + condition", **{**SILENT, "protocol": protocol})
    assert plain.table.to_csv(float_format="%.17g") == other.table.to_csv(float_format="%.17g")


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """What is asked of files, and the whole fit."""
    folder, files = tmp_path_factory.mktemp("undisturbed"), {}
    for name, adata in data.items():
        files[name] = str(folder / f"{name}.h5ad")
        write(adata, folder / f"{name}.h5ad")
    options = {name: value for name, value in SILENT.items() if name != "engine"}
    manifest = Manifest.read(
        "test", sites=files, engine="local", fit={"design": "~ site + condition", "consistency": False, **options}
    )
    return manifest, fitting.fit_manifest(manifest, folder / "whole")


@pytest.mark.parametrize("last", [*(pytest.param(last, marks=pytest.mark.slow) for last in (1, 3, 7, 18)), 12])
def test_a_fit_that_was_stopped_ends_with_the_same_bits(undisturbed, tmp_path, last):
    manifest, whole = undisturbed

    def stop(told):
        if told.round == last:
            raise StopError

    with pytest.raises(StopError):
        fitting.fit_manifest(manifest, tmp_path / "stopped", on_round=stop)
    again = fitting.resume(tmp_path / "stopped")
    assert again.table.to_csv(float_format="%.17g") == whole.table.to_csv(float_format="%.17g")


def test_a_site_without_counts_of_a_gene_does_not_lose_it(data):
    """Its own intercept has nowhere to go; R's clamp keeps IRLS where it is, and the others' part stands."""
    sites = {name: site.copy() for name, site in data.items()}
    sites["turin"].X[:, :6] = 0
    own, shared = both(sites, cooks=False)
    assert own.table["status"][:6].tolist() == shared.table["status"][:6].tolist()
    np.testing.assert_allclose(
        own.table["log2FoldChange"][:6], shared.table["log2FoldChange"][:6], rtol=1e-4, atol=1e-5
    )


def test_a_site_that_falls_silent_is_left_out_where_that_was_agreed(data, tmp_path):
    config = Config(
        design="~ site + condition", protocol="plain", kernel="numpy", on_dropout="continue", min_contributors=1
    )
    parties = {}
    for name, adata in data.items():
        path = tmp_path / f"{name}.h5ad"
        write(adata, path)
        parties[name] = Site(Place(name, str(path)), config, own_process=False)

    class Leaving(LocalFederation):
        rounds = 0

        def ask(self, verb, arguments):
            if verb == "contribute":
                Leaving.rounds += 1
                if Leaving.rounds > 9:
                    arguments = {name: given for name, given in arguments.items() if name != "vigo"}
            return super().ask(verb, arguments)

    *_, outcome = lead(Task(config, "fit"), Leaving(parties))
    assert outcome.fitted.state.fitted.all()
    assert outcome.fitted.state.parties == ("berlin", "lyon", "turin")


def test_a_site_whose_policy_says_so_notes_its_own_coefficients(data, tmp_path):
    """They are the joint fit's: intercept and difference of the shared one."""
    files = {}
    for name, adata in data.items():
        files[name] = str(tmp_path / f"{name}.h5ad")
        write(adata, tmp_path / f"{name}.h5ad")
    rules = tmp_path / "lyon.toml"
    rules.write_text("write_own = true\n")
    options = {name: value for name, value in SILENT.items() if name != "engine"} | {"ridge": NO_RIDGE}
    manifest = Manifest.read(
        "test",
        sites=files,
        engine="local",
        policies={"lyon": str(rules)},
        fit={"design": "~ site + condition", **options},
    )
    fitting.fit_manifest(manifest, tmp_path / "out")
    assert [path.name for path in tmp_path.glob("*.own.csv")] == ["lyon.h5ad.own.csv"], "and nobody else"
    written = pd.read_csv(tmp_path / "lyon.h5ad.own.csv")
    shared = secirls.fit(data, design="~ site + condition", own_columns="shared", ridge=NO_RIDGE, **SILENT)
    joint = shared.coefficients["Intercept"] + shared.coefficients["site[T.lyon]"]
    assert list(written.columns) == ["gene", "site[T.lyon]"]
    np.testing.assert_allclose(written["site[T.lyon]"], joint, rtol=1e-6)
