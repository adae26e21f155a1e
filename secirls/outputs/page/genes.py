"""The table of all genes: the strongest as plain HTML, all of them as data that a script sorts and searches.

Promises: every gene of the results is in the data, in the order of its p-value; numbers have six digits, or
as many more as it takes to show them as they are; the files have all. Refuses to know: how the script shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from secirls.outputs.page.markup import data, row_header, text
from secirls.outputs.pictures.changes import genes_of
from secirls.outputs.tables.gene_tables import annotation_in
from secirls.outputs.tables.shrunken import SHRUNKEN

STRONGEST: Final = 20
"""Rows that are there without a script."""
MISSING: Final = "–"
"""What stands where there is no number; no gene is called so."""
DIGITS: Final = (6, 9, 17)
"""Of numbers in the page: as few as show what all of them would."""
LONG: Final = 24
"""Characters of a text that still stands in one line."""


@dataclass(frozen=True)
class Column:
    """A column of the table on the page."""

    name: str
    """Of the results table."""
    title: str
    kind: str
    """text, mean, change, size or p: how `shown`, and `shown` in the script, write it."""
    long: bool = False
    """Whether its texts go on in a second line."""


COLUMNS: Final = (
    Column("baseMean", "base mean", "mean"),
    Column("log2FoldChange", "log2 fold change", "change"),
    Column(SHRUNKEN, "shrunken", "change"),
    Column("lfcSE", "standard error", "size"),
    Column("pvalue", "p", "p"),
    Column("padj", "adjusted p", "p"),
)
SORTED_BY: Final = "pvalue"


def gene_table(table: pd.DataFrame) -> str:
    """The table of results with its search field and its data. Annotation stands beside the genes, long texts last."""
    ordered = _by_pvalue(table)
    genes = [str(gene) for gene in genes_of(ordered)]
    about = {name: [str(text) for text in ordered[name]] for name in annotation_in(map(str, table.columns))}
    long = {name for name, texts in about.items() if max(map(len, texts), default=0) > LONG}
    short = [Column(name, name, "text") for name in about if name not in long]
    numbers = [column for column in COLUMNS if column.name in ordered]
    described = [Column(name, name, "text", long=True) for name in about if name in long]
    columns = [Column("gene", "gene", "text"), *short, *numbers, *described]
    columns += [Column("status", "status", "text"), Column("reason", "reason", "text", long=True)]
    words, codes = _told_once(ordered)
    values = [about.get(column.name) or _rounded(ordered[column.name], column.kind) for column in columns[1:-2]]
    rows = [list(row) for row in zip(genes, *values, codes, strict=True)]
    heads = "".join(
        f'<th scope="col" data-kind="{column.kind}"{" data-long" * column.long}{_sorted(column)}>'
        f"{text(column.title)}</th>"
        for column in columns
    )
    strongest = "\n".join(_row(columns, [*row[:-1], *words[row[-1]]]) for row in rows[:STRONGEST])
    return "\n".join(
        [
            '<p id="search" hidden><label>Search all texts: <input type="search" autocomplete="off"></label>',
            '<span id="told" role="status"></span></p>',
            f"<noscript><p>These are the {STRONGEST} strongest; results.csv has all.</p></noscript>",
            f'<div class="high"><table id="genes-table"><thead><tr>{heads}</tr></thead><tbody>',
            strongest,
            "</tbody></table></div>",
            '<p><button id="more" type="button" hidden>Show more</button></p>',
            data("genes-data", {"rows": rows, "words": words}),
        ]
    )


def shown(kind: str, value: Any) -> str:
    """A cell as text."""
    if kind == "text":
        return str(value)
    if value is None:
        return MISSING
    forms = {"mean": "{:,.1f}", "change": "{:+.3f}", "size": "{:.3f}", "p": "{:.2e}"}
    return forms[kind].format(value)


def _by_pvalue(table: pd.DataFrame) -> pd.DataFrame:
    """Smallest p-values first, larger statistics first where they tie, genes without one last."""
    size = -np.abs(table["stat"].to_numpy(dtype=np.float64)) if "stat" in table else np.zeros(len(table))
    pvalue = table["pvalue"].to_numpy(dtype=np.float64)
    return table.iloc[np.lexsort((np.nan_to_num(size, nan=0.0), pvalue))]


def _rounded(values: pd.Series[float], kind: str) -> list[float | None]:
    return [_short(value, kind) if np.isfinite(value) else None for value in values.tolist()]


def _short(value: float, kind: str) -> float:
    """A number of few digits, without a sign at zero, that is shown as the number itself: not rounded twice."""
    short = (float(f"{value:.{digits}g}") for digits in DIGITS)
    return next(number for number in short if shown(kind, number) == shown(kind, value)) + 0.0


def _told_once(table: pd.DataFrame) -> tuple[list[tuple[str, str]], list[int]]:
    """Every pair of status and reason that occurs, and which of them each gene has."""
    status = table["status"].astype(str).tolist()
    reason = table["reason"].fillna("").astype(str).tolist() if "reason" in table else [""] * len(status)
    pairs = list(zip(status, reason, strict=True))
    places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
    return list(places), [places[pair] for pair in pairs]


def _sorted(column: Column) -> str:
    return ' aria-sort="ascending"' if column.name == SORTED_BY else ""


def _words(column: Column) -> str:
    if column.kind != "text":
        return ""
    return ' class="words long"' if column.long else ' class="words"'


def _row(columns: list[Column], row: list[Any]) -> str:
    cells = [
        f"<td{_words(column)}>{text(shown(column.kind, value))}</td>"
        for column, value in zip(columns[1:], row[1:], strict=True)
    ]
    return f"<tr>{row_header(row[0])}{''.join(cells)}</tr>"
