"""Speed of the profile kernel, as a ratio to SciPy's gammaln in the same run, a count and node.

Run with ``pytest tests/benchmarks/test_profile_speed.py --benchmark-only -s``. A textbook likelihood takes two gammaln
and three logarithms a count; the prototype took 0.56 of one gammaln. No test here fails for being slow.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import gammaln

from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.dispersion.nodes import nodes_for
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.kernels import Choice, level_moments

CASES = [(8, 2, 20_000), (21, 4, 5000), (100, 2, 1000), (300, 5, 500)]
BY_NODES = [(100, 2, 1000), (300, 2, 400), (300, 3, 400), (1000, 2, 150), (1000, 3, 150), (5000, 3, 40)]
ROUNDS = 5


def make(n: int, p: int, genes: int) -> tuple[Samples, np.ndarray]:
    rng = np.random.default_rng(n + p)
    X = np.ones((n, p))
    X[:, 1:] = rng.integers(0, 2, (n, p - 1))
    s = np.exp(0.3 * rng.normal(size=n))
    b = np.column_stack([rng.uniform(-1, 7, genes), 0.3 * rng.normal(size=(genes, p - 1))])
    alpha = rng.uniform(0.01, 1.0, genes)[:, None]
    mu = np.exp(b @ X.T) * s
    counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(np.int32)
    return Samples(X, counts.T, s), b


@pytest.mark.parametrize(("n", "p", "genes"), CASES)
def test_one_round_of_profiles(n, p, genes, benchmark):
    samples, b = make(n, p, genes)
    z = (samples.counts / samples.size_factors[:, None]).T
    places = nodes_for(z.mean(axis=1), z.var(axis=1, ddof=1), n, max(10.0, n))
    products, fused = Products.full(p), Choice("fused")
    sizes = (samples.counts.T[:, :, None] + 1 / np.geomspace(1e-6, 10, 8)).ravel()[:1_000_000]

    def profiles():
        return profile_sums(samples, b, places, products, linear=False, min_mu=0.5, choice=fused)

    profiles()
    least = {"profile": np.inf, "gammaln": np.inf}
    for _ in range(ROUNDS):
        for name, run, work in (
            ("profile", profiles, n * int(places.nodes.sum())),
            ("gammaln", lambda: gammaln(sizes), sizes.size),
        ):
            start = time.process_time()
            run()
            least[name] = min(least[name], (time.process_time() - start) / work)
    ratio = least["profile"] / least["gammaln"]
    print(f"\nn = {n}, p = {p}: {1e9 * least['profile']:.1f} ns a count and node, {ratio:.2f} of one gammaln")
    benchmark.extra_info.update({"ns": round(1e9 * least["profile"], 2), "of one gammaln": round(ratio, 3)})
    benchmark.pedantic(profiles, rounds=2)


@pytest.mark.parametrize(("n", "p", "genes"), BY_NODES)
def test_profiles_by_nodes(n, p, genes, benchmark):
    """2 or 4 design rows, means from 0.4 to 1,000: a quarter of the genes is clamped in part."""
    samples, b = make(n, p, genes)
    z = (samples.counts / samples.size_factors[:, None]).T
    places = nodes_for(z.mean(axis=1), z.var(axis=1, ddof=1), n, max(10.0, n))
    few, products = replace(samples, moments=level_moments(samples)), Products.full(p)
    least = {"samples": np.inf, "nodes": np.inf, "their weights": np.inf}
    runs = {
        "samples": lambda: profile_sums(samples, b, places, products, linear=False, min_mu=0.5),
        "nodes": lambda: profile_sums(few, b, places, products, linear=False, min_mu=0.5),
        "their weights": lambda: level_moments(samples),
    }
    for run in runs.values():
        run()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.process_time()
            run()
            least[name] = min(least[name], time.process_time() - start)
    ratios = {name: round(least["samples"] / value, 2) for name, value in least.items()}
    print(f"\nn = {n}, p = {p}: {ratios['nodes']:.1f}x by nodes; their weights a {ratios['their weights']:.0f}th")
    benchmark.extra_info.update(ratios)
    benchmark.pedantic(runs["nodes"], rounds=2)
