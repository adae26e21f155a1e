"""`secirls transform` at the command line: what it writes, and how it refuses."""

import shutil

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the files of three sites, a fit with a trend and one without."""
    place, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(2)
    sites, base = {}, rng.uniform(2, 6, 40)
    for name in ("a", "b", "c"):
        counts = rng.negative_binomial(5, 5 / (5 + np.exp(base + 0.3 * rng.normal(size=(4, 1)))))
        obs = pd.DataFrame({"condition": ["u", "t"] * 2}, index=[f"{name}{i}" for i in range(4)])
        var = pd.DataFrame(index=[f"g{i}" for i in range(40)])
        sites[name] = place / f"{name}.h5ad"
        anndata.AnnData(counts.astype(np.int32), obs=obs, var=var).write_h5ad(sites[name])
    asked = {"design": "~ condition", "engine": "local", "protocol": "plain", "kernel": "numpy"}
    secirls.fit({name: str(file) for name, file in sites.items()}, **asked).write(place / "fit")
    secirls.fit({name: str(file) for name, file in sites.items()}, **asked, preset="irls").write(place / "flat")
    return place


@pytest.fixture
def run(run):
    """``run(*words)``: exit code, standard output and standard error of the command, the last in one line."""

    def told(*words):
        code, out, error = run("transform", *words)
        return code, out, " ".join(error.split())

    return told


def test_it_writes_an_anndata_beside_the_data(run, made, tmp_path):
    code, out, _ = run(made / "a.h5ad", "--fit", made / "fit", "--out", tmp_path / "a.h5ad")
    assert code == 0
    assert "nothing was sent" in out
    read = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert set(read.layers) >= {"normalised", "vst"}
    assert read.shape == (4, 40)
    assert (read.obs["size_factor"] > 0).all()
    assert np.array_equal(read.X, anndata.read_h5ad(made / "a.h5ad").X)
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5ad"]
    code, _, err = run(made / "a.h5ad", "--fit", made / "fit", "--out", tmp_path / "a.h5ad")
    assert (code, "is there already" in err) == (2, True)
    assert run(made / "a.h5ad", "--fit", made / "fit", "--out", tmp_path / "a.h5ad", "--overwrite")[0] == 0


def test_a_link_and_a_file_of_the_fit_are_not_replaced(run, made, tmp_path):
    shutil.copytree(made / "fit", tmp_path / "fit")
    (tmp_path / "fit" / "results.h5ad").write_text("results")
    (tmp_path / "mine.h5ad").write_text("mine")
    (tmp_path / "link.h5ad").symlink_to(tmp_path / "mine.h5ad")
    for out, told in (("link.h5ad", "is a link"), ("fit/results.h5ad", "is one of a fit's own files")):
        code, _, err = run(made / "a.h5ad", "--fit", tmp_path / "fit", "--out", tmp_path / out, "--overwrite")
        assert (code, told in err) == (2, True), err
    assert (tmp_path / "mine.h5ad").read_text() == "mine"
    assert (tmp_path / "fit" / "results.h5ad").read_text() == "results"


def test_a_site_may_name_its_own_file_in_the_place_of_the_data(run, made, tmp_path):
    own = tmp_path / "ground"
    own.mkdir()
    shutil.copy(made / "a.h5ad", own / "counts.h5ad")
    (own / "site.toml").write_text('name = "lyon"\ndata = "counts.h5ad"\nkey = "lyon.key"\n[policy]\nmin_samples = 9\n')
    code, out, _ = run(own / "site.toml", "--fit", made / "fit")
    assert (code, str(own / "counts.transformed.h5ad") in out) == (0, True)
    assert run(made / "a.h5ad", "--fit", made / "fit", "--out", tmp_path / "a.h5ad")[0] == 0
    named, given = anndata.read_h5ad(own / "counts.transformed.h5ad"), anndata.read_h5ad(tmp_path / "a.h5ad")
    assert np.array_equal(named.layers["vst"], given.layers["vst"])
    again = secirls.Result.read(made / "fit").transform(own / "site.toml")
    assert np.array_equal(again.layers["vst"], given.layers["vst"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "lyon"\n', "site.toml': data: is missing"),
        ("name = ", "site.toml': is not TOML"),
        ('name = "lyon"\ndata = "gone.h5ad"\n', "gone.h5ad': is missing"),
        (None, "site.toml': is missing"),
    ],
)
def test_an_own_file_that_is_none_ends_in_a_sentence(run, made, tmp_path, text, told):
    if text is not None:
        (tmp_path / "site.toml").write_text(text)
    code, _, error = run(tmp_path / "site.toml", "--fit", made / "fit")
    assert (code, told in error) == (2, True), error


def test_tables_hold_what_the_anndata_does_to_the_last_digit(run, made, tmp_path):
    assert run(made / "b.h5ad", "--fit", made / "fit", "--out", tmp_path / "b.csv")[0] == 0
    want = secirls.Result.read(made / "fit").transform(made / "b.h5ad")
    for name in ("vst", "normalised"):
        table = pd.read_csv(tmp_path / f"b.{name}.csv", index_col="gene", float_precision="round_trip")
        assert list(table.columns) == list(want.obs_names)
        assert list(table.index) == list(want.var_names)
        assert np.array_equal(table.to_numpy().T, want.layers[name])
    sizes = pd.read_csv(tmp_path / "b.size_factor.csv", index_col="sample", float_precision="round_trip")
    assert np.array_equal(sizes["size_factor"], want.obs["size_factor"])


def test_without_a_place_it_writes_beside_the_data(run, made):
    assert run(made / "c.h5ad", "--fit", made / "fit")[0] == 0
    assert anndata.read_h5ad(made / "c.transformed.h5ad").n_obs == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a.h5ad", "--fit", "fit", "--out", "a.h5ad", "--overwrite"), "a.h5ad': is the data itself; name another"),
        (("a.h5ad", "--fit", "fit", "--out", "a.txt"), "--out ends in .h5ad or .csv"),
        (("gone.h5ad", "--fit", "fit", "--out", "x.h5ad"), "gone.h5ad': is missing"),
        (("a.h5ad", "--fit", "gone", "--out", "x.h5ad"), "gone': is missing"),
        (("a.h5ad", "--fit", "flat", "--out", "x.h5ad"), "flat': the fit has no trend"),
        (("a.h5ad", "--fit", "fit", "--out", "x.h5ad", "--layer", "raw"), "a.h5ad', layer 'raw': is missing"),
    ],
)
def test_a_mistake_ends_in_one_sentence(run, made, monkeypatch, words, sentence):
    monkeypatch.chdir(made)
    code, _, err = run(*words)
    assert code == 2
    assert sentence in err
    assert not (made / "x.h5ad").exists()
