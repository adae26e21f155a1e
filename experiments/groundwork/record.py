"""The one writer of results: rows, how they were measured, figures.

Promises: ``rows.csv`` holds whole measurements only, whenever one looks; an interrupted run keeps those that are
finished and a rerun continues after them; figures and answers are functions of the rows alone. Refuses to know:
what is measured.
"""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from secirls.cli.console import steps
from secirls.input_error import InputError
from secirls.outputs.pictures.canvas import Figure, save
from secirls.whole_file import write_whole

HERE = Path(__file__).parents[1]
RESULTS = HERE / "results"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
MACHINE = "shared with other work while measuring: compare ratios and medians, not seconds"

_VERSIONED = (
    "secirls",
    "numpy",
    "scipy",
    "numba",
    "pandas",
    "cryptography",
    "pynacl",
    "gmpy2",
    "phe",
    "pydeseq2",
    "matplotlib",
)

Cell: TypeAlias = str | int | float
Row: TypeAlias = Mapping[str, Cell]
Configuration: TypeAlias = Mapping[str, Any]


class SkippedError(Exception):
    """This measurement can't be made here; the sentence says what is missing."""


@dataclass(frozen=True)
class Measurement:
    """One step of an experiment: named by its key, made by a call that gives tidy rows."""

    key: str
    """Unique within the experiment; a rerun skips keys whose rows are there."""
    measure: Callable[[], Iterable[Row]]


@dataclass(frozen=True)
class Experiment:
    """A question, how it is measured, and how its rows are read."""

    name: str
    question: str
    configuration: Configuration
    """Frozen: rows measured under another one are not continued."""
    quick: Configuration
    """What ``--quick`` changes: the same path through the code, in seconds."""
    plan: Callable[[Configuration], Sequence[Measurement]]
    figures: Callable[[pd.DataFrame], Mapping[str, Figure]]
    """File name (without .png) to figure; the first is named like the experiment."""
    answer: Callable[[pd.DataFrame], str]
    """One sentence, computed from the rows."""
    pages: Mapping[Path, Callable[[str, Path], str]] = field(default_factory=dict)
    """Pages, from the checkout, that kept rows are told on: from a text and the folder of results to the new text."""

    def configured(self, *, quick: bool) -> Configuration:
        """The configuration of a run."""
        return {**self.configuration, **(self.quick if quick else {})}


def folder_of(name: str, *, quick: bool, root: Path | None = None) -> Path:
    """Where results go; quick ones apart, so that they never replace kept ones."""
    return (RESULTS if root is None else root) / (f"{name}-quick" if quick else name)


def run(
    experiment: Experiment, *, quick: bool, fresh: bool = False, root: Path | None = None, only: Sequence[str] = ()
) -> Path:
    """Measure what is not measured yet, of all or only of what has keys that begin so; gives the folder.

    Raises `InputError` where the folder holds rows of another configuration and ``fresh`` is not set.
    """
    folder = folder_of(experiment.name, quick=quick, root=root)
    configuration = experiment.configured(quick=quick)
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    _check_same(folder, configuration)
    rows = folder / "rows.csv"
    plan = list(experiment.plan(configuration))
    missing = [step for step in plan if step.key not in done(rows)]
    wanted = [step for step in missing if step.key.startswith(tuple(only) or "")]
    if not wanted:
        return folder  # what run.json says of the rows that are there stays true
    told = _described(experiment, configuration, folder)
    told["skipped"] = [f"{step.key}: not asked for" for step in missing if step not in wanted]
    _tell(folder, told)
    began, before = time.monotonic(), told["minutes"]
    for sentence in _measured(experiment.name, wanted, rows):
        if sentence:
            told["skipped"].append(sentence)
        told["minutes"] = round(before + (time.monotonic() - began) / 60, 1)
        _tell(folder, told)
    for sentence in told["skipped"]:
        print(f"skipped {sentence}", file=sys.stderr)
    return folder


def _measured(title: str, wanted: Sequence[Measurement], rows: Path) -> Iterator[str]:
    """Make the measurements; gives a sentence for each that can't be made here, and an empty one for all others."""
    yield from steps(title, [(step.key, partial(_one, step, rows)) for step in wanted])


def _one(step: Measurement, rows: Path) -> str:
    try:
        made = list(step.measure())
    except SkippedError as reason:
        return f"{step.key}: {reason}"
    append(rows, step.key, made)
    return ""


def append(path: Path, key: str, made: Sequence[Row]) -> None:
    """Add the rows of one measurement to a CSV, all of them or none."""
    if not made:
        raise ValueError(f"measurement {key!r} gave no rows")
    table = pd.DataFrame([{"key": key, **row} for row in made])
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before:
        columns = before.split("\n", 1)[0].split(",")
        if columns != list(table.columns):
            raise ValueError(f"measurement {key!r} has columns {list(table.columns)}, the file has {columns}")
    text = io.StringIO()
    table.to_csv(text, index=False, header=not before, lineterminator="\n")
    write_whole(path, (before + text.getvalue()).encode())


def read(path: Path) -> pd.DataFrame:
    """The rows of an experiment. Raises `InputError` where there are none."""
    if not path.is_file():
        raise InputError(f"file {path.name!r}: there are no rows in {path.parent.name!r} yet: run the experiment first")
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def done(path: Path) -> frozenset[str]:
    """Keys of the measurements that are there."""
    return frozenset(read(path)["key"].astype(str)) if path.is_file() else frozenset()


def draw(experiment: Experiment, folder: Path) -> str:
    """Draw every figure from the rows and write the answer beside them; gives the answer."""
    rows = read(folder / "rows.csv")
    for name, figure in experiment.figures(rows).items():
        save(figure, folder / f"{name}.png")
    return experiment.answer(rows)


def _check_same(folder: Path, configuration: Configuration) -> None:
    before = _told_before(folder)
    if before and before.get("configuration") != json.loads(json.dumps(configuration)):
        raise InputError(
            f"results {folder.name!r}: were measured under another configuration; --fresh deletes them and starts over"
        )


def _described(experiment: Experiment, configuration: Configuration, folder: Path) -> dict[str, Any]:
    before = _told_before(folder)
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "configuration": configuration,
        "seed": configuration["seed"],
        "engine": configuration.get("engine", "local"),
        "commit": _commits(before),
        "versions": {"python": platform.python_version(), **_versions()},
        "cores": os.cpu_count(),
        "processor": _processor(),
        "machine": MACHINE,
        "threads": {name: os.environ.get(name, "unset") for name in THREADS},
        "minutes": before.get("minutes", 0.0),
        "skipped": [],
    }


def _tell(folder: Path, told: Configuration) -> None:
    """Write run.json."""
    write_whole(folder / "run.json", (json.dumps(told, indent=2) + "\n").encode())


def _told_before(folder: Path) -> dict[str, Any]:
    """What run.json says of rows that a run goes on from; nothing where there are none."""
    path = folder / "run.json"
    if not path.is_file() or not (folder / "rows.csv").is_file():
        return {}
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


def _processor() -> str:
    """Its model, as Linux names it, or what Python knows."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        told = []
    named = [line.split(":", 1)[1].strip() for line in told if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _commits(before: Mapping[str, Any]) -> str:
    """The commit of this run; before it, that of the rows it goes on from, where it is another."""
    now, first = commit(), str(before.get("commit", "unknown"))
    if not before:
        return now
    return first if first.endswith(now) else f"{first}, then {now}"


def commit(here: Path = HERE) -> str:
    """The checkout's commit, marked where code differs from it; pages and kept results are no code."""
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def told(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603 - fixed arguments, the program found on the path
            [git, "-C", str(here), *arguments], capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = told("status", "--porcelain", "--", "../protocols", "../secirls", ".", ":!results", ":!*.md")
    return (told("rev-parse", "HEAD") or "unknown") + (" and changes" if changed else "")
