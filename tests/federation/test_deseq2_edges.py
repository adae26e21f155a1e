"""The whole of DESeq2 where it is nearly undefined: every fit ends, in numbers or in a sentence."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.algorithms.dispersion import profile
from secirls.algorithms.outliers import outlier_treatment
from secirls.algorithms.outliers.cells import Cells
from secirls.input_error import InputError

GENES = 120


def made(samples, *, sites=3, seed=1, alpha=0.1, obs=None, counts=None):
    """Negative-binomial counts of two alternating groups, the first ten genes changed, dealt out to sites."""
    import anndata

    rng = np.random.default_rng(seed)
    treated = np.arange(samples) // sites % 2 == 1
    if counts is None:
        means = np.exp(rng.uniform(3, 7, GENES)) * np.where(np.outer(treated, np.arange(GENES) < 10), 4.0, 1.0)
        a = alpha + (1.0 / means if alpha > 0.05 else 0.0)
        counts = rng.negative_binomial(1.0 / a, 1.0 / (1.0 + a * means))
    table = pd.DataFrame({"condition": np.where(treated, "t", "c"), **(obs or {})})
    table.index = [f"s{i}" for i in range(samples)]
    var = pd.DataFrame(index=[f"g{i}" for i in range(counts.shape[1])])
    dealt = np.arange(samples) % sites
    return {
        f"site{i}": anndata.AnnData(counts[dealt == i].astype(np.int32), table[dealt == i], var) for i in range(sites)
    }


def fitted(sites, design="~ condition", **options):
    return secirls.fit(sites, design=design, **{"protocol": "plain", "engine": "local"} | options)


def settled(result):
    return set(result.table["status"]) <= {"converged", "caught"} and result.table["pvalue"].notna().all()


def test_three_against_three():
    result = fitted(made(6))
    assert settled(result)
    assert (result.table["padj"][:10] < 0.05).sum() >= 8
    assert result.report["outliers"]["cells_left_out"] == 2


def test_by_its_own_rule_three_against_three_are_looked_into():
    sites = made(6)
    sites["site1"].X[0, 50] = 60_000
    result = fitted(sites, min_kept=1)
    assert result.report["outliers"]["looked_for"]
    assert any("middle value" in sentence for sentence in result.report["disclosure"])


@pytest.mark.parametrize("left", [1, 2, 3])
def test_few_degrees_of_freedom(left):
    obs = {"batch": ["a", "b", "c", "b", "c", "a"], "age": np.linspace(1.0, 2.0, 6) ** 2}
    design = {1: "~ batch + age + condition", 2: "~ batch + condition", 3: "~ age + condition"}[left]
    result = fitted(made(6, obs=obs), design)
    assert result.report["samples"] - len(result.report["design_columns"]) == left
    assert np.isfinite(result.report["trend"]["prior_variance"])
    assert settled(result)


def test_as_many_columns_as_samples_is_said_in_one_sentence():
    with pytest.raises(InputError, match="leave nothing to estimate dispersions"):
        fitted(
            made(
                6,
                obs={
                    "a": list("ababab"),
                    "x": np.arange(6.0) ** 2,
                    "y": [5.0, 1, 4, 2, 3, 9],
                    "z": np.arange(6.0) ** 3,
                },
            ),
            "~ a + x + y + z + condition",
        )


def test_a_numeric_variable_keeps_its_cells_at_home():
    obs = {"age": np.random.default_rng(2).normal(size=24)}
    result = fitted(made(24, obs=obs), "~ age + condition")
    assert settled(result)
    assert result.report["outliers"]["looked_for"] is False  # every sample is a cell of its own
    kinds = {told["query"] for told in result.report["rounds"]}
    assert "cell_counts" in kinds
    assert "cells" not in kinds


def test_where_every_gene_has_a_zero_positive_counts_make_size_factors():
    sites = made(12)
    for number, adata in enumerate(sites.values()):
        adata.X[0, number::3] = 0
    with pytest.raises(InputError, match="poscounts"):
        fitted(sites)
    result = fitted(sites, size_factor_type="poscounts")
    assert settled(result)
    assert "positive counts" in result.report["size_factors"]


def test_control_genes_make_the_size_factors_alone():
    sites = made(12)
    for adata in sites.values():
        adata.X[:, :100] *= 1 + np.arange(adata.n_obs)[:, None]  # all but twenty genes say something else
    twenty = [f"g{i}" for i in range(100, GENES)]
    result = fitted(sites, control_genes=twenty)
    few = fitted({name: adata[:, 100:].copy() for name, adata in sites.items()})
    np.testing.assert_allclose(result.table["baseMean"][100:], few.table["baseMean"], rtol=1e-12)
    with pytest.raises(InputError, match="control_genes names 'nobody'"):
        fitted(sites, control_genes=["nobody"])


def test_without_any_dispersion_all_are_the_smallest():
    counts = np.tile(np.arange(20, 20 + GENES), (12, 1))
    result = fitted(made(12, counts=counts))
    assert result.report["trend"]["flat"]
    assert (result.table["dispersion"] == 1e-7).all()
    assert any("every dispersion is 1e-7" in sentence for sentence in result.report["disclosure"])


@pytest.mark.parametrize("trend", ["local", "mean"])
def test_another_trend_is_told(trend):
    result = fitted(made(24), trend=trend)
    assert result.report["trend"]["kind"] == trend
    assert settled(result)


@pytest.mark.parametrize("way", [pytest.param("optimum", marks=pytest.mark.slow), "moments"])
def test_another_way_to_dispersions_is_told(way):
    sites = made(24)
    result, usual = fitted(sites, dispersion_fit=way), fitted(sites)
    assert settled(result)
    assert (result.dispersions is None) == (way == "moments")
    assert ("maximum" in result.report["dispersions"]) == (way == "optimum")
    gap = np.abs(np.log(result.table["dispersion"] / usual.table["dispersion"]))
    assert gap.median() < (0.05 if way == "optimum" else 1.0)


def test_a_site_without_any_count_of_a_gene():
    sites = made(24, sites=4)
    sites["site2"].X[:, 60] = 0
    result = fitted(sites)
    assert result.table["status"].iloc[60] in ("converged", "caught")
    assert fitted(sites, min_contributors=4).table["status"].iloc[60] == "too_few_sites"


def test_outliers_are_replaced_unless_switched_off_or_in_larger_cells_alone():
    sites = made(24)
    sites["site0"].X[0, 70] = 90_000
    result = fitted(sites)
    assert list(np.flatnonzero(result.table["replaced"])) == [70]
    assert result.table["pvalue"].notna().all()
    without = fitted(sites, cooks=False)
    assert not without.table["replaced"].any()
    assert without.report["outliers"] is None
    kept = fitted(sites, min_replicates=100)
    assert not kept.table["replaced"].any()
    assert np.isnan(kept.table["pvalue"].iloc[70])
    assert kept.report["outliers"]["kept_by_exception"] == 0
    others = np.arange(GENES) != 70
    assert result.table["baseMean"][others].equals(kept.table["baseMean"][others])
    assert result.table["baseMean"].iloc[70] < kept.table["baseMean"].iloc[70] / 2


def varied(sizes, at):
    """Controls and tumours, which differ among themselves in forty genes; ``at`` are the sites of each group.

    Nothing is an outlier but one control's count of the last gene.
    """
    import anndata

    rng, tumour = np.random.default_rng(5), np.repeat([False, True], sizes)
    site = np.concatenate([np.resize(list(names), size) for names, size in zip(at, sizes, strict=True)])
    means = np.exp(rng.uniform(4, 7, GENES)) * np.ones((tumour.size, 1))
    means[np.ix_(tumour, np.arange(40))] *= np.exp(rng.normal(np.log(2), 1.2, (sizes[1], 40)))
    counts = rng.negative_binomial(20, 1 / (1 + 0.05 * means)).astype(np.int32)
    counts[0, -1] = 90_000
    obs = pd.DataFrame({"condition": np.where(tumour, "tumour", "control")}, index=[f"s{i}" for i in range(len(site))])
    var = pd.DataFrame(index=[f"g{i}" for i in range(GENES)])
    return {name: anndata.AnnData(counts[site == name], obs[site == name], var) for name in "abc"}


VARIED = [((12, 12), ("abc", "ab")), ((20, 4), ("abc", "abc")), ((8, 4), ("abc", "abc"))]
"""The tumours are at two of three sites; or so few that two values of four would be kept."""


@pytest.mark.parametrize(("sizes", "at"), VARIED)
def test_in_a_cell_whose_variance_nobody_asks_for_nothing_is_an_outlier(sizes, at):
    sites = varied(sizes, at)
    result = fitted(sites)
    assert result.report["outliers"]["cells_left_out"] == 1
    assert any("no outlier was looked for in them" in sentence for sentence in result.report["disclosure"])
    assert not result.table[["replaced", "outlier"]][:40].to_numpy().any()
    assert list(np.flatnonzero(result.table["replaced"])) == [GENES - 1]
    assert result.table["pvalue"].notna().all()
    asked = fitted(sites, min_contributors=2, min_kept=1).table
    assert asked[["replaced", "outlier"]][:40].to_numpy().any(axis=1).sum() <= 5


@pytest.mark.parametrize(("sizes", "at"), VARIED)
def test_the_twin_that_measures_it_by_the_other_cells_loses_what_varies_there(sizes, at, monkeypatch):
    monkeypatch.setattr(Cells, "looked_into", lambda self, min_kept: self)
    table = fitted(varied(sizes, at)).table
    assert table[["replaced", "outlier"]][:40].to_numpy().any(axis=1).sum() >= 15


@pytest.mark.parametrize("way", ["deseq2", "optimum"])
def test_one_sample_of_a_hundred_thousand_times_the_depth_leaves_dispersions_where_they_are(way):
    sites, rng = made(12), np.random.default_rng(6)
    options = {"dispersion_fit": way, "cooks": False, "size_factor_type": "poscounts"}
    before = fitted(sites, **options)
    sites["site0"].X[0] = np.minimum(rng.poisson(sites["site0"].X[0] * 1e5), 2**31 - 1)
    result = fitted(sites, **options)
    assert not any("rougher" in sentence for sentence in result.report["disclosure"])
    ratio = result.dispersions["dispersion"] / before.dispersions["dispersion"]
    assert 0.3 < ratio.min() < 1 < ratio.max() < 3


def test_the_twin_whose_nodes_are_too_near_gives_the_largest_dispersions_there_are(monkeypatch):
    monkeypatch.setattr(profile, "finer", lambda nodes: replace(nodes, nodes=2 * nodes.nodes))
    sites, rng = made(12), np.random.default_rng(6)
    sites["site0"].X[0] = np.minimum(rng.poisson(sites["site0"].X[0] * 1e5), 2**31 - 1)
    result = fitted(sites, cooks=False, size_factor_type="poscounts")
    assert (result.dispersions["dispGeneEst"] == 12.0).sum() >= 3
    assert any("rougher" in sentence for sentence in result.report["disclosure"])


def excused(levels):
    """Genes whose one large count among zeros three samples of the other group exceed, in a design of these levels."""
    sites, rng = made(12), np.random.default_rng(5)
    for number, site in enumerate(sites.values()):
        treated = (site.obs["condition"] == "t").to_numpy()
        site.X[:, :20] = np.where(treated[:, None], rng.poisson(60, (site.n_obs, 20)), 0)
        site.X[np.flatnonzero(~treated)[0], :20] = 30 if number == 0 else 0
    return fitted(sites, min_kept=1, levels={"condition": levels}, drop_empty=True)


def test_a_level_that_is_dropped_leaves_a_factor_of_two_levels():
    two, three = excused(("c", "t")), excused(("c", "t", "u"))
    assert two.report["outliers"]["kept_by_exception"] > 10
    assert three.report["outliers"] == two.report["outliers"]
    assert three.table["pvalue"].equals(two.table["pvalue"])


def test_the_twin_that_counts_declared_levels_leaves_genes_without_a_p_value(monkeypatch):
    monkeypatch.setattr(
        outlier_treatment, "_is_of_two_levels", lambda design, _: [len(x) for x in design.levels.values()] == [2]
    )
    assert excused(("c", "t", "u")).table["outlier"].sum() > 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"refit_layer": "x", "refit_genes": ["g1"]}, "replaces outliers itself"),
        ({"preset": "irls", "cooks": True}, "cooks = True needs another preset than 'irls'"),
        ({"preset": "irls", "dispersion_fit": "optimum"}, "needs another preset than 'irls'"),
        ({"preset": "pydeseq2", "refit_layer": "x", "refit_genes": ["g1"]}, "replaces outliers itself"),
        ({"size_factors": "s", "size_factor_type": "poscounts"}, "size factors are brought"),
        ({"min_replicates": 2}, "min_replicates"),
        ({"trend": "cubic"}, "trend"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        fitted(made(6), **options)


def with_a_rising_trend():
    """Dispersions that rise with the mean, as no positive share of its inverse lets them."""
    rng = np.random.default_rng(7)
    means = np.exp(rng.uniform(3, 8, GENES))
    a = 0.002 * means**0.75
    return made(24, counts=rng.negative_binomial(1.0 / a, 1.0 / (1.0 + a * means), size=(24, GENES)))


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, "local", "The parametric trend could not be fitted. Dispersions were drawn towards a local trend"),
        ({"preset": "pydeseq2"}, "mean", "The parametric trend could not be fitted. Dispersions were drawn towards"),
        pytest.param(
            {"trend": "local"},
            "local",
            "Dispersions were drawn towards a local trend, which is not R's to the digit",
            marks=pytest.mark.slow,
        ),
        pytest.param({"trend": "mean"}, "mean", "", marks=pytest.mark.slow),
    ],
)
def test_a_parametric_trend_that_fails_gives_way_and_is_told(options, kind, words):
    result = fitted(with_a_rising_trend(), **options)
    trend, found = result.report["trend"], result.dispersions
    assert trend["kind"] == kind
    assert settled(result)
    assert f"drawn towards a {kind} trend" in result.report["dispersions"]
    assert any(sentence.startswith(words) for sentence in result.report["disclosure"])
    failed = any("could not be fitted" in sentence for sentence in result.report["disclosure"])
    assert failed == ("trend" not in options)
    if kind == "mean":
        assert (found["dispFit"] == trend["mean"]).all()
        assert found["dispGeneEst"].min() < trend["mean"] < found["dispGeneEst"].max()
    else:
        assert np.corrcoef(np.log(found["baseMean"]), np.log(found["dispFit"]))[0, 1] > 0.9


def test_a_parametric_trend_that_holds_is_told_as_such():
    result = fitted(made(24))
    assert result.report["trend"]["kind"] == "parametric"
    assert not any("could not be fitted" in sentence for sentence in result.report["disclosure"])
