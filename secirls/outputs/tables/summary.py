"""How many genes changed, in the rows of R's ``summary()`` of a table of results."""

from __future__ import annotations

import numpy as np
import pandas as pd

from secirls.outputs.tables.comparison import Comparison


def summary(table: pd.DataFrame, asked: Comparison) -> pd.DataFrame:
    """Genes by what became of them, and per cent of those that have a base mean above zero.

    *Up* and *down* have an adjusted p-value below alpha and a log2 fold change beyond the threshold on that side;
    *outliers* have no p-value because of a count far from the others; *low counts* are those that independent filtering
    left out, and with them, as in R, those that have no count left once outliers are replaced. R counts all genes
    without p-value as outliers; here those that did not converge, say, have a row of their own, and the table's column
    ``reason`` tells. Genes that too few sites counted have no base mean, and no row.
    """
    mean, change, pvalue, padj = (
        table[name].to_numpy(dtype=np.float64) for name in ("baseMean", "log2FoldChange", "pvalue", "padj")
    )
    counted, outlier, found = mean > 0, table["outlier"].to_numpy(dtype=bool), padj < asked.alpha
    edge = asked.lfc_threshold
    changed = {
        f"log2 fold change > {edge:.2f} (up)": found & (change > edge),
        f"log2 fold change < {-edge if edge else 0:.2f} (down)": found & (change < -edge),
    }
    if asked.alternative == "lessAbs":
        changed = {f"log2 fold change within {edge:.2f}": found}
    rows = {
        "with a base mean above zero": counted,
        **changed,
        "outliers": counted & outlier,
        "low counts": np.isnan(padj) & ~np.isnan(pvalue),
        "without p-value": counted & np.isnan(pvalue) & ~outlier,
    }
    genes = pd.Series({name: int(which.sum()) for name, which in rows.items()})
    return pd.DataFrame({"genes": genes, "percent": 100.0 * genes / max(int(counted.sum()), 1)})
