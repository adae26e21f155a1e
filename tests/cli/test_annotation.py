"""``--annotation``: what genes are called, from a file of the user's or from var columns that all sites have alike."""

import json

import anndata
import pandas as pd
import pytest

import secirls
from secirls.input_error import InputError
from secirls.outputs.page.report_page import read_album
from secirls.outputs.results import Result
from secirls.outputs.tables.next_tools import rnk

IRLS = ("--preset", "irls")


@pytest.fixture
def named(trial):
    """Sites whose genes have symbols (of two genes the same, of one none) and chromosomes, in their own orders."""
    for var in trial.var.values():
        var["symbol"] = [*(f"S{i}" for i in range(10)), "S9", None]
        var["chr"] = pd.Categorical([str(i % 3 + 1) for i in range(12)])
        var["mean_counts"] = 1.0
    return trial


def report(trial, out="out"):
    return json.loads((trial.folder / out / "report.json").read_text())


SYMBOLS = [*(f"S{i}" for i in range(10)), "S9", ""]
CHROMOSOMES = [i % 3 + 1 for i in range(12)]


def test_var_columns_stand_beside_the_genes_wherever_results_go(named, run):
    files = named.write()
    table = named.fit(files, *IRLS, "--annotation", "symbol, chr", "--h5ad", "--transcript", "transcript")
    out = named.folder / "out"
    assert table.columns[:3].tolist() == ["symbol", "chr", "baseMean"]
    assert table["symbol"].fillna("").tolist() == SYMBOLS
    assert table["chr"].tolist() == CHROMOSOMES
    var = anndata.read_h5ad(out / "results.h5ad").var
    assert var["symbol"].tolist() == SYMBOLS
    album = read_album(out)
    assert album.labels == dict(zip(table.index, SYMBOLS, strict=True))
    assert report(named)["annotation"] == {"columns": ["symbol", "chr"], "left_out": {}}
    assert "Told of the var columns 'symbol', 'chr'" in " ".join(report(named)["disclosure"])
    code, shown, error = run("audit", "transcript")
    assert (code, "nothing was found" in shown) == (0, True), error
    assert (out / "ranked.symbols.rnk").exists()
    plain = named.fit(files, *IRLS, "--overwrite")
    assert plain.equals(table.drop(columns=["symbol", "chr"]))
    assert not (out / "ranked.symbols.rnk").exists()


def test_a_ranked_list_by_symbol_has_each_once_and_only_genes_that_have_one(named, run):
    table = named.fit(named.write(), *IRLS, "--annotation", "symbol")
    lines = (named.folder / "out" / "ranked.symbols.rnk").read_text().splitlines()
    ranked = dict(line.split("\t") for line in lines)
    assert sorted(ranked) == sorted(set(SYMBOLS) - {""})
    assert len(lines) == 10
    assert float(ranked["S9"]) == pytest.approx(max(table["stat"]["g9"], table["stat"]["g10"], key=abs), rel=1e-14)
    assert len((named.folder / "out" / "ranked.rnk").read_text().splitlines()) == 12
    code, _, error = run("results", "out", "--rnk", "by.rnk", "--rnk-by", "symbol")
    assert code == 0, error
    assert (named.folder / "by.rnk").read_text().splitlines() == lines
    code, _, error = run("results", "out", "--rnk", "more.rnk", "--rnk-by", "stat")
    assert (code, "'stat': is no column of annotation (there: 'symbol')" in error) == (2, True)


def test_a_column_that_sites_have_otherwise_is_left_out_with_a_sentence_and_the_fit_goes_on(named):
    named.var["lyon"].loc["g3", "symbol"] = "SECRET"
    del named.var["turin"]["chr"]
    table = named.fit(named.write(), *IRLS, "--annotation", "symbol,chr,mean_counts", "--transcript", "transcript")
    assert table.columns[0] == "baseMean"
    told = report(named)["annotation"]
    assert told["columns"] == []
    no_text = "it holds something else than text at berlin, lyon, turin"
    assert told["left_out"] == {
        "symbol": "Var column 'symbol' is left out: it differs between sites (berlin, turin; lyon).",
        "chr": "Var column 'chr' is left out: it is missing at turin.",
        "mean_counts": f"Var column 'mean_counts' is left out: {no_text}.",
    }
    for sentence in told["left_out"].values():
        assert sentence in report(named)["disclosure"]
    messages = [path.read_bytes() for path in (named.folder / "transcript").rglob("*") if path.is_file()]
    assert any(b"left out" not in message and b"symbol" in message for message in messages)
    assert not any(b"SECRET" in message for message in messages)


def test_sites_that_order_their_genes_otherwise_have_the_same_symbols(named):
    table = named.fit(named.write(), *IRLS, "--annotation", "symbol", out="plain")
    mixed = {name: named.adata(name)[:, ::step] for name, step in (("berlin", 1), ("lyon", -1), ("turin", 1))}
    mixed["turin"] = mixed["turin"][:, 1:]
    result = secirls.fit(
        mixed, design="~ condition", engine="local", preset="irls", genes="intersection", annotation="symbol,chr"
    )
    assert result.table["symbol"].tolist() == SYMBOLS[1:]
    assert result.table["symbol"].to_dict() == table["symbol"].fillna("").drop("g0").to_dict()
    assert result.table["chr"].tolist() == list(map(str, CHROMOSOMES[1:]))
    adata = named.adata("lyon")
    fresh = anndata.AnnData(adata.X, obs=adata.obs, var=pd.DataFrame(index=adata.var_names))
    result.to_scanpy(fresh)
    assert fresh.var["symbol"].tolist() == ["", *SYMBOLS[1:]]
    assert "S1" in rnk(result.table, "symbol")


def test_a_file_of_the_users_takes_the_place_of_what_has_its_name(named, tmp_path):
    named.fit(named.write(), *IRLS, "--annotation", "symbol,chr")
    file = tmp_path / "names.tsv"
    file.write_text("gene\tsymbol\n" + "".join(f"g{i}\tmine{i}\n" for i in range(12)))
    result = Result.read(named.folder / "out").annotated(file)
    assert result.table["symbol"].tolist() == [f"mine{i}" for i in range(12)]
    assert result.table["chr"].tolist() == list(map(str, CHROMOSOMES))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("symbol,symbol", "'symbol' is empty, twice there, or a name of the results"),
        ("symbol,", "'' is empty"),
        ("padj", "'padj' is empty, twice there"),
        ("svalue", "a name of the results"),
        ("folder/names", "the name of such a file ends in .csv, .tsv, .txt"),
        ("names.csv", "file 'names.csv': is missing"),
    ],
)
def test_a_mistake_ends_in_a_sentence_before_anything_is_asked(named, given, told):
    assert told in named.refused(named.write(), "--annotation", given)


def test_afterwards_only_a_file_is_taken(named, run):
    named.fit(named.write(), *IRLS)
    for words in (("results", "out"), ("resume", "out")):
        code, _, error = run(*words, "--annotation", "symbol")
        assert (code, "no site is asked here, so give a file; a fit takes var columns" in error) == (2, True), error


def test_python_says_where_a_file_is_given(named):
    sites = {name: named.adata(name) for name in named.counts}
    with pytest.raises(InputError, match=r"'genes.csv' is a file and no var column: give it to Result.annotated"):
        secirls.fit(sites, design="~ condition", engine="local", annotation="genes.csv")
