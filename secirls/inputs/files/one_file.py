"""Whether an h5ad file holds what is read of it, or says where on this disk the rest is.

HDF5 has links into other files, datasets made of others' and datasets that are bytes of any file: whoever made the file
would choose what a site sums. Promises: no other file is opened. Refuses to know: what any part of it means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secirls.input_error import complain


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
        raise complain("has parts that lie in other files: write all of it into one", **where)
