"""Four ways to a table of DESeq2's kind over several sites, in one form: R's, federated, pooled and meta-analysis.

Promises: every way gives the same columns over the same genes, NaN where it has none. Refuses to know: what is
compared with what, and how it is drawn.

Federated is `secirls.fit` over the natural sites with R's own rules for small cells and for genes at few sites. Pooled
is PyDESeq2 on all samples together, which is what nobody can do when counts may not leave. Meta-analysis is DESeq2 at
every site by itself, its log2 fold changes weighted by the inverse of their variances (fixed effect): what people do
when they can't pool. R's tables are made elsewhere and read.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import secirls
from experiments.groundwork.data_sets import BESIDE_THE_CHECKOUT, AnnData, DataSet, dealt, open_set
from experiments.groundwork.record import SkippedError
from secirls.algorithms.groundwork.normalisation import known_size_factors, normalise
from secirls.algorithms.query import Total
from secirls.input_error import InputError
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples
from secirls.numerics.inference.wald import independent_filtering

COLUMNS = ("base_mean", "gene_wise", "trend", "maximum", "dispersion", "change", "error", "pvalue", "padj")
FLAGS = ("replaced", "missing")
FOLDERS = {"~ condition": "condition", "~ site + condition": "site_condition"}
"""Designs of R's tables, and how their folders are called."""
ALPHA = 0.05
_ZEROS = {"airway": 30_633}
"""Genes without a count that the set in the package lacks: R adjusts p-values over them, too."""
_AS_R: Mapping[str, Any] = {"min_kept": 1, "min_contributors": 1, "own_columns": "shared"}


@dataclass(frozen=True)
class Table:
    """What one way says."""

    genes: pd.DataFrame
    """`COLUMNS` (fold changes and errors in log2) and `FLAGS`, by gene. ``missing``: no p-value for an outlier."""
    size_factors: pd.Series[float] | None = None
    """By sample."""
    prior_variance: float = np.nan
    threshold: float = np.nan
    """Of the base mean, by independent filtering."""


def _table(genes: pd.Index[str], **columns: Any) -> pd.DataFrame:
    """A table with all columns, of which some are given."""
    made = {name: np.asarray(columns.get(name, np.nan), dtype=np.float64) for name in COLUMNS}
    made |= {name: np.asarray(columns.get(name, False), dtype=bool) for name in FLAGS}
    return pd.DataFrame(made, index=genes)


@lru_cache(maxsize=1)
def whole_set(name: str, seed: int) -> DataSet:
    """A set with all its genes, also those without a count."""
    data = open_set(name, seed)
    return data.with_empty_genes(_ZEROS[name]) if name in _ZEROS else data


# --- federated ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def federated(name: str, design: str, seed: int, protocol: str) -> Table:
    """The whole pipeline over the sites, by R's rules."""
    data = whole_set(name, seed)
    return _fitted(data, data.parties(), design, protocol)


def _fitted(data: DataSet, sites: Mapping[str, AnnData], design: str, protocol: str) -> Table:
    result = secirls.fit(
        sites, design=design, levels={"condition": data.levels}, engine="local", protocol=protocol, **_AS_R
    )
    table, found = result.table.set_index("gene"), result.dispersions
    if found is None:
        raise RuntimeError("the preset 'deseq2' gives dispersions")
    genes = _table(
        table.index,
        base_mean=table["baseMean"],
        gene_wise=found["dispGeneEst"],
        trend=found["dispFit"],
        maximum=found["dispMAP"],
        dispersion=table["dispersion"],
        change=table["log2FoldChange"],
        error=table["lfcSE"],
        pvalue=table["pvalue"],
        padj=table["padj"],
        replaced=table["replaced"],
        missing=table["outlier"],
    )
    return Table(
        genes,
        _size_factors(sites),
        result.report["trend"]["prior_variance"],
        result.report["independent_filtering"]["threshold"],
    )


def _size_factors(sites: Mapping[str, AnnData]) -> pd.Series[float]:
    """Those that every site finds at home and shows nobody: its algorithm over the same counts, in this process."""
    counts = {name: _dense(adata) for name, adata in sites.items()}
    genes = np.any([part.any(axis=0) for part in counts.values()], axis=0)
    held = [Samples(np.ones((part.shape[0], 1)), part) for part in counts.values()]
    algorithm, total, names = (
        normalise(genes, 1, sum(map(len, counts.values())), own_size_factors=False),
        None,
        tuple(counts),
    )
    while True:
        try:
            query = algorithm.send(total)  # type: ignore[arg-type]
        except StopIteration:
            break
        held = [query.apply(samples) for samples in held]
        parts = [query.summands(samples.take(query.genes), len(held)) for samples in held]
        total = Total({key: np.sum([part[key] for part in parts], axis=0) for key in parts[0]}, names, names)
    found = np.concatenate([known_size_factors(samples) for samples in held])
    return pd.Series(found, index=[sample for adata in sites.values() for sample in adata.obs_names])


def _dense(adata: AnnData) -> Any:
    matrix: Any = adata.X
    return (matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)).astype(np.int32)


def given(name: str, design: str, seed: int, protocol: str) -> Table:
    """The federated regression alone, given pooled's size factors and dispersions; its ridge stands on all columns."""
    data, theirs = whole_set(name, seed), pooled(name, design, seed)
    known = np.isfinite(theirs.genes["dispersion"]) & ~theirs.genes["replaced"]
    some = data.genes(known.to_numpy())
    if theirs.size_factors is None:
        raise RuntimeError("PyDESeq2 gives size factors")
    some.whole.obs["size_factor"] = theirs.size_factors
    some.whole.var["dispersion"] = theirs.genes["dispersion"][known]
    result = secirls.fit(
        some.parties(),
        **(some.options() | {"design": design, "preset": "pydeseq2", "min_contributors": 1, "own_columns": "shared"}),
        engine="local",
        protocol=protocol,
    )
    table = result.table.set_index("gene")
    return Table(_table(table.index, change=table["log2FoldChange"]).reindex(theirs.genes.index))


# --- R -----------------------------------------------------------------------------------------------------------


def reference(name: str, design: str) -> Table:
    """R's DESeq2, plain ``DESeq()`` and ``results(alpha = 0.05)``, from the tables beside the data.

    Raises `SkippedError` where they are not on this machine.
    """
    folder = _reference_folder() / name / FOLDERS[design]
    if not folder.is_dir():
        raise SkippedError(
            f"R's tables {name}/{FOLDERS[design]} are neither in ../shared/reference nor in the folder 'reference' "
            "in or beside the one that SECIRLS_DATA names"
        )
    first, last = (_read(folder / f"r_{file}.csv.gz") for file in ("wald", "default"))
    samples = _read(folder / "r_samples.csv.gz").set_index("sample")
    info = json.loads((folder / "r_info.json").read_text(encoding="utf-8"))
    genes = _table(
        pd.Index(last["gene"]),
        base_mean=last["baseMean"],
        gene_wise=first["dispGeneEst"],
        trend=first["dispFit"],
        maximum=first["dispMAP"],
        dispersion=last["dispersion"],
        change=last["log2FoldChange"],
        error=last["lfcSE"],
        pvalue=last["pvalue"],
        padj=last["padj"],
        replaced=last["replaced"].astype(str).str.upper() == "TRUE",
        missing=last["pvalue"].isna(),
    )
    return Table(genes, samples["sizeFactor"], float(info["dispPriorVar"]), float(info["filterThreshold"]))


def _reference_folder() -> Path:
    named = os.environ.get("SECIRLS_DATA")
    data = Path(named) if named else BESIDE_THE_CHECKOUT
    inside = data / "reference"
    return inside if inside.is_dir() else data.parent / "reference"


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, float_precision="round_trip", low_memory=False)


# --- pooled ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def pooled(name: str, design: str, seed: int) -> Table:
    """PyDESeq2's whole pipeline, with its defaults, on all samples together."""
    if find_spec("pydeseq2") is None:
        raise SkippedError("pydeseq2 is not installed: pip install -e '.[test]'")
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    data = whole_set(name, seed)
    whole, (base, other) = data.whole, data.levels
    condition = pd.Categorical(whole.obs["condition"].astype(str), categories=[base, other])
    about = pd.DataFrame({"site": whole.obs["site"].astype(str), "condition": condition}, index=whole.obs_names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dds = DeseqDataSet(
            counts=pd.DataFrame(_dense(whole), index=whole.obs_names, columns=whole.var_names),
            metadata=about,
            design=design,
            quiet=True,
            inference=DefaultInference(n_cpus=1),
        )
        dds.deseq2()
        stats = DeseqStats(
            dds,
            contrast=["condition", other, base],
            alpha=ALPHA,
            quiet=True,
            inference=DefaultInference(n_cpus=1),
        )
        stats.summary()
    told, found = stats.results_df, dds.var
    replaced = np.zeros(len(told), dtype=bool) if "replaced" not in found else found["replaced"].to_numpy() == 1
    genes = _table(
        told.index,
        base_mean=told["baseMean"],
        gene_wise=found["genewise_dispersions"],
        trend=found["fitted_dispersions"],
        maximum=found["MAP_dispersions"],
        dispersion=found["dispersions"],
        change=told["log2FoldChange"],
        error=told["lfcSE"],
        pvalue=told["pvalue"],
        padj=told["padj"],
        replaced=replaced,
        missing=told["pvalue"].isna() & (told["baseMean"] > 0),
    )
    return Table(genes, dds.obs["size_factors"], float(dds.uns["prior_disp_var"]))


# --- meta-analysis -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def meta_analysis(name: str, seed: int) -> Table | None:
    """Fixed-effect, inverse-variance mean over sites of their own fold changes; ``None`` with fewer than two fits.

    A site's own DESeq2 is `secirls.fit` over its samples in three parts, in the clear: that is R's to rounding.
    """
    data = whole_set(name, seed)
    alone = [table for table in (_alone(data, site) for site in data.sites().values()) if table is not None]
    if len(alone) < 2:
        return None
    genes = alone[0].genes.index
    weight, weighted, mean = (np.zeros(len(genes)) for _ in range(3))
    for one in alone:
        known = (np.isfinite(one.genes["pvalue"]) & (one.genes["error"] > 0)).to_numpy()
        change, error = (np.where(known, one.genes[column], 1.0) for column in ("change", "error"))
        weight += np.where(known, error**-2.0, 0.0)
        weighted += np.where(known, change * error**-2.0, 0.0)
        mean += one.genes["base_mean"].fillna(0.0).to_numpy() / len(alone)
    change, error, pvalue = combined(weight, weighted)
    padj, _ = independent_filtering(pvalue, mean, ALPHA)
    return Table(_table(genes, change=change, error=error, pvalue=pvalue, padj=padj))


def combined(weight: Floats, weighted: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, its standard error and two-sided p-value from sums of weights and of weighted changes, ``(genes,)``."""
    from scipy.special import ndtr

    with np.errstate(divide="ignore", invalid="ignore"):
        change, error = weighted / weight, 1.0 / np.sqrt(weight)
        return change, error, 2.0 * ndtr(-np.abs(change / error))


def _alone(data: DataSet, site: AnnData) -> Table | None:
    """One site's DESeq2; ``None`` where it has too few samples to estimate a variance from."""
    conditions = site.obs["condition"].astype(str)
    if site.n_obs <= 2 or conditions.nunique() < 2:
        return None
    order = np.argsort(conditions.to_numpy(), kind="stable")
    parts = np.empty(site.n_obs, dtype=object)
    parts[order] = [f"part{number % 3 + 1}" for number in range(site.n_obs)]
    try:
        return _fitted(data, dealt(site, parts), "~ condition", "plain")
    except InputError:
        return None
