"""What is said of a file that can't be read: why, without a word of what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from secirls.input_error import InputError, complain


def unreadable(error: Exception, kind: str = "h5ad") -> str:
    """Why an AnnData can't be read."""
    if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
        return "is locked: another process has it open for writing"
    if isinstance(error, PermissionError):
        return "can't be read (Permission denied)"
    return f"can't be read as {kind} ({type(error).__name__})"


@contextmanager
def reading(kind: str, where: Mapping[str, str]) -> Iterator[None]:
    """Turn whatever is raised while a file is read into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - anndata and h5py raise many kinds for files that are not h5ad
        raise complain(unreadable(error, kind), **where) from None
