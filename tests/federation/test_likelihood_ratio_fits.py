"""The likelihood-ratio test as people ask for it: beside the Wald test, with own columns, resumed, refused."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2
from typer.testing import CliRunner

import secirls
from secirls import fitting
from secirls.aggregator.aggregator import lead
from secirls.agreement.manifest import Manifest
from secirls.agreement.order import Place, Task
from secirls.agreement.record import Record
from secirls.algorithms import likelihood_ratio
from secirls.algorithms.regression import restricted
from secirls.carriers.local import LocalFederation
from secirls.cli.commands import app
from secirls.config import Config
from secirls.input_error import InputError
from secirls.numerics.inference.wald import benjamini_hochberg
from secirls.outputs.tables.kept_fit import KeptFit
from secirls.outputs.tables.results_table import WITHOUT_RATIO, compare
from secirls.site.grounds.policy import RefusalError
from secirls.site.site import Site
from tests.files import write

SITES, GENES, EACH = ("berlin", "lyon", "turin", "vigo"), 24, 16
SILENT = {"engine": "local", "protocol": "plain", "min_kept": 1}
ASKED = {**SILENT, "design": "~ site + condition", "test": "lrt", "reduced": "~ site"}
GIVEN = {"dispersions": "alpha", "cooks": False}
NO_RIDGE = 1e-12


def made(seed=3):
    """AnnData by site: effects of site, batch and condition; rare genes; two counts that are far off."""
    rng = np.random.default_rng(seed)
    base = np.where(np.arange(GENES) % 6 == 5, -1.0, rng.uniform(2.5, 6, GENES))
    effect, alpha = np.where(np.arange(GENES) % 3 == 0, 0.8, 0.0), 0.05 + 2.0 / np.exp(np.maximum(base, 1))
    found = {}
    for site in SITES:
        treated, batch = np.arange(EACH) % 2, rng.integers(0, 3, EACH)
        depth = np.exp(0.25 * rng.normal(size=(EACH, 1)))
        mu = np.exp(base + 0.5 * rng.normal(size=GENES) + np.outer(treated, effect) + 0.2 * batch[:, None]) * depth
        counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(np.int32)
        obs = pd.DataFrame(
            {"site": site, "condition": np.where(treated, "b", "a"), "batch": np.array(list("pqr"))[batch]},
            index=[f"{site}{i}" for i in range(EACH)],
        )
        var = pd.DataFrame({"alpha": alpha}, index=[f"g{i}" for i in range(GENES)])
        found[site] = anndata.AnnData(counts, obs=obs, var=var)
    found["berlin"].X[3, 4] = 40 * found["berlin"].X[:, 4].max()
    found["lyon"].X[5, 9] = 40 * found["lyon"].X[:, 9].max()
    return found


@pytest.fixture(scope="module")
def data():
    return made()


@pytest.fixture(scope="module")
def tested(data):
    return secirls.fit(data, **ASKED)


def gap(ours, theirs):
    """The smaller of relative and absolute differences."""
    apart = np.abs(np.asarray(ours) - np.asarray(theirs))
    return np.minimum(apart, apart / np.maximum(np.abs(theirs), 1e-300))


def test_fold_changes_stay_and_p_values_are_of_the_two_designs(data, tested):
    walds = secirls.fit(data, **{**SILENT, "design": "~ site + condition"})
    same = ["gene", "baseMean", "log2FoldChange", "lfcSE", "status", "iterations", "dispersion", "replaced", "outlier"]
    assert tested.table[same].equals(walds.table[same])
    assert tested.coefficients.equals(walds.coefficients)
    stat, p = (tested.table[name].to_numpy() for name in ("stat", "pvalue"))
    assert np.allclose(p, chi2.sf(np.maximum(stat, 0.0), 1), rtol=1e-11)
    assert np.corrcoef(stat, walds.table["stat"] ** 2)[0, 1] > 0.95
    assert not np.allclose(stat, walds.table["stat"] ** 2, rtol=1e-3), "they are not Wald's"
    plain = secirls.fit(data, **ASKED, **GIVEN, independent_filtering=False)
    assert np.array_equal(plain.table["padj"], benjamini_hochberg(plain.table["pvalue"].to_numpy()), equal_nan=True)


def test_the_report_says_what_was_tested(data, tested):
    told = tested.report["test"]
    assert {name: told[name] for name in ("test", "reduced", "reduced_columns", "degrees_of_freedom", "genes")} == {
        "test": "lrt",
        "reduced": "~ site",
        "reduced_columns": [],
        "degrees_of_freedom": 1,
        "genes": GENES,
    }
    assert told["below_zero"] == int((tested.table["stat"] < 0).sum())
    assert told["status_counts"] == {"converged": GENES}
    assert any(sentence.startswith("Stage 'likelihood ratio' opened") for sentence in tested.report["disclosure"])
    walds = secirls.fit(data, **SILENT, **GIVEN, design="~ site + condition")
    assert walds.report["test"] == {"test": "wald"}


@pytest.mark.parametrize(
    ("design", "small"),
    [
        ("~ site + condition", "~ site"),
        pytest.param("~ site + batch + condition", "~ site + condition", marks=pytest.mark.slow),
        pytest.param("~ site + batch * condition", "~ site + batch + condition", marks=pytest.mark.slow),
    ],
)
def test_columns_at_home_give_the_statistics_of_shared_ones(data, design, small):
    """Also where nothing is left at the table, and the sites go on to their own minimum alone."""
    options = {**ASKED, **GIVEN, "design": design, "reduced": small, "ridge": NO_RIDGE}
    own, shared = (secirls.fit(data, own_columns=way, **options) for way in ("own", "shared"))
    assert own.report["test"]["degrees_of_freedom"] == shared.report["test"]["degrees_of_freedom"]
    assert len(own.report["test"]["reduced_columns"]) < len(shared.report["test"]["reduced_columns"])
    assert gap(own.table["stat"], shared.table["stat"]).max() < 1e-9


def test_own_coefficients_that_stay_where_they_begin_give_others(data, monkeypatch):
    """The broken twin: with nothing at the table, one round would look settled, and sites have not gone on."""
    honest = restricted._about_beta

    def standing(query, basis, products):
        asked = honest(query, basis, products)
        return restricted.replace(asked, steps=np.zeros_like(asked.steps))

    options = {**ASKED, **GIVEN, "ridge": NO_RIDGE}
    shared = secirls.fit(data, own_columns="shared", **options)
    monkeypatch.setattr(restricted, "_about_beta", standing)
    with monkeypatch.context() as patch:
        patch.setattr(likelihood_ratio, "steps_field", lambda state, genes, own: np.zeros(int(genes.sum())))
        broken = secirls.fit(data, own_columns="own", **options)
    assert np.median(gap(broken.table["stat"], shared.table["stat"])) > 1e-4


def test_a_gene_whose_outlier_was_replaced_has_another_statistic_and_no_other_gene_has(data, tested):
    """As R does, which refits both designs."""
    left = secirls.fit(data, **ASKED, cooks=False).table
    replaced = tested.table["replaced"].to_numpy()
    assert replaced[[4, 9]].all()
    others = ~replaced & ~tested.table["outlier"].to_numpy()
    assert np.array_equal(tested.table["stat"][others], left["stat"][others]), "its dispersion is the same"
    assert (gap(tested.table["stat"][replaced], left["stat"][replaced]) > 1e-3).all()


@pytest.mark.parametrize(
    "preset", ["irls", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pydeseq2", "fedpydeseq2"))]
)
def test_every_preset_has_it(data, preset):
    own, shared = (
        secirls.fit(data, own_columns=way, preset=preset, **{**ASKED, "ridge": NO_RIDGE}) for way in ("own", "shared")
    )
    assert np.isfinite(own.table["stat"]).all()
    rare = np.arange(GENES) % 6 == 5
    assert gap(own.table["stat"], shared.table["stat"])[~rare].max() < 1e-5


def test_protocols_give_the_same_bits(data):
    plain, masked = (secirls.fit(data, **{**ASKED, **GIVEN, "protocol": name}) for name in ("plain", "pairwise"))
    assert masked.table.to_csv(float_format="%.17g") == plain.table.to_csv(float_format="%.17g")


def files_of(data, folder):
    files = {}
    for name, adata in data.items():
        files[name] = str(folder / f"{name}.h5ad")
        write(adata, Path(files[name]))
    return files


def manifest_of(files, **more):
    options = {name: value for name, value in {**ASKED, **GIVEN}.items() if name != "engine"}
    return Manifest.read("test", sites=files, engine="local", fit={**options, "consistency": False}, **more)


class StopError(Exception):
    pass


@pytest.mark.parametrize(
    ("design", "small"),
    [("~ site + condition", "~ site"), pytest.param("~ site + batch", "~ site", marks=pytest.mark.slow)],
)
def test_a_fit_that_stops_within_the_test_ends_with_the_same_bits(data, tmp_path, design, small):
    manifest = manifest_of(files_of(data, tmp_path))
    manifest = manifest.model_copy(
        update={"fit": Config(**{**manifest.fit.model_dump(), "design": design, "reduced": small})}
    )
    whole = fitting.fit_manifest(manifest, tmp_path / "whole")
    rounds = [told["round"] for told in whole.report["rounds"] if told["stage"] == "likelihood ratio"]
    assert len(rounds) > 4
    for last in (rounds[0], rounds[3]):

        def stop(told, last=last):
            if told.round == last:
                raise StopError

        folder = tmp_path / f"stopped{last}"
        with pytest.raises(StopError):
            fitting.fit_manifest(manifest, folder, on_round=stop)
        again = fitting.resume(folder)
        assert again.table.to_csv(float_format="%.17g") == whole.table.to_csv(float_format="%.17g")


def test_without_following_the_steps_a_resumed_fit_has_other_bits(data, tmp_path, monkeypatch):
    """The broken twin: sites that forget where their own columns were have no sums for the next step."""
    manifest = manifest_of(files_of(data, tmp_path))
    whole = fitting.fit_manifest(manifest, tmp_path / "whole")
    last = [told["round"] for told in whole.report["rounds"] if told["stage"] == "likelihood ratio"][3]

    def stop(told):
        if told.round == last:
            raise StopError

    with pytest.raises(StopError):
        fitting.fit_manifest(manifest, tmp_path / "stopped", on_round=stop)
    monkeypatch.setattr(restricted.LikelihoodAtQuery, "recalled", lambda query, samples: query.apply(samples))
    again = fitting.resume(tmp_path / "stopped")
    assert not np.array_equal(again.table["stat"], whole.table["stat"])


def test_own_coefficients_that_sites_note_are_those_of_the_larger_design(data, tmp_path):
    (tmp_path / "lyon.toml").write_text("write_own = true\n")
    written = []
    for test in ("lrt", "wald"):
        folder = tmp_path / test
        folder.mkdir()
        manifest = manifest_of(files_of(data, folder), policies={"lyon": str(tmp_path / "lyon.toml")})
        if test == "wald":
            fit = manifest.fit.model_copy(update={"test": "wald", "reduced": None})
            manifest = manifest.model_copy(update={"fit": fit})
        fitting.fit_manifest(manifest, folder / "out")
        written.append((folder / "lyon.h5ad.own.csv").read_bytes())
    assert written[0] == written[1]


CONFIG = {name: value for name, value in {**ASKED, **GIVEN}.items() if name != "engine"}


def outcomes(data, folder, federation=LocalFederation, **changes):
    """Every sum that an honest aggregator opens, and the outcome."""
    config = Config(**CONFIG, on_dropout="continue", **changes)
    folder.mkdir()
    parties = {
        name: Site(Place(name, path), config, own_process=False) for name, path in files_of(data, folder).items()
    }
    events = list(lead(Task(config, "fit"), federation(parties)))
    return [(event.told.kind, event.arrays) for event in events if isinstance(event, Record)], events[-1]


def test_sites_that_exchange_their_data_open_the_same_sums(data, tmp_path):
    names = list(data)
    other = {name: data[file] for name, file in zip(names, names[1:] + names[:1], strict=True)}
    ours, theirs = (outcomes(sites, tmp_path / place)[0] for sites, place in ((data, "a"), (other, "b")))
    assert [kind for kind, _ in ours].count("likelihood_at") > 4
    assert len(ours) == len(theirs)
    for (kind, mine), (_, others) in zip(ours, theirs, strict=True):
        assert all(np.array_equal(mine[name], others[name], equal_nan=True) for name in mine), kind


def test_after_a_site_fell_silent_a_gene_has_no_statistic_and_says_so(data, tmp_path):
    class Leaving(LocalFederation):
        likelihoods = 0

        def ask(self, verb, arguments):
            if verb == "contribute":
                asked = next(iter(arguments.values()))[0]
                Leaving.likelihoods += b'"likelihood_at"' in asked
                if Leaving.likelihoods > 3:
                    arguments = {name: given for name, given in arguments.items() if name != "vigo"}
            return super().ask(verb, arguments)

    _, outcome = outcomes(data, tmp_path / "a", Leaving, trust_aggregator=True)
    assert set(outcome.fitted.state.parties) == set(SITES)
    assert np.isnan(outcome.fitted.ratio.statistics).all()
    kept = KeptFit.of(Config(**CONFIG), outcome)
    table = compare(kept, kept.asked).table
    assert table["pvalue"].isna().all()
    assert table["log2FoldChange"].notna().all()
    assert table["reason"].str.contains(WITHOUT_RATIO.split("{")[0], regex=False).all()
    assert table["reason"].str.contains("fell silent").all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reduced": None}, "needs the smaller design too"),
        ({"test": "wald"}, "is of a likelihood-ratio test"),
        ({"test": "score"}, "test: input should be 'wald' or 'lrt'"),
        ({"reduced": "~ batch"}, "uses 'batch', which the design '~ site . condition' does not use"),
        ({"reduced": "~ site + condition"}, "as many columns"),
        ({"reduced": "~ condition"}, "which lyon alone adds to and keeps"),
        ({"reduced": "~ site:condition"}, "is no combination"),
    ],
)
def test_what_can_not_be_tested_is_refused_before_the_first_round(data, options, says):
    rounds = []
    with pytest.raises(InputError, match=says) as refused:
        secirls.fit(data, **{**ASKED, **options}, on_round=rounds.append)
    assert not rounds
    assert "\n" not in str(refused.value)


def test_a_site_may_refuse_the_test_and_nothing_else(data, tmp_path):
    rules = tmp_path / "turin.toml"
    rules.write_text('refused_stages = ["likelihood ratio"]\n')
    with pytest.raises(RefusalError, match="refused_stages is likelihood ratio"):
        secirls.fit(data, **ASKED, **GIVEN, policies={"turin": rules})
    walds = secirls.fit(data, **SILENT, **GIVEN, design="~ site + condition", policies={"turin": rules})
    assert walds.table["pvalue"].notna().any()


def test_the_command_has_it(data, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    given = [word for name, file in files_of(data, tmp_path).items() for word in ("--site", f"{name}={file}")]
    given += ["--design", "~ site + condition", "--protocol", "plain", "--engine", "local", "--kernel", "numpy"]
    monkeypatch.chdir(tmp_path)  # lines that name files are as long as the name of the folder
    out = Path("out")
    done = CliRunner().invoke(app, ["fit", *given, "--test", "lrt", "--reduced", "~ site", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "p of ~ site + condition against ~ site" in " ".join(done.stdout.split())
    written = pd.read_csv(out / "results.csv", float_precision="round_trip")
    assert (written["pvalue"].dropna() <= 1).all()
    assert max(map(len, done.stdout.splitlines())) <= 80
    done = CliRunner().invoke(app, ["fit", *given, "--test", "lrt", "--out", str(tmp_path / "none")])
    assert done.exit_code != 0
    assert not (tmp_path / "none").exists()
