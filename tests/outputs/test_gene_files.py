"""Tables by gene as files: the bytes that pandas would write, whatever stands in them."""

import numpy as np
import pandas as pd
import pytest

from secirls.outputs.tables.gene_tables import csv_of

N = 6
FLOATS = np.array([0.1, np.nan, -0.0, np.inf, 5e-324, -1 / 3])
PLAIN = {
    "gene": [f"gene{i}" for i in range(N)],
    "baseMean": FLOATS,
    "single": FLOATS.astype(np.float32),
    "iterations": np.arange(N, dtype=np.int32),
    "outlier": np.arange(N) % 2 == 0,
    "reason": ["", "few, too few", 'a "gene"', "nan", "NA", " "],
}


def of_pandas(table):
    return table.to_csv(index=False, float_format="%.17g").encode()


@pytest.mark.parametrize(
    "columns",
    [
        PLAIN,
        {"gene": PLAIN["gene"], "missing": ["a", None, "b", np.nan, "", "c"]},
        {"gene": PLAIN["gene"], "mixed": [1.5, "a", True, None, 2, np.float64(0.1)]},
        {"gene": PLAIN["gene"], "kinds": pd.Categorical(["x", "y", "x", None, "y", "x"])},
        {"gene": PLAIN["gene"], "whole": pd.array([1, None, 3, 4, 5, 6], dtype="Int64")},
        {"gene": ["a\nb", "a\rb", "c", "d", "e", "f"], "value": FLOATS},
        {"gene": PLAIN["gene"], "a, b": FLOATS},
        {"alone": ["", "a", "b", "c", "d", "e"]},
        {name: values[:0] for name, values in PLAIN.items()},
    ],
    ids=["plain", "missing", "mixed", "category", "nullable", "breaks", "name", "alone", "empty"],
)
def test_a_file_is_what_pandas_writes(columns):
    table = pd.DataFrame(columns)
    assert csv_of(table) == of_pandas(table)


def test_what_is_plain_is_written_without_pandas(monkeypatch):
    """And what is not is written by it: else the test before would compare pandas with itself."""
    table, expected = pd.DataFrame(PLAIN), of_pandas(pd.DataFrame(PLAIN))
    monkeypatch.delattr(pd.core.generic.NDFrame, "to_csv")
    assert csv_of(table) == expected
    with pytest.raises(AttributeError):
        csv_of(table.assign(reason=None))
