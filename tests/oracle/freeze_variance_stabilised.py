"""Cut R DESeq2's transformed counts down to what the tests need: ``freeze_variance_stabilised.py REFERENCE DATA``.

REFERENCE holds ``extra/NAME_lrt.csv.gz`` and ``extra/NAME_pos.csv.gz``, made by R 4.2.2 with DESeq2 1.38.3 for
``~ site + condition``: the parametric trend, size factors, and ``varianceStabilizingTransformation(blind=FALSE)`` of
the first sample. DATA holds the counts, ``NAME/NAME.h5ad``. Written is, with all digits, beside this file,
``variance_stabilised/NAME.csv``: of some genes, from the lowest base mean to the highest, base mean, trend, the first
sample's count and size factor, and its transform.
"""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

OUT = Path(__file__).parent / "variance_stabilised"
GENES = 400

if __name__ == "__main__":
    for name in ("pasilla", "bottomly"):
        extra = Path(sys.argv[1]) / "extra"
        told, sizes = (
            pd.read_csv(extra / f"{name}_{what}.csv.gz", float_precision="round_trip") for what in ("lrt", "pos")
        )
        first = anndata.read_h5ad(Path(sys.argv[2]) / name / f"{name}.h5ad")[:1, told["gene"]]
        order = np.argsort(told["bm"].to_numpy(), kind="stable")
        some = np.sort(order[np.linspace(0, order.size - 1, GENES).astype(int)])
        kept = pd.DataFrame(
            {
                "gene": told["gene"],
                "baseMean": told["bm"],
                "trend": told["parfit"],
                "count": np.asarray(first.X)[0].astype(int),
                "sizeFactor": sizes["sf"][sizes["s"] == first.obs_names[0]].iloc[0],
                "vst": told["v1"],
            }
        )
        kept.iloc[some].to_csv(OUT / f"{name}.csv", index=False, float_format="%.17g")
