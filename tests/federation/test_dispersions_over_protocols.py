"""Dispersions have the same bits whatever protocol adds the sites' sums up, and in whatever order the sites come."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.run import secure_sum
from secirls.algorithms.dispersion.shrunken_dispersions import estimate_dispersions
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import normalise
from secirls.algorithms.query import Total, query_from_bytes
from secirls.inputs.simulate import simulate
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.held.samples import Samples

GENES, ROWS = 12, 15


def sites_of(order=(0, 1, 2)):
    whole = simulate(GENES, ROWS, seed=5).samples
    counts = whole.counts + (np.arange(GENES) == 0)
    parts = [np.arange(ROWS) % 3 == k for k in range(3)]
    return {f"site{k}": Samples(whole.design[parts[k]], counts[parts[k]]) for k in order}


def everything(cells):
    asked = np.ones(GENES, dtype=bool)
    census = yield CensusQuery(asked, 2)
    asked, n = census["presence"] > 0, float(census["samples"][0])
    normalisation = yield from normalise(asked, 2, n, own_size_factors=False)
    return (yield from estimate_dispersions(asked, census["xtx"], n, normalisation, Products.full(2), cells=cells))


def found(protocol, sites, cells=2):
    """Gene-wise and final dispersions, and iterations, with every sum made by the protocol."""
    algorithm, total = everything(cells), None
    while True:
        try:
            query = query_from_bytes(algorithm.send(total).to_bytes())
        except StopIteration as end:
            result = end.value
            return [result.gene_wise, result.maximum, result.final, result.map_iterations]
        query.check(GENES, 2)
        sites = {name: query.apply(site) for name, site in sites.items()}
        layout = query.layout(len(sites))
        vectors = {
            name: layout.encode(query.summands(site.take(query.genes), len(sites))) for name, site in sites.items()
        }
        opened = secure_sum(protocol, vectors)
        names = tuple(sorted(sites))
        total = Total(layout.decode(opened.vector, len(sites)), tuple(sorted(opened.parties)), names)


@pytest.mark.parametrize("cells", [2, None])
@pytest.mark.parametrize("protocol", ["additive", "pairwise"])
def test_every_protocol_finds_the_same_bits(protocol, cells):
    plain = found("plain", sites_of(), cells)
    for ours, theirs in zip(found(protocol, sites_of(), cells), plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_order_of_the_sites_changes_no_bit():
    for ours, theirs in zip(found("plain", sites_of((2, 0, 1))), found("plain", sites_of()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_other_counts_would_be_seen():
    others = sites_of()
    others["site0"] = Samples(others["site0"].design, others["site0"].counts + 1)
    assert any((a != b).any() for a, b in zip(found("plain", others), found("plain", sites_of()), strict=True))
