"""obs and var straight from the file: the same answers as anndata and pandas give, for every way to write a column."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from secirls.inputs import annotation
from secirls.inputs.annotation import Annotation
from secirls.inputs.files.site_file import Reading, read_site
from secirls.inputs.formulas.labels import label, labels

N, MOST = 6, 100
COLUMNS = {
    "whole": np.array([3, 1, 2, 1, 3, 2]),
    "small": np.array([3, 1, 2, 1, 3, 2], np.int8),
    "large": np.array([2**63 + 1, 1, 2, 1, 3, 2], np.uint64),
    "number": np.array([0.1, -0.0, np.nan, np.inf, 1e300, 5e-324]),
    "narrow": np.array([0.1, 2.0, np.nan, 3.0, 1.0, 7.5], np.float32),
    "yes": np.array([True, False, True, True, False, False]),
    "text": ["b", "", "é", " a ", "NA", "2.0"],
    "levels": pd.Categorical(["b", "a", None, "b", "a", "c"], categories=["c", "b", "zero", "a"]),
    "ordered": pd.Categorical(list("bacbac"), categories=list("cba"), ordered=True),
    "numbers": pd.Categorical([3, 1, 2, 1, 3, 2], categories=[3, 10, 1, 2]),
    "halves": pd.Categorical([0.5, 1.0, None, 1.0, 0.5, 0.5]),
    "truths": pd.Categorical([True, False, True, True, False, False]),
    "nobody": pd.Categorical([None] * N, categories=["a"]),
    "maybe_whole": pd.array([3, None, 2**62 + 1, 1, 3, 2], dtype="Int64"),
    "maybe_small": pd.array([3, None, 2, 1, 3, 2], dtype="UInt8"),
    "maybe_yes": pd.array([True, None, False, True, False, None], dtype="boolean"),
    "maybe_text": pd.array(["b", None, "é", "", "NA", "b"], dtype="string"),
    "all_text": pd.array(list("bacbac"), dtype="string"),
}


@pytest.fixture
def write(tmp_path):
    """Write an AnnData with these obs columns; gives the file."""

    def written(columns, name="site.h5ad"):
        obs = pd.DataFrame(columns, index=[f"sample{i}" for i in range(N)])
        counts = np.arange(N * 4, dtype=np.int32).reshape(N, 4)
        adata = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list("wxyz")))
        with anndata.settings.override(allow_write_nullable_strings=True):
            adata.strings_to_categoricals = lambda *_: None  # texts stay texts
            adata.write_h5ad(tmp_path / name)
        return tmp_path / name

    return written


def refused(_stored):
    raise AssertionError("this encoding is left to anndata")


def by_anndata(stored):
    return pd.DataFrame(anndata.io.read_elem(stored))


def told(column):
    """All that is asked of a column."""
    kept = None if column.categories is None else labels(column.categories)
    try:
        numbers = column.to_numpy().tobytes()
    except (TypeError, ValueError) as error:
        numbers = type(error)
    present = [label(cell) for cell, missing in zip(column, column.missing, strict=True) if not missing]
    texts = [cell if isinstance(cell, str) else None for cell in column.present()]
    return present, texts, column.missing.tolist(), column.numeric, kept, numbers


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_what_anndata_reads(write, name):
    with h5py.File(write({"beside": np.arange(N), name: COLUMNS[name]})) as file:
        ours = Annotation.read(file["obs"], [name, "absent"], refused, MOST)
        theirs = Annotation.of(by_anndata(file["obs"]), [name, "absent"])
    assert (ours.index, ours.columns) == (theirs.index, theirs.columns)
    assert list(ours.held) == list(theirs.held) == [name]
    assert told(ours[name]) == told(theirs[name])


def of_another_version(obs, name):
    obs[name].attrs["encoding-version"] = "0.3.0"


def of_no_category(obs, name):
    obs[name]["codes"][1] = 9


def twice_a_category(obs, name):
    obs[name]["categories"][1] = obs[name]["categories"][0]


def shorter(obs, name):
    del obs[name]
    anndata.io.write_elem(obs, name, np.arange(N - 1))


def complex_numbers(obs, name):
    del obs[name]
    anndata.io.write_elem(obs, name, np.arange(N) * 1j)


def an_older_frame(obs, name):
    obs.attrs["encoding-version"] = "0.1.0"


@pytest.mark.parametrize(
    "change", [of_another_version, of_no_category, twice_a_category, shorter, complex_numbers, an_older_frame]
)
def test_what_is_not_known_or_contradicts_itself_is_left_to_anndata(write, change):
    path = write({"levels": COLUMNS["ordered"]})
    with h5py.File(path, "a") as file:
        change(file["obs"], "levels")
        with pytest.raises(AssertionError, match="left to anndata"):
            Annotation.read(file["obs"], ["levels"], refused, MOST)


def test_a_column_that_the_oldest_files_hold_is_read_by_anndata(write):
    """Codes in the frame, categories beside them: how anndata 0.7 wrote them."""
    path = write({"levels": COLUMNS["ordered"]})
    with h5py.File(path, "a") as file:
        obs = file["obs"]
        codes, categories = obs["levels/codes"][()], obs["levels/categories"].asstr()[()]
        del obs["levels"]
        obs.attrs["encoding-version"] = "0.1.0"
        obs.create_group("__categories").create_dataset("levels", data=categories.astype("S"))
        obs["levels"] = codes
        obs["levels"].attrs["categories"] = obs["__categories/levels"].ref
    table = read_site("a", path, Reading(("levels",)))
    assert list(table.obs["levels"]) == list(COLUMNS["ordered"])
    assert table.variables["levels"].levels == ("c", "b", "a")


def test_a_misread_column_would_be_seen(write, monkeypatch):
    """The twin: categories by another's codes."""
    path = write({"levels": COLUMNS["ordered"]})
    column = annotation._column

    def misread(stored, *most):
        found = column(stored, *most)
        return (
            found
            if found is None or found.cells.dtype.kind != "i"
            else annotation.Column(found.cells[::-1], found.missing, found.numeric)
        )

    monkeypatch.setattr(annotation, "_column", misread)
    with h5py.File(path) as file:
        ours = Annotation.read(file["obs"], ["levels"], refused, MOST)
        theirs = Annotation.of(by_anndata(file["obs"]), ["levels"])
    assert told(ours["levels"]) != told(theirs["levels"])


def test_of_a_column_that_is_not_asked_for_nothing_is_read(write):
    path = write({"wanted": list("abcabc"), "spoilt": COLUMNS["levels"]})
    with h5py.File(path, "a") as file:
        del file["obs/spoilt/codes"]
    assert list(read_site("a", path, Reading(("wanted",))).obs["wanted"]) == list("abcabc")
