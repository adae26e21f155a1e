"""Numbers that are not scaled: size factors in any unit, and counts as large as they can be."""

import anndata
import numpy as np
import pandas as pd
import pytest
from pydeseq2.utils import fit_moments_dispersions, fit_rough_dispersions, irls_solver

import secirls
from secirls.algorithms.dispersion import dispersions
from secirls.algorithms.groundwork import normalisation
from secirls.input_error import InputError
from secirls.numerics.held.samples import LARGEST_COUNT
from secirls.outputs.report.disclosure import WIDE_SPREAD

N, GENES = 18, 40
NUMBERS = ["baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue"]
TREATED = np.arange(N) % 2 == 1
BATCH = np.array(["x", "y", "z"])[np.arange(N) // 2 % 3]


@pytest.fixture(scope="module")
def pool():
    """Counts of genes without effects, from a few to a thousand, and the factors they were made with."""
    rng = np.random.default_rng(8)
    s = np.exp(0.3 * rng.normal(size=N))
    mean = np.exp(rng.uniform(1, 7, GENES))[None] * s[:, None]
    return rng.poisson(mean * rng.gamma(5, 0.2, mean.shape)), s / np.exp(np.log(s).mean())


def fit(counts, s, design="~ condition", **options):
    obs = pd.DataFrame({"condition": np.where(TREATED, "t", "c"), "batch": BATCH, "s": s})
    obs.index = [f"s{i}" for i in range(N)]
    var = pd.DataFrame(index=[f"g{i}" for i in range(counts.shape[1])])
    parts = np.array_split(np.arange(N), 3)
    sites = {
        name: anndata.AnnData(counts[rows].astype(np.int32), obs=obs.iloc[rows], var=var)
        for name, rows in zip("abc", parts, strict=True)
    }
    given = {"size_factors": "s", "engine": "local", "kernel": "numpy", "preset": "irls"} | options
    return secirls.fit(sites, design=design, **given)


@pytest.fixture(scope="module")
def usual(pool):
    """The fit of the pool as it is."""
    return fit(*pool)


UNITS = (23_456_789.0, 1e-6, 3.0, 1 / 3)
EXTREME = UNITS[:2]


def gap(one, other):
    return max(float((one.table[name] / other.table[name] - 1).abs().max()) for name in NUMBERS)


@pytest.mark.parametrize(
    ("unit", "protocol"),
    [
        *(pytest.param(unit, "plain", marks=[] if unit in EXTREME else [pytest.mark.slow]) for unit in UNITS),
        *(pytest.param(unit, "pairwise", marks=[pytest.mark.slow] if unit < 1e6 else []) for unit in UNITS),
    ],
)
def test_the_unit_of_size_factors_changes_no_result_and_is_said(pool, usual, unit, protocol):
    counts, s = pool
    scaled = fit(counts, s * unit, protocol=protocol)
    assert gap(scaled, usual) < 1e-9
    assert scaled.report["size_factors"].startswith("brought by the sites, divided by their geometric mean")
    assert float(scaled.report["size_factors"].split()[-1]) == pytest.approx(unit, rel=1e-12)
    said = [text for text in scaled.report["disclosure"] if "geometric mean" in text]
    assert len(said) == 1
    assert "obs column 's'" in said[0]
    assert f"{unit:.4g}" in said[0]


def test_taken_as_they_are_library_sizes_would_make_discoveries_of_noise(pool, usual, monkeypatch):
    """The broken twin."""
    counts, s = pool
    monkeypatch.setattr(normalisation, "LOG_AROUND_ONE", np.inf)
    unscaled = fit(counts, s * 1e7)
    assert (usual.table["pvalue"] < 0.05).mean() < 0.15
    assert (unscaled.table["pvalue"] < 0.05).mean() > 0.3
    assert gap(unscaled, usual) > 0.2


def test_factors_around_one_are_taken_as_they_are(pool):
    counts, s = pool
    given = fit(counts, s * 1.7)
    assert given.report["size_factors"] == "brought by the sites"
    assert np.allclose(given.table["baseMean"], (counts / (1.7 * s)[:, None]).mean(axis=0), rtol=1e-13)
    assert not any("geometric mean" in text for text in given.report["disclosure"])


def test_a_site_with_another_unit_than_the_others_is_suspected_aloud(pool):
    counts, s = pool
    mixed = fit(counts, np.where(np.arange(N) < 6, 2e7 * s, s))
    said = [text for text in mixed.report["disclosure"] if "different units" in text]
    assert len(said) == 1
    assert "obs column 's'" in said[0]
    # The twin: factors over two orders of magnitude are seen every day, and are no reason for it.
    usual = np.geomspace(0.1, 10, N)
    assert np.log(usual).std() < WIDE_SPREAD
    assert not any("different units" in text for text in fit(counts, usual).report["disclosure"])


def pooled(counts, s, gene):
    """Log2 fold change of a gene from PyDESeq2's functions over all samples, with its two moment estimates."""
    X = np.column_stack([np.ones(N), TREATED]).astype(float)
    normed = counts[:, [gene]] / s[:, None]
    rough = fit_rough_dispersions(normed, pd.DataFrame(X))
    alpha = np.clip(np.minimum(rough, fit_moments_dispersions(normed, s)), 1e-8, max(10, N))[0]
    y = counts[:, gene].astype(float)
    return irls_solver(y, s, X, alpha, 0.5, 1e-8)[0][1] / np.log(2), alpha


def large_genes():
    rng = np.random.default_rng(2)
    wide = rng.integers(1_000_000_000, LARGEST_COUNT, N, endpoint=True)
    return {
        "all large": wide,
        "as large as can be": np.full(N, LARGEST_COUNT) - np.arange(N),
        "one group": np.where(TREATED, LARGEST_COUNT, 1_000),
        "one sample": np.where(np.arange(N) == 4, LARGEST_COUNT, 3),
    }


@pytest.mark.parametrize("name", large_genes())
def test_counts_as_large_as_they_can_be_are_fitted_and_harm_nobody(pool, usual, name):
    counts, s = pool
    whole = np.column_stack([counts, large_genes()[name]])
    fitted = fit(whole, s)
    assert fitted.table[NUMBERS].iloc[:GENES].equals(usual.table[NUMBERS])
    assert fitted.table["status"].iloc[GENES] in {"converged", "caught"}
    log2, _ = pooled(whole, s, GENES)
    assert fitted.table["log2FoldChange"].iloc[GENES] == pytest.approx(log2, abs=1e-4)


def test_a_linear_fit_far_below_zero_harms_nobody(pool, monkeypatch):
    """The squares over a fitted value of one are beyond what can be added up, and are not needed."""
    counts, s = pool[0], np.full(N, 0.6)
    huge = np.where((BATCH == "x") & TREATED, 800_000_000, np.where((BATCH != "x") & ~TREATED, LARGEST_COUNT, 1))
    whole = np.column_stack([counts, huge])
    design = "~ batch + condition"
    without = fit(counts, s, design)
    fitted = fit(whole, s, design)
    assert fitted.table[NUMBERS].iloc[:GENES].equals(without.table[NUMBERS])
    assert fitted.table["status"].iloc[GENES] in {"converged", "caught"}
    # The broken twin: nothing cut off, and the gene is lost.
    monkeypatch.setattr(dispersions, "largest_summand", lambda _: np.inf)
    assert fit(whole, s, design).table["status"].iloc[GENES] == "failed"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint32])
def test_the_first_count_that_is_too_large_is_refused_in_any_type(dtype):
    from secirls.inputs.files.site_file import Reading, read_site

    def read(largest):
        counts = np.array([[largest, 1], [1, 1]], dtype=dtype)
        adata = anndata.AnnData(counts, obs=pd.DataFrame(index=["p", "q"]), var=pd.DataFrame(index=["g", "h"]))
        return read_site("a", adata, Reading(()))

    with pytest.raises(InputError, match=r"has a count above 2147483647$") as refused:
        read(2**31)
    assert refused.value.in_full.endswith("2147483647 (gene 'g')")
    largest = 2**31 - 128 if dtype is np.float32 else LARGEST_COUNT
    assert read(largest).counts[0, 0] == largest
