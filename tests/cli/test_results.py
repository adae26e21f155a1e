"""``secirls results``, and what a fit hands to the next tool: annotation, ranked lists, Scanpy's shape, notebooks."""

import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from secirls.cli.console import show_result, strongest
from secirls.config import Config
from secirls.input_error import InputError
from secirls.outputs.free_folder import OF_A_FIT
from secirls.outputs.notebooks.notebook import result_html
from secirls.outputs.page.report_page import html_page, read_fit, write_page
from secirls.outputs.pictures.album import Album
from secirls.outputs.results import Result
from secirls.outputs.tables.annotation import Annotation
from secirls.outputs.tables.next_tools import ranked, rnk
from tests.cli.conftest import sentence


def test_without_options_it_writes_the_fits_own_table_and_list(made, run, tmp_path):
    _, folder, _ = made
    code, shown, error = run("results", folder, "--out", "a.csv", "--rnk", "a.rnk")
    assert (code, error) == (0, "")
    assert (tmp_path / "a.csv").read_bytes() == (folder / "results.csv").read_bytes()
    assert (tmp_path / "a.rnk").read_bytes() == (folder / "ranked.rnk").read_bytes()
    assert "dose: c against a" in shown
    code, shown, _ = run("results", folder, "--contrast", "dose", "c", "b", "--out", "b.csv")
    assert code == 0
    assert "dose: c against b" in shown
    assert (tmp_path / "b.csv").read_bytes() != (folder / "results.csv").read_bytes()


def test_a_file_that_is_there_is_not_replaced_unasked(made, run, tmp_path):
    (tmp_path / "a.csv").write_text("mine")
    code, _, error = run("results", made[1], "--out", "a.csv")
    assert (code, "a.csv" in error) == (2, True)
    assert (tmp_path / "a.csv").read_text() == "mine"
    assert run("results", made[1], "--out", "a.csv", "--overwrite")[0] == 0
    assert (tmp_path / "a.csv").read_bytes() == (made[1] / "results.csv").read_bytes()


@pytest.mark.parametrize("option", ["--out", "--rnk"])
def test_a_file_of_the_fit_is_never_replaced_by_another_comparison(made, run, tmp_path, option):
    result, _, _ = made
    folder = tmp_path / "fit"
    result.write(folder, h5ad=True)
    was = {file: file.read_bytes() for file in folder.iterdir()}
    assert {file.name for file in was} <= set(OF_A_FIT)
    (tmp_path / "same").symlink_to(folder)
    name = "results.csv" if option == "--out" else "report.json"
    for asked, file in ((folder, folder / name), (folder, f"same/../fit/{name}"), (made[1], f"same/{name}")):
        code, _, error = run("results", asked, "--contrast", "dose", "b", "a", option, file, "--overwrite")
        assert (code, sentence(error)) == (2, f"secirls: file {str(file)!r}: is one of a fit's own files; name another")
    assert {file: file.read_bytes() for file in folder.iterdir()} == was
    assert run("results", folder, "--contrast", "dose", "b", "a", "--out", folder / "b.csv")[0] == 0


def test_the_page_is_of_no_table_but_the_fits_own(made, run, tmp_path):
    folder = tmp_path / "fit"
    made[0].write(folder)
    read_fit(folder)
    made[0].contrast("dose", "b", "a").table.to_csv(folder / "results.csv", index=False)
    code, _, error = run("report", folder)
    assert code == 2
    assert sentence(error).endswith("fit/results.csv': is not the table of the fit in fit.npz")
    assert not (folder / "report.html").exists()


def test_a_table_and_a_list_are_two_files(made, run, tmp_path):
    code, _, error = run("results", made[1], "--out", "a.csv", "--rnk", tmp_path / "a.csv")
    assert (code, sentence(error)) == (2, "secirls: file 'a.csv': is named by --out and by --rnk; name two files")
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_written_as_its_ending_says(made, run, tmp_path):
    code, _, error = run("results", made[1], "--out", "a.tsv")
    assert code == 0, error
    own = pd.read_csv(made[1] / "results.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.tsv", sep="\t", keep_default_na=False), own)
    for name in ("a.xlsx", "a.csv.gz"):
        code, _, error = run("results", made[1], "--out", name)
        told = f"secirls: file {name!r}: --out ends in .csv or .tsv; a folder's name has no ending"
        assert (code, sentence(error)) == (2, told)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("kind", "told"), [("link", "is a link"), ("dangling", "is a link"), ("pipe", "no regular")])
def test_what_is_no_regular_file_is_not_replaced(made, run, tmp_path, kind, told):
    place, other = tmp_path / "a.csv", tmp_path / "other.csv"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(other)
    if kind == "link":
        other.write_text("mine")
    for words in (("--out", "a.csv"), ("--rnk", "a.csv")):
        code, _, error = run("results", made[1], *words, "--overwrite")
        assert code == 2
        assert told in sentence(error)
    assert place.is_fifo() if kind == "pipe" else place.is_symlink()
    assert not other.exists() if kind == "dangling" else kind == "pipe" or other.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--contrast", "dose", "c", "x"), ("'x'", "'dose'", "a, b, c")),
        (("--contrast", "doze", "c", "a"), ("'doze'",)),
        (("--coefficient", "dose[T.x]"), ("dose[T.x]", "Intercept, dose[T.b], dose[T.c]")),
        (("--contrast-vector", "1,2"), ("2 of 3", "Intercept, dose[T.b], dose[T.c]")),
        (("--contrast-vector", "one"), ("'one'",)),
        (("--contrast-vector", "0,1,0", "--coefficient", "Intercept"), ("one contrast",)),
        (("--alternative", "lessAbs"), ("above zero",)),
        (("--alternative", "more"), ("'more'", "greaterAbs, lessAbs, greater, less")),
        (("--lfc-threshold", "-1"), ("zero or more",)),
        (("--alpha", "1"), ("alpha",)),
        (("--annotation", "none.csv"), ("none.csv", "missing")),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(made, run, words, told):
    code, shown, error = run("results", made[1], *words)
    assert code == 2
    assert "Traceback" not in shown + error
    (line,) = error.splitlines()
    assert line.startswith("secirls: ")
    assert all(part in line for part in told), line


@pytest.mark.parametrize("command", [("fit", "--design", "~ dose"), ("results", "FOLDER")])
def test_a_contrast_of_two_words_does_not_take_the_next_option_for_its_third(made, run, tmp_path, command):
    words = [made[1] if word == "FOLDER" else word for word in command]
    code, _, error = run(*words, "--contrast", "dose", "b", "--out", "elsewhere.csv")
    assert (code, sentence(error)) == (
        2,
        "secirls: --contrast: takes three words, FACTOR LEVEL REFERENCE, and one of them would be '--out'",
    )
    assert not (tmp_path / "elsewhere.csv").exists()


@pytest.mark.parametrize(
    "words", [("--contrast", "dose", "c", "x"), ("--coefficient", "x"), ("--contrast-vector", "1")]
)
def test_the_same_mistakes_end_a_fit_before_its_first_round(trial, words):
    files = trial.write()
    if words[0] == "--contrast":
        words = ("--contrast", "condition", "treated", "x")
    line = trial.refused(files, *words)
    assert any(part in line for part in ("control, treated", "Intercept, condition[T.treated]"))


def test_a_fit_takes_the_same_options(trial):
    files = trial.write()
    plain = trial.fit(files, "--preset", "irls", out="plain")
    turned = trial.fit(
        files, "--preset", "irls", "--minus", "condition[T.treated]", "--lfc-threshold", "0.5", out="turned"
    )
    np.testing.assert_array_equal(plain["log2FoldChange"], -turned["log2FoldChange"])
    assert (turned["pvalue"] > plain["pvalue"]).any()


def test_annotation_stands_beside_the_gene_now_and_afterwards(trial, run):
    files = trial.write()
    names = trial.folder / "names.csv"
    names.write_text("id,symbol,chr\n" + "".join(f"g{i},S{i},chr{i % 3}\n" for i in range(11)))
    table = trial.fit(files, "--preset", "irls", "--annotation", names)
    assert table["symbol"].fillna("").tolist() == [*(f"S{i}" for i in range(11)), ""]
    assert table.columns[:2].tolist() == ["symbol", "chr"]
    code, shown, error = run("results", trial.folder / "out", "--out", "again.csv")
    assert code == 0, error
    assert table.sort_values("pvalue")["symbol"].iloc[0] in shown
    assert (trial.folder / "again.csv").read_bytes() == (trial.folder / "out" / "results.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "header"),
        ("gene\ng0\n", "header"),
        ("gene,padj\ng0,1\n", "'padj'"),
        ("gene,a,a\ng0,1,2\n", "'a'"),
        ("gene,a\ng0,1,2\n", "row 2"),
        ("gene,a\ng0,1\ng0,2\n", "'g0'"),
        ("gene,a\nx,1\n", "none of"),
        ("gene,a\n", "none of"),
    ],
)
def test_annotation_that_is_none_is_refused_in_a_sentence(made, tmp_path, text, told):
    file = tmp_path / "names.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=told) as raised:
        made[0].annotated(file)
    assert "names.csv" in str(raised.value)
    file.write_text("gene\ta\ng0\t1\n")
    assert made[0].annotated(Annotation.read(str(file.rename(tmp_path / "names.tsv")))).table["a"].loc["g0"] == "1"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "gene;symbol;chr\ng0;S0;1\n", "it has semicolons where commas are read"),
        ("a.csv", "gene\tsymbol\ng0\tS0\n", "it has tabs where commas are read"),
        ("a.tsv", "gene,symbol\ng0,S0\n", "it has commas where tabs are read"),
    ],
)
def test_annotation_with_other_signs_between_columns_is_told_which(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"needs a header and two columns or more, gene names first; {told}$"):
        Annotation.read(tmp_path / name)


def test_the_ranked_list_is_sorted_and_leaves_out_what_was_not_tested(made):
    table = made[0].table
    lines = [line.split("\t") for line in (made[1] / "ranked.rnk").read_text().splitlines()]
    assert len(lines) == table["pvalue"].notna().sum() == 29
    values = [float(value) for _, value in lines]
    assert values == sorted(values, reverse=True)
    assert {gene: float(value) for gene, value in lines} == table.dropna(subset=["pvalue"])["stat"].to_dict()
    outlier = table.assign(pvalue=table["pvalue"].where(table["gene"] != "g3"))
    assert "g3" in set(ranked(table)["gene"]) - set(ranked(outlier)["gene"])
    broken = rnk(table.assign(gene=table["gene"].str.replace("g3", "g\t\n3")))
    assert {line.count("\t") for line in broken.splitlines()} == {1}


def test_scanpy_finds_what_it_would_have_left(made):
    result, _, sites = made
    adata = sites["lyon"].copy()
    result.contrast("dose", "b", "c").to_scanpy(adata)
    told = adata.uns["rank_genes_groups"]
    assert told["params"]["groupby"] == "dose"
    assert told["params"]["reference"] == "c"
    for name in ("names", "scores", "pvals", "pvals_adj", "logfoldchanges"):
        assert told[name].dtype.names == ("b",)
    assert (np.diff(told["scores"]["b"]) <= 0).all()
    rows = result.contrast("dose", "b", "c").table.loc[list(told["names"]["b"])]
    assert np.array_equal(told["pvals"]["b"], rows["pvalue"])
    result.to_scanpy(adata, key="default")
    assert adata.uns["default"]["scores"].dtype.names == ("c",)
    with pytest.raises(InputError, match="lacks"):
        result.to_scanpy(adata[:, :5].copy())


def test_tables_are_indexed_by_gene_and_paths_may_be_text(made, tmp_path):
    result, _, _ = made
    for table in (result.table, result.coefficients):
        assert table.index.tolist() == table["gene"].tolist()
    assert result.table.loc["NA", "status"] == "converged"
    result.write(str(tmp_path / "text"))
    again = Result.read(str(tmp_path / "text"))
    assert again.table.equals(result.table)
    assert again.report == result.report


def test_the_page_takes_text_for_a_path_and_pictures_a_kind(made, tmp_path, monkeypatch):
    drawn = Album.drawn
    monkeypatch.setattr(Album, "drawn", lambda *asked: {"pvalues": drawn(*asked)["pvalues"]})  # one is enough
    result, _, _ = made
    result.write(str(tmp_path / "text"))
    assert write_page(str(tmp_path / "text")).read_text().startswith("<!DOCTYPE html>")
    assert {file.suffix for file in result.plots.save(str(tmp_path / "pictures"), "svg, pdf")} == {".svg", ".pdf"}


def test_a_vector_may_be_text_and_a_coefficient_one_name(made):
    result, _, _ = made
    told = result.contrast(vector="0,-1,1")
    assert told.table.equals(result.contrast(vector=[0, -1, 1]).table)
    assert not told.table.equals(result.table)
    with pytest.raises(InputError, match="write numbers with commas between"):
        result.contrast(vector="0,b,1")
    assert Config(design="~ dose", coefficients="dose[T.b]").coefficients == ("dose[T.b]",)


def test_python_shows_a_result_in_a_line(made):
    shown = repr(made[0].contrast("dose", "b", "a"))
    found = int((made[0].contrast("dose", "b", "a").table["padj"] < 0.05).sum())
    told = f"30 genes, 27 samples, 3 sites; {found} genes with adjusted p below 0.05"
    assert shown == f"<Result of dose: b against a: {told}>"


def test_what_p_values_of_a_likelihood_ratio_are_of_is_said_wherever_they_are_shown(made, undrawn):
    design = {"configuration": {**made[0].report["configuration"], "design": "~ dose"}}
    report = {**made[0].report, **design, "test": {"test": "lrt", "reduced": "~ 1"}}
    result = replace(made[0], report=report)
    told = "p of ~ dose against ~ 1; fold changes of dose: c against a"
    assert repr(result).startswith(f"<Result of {told}: ")
    assert told in result._repr_html_()
    assert f"<h1>{told}</h1>" in html_page(result.plots)
    assert strongest(result, 3)[0] == f"Strongest genes ({told})"


@pytest.mark.parametrize(("words", "directed"), [((), True), (("--alternative", "lessAbs"), False)])
def test_genes_within_a_threshold_are_neither_up_nor_down(made, run, words, directed):
    _, shown, _ = run("results", made[1], "--contrast", "dose", "b", "a", "--lfc-threshold", "3", *words)
    assert "with adjusted p below" in shown
    assert (" up, " in shown) == directed


def test_a_fit_ends_with_how_many_genes_changed(made, capsys):
    result, _, _ = made
    show_result(result, [])
    table = result.table
    found = table[table["padj"] < 0.05]
    up = int((found["log2FoldChange"] > 0).sum())
    of, down = table["padj"].notna().sum(), len(found) - up
    assert (
        f"{len(found)} of {of} genes with adjusted p below 0.05: {up} up, {down} down"
        in capsys.readouterr().out.splitlines()
    )


def test_a_notebook_shows_shrunken_changes_where_there_are_some(made):
    result, _, _ = made
    assert "shrunken" not in result._repr_html_()
    drawn = result.table.assign(shrunkenLog2FoldChange=0.125, svalue=0.0625)
    shown = result_html(drawn, result.report, (), 0.05)
    assert "<th>shrunkenLog2FoldChange</th>" in shown
    assert "<td>0.125</td>" in shown
    assert "<td>0.0625</td>" in shown


def test_a_notebook_shows_names_as_text(made):
    page = made[0].contrast("dose", "b", "a")._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "dose: b against a" in page
    config = Config(design="~ dose", layer="<b>raw</b>")._repr_html_()
    assert "&lt;b&gt;raw&lt;/b&gt;" in config
    assert "<b>" not in config
    assert "ridge" not in config, "only what differs from the defaults"
    assert repr(Config(design="~ dose", alpha=0.1)) == "Config(design='~ dose', alpha=0.1)"


def test_a_notebook_shows_base_means_as_the_terminal_does(made):
    result, _, _ = made
    table = result.table.assign(baseMean=11193.72)
    assert "<td>11,193.7</td>" in result_html(table, result.report, (), 0.05)


def test_a_summary_is_of_the_table_that_was_asked_for(made):
    result, _, _ = made
    told = result.contrast("dose", "b", "a", alpha=0.2).summary()["genes"]
    table = result.contrast("dose", "b", "a", alpha=0.2).table
    assert told["log2 fold change > 0.00 (up)"] == ((table["padj"] < 0.2) & (table["log2FoldChange"] > 0)).sum() > 0
    assert told["with a base mean above zero"] == (table["baseMean"] > 0).sum() == 29


def test_a_comparison_of_words_is_refused_in_a_sentence(made):
    for wrong in ({"alpha": "a"}, {"lfc_threshold": "1"}):
        with pytest.raises(InputError, match=f"^{next(iter(wrong))}: input should be a number, not '"):
            made[0].contrast("dose", "b", "a", **wrong)
