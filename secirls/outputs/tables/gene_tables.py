"""The tables by gene beside that of results, coefficients and dispersions, and their files.

Promises: a number is written with 17 significant digits and read back as it was. Refuses to know: comparisons.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from secirls.aggregator.aggregator import Outcome
from secirls.numerics.arrays import Floats
from secirls.numerics.status import Reason
from secirls.outputs.tables.kept_fit import KeptFit

_QUOTED = re.compile(r'[,"\r\n]')
_BREAK = re.compile(r"[\r\n]")
"""Whether such a text stands in quotes depends on Python's release."""

_MISSING = {name: ["", "nan"] for name in ("baseMean", "dispGeneEst", "dispFit", "dispMAP", "dispersion")}
"""Columns of dispersions.csv that may lack a value; a gene may be called NA."""


def objects(names: Collection[str]) -> NDArray[np.object_]:
    """Names as an array, which pandas takes as it is: of a list it looks at each for what it may be."""
    return np.fromiter(names, dtype=object, count=len(names))


def csv_of(table: pd.DataFrame) -> bytes:
    """A table as its file has it: what pandas writes, in two fifths of its time."""
    columns = [_texts(table[name]) for name in table]
    if None in columns or len(columns) < 2 or _QUOTED.search("".join(map(str, table.columns))):
        return table.to_csv(index=False, float_format="%.17g").encode()
    rows = zip(*columns, strict=True)
    return os.linesep.join((",".join(map(str, table.columns)), *map(",".join, rows), "")).encode()


def tsv_of(table: pd.DataFrame) -> bytes:
    """The same with tabs between."""
    return table.to_csv(index=False, sep="\t", float_format="%.17g").encode()


def _texts(column: pd.Series[Any]) -> list[str] | None:
    """A column's values as a file has them; ``None`` where this is left to pandas."""
    if not isinstance(column.dtype, np.dtype):
        return None
    values: list[Any] = column.tolist()
    if column.dtype.kind == "f":
        return ("%.17g\n" * len(values) % tuple(values)).replace("nan", "").split("\n")[:-1]
    if column.dtype.kind in "iub":
        return list(map(str, values))
    if not all(issubclass(kind, str) for kind in set(map(type, values))) or _BREAK.search(whole := "".join(values)):
        return None
    if not _QUOTED.search(whole):
        return values
    quoted = {text: _quoted(text) for text in set(values)}
    return [quoted[text] for text in values]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def annotation_in(columns: Iterable[str]) -> list[str]:
    """The columns of a table of results that say what genes are called: they stand before its base mean."""
    names = list(columns)
    before = names[: names.index("baseMean")] if "baseMean" in names else []
    return [name for name in before if name != "gene"]


def coefficients(kept: KeptFit) -> pd.DataFrame:
    """Gene and one column per design column, natural log."""
    beta, genes = kept.coefficients, objects(kept.genes)
    columns = {name: beta[:, i] for i, name in enumerate(kept.design.columns)}
    return pd.DataFrame({"gene": genes, **columns}, index=genes)


def known_means(base_means: Floats, reason: NDArray[np.int8]) -> Floats:
    """Base means as tables have them, ``(genes,)``: missing where only sites that add nothing may have a count."""
    return np.where(reason == Reason.NOT_ADDED, np.nan, base_means)


def dispersions(outcome: Outcome) -> pd.DataFrame | None:
    """How each gene's dispersion came about, in R's words; ``None`` where they were not drawn towards a trend."""
    fitted, by_gene = outcome.fitted, outcome.fitted.by_gene
    if by_gene is None:
        return None
    genes = objects(outcome.genes)
    return pd.DataFrame(
        {
            "gene": genes,
            "baseMean": known_means(fitted.base_means, fitted.state.reason),
            "dispGeneEst": by_gene.gene_wise,
            "dispFit": by_gene.trend,
            "dispMAP": by_gene.maximum,
            "dispersion": fitted.dispersions,
            "dispGeneIter": by_gene.iterations,
            "dispOutlier": by_gene.outlier,
        },
        index=genes,
    )


def read_dispersions(path: Path) -> pd.DataFrame:
    """The table that a fit has written. Raises `OSError` or `ValueError`."""
    read = pd.read_csv(
        path, dtype={"gene": str}, keep_default_na=False, na_values=_MISSING, float_precision="round_trip"
    )
    return read.astype({"dispGeneIter": np.int32}).set_axis(read["gene"].tolist())
