"""The federated fit beside pooled PyDESeq2 and beside per-site meta-analysis, gene by gene.

Pooled is PyDESeq2 on all samples together, which is what nobody can do when counts may not leave. Federated takes the
pooled run's size factors and dispersions, so that the regression alone is compared; *federated alone* estimates both
by secure sums over all genes of the set, as a user without them does. Meta-analysis is PyDESeq2 at every site by
itself, its log2 fold changes weighted by the inverse of their variances (fixed effect): what people do when they can't
pool. The sites keep the pooled size factors, which is kind to it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

import secirls
from experiments.data_sets import AnnData, DataSet, open_set, size_factors
from experiments.record import Configuration, Experiment, Measurement, Row, SkippedError
from secirls.plots import BLACK, BLUE, GREY, ORANGE, VERMILION, Figure, legend, panels
from secirls.samples import Floats

CONFIGURATION: Configuration = {
    "seed": 0,
    "engine": "local",
    "protocol": "pairwise",
    # set, every how many genes (PyDESeq2 takes some ten milliseconds per gene and run here), least mean count
    "sets": [["bottomly", 24, 1.0], ["tcga_brca", 16, 1.0]],
}
QUICK: Configuration = {"sets": [["simulated-40x24x3", 1, 1.0]]}

WAYS = {"federated": "federated", "alone": "federated alone", "meta": "meta-analysis"}
COLOURS = {"federated": BLUE, "alone": ORANGE, "meta": VERMILION}
ALPHA = 0.05
_SMALLEST, _LEAST_P = 1e-16, 1e-60


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """One measurement per set."""
    return [
        Measurement(f"{name}/{every}", partial(measure, name, every, least, configuration))
        for name, every, least in configuration["sets"]
    ]


def measure(name: str, every: int, least: float, configuration: Configuration) -> Iterator[Row]:
    """One row per gene."""
    if find_spec("pydeseq2") is None:
        raise SkippedError("pydeseq2 is not installed: pip install -e '.[test]'")
    whole = open_set(name, configuration["seed"])
    factors = size_factors(whole.counts())
    counts = whole.counts()
    expressed = np.flatnonzero((counts / factors[:, None]).mean(axis=0) >= least)[::every]
    data = whole.genes(expressed)
    data.whole.obs["size_factor"] = factors
    pooled, alpha = pydeseq2(data.whole, data.levels)
    data.whole.var["dispersion"] = alpha
    tables = {
        "pooled": pooled,
        "federated": _federated(data, configuration),
        "alone": _federated(whole, configuration),
        "meta": meta_analysis(data),
    }
    for gene in data.whole.var_names:
        row: dict[str, Any] = {"set": name, "sites": len(data.sites()), "gene": gene}
        row["base_mean"] = pooled.loc[gene, "baseMean"]
        for way, table in tables.items():
            row |= {f"{way}_{column}": table.loc[gene, column] for column in ("log2FoldChange", "lfcSE", "pvalue")}
        yield row


def _federated(data: DataSet, configuration: Configuration) -> pd.DataFrame:
    result = secirls.fit(
        data.sites(), **data.options(), protocol=configuration["protocol"], engine=configuration["engine"]
    )
    return result.table.set_index("gene")


def pydeseq2(whole: AnnData, levels: tuple[str, str]) -> tuple[pd.DataFrame, Floats]:
    """PyDESeq2's results table and its dispersions, with given size factors, no refit and no filters."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    matrix: Any = whole.X
    dense = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    counts = pd.DataFrame(dense, index=whole.obs_names, columns=whole.var_names)
    condition = pd.Categorical(whole.obs["condition"].astype(str), categories=list(levels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dds = DeseqDataSet(
            counts=counts,
            metadata=pd.DataFrame({"condition": condition}, index=whole.obs_names),
            design="~condition",
            quiet=True,
            refit_cooks=False,
            inference=DefaultInference(n_cpus=1),
        )
        dds.obs["size_factors"] = whole.obs["size_factor"].to_numpy()
        dds.layers["normed_counts"] = dense / dds.obs["size_factors"].to_numpy()[:, None]
        dds.var["_normed_means"] = dds.layers["normed_counts"].mean(axis=0)
        dds.fit_genewise_dispersions()
        dds.fit_dispersion_trend()
        dds.fit_dispersion_prior()
        dds.fit_MAP_dispersions()
        dds.fit_LFC()
        stats = DeseqStats(
            dds, contrast=["condition", levels[1], levels[0]], quiet=True, cooks_filter=False, independent_filter=False
        )
        stats.summary()
    return stats.results_df, np.asarray(dds.var["dispersions"].to_numpy(dtype=np.float64))


def meta_analysis(data: DataSet) -> pd.DataFrame:
    """Fixed-effect, inverse-variance mean of the sites' own log2 fold changes; genes a site can't fit lack it there."""
    from scipy.special import ndtr

    genes = data.whole.var_names
    weight, weighted = np.zeros(len(genes)), np.zeros(len(genes))
    for site in data.sites().values():
        table, _ = pydeseq2(site[:, np.asarray(site.X.sum(axis=0)).ravel() > 0].copy(), data.levels)
        table = table.reindex(genes)
        each = 1.0 / table["lfcSE"].to_numpy(dtype=np.float64) ** 2
        known = np.isfinite(each) & np.isfinite(table["log2FoldChange"].to_numpy(dtype=np.float64))
        weight += np.where(known, each, 0.0)
        weighted += np.where(known, each * table["log2FoldChange"].to_numpy(dtype=np.float64), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        change, error = weighted / weight, 1.0 / np.sqrt(weight)
        pvalue = 2.0 * ndtr(-np.abs(change / error))
    return pd.DataFrame({"log2FoldChange": change, "lfcSE": error, "pvalue": pvalue}, index=genes)


# --- reading the rows --------------------------------------------------------------------------------------------


def figures(rows: pd.DataFrame) -> Mapping[str, Figure]:
    """Scatter, MA of the differences, p-values and volcano, one line of panels per set."""
    sets = list(dict.fromkeys(rows["set"]))
    figure, axes = panels(len(sets), 4, width=16.0, height=0.6 + 3.9 * len(sets))
    for line, name in enumerate(sets):
        mine = rows[rows["set"] == name]
        pooled = mine["pooled_log2FoldChange"]
        scatter, spread, tests, volcano = axes[line]
        for way in ("meta", "alone", "federated"):
            change, pvalue = mine[f"{way}_log2FoldChange"], mine[f"{way}_pvalue"]
            dots: dict[str, Any] = {"s": 9, "color": COLOURS[way], "alpha": 0.55, "linewidths": 0, "label": WAYS[way]}
            scatter.scatter(pooled, change, **dots)
            off = np.maximum(np.abs(change - pooled), _SMALLEST)
            spread.scatter(mine["base_mean"], off, **dots)
            tests.scatter(_height(mine["pooled_pvalue"]), _height(pvalue), **dots)
        reach = 1.05 * float(pooled.abs().max())
        scatter.axline((0, 0), slope=1, color=BLACK, linewidth=0.8)
        scatter.set(xlim=(-reach, reach), ylim=(-reach, reach))
        scatter.set(xlabel="pooled PyDESeq2, log2 fold change", ylabel="log2 fold change")
        title = "simulated" if name.startswith("simulated") else name
        scatter.set_title(f"{title}: {len(mine):,} genes, {mine['sites'].iloc[0]} sites", loc="left")
        spread.set(xscale="log", yscale="log", xlabel="base mean", ylabel="|difference to pooled|, log2 fold change")
        tests.axline((0, 0), slope=1, color=BLACK, linewidth=0.8)
        tests.set(xlabel="pooled PyDESeq2, −log10 p", ylabel="−log10 p")
        volcano.scatter(pooled, _height(mine["pooled_pvalue"]), s=14, color=GREY, linewidths=0, label="pooled")
        change, height = mine["federated_log2FoldChange"], _height(mine["federated_pvalue"])
        volcano.scatter(change, height, s=4, color=BLUE, linewidths=0, label="federated")
        volcano.set(xlabel="log2 fold change", ylabel="−log10 p", ylim=(-1, 1.25 * max(1.0, float(height.max()))))
        legend(scatter, loc="upper left", markerscale=2, handletextpad=0.2)
        legend(volcano, loc="upper right", markerscale=2, handletextpad=0.2)
    return {"agreement": figure}


def _height(pvalue: pd.Series[float]) -> pd.Series[float]:
    return -np.log10(pvalue.clip(lower=_LEAST_P))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per set and way: differences of log2 fold changes, and the share of genes on the same side of p = 0.05."""
    told = []
    for name, mine in rows.groupby("set", sort=False):
        called = mine["pooled_pvalue"] < ALPHA
        for way in WAYS:
            off = (mine[f"{way}_log2FoldChange"] - mine["pooled_log2FoldChange"]).abs()
            same = (mine[f"{way}_pvalue"] < ALPHA) == called
            told.append(
                {"set": name, "way": way, "median": off.median(), "99%": off.quantile(0.99), "calls": same.mean()}
            )
    return pd.DataFrame(told)


def answer(rows: pd.DataFrame) -> str:
    """How far each way is from pooled."""
    table = summary(rows)
    told = []
    for way, title in WAYS.items():
        mine = table[table["way"] == way]
        told.append(
            f"{title} fold changes differ by {_span(mine['median'], '.1g')} log2 in the median gene and agree on "
            f"p < {ALPHA} in {_span(100 * mine['calls'], '.1f')}% of genes"
        )
    return f"Beside pooled PyDESeq2: {'; '.join(told)}."


def _span(values: pd.Series[float], form: str) -> str:
    low, high = f"{values.min():{form}}", f"{values.max():{form}}"
    return low if low == high else f"{low} to {high}"


EXPERIMENT = Experiment(
    name="agreement",
    question="Does the federated fit agree with pooling, and what does meta-analysis give instead?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
