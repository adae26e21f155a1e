"""Principal components as the last stage of a fit, and as a command: real data, protocols, resuming, scores."""

from __future__ import annotations

import shutil
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls import fitting
from secirls.aggregator.aggregator import lead
from secirls.agreement.manifest import Manifest
from secirls.agreement.order import Place, Task
from secirls.algorithms.components.component_queries import VstSquaresQuery
from secirls.algorithms.components.principal_components import Ending
from secirls.carriers.local import LocalFederation
from secirls.cli import component_commands
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.datasets import AIRWAY_LEVELS
from secirls.outputs import components as components_told
from secirls.outputs.report.disclosure import statements
from secirls.outputs.results import Result
from secirls.site.site import Site

SITES, GENES, EACH = ("berlin", "lyon", "turin"), 60, 16
ROOM = {"directions_per_sample": 0.4, "sample_share": 0.9}
"""More than by default, for 48 samples; the rules are held against attacks in `tests/numerics`."""
WITHIN = {"components": 2, "component_genes": 40, **ROOM}
BY_DEFAULT = {"engine": "local", "protocol": "plain", "components": 2}
SILENT = {"engine": "local", "protocol": "plain", **WITHIN}


def made(seed=4):
    """AnnData by site: a factor within sites, a shift of every site, an outlying count that is replaced."""
    rng, population = np.random.default_rng(seed), np.random.default_rng(1)
    base, loads = population.uniform(3, 6, GENES), population.normal(size=(2, GENES))
    found = {}
    for site in SITES:
        factors = rng.normal(size=(EACH, 2)) * (1.0, 0.6)
        depth = np.exp(0.25 * rng.normal(size=(EACH, 1)))
        mu = np.exp(base + 0.5 * rng.normal(size=GENES) + 0.4 * factors @ loads) * depth
        counts = rng.poisson(mu * rng.gamma(12, 1 / 12, mu.shape)).astype(np.int32)
        counts[:, 7] = 0
        counts[2, 9] = 4_000 if site == "lyon" else counts[2, 9]
        obs = pd.DataFrame({"condition": ["a", "b"] * (EACH // 2)}, index=[f"{site}{i}" for i in range(EACH)])
        found[site] = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)]))
    return found


@pytest.fixture(scope="module")
def data():
    return made()


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    for name, site in data.items():
        site.write_h5ad(folder / f"{name}.h5ad")
    return {name: str(folder / f"{name}.h5ad") for name in data}


@pytest.fixture(scope="module")
def plain(data):
    return secirls.fit(data, design="~ condition", **SILENT)


def pooled(result, sites):
    """VST values of all sites, centred within each, over the genes of the loadings."""
    genes = result.loadings["gene"].tolist()
    values = [np.asarray(result.transform(site)[:, genes].layers["vst"]) for site in sites.values()]
    return np.vstack([x - x.mean(axis=0) for x in values])


def of(result):
    return result.loadings.iloc[:, 1:].to_numpy()


def sine(a, b):
    return np.linalg.norm(a - b @ (b.T @ a), 2)


def leading(x, k=2):
    return np.linalg.svd(x, full_matrices=False)[2][:k].T


class Dying(LocalFederation):
    """A local federation in which one site says no more from its so-manieth answer on."""

    def __init__(self, parties, who, call):
        super().__init__(parties)
        self.who, self.left = who, call

    def ask(self, verb, arguments):
        answers = super().ask(verb, arguments)
        self.left -= verb == "contribute"
        if self.left < 0:
            answers.pop(self.who, None)
        return answers


class TestBesideTheSvd:
    def test_of_airway(self, airway_sites):
        """Eight samples of four sites have four directions within sites: with all of them, to rounding."""
        sites = {name: anndata.read_h5ad(path)[:, ::40].copy() for name, path in airway_sites.items()}
        options = {**SILENT, "component_genes": 500, "directions_per_sample": 1.0, "sample_share": 1.0}
        options |= {"component_tolerance": 1e-4, "components": 1}
        result = secirls.fit(sites, design="~ condition", levels=AIRWAY_LEVELS, **options)
        x = pooled(result, sites)
        told = result.report["components"]
        assert told["converged"]
        assert told["samples_less_sites"] == 4
        assert sine(of(result), leading(x, 1)) < 1e-9
        squares = np.linalg.svd(x, compute_uv=False) ** 2
        assert np.allclose(told["explained"], squares[:1] / squares.sum(), rtol=1e-9)
        treated = {name: site.obs["condition"] == "trt" for name, site in sites.items()}
        for name, site in sites.items():
            scores = result.scores(site)
            assert abs(scores["PC1"].sum()) < 1e-9
            assert np.ptp(scores["PC1"]) > 5.0
            assert (scores["PC1"] > 0).tolist() in ([*treated[name]], [*~treated[name]])

    @pytest.mark.slow
    def test_of_real_centres(self, shared_data):
        """Seven laboratories; the angle is what the report says within a factor of two, by rules as they are."""
        whole = anndata.read_h5ad(shared_data / "geuvadis_tsi" / "geuvadis_tsi.h5ad")
        sites = {
            f"lab{i}": whole[whole.obs["site"] == site].copy() for i, site in enumerate(whole.obs["site"].unique())
        }
        result = secirls.fit(sites, design="~ condition", **{**BY_DEFAULT, "kernel": "fused"})
        told, x = result.report["components"], pooled(result, sites)
        assert told["directions"] <= 0.2 * (85 - 7)
        assert told["found"] == 2
        assert sine(of(result), leading(x)) < 2 * told["angle"] < 0.08
        at_home = np.vstack([result.scores(site)[["PC1", "PC2"]].to_numpy() for site in sites.values()])
        assert np.allclose(at_home, x @ of(result), atol=1e-9)
        assert np.allclose((at_home**2).sum(axis=0) / (85 - 7), told["variances"], rtol=1e-3)


class TestWithinAFit:
    def test_it_is_the_svd_and_the_scores_are_the_pooled_ones(self, plain, data):
        x, told = pooled(plain, data), plain.report["components"]
        assert told["converged"]
        assert sine(of(plain), leading(x)) < 2e-2
        at_home = np.vstack([plain.scores(site)[["PC1", "PC2"]].to_numpy() for site in data.values()])
        assert np.allclose(at_home, x @ of(plain), atol=1e-10)
        squares = np.linalg.svd(x, compute_uv=False) ** 2
        assert np.allclose(told["explained"], squares[:2] / squares.sum(), rtol=1e-3)

    def test_counts_are_those_of_the_files_where_outliers_were_replaced(self, plain, data, monkeypatch):
        """The twin goes on with what replaced them."""
        assert plain.table["replaced"].sum() >= 1
        everything = secirls.fit(data, design="~ condition", **{**SILENT, "component_genes": 59, "sample_share": 1.0})
        assert "g9" in set(everything.loadings["gene"])
        total = (pooled(everything, data) ** 2).sum() / (3 * (EACH - 1))
        assert np.isclose(everything.report["components"]["total_variance"], total, rtol=1e-12)
        monkeypatch.setattr(VstSquaresQuery, "apply", lambda self, samples: samples)
        twin = secirls.fit(data, design="~ condition", **{**SILENT, "component_genes": 59, "sample_share": 1.0})
        assert not np.isclose(twin.report["components"]["total_variance"], total, rtol=1e-3)

    def test_it_is_off_and_all_else_is_as_without(self, data, plain):
        without = secirls.fit(data, design="~ condition", **{**SILENT, "components": 0})
        pd.testing.assert_frame_equal(plain.table, without.table)
        assert Config(design="~ 1").components == 0
        assert without.loadings is None
        assert without.report["components"] is None
        assert not any("omponents" in sentence for sentence in without.report["disclosure"])
        with pytest.raises(InputError, match="was not asked for any: see 'secirls components'"):
            without.scores(data["lyon"])

    def test_it_is_a_stage_of_its_own_and_said_in_the_disclosure(self, plain):
        stage = plain.report["stages"][-1]
        assert stage["stage"] == "components"
        assert stage["queries"] == ["vst_squares", "vst_dominated", "vst_gram", "vst_products"]
        told = " ".join(plain.report["disclosure"])
        many = plain.report["components"]["directions"]
        assert f"is known along {many} directions of the 45 that the samples have within their sites" in told
        assert "Stage 'components' opened" in told

    @pytest.mark.parametrize(
        "protocol",
        [
            "pairwise",
            *(pytest.param(name, marks=pytest.mark.slow) for name in ("additive", "paillier", "paillier-threshold")),
        ],
    )
    def test_protocols_give_the_same_bits(self, data, plain, protocol):
        keys = {"key_bits": 512, "insecure_test_keys": True} if "paillier" in protocol else {}
        other = secirls.fit(data, design="~ condition", **{**SILENT, "protocol": protocol, **keys})
        assert np.array_equal(of(other), of(plain))
        assert other.report["components"] == plain.report["components"]

    @pytest.mark.slow
    @pytest.mark.usefixtures("local_ray")
    @pytest.mark.parametrize("hosts", [None, 2])
    def test_so_do_sites_in_processes_of_their_own_and_in_shared_ones(self, files, plain, hosts):
        other = fitting.fit_config(Config(design="~ condition", **WITHIN), files, engine="ray", hosts=hosts)
        assert np.array_equal(of(other), of(plain))

    def test_beside_own_columns_and_shrinkage(self, data, plain):
        sites = {name: site.copy() for name, site in data.items()}
        for name, site in sites.items():
            site.obs["site"] = name
        options = {**SILENT, "shrink": "condition[T.b]", "protocol": "pairwise"}
        result = secirls.fit(sites, design="~ site + condition", **options)
        assert [stage["stage"] for stage in result.report["stages"]][-2:] == ["shrinkage", "components"]
        assert sine(of(result), leading(pooled(result, sites))) < 2e-2

    @pytest.mark.parametrize("trend", ["mean", "local"])
    def test_on_the_scale_of_other_trends(self, data, trend):
        result = secirls.fit(data, design="~ condition", trend=trend, **SILENT)
        x = pooled(result, data)
        assert sine(of(result), leading(x)) < 2e-2
        assert np.isclose(result.report["components"]["total_variance"], (x**2).sum() / 45, rtol=1e-12)

    def test_few_samples_give_a_sentence_and_the_fit_and_open_nothing_for_it(self, data):
        few = {name: site[:6].copy() for name, site in data.items()}
        result = secirls.fit(few, design="~ condition", **BY_DEFAULT)
        assert result.loadings is None
        assert not [told for told in result.report["rounds"] if told["query"].startswith("vst")]
        assert "Principal components were asked for, and there are none: the samples are too few" in " ".join(
            result.report["disclosure"]
        )
        with pytest.raises(InputError, match="found none: the samples are too few"):
            result.scores(few["lyon"])

    @pytest.mark.parametrize("changes", [{"preset": "irls"}, {"dispersion_fit": "moments"}])
    def test_without_a_trend_it_is_refused_before_the_first_round(self, data, changes):
        with pytest.raises(InputError, match="components take a trend"):
            secirls.fit(data, design="~ condition", **{**SILENT, **changes})

    def test_after_a_site_was_lost_there_are_none(self, data):
        """The samples of the others are known to nobody alone, and so not how many directions they bear."""
        sites = {**data, "vienna": data["lyon"].copy()}
        sites["vienna"].X = sites["vienna"].X + 1
        config = Config(design="~ condition", on_dropout="continue", consistency=False, **WITHIN)
        parties = {name: Site(Place(name, site), config, own_process=False) for name, site in sites.items()}
        *_, outcome = lead(Task(config, "test"), Dying(parties, "vienna", call=12))
        assert outcome.fitted.components.ending == Ending.NOT_ALL
        assert not [told for told in outcome.rounds if told.kind.startswith("vst")]
        assert "there are none: not all sites were there any more" in " ".join(statements(config, outcome, "local"))

    @pytest.mark.parametrize(
        "place", [pytest.param(0, marks=pytest.mark.slow), 3, pytest.param(-2, marks=pytest.mark.slow)]
    )
    def test_resumed_anywhere_in_the_stage_it_ends_with_the_same_bits(self, files, tmp_path, plain, place):
        """``place``: its first round, one in its midst, and the one before the last of the fit."""
        fit = {"design": "~ condition", **WITHIN}
        manifest = Manifest.read("test", sites=files, engine="local", fit=fit)
        rounds = plain.report["rounds"]
        first = rounds.index(next(r for r in rounds if r["stage"] == "components"))
        number = len(rounds) + place if place < 0 else first + place

        def stop(told):
            if told.round == number:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fitting.fit_manifest(manifest, tmp_path / "out", on_round=stop)
        assert np.array_equal(of(fitting.resume(tmp_path / "out")), of(plain))


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    """A fit without components."""
    place = tmp_path_factory.mktemp("fit") / "fit"
    manifest = Manifest.read("test", sites=files, engine="local", fit={"design": "~ condition"})
    fitting.fit_manifest(manifest, place).write(place)
    return place


@pytest.fixture(scope="module")
def components(folder, files):
    """The same with them."""
    place = folder.with_name("with")
    manifest = Manifest.read("test", sites=files, engine="local", fit={"design": "~ condition", **WITHIN})
    fitting.fit_manifest(manifest, place).write(place)
    return place


ROOMY = ("--directions-per-sample", 0.4, "--sample-share", 0.9)


class TestTheCommands:
    def test_gives_what_the_fit_would_have_given(self, run, folder, plain, tmp_path):
        code, shown, error = run("components", folder, "--genes", 40, *ROOMY, "--out", tmp_path / "out")
        assert code == 0, error
        assert "Everything before the components is that of" in shown
        assert "2 components of 40 genes:" in shown
        read = Result.read(tmp_path / "out")
        pd.testing.assert_frame_equal(read.loadings, plain.loadings)
        assert read.report["components"] == plain.report["components"]

    def test_scores_are_written_at_the_site_with_a_picture(self, run, components, files, plain, data, tmp_path):
        out = tmp_path / "mine.csv"
        code, shown, error = run("scores", files["lyon"], "--fit", components, "--out", out, "--plots", "png,svg")
        assert code == 0, error
        assert "16 samples along 2 components" in shown
        table = pd.read_csv(out, float_precision="round_trip")
        assert list(table.columns) == ["sample", "PC1", "PC2", "condition"]
        assert np.array_equal(table[["PC1", "PC2"]].to_numpy(), plain.scores(data["lyon"])[["PC1", "PC2"]].to_numpy())
        assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "mine.svg").read_text().startswith("<?xml")
        code, _, error = run("scores", files["lyon"], "--fit", components, "--out", out)
        assert code == 2
        assert "is there already" in error

    def test_a_column_for_which_the_sites_name_stood_in_can_not_colour_them(self, plain, data):
        bare = data["lyon"].copy()
        del bare.obs["condition"]
        with pytest.raises(InputError, match=r"obs column 'condition': is missing"):
            plain.scores(bare, by="condition")

    def test_a_fit_of_too_few_samples_is_not_made_again(self, run, folder, monkeypatch):
        """The twin, which does not look at their number before, goes on to the fit."""

        def stop(*_):
            raise InputError("begun")

        monkeypatch.setattr(component_commands, "fit_into", stop)
        code, _, error = run("components", folder, "--components", 4)
        assert code == 2
        assert f"folder '{folder}': its 48 samples at 3 sites are too few for --components 4, which takes 63" in error
        assert "begun" in run("components", folder, "--components", 3)[2], "which takes 48"
        monkeypatch.setattr(components_told, "check_samples", lambda *_: None)
        assert "begun" in run("components", folder, "--components", 4)[2]

    def test_that_there_are_none_is_a_sentence_and_an_exit_code(self, run, folder, components, monkeypatch):
        result = Result.read(components)
        lost = {"found": 0, "ending": "one sample would have been most of a direction"}
        none = replace(result, report={**result.report, "components": {**result.report["components"], **lost}})
        monkeypatch.setattr(component_commands, "fit_into", lambda *asked: (none, []))
        code, shown, error = run("components", folder, "--out", "without")
        assert code == 1
        assert error == f"secirls: no components, so without has no loadings.csv: {lost['ending']}\n"
        assert "secirls scores" not in shown
        monkeypatch.setattr(component_commands, "fit_into", lambda *asked: (result, []))
        code, shown, error = run("components", folder, "--out", "with")
        assert (code, error) == (0, "")
        assert "secirls scores FILE.h5ad --fit with" in shown

    def test_scores_are_coloured_by_any_column_of_the_own_file(self, run, components, data, tmp_path):
        mine = data["lyon"].copy()
        mine.obs["ward"], mine.obs["age"], mine.obs["PC1"] = ["w1", "w2"] * (EACH // 2), [*range(EACH - 1), np.nan], 1.0
        mine.write_h5ad(tmp_path / "lyon.h5ad")
        words = ("scores", tmp_path / "lyon.h5ad", "--fit", components, "--plots", "png")
        assert run(*words, "--out", tmp_path / "usual.csv")[0] == 0
        usual = pd.read_csv(tmp_path / "usual.csv")
        for column in ("ward", "age"):
            code, _, error = run(*words, "--by", column, "--out", tmp_path / f"{column}.csv")
            assert code == 0, error
            pd.testing.assert_frame_equal(
                pd.read_csv(tmp_path / f"{column}.csv"), usual.assign(**{column: mine.obs[column].tolist()})
            )
            assert (tmp_path / f"{column}.png").read_bytes() != (tmp_path / "usual.png").read_bytes()
        code, _, error = run(*words, "--by", "PC1")
        assert code == 2
        assert "lyon.h5ad', obs column 'PC1': is called as a column of the scores is: give it another name" in error

    def test_a_site_on_its_own_ground_names_that(self, run, components, files, tmp_path):
        (tmp_path / "site.toml").write_text(f'name = "lyon"\ndata = "{files["lyon"]}"\n')
        code, _, error = run("scores", tmp_path / "site.toml", "--fit", components, "--out", tmp_path / "a.csv")
        assert code == 0, error
        assert (tmp_path / "a.csv").exists()

    def test_loadings_of_an_earlier_fit_do_not_stay(self, components, folder, tmp_path):
        shutil.copytree(components, tmp_path / "copy")
        Result.read(folder).write(tmp_path / "copy", overwrite=True)
        assert not (tmp_path / "copy" / "loadings.csv").exists()

    def test_mistakes_are_one_sentence(self, run, folder, components, files, tmp_path):
        for words, sentence in [
            (("components", folder, "--components", 0), "--components 0 asks for none"),
            (("components", folder, "--components", 99), "components: input should be less than or equal to 20"),
            (("components", tmp_path / "gone"), "holds no results of a fit"),
            (("components", folder, "--components", 4), "which takes 63 or more at 0.2 directions a sample"),
            (("scores", files["lyon"], "--fit", folder), "was not asked for any: see 'secirls components'"),
            (("scores", files["lyon"], "--fit", components, "--by", "age"), "lyon.h5ad', obs column 'age': is miss"),
            (("scores", files["lyon"], "--fit", components, "--out", "a.txt"), "--out ends in .csv"),
            (("scores", tmp_path / "gone.h5ad", "--fit", components), "gone.h5ad': is missing"),
        ]:
            code, _, error = run(*words)
            assert code == 2, words
            assert sentence in error
            assert len(error.strip().splitlines()) == 1

    def test_a_damaged_table_of_loadings_is_told(self, run, components, files, tmp_path):
        shutil.copytree(components, tmp_path / "copy")
        (tmp_path / "copy" / "loadings.csv").write_text("gene,PC1\ng1,inf\n")
        code, _, error = run("scores", files["lyon"], "--fit", tmp_path / "copy")
        assert code == 2
        assert "is not the output of 'secirls fit'" in error
