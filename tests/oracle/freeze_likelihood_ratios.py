"""Cut R DESeq2's likelihood-ratio tables down to what the tests need: ``freeze_likelihood_ratios.py REFERENCE``.

REFERENCE holds ``extra/NAME_lrt.csv.gz``, made by R 4.2.2 with DESeq2 1.38.3: ``~ site + condition`` against
``~ site``, outliers kept. Written are, with all their digits, beside this file, ``likelihood_ratio/NAME.csv.gz``: the
dispersion and the statistic of every gene with a count, in the order of R's table.
"""

import sys
from pathlib import Path

import pandas as pd

OUT = Path(__file__).parent / "likelihood_ratio"

if __name__ == "__main__":
    for name in ("pasilla", "bottomly"):
        table = pd.read_csv(Path(sys.argv[1]) / "extra" / f"{name}_lrt.csv.gz", float_precision="round_trip")
        kept = table.rename(columns={"disp": "dispersion"})[["gene", "dispersion", "stat"]]
        compression = {"method": "gzip", "mtime": 0, "compresslevel": 9}
        kept.to_csv(OUT / f"{name}.csv.gz", index=False, float_format="%.17g", compression=compression)
