"""Folders of results: what is left of those that were replaced, and further comparisons in folders of their own."""

import json

import pytest

from secirls.aggregator.checkpoint import FOLDER, HEAD
from secirls.outputs.page.report_page import read_album
from secirls.outputs.pictures.album import Album
from secirls.outputs.results import Result
from tests.cli.conftest import sentence

OTHERS = ("results.h5ad", "report.html", "dispersions.csv", "loadings.csv", "ranked.symbols.rnk", "volcano.pdf")
"""Files that a fit has only if it is asked for them."""


def test_nothing_stays_of_results_that_are_replaced(made, tmp_path):
    result, _, _ = made
    folder = tmp_path / "fit"
    written = set(result.write(folder))
    for name in (*OTHERS, "notes.txt"):
        (folder / name).write_text("of the fit before")
    assert set(result.write(folder, overwrite=True)) == written
    assert set(folder.iterdir()) == written | {folder / "notes.txt"}


def test_files_in_a_folder_without_results_are_nobodys_to_take_away(made, tmp_path):
    for name in OTHERS:
        (tmp_path / name).write_text("mine")
    made[0].write(tmp_path)
    assert all((tmp_path / name).read_text() == "mine" for name in OTHERS)


def test_a_page_has_no_dispersions_of_an_earlier_fit(made, tmp_path):
    made[0].write(tmp_path / "fit")
    (tmp_path / "fit" / "dispersions.csv").write_text("gene,baseMean,dispGeneEst,dispFit,dispersion,dispOutlier\n")
    assert read_album(tmp_path / "fit").of_dispersions is None
    report = tmp_path / "fit" / "report.json"
    told = json.loads(report.read_text())
    del told["trend"]  # as old reports are
    report.write_text(json.dumps(told))
    assert read_album(tmp_path / "fit").of_dispersions is not None


def test_results_of_a_release_that_kept_no_fit_are_called_so(made, run, tmp_path):
    made[0].write(tmp_path / "fit")
    (tmp_path / "fit" / "fit.npz").unlink()
    code, _, error = run("results", "fit")
    assert code == 2
    assert sentence(error).endswith("has results and no fit.npz, as of a release that kept none; make the fit again")
    (tmp_path / "empty").mkdir()
    assert "so it is not the output of 'secirls fit'" in run("results", "empty")[2]


CONTRAST = ("--contrast", "dose", "c", "b")


@pytest.fixture
def one_picture(monkeypatch):
    """One picture is enough."""
    drawn = Album.drawn
    monkeypatch.setattr(Album, "drawn", lambda *asked: {"pvalues": drawn(*asked)["pvalues"]})


def test_a_comparison_has_a_folder_of_its_own_with_pictures_and_a_page(made, run, tmp_path, one_picture):
    result, folder, _ = made
    code, shown, error = run("results", folder, *CONTRAST, "--out", "cb", "--plots", "svg,pdf")
    assert (code, error) == (0, "")
    assert {file.name for file in (tmp_path / "cb").iterdir()} == {
        *(file.name for file in folder.iterdir()),
        "pvalues.svg",
        "pvalues.pdf",
    }
    assert "cb/pvalues.svg" in shown
    assert "dose: c against b" in (tmp_path / "cb" / "pvalues.svg").read_text()
    assert Result.read(tmp_path / "cb").table.equals(result.contrast("dose", "c", "b").table)
    assert run("report", "cb")[0] == 0
    assert "<h1>dose: c against b</h1>" in (tmp_path / "cb" / "report.html").read_text()


def test_a_comparison_replaces_another_and_nothing_that_a_fit_wrote(made, run, tmp_path):
    result, _, _ = made
    result.write(tmp_path / "fit")
    (tmp_path / "same").symlink_to(tmp_path / "fit")
    was = {file: file.read_bytes() for file in (tmp_path / "fit").iterdir()}
    assert run("results", "fit", *CONTRAST, "--out", "cb")[0] == 0
    code, _, error = run("results", "fit", *CONTRAST, "--out", "cb")
    assert (code, "holds the results of a fit already" in sentence(error)) == (2, True)
    assert run("results", "fit", "--alpha", "0.2", "--out", "cb", "--overwrite")[0] == 0
    assert Result.read(tmp_path / "cb").asked.alpha == 0.2
    asked, own = "is the one that is asked", "holds what a fit wrote itself"
    for folder, out, told in (("fit", "fit", asked), ("fit", "same", asked), ("cb", "cb", asked), ("cb", "same", own)):
        code, _, error = run("results", folder, *CONTRAST, "--out", out, "--overwrite")
        assert (code, sentence(error)) == (2, f"secirls: folder {out!r}: {told}; name another")
    assert {file: file.read_bytes() for file in (tmp_path / "fit").iterdir()} == was


def test_a_folder_that_a_fit_is_unfinished_in_takes_no_comparison(made, run, tmp_path):
    (tmp_path / "going" / FOLDER).mkdir(parents=True)
    (tmp_path / "going" / FOLDER / HEAD).write_text("{}")
    code, _, error = run("results", made[1], *CONTRAST, "--out", "going")
    assert (code, sentence(error)) == (2, "secirls: folder 'going': holds an unfinished fit; name another")
    for command in ("results", "report"):
        code, _, error = run(command, "going")
        told = "secirls: folder 'going': holds an unfinished fit: 'secirls resume going' goes on with it"
        assert (code, sentence(error)) == (2, told)


def test_pictures_have_a_folder_to_go_to(made, run, tmp_path):
    for words in ((), ("--out", "a.csv")):
        code, _, error = run("results", made[1], *words, "--plots", "png")
        assert (code, sentence(error)) == (2, "secirls: --plots png: pictures go into a folder, which --out names")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("out", "transcript"), [("both", "both"), ("kept/fit", "kept"), ("kept/../both", "both")])
def test_results_and_a_transcript_are_not_in_one_folder(trial, run, out, transcript):
    kept = trial.folder / transcript
    code, _, error = run(*trial.words(trial.write(), "--transcript", kept, out=out))
    told = f"secirls: folder {str(kept)!r}: is for a transcript alone; results need another"
    assert (code, sentence(error)) == (2, told)
    assert [path.name for path in trial.folder.iterdir()] == ["data"]
