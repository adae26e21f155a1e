"""Results as the next tool reads them: a ranked list for gene set enrichment, and Scanpy's table of ranked genes.

Promises: only genes with a p-value are ranked; the order is by the statistic, ties by gene. Refuses to know: how the
statistic came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from secirls.input_error import InputError

if TYPE_CHECKING:
    from secirls.inputs.files.site_file import AnnData

SYMBOLS = (
    "symbol",
    "gene_symbol",
    "gene_symbols",
    "gene_name",
    "gene_names",
    "feature_name",
    "hgnc_symbol",
    "mgi_symbol",
)
"""Columns of annotation that genes are named by, the first that a table has; in small letters."""


def symbols_in(table: pd.DataFrame) -> str | None:
    """The column that names genes by symbol, if there is one."""
    there = {str(name).lower(): str(name) for name in table.columns}
    return next((there[name] for name in SYMBOLS if name in there), None)


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with a p-value, from the largest statistic to the smallest."""
    known = table[table["pvalue"].notna() & table["stat"].notna()]
    return known.iloc[np.lexsort((known["gene"].to_numpy(dtype=str), -known["stat"].to_numpy()))]


def rnk(table: pd.DataFrame, by: str = "gene") -> str:
    """A ranked list as GSEA reads it: gene and statistic, a tab between, no header.

    White space in a name is one blank, for a tab or a line break there would be a column or a row. ``by`` another
    column than the genes', those without a name in it are left out, and of several with one name all but the one whose
    statistic is farthest from zero: GSEA reads a name once.
    """
    rows = ranked(table)
    if by != "gene":
        rows = rows[rows[by] != ""]
        farthest = rows["stat"].abs().sort_values(ascending=False, kind="stable").index
        rows = rows.loc[rows.index.isin(rows.loc[farthest].drop_duplicates(by).index)]
    names = [" ".join(name.split()) for name in rows[by].tolist()]
    return "%s\t%.17g\n" * len(names) % tuple(chain.from_iterable(zip(names, rows["stat"].tolist(), strict=True)))


def rank_genes_groups(table: pd.DataFrame, group: str, reference: str, groupby: str) -> dict[str, Any]:
    """What ``scanpy.tl.rank_genes_groups`` leaves in ``uns``, for one group: arrays with one field named for it."""
    rows = ranked(table)

    def field(values: pd.Series[Any], kind: str) -> np.ndarray[Any, Any]:
        return np.array([(value,) for value in values], dtype=[(group, kind)]).view(np.recarray)

    return {
        "params": {
            "groupby": groupby,
            "reference": reference,
            "method": "secirls",
            "use_raw": False,
            "layer": None,
            "corr_method": "benjamini-hochberg",
        },
        "names": field(rows["gene"], "O"),
        "scores": field(rows["stat"], "<f8"),
        "logfoldchanges": field(rows["log2FoldChange"], "<f8"),
        "pvals": field(rows["pvalue"], "<f8"),
        "pvals_adj": field(rows["padj"].fillna(1.0), "<f8"),
    }


def to_scanpy(
    adata: AnnData,
    table: pd.DataFrame,
    contrast: tuple[str, str, str],
    key: str,
    annotation: Mapping[str, Sequence[str]],
) -> None:
    """Leave ranked genes in an AnnData's ``uns``, and annotation in its ``var``.

    Raises `InputError` where its genes are others.
    """
    factor, group, reference = contrast
    unknown = set(table["gene"]) - set(map(str, adata.var_names))
    if unknown:
        raise InputError(f"the AnnData lacks {len(unknown)} of the fit's genes, such as {min(unknown)!r}")
    adata.uns[key] = rank_genes_groups(table, group, reference, factor)
    for name, column in annotation.items():
        if name not in adata.var.columns:
            told = dict(zip(table["gene"], column, strict=True))
            adata.var[name] = [told.get(gene, "") for gene in map(str, adata.var_names)]
