"""The same DESeq2 by ours, by PyDESeq2 on pooled counts, and by FedPyDESeq2 in an interpreter of its own.

Promises: the counts and the design are the same, nobody is given a size factor or a dispersion, and all use one
thread. Genes that have counts at few sites and small cells are treated as R does, by ours too, so that all do the same
work. Refuses to know: how FedPyDESeq2's environment is made.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import secirls
from experiments.groundwork.data_sets import open_set
from experiments.groundwork.record import SkippedError
from secirls.inputs.simulate import simulate
from secirls.numerics.arrays import Mask
from secirls.numerics.held import held_counts

if TYPE_CHECKING:
    from secirls.inputs.files.site_file import AnnData

VARIABLE = "SECIRLS_FEDPYDESEQ2_PYTHON"
SIGNIFICANT = 0.05
FACTORS = ("condition", "sex", "batch", "sort")
"""Of designs, in this order; the first is tested, and alone in real data."""
_PROGRAM = Path(__file__).with_name("fedpydeseq2_program.py")
_LIMIT = 3600


@dataclass(frozen=True)
class Cohort:
    """Counts of several sites, and factors of two levels each."""

    whole: AnnData
    """Genes without any count are left out, which FedPyDESeq2 would send."""
    levels: Mapping[str, tuple[str, str]]
    """Of every factor of the design, reference first; the first factor is tested."""

    @property
    def formula(self) -> str:
        """Its right-hand side."""
        return "~ " + " + ".join(self.levels)

    def sites(self) -> dict[str, AnnData]:
        """Every site's samples."""
        site = self.whole.obs["site"].astype(str)
        return {name: self.whole[(site == name).to_numpy()].copy() for name in sorted(set(site))}

    def counts(self, samples: AnnData) -> pd.DataFrame:
        """Counts ``(samples, genes)``."""
        matrix: Any = samples.X
        dense = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
        return pd.DataFrame(dense.astype(np.int64), index=samples.obs_names, columns=samples.var_names)


def cohort(name: str, params: int, seed: int) -> Cohort:
    """A set by name, see `open_set`; a simulated one has as many design columns as wanted.

    Raises `SkippedError` where it is not on this machine.
    """
    data = open_set(name, seed)
    whole, levels = data.whole.copy(), dict.fromkeys(FACTORS[: params - 1], data.levels)
    if name.startswith("simulated-"):
        made = simulate(whole.n_vars, whole.n_obs, params - 1, seed=seed).samples
        whole.X = np.array(held_counts.whole(made.counts), order="C")
        for place, factor in enumerate(levels, start=1):
            whole.obs[factor] = np.where(made.design[:, place] > 0, data.levels[1], data.levels[0])
    counted = np.asarray((whole.X > 0).sum(axis=0)).reshape(-1) > 0
    return Cohort(whole[:, counted].copy(), levels)


def by_secirls(data: Cohort) -> dict[str, Any]:
    """By pairwise masks in this process: its CPU seconds are those of all parties, opening and reporting included.

    Sites trust the aggregator, as FedPyDESeq2's trust its server: what distrust costs is an experiment of its own.
    """
    _warm(data.formula)
    tested = next(iter(data.levels))
    sites = data.sites()
    wall, cpu = time.perf_counter(), time.process_time()
    result = secirls.fit(
        sites,
        design=data.formula,
        levels=data.levels,
        contrast=(tested, data.levels[tested][1], data.levels[tested][0]),
        protocol="pairwise",
        trust_aggregator=True,
        engine="local",
        min_contributors=1,
        min_kept=1,
    )
    told = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    sent = result.ledger[result.ledger["role"] != "aggregator"]
    return {
        **told,
        "version": secirls.__version__,
        "rounds": len(result.report["rounds"]),
        "bytes_up": int(sent["bytes_up"].sum()),
        "bytes_down": int(sent["bytes_down"].sum()),
        "significant": packed(result.table["padj"].to_numpy() < SIGNIFICANT),
    }


@cache
def _warm(design: str) -> None:
    """Load what is compiled, once: it is no fit's cost."""
    few = cohort("simulated-60x48x3", 1 + design.count("+") + 1, 0)
    secirls.fit(few.sites(), design=few.formula, levels=few.levels, engine="local")


def by_pydeseq2(data: Cohort) -> dict[str, Any]:
    """PyDESeq2 on the pooled counts. Raises `SkippedError` where it is not installed."""
    if find_spec("pydeseq2") is None:
        raise SkippedError("pydeseq2 is not installed: pip install -e '.[test]'")
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    tested = next(iter(data.levels))
    counts, obs = data.counts(data.whole), data.whole.obs[list(data.levels)].astype(str)
    for factor, both in data.levels.items():
        obs[factor] = pd.Categorical(obs[factor], categories=both)
    inference = DefaultInference(n_cpus=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wall, cpu = time.perf_counter(), time.process_time()
        fitted = DeseqDataSet(counts=counts, metadata=obs, design=data.formula, inference=inference, quiet=True)
        fitted.deseq2()
        reference, treated = data.levels[tested]
        tests = DeseqStats(fitted, contrast=[tested, treated, reference], inference=inference, quiet=True)
        tests.summary()
    return {
        "version": version("pydeseq2"),
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "significant": packed(tests.results_df["padj"].to_numpy() < SIGNIFICANT),
    }


def by_fedpydeseq2(data: Cohort) -> dict[str, Any]:
    """FedPyDESeq2's pipeline, simulated: CPU and wall of the nodes' tasks alone, its messages' sizes as pickled.

    Raises `SkippedError` where its interpreter is not named, or fails.
    """
    python = os.environ.get(VARIABLE)
    if not python:
        raise SkippedError(f"{VARIABLE} names no interpreter with fedpydeseq2, which can't be installed beside secirls")
    with tempfile.TemporaryDirectory() as folder:
        told = _ordered(data, Path(folder), python)
    adjusted = pd.Series(told["padj"], index=told["genes"], dtype=np.float64).reindex(data.whole.var_names)
    costs = ("version", "seconds", "cpu_seconds", "rounds", "bytes_up", "bytes_down")
    return {**{name: told[name] for name in costs}, "significant": packed(adjusted.to_numpy() < SIGNIFICANT)}


def _ordered(data: Cohort, folder: Path, python: str) -> dict[str, Any]:
    """Write every centre's files, run the program, read what it wrote."""
    sites = data.sites()
    for number, site in enumerate(sites.values()):
        centre = folder / "data" / f"center_{number}"
        centre.mkdir(parents=True)
        data.counts(site).rename_axis("barcode").to_csv(centre / "counts_data.csv")
        site.obs[list(data.levels)].rename_axis("barcode").to_csv(centre / "metadata.csv")
    (folder / "order.json").write_text(json.dumps({"centres": len(sites), "levels": data.levels}), encoding="utf-8")
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


WAYS: Mapping[str, Callable[[Cohort], dict[str, Any]]] = {
    "secirls": by_secirls,
    "PyDESeq2": by_pydeseq2,
    "FedPyDESeq2": by_fedpydeseq2,
}


def packed(marked: Mask) -> str:
    """A mask of genes in few letters: base64 of its bits."""
    return base64.b64encode(np.packbits(marked).tobytes()).decode()


def unpacked(text: str, genes: int) -> Mask:
    """The mask that `packed` was given, ``(genes,)``."""
    bits = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(bits, count=genes).astype(bool)
