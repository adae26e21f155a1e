"""A results table whose points are counted by construction, and what pictures are made of beside it."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def table():
    """400 genes: 60 up and 40 down beyond twofold, 30 significant below it, 3 far out, 10 without a p-value."""
    rng = np.random.default_rng(8)
    n = 400
    change = rng.uniform(-0.8, 0.8, n)
    change[:60], change[60:100] = rng.uniform(1.1, 3.0, 60), -rng.uniform(1.1, 3.0, 40)
    change[100:130] = rng.uniform(0.2, 0.9, 30) * rng.choice([-1, 1], 30)
    change[[0, 1, 60]] = 25.0, 30.0, -28.0
    pvalue = rng.uniform(0.05, 1.0, n)
    pvalue[:130] = 10.0 ** -rng.uniform(5, 60, 130)
    padj = np.where(pvalue < 1e-3, 2 * pvalue, 0.9)
    pvalue[390:], padj[390:] = np.nan, np.nan
    padj[380:390] = np.nan  # left out by the filter
    return pd.DataFrame(
        {
            "gene": [f"gene{i:04d}" for i in range(n)],
            "baseMean": 10.0 ** rng.uniform(-1, 5, n),
            "log2FoldChange": change,
            "lfcSE": 0.2,
            "stat": change / 0.2,
            "pvalue": pvalue,
            "padj": padj,
            "status": "converged",
            "reason": "",
        }
    )


@pytest.fixture
def of_dispersions():
    """300 genes of a trend: 12 outliers, 5 that met the least dispersion, one without any."""
    rng = np.random.default_rng(9)
    mean = 10.0 ** rng.uniform(0, 5, 300)
    trend = 0.05 + 3 / mean
    by_gene = trend * np.exp(rng.normal(0, 0.6, 300))
    outlier = np.arange(300) < 12
    by_gene[outlier] *= 30
    by_gene[20:25] = 1e-8
    final = np.where(outlier, by_gene, np.sqrt(trend * np.maximum(by_gene, 1e-3)))
    by_gene[299] = np.nan
    return pd.DataFrame(
        {
            "gene": [f"g{i}" for i in range(300)],
            "baseMean": mean,
            "dispGeneEst": by_gene,
            "dispFit": trend,
            "dispersion": final,
            "dispOutlier": outlier,
        }
    )


@pytest.fixture
def ledger():
    """Two rounds of two sites and an aggregator, which waits too."""
    rows = []
    for number in (-1, 0, 1):
        for party in ("a", "b"):
            rows.append((number, party, "site", "compute", 0.5 + number, 1_000_000, 10))
            rows.append((number, party, "site", "protect", 0.25, 2_000_000, 0))
        rows.append((number, "aggregator", "aggregator", "open", 1.0, 0, 0))
        rows.append((number, "aggregator", "aggregator", "wait", 77.0, 0, 0))
    columns = ["round", "party", "role", "verb", "seconds", "bytes_up", "bytes_down"]
    made = pd.DataFrame(rows, columns=columns).assign(run="r", protocol="pairwise", values=1, active_genes=1)
    return made.assign(cpu_seconds=made["seconds"] + 0.5)


@pytest.fixture
def report():
    """What pictures read of a report."""
    stages = [("census", 500), ("coefficients", 400), ("coefficients", 30), ("outliers", 0)]
    return {
        "contrast": "condition: b against a",
        "configuration": {"design": "~ condition", "preset": "deseq2", "alpha": 0.05},
        "rounds": [
            {"round": i, "stage": stage, "query": "q", "active_genes": genes} for i, (stage, genes) in enumerate(stages)
        ],
        "outliers": {"looked_for": True, "replaced": 7, "emptied": 1, "without_p_value": 4, "kept_by_exception": 2},
        "independent_filtering": {"alpha": 0.05, "threshold": 1.0},
    }
