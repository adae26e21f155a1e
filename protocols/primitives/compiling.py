"""How functions are compiled, and where they are kept so that the next process need not compile them again.

Promises: compiled code lies beside the source, in the user's cache, or where neither is to be written (a container, a
user without a home) in a temporary folder that nobody else may write. Refuses to know: what is compiled.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba

VARIABLE = "NUMBA_CACHE_DIR"


def compiled(**options: Any) -> Any:
    """`numba.njit`, kept for the next process, without Python's lock and with NumPy's rules for division."""
    find_place()
    return numba.njit(cache=True, nogil=True, error_model="numpy", **options)


@cache
def find_place() -> Path | None:
    """Where compiled code goes if numba finds no place for it; ``None`` where it does."""
    try:
        numba.njit(cache=True)(_anything)
    except RuntimeError:  # "cannot cache function: no locator available"
        place = own_folder(Path(tempfile.gettempdir()))
        os.environ[VARIABLE] = str(place)  # for the processes that this one starts
        settings: Any = numba.config
        settings.CACHE_DIR = str(place)
        return place
    return None


def own_folder(parent: Path) -> Path:
    """A folder of this user's alone, the same for every process; a fresh one where its name is taken.

    Whoever could write it could have this user run any code.
    """
    if hasattr(os, "geteuid"):
        folder = parent / f"secirls-compiled-{os.geteuid()}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        told = folder.lstat()
        if stat.S_ISDIR(told.st_mode) and told.st_uid == os.geteuid() and not told.st_mode & 0o077:
            return folder
    fresh = Path(tempfile.mkdtemp(prefix="secirls-compiled-", dir=parent))
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)
    return fresh


def _anything() -> None:
    """A function to ask numba where it would keep one of this package."""
