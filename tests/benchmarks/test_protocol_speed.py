"""What hiding costs: pairwise masking and opening beside the keystream and the plain sum they can't beat.

``pytest tests/benchmarks/test_protocol_speed.py --benchmark-only``; read the ratios, not the milliseconds.
"""

import secrets

import numpy as np
import pytest

from experiments.speed.sums import keystreams, masked
from protocols import run
from protocols.primitives import ring
from protocols.sessions.settings import Settings

VALUES, SITES = 120_000, [f"site-{number:02}" for number in range(10)]


@pytest.fixture(scope="module")
def vectors():
    return {site: ring.expand(secrets.token_bytes(32), VALUES, 2) for site in SITES}


@pytest.fixture
def table(request):
    table = run.sit_down(request.param, SITES, Settings(threshold=6))
    run.meet(table)
    return table


def test_raw_keystream_of_ten_masks(benchmark):
    benchmark(keystreams(VALUES, 10))


def test_ten_masks_added(benchmark, vectors):
    benchmark(masked(vectors[SITES[0]].copy(), 10))


@pytest.mark.parametrize("table", ["plain", "pairwise-lean", "additive", "pairwise"], indirect=True)
def test_protect(benchmark, table, vectors):
    def fresh():
        fresh.round += 1
        return (vectors[SITES[0]], run.context_of(table, vectors[SITES[0]], round_=fresh.round)), {}

    fresh.round = -1
    benchmark.pedantic(table.parties[SITES[0]].protect, setup=fresh, rounds=20)


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("table", ["plain", "pairwise-lean", "additive", "pairwise"], indirect=True)
def test_combine_and_open(benchmark, table, vectors, lost):
    if lost and table.protocol in ("additive", "pairwise-lean"):
        pytest.skip("these sums do not open without everybody")
    context = run.context_of(table, vectors[SITES[0]])
    payloads = {site: table.parties[site].protect(vectors[site], context) for site in SITES[lost:]}
    pending = table.collector.combine(payloads, context)
    replies = {site: table.parties[site].assist(request, context) for site, request in pending.requests.items()}

    def both():
        return table.collector.open(table.collector.combine(payloads, context), replies)

    total = benchmark(both)
    assert np.array_equal(total.vector, ring.total_of((vectors[p] for p in total.parties), VALUES, 2))
