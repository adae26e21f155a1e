"""Sparse matrices of a file, read without SciPy: what anndata reads, and nothing where their parts do not fit."""

import h5py
import numpy as np
import pytest
from scipy import sparse

from secirls.input_error import InputError
from secirls.inputs.files.site_file import Reading, read_site
from secirls.inputs.files.stored_sparse import StoredSparse

SAMPLES, GENES = 6, 8


@pytest.fixture(params=["csr", "csc"])
def file(request, tmp_path):
    import anndata
    import pandas as pd

    counts = np.random.default_rng(0).poisson(1.0, size=(SAMPLES, GENES)).astype(np.int32)
    obs = pd.DataFrame({"condition": ["c", "t"] * (SAMPLES // 2)}, index=[f"s{i}" for i in range(SAMPLES)])
    data = anndata.AnnData(sparse.csr_matrix(counts).asformat(request.param), obs=obs)
    data.write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


def read(path):
    return read_site("a", path, Reading(("condition",))).counts


def test_any_lines_are_those_of_scipy(file):
    with h5py.File(file) as opened:
        stored = StoredSparse(opened["X"])
        parts = [opened["X"][name][:] for name in ("data", "indices", "indptr")]
        whole = (sparse.csr_matrix if stored.format == "csr" else sparse.csc_matrix)(tuple(parts), stored.shape)
        for part in (slice(0, 6), slice(2, 5), slice(3, 3)):
            asked = part if stored.format == "csr" else (slice(0, SAMPLES), part)
            assert stored.dtype == np.int32
            assert np.array_equal(stored[asked], whole[asked].toarray())


def test_entries_of_one_place_add_up(file):
    before = read(file).copy()
    with h5py.File(file, "r+") as opened:
        stored = opened["X"]
        starts, places = stored["indptr"][:], stored["indices"][:]
        line = int(np.flatnonzero(np.diff(starts) > 1)[0])
        stored["indices"][starts[line] + 1] = places[starts[line]]
    after = read(file)
    assert after.sum() == before.sum()
    assert np.count_nonzero(after) == np.count_nonzero(before) - 1


def beyond(stored):
    stored["indices"][3] = max(SAMPLES, GENES)


def below(stored):
    stored["indices"][3] = -1


def falling(stored):
    stored["indptr"][2] = stored["indptr"][1] - 1


def too_long(stored):
    stored["indptr"][-1] += 1


def too_few(stored):
    indptr = stored["indptr"][:-1]
    del stored["indptr"]
    stored["indptr"] = indptr


def cut(stored):
    data = stored["data"][:-2]
    del stored["data"]
    stored["data"] = data


OUTSIDE = "X: is a sparse matrix with entries outside of it, or in no order"
UNFIT = "can't be read as h5ad"


@pytest.mark.parametrize(
    ("damage", "told"),
    [(beyond, OUTSIDE), (below, OUTSIDE), (falling, OUTSIDE), (too_long, UNFIT), (too_few, UNFIT), (cut, UNFIT)],
)
def test_parts_that_do_not_fit_are_refused(file, damage, told):
    assert read(file).any()
    with h5py.File(file, "r+") as opened:
        damage(opened["X"])
    with pytest.raises(InputError, match=told):
        read(file)
