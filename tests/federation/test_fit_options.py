"""Refit mode, independent filtering, unclamped standard errors and the final score, through the whole fit."""

import numpy as np
import pydeseq2.utils
import pytest
from typer.testing import CliRunner

import secirls
from secirls.cli.commands import app
from secirls.inputs.simulate import simulate
from secirls.numerics.inference.wald import benjamini_hochberg, independent_filtering

GENES, REFITTED = 60, ["g03", "g17", "g41"]
NUMBERS = ["log2FoldChange", "lfcSE", "stat", "pvalue", "status", "iterations"]


def sites_of(counts, made, layer=None, first=0):
    import anndata
    import pandas as pd

    s, X = made.samples.size_factors, made.samples.design
    var = pd.DataFrame({"alpha": made.samples.dispersions}, index=[f"g{i:02d}" for i in range(counts.shape[1])])
    out = {}
    for name, rows in zip("abc", np.array_split(np.arange(len(s)), 3), strict=True):
        obs = pd.DataFrame(
            {"condition": np.where(X[rows, 1] > 0, "t", "c"), "s": s[rows]}, index=[f"{name}{i}" for i in rows]
        )
        out[name] = anndata.AnnData(counts[rows].astype(np.int32), obs=obs, var=var)
        if layer is not None:
            out[name].layers["replaced"] = layer[rows].astype(np.int32)
    return out


@pytest.fixture(scope="module")
def made():
    return simulate(GENES, 24, seed=4)


def run(sites, **options):
    given = {
        "size_factors": "s",
        "dispersions": "alpha",
        "protocol": "plain",
        "engine": "local",
        "preset": "irls",
    } | options
    return secirls.fit(sites, design="~ condition", **given)


def replaced_counts(made):
    layer = np.asarray(made.samples.counts).copy()
    layer[5] = layer[6]  # of all genes: only those named may be looked at
    return layer


@pytest.mark.parametrize("protocol", ["plain", "pairwise"])
def test_refit_changes_the_named_genes_and_nothing_else(made, protocol):
    counts, layer = np.asarray(made.samples.counts), replaced_counts(made)
    before = run(sites_of(counts, made)).table.set_index("gene")
    after = run(
        sites_of(counts, made, layer), refit_layer="replaced", refit_genes=REFITTED, protocol=protocol
    ).table.set_index("gene")
    truth = run(sites_of(layer, made)).table.set_index("gene")
    others = before.index.difference(REFITTED)
    assert after.loc[others, NUMBERS].equals(before.loc[others, NUMBERS])
    assert after.loc[REFITTED, NUMBERS].equals(truth.loc[REFITTED, NUMBERS])
    assert not after.loc[REFITTED, "stat"].equals(before.loc[REFITTED, "stat"])
    assert after["baseMean"].equals(before["baseMean"])
    assert np.allclose(after["padj"], benjamini_hochberg(after["pvalue"].to_numpy()), rtol=0, atol=0)


def test_refit_asks_again_who_has_counts(made):
    counts, layer = np.asarray(made.samples.counts), replaced_counts(made)
    layer[8:, 3] = 0  # what is left is site a's alone
    layer[:, 17] = 0
    table = run(sites_of(counts, made, layer), refit_layer="replaced", refit_genes=REFITTED).table.set_index("gene")
    assert table.loc["g03", "status"] == "too_few_sites"
    assert table.loc["g17", "status"] == "all_zero"
    assert table.loc["g41", "status"] == "converged"
    assert (table.loc[table["pvalue"].isna(), "reason"] != "").all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"refit_layer": "replaced", "refit_genes": ["g99"]}, "'g99', which is not among the 60 agreed genes"),
        ({"refit_layer": "other", "refit_genes": ["g03"]}, "layer 'other': is missing"),
        ({"refit_layer": "replaced"}, "needs both"),
        ({"refit_genes": ["g03"]}, "needs both"),
        ({"refit_layer": "replaced", "refit_genes": ["g03", "g03"]}, "names a gene twice"),
    ],
)
def test_a_refit_that_can_t_be_is_refused_in_a_sentence(made, options, words):
    counts = np.asarray(made.samples.counts)
    with pytest.raises(secirls.InputError, match=words):
        run(sites_of(counts, made, counts), **options)


def test_refit_and_filtering_by_the_command(made, tmp_path):
    counts, layer = np.asarray(made.samples.counts), replaced_counts(made)
    named = []
    for name, site in sites_of(counts, made, layer).items():
        site.write_h5ad(tmp_path / f"{name}.h5ad")
        named += ["--site", f"{name}={tmp_path / f'{name}.h5ad'}"]
    (tmp_path / "genes.txt").write_text("\n".join(REFITTED) + "\n")
    options = ["--size-factors", "s", "--dispersions", "alpha", "--engine", "local", "--preset", "irls"]
    options += ["--protocol", "plain"]
    options += ["--refit-layer", "replaced", "--refit-genes", str(tmp_path / "genes.txt"), "--independent-filtering"]
    options += ["--alpha", "0.1", "--se", "unclamped", "--ridge", "2e-6", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["fit", *named, "--design", "~ condition", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    report = (tmp_path / "out" / "report.json").read_text()
    for words in ('"layer": "replaced"', '"alpha": 0.1', '"means unclamped"', '"ridge": 2e-06', '"replace_counts"'):
        assert words in report
    missing = CliRunner().invoke(app, ["fit", *named, "--design", "~ condition", "--refit-genes", "nowhere.txt"])
    assert isinstance(missing.exception, secirls.InputError)


def test_unclamped_standard_errors_are_those_of_pydeseq2(made):
    counts = np.asarray(made.samples.counts) // 40  # low means, so that the clamp is at work
    sites = sites_of(counts, made)
    table = run(sites, se="unclamped").table
    clamped = run(sites).table
    X, s, alpha = made.samples.design, made.samples.size_factors, made.samples.dispersions
    fits = run(sites).coefficients.to_numpy()[:, 1:].astype(float)
    fitted = np.flatnonzero(table["pvalue"].notna())
    assert fitted.size > 20
    for gene in fitted:
        mu = s * np.exp(X @ fits[gene])
        p, stat, se = pydeseq2.utils.wald_test(
            X, alpha[gene], fits[gene], mu, 1e-6 * np.eye(2), np.array([0.0, 1.0]), 0.0, None
        )
        row = table.iloc[gene]
        assert np.allclose([row["pvalue"], row["stat"]], [p, stat], rtol=1e-9)
        assert np.isclose(row["lfcSE"], se / np.log(2), rtol=1e-9)
    assert (clamped["lfcSE"] < table["lfcSE"] * (1 - 1e-6)).any()
    assert clamped["log2FoldChange"].equals(table["log2FoldChange"])


def test_independent_filtering_says_which_genes_it_left_out(made):
    rng = np.random.default_rng(0)
    made = simulate(600, 24, seed=8)
    counts = np.asarray(made.samples.counts).copy()
    counts[:, 300:] = rng.poisson(0.4, size=(24, 300))
    counts[:16, 299] = 0
    sites = sites_of(counts, made)
    plain, table = run(sites).table, run(sites, independent_filtering=True, alpha=0.1).table
    out = table["padj"].isna() & table["pvalue"].notna()
    assert 100 < out.sum() < 400
    assert table.loc[out, "reason"].str.contains("base mean is below .* independent filtering").all()
    assert not plain["reason"].str.contains("filtering").any()
    assert (table["status"] == plain["status"]).all()
    assert (table.loc[table["padj"].isna(), "reason"] != "").all()
    known = table["baseMean"].notna()
    expected, cutoff = independent_filtering(
        table.loc[known, "pvalue"].to_numpy(), table.loc[known, "baseMean"].to_numpy(), 0.1
    )
    assert np.array_equal(table.loc[known, "padj"], expected, equal_nan=True)
    assert (table.loc[out, "baseMean"] < cutoff).all()
    assert (table["padj"] < 0.1).sum() >= (plain["padj"] < 0.1).sum()


def test_the_report_tells_how_far_from_settled_the_genes_are(made):
    sites = sites_of(np.asarray(made.samples.counts), made)
    loose, tight = (run(sites, beta_tol=tolerance).report["final_score"] for tolerance in (1e-3, 1e-12))
    assert tight["genes"] == GENES
    assert tight["median"] <= tight["99 %"] <= tight["largest"] < 1e-5
    assert loose["largest"] > 100 * tight["largest"]


def test_threads_reach_the_kernel_and_change_no_bit(made, monkeypatch):
    from secirls.numerics.regression import kernels

    choose, chosen = kernels.choose, []

    def noting(kernel="fused", n_jobs=1):
        chosen.append(n_jobs)
        choose(kernel, n_jobs)

    monkeypatch.setattr(kernels, "choose", noting)
    counts = np.asarray(made.samples.counts)
    one, two = (run(sites_of(counts, made), n_jobs=threads) for threads in (None, 2))
    assert set(chosen) == {1, 2}
    assert two.coefficients.equals(one.coefficients)
    assert two.table.equals(one.table)
