"""A site's file is read in memory of about what it takes on the disk, whatever it says that its arrays hold.

Somebody prepares a file of some kilobytes, in which there are millions of names, codes of levels or beginnings of rows:
of what was never written, and of packed zeros, there is little on the disk and all in memory. The twins believe it.
"""

import shutil
import tracemalloc
import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from secirls.input_error import InputError
from secirls.inputs import annotation
from secirls.inputs.files import site_file
from secirls.inputs.files.site_file import Reading, read_site, read_whole
from secirls.inputs.files.stored_sparse import StoredSparse

MIB = 1 << 20
HUGE, LARGE, PACKED = 100_000_000, 10_000_000, 1_000_000
READING = Reading(("condition",))
UNWRITTEN = {"chunks": (1 << 16,)}
ZEROS = {**UNWRITTEN, "compression": "gzip"}


def site(samples=12, names="s{}", **obs):
    counts = np.random.default_rng(1).poisson(50, size=(samples, 40)).astype(np.int32)
    table = pd.DataFrame(
        {"condition": ["c", "t"] * (samples // 2), **obs}, index=list(map(names.format, range(samples)))
    )
    return anndata.AnnData(counts, obs=table)


@pytest.fixture(scope="module", autouse=True)
def once(tmp_path_factory):
    """What the first file of each form takes is no part of what another does."""
    folder = tmp_path_factory.mktemp("first")
    site().write_h5ad(folder / "a.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the versions of the format
        site().write_zarr(folder / "a.zarr")
    for path in folder.iterdir():
        read_site("a", path, READING)
        read_whole(path)


@pytest.fixture
def file(tmp_path):
    site().write_h5ad(tmp_path / "lyon.h5ad")
    return tmp_path / "lyon.h5ad"


@pytest.fixture
def store(tmp_path):
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=3):
        warnings.simplefilter("ignore")  # about the versions of the format
        site().write_zarr(tmp_path / "lyon.zarr")
    return tmp_path / "lyon.zarr"


def swell(group, place, dtype, length, **how):
    """Another array in the place of one, under its attributes: of nothing that was written, or of zeros, packed."""
    kept = dict(group[place].attrs)
    del group[place]
    made = group.create_dataset(place, (length,), dtype, **how)
    made.attrs.update(kept)
    if "compression" in how and made.dtype.kind == "i":  # texts would not be packed
        made[:] = 0


def codes(group, *length, **how):
    swell(group, "obs/condition/codes", np.int8, *length, **how)


def names(group, *length, **how):
    swell(group, "obs/_index", h5py.string_dtype(), *length, **how)


def levels(group, *length, **how):
    swell(group, "obs/condition/categories", h5py.string_dtype(), *length, **how)


def rows(group, length, **how):
    """Compressed rows of a matrix that says that it has as many."""
    del group["X"]
    matrix = group.create_group("X")
    matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (length - 1, 40)})
    for part in ("data", "indices"):
        matrix.create_dataset(part, (0,), np.int32)
    matrix["indptr"] = np.zeros(1, np.int64)
    swell(group, "X/indptr", np.int64, length, **how)


PARTS = {"codes": codes, "names": names, "levels": levels, "rows": rows}


def swollen(file, part, *length, **how):
    with h5py.File(file, "a") as group:
        PARTS[part](group, *length, **how)
    assert file.stat().st_size < MIB // 8
    return file


def cost_of(file, told, read=lambda path: read_site("lyon", str(path), READING)):
    """The memory that it takes to be told so."""
    tracemalloc.start()
    with pytest.raises(InputError, match=told):
        read(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


FAR_LARGER = "has arrays that are far larger than what is stored of them"
UNFIT = "can't be read as h5ad"
TOLD = {**dict.fromkeys(PARTS, UNFIT), "rows": "X: has other numbers of samples or genes than obs and var"}


@pytest.fixture
def believing(monkeypatch):
    """Twins: of all that files declare, of how many names there are, and of how many rows a matrix has."""

    def trusting(*what):
        if "sizes" in what:
            monkeypatch.setattr(site_file, "check_declared", lambda *_: None)
        if "numbers" in what:
            monkeypatch.setattr(annotation, "_check_number", lambda *_: None)
        if "rows" in what:
            made = StoredSparse.__init__

            def read_at_once(self, group):
                made(self, group)
                self._begins[:]

            monkeypatch.setattr(StoredSparse, "__init__", read_at_once)

    return trusting


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("read", [lambda path: read_site("lyon", str(path), READING), read_whole])
def test_an_array_that_nobody_wrote_is_not_read(file, part, read):
    assert cost_of(swollen(file, part, HUGE, **UNWRITTEN), FAR_LARGER, read) < MIB


@pytest.mark.parametrize("part", ["codes", "rows"])
def test_the_twin_that_believes_what_is_declared_takes_a_thousand_times_as_much(file, part, believing):
    believing("sizes", "numbers", "rows")
    assert cost_of(swollen(file, part, LARGE, **UNWRITTEN), TOLD[part]) > 50 * MIB


@pytest.mark.parametrize("part", PARTS)
def test_more_than_there_are_names_or_room_for_them_is_not_read(file, part):
    assert cost_of(swollen(file, part, PACKED, **ZEROS), TOLD[part]) < MIB


@pytest.mark.parametrize("part", PARTS)
def test_the_twin_that_compares_lengths_afterwards_takes_a_hundred_times_as_much(file, part, believing):
    believing("numbers", "rows")
    assert cost_of(swollen(file, part, PACKED, **ZEROS), TOLD[part]) > 5 * MIB


def of_another_version(file):
    with h5py.File(file, "a") as group:
        group["obs"].attrs["encoding-version"] = "0.1.0"


def test_nor_is_it_where_anndata_would_read_it(file):
    of_another_version(swollen(file, "codes", 5 * PACKED, **ZEROS))
    assert cost_of(file, UNFIT) < MIB


def test_the_twin_that_leaves_it_to_anndata_has_it_read(file, believing):
    believing("numbers")
    of_another_version(swollen(file, "codes", 5 * PACKED, **ZEROS))
    assert cost_of(file, UNFIT) > 5 * MIB


def often(uns):
    """One array under names that are links to it, and links to those."""
    uns["zeros"] = np.zeros(1000)
    for level in range(3):
        group = uns.create_group(f"level {level}")
        for number in range(100):
            group[str(number)] = uns[f"level {level - 1}"] if level else uns["zeros"]


def softly(uns):
    uns.create_dataset("zeros", (PACKED,), np.int8, **UNWRITTEN)
    for number in range(1000):
        uns[f"link {number}"] = h5py.SoftLink("/uns/zeros")


def without_end(uns):
    uns["itself"] = uns


@pytest.mark.parametrize("way", [often, softly, without_end])
def test_an_array_is_counted_as_often_as_it_would_be_read(file, way):
    with h5py.File(file, "a") as group:
        way(group["uns"])
    for read in (read_whole, lambda path: read_site("lyon", path, READING)):
        assert cost_of(file, FAR_LARGER, read) < MIB


def test_links_to_nothing_and_types_are_no_arrays(file):
    with h5py.File(file, "a") as group:
        group["uns/gone"], group["uns/type"], group["uns/empty"] = (
            h5py.SoftLink("/none"),
            np.dtype("i4"),
            h5py.Empty("f4"),
        )
    assert read_site("lyon", file, READING).counts.shape == (12, 40)


def swell_store(store, length):
    """Codes of a zarr store, where chunks of zeros are left out of an honest one too."""
    place = "obs/condition/codes"
    group = zarr.open_group(store, mode="a", use_consolidated=False)
    kept = dict(group[place].attrs)
    shutil.rmtree(store / place)
    group.create_array(place, shape=(length,), dtype="i1", chunks=(1 << 16,)).attrs.update(kept)
    zarr.consolidate_metadata(store)
    return store


@pytest.mark.parametrize(("length", "told"), [(100_000_000, FAR_LARGER), (LARGE, "can't be read as zarr")])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_nor_is_one_of_a_zarr_store(store, length, told):
    assert cost_of(swell_store(store, length), told) < 2 * MIB


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_the_twin_that_believes_a_store_takes_a_thousand_times_as_much(store, believing):
    believing("sizes", "numbers")
    assert cost_of(swell_store(store, LARGE), "can't be read as zarr") > 10 * MIB


def test_a_row_has_no_more_entries_than_places(file):
    with h5py.File(file, "a") as group:
        rows(group, 13)
        group["X/indptr"][1:] = PACKED
        for part in ("data", "indices"):
            swell(group, f"X/{part}", np.int32, PACKED, **ZEROS)
    assert cost_of(file, UNFIT) < MIB


# What honest files look like.


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_packed_files_of_much_that_is_alike_are_read(tmp_path, compression):
    many = 3000
    alike = {
        "zero": np.zeros(many),
        "donor": pd.Categorical([f"donor {i:07}" for i in range(many)]),
        "of": ["a"] * many,
    }
    data = site(many, "cell {:07}", **alike)
    data.layers["none"] = np.zeros(data.shape)
    data.write_h5ad(tmp_path / "a.h5ad", compression=compression)
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=3):
        warnings.simplefilter("ignore")  # about the versions of the format
        data.write_zarr(tmp_path / "a.zarr")
    for path in tmp_path.iterdir():
        table = read_site("a", path, Reading(("donor", "of", "zero")))
        assert np.array_equal(table.counts, data.X)
        assert read_whole(path)[0].layers["none"].shape == data.shape
