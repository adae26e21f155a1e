"""Whether a file holds what is read of it, or says where on this disk the rest is.

HDF5 has links into other files, datasets made of others' and datasets that are bytes of any file; the files of a zarr
store may be links of the disk's: whoever made it would choose what a site sums. Promises: no other file is opened.
Refuses to know: what any part of it means.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from secirls.input_error import complain
from secirls.inputs.files.kinds_of_file import kind_of

_ELSEWHERE = "has parts that lie in other files: write all of it into one"


def check_one_file(group: Any, where: Mapping[str, str]) -> None:
    """Raise `InputError` where a part of an open HDF5 file is in another; ``where`` names it."""
    import h5py

    def linked(_: bytes, link: Any) -> bool | None:
        return True if link.type == h5py.h5l.TYPE_EXTERNAL else None

    def kept_elsewhere(name: bytes, found: Any) -> bool | None:
        if found.type != h5py.h5o.TYPE_DATASET:
            return None
        made = h5py.h5d.open(group.id, name).get_create_plist()
        return True if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count() else None

    if group.id.links.visit(linked, info=True) or h5py.h5o.visit(group.id, kept_elsewhere, info=True):
        raise complain(_ELSEWHERE, **where)


def open_store(store: Path, where: Mapping[str, str]) -> Any:
    """The group of a zarr store, below whose folder, a link or not, are files and folders alone.

    Raises `InputError` otherwise, before anything is opened, and `OSError` where it can't be told.
    """
    import zarr

    for folder, folders, files in os.walk(store, onerror=_raised):
        if any(kind_of(Path(folder, name), links=False) == "other" for name in (*folders, *files)):
            raise complain(_ELSEWHERE, **where)
    return zarr.open_group(store, mode="r")


def _raised(error: OSError) -> NoReturn:
    raise error
