"""Settings of a private local Ray, which must stand in the environment before ray is imported.

Ray reads its authentication mode once, at import, and by default writes a token into the home
directory that others may read. Here the token lies in a folder of this process that its user alone
may enter, and the folder goes when the process ends.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

_once = threading.Lock()


@cache
def private_folder() -> Path:
    """A folder of this process that its user alone may enter."""
    folder = Path(tempfile.mkdtemp(prefix="secirls-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def folder_for_ray() -> Path:
    """Where Ray's files lie; its name is short, for their sockets' paths must stay below 107 bytes.

    Within the private folder: Ray lets everybody write to what it is given, who could put another token in the place
    of ours.
    """
    return private_folder() / "r"


def prepare_local() -> None:
    """Set the environment for a local cluster of our own; leaves everything alone once ray is imported."""
    with _once:  # two fits may begin at the same time in two threads
        if "ray" in sys.modules or (private_folder() / "token").exists():
            return
        token = private_folder() / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32), encoding="ascii")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
        # else `uv run` has workers set up, each from a copy of the folder that it is called in
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
