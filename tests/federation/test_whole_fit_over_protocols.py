"""A whole fit whose outlier is flagged, replaced and fitted again has the same bits by every protocol and engine."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import secirls

GENES, ROWS = 30, 24


def sites_of(outlier=60_000):
    """Three sites, two conditions; one gene has an outlier in a cell of twelve."""
    random = np.random.default_rng(3)
    means = np.exp(random.uniform(3, 6, GENES))
    a = 0.1 + 1.0 / means
    counts = random.negative_binomial(1.0 / a, 1.0 / (1.0 + a * means), size=(ROWS, GENES)).astype(np.int32)
    counts[3, 7] = outlier
    obs = pd.DataFrame({"condition": np.where(np.arange(ROWS) // 3 % 2, "t", "c")}, [f"s{i}" for i in range(ROWS)])
    var = pd.DataFrame(index=[f"g{i}" for i in range(GENES)])
    parts = [np.arange(ROWS) % 3 == k for k in range(3)]
    return {f"site{k}": anndata.AnnData(counts[part], obs[part], var) for k, part in enumerate(parts)}


def fitted(sites, **options):
    return secirls.fit(sites, design="~ condition", **{"protocol": "plain", "engine": "local"} | options)


@pytest.fixture(scope="module")
def plain():
    return fitted(sites_of())


def same(ours, theirs):
    """Whether both tables and the coefficients are equal to the last bit."""
    return all(getattr(ours, name).equals(getattr(theirs, name)) for name in ("table", "dispersions", "coefficients"))


SMALL = {"key_bits": 512, "insecure_test_keys": True, "precompute": False}


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("additive", {}),
        ("pairwise-lean", {}),
        ("pairwise", {}),
        *(pytest.param(name, SMALL, marks=pytest.mark.slow) for name in ("paillier", "paillier-threshold")),
        pytest.param("plain", {"engine": "ray"}, marks=pytest.mark.slow),
        pytest.param("pairwise-lean", {"engine": "ray"}, marks=pytest.mark.slow),
        pytest.param("pairwise", {"engine": "ray"}, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("engine", "local"),
)
def test_every_protocol_and_engine_gives_the_same_bits(protocol, options, plain, request):
    if options.get("engine") == "ray":
        request.getfixturevalue("local_ray")
    assert plain.table["replaced"].sum() == 1
    assert plain.report["outliers"]["genes_looked_into"] >= 1
    assert "refit" in {stage["stage"] for stage in plain.report["stages"]}
    assert same(fitted(sites_of(), protocol=protocol, **options), plain)


def test_one_count_more_would_be_seen(plain):
    sites = sites_of()
    sites["site1"].X[0, 0] += 1
    assert not same(fitted(sites), plain)
