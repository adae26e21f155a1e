"""What a terminal says of a disclosure: a few lines, and in them whatever the full statement has that is not usual."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.cli.console import show_result
from secirls.outputs.report import few_lines

GENES, EACH = 20, 12
PLAIN = {"engine": "local", "kernel": "numpy", "protocol": "plain", "preset": "irls"}
USUAL = ("Opened in ", "Kept at home: ", "A simulation: ", "The protocol 'plain' ", "All parties ran in one process")


@pytest.fixture(scope="module")
def sites():
    rng, found = np.random.default_rng(2), {}
    for name in ("berlin", "lyon", "turin"):
        obs = {"condition": ["a", "b"] * (EACH // 2), "batch": np.arange(EACH) % 3}
        index = [f"{name}{i}" for i in range(EACH)]
        genes = pd.DataFrame(index=[f"ENSG{i:011d}.{i + 1}" for i in range(GENES)])
        counts = rng.poisson(60, (EACH, GENES)).astype(np.int32)
        found[name] = anndata.AnnData(counts, obs=pd.DataFrame(obs, index=index), var=genes)
    return found


@pytest.fixture(scope="module")
def own(sites):
    return secirls.fit(sites, design="~ site + condition", **PLAIN)


def unusual(report):
    return [told for told in report["disclosure_in_short"] if not told.startswith(USUAL)]


def test_what_was_opened_is_said_with_its_numbers(own):
    told, report = own.report["disclosure_in_short"], own.report
    each = sum(stage["values"] for stage in report["stages"]) / report["genes"]
    opened = f"{each:,.1f} numbers a gene, sums of {GENES} genes and {3 * EACH} samples over 3 sites."
    assert told[0] == f"Opened in {len(report['rounds'])} rounds: {opened}"
    assert told[2] == "Kept at home: Intercept at berlin; site[T.lyon] at lyon; site[T.turin] at turin."
    assert unusual(report) == []


CASES = [
    {"design": "~ site + condition", "own_columns": "shared"},
    {"design": "~ batch + condition"},
    {"design": "~ condition", "preset": "deseq2", "min_kept": 1, "size_factors": "sf"},
]


@pytest.mark.parametrize("asked", CASES)
def test_what_is_not_in_every_fit_is_said_in_the_words_of_the_full_statement(sites, asked):
    for site in sites.values():
        site.obs["sf"] = np.linspace(1e4, 9e4, EACH)
    report = secirls.fit(sites, **{**PLAIN, **asked}).report
    assert set(unusual(report)) <= set(report["disclosure"])
    special = ("Published: the sums", "batch holds few whole numbers", "The size factors in")
    assert sum(told.startswith(special) for told in unusual(report)) >= 1
    assert [told for told in report["disclosure"] if told.startswith(special)] == [
        told for told in unusual(report) if told.startswith(special)
    ]


def test_the_twin_that_publishes_nothing_is_seen(sites, monkeypatch):
    monkeypatch.setattr(few_lines, "published", lambda *_: [])
    with pytest.raises(AssertionError):
        test_what_is_not_in_every_fit_is_said_in_the_words_of_the_full_statement(sites, CASES[0])


def test_a_terminal_has_a_few_lines_and_says_where_the_others_are(own, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show_result(own, own.write(tmp_path / "out"))
    text = capsys.readouterr().out
    short = text[text.index("What was disclosed") : text.index("\nFiles")].splitlines()
    assert len(short) <= 10
    told = " ".join(line.strip() for line in short)
    full = f"In full, {len(own.report['disclosure'])} sentences: report.json ('disclosure'), 'secirls report'."
    assert told.endswith(full)
    assert own.report["disclosure"][-1] not in told


def test_names_with_a_version_stay_on_one_line_at_80_columns(own, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show_result(own, [])
    shown = capsys.readouterr().out
    assert all(name in shown for name in own.table.dropna().nsmallest(5, "pvalue")["gene"])
    assert max(map(len, shown.splitlines())) <= 80


def test_in_titles_of_one_line_they_would_be_folded(own, capsys, monkeypatch):
    monkeypatch.setattr("secirls.cli.console.LONGEST_NAME", 40)
    with pytest.raises(AssertionError):
        test_names_with_a_version_stay_on_one_line_at_80_columns(own, capsys, monkeypatch)
