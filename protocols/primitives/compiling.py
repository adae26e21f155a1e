"""How functions are compiled, and where they are kept so that the next process need not compile them again.

Promises: compiled code lies beside the source, in the user's cache, or where neither is to be written (a container, a
user without a home) in a temporary folder that nobody else may write; what lies there damaged is compiled again, and
so is what a disk does not take. Refuses to know: what is compiled.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import pickle
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.environment import Environment, lookup_environment
from numba.core.runtime.nrt import rtsys

VARIABLE = "NUMBA_CACHE_DIR"

TRIED = ("0.68.",)
"""Releases of numba whose compiled code runs without what its compiler needs; others load that first."""

_DIGEST_BYTES = 32


def compiled(*, keep: bool = True, **options: Any) -> Any:
    """`numba.njit` without Python's lock and with NumPy's rules for division; `keep` for the next process."""
    decorate = numba.njit(nogil=True, error_model="numpy", **options)
    if not keep:
        return decorate
    find_place()
    return partial(_kept, decorate)


class Kept(FunctionCache):
    """numba's cache of a function, which takes what is in it without preparing to compile.

    numba would first load its compiler's every rule for Python and NumPy: 0.4 CPU seconds, half of what it adds to a
    process's start. Code that is there needs its memory, not these rules, and whoever compiles asks for them again.
    """

    def __init__(self, function: Any) -> None:
        made: Any = super()
        made.__init__(function)
        if numba.__version__.startswith(TRIED):
            self._cache_file.__class__ = _KeptFile

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The code for a signature, or nothing: then it is compiled."""
        try:
            return self._load(signature, context)
        except OSError:  # Windows says so of a file that another process is writing
            return None
        except Exception:  # noqa: BLE001 - a file that was cut off can be read as anything
            here: Any = super()
            with suppress(OSError):
                here.flush()  # else what is compiled now could not be entered
            return None

    def _load(self, signature: Any, context: Any) -> Any:
        kept: Any = super()
        if not numba.__version__.startswith(TRIED):
            return kept.load_overload(signature, context)
        rtsys.initialize(context)
        return kept._load_overload(signature, context)  # noqa: SLF001 - without the first line of `load_overload`

    def save_overload(self, signature: Any, code: Any) -> None:
        """Keep the code for a signature, where the disk takes it."""
        kept: Any = super()
        with suppress(OSError):
            kept.save_overload(signature, code)


class _KeptFile(IndexDataCacheFile):
    """Code with its digest behind it: numba would run what a damaged block makes of it, or die of it."""

    def _dump(self, kept: Any) -> bytes:
        whole: Any = super()
        text: bytes = whole._dump(kept)  # noqa: SLF001 - the parent's own
        return text + hashlib.sha256(text).digest()

    def _load_data(self, name: str) -> Any:
        here: Any = self
        whole = Path(here._data_path(name)).read_bytes()  # noqa: SLF001 - the parent's own
        text = memoryview(whole)[:-_DIGEST_BYTES]
        if hashlib.sha256(text).digest() != whole[-_DIGEST_BYTES:]:
            raise ValueError("damaged")
        return _Reader(io.BytesIO(text)).load()


class _Reader(pickle.Unpickler):
    """Of code that numba kept, but for the modules of functions that stand in ours, such as `np.empty` as numba has it.

    Compiled code has no use for their globals, and numba's arrays alone take a process 0.13 CPU seconds to load.
    """

    def find_class(self, module: str, name: str) -> Any:
        """What stands under a name there; of modules' globals their names alone where they are not loaded."""
        return _environment if name == "_rebuild_env" else super().find_class(module, name)


def _environment(module: str, constants: list[object], name: str) -> Any:
    look_up: Any = lookup_environment
    known = look_up(name)
    if known is not None:
        return known
    made: Any = Environment(vars(sys.modules[module]) if module in sys.modules else {"__name__": module})
    made.consts[:] = constants
    made.env_name = name
    Environment._memo[name] = made  # noqa: SLF001 - as its `_rebuild_env` does
    return made


def _kept(decorate: Callable[[Any], Any], function: Any) -> Any:
    dispatcher, cache_of = decorate(function), cast("Callable[[Any], Any]", Kept)
    dispatcher._cache = cache_of(function)  # noqa: SLF001 - as its `enable_caching` does
    return dispatcher


def is_kept(function: Any) -> bool:
    """Whether code of a `compiled` function, as its file is now, lies where this release of numba takes it from."""
    with suppress(Exception):  # a file that was cut off can be read as anything
        return bool(function._cache._cache_file._load_index())  # noqa: SLF001 - numba has no other word for it
    return False


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
