"""Cut R DESeq2's tables, stage by stage, down to what the tests need: ``freeze_deseq2_stages.py REFERENCE``.

REFERENCE holds ``NAME/DESIGN/r_wald.csv.gz`` (outliers kept) and ``r_default.csv.gz`` (plain ``DESeq()`` and
``results(alpha = 0.05)``), both made by R 4.2.2 with DESeq2 1.38.3, and ``extra/NAME_pos.csv.gz``. Written are, with
all their digits, beside this file:

* ``deseq2_stages/NAME-DESIGN.csv.gz``, a row for every gene with a count: its dispersion, number of iterations,
p-value,
  and flags; the second dispersion, number of iterations and p-value where the table of ``DESeq()`` has another;
* ``deseq2_stages/NAME-DESIGN-some.csv.gz``, every 25th gene and all that left IRLS, have an outlier or were replaced:
its
  coefficients (log2) and their errors, largest Cook's distance, adjusted p-values;
* ``deseq2_stages/NAME-samples.csv`` and ``NAME-poscounts.csv``: size factors.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

DESIGNS = {"condition": "condition", "site": "site_condition"}
SETS = ("airway", "bottomly", "hapmap_lcl")
EVERY = 25
OUT = Path(__file__).parent / "deseq2_stages"


def read(path):
    return pd.read_csv(path, float_precision="round_trip", low_memory=False)


def write(table, name):
    compression = {"method": "gzip", "mtime": 0, "compresslevel": 9} if name.endswith("gz") else None
    table.to_csv(OUT / name, index=False, float_format="%.17g", compression=compression)


def flag(column):
    return (column.astype(str).str.upper() == "TRUE").astype(int)


def freeze(reference, name, design):
    folder = reference / name / DESIGNS[design]
    wald, default = read(folder / "r_wald.csv.gz"), read(folder / "r_default.csv.gz")
    info = json.loads((folder / "r_info.json").read_text())
    assert list(wald["gene"]) == list(default["gene"])
    again = flag(default["replaced"]) == 1
    table = pd.DataFrame(
        {
            "dispersion": wald["dispersion"],
            "iterations": wald["betaIter"],
            "pvalue": wald["pvalue"],
            "outlier": flag(wald["cooksOutlier"]),
            "replaced": again.astype(int),
            "missing": default["pvalue"].isna().astype(int),
            "significant": (default["padj"] < info["alpha"]).astype(int),
            "unadjusted": default["padj"].isna().astype(int),
            "new_dispersion": default["dispersion"].where(again),
            "new_iterations": default["betaIter"].where(again),
            "new_pvalue": default["pvalue"].where(again),
        }
    )
    same = np.where(table["missing"] == 1, np.nan, wald["pvalue"])
    assert np.array_equal(same[~again], default["pvalue"][~again], equal_nan=True)
    write(table, f"{name}-{design}.csv.gz")
    chosen = (np.arange(len(wald)) % EVERY == 0) | (wald["betaIter"] == 100) | again | (table["outlier"] == 1)
    some = pd.DataFrame({"row": np.arange(len(wald)), "gene": wald["gene"]})
    for column in wald.columns:
        if column.startswith(("beta_", "SE_")):
            some[column] = wald[column]
    for column in ("maxCooks", "padj_bh", "padj_if", "padj"):
        some[column] = wald[column]
    some["default_padj"] = default["padj"]
    some["default_lfc"] = default["log2FoldChange"]
    some["default_mean"] = default["baseMean"]
    write(some[chosen], f"{name}-{design}-some.csv.gz")
    write(read(folder / "r_samples.csv.gz")[["sample", "sizeFactor"]], f"{name}-samples.csv")
    return {"genes": info["n_genes"], "threshold": float(info["filterThreshold"])}


if __name__ == "__main__":
    reference = Path(sys.argv[1])
    infos = {f"{name}-{design}": freeze(reference, name, design) for name in SETS for design in DESIGNS}
    (OUT / "filters.json").write_text(json.dumps(infos, indent=1) + "\n")
    for name in ("pasilla", "bottomly"):
        write(read(reference / "extra" / f"{name}_pos.csv.gz"), f"{name}-poscounts.csv")
