"""A process that is all ours, an actor's or the command's: what memory it keeps, gives back, and looks through.

Promises: results are the same with it and without. Refuses to know: what is computed. Never for a process that is
somebody else's, such as a notebook.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT_BYTES = 1 << 28
"""So much freed memory at the end of the heap stays with the process."""
LARGEST_KEPT = 1 << 25
"""Arrays above this go back to the system when they are freed; the most that glibc takes."""
GROWTH_BYTES = 1 << 26
"""So much larger than what it needs a process may be before it gives back what it has freed."""
_SELF = Path("/proc/self")


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the next array, rather than give it back and have it zeroed page by page anew.

    Gives whether it does: another C library keeps its own way. See mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # the last where there is no such library at all
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))


class Growth:
    """How far a process has outgrown what it needs: by freed memory that it keeps, and pages that it shares."""

    def __init__(self) -> None:
        self._most = resident_bytes() + GROWTH_BYTES

    def limit(self) -> None:
        """Give memory back where that is too far: shared pages, and if they are too few all that is freed.

        As large as it was once a process may be again, since its peak would be no lower, and to take memory anew costs
        time.
        """
        reached = resident_bytes()
        if reached <= self._most:
            return
        let_go_of_shared_pages()
        if resident_bytes() > self._most:
            give_back_freed_memory()
            self._most = max(reached, resident_bytes() + GROWTH_BYTES)


def resident_bytes() -> int:
    """How much of this process is in memory, shared pages included; 0 where the system does not tell."""
    try:
        return int((_SELF / "statm").read_bytes().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def give_back_freed_memory() -> None:
    """Give what is freed back to the system, wherever it lies. See malloc_trim(3)."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def let_go_of_shared_pages() -> None:
    """Let go of the pages of Ray's object store, and of any other memory that is shared.

    They stay where they are, and are there again when they are read or written. See madvise(2).
    """
    with suppress(OSError, AttributeError, TypeError):
        madvise = ctypes.CDLL(None).madvise
        for start, stop in _shared():
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)


def _shared() -> Iterator[tuple[int, int]]:
    """From where to where memory is mapped that is shared with other processes."""
    for line in (_SELF / "maps").read_text().splitlines():
        place, access, *_ = line.split()
        if access.endswith("s"):
            start, stop = (int(end, 16) for end in place.split("-"))
            yield start, stop


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
