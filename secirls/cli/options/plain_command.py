"""Commands as we have them: their help is plain text, and an interruption is told.

Promises: no name and no word of a help is cut, however narrow the terminal. Refuses to know: what options do.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from typer.core import TyperCommand, TyperGroup

from secirls.cli.interruption import raise_again

Row: TypeAlias = tuple[str, str]
"""A name and what it does."""
LONGEST_NAME = 22
"""That has its sentence beside it; a longer one has it below."""


class InterruptedCommandError(Exception):
    """Ctrl-C while a command ran; typer would end the process at a plain `KeyboardInterrupt` without a word from us."""


class PlainCommand(TyperCommand):
    """A command with a help of plain text: names to the left, sentences to the right."""

    headings: ClassVar[Mapping[str, str]] = {}
    """The first option below each heading, and the heading; what comes before stands under ``Options``."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "rich_markup_mode": None})

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises `InterruptedCommandError`."""
        raise_again()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedCommandError from None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, and options by heading."""
        parts: dict[str, list[Row]] = {}
        heading = "Arguments"
        for given in self.get_params(ctx):
            if given.param_type_name == "option":
                before = "Options" if heading == "Arguments" else heading
                heading = self.headings.get(given.opts[0], before)
            if (row := given.get_help_record(ctx)) is not None:
                parts.setdefault(heading, []).append(row)
        formatter.write(in_columns(parts, formatter.width))


class PlainGroup(TyperGroup):
    """Commands beside the first paragraphs of their own help, in plain text."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "rich_markup_mode": None})

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options, and commands."""
        rows = [row for given in self.get_params(ctx) if (row := given.get_help_record(ctx)) is not None]
        told = [(name, (command.help or "").split("\n\n")[0]) for name, command in self.commands.items()]
        formatter.write(in_columns({"Options": rows, "Commands": told}, formatter.width))


class FitCommand(PlainCommand):
    """`secirls fit`, whose options are many."""

    headings: ClassVar[Mapping[str, str]] = {
        "--contrast": "What is compared",
        "--levels": "Samples, counts and genes",
        "--size-factors": "Size factors, dispersions and outliers",
        "--preset": "The regression",
        "--shrink": "Further stages",
        "--threshold": "The protocol",
        "--roster": "Who takes part, and where",
        "--annotation": "What is written",
    }


def in_columns(parts: Mapping[str, Sequence[Row]], width: int) -> str:
    """Headings, and under each its names beside their sentences, all sentences in one column."""
    names = [name for rows in parts.values() for name, _ in rows if len(name) <= LONGEST_NAME]
    column = 4 + max(map(len, names), default=0)
    lines = []
    for heading, rows in parts.items():
        lines += ["", f"{heading}:"]
        for name, sentence in rows:
            told = textwrap.wrap(
                " ".join(sentence.split()), width - column, break_long_words=False, break_on_hyphens=False
            )
            beside = told.pop(0) if told and len(name) <= LONGEST_NAME else ""
            lines.append(f"  {name:<{column - 2}}{beside}".rstrip())
            lines += [" " * column + line for line in told]
    return "\n".join(lines) + "\n"
