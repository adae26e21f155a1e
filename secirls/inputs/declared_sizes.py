"""How large arrays say that they are, held to the room that they take: of one that nobody wrote, there is a shape.

A file of some kilobytes may declare arrays of any length, which are zeros in memory. Promises: nothing is read but what
is said of arrays. Refuses to know: what they hold, and which of them is wanted.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from secirls.input_error import complain

PACKED = 1 << 11
"""How many bytes of arrays a byte on the disk may stand for: twice what gzip makes of zeros."""
NAMES = 8
"""How many names, or other lines of obs and var, a byte on the disk may stand for: numbered ones are packed to six."""


def size_of(path: Path) -> int:
    """How many bytes a file has, or all files of a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(Path(folder, name).stat().st_size for folder, _, files in os.walk(path) for name in files)


class Declared(NamedTuple):
    """What it takes to read arrays whole, or a chunk of one where its chunks are larger."""

    values: int
    """Of the largest one."""
    total: float
    """Bytes of all, each as often as links lead to it; infinite for a group that is a part of itself."""

    @classmethod
    def of(cls, parts: Iterable[Declared]) -> Declared:
        """All of some."""
        told = list(parts)
        return cls(max((part.values for part in told), default=0), sum(part.total for part in told))


def check_declared(group: Any, size: int, where: Mapping[str, str]) -> None:
    """Raise `InputError` where all arrays of an open h5ad file or zarr store are larger than its ``size`` bears out."""
    if declared(group).total > PACKED * size:
        raise complain("has arrays that are far larger than what is stored of them", **where)


def declared(stored: Any) -> Declared:
    """Of an open group of either form, with all that is below it, or of an array."""
    if not hasattr(stored, "members"):
        return _linked(stored, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that are no part of the store
        return Declared.of(_array(part) for _, part in stored.members(max_depth=None) if hasattr(part, "shape"))


def _linked(part: Any, known: dict[Any, Declared]) -> Declared:
    """Of a part of an h5ad file, or of an array of a store; of parts that more links lead to, what is ``known``."""
    if hasattr(part, "shape"):
        return _array(part)
    if part not in known:
        known[part] = Declared(0, math.inf)
        inside = part.values() if hasattr(part, "values") else ()  # a type is none; a link may lead to nothing
        known[part] = Declared.of(_linked(other, known) for other in inside)
    return known[part]


def _array(stored: Any) -> Declared:
    import h5py

    values = max(stored.size or 0, math.prod(getattr(stored, "shards", None) or stored.chunks or ()))
    # Of h5ad in HDF5's own words: a type may be none of NumPy's.
    width = stored.id.get_type().get_size() if isinstance(stored, h5py.Dataset) else stored.dtype.itemsize
    return Declared(values, values * width)
