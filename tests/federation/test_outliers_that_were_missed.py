"""Outliers that a whole fit must find and replace, where what it goes by comes close to being lost.

With columns kept at home, leverages of a gene may be those of the iterate before the last: an own coefficient of some
site left the box after it. The other sites have gone one step further by then, and must still have theirs. And what is
put in an outlier's place is a mean over samples that no site sees, cut down to a whole number: if it is one, to itself.
Each stands beside its twin.
"""

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls
from secirls.algorithms.outliers import outlier_replacement
from secirls.numerics.held.own_notes import Notes

SILENT = {"engine": "local", "protocol": "plain"}


def by_site(counts, obs):
    """AnnData of each site's samples, counts ``(genes, samples)``."""
    var = pd.DataFrame(index=[f"g{gene}" for gene in range(len(counts))])
    at = {site: np.flatnonzero(obs["site"] == site) for site in obs["site"].unique()}
    return {
        site: anndata.AnnData(counts.T[rows].astype(np.int32), obs=obs.iloc[rows].copy(), var=var)
        for site, rows in at.items()
    }


@pytest.fixture(scope="module")
def planted():
    """Four sites of 12, 10, 8 and 6 samples, whose levels differ by gene; counts far off in two genes of five."""
    rng, n, genes = np.random.default_rng(8), 36, 250
    site = np.repeat(list("abcd"), [12, 10, 8, 6])
    treated = pd.Categorical(rng.choice(["u", "t"], n), ["u", "t"])
    rng.uniform(20, 80, n), rng.choice(["p", "q"], n), rng.choice(["q", "r"], n)
    mu = np.exp(rng.uniform(-1, 7, genes))
    level = np.exp(rng.normal(0, 0.5, (genes, 4)))[:, np.searchsorted(list("abcd"), site)]
    counts = rng.poisson(np.minimum(mu[:, None] * level * rng.gamma(5, 0.2, (genes, n)), 1e8))
    for gene in range(100, 200):
        if rng.random() < 0.4:
            counts[gene, rng.integers(n)] = counts[gene].max() * rng.integers(5, 100) + 50
    obs = pd.DataFrame({"site": site, "A": treated}, index=[f"s{sample}" for sample in range(n)])
    return by_site(counts[100:160], obs)


def flags(sites, **options):
    table = secirls.fit(sites, design="~ site + A", **SILENT, **options).table
    return table[["outlier", "replaced"]]


@pytest.fixture(scope="module")
def shared(planted):
    found = flags(planted, own_columns="shared")
    assert found["replaced"].sum() >= 10
    return found


@pytest.mark.slow
def test_outliers_are_those_of_shared_columns_where_an_own_coefficient_left_the_box(planted, shared):
    assert flags(planted).equals(shared)


@pytest.mark.slow
def test_the_twin_that_remembers_one_step_alone_misses_one(planted, shared, monkeypatch):
    keep = Notes.keep

    def forgetful(self, *given):
        keep(self, *given)
        self.step_before[:] = -9

    monkeypatch.setattr(Notes, "keep", forgetful)
    assert (flags(planted) != shared).to_numpy().any()


TIED = [1, 0, 1, 2, 4, 2, 2, 4, 3, 2, 3, 3, 3, 4, 3, 5, 4, 2, 5, 6, 1178]
"""What is left of these, without the four smallest and the four largest, are thirteen counts whose mean is 3."""


@pytest.fixture(scope="module")
def tied():
    """Three sites of seven samples whose size factors are one; one gene is `TIED`."""
    rng, n, genes = np.random.default_rng(3), len(TIED), 60
    counts = rng.poisson(np.exp(rng.uniform(2, 6, genes))[:, None] * rng.gamma(20, 0.05, (genes, n)))
    counts[0] = TIED
    obs = pd.DataFrame(
        {"site": np.repeat(list("abc"), 7), "A": np.tile(["u", "t"], n)[:n], "size": 1.0},
        index=[f"s{sample}" for sample in range(n)],
    )
    return by_site(counts, obs)


def put_in_its_place(tied):
    table = secirls.fit(tied, design="~ A", size_factors="size", **SILENT).table
    assert table["replaced"].iloc[0]
    return round(table["baseMean"].iloc[0] * len(TIED) - sum(TIED[:-1]), 6)


def test_a_whole_trimmed_mean_is_put_in_an_outliers_place(tied):
    assert put_in_its_place(tied) == np.mean(sorted(TIED)[4:-4]) == 3


def test_the_twin_that_takes_means_as_they_are_found_puts_one_less(tied, monkeypatch):
    monkeypatch.setattr(outlier_replacement, "NARROW", 0.0)
    assert put_in_its_place(tied) == 2
