"""The page on speed, where it is made of rows: the table, the rounds of every data set, rooms of many sites.

Promises: what stands between markers is a function of rows and of ``run.json``; all else on the page stays. Refuses to
know: how rows are measured.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.groundwork.record import read
from experiments.speed.lines import LINES, digits
from secirls.input_error import InputError

PAGE = Path("docs") / "speed.md"
"""From the checkout."""
AIMED_ROUNDS = 80
_WIDTH = 118


def table(rows: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """Where it was measured, and every line with its aim."""
    cells = [("what", "against", "measured", "aim"), ("---",) * 4, *(line.told(rows) for line in LINES)]
    lines = "\n".join(f"| {' | '.join(cell)} |" for cell in cells)
    return f"{_measured_where(run)}\n\n{lines}"


def _measured_where(run: Mapping[str, Any]) -> str:
    versions = run["versions"]
    told = (
        f"Measured at commit {_short(run['commit'])} on {run['cores']} cores ({run['processor']}), with "
        f"Python {versions['python']}, NumPy {versions['numpy']}, "
        f"numba {versions['numba']}, cryptography {versions['cryptography']} and gmpy2 {versions['gmpy2']}."
    )
    left: dict[str, list[str]] = {}
    for key, reason in (sentence.split(": ", 1) for sentence in run["skipped"]):
        left.setdefault(reason, []).append(key)
    skipped = [f"Not measured: {', '.join(keys)} ({reason})." for reason, keys in left.items()]
    return textwrap.fill(" ".join([told, *skipped]), _WIDTH, break_long_words=False, break_on_hyphens=False)


def _short(commit: str) -> str:
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"`\1`", commit)


def rounds(rows: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """A line for every data set, and which fits take more than are aimed at."""
    mine = rows[rows["line"] == "rounds"]
    sets, designs = run["configuration"]["sets"], run["configuration"]["designs"]
    by_case = {case: (int(value), int(late)) for case, value, late in mine[["case", "value", "against"]].to_numpy()}
    named = {"~ site + condition": "`~ site + condition`, own columns"}
    head = [cell for design in designs for cell in (named.get(design, f"`{design}`"), "in the tail")]
    cells = [["data", *head], ["---"] * (1 + len(head))]
    for name in sets:
        found = [by_case.get(f"{name} {design}") for design in designs]
        cells.append([name, *(str(cell) for both in found for cell in (both or ("not measured", "-")))])
    over = [case for case, (count, _) in by_case.items() if count > AIMED_ROUNDS]
    told = f"Over {AIMED_ROUNDS}, the number aimed at, are {len(over)} of the {len(by_case)}."
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + f"\n\n{told}"


def sites(rows: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """Milliseconds of a round by the number of sites."""
    columns = {
        "a site's keys and meeting": "sites, offline",
        "a site's round": "sites, protect",
        "the aggregator's, first of a session": "sites, aggregator",
    }
    cells = [["sites", *columns], ["---"] * (1 + len(columns))]
    for number in run["configuration"]["sites"]:
        case = f"{number:,}"
        found = [rows.loc[(rows["line"] == line) & (rows["case"] == case), "value"] for line in columns.values()]
        cells.append([case, *("not measured" if part.empty else digits(part.median()) for part in found)])
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


BLOCKS: Mapping[str, Callable[[pd.DataFrame, Mapping[str, Any]], str]] = {
    "table": table,
    "rounds": rounds,
    "sites": sites,
}


def written(text: str, folder: Path) -> str:
    """The page with every block made anew of the rows in a folder.

    Raises `InputError` where a block's markers are gone.
    """
    rows = read(folder / "rows.csv")
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    for name, block in BLOCKS.items():
        begin, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
        head, mark, rest = text.partition(begin)
        _, closing, tail = rest.partition(end)
        if not mark or not closing:
            raise InputError(f"file {PAGE.name!r}: the markers {begin!r} and {end!r} are not there")
        text = f"{head}{begin}\n\n{block(rows, run)}\n\n{end}{tail}"
    return text
