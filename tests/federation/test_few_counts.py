"""Genes whose counts add up to little are left out, as if nobody had them in his file."""

import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.input_error import InputError

GENES, SAMPLES, LEAST = 240, 18, 12.0
"""Samples are no more than counts asked for: genes with a count in every sample stay, and with them size factors."""
NUMBERS = ["baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj", "dispersion"]


def sites_of(counts):
    import anndata

    treated = np.arange(SAMPLES) // 3 % 2 == 1
    obs = pd.DataFrame({"condition": np.where(treated, "t", "c")}, index=[f"s{i}" for i in range(SAMPLES)])
    dealt = np.arange(SAMPLES) % 3
    return {
        f"site{i}": anndata.AnnData(
            counts.to_numpy(np.int32)[dealt == i], obs[dealt == i], pd.DataFrame(index=counts.columns)
        )
        for i in range(3)
    }


@pytest.fixture(scope="module")
def counts():
    """From genes that nobody counts to genes that all do; one's counts are few and at two sites alone."""
    rng = np.random.default_rng(26)
    means = np.exp(np.linspace(-4.0, 6.0, GENES)) * np.exp(rng.normal(0, 0.2, (SAMPLES, 1)))
    means[np.arange(SAMPLES) // 3 % 2 == 1, ::7] *= 4.0
    shape = 1.0 / (0.1 + 1.0 / means)
    drawn = rng.negative_binomial(shape, shape / (shape + means))
    drawn[np.arange(SAMPLES) % 3 == 2, 30] = 0
    return pd.DataFrame(drawn, columns=[f"g{i:03d}" for i in range(GENES)])


def fitted(counts, **options):
    return secirls.fit(sites_of(counts), design="~ condition", **{"engine": "local", "protocol": "plain"} | options)


@pytest.fixture(scope="module")
def whole(counts):
    """The twin: a fit of all genes."""
    return fitted(counts, protocol="pairwise")


def test_the_rest_is_what_a_fit_of_files_without_these_genes_gives(counts, whole):
    """To the last bit; it asks the sites for nothing more."""
    result = fitted(counts, protocol="pairwise", min_total_count=LEAST)
    table = result.table
    few = table.index[table["status"] == "too_few_counts"]
    assert 20 < len(few) < 120
    assert (whole.table.loc[few, "baseMean"] * SAMPLES < LEAST).all()
    assert table.loc[few, NUMBERS].isna().all(axis=None)
    assert table.loc[few, "reason"].str.contains("add up to less").all()
    others = table.index.difference(few)
    alone = fitted(counts[others]).table
    assert alone[NUMBERS].equals(table.loc[others, NUMBERS])
    assert (alone["status"] == table.loc[others, "status"]).all()
    assert not whole.table.loc[others, "padj"].equals(alone["padj"])
    sums, of_all = ([entry["query"] for entry in fit.report["rounds"]] for fit in (result, whole))
    assert sums[:3] == of_all[:3] == ["census", "log_counts", "normalised"]
    assert set(sums) <= set(of_all)
    told = "add up to less than 12 over all samples were left out"
    assert [told in " ".join(fit.report["disclosure"]) for fit in (result, whole)] == [True, False]


def test_regression_alone_leaves_them_out_too(counts):
    table = fitted(counts, preset="irls", min_total_count=LEAST).table
    others = table.index[table["status"] != "too_few_counts"]
    alone = fitted(counts[others], preset="irls").table
    assert len(others) < GENES - 20
    assert alone[NUMBERS].equals(table.loc[others, NUMBERS])


def test_a_gene_that_nobody_counts_is_no_row_of_the_filter_either(counts, whole):
    """It has a base mean of zero, which R's quantiles of base means begin at, where it is in the data."""
    table = fitted(counts, min_total_count=0.5).table
    nobody = counts.columns[(counts == 0).all()]
    assert len(nobody) > 5
    assert (table.loc[nobody, "status"] == "too_few_counts").all()
    assert table.loc[nobody, "baseMean"].isna().all()
    assert (whole.table.loc[nobody, "status"] == "all_zero").all()
    alone = fitted(counts.drop(columns=nobody)).table
    assert alone[NUMBERS].equals(table.loc[alone.index, NUMBERS])


def test_a_total_that_is_just_enough_stays():
    """Where size factors are all one, beside a gene that lacks one count."""
    counts = pd.DataFrame(30, index=range(SAMPLES), columns=[f"g{i}" for i in range(40)])
    for gene, first in (("g0", 7), ("g1", 6)):
        counts[gene] = [first, 1, 1, 0, 0, 0, *[0, 1, 2, 1, 2, 0] * 2]
    table = fitted(counts, min_total_count=float(counts["g0"].sum()), preset="irls").table
    assert table.loc["g0", "status"] == "converged"
    assert table.loc["g1", "status"] == "too_few_counts"


@pytest.mark.parametrize(
    ("least", "words"),
    [
        (1e9, "no gene's counts over size factors add up to min_total_count = 1e\\+09 over all 18 samples"),
        (-1, "min_total_count"),
        ("many", "min_total_count"),
    ],
)
def test_what_leaves_nothing_is_a_sentence(counts, least, words):
    with pytest.raises(InputError, match=words):
        fitted(counts, min_total_count=least)
