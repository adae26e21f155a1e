"""Progress of a fit in a notebook: one bar of settled genes that moves with every round, and lasting words below it.

Promises: it appears by itself where an IPython kernel runs this process, and elsewhere nothing is shown and nothing
imported. Refuses to know: how a fit proceeds.
"""

from __future__ import annotations

import html
import sys
import time
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from secirls.agreement.record import Progress

OFTEN: Final = 0.1
"""Seconds between two movements of the bar: rounds may come faster than a browser draws."""


class NotebookProgress:
    """A bar in the output of a cell; to a process without a notebook, silence."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._handle: Any = None
        self._genes = self._rounds = 0
        self._active = 0
        self._words = "begins"
        self._lasting: list[str] = []
        self._began = self._moved = -OFTEN

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if in_notebook():
            display = import_module("IPython.display").display  # the kernel has it loaded
            self._handle = display(self._shown(self._words), raw=True, display_id=True)
        return self

    def note(self, text: str) -> None:
        """Show what is going on before a long step; lasting words stay."""
        from secirls.agreement.record import Lasting

        if isinstance(text, Lasting):
            self._lasting.append(text)
        self._move(self._words if isinstance(text, Lasting) else text)

    def __call__(self, told: Progress) -> None:
        """Show a round."""
        self._genes, self._active, self._rounds = max(self._genes, told.active_genes), told.active_genes, told.round + 1
        self._lasting += told.losses
        if told.losses or time.monotonic() - self._moved >= OFTEN:
            kind = told.kind.replace("_", " ")
            self._move(f"round {told.round}, {kind}: {told.active_genes:,} of {self._genes:,} genes active")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.monotonic() - self._began
        if kind is None:
            self._active = 0
            self._move(f"done: {self._rounds} rounds in {seconds:.0f} s, every gene has a status")
        else:
            self._move(f"ended by {kind.__name__} (rounds done: {self._rounds})", bar=False)

    def _move(self, text: str, *, bar: bool = True) -> None:
        self._moved, self._words = time.monotonic(), text
        if self._handle is not None:
            self._handle.update(self._shown(text, bar=bar), raw=True)

    def _shown(self, text: str, *, bar: bool = True) -> dict[str, str]:
        """The bar as a browser and as a plain front end show it."""
        settled = f' value="{self._genes - self._active}" max="{self._genes}"' if self._genes else ""
        words = f"{self._title}: {text}"
        drawn = f'<progress{settled} style="width: 12em; vertical-align: middle"></progress> ' if bar else ""
        lasting = "".join(f"<div>{html.escape(line)}</div>" for line in self._lasting)
        plainly = "\n".join((words, *self._lasting))
        return {"text/plain": plainly, "text/html": f"<div>{drawn}{html.escape(words)}</div>{lasting}"}


def in_notebook() -> bool:
    """Whether an IPython kernel, such as Jupyter's, runs this process; asks without importing anything."""
    asked = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return asked is not None and getattr(asked(), "kernel", None) is not None
