"""What the terminal shows: progress by round, and a fit's tables. The one door to rich."""

from __future__ import annotations

import io
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from secirls.inputs.formulas.labels import plain

if TYPE_CHECKING:
    import pandas as pd

    from secirls.agreement.record import Progress as Round
    from secirls.outputs.results import Result

T = TypeVar("T")


def speak_plainly() -> None:
    """Let signs that a terminal has no letters for be written as their numbers, rather than end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


LONGEST_NAME = 15
"""Of a gene, ENSG with eleven digits, beside titles of one line at 80 columns; with a version titles take two."""

NARROW = 66
"""Columns of a terminal below which a gene's name and four numbers have no room beside each other."""

Section: TypeAlias = tuple[str, Table]
"""A title and what stands below it."""


def say(text: str, *, error: bool = False, wrap: bool = False) -> None:
    """Print one line: names are taken for no markup, what others wrote for no order.

    On a terminal an error, and what may ``wrap``, is broken between words; a longer word, such as a path, stays whole.
    Elsewhere a line is a line.
    """
    console = Console(stderr=error, highlight=False)
    told = plain(text)
    if (wrap or error) and console.is_terminal:
        told = _broken(told, console.width)
    console.print(told, markup=False, soft_wrap=True)


def _broken(text: str, width: int) -> str:
    """The same, in lines that break between words."""
    broken = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(broken.fill(line) for line in text.splitlines())


class RoundsDisplay:
    """A bar of settled genes that moves with every round, lasting words above it; without a terminal plain lines."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._genes = 0

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=self._console,
            )
            self._task = self._bar.add_task(self._title, total=None, detail="")
            self._bar.start()
        return self

    def note(self, text: str) -> None:
        """Show what is going on: beside the bar until something else is, or above it where the words are lasting."""
        from secirls.agreement.record import Lasting

        if self._bar is None or self._task is None:
            self._line(f"{self._title}: {text}")
        elif isinstance(text, Lasting):
            self._above(self._bar, text)
        else:
            self._bar.update(self._task, detail=self._beside(plain(text)))

    def __call__(self, told: Round) -> None:
        """Show a round, and who was lost in it."""
        from secirls.agreement.record import Lasting

        self._genes = max(self._genes, told.active_genes)
        asked = f"round {told.round:>3}  {told.kind:<17} {told.active_genes:>6,}"
        if self._bar is None or self._task is None:
            self._line(f"{asked} of {self._genes:,} genes active  {told.seconds:6.2f} s")
        else:
            settled, detail = self._genes - told.active_genes, self._beside(f"{asked} active")
            self._bar.update(self._task, total=self._genes, completed=settled, detail=detail)
        for loss in told.losses:
            self.note(Lasting(loss))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None and self._task is not None:
            if kind is None:
                self._bar.update(self._task, total=1, completed=1, detail="done, every gene has a status")
            self._bar.stop()

    def _beside(self, text: str) -> str:
        """As much as there is room for beside the title, a short bar and the time: rich would cut these too."""
        room = max(self._console.width - len(self._title) - len(" ━━━━━━━ 0:00:00 "), 1)
        return text if len(text) <= room else f"{text[: room - 1]}…"

    def _above(self, bar: Progress, text: str) -> None:
        told = _broken(plain(text), self._console.width)
        bar.console.print(told, markup=False, highlight=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        sys.stderr.write(plain(text) + "\n")
        sys.stderr.flush()


def steps(title: str, named: Sequence[tuple[str, Callable[[], T]]]) -> Iterator[T]:
    """Run named steps in turn under a progress bar; one plain line per step without a terminal. Yields results."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(title, total=len(named), detail="")
        for number, (name, call) in enumerate(named):
            bar.update(task, completed=number, detail=name)
            if not console.is_terminal:
                say(f"{title} {number + 1}/{len(named)}: {name}", error=True)
            yield call()
        bar.update(task, completed=len(named), detail="done")


def show_result(result: Result, files: Sequence[Path], further: Sequence[Section] = ()) -> None:
    """The strongest genes, how many changed, the statuses, further tables, what was disclosed, where the files are."""
    console = Console(highlight=False)
    _show_changes(console, result)
    for title, table in (statuses(result), *further):
        console.print(f"\n{title}", style="bold", markup=False)
        console.print(table)
    report = result.report
    console.print("\nWhat was disclosed, in short", style="bold")
    full = f"In full, {len(report['disclosure'])} sentences: report.json ('disclosure'), 'secirls report'."
    for sentence in (*report["disclosure_in_short"], full):
        console.print(Padding(Text(sentence), (0, 0, 0, 2)))
    console.print("\nFiles", style="bold")
    for file in files:
        console.print(f"  {file}", soft_wrap=True, markup=False)


def show_comparison(result: Result, files: Sequence[Path]) -> None:
    """The strongest genes of a comparison, how many changed, and where its files are."""
    console = Console(highlight=False)
    _show_changes(console, result)
    for file in files:
        console.print(f"  {file}", soft_wrap=True, markup=False)
    if not files:
        say(
            "The whole table goes to a file with --out FILE.csv, all that a fit writes to a folder with --out DIR.",
            wrap=True,
        )


def _show_changes(console: Console, result: Result) -> None:
    title, shown = strongest(result, 10, console.width)
    console.print(f"\n{title}", style="bold", markup=False)
    console.print(shown)
    console.print(changed(result), markup=False)


def changed(result: Result) -> str:
    """How many genes changed, and which way, in a sentence."""
    table, alpha = result.table, result.asked.alpha
    found = table[table["padj"] < alpha]
    filtering = result.report["independent_filtering"]
    kept = "" if filtering is None else f" of base mean {filtering['threshold']:.4g} or more"
    told = f"{len(found):,} of {table['padj'].notna().sum():,} genes{kept} with adjusted p below {alpha:g}"
    if result.asked.alternative != "lessAbs" and "reduced" not in result.report["test"]:  # else nothing is up or down
        told += ": {:,} up, {:,} down".format(*(int((sign * found["log2FoldChange"] > 0).sum()) for sign in (1, -1)))
    return told


def strongest(result: Result, n: int, width: int = 80) -> Section:
    """The genes with the smallest p-values; below `NARROW` columns of terminal without base means and errors."""
    table = Table()
    from secirls.outputs.notebooks.notebook import tested
    from secirls.outputs.tables.next_tools import symbols_in
    from secirls.outputs.tables.shrunken import SHRUNKEN

    symbols = symbols_in(result.table)
    named = list(result.kept.annotation)[:1] if symbols is None else [symbols]
    shrunken = ["shrunken"] if SHRUNKEN in result.table else []
    for column in ("gene", *named):
        table.add_column(Text(column), overflow="fold")  # where there is no room for names, on two lines; none is cut
    best = result.table.dropna(subset=["pvalue"]).sort_values(["pvalue", "stat"], kind="stable").head(n)
    values = {
        "base mean": best["baseMean"].map("{:,.1f}".format),
        "log2 fold change": best["log2FoldChange"].map("{:+.3f}".format),
        **{name: best[SHRUNKEN].map("{:+.3f}".format) for name in shrunken},
        "standard error": best["lfcSE"].map("{:.3f}".format),
        "adjusted p": best["padj"].map("{:.2e}".format),
    }
    numbers = [name for name in values if width >= NARROW or name not in {"base mean", "standard error"}]
    long = len(named) + len(numbers) > 4 or width < NARROW or best["gene"].map(str).map(len).max() > LONGEST_NAME
    for column in numbers:
        shown = "\n".join(column.rsplit(" ", 1)) if long else column
        table.add_column(Text(shown), justify="right", no_wrap=True)
    names = (best[name].map(str).map(Text) for name in ("gene", *named))
    for row in zip(*names, *(values[name] for name in numbers), strict=True):
        table.add_row(*row)
    return f"Strongest genes ({tested(result.report)})", table


def statuses(result: Result) -> Section:
    """How many genes have which status."""
    from secirls.outputs.results import status_counts

    table = Table()
    table.add_column("status")
    table.add_column("genes", justify="right")
    for name, count in status_counts(result.table).items():
        table.add_row(name, f"{count:,}")
    return f"Genes by status, {len(result.table):,} in all", table


def overhead(protected: pd.DataFrame, plain: pd.DataFrame, protocol: str) -> Section:
    """Seconds of CPU and megabytes by verb, summed over parties and rounds, beside the plain fit's."""
    from secirls.agreement.ledger import MEGABYTE, by_verb

    table = Table()
    for column in ("verb", "CPU s", "plain", "MB up", "plain", "MB down", "plain"):
        table.add_column(column, justify="left" if column == "verb" else "right")
    mine, base = by_verb(protected).set_index("verb"), by_verb(plain).set_index("verb")
    verbs = [verb for verb in mine.index if verb != "wait"]
    for verb in [*verbs, "sum"]:
        ours = mine.loc[verb] if verb != "sum" else mine.loc[verbs].sum()
        theirs = base.loc[verb] if verb in base.index else 0 * ours
        if verb == "sum":
            theirs = base.loc[[name for name in base.index if name != "wait"]].sum()
            table.add_section()
        table.add_row(
            verb,
            f"{ours.cpu_seconds:.3f}",
            f"{theirs.cpu_seconds:.3f}",
            f"{ours.bytes_up / MEGABYTE:.2f}",
            f"{theirs.bytes_up / MEGABYTE:.2f}",
            f"{ours.bytes_down / MEGABYTE:.2f}",
            f"{theirs.bytes_down / MEGABYTE:.2f}",
        )
    return f"Cost by verb, all parties and rounds together: {protocol} beside plain", table
