"""What genes are called beside their names: symbols, chromosomes and the like, from a table that the user has.

Promises: no site is asked; whoever reads results brings the table. What sites have in var is asked for in a fit alone:
see `secirls.aggregator.annotating`. Refuses to know: what the columns mean.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from secirls.input_error import complain
from secirls.inputs.files.text_file import read_text
from secirls.inputs.files.var_columns import TABLE_COLUMNS

SIGNS = {";": "semicolons", "\t": "tabs", ",": "commas"}
"""What may stand between columns, most telling first: spreadsheets write semicolons where a comma is in numbers."""


@dataclass(frozen=True)
class Annotation:
    """A table by gene: gene names in the first column, with a header; as text."""

    file: str
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[str]] = field(repr=False)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Annotation:
        """Read a CSV file, or one with tabs where its name ends in .tsv or .txt. Raises `InputError`."""
        place = Path(path)
        sign = "\t" if place.suffix.lower() in {".tsv", ".txt"} else ","
        where = {"file": str(place)}
        try:
            lines = [row for row in csv.reader(io.StringIO(read_text(place), newline=""), delimiter=sign) if row]
        except csv.Error as error:
            raise complain(f"can't be read as a table ({error})", **where) from None
        if not lines or len(lines[0]) < 2:
            others = [SIGNS[other] for other in SIGNS if lines and other in lines[0][0]]
            detail = f"; it has {others[0]} where {SIGNS[sign]} are read" if others else ""
            raise complain(f"needs a header and two columns or more, gene names first{detail}", **where)
        columns = tuple(name.strip() for name in lines[0][1:])
        for name in columns:
            if not name or columns.count(name) > 1 or name in TABLE_COLUMNS:
                raise complain("is empty, twice there, or a name of the results", **where, field=f"column {name!r}")
        rows: dict[str, Sequence[str]] = {}
        for number, row in enumerate(lines[1:], start=2):
            if len(row) != len(lines[0]):
                raise complain(f"has {len(row)} columns, the header {len(lines[0])}", **where, field=f"row {number}")
            if rows.setdefault(row[0], row[1:]) != row[1:]:
                raise complain("has two different rows", **where, field=f"gene {row[0]!r}")
        return cls(str(place), columns, rows)

    def of(self, genes: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Its columns for some genes in order, empty where it has no row. Raises `InputError` if it has none."""
        if not any(gene in self.rows for gene in genes):
            detail = f"its first is {next(iter(self.rows))!r}" if self.rows else "it has no row"
            raise complain(
                f"names none of the fit's {len(genes)} genes, such as {genes[0]!r} ({detail})", file=self.file
            )
        return {
            name: tuple(self.rows[gene][number] if gene in self.rows else "" for gene in genes)
            for number, name in enumerate(self.columns)
        }
