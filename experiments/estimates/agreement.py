"""The whole federated DESeq2 beside R's, stage by stage, beside pooled PyDESeq2, and beside per-site meta-analysis.

Stages are compared gene by gene: median, 99 % and largest relative difference, over genes with a value both ways and,
for dispersions, those that neither way fitted again after replacing a count. Fold changes are relative to max(|lfc|,
0.001), and p-values below 1e-280 are left out. Sets of genes are compared as sets. Of some genes the values themselves
are kept, for figures.

R's tables are frozen beside the data; which genes lie beyond 1e-3, and why, is listed by name in ``tests/oracle``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.estimates import agreement_ways as ways
from experiments.estimates.agreement_figures import figures, span
from experiments.estimates.agreement_ways import ALPHA, Table
from experiments.groundwork.record import Configuration, Experiment, Measurement, Row
from secirls.numerics.arrays import Floats

_CONDITION, _SITE = "~ condition", "~ site + condition"
CONFIGURATION: Configuration = {
    "seed": 0,
    "engine": "local",
    "protocol": "pairwise",
    "beside_r": [[name, design] for name in ("airway", "bottomly", "hapmap_lcl") for design in (_CONDITION, _SITE)],
    "beside_pooled": [
        [name, _SITE] for name in ("pasilla", "airway", "bottomly", "geuvadis_tsi", "hapmap_lcl", "tcga_brca")
    ],
    # genes of each set whose values are kept for figures, of those with a base mean of 1 or more
    "genes": 800,
}
QUICK: Configuration = {"beside_r": [], "beside_pooled": [["simulated-300x24x3", _SITE]]}

R, POOLED = "R's DESeq2", "pooled PyDESeq2"
BESIDE = {"R": R, "pooled": POOLED}
STAGES = {
    "base mean": "base_mean",
    "gene-wise dispersion": "gene_wise",
    "trend": "trend",
    "MAP dispersion": "maximum",
    "final dispersion": "dispersion",
    "log2 fold change": "change",
    "standard error": "error",
    "p-value": "pvalue",
    "adjusted p-value": "padj",
}
_FIRST_FIT = ("gene_wise", "trend", "maximum")
_LEAST = {"change": 1e-3}
"""Differences are relative to this at least."""
_SMALLEST_P = 1e-280
_BEYOND = 1e-3


def plan(configuration: Configuration) -> Sequence[Measurement]:
    """One measurement per design and what it is held against; both of a design in turn, so that fits are made once."""
    held = {"R": configuration["beside_r"], "pooled": configuration["beside_pooled"]}
    designs = {(name, design): None for pairs in held.values() for name, design in pairs}
    return [
        Measurement(f"{name}/{design}/{beside}", partial(measure, name, design, beside, configuration))
        for name, design in designs
        for beside, pairs in held.items()
        if [name, design] in pairs
    ]


def measure(name: str, design: str, beside: str, configuration: Configuration) -> Iterator[Row]:
    """Rows of stages, of sets, and of some genes."""
    seed, protocol = configuration["seed"], configuration["protocol"]
    theirs = ways.reference(name, design) if beside == "R" else ways.pooled(name, design, seed)
    tables = {"federated": ways.federated(name, design, seed, protocol)}
    if [name, design] in configuration["beside_pooled"]:
        if beside == "R":
            tables["pooled"] = ways.pooled(name, design, seed)
        else:
            tables["given"] = ways.given(name, design, seed, protocol)
        meta = ways.meta_analysis(name, seed)
        if meta is not None:
            tables["meta"] = meta
    data = ways.whole_set(name, seed)
    shared = {"set": name, "design": design, "samples": data.whole.n_obs, "sites": len(data.sites()), "beside": beside}
    for way, ours in tables.items():
        for row in (*stages(ours, theirs), *(sets(ours, theirs) if way != "given" else ())):
            yield _row(**shared, way=way, **row)
    expressed = theirs.genes.index[theirs.genes["base_mean"] >= 1]
    some = expressed[:: max(1, len(expressed) // configuration["genes"])]
    for way, told in {beside: theirs, **tables}.items():
        if way != "given":
            yield from (_row(**shared, way=way, **row) for row in values(told, theirs, some))


_EMPTY: dict[str, Any] = {
    "set": "", "design": "", "samples": 0, "sites": 0, "beside": "", "way": "", "kind": "", "item": "",
    "genes": None, "median": None, "high": None, "largest": None, "beyond": None,
    "ours": None, "theirs": None, "common": None,
    "base_mean": None, "change": None, "pvalue": None, "called": None,
}  # fmt: skip


def _row(**told: Any) -> Row:
    if set(told) - set(_EMPTY):
        raise ValueError(f"unknown columns {set(told) - set(_EMPTY)}")
    return {**_EMPTY, **told}


def stages(ours: Table, theirs: Table) -> Iterator[dict[str, Any]]:
    """Relative differences of every stage that both have, from size factors to adjusted p-values."""
    if ours.size_factors is not None and theirs.size_factors is not None:
        yield _difference("size factors", ours.size_factors.reindex(theirs.size_factors.index), theirs.size_factors)
    mine = ours.genes.reindex(theirs.genes.index)
    again = theirs.genes["replaced"] | mine["replaced"].fillna(value=True).astype(bool)
    for stage, column in STAGES.items():
        left, right = mine[column], theirs.genes[column]
        if column in _FIRST_FIT:
            left, right = left[~again], right[~again]
        if column == "pvalue":
            right = right.where(right > _SMALLEST_P)
        row = _difference(stage, left, right, _LEAST.get(column, 0.0))
        if row["genes"]:
            yield row
    for item, name in {"prior variance": "prior_variance", "filter threshold": "threshold"}.items():
        mine_of_it, theirs_of_it = getattr(ours, name), getattr(theirs, name)
        if np.isfinite([mine_of_it, theirs_of_it]).all():
            yield _difference(item, [mine_of_it], [theirs_of_it])


def _difference(item: str, ours: Any, theirs: Any, least: float = 0.0) -> dict[str, Any]:
    left, right = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap: Floats = np.abs(left - right) / np.maximum(np.abs(right), least)
    gap = gap[np.isfinite(gap)]
    told: dict[str, Any] = {"kind": "stage", "item": item, "genes": gap.size}
    if gap.size:
        told |= {"median": np.median(gap), "high": np.quantile(gap, 0.99), "largest": gap.max()}
        told["beyond"] = int((gap > _BEYOND).sum())
    return told


def _significant(table: pd.DataFrame) -> pd.Series[bool]:
    return table["padj"] < ALPHA


SETS: Mapping[str, Callable[[pd.DataFrame], pd.Series[bool]]] = {
    "differentially expressed": _significant,
    "replaced": lambda table: table["replaced"],
    "without a p-value": lambda table: table["missing"],
}


def sets(ours: Table, theirs: Table) -> Iterator[dict[str, Any]]:
    """How many genes are in a set one way, the other, and both; genes only one way knows are in."""
    for item, chosen in SETS.items():
        mine, others = (set(table.genes.index[chosen(table.genes)]) for table in (ours, theirs))
        yield {"kind": "set", "item": item, "ours": len(mine), "theirs": len(others), "common": len(mine & others)}


def values(told: Table, theirs: Table, genes: pd.Index[str]) -> Iterator[dict[str, Any]]:
    """What one way says of some genes."""
    table, means = told.genes.reindex(genes), theirs.genes["base_mean"].reindex(genes)
    columns = (genes, means, table["change"], table["pvalue"], _significant(table))
    for gene, *numbers, called in zip(*columns, strict=True):
        mean, change, pvalue = (float(f"{number:.6g}") for number in numbers)
        yield {
            "kind": "gene", "item": gene, "base_mean": mean, "change": change, "pvalue": pvalue, "called": int(called),
        }  # fmt: skip


# --- reading the rows --------------------------------------------------------------------------------------------


def answer(rows: pd.DataFrame) -> str:
    """How near each way comes to R and to pooling."""
    sentences = []
    for beside, title in BESIDE.items():
        mine = rows[rows["beside"] == beside]
        if mine.empty:
            continue
        told = [text for way, say in _SAYINGS[beside].items() for text in say(mine[mine["way"] == way]) if text]
        designs = len(mine[["set", "design"]].drop_duplicates())
        sentences.append(f"Beside {title}, on {designs} design{'s' * (designs > 1)}: {'; '.join(told)}.")
    return " ".join(sentences)


def _same_sets(rows: pd.DataFrame) -> Iterator[str]:
    """In how many designs the sets are equal, and how far p-values are apart."""
    chosen = rows[rows["kind"] == "set"]
    equal = (chosen["ours"] == chosen["common"]) & (chosen["theirs"] == chosen["common"])
    counts = [f"{item} in {int(equal[chosen['item'] == item].sum())}" for item in SETS]
    yield f"the federated fit finds the same genes {counts[0]}, {counts[1]} and {counts[2]}"
    p, final = (_of_stage(rows, item) for item in ("p-value", "final dispersion"))
    yield (
        f"its dispersions differ by {span(final['median'])} of their size in the median gene and p-values by "
        f"{span(p['median'])} (99 % of them by less than {p['high'].max():.0e})"
    )


def _near(title: str, rows: pd.DataFrame) -> Iterator[str]:
    """Which share of the genes that are differentially expressed either way is so both ways."""
    chosen = rows[(rows["kind"] == "set") & (rows["item"] == "differentially expressed")]
    either = chosen["ours"] + chosen["theirs"] - chosen["common"]
    share, change = (100 * chosen["common"] / either)[either > 0], _of_stage(rows, "log2 fold change")
    if not share.empty:
        yield (
            f"{title} shares {span(share, '.1f')}% of the genes differentially expressed in either, and its fold "
            f"changes differ by {span(change['median'], '.1g')} of their size in the median gene"
        )


def _regression(rows: pd.DataFrame) -> Iterator[str]:
    change = _of_stage(rows, "log2 fold change")
    if not change.empty:
        yield (
            "given its size factors and dispersions, federated fold changes differ by "
            f"{span(change['median'], '.1g')} of their size in the median gene"
        )


def _of_stage(rows: pd.DataFrame, item: str) -> pd.DataFrame:
    return rows[(rows["kind"] == "stage") & (rows["item"] == item)]


_SAYINGS: Mapping[str, Mapping[str, Callable[[pd.DataFrame], Iterator[str]]]] = {
    "R": {
        "federated": _same_sets,
        "pooled": partial(_near, POOLED),
        "meta": partial(_near, "meta-analysis"),
    },
    "pooled": {
        "federated": partial(_near, "the federated fit"),
        "given": _regression,
        "meta": partial(_near, "meta-analysis"),
    },
}

EXPERIMENT = Experiment(
    name="agreement",
    question="Is the federated fit R's DESeq2, stage by stage, and what do pooling and meta-analysis give beside it?",
    configuration=CONFIGURATION,
    quick=QUICK,
    plan=plan,
    figures=figures,
    answer=answer,
)
