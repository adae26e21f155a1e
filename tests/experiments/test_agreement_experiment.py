"""What *agreement* measures: differences it must see, sets it must tell apart, tables it must read as they are."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments.estimates import agreement_ways as ways
from experiments.estimates.agreement import sets, stages
from experiments.estimates.agreement_ways import COLUMNS, FLAGS, Table
from experiments.groundwork.data_sets import DataSet, open_set
from experiments.groundwork.record import SkippedError

GENES = pd.Index(["a", "b", "c", "d"])


def table(**changed):
    """Four genes, some of whose columns are given."""
    made = {name: np.array([1.0, 2.0, 3.0, 4.0]) for name in COLUMNS} | {"padj": np.array([0.01, 0.02, 0.5, np.nan])}
    made |= {name: np.zeros(4, dtype=bool) for name in FLAGS}
    return Table(pd.DataFrame(made | changed, index=GENES), pd.Series([1.0, 2.0], index=["s", "t"]), 0.5, 3.0)


def test_equal_tables_differ_nowhere_and_every_stage_is_compared():
    told = list(stages(table(), table()))
    assert {row["item"] for row in told} >= {"size factors", "gene-wise dispersion", "p-value", "filter threshold"}
    assert len(told) == 12
    assert all(row["largest"] == 0 and row["beyond"] == 0 for row in told)


def test_a_stage_that_differs_is_seen_and_no_other():
    other = table(gene_wise=np.array([1.0, 2.0, 3.0, 4.4]))
    seen = {row["item"]: row for row in stages(other, table()) if row["largest"] > 0}
    assert list(seen) == ["gene-wise dispersion"]
    assert seen["gene-wise dispersion"]["largest"] == pytest.approx(0.1)
    assert seen["gene-wise dispersion"]["beyond"] == 1
    assert seen["gene-wise dispersion"]["median"] == 0


def test_genes_in_another_order_are_compared_by_name():
    other = table()
    turned = Table(other.genes.iloc[::-1], other.size_factors.iloc[::-1], 0.5, 3.0)
    assert all(row["largest"] == 0 for row in stages(turned, other))


def test_first_fits_are_not_compared_where_a_gene_was_fitted_again():
    again = table(gene_wise=np.array([1.0, 2.0, 3.0, 9.0]), replaced=np.array([False, False, False, True]))
    rows = {row["item"]: row for row in stages(again, table())}
    assert rows["gene-wise dispersion"]["genes"] == 3
    assert rows["gene-wise dispersion"]["largest"] == 0
    assert rows["final dispersion"]["genes"] == 4


def test_sets_are_counted_one_way_the_other_and_both():
    ours = table(padj=np.array([0.01, 0.5, 0.02, np.nan]), missing=np.array([False, False, False, True]))
    rows = {row["item"]: (row["ours"], row["theirs"], row["common"]) for row in sets(ours, table())}
    assert rows == {"differentially expressed": (2, 2, 1), "replaced": (0, 0, 0), "without a p-value": (1, 0, 0)}


def test_a_meta_analysis_is_the_mean_weighted_by_inverse_variances():
    weight, weighted = np.array([4.0 + 1.0]), np.array([4.0 * 2.0 + 1.0 * -1.0])  # 2 +- 1/2 and -1 +- 1
    change, error, pvalue = ways.combined(weight, weighted)
    assert change[0] == pytest.approx(1.4)
    assert error[0] == pytest.approx(5**-0.5)
    assert pvalue[0] == pytest.approx(0.0017451, rel=1e-4)


def test_two_sites_become_three_parties_and_no_sample_is_lost():
    data = open_set("simulated-20x12x2", 0)
    held = data.parties()
    assert sorted(held) == ["site001-1", "site001-2", "site002"]
    assert sorted(name for adata in held.values() for name in adata.obs_names) == sorted(data.whole.obs_names)
    assert sorted(open_set("simulated-20x12x3", 0).parties()) == ["site001", "site002", "site003"]


def test_genes_without_a_count_are_added_at_the_end():
    data = open_set("simulated-20x12x3", 0)
    more = data.with_empty_genes(5)
    assert isinstance(more, DataSet)
    assert more.whole.n_vars == 25
    assert np.array_equal(more.counts()[:, :20], data.counts())
    assert not more.counts()[:, 20:].any()


def test_size_factors_are_those_of_the_pool_however_it_is_split():
    from experiments.groundwork.data_sets import size_factors

    data = open_set("simulated-200x12x3", 0)
    found = ways._size_factors(data.sites())[data.whole.obs_names]
    np.testing.assert_allclose(found, size_factors(data.counts()), rtol=1e-13)


def test_tables_of_r_that_are_not_here_are_skipped_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("SECIRLS_DATA", str(tmp_path / "data"))
    with pytest.raises(SkippedError, match=r"R's tables airway/condition are neither in \.\./shared/reference nor in"):
        ways.reference("airway", "~ condition")


def test_tables_of_r_are_read_with_what_their_flags_mean(tmp_path, monkeypatch):
    folder = tmp_path / "reference" / "toy" / "site_condition"
    folder.mkdir(parents=True)
    first = "gene,dispGeneEst,dispFit,dispMAP\na,0.1,0.2,0.15\nb,0.3,0.2,0.25\n"
    last = (
        "gene,baseMean,log2FoldChange,lfcSE,pvalue,padj,dispersion,replaced\n"
        "a,10,1,0.5,0.04551,0.04551,0.15,FALSE\nb,20,2,0.5,NA,NA,0.25,TRUE\n"
    )
    for name, text in {"wald": first, "default": last, "samples": "sample,sizeFactor\ns,1.5\n"}.items():
        pd.read_csv(pd.io.common.StringIO(text)).to_csv(folder / f"r_{name}.csv.gz", index=False, na_rep="NA")
    info = {"dispPriorVar": "0.75", "filterThreshold": "2.5"}
    (folder / "r_info.json").write_text(json.dumps(info), encoding="utf-8")
    monkeypatch.setenv("SECIRLS_DATA", str(tmp_path))
    told = ways.reference("toy", "~ site + condition")
    assert list(told.genes["replaced"]) == [False, True]
    assert list(told.genes["missing"]) == [False, True]
    assert list(told.genes["maximum"]) == [0.15, 0.25]
    assert (told.prior_variance, told.threshold, told.size_factors["s"]) == (0.75, 2.5, 1.5)
