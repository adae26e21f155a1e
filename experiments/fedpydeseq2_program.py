"""Run FedPyDESeq2's published pipeline over a folder of centres: a program for an interpreter of its own.

``python fedpydeseq2_program.py FOLDER``: reads ``order.json`` and ``data/center_i/``, writes ``found.json``. It knows
nothing of secirls, whose dependencies are not there.
"""

from __future__ import annotations

import json
import math
import sys
import time
from importlib.metadata import version
from pathlib import Path

OPENER = """
from pathlib import Path
import anndata
import pandas
import substratools

class Opener(substratools.Opener):
    def fake_data(self, n_samples=None):
        raise NotImplementedError

    def get_data(self, folders):
        folder = Path(folders[0])
        counts = pandas.read_csv(folder / "counts_data.csv", index_col="barcode")
        obs = pandas.read_csv(folder / "metadata.csv", index_col="barcode")
        return anndata.AnnData(X=counts.to_numpy(), obs=obs.loc[counts.index], var=counts.columns.to_frame()[[]])
"""


def main(folder: Path) -> None:
    """Fit, timed from the call to the result."""
    from fedpydeseq2.fedpydeseq2_pipeline import run_fedpydeseq2_experiment

    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    assets = folder / "assets"
    assets.mkdir()
    (assets / "opener.py").write_text(OPENER, encoding="utf-8")
    (assets / "description.md").write_text("counts of one centre", encoding="utf-8")
    reference, treated = order["levels"]
    began = time.perf_counter()
    found = run_fedpydeseq2_experiment(
        n_centers=order["centres"],
        backend="subprocess",
        simulate=True,
        register_data=True,
        asset_directory=assets,
        centers_root_directory=folder / "data",
        design_factors="condition",
        ref_levels={"condition": reference},
        contrast=["condition", treated, reference],
        refit_cooks=False,
        num_jobs=1,
        joblib_backend="threading",
    )
    seconds = time.perf_counter() - began
    changes = found["LFC"].to_numpy()[:, -1] / 0.6931471805599453
    genes = {
        "gene": list(map(str, found["gene_names"])),
        "log2FoldChange": [float(x) for x in changes],
        "dispersion": [float(x) for x in found["dispersions"]],
    }
    for column in ("log2FoldChange", "dispersion"):
        genes[column] = [x if math.isfinite(x) else None for x in genes[column]]
    told = {"version": version("fedpydeseq2"), "seconds": seconds, "genes": genes}
    (folder / "found.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
