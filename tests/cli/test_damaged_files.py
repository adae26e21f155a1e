"""A site's file that somebody damaged, by chance or not: one sentence with site and file, or the right counts.

SciPy believes where a sparse matrix says that its entries are, and writes there: into other memory, if they are
outside. The twin takes that check out, on a damage that harms nothing but the counts.
"""

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from secirls.cli.console import say
from secirls.input_error import InputError
from secirls.inputs.files import count_matrix
from secirls.inputs.files.site_file import Reading, read_site
from secirls.inputs.formulas.levels import Variable, agree_levels

COUNTS = np.arange(24, dtype=np.float32).reshape(6, 4) % 7
READING = Reading(("condition", "age"), size_factors="sf", var_columns=("symbol",))


def replaced(group, name, values):
    """Put other values in the place of a data set, under its attributes."""
    kept = dict(group[name].attrs)
    del group[name]
    group.create_dataset(name, data=values).attrs.update(kept)


def entry(place, at, value):
    def change(file):
        file[place][at] = value

    return change


def without(place):
    def change(file):
        del file[place]

    return change


def put(name, values, group="/"):
    return lambda file: replaced(file[group], name, values)


def group_for_matrix(file):
    del file["X"]
    file.create_group("X")


def without_shape(file):
    del file["X"].attrs["shape"]


DAMAGED = {
    "entries beyond the genes": ("csr", entry("X/indices", 0, 99), "entries outside of it"),
    "entries before the genes": ("csr", entry("X/indices", 0, -1), "entries outside of it"),
    "rows that begin before the matrix": ("csr", entry("X/indptr", 1, -3), "entries outside of it, or in no order"),
    "rows in no order": ("csr", entry("X/indptr", 2, 0), "entries outside of it, or in no order"),
    "columns in no order": ("csc", entry("X/indptr", 2, 0), "entries outside of it, or in no order"),
    "entries beyond the samples": ("csc", entry("X/indices", 0, 99), "entries outside of it"),
    "rows that end beyond the data": ("csr", entry("X/indptr", -1, 10**9), "can't be read as h5ad"),
    "no data": ("csr", without("X/data"), "can't be read as h5ad"),
    "no shape": ("csc", without_shape, "can't be read as h5ad"),
    "a folder for a matrix": (None, group_for_matrix, "X: has other numbers of samples or genes than obs and var"),
    "no number of dimensions": (None, put("X", h5py.Empty("f4")), "can't be read as h5ad"),
    "three dimensions": (None, put("X", np.ones((6, 4, 2))), "other numbers of samples"),
    "complex counts": (None, put("X", np.ones((6, 4), complex)), "X: does not hold numbers"),
    "complex ages": (None, put("age", np.ones(6, complex), "obs"), "obs column 'age': holds neither text nor numbers"),
    "bytes for levels": (None, put("age", np.array([b"1"] * 6), "obs"), "obs column 'age': holds neither text nor"),
    "complex size factors": (None, put("sf", np.ones(6, complex), "obs"), "obs column 'sf': does not hold numbers"),
    "text that is no UTF-8": (None, put("symbol", np.array([b"\xff"] * 4), "var"), "can't be read as h5ad"),
}


@pytest.fixture
def file(tmp_path):
    """``file(form, damage)``: a path."""

    def made(form, damage):
        matrix = COUNTS if form is None else getattr(sparse, f"{form}_matrix")(COUNTS)
        obs = pd.DataFrame({"condition": list("aabbab"), "age": np.arange(6.0), "sf": np.ones(6)}, index=list("pqrstu"))
        var = pd.DataFrame({"symbol": list("ABCD")}, index=list("ghij"))
        path = tmp_path / "lyon.h5ad"
        AnnData(matrix, obs=obs, var=var).write_h5ad(path)
        with h5py.File(path, "r+") as opened:
            damage(opened)
        return path

    return made


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_ends_in_one_sentence(file, kind):
    form, damage, told = DAMAGED[kind]
    path = file(form, damage)
    with pytest.raises(InputError) as wrong:
        read_site("lyon", path, READING)
    assert str(wrong.value).startswith(f"site 'lyon', file {str(path)!r}")
    assert told in str(wrong.value)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize("form", [None, "csr", "csc"])
def test_one_that_is_whole_has_its_counts(file, form):
    assert np.array_equal(read_site("lyon", file(form, lambda _: None), READING).counts, COUNTS)


def in_memory(damage):
    """An AnnData whose sparse matrix is damaged."""
    matrix = sparse.csr_matrix(COUNTS)
    damage(matrix)
    return AnnData(matrix, obs=pd.DataFrame({"condition": list("aabbab")}, index=list("pqrstu")))


def with_entries_outside(matrix):
    matrix.indices[0] = 99


def with_rows_in_no_order(matrix):
    matrix.indptr[2] = 0


@pytest.mark.parametrize("damage", [with_entries_outside, with_rows_in_no_order])
def test_a_sparse_matrix_in_memory_is_not_believed_either(damage):
    with pytest.raises(InputError, match="site 'lyon', file 'AnnData in memory', X: is a sparse matrix with entries"):
        read_site("lyon", in_memory(damage), Reading(("condition",)))


def test_the_twin_that_believes_a_sparse_matrix_reads_other_counts(monkeypatch):
    monkeypatch.setattr(count_matrix, "_check_whole", lambda _: None)
    read = read_site("lyon", in_memory(with_rows_in_no_order), Reading(("condition",)))
    assert not np.array_equal(read.counts, COUNTS)


# What a site says to others' terminals.

ORDERS = {
    "clears the screen": "a\x1b[2J",
    "turns the line": "a\u202eb",
    "ends the line": "a\nb",
    "is nothing": "a\u200b",
}


@pytest.mark.parametrize("kind", ORDERS)
def test_a_level_that_a_terminal_would_obey_is_named_and_not_shown(kind):
    said = {"lyon": {"g": Variable(False, (ORDERS[kind], "b"))}, "turin": {"g": Variable(False, ("a", "b"))}}
    with pytest.raises(InputError, match=r"site 'lyon', obs column 'g': has the level .* that is not seen") as wrong:
        agree_levels("~ g", {}, said)
    assert str(wrong.value).isascii()
    assert str(wrong.value).isprintable()


def test_levels_in_any_letters_are_levels():
    said = {"lyon": {"g": Variable(False, ("\u03b1 \u00e9", "\u7532", "a\u00a0b"))}}
    assert len(agree_levels("~ g", {}, said).levels["g"]) == 3


def test_a_sentence_of_a_site_orders_nothing(capsys):
    say("site 'lyon': \x1b[2J\u202e\u7532 [red]", error=True)
    assert capsys.readouterr().err == "site 'lyon': \\x1b[2J\\u202e\u7532 [red]\n"
