"""Freeze what the dispersion tests need of R's tables: ``python make_dispersion_tables.py REFERENCE``.

REFERENCE is the folder of R DESeq2 1.38.3's tables, stage by stage (``NAME/DESIGN/r_wald.csv.gz`` and
``r_info.json``). Genes with a count are kept in the order of the data set, without names: all digits of the gene-wise
estimate, 10 of the maximum a posteriori, and the outlier flag; the final estimate is one or the other. Of R's local
trend every twentieth gene is kept.
"""

import gzip
import io
import json
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent / "dispersions"
SETS = ("airway", "bottomly", "hapmap_lcl")
DESIGNS = ("condition", "site_condition")


def write(name, table, formats):
    text = io.StringIO()
    shown = pd.DataFrame({column: table[column].map(form.format) for column, form in formats.items()})
    shown.to_csv(text, index=False)
    (HERE / name).write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))


def main(reference):
    HERE.mkdir(exist_ok=True)
    info = {}
    for data in SETS:
        for design in DESIGNS:
            folder = reference / data / design
            table = pd.read_csv(folder / "r_wald.csv.gz", float_precision="round_trip", low_memory=False)
            table = table[table["baseMean"] > 0]
            final = table["dispMAP"].where(~table["dispOutlier"].astype(bool), table["dispGeneEst"])
            assert (final == table["dispersion"]).all()
            table = table.assign(outlier=table["dispOutlier"].astype(bool).astype(int))
            formats = {"dispGeneEst": "{:.17g}", "dispMAP": "{:.10g}", "outlier": "{}"}
            write(f"{data}-{design}.csv.gz", table, formats)
            told = json.loads((folder / "r_info.json").read_text())
            info[f"{data}-{design}"] = {
                "asymptotic": float(told["trend"]["asymptDisp"]),
                "extra_poisson": float(told["trend"]["extraPois"]),
                "log_variance": float(told["varLogDispEsts"]),
                "prior_variance": float(told["dispPriorVar"]),
                "first gene": table["gene"].iloc[0],
            }
    local = pd.read_csv(reference / "extra" / "bottomly_lrt.csv.gz", float_precision="round_trip")
    local = local[local["bm"] > 0]
    info["bottomly mean"] = float(local["meanfit"].iloc[0])
    write("bottomly-local.csv.gz", local.iloc[::20], {"local": "{:.10g}"})
    (HERE / "trends.json").write_text(json.dumps(info, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
