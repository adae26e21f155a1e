"""One fit from files to tables: the same bytes for every protocol, on Ray and in one process."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import secirls
from protocols.choice import NAMES
from secirls.agreement.ledger import COLUMNS
from secirls.inputs.datasets import AIRWAY_LEVELS

TEST_KEYS = {
    ("paillier", "local"): {"key_bits": 2048},
    ("paillier", "ray"): {"key_bits": 2048, "obfuscation": "subgroup"},
    ("paillier-threshold", "local"): {"key_bits": 512, "insecure_test_keys": True},
    ("paillier-threshold", "ray"): {"key_bits": 512, "insecure_test_keys": True},
}
"""Keys that are made and used quickly; the bits of the results do not depend on them."""


@pytest.fixture(scope="session")
def few_genes(tmp_path_factory, airway_sites):
    """Airway with every 64th gene: quick enough for Paillier."""
    return thinned(tmp_path_factory.mktemp("few"), airway_sites, 64)


def thinned(folder, sites, every):
    import anndata

    paths = {name: folder / path.name for name, path in sites.items()}
    for name, path in sites.items():
        anndata.read_h5ad(path)[:, ::every].copy().write_h5ad(paths[name])
    return paths


def written(folder, sites, protocol, engine):
    result = secirls.fit(
        sites,
        design="~ condition",
        levels=AIRWAY_LEVELS,
        protocol=protocol,
        engine=engine,
        **TEST_KEYS.get((protocol, engine), {}),
    )
    result.write(folder / f"{protocol}-{engine}")
    return (folder / f"{protocol}-{engine}" / "results.csv").read_bytes()


@pytest.fixture(scope="session")
def plain_bytes(tmp_path_factory, few_genes):
    return written(tmp_path_factory.mktemp("plain"), few_genes, "plain", "local")


EVERYDAY = {("plain", "local"), ("additive", "local"), ("pairwise", "local"), ("pairwise", "ray")}
"""Without keys, and once with a process for every party; all others are slow, and small in the next file."""


@pytest.mark.parametrize(
    ("protocol", "engine"),
    [
        pytest.param(protocol, engine, marks=[] if (protocol, engine) in EVERYDAY else [pytest.mark.slow])
        for protocol in NAMES
        for engine in ("local", "ray")
    ],
)
def test_every_protocol_and_engine_writes_the_same_bytes(tmp_path, few_genes, plain_bytes, request, protocol, engine):
    if engine == "ray":
        request.getfixturevalue("local_ray")
    assert written(tmp_path, few_genes, protocol, engine) == plain_bytes


def test_other_data_do_not_write_the_same_bytes(tmp_path, few_genes, plain_bytes):
    import anndata

    name, path = next(iter(few_genes.items()))
    changed = anndata.read_h5ad(path)
    changed.X[0, int(np.argmax(changed.X[0]))] += 1
    changed.write_h5ad(tmp_path / path.name)
    assert written(tmp_path, {**few_genes, name: tmp_path / path.name}, "plain", "local") != plain_bytes


AIRWAY = {"design": "~ condition", "levels": AIRWAY_LEVELS, "engine": "local"}


@pytest.fixture(scope="session")
def airway_fit(airway_sites):
    return secirls.fit(airway_sites, preset="irls", protocol="plain", **AIRWAY)


@pytest.fixture(scope="session")
def whole_fit(tmp_path_factory, airway_sites):
    """Of every eighth gene."""
    return secirls.fit(thinned(tmp_path_factory.mktemp("eighth"), airway_sites, 8), **AIRWAY)


def test_the_whole_deseq2_explains_what_has_no_number(whole_fit):
    table = whole_fit.table
    assert list(table.columns[:7]) == ["gene", "baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]
    assert ((table["reason"] != "") == ((table["status"] != "converged") | table["padj"].isna())).all()
    assert table["dispersion"].notna().equals(table["status"].isin(["converged", "caught"]))
    assert whole_fit.dispersions["dispersion"].equals(table["dispersion"])


def test_the_whole_deseq2_says_what_each_stage_opened(whole_fit):
    report = whole_fit.report
    text = " ".join(report["disclosure"])
    for stage in ("census", "size factors", "cells", "moments", "profile", "coefficients"):
        assert f"Stage '{stage}' opened" in text
    for words in ("no part in the trend", "over 8 samples, more", "median of ratios", "not audited", "one process"):
        assert words in text
    of_rounds = Counter(told["stage"] for told in report["rounds"])
    assert of_rounds == {stage["stage"]: stage["rounds"] for stage in report["stages"]}
    protect = whole_fit.ledger[(whole_fit.ledger.verb == "protect") & (whole_fit.ledger.party == "N61311")]
    assert 0 <= protect["values"].sum() - sum(stage["values"] for stage in report["stages"]) < 100  # check values
    assert report["trend"]["kind"] == "parametric"
    assert report["independent_filtering"]["threshold"] > 0
    json.dumps(report)


def test_the_whole_deseq2_writes_its_dispersions(tmp_path, whole_fit):
    files = whole_fit.write(tmp_path / "out", h5ad=True)
    assert "dispersions.csv" in {file.name for file in files}
    read = pd.read_csv(tmp_path / "out" / "dispersions.csv", float_precision="round_trip")
    assert np.array_equal(read["dispMAP"], whole_fit.dispersions["dispMAP"], equal_nan=True)


def test_every_gene_is_accounted_for(airway_fit):
    counts = airway_fit.table["status"].value_counts()
    assert counts.sum() == 33469
    assert set(counts.index) <= {"converged", "caught", "diverged", "failed", "all_zero", "too_few_sites"}
    explained = airway_fit.table["reason"] != ""
    unusual = airway_fit.table["status"] != "converged"
    assert (explained == (unusual | airway_fit.table["pvalue"].isna())).all()
    assert airway_fit.report["status_counts"] == counts.to_dict()


def test_the_genes_that_were_published_come_out(airway_fit):
    # DUSP1, KLF15, PER1 and CRISPLD2: up with dexamethasone in Himes et al. (2014).
    published = ["ENSG00000120129", "ENSG00000163884", "ENSG00000179094", "ENSG00000103196"]
    rows = airway_fit.table.set_index("gene").loc[published]
    assert (rows["padj"] < 0.01).all()
    assert (rows["log2FoldChange"] > 1).all()


def test_ledger_is_tidy_and_bytes_are_message_lengths(airway_fit):
    ledger = airway_fit.ledger
    assert tuple(ledger.columns) == COLUMNS
    protect = ledger[(ledger.verb == "protect") & (ledger.party != "aggregator")]
    assert (protect.groupby("round").size() == 4).all()
    # A payload holds at least the masked vector: 16 bytes per value.
    assert (protect.bytes_up >= 16 * protect["values"]).all()
    assert (protect.bytes_up <= 16 * protect["values"] + 2048).all()
    assert (ledger[["seconds", "cpu_seconds", "bytes_up", "bytes_down"]] >= 0).all().all()
    sent = ledger.groupby("round").bytes_up.sum()
    assert sent.iloc[-1] < sent.max() / 50


def test_report_says_who_what_and_how(airway_fit):
    report = airway_fit.report
    assert set(report["sites"]) == {"N052611", "N061011", "N080611", "N61311"}
    assert all(entry["parties"] == sorted(report["sites"]) for entry in report["rounds"])
    assert report["levels"] == {"condition": ["untrt", "trt"]}
    assert report["contrast"] == "condition: trt against untrt"
    assert report["samples"] == 8
    text = " ".join(report["disclosure"])
    for words in ("method of moments", "median of ratios", "not audited", "one process"):
        assert words in text
    json.dumps(report)


def test_files_are_whole_numbers_survive_and_nothing_is_overwritten(tmp_path, airway_fit):
    out = tmp_path / "out"
    files = airway_fit.write(out, h5ad=True)
    assert sorted(file.name for file in files) == [
        "coefficients.csv", "fit.npz", "ranked.rnk", "report.json", "results.csv", "results.h5ad", "rounds.csv",
    ]  # fmt: skip
    assert sorted(out.parent.iterdir()) == [out]
    table = pd.read_csv(out / "results.csv", keep_default_na=False, na_values=[""], float_precision="round_trip")
    for column in ("baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"):
        assert np.array_equal(table[column], airway_fit.table[column], equal_nan=True)
    with pytest.raises(secirls.InputError, match="holds the results of a fit already"):
        airway_fit.write(out)
    airway_fit.write(out, overwrite=True)


def test_h5ad_reopens_without_counts(tmp_path, airway_fit):
    import anndata

    airway_fit.write(tmp_path / "out", h5ad=True)
    saved = anndata.read_h5ad(tmp_path / "out" / "results.h5ad")
    assert saved.shape == (0, 33469)
    assert np.array_equal(saved.varm["coefficients"][:, 1], airway_fit.coefficients["condition[T.trt]"], equal_nan=True)
    assert "disclosure" in saved.uns["secirls_report"]


def test_counts_and_samples_do_not_leave_in_results(tmp_path, airway_fit, airway_sites):
    airway_fit.write(tmp_path / "out", h5ad=True)
    for file in (tmp_path / "out").iterdir():
        assert b"SRR1039508" not in file.read_bytes(), file.name
    assert any(b"SRR1039508" in path.read_bytes() for path in airway_sites.values())
