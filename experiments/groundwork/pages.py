"""Pages that are made of kept rows: every experiment's answer in the index, and what an experiment says of its own.

Promises: what else stands on a page stays, and a page is written whole or not at all. Refuses to know: what is told.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.groundwork.record import Experiment, read
from secirls.input_error import InputError
from secirls.whole_file import write_whole

CHECKOUT = Path(__file__).parents[2]
INDEX = Path("experiments") / "README.md"
_WIDTH = 118


def answered(text: str, folder: Path, *, experiment: Experiment) -> str:
    """The index with the answer of the rows in a folder below the experiment's question: the one paragraph there."""
    question = re.escape(f"**{experiment.question}**")
    place = re.compile(rf"(^{question}\n\n)(?:.+\n)+", re.MULTILINE)
    answer = textwrap.fill(
        experiment.answer(read(folder / "rows.csv")), _WIDTH, break_long_words=False, break_on_hyphens=False
    )
    told, count = place.subn(lambda found: f"{found[1]}{answer}\n", text)
    if count != 1:
        raise InputError(f"file {INDEX.name!r}: has the question of {experiment.name!r} {count} times, not once")
    return told


def parts(experiment: Experiment) -> dict[Path, Callable[[str, Path], str]]:
    """Every page that an experiment's rows are told on, and how."""
    return {INDEX: partial(answered, experiment=experiment), **experiment.pages}


def rewrite(experiment: Experiment, folder: Path, root: Path = CHECKOUT) -> list[Path]:
    """Write the pages anew; gives those that changed. Raises `InputError` where a page has no place for it."""
    changed = []
    for page, made in parts(experiment).items():
        before = (root / page).read_text(encoding="utf-8")
        if (after := made(before, folder)) != before:
            write_whole(root / page, after.encode())
            changed.append(page)
    return changed
