"""All pictures of one fit, by name: to look at, and as files.

Promises: pictures come from the public tables of the fit alone. Size factors and Cook's distances are of single
samples, so they stay at their sites and there is no picture of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from secirls.input_error import InputError
from secirls.outputs.pictures import canvas, changes, pvalues, rounds
from secirls.outputs.pictures import dispersions as by_mean
from secirls.outputs.pictures.canvas import KINDS, Picture
from secirls.outputs.pictures.changes import SIGNIFICANT, TWOFOLD, Labels
from secirls.outputs.tables.next_tools import symbols_in
from secirls.whole_file import writing


@dataclass(frozen=True)
class Album:
    """The pictures of one fit; each is a matplotlib figure that a notebook shows by itself.

    Where ``labels`` (gene to symbol, a mapping or a pandas series) is not given, genes are named by the table's column
    of symbols if it has one.
    """

    table: pd.DataFrame
    """As `secirls.outputs.results.Result.table`."""
    report: Mapping[str, Any]
    ledger: pd.DataFrame = field(repr=False)
    of_dispersions: pd.DataFrame | None = field(default=None, repr=False)
    """As `secirls.outputs.results.Result.dispersions`."""
    plain: pd.DataFrame | None = field(default=None, repr=False)
    """Ledger of the same fit in the clear, where that was measured."""

    def __repr__(self) -> str:
        return f"<Pictures of {self.contrast}: {', '.join(self.drawn())}>"

    def ma(self, *, labels: Labels | None = None, named: int = 10, limit: float | None = None) -> Picture:
        """log2 fold change over the mean of normalised counts; shrunken ones beside where the fit has them.

        The ``named`` genes with the smallest p-values are named where there is room. Points beyond ``limit`` are
        triangles at the edge; by default a few far ones are.
        """
        return changes.mean_and_change(
            self.table,
            self.contrast,
            alpha=self.alpha,
            labels=self.labels if labels is None else labels,
            named=named,
            limit=limit,
            direction=self._directed,
            within=self._within,
            shrunken_title=self._shrunken,
        )

    def volcano(
        self,
        *,
        labels: Labels | None = None,
        named: int = 14,
        fold: float | None = None,
        limit: float | None = None,
    ) -> Picture:
        """-log10 of the p-value over log2 fold change, up and down apart, with lines at ``fold`` and at alpha.

        ``fold`` is the log2 fold change that was tested against, or one. In a likelihood-ratio test nothing is up or
        down, for its p-values are of all coefficients left out; nor is it where changes were tested to be small.
        """
        return changes.volcano(
            self.table,
            self.contrast,
            alpha=self.alpha,
            fold=self.fold if fold is None else fold,
            labels=self.labels if labels is None else labels,
            named=named,
            limit=limit,
            direction=self._directed,
            within=self._within,
        )

    def dispersions(self) -> Picture:
        """Gene-wise and final dispersions and the trend over base means, outliers ringed.

        Raises `InputError` where the fit drew no dispersions towards a trend.
        """
        if self.of_dispersions is None:
            raise InputError("this fit drew no dispersions towards a trend, so there is no picture of them")
        return by_mean.dispersions(self.of_dispersions)

    def pvalues(self) -> Picture:
        """p-values in 40 bars, those that independent filtering left out apart."""
        reduced = (self.report.get("test") or {}).get("reduced")
        design = self.report["configuration"].get("design")
        title = self.contrast if reduced is None else f"{design} against {reduced}"
        return pvalues.pvalue_histogram(self.table, title)

    def outliers(self) -> Picture:
        """How many genes had an outlying count by Cook's distance, and what became of them."""
        return pvalues.cooks_counts(self.report.get("outliers"))

    def convergence(self) -> Picture:
        """Genes asked about by round; settled ones leave."""
        return rounds.convergence(self.report["rounds"])

    def overhead(self, plain: pd.DataFrame | None = None) -> Picture:
        """CPU seconds and megabytes by verb; beside them those of ``plain``, the ledger of a fit in the clear."""
        return rounds.overhead(self.ledger, self.plain if plain is None else plain)

    def cost_by_round(self) -> Picture:
        """CPU time stacked by verb, and what travels, round by round."""
        return rounds.cost_by_round(self.ledger)

    def drawn(self, labels: Labels | None = None) -> dict[str, Callable[[], Picture]]:
        """The pictures this fit has, by name, drawn when called."""
        looked_for = (self.report.get("outliers") or {}).get("looked_for", False)
        every: dict[str, tuple[bool, Callable[[], Picture]]] = {
            "ma": (True, lambda: self.ma(labels=labels)),
            "volcano": (True, lambda: self.volcano(labels=labels)),
            "pvalues": (True, self.pvalues),
            "dispersions": (self.of_dispersions is not None, self.dispersions),
            "outliers": (looked_for, self.outliers),
            "convergence": (True, self.convergence),
            "overhead": (True, self.overhead),
            "cost_by_round": (True, self.cost_by_round),
        }
        return {name: draw for name, (has, draw) in every.items() if has}

    def save(
        self,
        folder: str | os.PathLike[str],
        kinds: str | Sequence[str] = ("png",),
        *,
        labels: Labels | None = None,
    ) -> list[Path]:
        """Write every picture into a folder as ``NAME.KIND``, each whole or not at all; gives their paths.

        ``kinds`` are of png, svg and pdf, as ``"pdf,svg"`` too. Raises `InputError` for another, `UnwritableError`
        where the folder takes no file.
        """
        kinds = kinds_in(kinds) if isinstance(kinds, str) else kinds
        check_kinds(kinds)
        place = Path(folder)
        with writing(place, "folder"):
            place.mkdir(parents=True, exist_ok=True)
        written = []
        for name, draw in self.drawn(labels).items():
            picture = draw()
            for kind in dict.fromkeys(kinds):
                canvas.save(picture, place / f"{name}.{kind}")
                written.append(place / f"{name}.{kind}")
        return written

    @property
    def contrast(self) -> str:
        """What fold changes are of, in words."""
        return str(self.report["contrast"])

    @property
    def alpha(self) -> float:
        """The adjusted p-value below which a gene counts as found."""
        filtering = self.report.get("independent_filtering") or {}
        told = self.report.get("alpha", filtering.get("alpha", self.report["configuration"].get("alpha")))
        return float(told or SIGNIFICANT)

    @property
    def fold(self) -> float:
        """The log2 fold change that was tested against; one, a doubling, where that was zero."""
        tested = self.report.get("lfc_threshold", self.report["configuration"].get("lfc_threshold"))
        return float(tested or TWOFOLD)

    @property
    def _directed(self) -> bool:
        return str(self.report["configuration"].get("test")) != "lrt"

    @property
    def _shrunken(self) -> str:
        """What shrunken fold changes are of: by ashr of the contrast, else of the one coefficient."""
        if self.report.get("ashr"):
            return f"{self.contrast}, ashr"
        return str((self.report.get("shrinkage") or {}).get("coefficient", ""))

    @property
    def _within(self) -> float:
        """The threshold that changes were tested to be below on either side; zero where they were not."""
        tested = self.report.get("alternative", self.report["configuration"].get("alternative"))
        return self.fold if tested == "lessAbs" else 0.0

    @property
    def labels(self) -> dict[str, str] | None:
        """Gene to symbol from the table's own column, where it has one."""
        column = symbols_in(self.table)
        if column is None:
            return None
        return dict(zip(map(str, changes.genes_of(self.table)), self.table[column], strict=True))


def kinds_in(text: str) -> tuple[str, ...]:
    """Kinds of files with commas between, each once."""
    return tuple(dict.fromkeys(kind.strip().lower() for kind in text.split(",")))


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `InputError` unless every kind is one of png, svg and pdf, and there is one."""
    if not kinds:
        raise InputError(f"pictures: none of {', '.join(KINDS)} is asked for")
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"pictures: there is no kind {kind!r}, choose of {', '.join(KINDS)}")
