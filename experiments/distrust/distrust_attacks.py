"""Attacks that were once found, each run with its twin: which layer stops it.

Promises: what is said of an attack was run here: its test, and its twin, the same attack where the one check is taken
out. The table of both, and of the layer that each attack meets, is that of ``docs/attacks.md``. Refuses to know: what
an attack does.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.groundwork.record import Row, SkippedError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "attacks.md"
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
_IN_IT = "*in it*"
_LIMIT = 1800


@dataclass(frozen=True)
class Attack:
    """A row of the table."""

    name: str
    """Its number in the collection, and which part of it."""
    gave: str
    """What it once gave away."""
    layer: str
    """What stops it."""
    file: str
    test: str
    twin: str
    """Another test of the same file; the same one where that takes its check out at its end."""


def table(page: Path = PAGE) -> list[Attack]:
    """The attacks of a page, in its order. Raises `SkippedError` where there is no page."""
    if not page.is_file():
        raise SkippedError("docs/attacks.md and its tests are in a checkout alone")
    found = []
    for line in re.findall(r"^\| (a\d\d.*) \|$", page.read_text(encoding="utf-8"), re.MULTILINE):
        name, gave, layer, test, twin = (cell.strip().strip("`") for cell in line.split("|"))
        file, _, function = test.partition("::")
        found.append(Attack(name, gave, layer, file, function, function if twin == _IN_IT else twin))
    return found


def by_file(names: Sequence[str], page: Path = PAGE) -> Mapping[str, list[Attack]]:
    """The attacks with these numbers by the file of their tests: one process each."""
    found: dict[str, list[Attack]] = {}
    for attack in table(page):
        if attack.name.split()[0] in names:
            found.setdefault(attack.file, []).append(attack)
    return found


def run(attacks: Sequence[Attack], root: Path = ROOT) -> Iterator[Row]:
    """Run the tests and twins of attacks of one file; a row each."""
    ended = outcomes(attacks[0].file, sorted({name for one in attacks for name in (one.test, one.twin)}), root)
    nothing = (NOT_RUN, 0.0)
    for attack in attacks:
        (outcome, seconds), (twin_outcome, twin_seconds) = (
            ended.get(name, nothing) for name in (attack.test, attack.twin)
        )
        yield {
            "attack": attack.name,
            "gave": attack.gave,
            "layer": attack.layer,
            "test": f"{attack.file}::{attack.test}",
            "outcome": outcome,
            "twin": attack.twin,
            "twin_outcome": twin_outcome,
            "seconds": round(seconds + (twin_seconds if attack.twin != attack.test else 0.0), 3),
        }


def outcomes(file: str, tests: Sequence[str], root: Path = ROOT) -> Mapping[str, tuple[str, float]]:
    """Whether every case of each test passed, and its seconds, by pytest in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.xml"
        # marks are not asked for: a test that is slow elsewhere is run here
        options = ["-q", "-m", "", "-p", "no:cacheprovider", f"--junitxml={told}"]
        nodes = [f"{file}::{test}" for test in tests]
        ended = subprocess.run(  # noqa: S603 - this interpreter, and tests that are in the checkout
            [sys.executable, "-m", "pytest", *options, *nodes],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT,
        )
        if not told.is_file():
            last = ((ended.stderr or ended.stdout).strip().splitlines() or ["nothing"])[-1]
            raise SkippedError(f"pytest did not run: {last}")
        cases = list(ET.parse(told).iter("testcase"))  # noqa: S314 - written a line above
    found: dict[str, tuple[str, float]] = {}
    for case in cases:
        name = case.attrib["name"].partition("[")[0]
        before, seconds = found.get(name, (PASSED, 0.0))
        found[name] = (_worse(before, _outcome(case)), seconds + float(case.attrib["time"]))
    return found


def _outcome(case: ET.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return FAILED
    return NOT_RUN if case.find("skipped") is not None else PASSED


def _worse(one: str, other: str) -> str:
    order = (PASSED, NOT_RUN, FAILED)
    return max(one, other, key=order.index)
