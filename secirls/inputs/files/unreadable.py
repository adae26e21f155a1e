"""What is said of a file that can't be read: why, and what kind of file it is, without a word of what it holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from secirls.input_error import InputError, complain

_OTHERS = {
    b"\x1f\x8b": "compressed (gzip)",
    b"BZh": "compressed (bzip2)",
    b"\xfd7zXZ": "compressed (xz)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"PK\x03\x04": "a zip archive",
}
"""Files that people have counts in, by their first bytes."""


_STORES = {"row_attrs": "it is a loom file", "mod": "it is MuData", "matrix": "it is a matrix of 10x"}
"""HDF5 of others that hold counts, by what lies at their top."""


def check_tables(stored: Collection[str], kind: str, where: Mapping[str, str]) -> None:
    """Raise `InputError` unless tables of samples and genes lie at the top of what is ``stored``."""
    if not {"obs", "var"} <= set(stored):
        what = next((told for name, told in _STORES.items() if name in stored), "it has no obs or no var")
        raise complain(f"can't be read as {kind} ({what})", **where)


def other_kind(path: Path) -> str | None:
    """Which kind of file stands where an h5ad file is wanted, if that is plain from how it begins."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return None
    if not head:
        return "empty"
    known = [what for begins, what in _OTHERS.items() if head.startswith(begins)]
    if known:
        return known[0]
    return "text" if all(byte >= 0x20 or byte in b"\t\r\n" for byte in head) else None


def unread_home(path: Path) -> str:
    """What helps whoever wrote a path in which no shell has put a home in the place of ``~``; nothing for others."""
    return "'~' is a home for a shell alone: write the path in full" if "~" in path.parts else ""


def unreadable(error: Exception, kind: str = "h5ad", path: Path | None = None) -> str:
    """Why an AnnData can't be read."""
    if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
        return "is locked: another process has it open for writing"
    if isinstance(error, PermissionError):
        return "can't be read (Permission denied)"
    other = None if path is None or path.is_dir() else other_kind(path)
    return f"can't be read as {kind} ({type(error).__name__ if other is None else f'it is {other}'})"


@contextmanager
def reading(kind: str, where: Mapping[str, str], path: Path | None = None) -> Iterator[None]:
    """Turn whatever is raised while a file is read into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - anndata and h5py raise many kinds for files that are not h5ad
        raise complain(unreadable(error, kind, path), **where) from None
