"""One fit by FedPyDESeq2's published package, in an interpreter of its own, and the same fit by ours.

Promises: the counts are the same; its package is called as its documentation says, simulated in one process. Refuses
to know: how its environment is made. It runs its whole pipeline (trend, prior and maximum a posteriori dispersions
too); ours is given the dispersions it ends with, and estimates size factors by the same rule.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import secirls
from experiments.data_sets import DataSet, open_set
from experiments.record import SkippedError

VARIABLE = "SECIRLS_FEDPYDESEQ2_PYTHON"
_PROGRAM = Path(__file__).with_name("fedpydeseq2_program.py")
_LIMIT = 1200


def both_fits(name: str, seed: int) -> Iterator[dict[str, Any]]:
    """One row each. Raises `SkippedError` where its interpreter is not named."""
    python = os.environ.get(VARIABLE)
    if not python:
        raise SkippedError(f"{VARIABLE} names no interpreter with fedpydeseq2, which can't be installed beside secirls")
    data = open_set(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        theirs = _theirs(data, Path(folder), python)
    table = pd.DataFrame(theirs["genes"]).set_index("gene")
    shared = {"values": data.whole.n_vars, "measured": data.whole.n_vars, "parties": len(data.sites())}
    yield {**shared, "way": "FedPyDESeq2", "version": theirs["version"], "seconds": round(theirs["seconds"], 3)}
    known = table["dispersion"].notna().to_numpy()
    data = data.genes(known)
    data.whole.var["dispersion"] = table["dispersion"].to_numpy()[known]
    began = time.perf_counter()
    result = secirls.fit(data.sites(), **data.options(), protocol="pairwise", engine="local")
    seconds = time.perf_counter() - began
    off = (result.table.set_index("gene")["log2FoldChange"] - table["log2FoldChange"][known]).abs()
    yield {
        **shared,
        "way": "secirls",
        "version": secirls.__version__,
        "seconds": round(seconds, 3),
        "error_median": float(np.nanmedian(off)),
        "error_max": float(np.nanmax(off)),
    }


def _theirs(data: DataSet, folder: Path, python: str) -> dict[str, Any]:
    """Write every centre's files, run the program, read what it wrote."""
    for number, site in enumerate(data.sites().values()):
        centre = folder / "data" / f"center_{number}"
        centre.mkdir(parents=True)
        counts = np.asarray(site.X.toarray() if hasattr(site.X, "toarray") else site.X)
        frame = pd.DataFrame(counts, index=pd.Index(site.obs_names, name="barcode"), columns=site.var_names)
        frame.to_csv(centre / "counts_data.csv")
        site.obs[["condition"]].rename_axis("barcode").to_csv(centre / "metadata.csv")
    order = {"centres": len(data.sites()), "levels": list(data.levels)}
    (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(  # noqa: S603 - the user names the interpreter, the program is ours
        [python, str(_PROGRAM), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT,
        env=environment,
        cwd=folder,
    )
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["nothing"])[-1]
        raise SkippedError(f"fedpydeseq2 failed under {VARIABLE}: {last}")
    found: dict[str, Any] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found
