"""Shrinkage as the last stage of a fit, and as a command: own columns, protocols, resuming, refusals, the budget."""

from __future__ import annotations

import json
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls import fitting
from secirls.agreement.manifest import Manifest
from secirls.algorithms.regression.shrinkage import ShrinkageConfig
from secirls.input_error import InputError
from secirls.outputs.results import Result
from secirls.outputs.tables.shrunken import COLUMNS

SITES, GENES, EACH, COEFFICIENT = ("berlin", "lyon", "turin"), 40, 12, "condition[T.b]"
SILENT = {"engine": "local", "kernel": "fused", "protocol": "plain", "shrink": COEFFICIENT}
GIVEN = {**SILENT, "preset": "irls", "dispersions": "alpha", "ridge": 1e-12}


def made(seed=3):
    """AnnData by site: a site's effect on every gene, a treatment's on some, dispersions in var."""
    rng = np.random.default_rng(seed)
    base, effect = rng.uniform(2.5, 6, GENES), np.where(np.arange(GENES) % 4 == 0, 0.9, 0.0)
    alpha = 0.05 + 2.0 / np.exp(base)
    found = {}
    for site in SITES:
        treated = np.arange(EACH) % 2
        depth = np.exp(0.25 * rng.normal(size=(EACH, 1)))
        mu = np.exp(base + 0.5 * rng.normal(size=GENES) + np.outer(treated, effect)) * depth
        counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(np.int32)
        counts[:, 7] = 0
        obs = pd.DataFrame(
            {
                "site": site,
                "condition": np.where(treated, "b", "a"),
                "batch": np.where((np.arange(EACH) < 4) & (site == "turin"), "odd", ["one", "one", "two", "two"] * 3),
            },
            index=[f"{site}{i}" for i in range(EACH)],
        )
        var = pd.DataFrame({"alpha": alpha}, index=[f"g{i}" for i in range(GENES)])
        found[site] = anndata.AnnData(counts, obs=obs, var=var)
    return found


@pytest.fixture(scope="module")
def data():
    return made()


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    paths = {name: folder / f"{name}.h5ad" for name in data}
    for name, site in data.items():
        site.write_h5ad(paths[name])
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture(scope="module")
def plain(data):
    return secirls.fit(data, design="~ condition", **SILENT)


def shrunken(result):
    return result.table[list(COLUMNS)].to_numpy()


class TestWithinAFit:
    def test_the_columns_stand_after_padj_and_the_rest_is_as_without(self, data, plain):
        without = secirls.fit(data, design="~ condition", **{**SILENT, "shrink": None})
        columns = list(plain.table.columns)
        at = columns.index("padj")
        assert tuple(columns[at + 1 : at + 4]) == COLUMNS
        pd.testing.assert_frame_equal(plain.table.drop(columns=list(COLUMNS)), without.table)
        assert without.report["shrinkage"] is None
        missing = plain.table[COLUMNS[0]].isna()
        assert missing.tolist() == (plain.table["status"] == "all_zero").tolist()
        assert plain.report["shrinkage"]["genes"] == GENES - 1

    def test_it_is_a_stage_of_its_own_and_said_in_the_disclosure(self, plain):
        stage = next(stage for stage in plain.report["stages"] if stage["stage"] == "shrinkage")
        assert stage["queries"] == ["unclamped"]
        assert plain.report["stages"][-1] == stage
        assert any("Stage 'shrinkage'" in sentence for sentence in plain.report["disclosure"])

    def test_changes_are_drawn_towards_zero_and_null_genes_most(self, plain):
        table = plain.table.dropna(subset=list(COLUMNS))
        small = np.abs(table["shrunkenLog2FoldChange"]) <= np.abs(table["log2FoldChange"]) + 1e-6
        assert small.all()
        null = table["gene"].str.removeprefix("g").astype(int).to_numpy() % 4 > 0
        ratio = np.abs(table["shrunkenLog2FoldChange"] / table["log2FoldChange"])
        assert ratio[null].median() + 0.1 < ratio[~null].median()
        assert (table["svalue"][~null] < 0.01).mean() > 0.8

    @pytest.mark.parametrize("protocol", ["additive", "pairwise"])
    def test_protocols_give_the_same_bits(self, data, plain, protocol):
        other = secirls.fit(data, design="~ condition", **{**SILENT, "protocol": protocol})
        assert np.array_equal(shrunken(other), shrunken(plain), equal_nan=True)

    @pytest.mark.parametrize("preset", ["irls", "pydeseq2"])
    def test_every_gene_is_shrunken_under_other_presets(self, data, preset):
        result = secirls.fit(data, design="~ condition", preset=preset, **SILENT)
        assert result.report["shrinkage"]["not_shrunken"] == 0

    def test_a_coefficient_that_is_not_there_is_refused_before_the_first_round(self, data):
        rounds = []
        with pytest.raises(InputError, match=r"shrink names 'condition\[T.c\]'; the coefficients are 'Intercept', "):
            secirls.fit(data, design="~ condition", on_round=rounds.append, **{**SILENT, "shrink": "condition[T.c]"})
        assert not rounds

    @pytest.mark.parametrize("asked", [{}, {"coefficients": ("batch[T.two]",)}, {"contrast": ("batch", "two", "odd")}])
    def test_the_table_is_of_the_shrunken_coefficient(self, data, asked):
        """Not of the last term's, beside whose changes these would stand."""
        design, shrink = "~ batch + condition", "batch[T.two]"
        result = secirls.fit(data, design=design, **{**SILENT, "own_columns": "shared", "shrink": shrink}, **asked)
        own = result.contrast(coefficients=shrink).table
        pd.testing.assert_frame_equal(result.table, own)
        drawn = result.table.dropna(subset=list(COLUMNS))
        assert np.corrcoef(drawn["shrunkenLog2FoldChange"], drawn["log2FoldChange"])[0, 1] > 0.8
        other = result.contrast("condition", "b", "a").table
        assert not set(COLUMNS) & set(other.columns)
        assert np.corrcoef(drawn["shrunkenLog2FoldChange"], other.loc[drawn["gene"], "log2FoldChange"])[0, 1] < 0.5

    def test_a_contrast_of_something_else_is_refused_before_the_first_round(self, data):
        rounds, asked = [], {**SILENT, "contrast": ("condition", "a", "b")}
        with pytest.raises(InputError, match="the table is of condition: a against b: leave that contrast out"):
            secirls.fit(data, design="~ condition", on_round=rounds.append, **asked)
        assert not rounds

    def test_a_coefficient_of_an_own_column_is_refused_too(self, data):
        rounds, asked = [], {**SILENT, "shrink": "site[T.lyon]"}
        with pytest.raises(InputError, match="which lyon alone adds to and keeps"):
            secirls.fit(data, design="~ site + condition", on_round=rounds.append, **asked)
        assert not rounds

    @pytest.mark.parametrize("last", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_resumed_anywhere_in_the_stage_it_ends_with_the_same_bits(self, files, tmp_path, last):
        fit = {"design": "~ site + condition", **{name: SILENT[name] for name in ("kernel", "shrink")}}
        manifest = Manifest.read("test", sites=files, engine="local", fit=fit)
        whole = fitting.fit_manifest(manifest, tmp_path / "whole")
        first = whole.report["rounds"].index(next(r for r in whole.report["rounds"] if r["stage"] == "shrinkage"))
        number = len(whole.report["rounds"]) - 2 if last else first + 1

        def stop(told):
            if told.round == number:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fitting.fit_manifest(manifest, tmp_path / "out", on_round=stop)
        resumed = fitting.resume(tmp_path / "out")
        assert np.array_equal(shrunken(resumed), shrunken(whole), equal_nan=True)


class TestOwnColumns:
    """At dispersions given and without a ridge, so that nothing but the prior could differ."""

    def both(self, data, design="~ site + condition", joint="~ 0 + site + condition", **options):
        own = secirls.fit(data, design=design, own_columns="own", **GIVEN, **options)
        return own, secirls.fit(data, design=joint, own_columns="shared", **GIVEN, **options)

    def differ(self, own, shared):
        return np.nanmax(np.abs(shrunken(own) - shrunken(shared)), axis=0)

    def test_it_is_the_joint_fit_with_a_column_for_every_site(self, data):
        own, shared = self.both(data)
        assert list(own.coefficients.columns) == ["gene", COEFFICIENT]
        assert self.differ(own, shared)[0] < 1e-8
        assert self.differ(own, shared)[1] < 1e-7
        assert np.isfinite(shrunken(own)).sum() == np.isfinite(shrunken(shared)).sum() == 3 * (GENES - 1)

    def test_a_batch_beside_others_at_its_site_has_the_prior_of_its_dummy(self, data):
        design = "~ batch + condition"
        own, shared = self.both(data, design, design, levels={"batch": ("one", "two", "odd")})
        assert set(shared.coefficients) - set(own.coefficients) == {"batch[T.odd]"}
        assert self.differ(own, shared)[0] < 1e-8
        assert self.differ(own, shared)[1] < 1e-7

    def test_without_the_prior_at_home_it_would_be_another(self, data, monkeypatch):
        _, shared = self.both(data)
        monkeypatch.setattr(ShrinkageConfig, "own_ridge", 0.0)
        own, _ = self.both(data)
        assert self.differ(own, shared)[0] > 1e-5

    def test_beside_dummies_it_differs_by_the_priors_on_them_alone(self, data):
        own, shared = self.both(data, joint="~ site + condition")
        assert 1e-7 < self.differ(own, shared)[0] < 5e-3


@pytest.fixture(scope="module")
def kept(files, tmp_path_factory):
    """The folder of a fit without shrinkage."""
    folder = tmp_path_factory.mktemp("kept") / "fit"
    manifest = Manifest.read("test", sites=files, engine="local", fit={"design": "~ condition"})
    fitting.fit_manifest(manifest, folder).write(folder)
    return folder


class TestTheCommand:
    @pytest.fixture
    def folder(self, kept, tmp_path):
        return shutil.copytree(kept, tmp_path / "fit")

    def test_gives_what_the_fit_would_have_given(self, run, folder, data):
        code, shown, error = run("shrink", folder, "--coefficient", COEFFICIENT)
        assert code == 0, error
        assert "Everything that was not shrunken is that of" in shown
        table = pd.read_csv(folder.with_name("fit-shrunken") / "results.csv", float_precision="round_trip")
        within = secirls.fit(data, design="~ condition", engine="local", shrink=COEFFICIENT)
        assert np.array_equal(table[list(COLUMNS)].to_numpy(), shrunken(within), equal_nan=True)

    def test_the_fit_has_it_as_an_option(self, run, files, tmp_path):
        sites = [word for name, file in files.items() for word in ("--site", f"{name}={file}")]
        fit = ("fit", *sites, "--design", "~ condition", "--engine", "local", "--out", tmp_path / "out")
        code, _, error = run(*fit, "--shrink", "condition[T.z]")
        assert code == 2
        assert "shrink names 'condition[T.z]'" in error

    def test_of_another_coefficient_than_the_fit_reported_the_table_is_of_that(self, run, files, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "120")
        fit = {"design": "~ condition", "contrast": ("condition", "a", "b")}
        manifest = Manifest.read("test", sites=files, engine="local", fit=fit)
        fitting.fit_manifest(manifest, tmp_path / "fit").write(tmp_path / "fit")
        code, shown, error = run("shrink", tmp_path / "fit", "--coefficient", COEFFICIENT)
        assert code == 0, error
        assert "Everything that was not shrunken is that of" in shown
        table = pd.read_csv(tmp_path / "fit-shrunken" / "results.csv").sort_values(["pvalue", "stat"])
        best = table.iloc[0]
        row = next(line for line in shown.splitlines() if f" {best.gene} " in line)
        cells = [cell.strip() for cell in row.split("│")]
        assert cells[3:5] == [f"{best.log2FoldChange:+.3f}", f"{best.shrunkenLog2FoldChange:+.3f}"]

    @pytest.mark.parametrize("command", [("shrink", "--coefficient", COEFFICIENT), ("components", "--components", "1")])
    def test_genes_are_called_as_before_unless_a_file_says_otherwise(self, run, folder, tmp_path, command):
        """Whoever had symbols from a file of theirs has them in what is made again."""
        genes = Result.read(folder).kept.genes
        file, newer = tmp_path / "names.csv", tmp_path / "newer.csv"
        file.write_text("gene,symbol,chr\n" + "".join(f"{gene},S{i},{i % 3}\n" for i, gene in enumerate(genes)))
        newer.write_text("gene,symbol\n" + "".join(f"{gene},N{i}\n" for i, gene in enumerate(genes)))
        Result.read(folder).annotated(file).write(folder, overwrite=True)
        out = tmp_path / "again"
        code, _, error = run(command[0], folder, *command[1:], "--out", out)
        assert code in (0, 1), error
        table = Result.read(out).table
        assert table["symbol"].tolist() == [f"S{i}" for i in range(len(genes))]
        assert (out / "ranked.symbols.rnk").exists()
        code, _, error = run(command[0], folder, *command[1:], "--out", out, "--annotation", newer, "--overwrite")
        assert code in (0, 1), error
        table = Result.read(out).table
        assert list(table.columns[:3]) == ["gene", "symbol", "chr"]
        assert table["symbol"].tolist() == [f"N{i}" for i in range(len(genes))]

    def test_a_file_or_a_release_that_has_changed_is_told(self, run, folder, files, tmp_path):
        folder = shutil.copytree(folder, tmp_path / "old")
        report = json.loads((folder / "report.json").read_text())
        report["versions"]["secirls"] = "0.0.9"
        (folder / "report.json").write_text(json.dumps(report))
        other = anndata.read_h5ad(files["lyon"])
        kept = other.copy()
        other.X[0, 0] += 500
        other.write_h5ad(files["lyon"])
        try:
            code, shown, _ = run("shrink", folder, "--coefficient", COEFFICIENT)
        finally:
            kept.write_h5ad(files["lyon"])
        assert code == 0
        assert "genes differ from those of" in shown
        assert "or the release of secirls are not those of then (secirls 0.0.9)." in " ".join(shown.split())

    def test_mistakes_are_one_sentence(self, run, folder, tmp_path):
        code, _, error = run("shrink", folder, "--coefficient", "condition[T.z]")
        assert code == 2
        assert "--coefficient 'condition[T.z]' is none of its fit" in error
        code, _, error = run("shrink", tmp_path / "nothing", "--coefficient", COEFFICIENT)
        assert code == 2
        assert "holds no results of a fit" in error
        report = json.loads((folder / "report.json").read_text())
        report["sites"]["lyon"] = ""
        (folder / "report.json").write_text(json.dumps(report))
        code, _, error = run("shrink", folder, "--coefficient", COEFFICIENT)
        assert code == 2
        assert "was given as an AnnData in memory" in error
        (folder / "report.json").write_text("[]")
        code, _, error = run("shrink", folder, "--coefficient", COEFFICIENT)
        assert code == 2
        assert "says nothing of" in error


@pytest.mark.slow
def test_repeated_questions_are_counted_once(files, tmp_path):
    """Sites whose budget has room for the fit and the stage, but not for the fit twice."""
    (tmp_path / "policies").mkdir()
    fit = {"design": "~ condition"}
    once = fitting.fit_manifest(Manifest.read("t", sites=files, engine="local", fit=fit), tmp_path / "a")
    stage = fitting.fit_manifest(
        Manifest.read("t", sites=files, engine="local", fit={**fit, "shrink": COEFFICIENT}), tmp_path / "b"
    )
    before, after = len(once.report["rounds"]), len(stage.report["rounds"])
    for allowed, works in ((after, True), (after - 1, False)):
        policies = {}
        for name in files:
            policy = tmp_path / "policies" / f"{name}-{allowed}.toml"
            policy.write_text(f'max_rounds = {allowed}\nmemory = "memory-{allowed}"\nrequire_roster = false\n')
            policies[name] = str(policy)
        ask = [
            Manifest.read("t", sites=files, engine="local", policies=policies, fit=asked)
            for asked in (fit, {**fit, "shrink": COEFFICIENT})
        ]
        assert before < allowed < before + after
        fitting.fit_manifest(ask[0], tmp_path / f"c{allowed}")
        if works:
            again = fitting.fit_manifest(ask[1], tmp_path / f"d{allowed}")
            assert np.array_equal(shrunken(again), shrunken(stage), equal_nan=True)
        else:
            with pytest.raises(InputError, match="max_rounds"):
                fitting.fit_manifest(ask[1], tmp_path / f"d{allowed}")
