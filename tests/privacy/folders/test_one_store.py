"""A site's zarr store holds what is summed, as its file does: nothing in it is a link to anything else of the site's.

Somebody prepares the folder for it, with links in it: to counts of another study, or to any file, whose bytes are a
chunk. The twin follows them.
"""

import os
import shutil
import warnings

import anndata
import numpy as np
import pytest
import zarr

from secirls.input_error import InputError
from secirls.inputs.files import kinds_of_file, one_file
from secirls.inputs.files.site_file import Reading, read_site, read_whole

READING = Reading(("condition",))


def matrix(store, other):
    shutil.rmtree(store / "X")
    (store / "X").symlink_to(other / "X")


def of_bytes(store, other):
    """One chunk, which is bytes of a file as they are."""
    counts = anndata.read_zarr(other).X
    raw = other.with_suffix(".bin")
    raw.write_bytes(counts.tobytes())
    group = zarr.open_group(store, mode="a", use_consolidated=False)
    kept = dict(group["X"].attrs)
    shutil.rmtree(store / "X")
    plain = {"compressors": None, "fill_value": 0, "chunks": counts.shape}
    array = group.create_array("X", shape=counts.shape, dtype=counts.dtype, **plain)
    array.attrs.update(kept)
    array[0, 0] = 1
    (chunk,) = [path for path in (store / "X").rglob("*") if path.is_file() and path.stat().st_size == counts.nbytes]
    chunk.unlink()
    chunk.symlink_to(raw)
    zarr.consolidate_metadata(store)


def samples(store, other):
    shutil.rmtree(store / "obs")
    (store / "obs").symlink_to(other / "obs")


def head(store, other):
    """The file that lies at the top."""
    (name,) = [name for name in ("zarr.json", ".zattrs") if (store / name).exists()]
    (store / name).unlink()
    (store / name).symlink_to(other / name)


def pipe(store, _):
    os.mkfifo(store / "X" / "more")


WAYS = [matrix, of_bytes]


@pytest.fixture(scope="module", params=[2, 3])
def written(tmp_path_factory, lead, request):
    """Grounds, and the stores of a site and of another study on the same disk."""
    folder = tmp_path_factory.mktemp("written")
    grounds, stores = lead.settle(folder / "grounds"), []
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=request.param):
        warnings.simplefilter("ignore")  # about the version that will be written by default
        for site in ("site1", "site2"):
            stores.append(folder / f"{site}.zarr")
            anndata.read_h5ad(grounds.data[site]).write_zarr(stores[-1])
    return request.param, grounds, stores


@pytest.fixture
def prepared(written, tmp_path):
    """The store of a site, that of another study, to be changed, and what is counted there."""
    version, grounds, stores = written
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")
        yield *(shutil.copytree(store, tmp_path / store.name) for store in stores), grounds.counts("site2")


@pytest.mark.parametrize("way", [*WAYS, samples, head, pipe])
@pytest.mark.parametrize("read", [lambda store: read_site("site1", str(store), READING), read_whole])
def test_a_store_with_a_link_in_it_is_not_read(prepared, way, read):
    store, other, _ = prepared
    way(store, other)
    with pytest.raises(InputError, match="has parts that lie in other files: write all of it into one"):
        read(store)


@pytest.mark.parametrize("way", WAYS)
def test_the_twin_that_follows_links_in_a_store_sums_another_studys_counts(prepared, way, monkeypatch):
    monkeypatch.setattr(one_file, "kind_of", lambda path, **_: kinds_of_file.kind_of(path))
    store, other, counts = prepared
    way(store, other)
    assert np.array_equal(read_site("site1", str(store), READING).counts, counts)


def test_a_link_to_a_store_is_read_as_one_to_a_file_is(prepared, tmp_path):
    _, other, counts = prepared
    (tmp_path / "own.zarr").symlink_to(other)
    assert np.array_equal(read_site("site1", str(tmp_path / "own.zarr"), READING).counts, counts)


def test_a_folder_that_may_not_be_looked_into_is_not_passed_over(prepared, monkeypatch):
    store, *_ = prepared
    before = os.scandir

    def forbidden(path):
        if os.fspath(path).endswith("obs"):
            raise PermissionError(13, "Permission denied")
        return before(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(InputError, match=r"can't be read \(Permission denied\)"):
        read_site("site1", str(store), READING)
