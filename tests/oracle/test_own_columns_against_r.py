"""``~ site + condition`` with the sites' columns at home, on real data: beside the joint fit, and beside R's tables.

Beside the joint fit with the ridge switched off on both sides, at given dispersions: coefficients to 1e-10, standard
errors to 1e-11. Beside R, whose ridge stands on the sites' dummies too: the genes called differentially expressed.
"""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.inputs.datasets import airway_counts, airway_obs

DESIGN = "~ site + condition"
NO_RIDGE = 1e-30
WHOLE = {"min_kept": 1, "min_contributors": 1, "protocol": "plain", "engine": "local"}
DIFFER = 3
"""Genes whose call may differ from R's, each of them at the border."""
AT_THE_BORDER = 1e-3


def sites_of(name, shared_data, every=1):
    """The natural sites as AnnData, under names of their own."""
    whole = anndata.read_h5ad(shared_data / name / f"{name}.h5ad")[:, ::every].copy()
    for column in ("site", "condition"):
        whole.obs[column] = whole.obs[column].astype(str)
    levels = sorted(set(whole.obs["site"]))
    return {f"s{number}": whole[whole.obs["site"] == level].copy() for number, level in enumerate(levels)}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "every"), [("bottomly", 1), ("hapmap_lcl", 1), ("tcga_brca", 10)])
def test_given_dispersions_it_is_the_joint_fit(name, every, shared_data):
    """Genes that both settle by IRLS; the others are few, and end at a minimum found in another way."""
    sites = sites_of(name, shared_data, every)
    for site in sites.values():
        mean = sum(np.asarray(other.X.mean(axis=0)).ravel() for other in sites.values()) / len(sites)
        site.var["alpha"] = 0.05 + 1.0 / (1.0 + mean)
    asked = {**WHOLE, "design": DESIGN, "dispersions": "alpha", "preset": "irls", "ridge": NO_RIDGE}
    own, shared = (secirls.fit(sites, own_columns=way, **asked) for way in ("own", "shared"))
    settled = (own.table["status"] == "converged") & (shared.table["status"] == "converged")
    column = own.coefficients.columns[-1]
    lfc = [fit.coefficients[column][settled].to_numpy() for fit in (own, shared)]
    error = [fit.table["lfcSE"][settled].to_numpy() for fit in (own, shared)]
    assert settled.sum() > 0.95 * (shared.table["status"] == "converged").sum()
    np.testing.assert_allclose(lfc[0], lfc[1], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(error[0], error[1], rtol=1e-11)


def airway_sites(zeros):
    """The four donors; genes without a count stand for those of R's table."""
    counts, obs = airway_counts(), airway_obs()[["site", "condition"]].astype(str)
    none = np.zeros((len(counts), zeros), dtype=np.int32)
    var = pd.DataFrame(index=[*counts.columns, *(f"zero{i}" for i in range(zeros))])
    whole = anndata.AnnData(np.hstack([counts.to_numpy(np.int32), none]), obs=obs.loc[counts.index], var=var)
    return {site: whole[whole.obs["site"] == site].copy() for site in sorted(set(obs["site"]))}


def called_otherwise(data, sites, **options):
    """Genes whose call is not R's, and our adjusted p-values of them."""
    asked = {**WHOLE, "design": DESIGN, "levels": dict(data.design.levels), **options}
    table = secirls.fit(sites, **asked).table.set_index("gene").loc[data.genes]
    other = (table["padj"] < 0.05).to_numpy() != data.everything["significant"].to_numpy(bool)
    return table["padj"][other]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["airway", "bottomly", "hapmap_lcl"])
def test_the_genes_called_are_those_of_r_but_for_few_at_the_border(name, frozen, request):
    data = frozen(name, "site")
    sites = airway_sites(data.zeros) if name == "airway" else sites_of(name, request.getfixturevalue("shared_data"))
    other = called_otherwise(data, sites, own_columns="own")
    print(f"{name}: called otherwise than by R: {dict(other)}")
    assert len(other) <= DIFFER
    assert (np.abs(other - 0.05) < AT_THE_BORDER).all()


@pytest.mark.slow
def test_with_a_ridge_that_shows_the_genes_called_are_others(frozen, shared_data):
    """The broken twin: what the ridge does to fold changes, a hundred thousand times over."""
    data = frozen("bottomly", "site")
    assert len(called_otherwise(data, sites_of("bottomly", shared_data), own_columns="own", ridge=0.5)) > DIFFER
