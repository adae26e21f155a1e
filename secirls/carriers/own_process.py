"""A process that is all ours, an actor's or the command's: how it keeps memory, and what it looks through for garbage.

Promises: results are the same with it and without. Refuses to know: what is computed. Never for a process that is
somebody else's, such as a notebook.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT_BYTES = 1 << 28
"""So much freed memory at the end of the heap stays with the process."""
LARGEST_KEPT = 1 << 25
"""Arrays above this go back to the system when they are freed; the most that glibc takes."""


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the next array, rather than give it back and have it zeroed page by page anew.

    Gives whether it does: another C library keeps its own way. See mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # the last where there is no such library at all
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))


@contextmanager
def loading() -> Iterator[None]:
    """Let the garbage collector rest while modules load, and pass over them ever after.

    What is loaded stays, and looking it through again and again takes a tenth of loading it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
