"""What grows: the aggregator's work with the number of sites, and a site's memory with its counts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.costs import scaling
from experiments.groundwork.record import Row, SkippedError
from experiments.speed.turns import alone

CHECKOUT = Path(__file__).parents[2]


def of_sites(sites: int, repeat: int) -> Iterator[Row]:
    """One round with fresh keys, as *scaling* measures it: milliseconds of CPU, beside the number of sites."""
    for cell in scaling.measure("sites", sites, repeat, scaling.CONFIGURATION):
        if cell["stage"] != "statistics":
            told = alone(f"sites, {cell['stage']}", f"{sites:,}", 1e3 * float(cell["cpu_seconds"]), sites)
            yield from ({**row, "repeat": repeat} for row in told)


def alone_in_a_process(*arguments: object) -> str:
    """What the program *growth* prints, in a process of its own."""
    told = [sys.executable, "-W", "ignore", "-m", "experiments.speed.growth", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(  # noqa: S603 - our own program
        told, capture_output=True, text=True, check=True, cwd=CHECKOUT, env=env
    ).stdout


def grown(folder: Path) -> tuple[int, int]:
    """Bytes that a process grows by over a fit of the sites in a folder: as counts are held, and as whole arrays."""
    held, whole = alone_in_a_process("grow", folder).splitlines()[-1].split()
    return int(held), int(whole)


def of_memory(case: str, share: float, sizes: Any) -> Iterator[Row]:
    """In int32 matrices of the site's counts. Raises `SkippedError` where a process can't be asked for its size."""
    if not Path("/proc/self/status").is_file():
        raise SkippedError("the size of a process is read from /proc, which is not there")
    with tempfile.TemporaryDirectory() as folder:
        alone_in_a_process("make", folder, sizes["genes"], sizes["samples"], share)
        held, whole = grown(Path(folder))
    matrix = 4 * sizes["genes"] * sizes["samples"]
    yield from alone("memory", case, held / matrix)
    yield from alone("memory, whole", case, whole / matrix)
