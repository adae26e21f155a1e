"""A site's file holds what is summed: it names no other file of the site's that would be.

Somebody prepares a site's h5ad for it, and puts links in it: counts of another study, which the site's staff agreed to
nobody's reading, or bytes of any file. The twin follows them.
"""

import warnings

import h5py
import numpy as np
import pytest

from secirls.input_error import InputError
from secirls.inputs.files import site_file
from secirls.inputs.files.site_file import Reading, read_site, read_whole

SHAPE = (10, 60)


def marked(group, name="X"):
    group[name].attrs["encoding-type"], group[name].attrs["encoding-version"] = "array", "0.2.0"


def link(file, other):
    file["X"] = h5py.ExternalLink(str(other), "/X")


def virtual(file, other):
    layout = h5py.VirtualLayout(SHAPE, np.int32)
    layout[:] = h5py.VirtualSource(str(other), "X", SHAPE)
    file.create_virtual_dataset("X", layout)
    marked(file)


def of_bytes(file, other):
    raw = other.with_suffix(".bin")
    with h5py.File(other, "r") as whole:
        raw.write_bytes(whole["X"][()].astype(np.int32).tobytes())
    file.create_dataset("X", SHAPE, np.int32, external=[(str(raw), 0, 4 * SHAPE[0] * SHAPE[1])])
    marked(file)


def whole_group(file, other):
    del file["obs"]
    file["obs"] = h5py.ExternalLink(str(other), "/obs")
    file["X"] = np.zeros(SHAPE, np.int32)
    marked(file)


WAYS = [link, virtual, of_bytes]


@pytest.fixture
def prepared(lay):
    """The file of a site, and that of another study on the same disk."""
    grounds = lay("grounds")
    return grounds.data["site1"], grounds.data["site2"], grounds.counts("site2")


def lead_elsewhere(way, prepared):
    file, other, counts = prepared
    with h5py.File(file, "a") as group:
        del group["X"]
        way(group, other)
    return file, counts


@pytest.mark.parametrize("way", [*WAYS, whole_group])
@pytest.mark.parametrize("read", [lambda file: read_site("site1", str(file), Reading(("condition",))), read_whole])
def test_a_file_that_names_another_is_not_read(prepared, way, read):
    file, _ = lead_elsewhere(way, prepared)
    with pytest.raises(InputError, match="has parts that lie in other files: write all of it into one"):
        read(file)


@pytest.mark.parametrize("way", WAYS)
def test_the_twin_that_follows_links_sums_another_studys_counts(prepared, way, monkeypatch):
    monkeypatch.setattr(site_file, "check_one_file", lambda *_: None)
    file, counts = lead_elsewhere(way, prepared)
    assert np.array_equal(read_site("site1", str(file), Reading(("condition",))).counts, counts)


def test_a_link_within_the_file_is_followed(prepared):
    file, _, _ = prepared
    with h5py.File(file, "a") as group, warnings.catch_warnings():
        group["kept"] = group["X"][()]
        marked(group, "kept")
        before = group["X"][()]
        del group["X"]
        group["X"] = h5py.SoftLink("/kept")
    assert np.array_equal(read_site("site1", str(file), Reading(("condition",))).counts, before)
