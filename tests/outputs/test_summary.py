"""How many genes changed, in the rows of R's ``summary()``."""

import numpy as np
import pytest

from secirls.inputs.designs.contrasts import Contrast
from secirls.outputs.tables.comparison import Comparison
from secirls.outputs.tables.summary import summary

COUNTED = "with a base mean above zero"
UP, DOWN = "log2 fold change > {} (up)", "log2 fold change < {} (down)"


def asked(threshold=0.0, alternative="greaterAbs", alpha=0.05):
    return Comparison(Contrast(), threshold, alternative, alpha, filtering=True)


@pytest.fixture
def told(table):
    """The table of 400 genes, of which 10 without p-value: 3 outliers, 5 that failed, 2 that too few sites counted."""
    table["outlier"] = False
    table.loc[390:392, "outlier"] = True
    table.loc[398:, "baseMean"] = np.nan
    return table


def test_every_gene_with_a_base_mean_is_told_as_r_tells_it(told):
    genes = summary(told, asked())["genes"].to_dict()
    small = told.loc[100:129, "log2FoldChange"]
    assert genes == {
        COUNTED: 398,
        UP.format("0.00"): 60 + int((small > 0).sum()),
        DOWN.format("0.00"): 40 + int((small < 0).sum()),
        "outliers": 3,
        "low counts": 10,
        "without p-value": 5,
    }
    assert summary(told, asked())["percent"]["low counts"] == pytest.approx(100 * 10 / 398)


def test_a_gene_without_counts_once_outliers_are_replaced_is_of_low_counts_as_in_r(told):
    told.loc[0, ["baseMean", "log2FoldChange", "pvalue", "padj"]] = 0.0, 0.0, 1.0, np.nan
    genes = summary(told, asked())["genes"]
    assert (genes[COUNTED], genes["low counts"]) == (397, 11)


def test_a_threshold_leaves_changes_below_it_out(told):
    genes = summary(told, asked(1.0))["genes"]
    assert (genes[UP.format("1.00")], genes[DOWN.format("-1.00")]) == (60, 40)


def test_within_a_threshold_there_is_no_up_and_down(told):
    genes = summary(told, asked(100.0, "lessAbs"))["genes"]
    assert genes["log2 fold change within 100.00"] == 130
    assert not [name for name in genes.index if "up" in name or "down" in name]


def test_no_gene_at_all_is_nothing_of_nothing(told):
    empty = summary(told.iloc[:0], asked())
    assert (empty["genes"] == 0).all()
    assert (empty["percent"] == 0.0).all()
