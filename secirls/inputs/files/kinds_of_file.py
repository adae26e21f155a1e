"""What lies at a path, asked before anything is opened: a pipe waits for whoever writes to it, a device has no end.

Refuses to know: what may lie where, and what is said of that which may not.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal

Kind = Literal["file", "folder", "other"]


def kind_of(path: Path, *, links: bool = True) -> Kind:
    """A regular file, a folder, or something else: a pipe, a device, a socket; without following ``links``, a link too.

    Raises as `Path.stat` does: `OSError` where nothing is there or it can't be told, `ValueError` for no file's name.
    """
    mode = path.stat(follow_symlinks=links).st_mode
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"
