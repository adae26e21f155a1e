"""Fold changes of any contrast shrunken as ashr does, from a finished fit and without its sites."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.cli.console import strongest
from secirls.input_error import InputError
from secirls.numerics.inference import adaptive_shrinkage
from secirls.numerics.inference.adaptive_shrinkage import fit_mixture, posterior
from secirls.outputs.results import Result
from secirls.outputs.tables.shrunken import COLUMNS, SHRUNKEN, beside_ashr
from tests.cli.conftest import sentence

GENES = 90


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A fit of 3 small sites in its folder; the last gene has no count at all, each third one differs at dose b."""
    import anndata

    rng = np.random.default_rng(17)
    base, sites = rng.uniform(1, 6, GENES), {}
    for site in ("berlin", "lyon", "turin"):
        dose = np.array(["a", "b", "c"] * 3)
        mu = np.exp(base + np.outer(dose == "b", np.where(np.arange(GENES) % 3 == 0, 1.5, 0.0)))
        counts = rng.negative_binomial(10, 10 / (10 + mu)).astype(np.int32)
        counts[:, -1] = 0
        obs = pd.DataFrame({"dose": dose}, index=[f"{site}{i}" for i in range(9)])
        var = pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(GENES)])
        sites[site] = anndata.AnnData(counts, obs=obs, var=var)
    result = secirls.fit(sites, design="~ dose", engine="local", preset="irls", protocol="plain", kernel="numpy")
    folder = tmp_path_factory.mktemp("made") / "fit"
    result.write(folder)
    return result, folder


def test_any_contrast_has_them_beside_estimates_that_stay(made):
    result, _ = made
    plain, ashr = (result.contrast("dose", "b", "c", ashr=wanted) for wanted in (False, True))
    assert ashr.table.drop(columns=list(COLUMNS)).equals(plain.table)
    at = list(ashr.table.columns).index("padj") + 1
    assert tuple(ashr.table.columns[at : at + 3]) == COLUMNS
    known = ashr.table["lfcSE"].notna()
    assert known.sum() > GENES - 5
    assert ashr.table.loc[known, list(COLUMNS)].notna().all(axis=None)
    assert ashr.table.loc[~known, list(COLUMNS)].isna().all(axis=None)
    assert (ashr.table.loc[~known, "reason"] != "").all()
    b, s = (ashr.table.loc[known, name].to_numpy() for name in ("log2FoldChange", "lfcSE"))
    expected = posterior(b, s, fit_mixture(b, s))
    assert np.array_equal(ashr.table.loc[known, SHRUNKEN], expected.mean)
    assert np.array_equal(ashr.table.loc[known, "posteriorSD"], expected.deviation)
    assert ashr.table.loc[known, "svalue"].max() == pytest.approx(expected.wrong.mean(), rel=1e-12)
    told = ashr.report["ashr"]
    assert (told["genes"], len(told["weights"])) == (known.sum(), len(told["deviations"]))
    assert plain.report["ashr"] is None
    assert result.report["ashr"] is None


def test_they_stay_with_what_is_asked_on_and_with_what_is_written(made, tmp_path):
    ashr = made[0].contrast(ashr=True)
    other = ashr.contrast("dose", "b", "c", alpha=0.1)
    assert SHRUNKEN in other.table
    assert not other.table[SHRUNKEN].equals(ashr.table[SHRUNKEN])
    assert SHRUNKEN not in other.contrast(ashr=False).table
    other.write(tmp_path / "out")
    again = Result.read(tmp_path / "out")
    assert again.table.equals(other.table)
    assert again.report["ashr"] == json.loads(json.dumps(other.report["ashr"]))
    assert [axes.get_title() for axes in again.plots.ma().axes] == ["dose: b against c", "dose: b against c, ashr"]


def test_the_command_writes_and_shows_them(made, run, tmp_path):
    _, folder = made
    code, shown, error = run("results", folder, "--contrast", "dose", "b", "c", "--ashr", "--out", "b.csv")
    assert (code, error) == (0, "")
    table = pd.read_csv(tmp_path / "b.csv")
    assert set(COLUMNS) <= set(table)
    assert "shrunken" in shown
    assert table.sort_values(["pvalue", "stat"])["gene"].iloc[0] in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    code, shown, _ = run("results", folder, "--no-ashr", "--out", "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == (folder / "results.csv").read_bytes()
    assert "shrunken" not in shown


def test_the_page_of_such_a_folder_draws_them_though_some_are_missing(made, run, tmp_path):
    code, _, error = run("results", made[1], "--contrast", "dose", "b", "c", "--ashr", "--out", "ashr")
    assert (code, error) == (0, "")
    assert pd.read_csv(tmp_path / "ashr" / "results.csv")[SHRUNKEN].isna().any()
    code, _, error = run("report", "ashr")
    assert (code, error) == (0, "")
    assert ">shrunken" in (tmp_path / "ashr" / "report.html").read_text()
    damaged = (tmp_path / "ashr" / "results.csv").read_text().splitlines()
    damaged[3] = ",".join([*damaged[3].split(",")[:1], "many", *damaged[3].split(",")[2:]])
    (tmp_path / "ashr" / "results.csv").write_text("\n".join(damaged))
    code, _, error = run("report", "ashr")
    assert (code, sentence(error)) == (2, "secirls: file 'ashr/results.csv': column 'baseMean' does not hold numbers")


def test_where_there_is_no_room_names_take_two_lines_and_no_number_is_cut(made):
    from rich.console import Console

    result = made[0].contrast("dose", "b", "a", ashr=True)
    symbols = {"symbol": tuple(f"SYMBOL-OF-{i:05d}" for i in range(GENES))}
    result = replace(result, kept=replace(result.kept, annotation=symbols)).contrast()
    console = Console(width=80, force_terminal=False)
    with console.capture() as held:
        console.print(strongest(result, 5)[1])
    shown = held.get()
    assert "…" not in shown
    best = result.table.sort_values(["pvalue", "stat"]).iloc[0]
    assert f"{best[SHRUNKEN]:+.3f}" in shown
    assert f"{best['padj']:.2e}" in shown


@pytest.mark.parametrize(("width", "left_out"), [(36, True), (40, True), (66, False)])
def test_a_narrow_terminal_has_every_gene_and_its_fold_change_whole(made, width, left_out):
    from rich.console import Console

    result = made[0].contrast("dose", "b", "a")
    console = Console(width=width, force_terminal=False)
    with console.capture() as held:
        console.print(strongest(result, 5, width)[1])
    rows = [line.split("│")[1:-1] for line in held.get().splitlines() if line.startswith("│")]
    best = result.table.sort_values(["pvalue", "stat"]).iloc[0]
    assert "".join(row[0].strip() for row in rows).startswith(best["gene"]), "on two lines perhaps, and whole"
    assert f"{best['log2FoldChange']:+.3f}" in "".join(rows[0])
    assert f"{best['padj']:.2e}" in "".join(rows[0])
    assert "…" not in held.get()
    assert ("base" not in held.get()) == left_out


@pytest.mark.parametrize("ashr", [1, "yes", 0.0])
def test_what_is_no_yes_or_no_is_a_sentence(made, ashr):
    with pytest.raises(InputError, match="ashr: input should be yes or no"):
        made[0].contrast(ashr=ashr)


def test_what_comes_to_no_prior_is_a_sentence(made, monkeypatch, run):
    monkeypatch.setattr(adaptive_shrinkage, "MOST_ROUNDS", 0)
    code, _, error = run("results", made[1], "--ashr", "--out", "never.csv")
    assert code == 2
    assert "ashr came to no prior: weights of" in " ".join(error.split())


def test_without_a_standard_error_there_is_nothing_to_shrink(made):
    with pytest.raises(InputError, match="no gene has a fold change with a standard error"):
        beside_ashr(made[0].table.assign(lfcSE=np.nan))
