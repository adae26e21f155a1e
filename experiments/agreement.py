"""The federated fit beside pooled PyDESeq2 and beside per-site meta-analysis, gene by gene.

Pooled is PyDESeq2 on all samples together, which is what nobody can do when counts may not leave. Federated takes the
pooled run's size factors and dispersions, so that the regression alone is compared; *federated alone* estimates both
by secure sums over all genes of the set, as a user without them does. Meta-analysis is PyDESeq2 at every site by
itself, its log2 fold changes weighted by the inverse of their variances (fixed effect): what people do when they can't
pool. The sites keep the pooled size factors, which is kind to it.

On airway the reference is a frozen table of R's DESeq2, read from the tests of the checkout, and pooled PyDESeq2 is one
of the ways; sites of one sample per condition leave a meta-analysis nothing to estimate a variance from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import secirls
from experiments.data_sets import AnnData, DataSet, open_set, size_factors
from experiments.record import Configuration, Experiment, Measurement, Row, SkippedError
from secirls.numerics.samples import Floats
from secirls.outputs.plots import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, Figure, legend, panels

CONFIGURATION: Configuration = {
    "seed": 0,
    "engine": "local",
    "protocol": "pairwise",
    # set, every how many genes (PyDESeq2 takes some ten milliseconds per gene and run here), least mean count
    "sets": [["airway", 16, 1.0], ["bottomly", 24, 1.0], ["tcga_brca", 16, 1.0]],
}
QUICK: Configuration = {"sets": [["simulated-40x24x3", 1, 1.0]]}

REFERENCES = {"airway": "R's DESeq2"}
POOLED = "pooled PyDESeq2"
FROZEN = Path(__file__).parents[1] / "tests" / "oracle" / "deseq2"
WAYS = {"federated": "federated", "alone": "federated alone", "pooled": POOLED, "meta": "meta-analysis"}
COLOURS = {"federated": BLUE, "alone": ORANGE, "pooled": GREEN, "meta": VERMILION}
COLUMNS = ("log2FoldChange", "lfcSE", "pvalue")
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
    frozen = _frozen(whole) if name in REFERENCES else None
    factors = size_factors(whole.counts()) if frozen is None else frozen[1]
    counts = whole.counts()
    expressed = np.flatnonzero((counts / factors[:, None]).mean(axis=0) >= least)
    if frozen is not None:
        expressed = expressed[frozen[0]["pvalue"].reindex(whole.whole.var_names[expressed]).notna().to_numpy()]
    data = whole.genes(expressed[::every])
    data.whole.obs["size_factor"] = factors
    pooled, alpha = pydeseq2(data.whole, data.levels)
    reference = pooled
    if frozen is not None:
        reference = frozen[0].loc[data.whole.var_names]
        alpha = reference["dispersion"].to_numpy()
    data.whole.var["dispersion"] = alpha
    absent = pd.DataFrame(np.nan, index=data.whole.var_names, columns=list(COLUMNS))
    tables = {
        "reference": reference,
        "federated": _federated(data, configuration),
        "alone": _federated(whole, configuration),
        "pooled": absent if frozen is None else pooled,
        "meta": absent if min(site.n_obs for site in data.sites().values()) <= 2 else meta_analysis(data),
    }
    for gene in data.whole.var_names:
        row: dict[str, Any] = {"set": name, "sites": len(data.sites()), "gene": gene}
        row["base_mean"] = pooled.loc[gene, "baseMean"]
        for way, table in tables.items():
            row |= {f"{way}_{column}": table.loc[gene, column] for column in COLUMNS}
        yield row


def _frozen(data: DataSet) -> tuple[pd.DataFrame, Floats]:
    """R's table and its size factors in the order of the samples, as frozen for ``tests/oracle``."""
    if not FROZEN.is_dir():
        raise SkippedError("the frozen table of R's DESeq2 is in the checkout's tests, which are not here")
    table = pd.read_csv(FROZEN / "airway-condition.csv.gz", index_col="gene", float_precision="round_trip")
    factors = pd.read_csv(FROZEN / "size-factors.csv", index_col="sample", float_precision="round_trip")
    return table, factors["size_factor"][data.whole.obs_names].to_numpy(dtype=np.float64)


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
    """Scatter, differences and p-values against the reference; MA and volcano plots, one panel per way."""
    return {
        "agreement": _against(rows),
        "agreement-ma": _panel_per_way(rows, _ma),
        "agreement-volcano": _panel_per_way(rows, _volcano),
    }


def _against(rows: pd.DataFrame) -> Figure:
    sets = list(dict.fromkeys(rows["set"]))
    figure, axes = panels(len(sets), 3, width=13.5, height=0.6 + 3.9 * len(sets))
    for line, name in enumerate(sets):
        mine = rows[rows["set"] == name]
        reference = mine["reference_log2FoldChange"]
        scatter, spread, tests = axes[line]
        for way in reversed(_ways(mine)):
            change, pvalue = mine[f"{way}_log2FoldChange"], mine[f"{way}_pvalue"]
            dots: dict[str, Any] = {"s": 9, "color": COLOURS[way], "alpha": 0.55, "linewidths": 0, "label": WAYS[way]}
            scatter.scatter(reference, change, **dots)
            off = np.maximum(np.abs(change - reference), _SMALLEST)
            spread.scatter(mine["base_mean"], off, **dots)
            tests.scatter(_height(mine["reference_pvalue"]), _height(pvalue), **dots)
        reach = 1.05 * float(reference.abs().max())
        scatter.axline((0, 0), slope=1, color=BLACK, linewidth=0.8)
        scatter.set(xlim=(-reach, reach), ylim=(-reach, reach))
        told = REFERENCES.get(name, POOLED)
        scatter.set(xlabel=f"{told}, log2 fold change", ylabel="log2 fold change")
        scatter.set_title(_title(mine), loc="left")
        spread.set(xscale="log", yscale="log", xlabel="base mean", ylabel="|difference|, log2 fold change")
        tests.axline((0, 0), slope=1, color=BLACK, linewidth=0.8)
        tests.set(xlabel=f"{told}, −log10 p", ylabel="−log10 p")
        legend(scatter, loc="upper left", markerscale=2, handletextpad=0.2)
    return figure


def _panel_per_way(rows: pd.DataFrame, draw: Callable[[Any, pd.DataFrame, str], None]) -> Figure:
    sets = list(dict.fromkeys(rows["set"]))
    most = 1 + max(len(_ways(rows[rows["set"] == name])) for name in sets)
    figure, axes = panels(len(sets), most, width=3.5 * most, height=0.6 + 3.3 * len(sets))
    for line, name in enumerate(sets):
        mine = rows[rows["set"] == name]
        shown = {"reference": REFERENCES.get(name, POOLED), **{way: WAYS[way] for way in _ways(mine)}}
        for place in axes[line]:
            place.set_visible(False)
        for place, (way, title) in zip(axes[line], shown.items(), strict=False):
            place.set_visible(True)
            draw(place, mine, way)
            place.set_title(title)
            place.sharex(axes[line, 0])
            place.sharey(axes[line, 0])
        axes[line, 0].set_title(f"{_title(mine)}\n{shown['reference']}", fontsize=10.5)
    legend(axes[0, 0], loc="upper left", markerscale=2, handletextpad=0.2)
    return figure


def _clouds(mine: pd.DataFrame, way: str) -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    for called, colour, label in ((False, GREY, "other"), (True, VERMILION, f"p < {ALPHA}")):
        chosen = mine[(mine[f"{way}_pvalue"] < ALPHA) == called]
        yield chosen, {"s": 6, "color": colour, "linewidths": 0, "alpha": 0.7, "label": label}


def _ma(axes: Any, mine: pd.DataFrame, way: str) -> None:
    for chosen, dots in _clouds(mine, way):
        axes.scatter(chosen["base_mean"], chosen[f"{way}_log2FoldChange"], **dots)
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set(xscale="log", xlabel="base mean", ylabel="log2 fold change")


def _volcano(axes: Any, mine: pd.DataFrame, way: str) -> None:
    for chosen, dots in _clouds(mine, way):
        axes.scatter(chosen[f"{way}_log2FoldChange"], _height(chosen[f"{way}_pvalue"]), **dots)
    axes.set(xlabel="log2 fold change", ylabel="−log10 p")


def _ways(mine: pd.DataFrame) -> list[str]:
    """The ways that were measured on a set."""
    return [way for way in WAYS if mine[f"{way}_log2FoldChange"].notna().any()]


def _title(mine: pd.DataFrame) -> str:
    name = str(mine["set"].iloc[0])
    shown = "simulated" if name.startswith("simulated") else name
    return f"{shown}: {len(mine):,} genes, {mine['sites'].iloc[0]} sites"


def _height(pvalue: pd.Series[float]) -> pd.Series[float]:
    return -np.log10(pvalue.clip(lower=_LEAST_P))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per set and way: differences of log2 fold changes, and the share of genes on the same side of p = 0.05."""
    told = []
    for name, mine in rows.groupby("set", sort=False):
        called = mine["reference_pvalue"] < ALPHA
        for way in _ways(mine):
            off = (mine[f"{way}_log2FoldChange"] - mine["reference_log2FoldChange"]).abs()
            same = (mine[f"{way}_pvalue"] < ALPHA) == called
            told.append(
                {"set": name, "way": way, "median": off.median(), "99%": off.quantile(0.99), "calls": same.mean()}
            )
    return pd.DataFrame(told)


def answer(rows: pd.DataFrame) -> str:
    """How far each way is from each reference."""
    table = summary(rows)
    sentences = []
    for reference in dict.fromkeys(REFERENCES.get(name, POOLED) for name in table["set"]):
        beside = table[[REFERENCES.get(name, POOLED) == reference for name in table["set"]]]
        told = []
        for way, title in WAYS.items():
            mine = beside[beside["way"] == way]
            if not mine.empty:
                told.append(
                    f"{title} fold changes differ by {_span(mine['median'], '.1g')} log2 in the median gene and agree "
                    f"on p < {ALPHA} in {_span(100 * mine['calls'], '.1f')}% of genes"
                )
        sentences.append(f"Beside {reference}: {'; '.join(told)}.")
    return " ".join(sentences)


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
