"""Folders of results: what is left of those that were replaced, and further comparisons in folders of their own."""

import json

from secirls.outputs.page.report_page import read_album

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
