"""Stands where Ray starts an agent of a node, for an agent whom nothing will ask: a script for Python alone.

Whoever started it waits for a file by the name of each of its ports, in the session's folder; -1 says "not in use".
It ends when who started it is gone.
"""

import os
import sys
import time
from pathlib import Path

LOOK_SECONDS = 1.0


def stand_in(folder: Path, node: str, ports: list[str]) -> None:
    """Write that the ports of this node are not in use, and wait for the end."""
    parent = os.getppid()
    for port in ports:
        part = folder / f"{port}_{node}.part"
        part.write_text("-1", encoding="ascii")
        part.rename(part.with_suffix(""))
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    stand_in(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
