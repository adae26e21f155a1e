"""A sample that is its batch's only one, where the batch's column stays at its site: fitted exactly, so no outlier.

Own columns have no ridge, so its leverage is one but for rounding, and its Cook's distance one rounding over another.
Nobody's count is far off here: whatever is found is found in rounding. Beside it the twin that believes in it.
"""

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.numerics.held.own_columns import Own

BATCHES = {"a": [8, 8, 1], "b": [8, 8], "c": [8, 8]}
GENES = 60


@pytest.fixture(scope="module")
def sites():
    rng = np.random.default_rng(7)
    mu, var = np.exp(rng.uniform(2, 7, GENES)), pd.DataFrame(index=[f"g{gene}" for gene in range(GENES)])
    parts = {}
    for site, sizes in BATCHES.items():
        batch = np.repeat([f"{site}{number}" for number in range(len(sizes))], sizes)
        obs = pd.DataFrame({"batch": batch, "A": np.resize(["u", "t"], batch.size)})
        obs.index = [f"{site}{sample}" for sample in range(batch.size)]
        counts = rng.poisson(mu * rng.gamma(10, 0.1, (batch.size, GENES))).astype(np.int32)
        parts[site] = anndata.AnnData(counts, obs=obs, var=var)
    return parts


def replaced(sites):
    fit = secirls.fit(
        sites, design="~ batch + A", engine="local", protocol="plain", min_contributors=1, min_kept=1, min_replicates=4
    )
    assert fit.report["outliers"]["replaced"] == fit.table["replaced"].sum()
    return int(fit.table["replaced"].sum())


def test_the_only_sample_of_a_batch_is_no_outlier(sites):
    assert replaced(sites) <= 2


def test_the_twin_that_takes_rounding_for_a_distance_replaces_in_most_genes(sites, monkeypatch):
    monkeypatch.setattr(Own, "fitted_exactly", property(lambda own: np.zeros(own.design.shape[0], dtype=bool)))
    assert replaced(sites) > GENES / 2


def test_samples_that_own_columns_alone_fit():
    both = np.column_stack([np.ones(5), [1, 0, 0, 0, 0], [0, 1, 1, 0, 0]]).astype(float)
    assert Own.of(both, 1, 1, 30.0).fitted_exactly.tolist() == [True, False, False, False, False]
    slope = np.column_stack([np.ones(5), [0, 0, 0, 0, 1e6]])
    assert Own.of(slope, 1, 1, 30.0).fitted_exactly.tolist() == [False] * 4 + [True]
