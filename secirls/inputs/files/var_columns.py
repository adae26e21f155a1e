"""Columns of var that say what genes are called, read as text; and what is none of them.

Promises: numbers, and what is true or false of a gene, are no text, also where a file holds them as such: a site may
have computed them from its counts. Refuses to know: who asks, and who may be told.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from secirls.inputs.annotation import Annotation

TABLE_COLUMNS: Final = frozenset(
    {
        *("gene", "baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj", "status", "iterations"),
        *("dispersion", "replaced", "outlier", "reason", "shrunkenLog2FoldChange", "posteriorSD", "svalue"),
    }
)
"""Names that a column about genes can't have: they are those of the results."""

FILES_OF_NAMES: Final = (".csv", ".tsv", ".txt")
"""How the names of files end that say what genes are called."""

LONGEST_TEXT: Final = 256
"""Characters of one gene's text; descriptions have about a hundred."""

_FRACTION: Final = re.compile(r"[+-]?(\d+\.\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
"""Whole numbers may name a chromosome, or a gene as Entrez does."""
_LOGICAL: Final = frozenset({"", "true", "false"})


class Unfit(StrEnum):
    """Why a var column is not told."""

    MISSING = "is missing"
    NO_TEXT = "holds something else than text"
    FEW_GENES = "would be told of few genes alone, which can be guessed"
    TOO_LONG = f"has a text of more than {LONGEST_TEXT} characters"


def texts(var: Annotation, name: str) -> tuple[str, ...] | Unfit:
    """A column's text for every gene, blanks in it single, empty where the file has none; or why it is none."""
    if name not in var.columns:
        return Unfit.MISSING
    if name not in var.held:  # it is there twice
        return Unfit.NO_TEXT
    values = var[name]
    held = list(dict.fromkeys(values.present()))
    if not all(isinstance(value, str) for value in held):
        return Unfit.NO_TEXT
    known = {value: " ".join(unicodedata.normalize("NFC", value).split()) for value in held}
    if {text.lower() for text in known.values()} <= _LOGICAL or any(map(_FRACTION.fullmatch, known.values())):
        return Unfit.NO_TEXT
    if any(len(text) > LONGEST_TEXT for text in known.values()):
        return Unfit.TOO_LONG
    return tuple("" if absent else known[value] for value, absent in zip(values, values.missing, strict=True))


def check_names(names: Sequence[str]) -> None:
    """Raise `ValueError` unless these can be columns beside the genes."""
    for name in names:
        if name.lower().endswith(FILES_OF_NAMES):
            raise ValueError(f"{name!r} is a file and no var column: give it to Result.annotated")
        if not name or list(names).count(name) > 1 or name in TABLE_COLUMNS:
            raise ValueError(f"{name!r} is empty, twice there, or a name of the results")
