"""Cells come from declared levels alone; where a column is numeric two numbers are all that is summed."""

import numpy as np
import pandas as pd
import pytest

from secirls.algorithms.outliers.cells import CellsQuery, cell_of, cells
from secirls.algorithms.query import QueryError
from secirls.inputs.designs.design import Design, Variable
from secirls.numerics.held.samples import Samples

LEVELS = {"site": ("a", "b", "c"), "condition": ("u", "t")}


def design(formula="~ site + condition", numeric=()):
    names = [name for name in ("site", "condition", "age") if name in formula]
    said = {"all": {n: Variable(n in numeric, () if n in numeric else LEVELS[n]) for n in names}}
    return Design.agree(formula, {n: LEVELS[n] for n in names if n not in numeric}, said)


def samples_of(agreed, **columns):
    obs = pd.DataFrame(columns)
    return Samples(agreed.matrix(obs), np.ones((len(obs), 2), dtype=np.int32))


def test_cells_are_the_combinations_of_levels():
    rows = design().cells()
    assert rows.shape == (6, 4)
    assert len(np.unique(rows, axis=0)) == 6
    assert design("~ condition").cells().tolist() == [[1, 0], [1, 1]]
    crossed = design("~ site * condition")
    assert len(crossed.cells()) == 6
    with pytest.raises(ValueError, match="age"):
        design("~ age + condition", numeric=("age",)).cells()


def test_samples_and_sites_of_every_cell_are_counted(drive):
    agreed = design("~ condition")
    sites = [
        samples_of(agreed, condition=["u"] * 3 + ["t"]),
        samples_of(agreed, condition=["u"]),
        samples_of(agreed, condition=["u"] * 4),
    ]
    seen = drive(*sites)
    found = seen(cells(np.ones(2, dtype=bool), agreed, 9, 3))
    assert found.samples.tolist() == [8, 1]
    assert found.sites.tolist() == [3, 1]
    assert found.counts.tolist() == [8, 8]
    assert found.shared.tolist() == [True, False]
    assert found.lonely.tolist() == [False, True]
    assert not found.thin.any()
    assert (found.filters, found.replaces, found.any_lonely) == (True, True, False)
    assert found.selectable(3).tolist() == [True, False]
    assert found.selectable(5).tolist() == [False, False]
    assert len(seen.queries) == 1
    assert not seen.queries[0].genes.any()


def test_a_thin_cell_is_neither_lonely_nor_shared(drive):
    agreed = design("~ condition")
    sites = [samples_of(agreed, condition=["u"] * 3 + ["t"] * 2) for _ in range(2)] + [
        samples_of(agreed, condition=["u"])
    ]
    found = drive(*sites)(cells(np.ones(2, dtype=bool), agreed, 11, 3))
    assert found.thin.tolist() == [False, True]
    assert found.left_out(1).tolist() == [False, True]
    assert found.left_out(9).tolist() == [True, True]


def test_with_a_numeric_column_no_row_is_ever_named(drive):
    agreed = design("~ age + condition", numeric=("age",))
    ages = [np.array([40.0] * 3 + [41.0]), np.array([40.0] * 8), np.array([1.0, 2.0])]
    sites = [samples_of(agreed, age=age, condition=["u"] * len(age)) for age in ages]
    seen = drive(*sites)
    found = seen(cells(np.ones(2, dtype=bool), agreed, 14, 3))
    assert found.counts.tolist() == [11, 8]
    assert not found.enumerated
    assert found.any_lonely
    assert found.rows.shape == (0, 3)
    assert [query.kind for query in seen.queries] == ["cell_counts"]
    assert seen.queries[0].shapes() == {"cell_counts": (2,)}


def test_too_many_combinations_are_not_enumerated(drive):
    names = tuple("abcdefghijklm")
    levels = dict.fromkeys(names, ("0", "1"))
    said = {"all": {name: Variable(numeric=False, levels=levels[name]) for name in names}}
    agreed = Design.agree("~ " + " + ".join(names), levels, said)
    site = samples_of(agreed, **{name: ["0", "1", "0"] for name in names})
    found = drive(site)(cells(np.ones(2, dtype=bool), agreed, 3, 1))
    assert not found.enumerated


def test_a_sample_in_no_cell_is_refused():
    agreed = design("~ condition")
    odd = Samples(np.array([[1.0, 0.5]]), np.ones((1, 2), dtype=np.int32))
    with pytest.raises(QueryError, match="no cell"):
        cell_of(odd, agreed.cells())
    for rows in (np.zeros((0, 2)), np.ones((2, 2)), np.ones((1, 3)), np.array([[1.0, 47.0]])):
        with pytest.raises(QueryError):
            CellsQuery(np.zeros(2, dtype=bool), rows).check(2, 2)
