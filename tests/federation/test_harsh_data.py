"""Harsh data through the whole fit: no NaN without a sentence, no warning (they are errors here), no gene lost.

Every gene of a federation is a different cruelty, and one of them is plain: it must come out as if it were alone.
"""

import itertools

import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.input_error import InputError
from secirls.outputs.tables.kept_fit import KeptFit

FINAL = {"converged", "caught", "failed", "all_zero", "too_few_sites"}
PLAIN = "plain gene"
N = 16


def two_groups():
    return np.tile([0, 1], N // 2)


def cruel_genes(rng):
    """Name to counts ``(16,)`` over two alternating groups."""
    t = two_groups()
    base = rng.poisson(60, N)
    genes = {
        PLAIN: base + 40 * t,
        "group without a count": np.where(t == 1, 0, base),
        "reference without a count": np.where(t == 0, 0, base),
        "one count in one group": np.where(np.arange(N) == 5, 1, 0) + np.where(t == 0, base, 0),
        "a billion everywhere": np.full(N, 10**9),
        "a billion in one group": np.where(t == 1, 10**9, 0),
        "a billion once": np.where(np.arange(N) == 3, 10**9, 0) + (np.arange(N) % 4 == 0),
        "from one to a billion": (10.0 ** np.linspace(0, 9, N)).astype(np.int64),
        "largest count there is": np.full(N, np.iinfo(np.int32).max),
        "ones": np.ones(N, dtype=np.int64),
        "a single count at each site": (np.arange(N) % 4 == 0).astype(np.int64),
        "equal groups": np.full(N, 100),
        "no count": np.zeros(N, dtype=np.int64),
        "one site alone": np.where(np.arange(N) < 4, base, 0),
    }
    assert all(values.shape == (N,) for values in genes.values())
    return genes


def federation(counts, names, alpha, *, obs=None, s=None, sites=4):
    import anndata

    table = pd.DataFrame({"condition": np.where(two_groups() == 1, "t", "c")} if obs is None else obs)
    table["s"] = np.ones(N) if s is None else s
    var = pd.DataFrame({"alpha": np.broadcast_to(np.asarray(alpha, dtype=float), len(names))}, index=names)
    parts = {}
    for i, rows in enumerate(np.array_split(np.arange(N), sites)):
        mine = table.iloc[rows].set_axis([f"s{j}" for j in rows], axis=0)
        parts[f"site{i}"] = anndata.AnnData(counts[rows].astype(np.int32), obs=mine, var=var)
    return parts


def run(sites, design="~ condition", **options):
    given = {
        "size_factors": "s",
        "dispersions": "alpha",
        "protocol": "plain",
        "engine": "local",
        "preset": "irls",
    } | options
    return secirls.fit(sites, design=design, **given)


def check(result, n_genes):
    """What must hold whatever the data: every gene has a final status, and nothing is NaN without a sentence."""
    table = result.table
    assert len(table) == n_genes
    assert set(table["status"]) <= FINAL
    assert (table.loc[table["status"] != "converged", "reason"] != "").all()
    for column in ("log2FoldChange", "lfcSE", "stat", "pvalue", "padj"):
        assert (table.loc[table[column].isna(), "reason"] != "").all(), column
        assert not np.isinf(table[column]).any(), column
    fitted = table["status"].isin(["converged", "caught"]).to_numpy()
    coefficients = result.coefficients.drop(columns="gene").to_numpy()
    assert np.isfinite(coefficients[fitted]).all()
    assert (np.abs(result.kept.beta[fitted]) <= 30).all(), "of numeric columns as they are scaled in the fit"
    assert (table.loc[fitted & table["pvalue"].notna(), "pvalue"].between(0, 1)).all()


EXTREME = (1e-8, 1e3)
"""Dispersions at which the sums are as far apart as they get, so masks are tried here too."""


@pytest.mark.parametrize("alpha", [*EXTREME, *(pytest.param(a, marks=pytest.mark.slow) for a in (1e-4, 0.1, 10.0))])
def test_cruel_genes_at_any_dispersion(alpha):
    genes = cruel_genes(np.random.default_rng(1))
    counts = np.column_stack(list(genes.values()))
    result = run(federation(counts, list(genes), alpha))
    check(result, len(genes))
    plain = result.table
    if alpha in EXTREME:
        assert run(federation(counts, list(genes), alpha), protocol="pairwise").table.equals(plain)
    rows = plain.set_index("gene")
    print("\n", rows[["log2FoldChange", "lfcSE", "pvalue", "status", "iterations", "reason"]].to_string())
    assert rows.loc["no count", "status"] == "all_zero"
    assert rows.loc["one site alone", "status"] == "too_few_sites"
    assert rows.loc[PLAIN, "status"] == "converged"
    alone = run(federation(counts[:, :1], [PLAIN], alpha)).table
    assert alone.loc[PLAIN, ["log2FoldChange", "lfcSE", "pvalue", "iterations"]].equals(
        rows.loc[PLAIN, ["log2FoldChange", "lfcSE", "pvalue", "iterations"]]
    )
    assert abs(rows.loc["equal groups", "stat"]) < 1e-4  # the ridge pulls at the intercept, the more the larger alpha
    assert rows.loc["a billion once", "log2FoldChange"] > 25
    assert rows.loc["group without a count", "log2FoldChange"] < -4
    assert rows.loc["reference without a count", "log2FoldChange"] > 4


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-6, pytest.param(1e6, marks=pytest.mark.slow)])
def test_size_factors_from_a_millionth_to_a_million(scale):
    genes = cruel_genes(np.random.default_rng(2))
    counts = np.column_stack(list(genes.values()))
    for s in (np.full(N, scale), np.where(np.arange(N) % 3 == 0, scale, 1.0)):
        check(run(federation(counts, list(genes), 0.1, s=s)), len(genes))


@pytest.mark.slow
def test_a_group_of_a_single_sample():
    genes = cruel_genes(np.random.default_rng(3))
    counts = np.column_stack(list(genes.values()))
    obs = {"condition": np.where(np.arange(N) == 6, "t", "c")}
    with pytest.raises(InputError, match="alone adds to and keeps"):
        run(federation(counts, list(genes), 0.1, obs=obs))
    result = run(federation(counts, list(genes), 0.1, obs=obs), own_columns="shared")
    check(result, len(genes))
    rows = result.table.set_index("gene")
    assert rows.loc[PLAIN, "status"] == "converged"
    assert (
        rows.loc[PLAIN, "lfcSE"]
        > 3 * run(federation(counts, list(genes), 0.1)).table.set_index("gene").loc[PLAIN, "lfcSE"] / 2
    )


@pytest.mark.parametrize("params", [1, *(pytest.param(p, marks=pytest.mark.slow) for p in (5, 12))])
def test_one_and_twelve_parameters(params):
    genes = cruel_genes(np.random.default_rng(4))
    counts = np.column_stack(list(genes.values()))
    rng = np.random.default_rng(5)
    obs = {f"x{i}": rng.normal(size=N) for i in range(params - 1)} | {"condition": np.repeat("c", N)}
    design = " + ".join(["~ 1", *(f"x{i}" for i in range(params - 1))])
    result = run(federation(counts, list(genes), 0.1, obs=obs), design=design)
    check(result, len(genes))
    assert result.coefficients.shape[1] == params + 1
    assert result.table.set_index("gene").loc[PLAIN, "status"] == "converged"


@pytest.mark.parametrize("preset", ["pydeseq2", pytest.param("fedpydeseq2", marks=pytest.mark.slow)])
def test_estimated_dispersions_and_size_factors(preset):
    genes = cruel_genes(np.random.default_rng(6))
    counts = np.column_stack(list(genes.values()))
    result = run(
        federation(counts, list(genes), 1.0), size_factors=None, dispersions=None, preset=preset,
        independent_filtering=True, se="unclamped",
    )  # fmt: skip
    check(result, len(genes))


LOST = "A site's sums for this gene were not finite or too large"
HUGE = "a billion everywhere"


def with_one_small_size_factor(s, huge):
    """Four sites that estimate dispersions; one sample's size factor makes one gene's large counts unsendable."""
    rng = np.random.default_rng(8)
    names = [HUGE, *(f"g{i}" for i in range(12))]
    counts = np.minimum(rng.poisson(3, (N, len(names))), 7) + 1
    if huge:
        counts[:, 0] = 10**9
    factors = np.ones(N)
    factors[5] = s
    return federation(counts, names, 1.0, s=factors)


@pytest.mark.slow
def test_a_gene_that_one_site_cannot_send_fails_and_changes_no_other():
    s = 1e-10
    results = [
        run(with_one_small_size_factor(s, huge=True), dispersions=None, protocol=p) for p in ("plain", "pairwise")
    ]
    tame = run(with_one_small_size_factor(s, huge=False), dispersions=None)
    for result in results:
        check(result, 13)
    plain, pairwise = (result.table.set_index("gene") for result in results)
    assert plain.equals(pairwise)
    assert plain.loc[HUGE, "status"] == "failed"
    assert plain.loc[HUGE, "reason"].startswith(LOST)
    assert set(plain["status"].drop(HUGE)) <= {"converged", "caught"}
    columns = [column for column in plain if column != "padj"]  # one p-value less to adjust for
    assert plain[columns].drop(HUGE).equals(tame.table.set_index("gene")[columns].drop(HUGE))


def test_a_fit_that_loses_every_gene_ends_with_a_sentence_for_each(tmp_path):
    result = run(with_one_small_size_factor(1e-300, huge=False), dispersions=None, independent_filtering=True)
    check(result, 13)
    assert (result.table["status"] == "failed").all()
    assert result.table["reason"].str.startswith(LOST).all()
    result.write(tmp_path / "out", h5ad=True)


@pytest.mark.slow
def test_many_random_cruelties():
    rng = np.random.default_rng(7)
    kinds = list(itertools.product([0.0, 0.5, 0.9], [1, 100, 10**5, 10**9], [1e-8, 1e-2, 1.0, 1e3]))
    counts = np.column_stack(
        [np.where(rng.random(N) < zeros, 0, (top ** rng.random(N)).astype(np.int64)) for zeros, top, _ in kinds]
    )
    names = [f"zeros {zeros} top {top} alpha {alpha}" for zeros, top, alpha in kinds]
    s = np.exp(rng.normal(size=N))
    result = run(federation(counts, names, [alpha for *_, alpha in kinds], s=s), min_contributors=1)
    check(result, len(kinds))
    print(result.table["status"].value_counts().to_dict())
    assert (result.table["status"] != "failed").mean() > 0.9


def test_a_reason_that_is_forgotten_would_be_noticed(monkeypatch):
    genes = cruel_genes(np.random.default_rng(1))
    counts = np.column_stack(list(genes.values()))
    monkeypatch.setattr(KeptFit, "reasons", lambda _: {})
    monkeypatch.setattr("secirls.outputs.tables.results_table.wald", forgetful)
    with pytest.raises(AssertionError):
        check(run(federation(counts, list(genes), 0.1)), len(genes))


def forgetful(*arguments):
    from dataclasses import replace

    from secirls.numerics.inference.wald import wald

    return replace(wald(*arguments), reasons={})
