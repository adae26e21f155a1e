"""Speed of the profile kernel, as a ratio to SciPy's gammaln in the same run, a count and node.

Run with ``pytest tests/benchmarks/test_profile_speed.py --benchmark-only -s``. A textbook likelihood takes two gammaln
and three logarithms a count; the prototype took 0.56 of one gammaln. No test here fails for being slow.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln

from experiments.speed import kernels
from experiments.speed.turns import in_turn, least

CASES = [(8, 2, 20_000), (21, 4, 5000), (100, 2, 1000), (300, 5, 500)]
BY_NODES = [(100, 2, 1000), (300, 2, 400), (300, 3, 400), (1000, 2, 150), (1000, 3, 150), (5000, 3, 40)]
ROUNDS = 5


@pytest.mark.parametrize(("n", "p", "genes"), CASES)
def test_one_round_of_profiles(n, p, genes, benchmark):
    samples, _ = kernels.profiled(n, p, genes)
    profile = kernels.a_profile(n, p, genes)[kernels.SAMPLES]
    sizes = (samples.counts.T[:, :, None] + 1 / np.geomspace(1e-6, 10, 8)).ravel()[:1_000_000]
    spent = least(in_turn({"profile": profile, "gammaln": lambda: gammaln(sizes)}, ROUNDS))
    each = spent["profile"] / (n * int(kernels.places_of(samples).nodes.sum()))
    ratio = each / (spent["gammaln"] / sizes.size)
    print(f"\nn = {n}, p = {p}: {1e9 * each:.1f} ns a count and node, {ratio:.2f} of one gammaln")
    benchmark.extra_info.update({"ns": round(1e9 * each, 2), "of one gammaln": round(ratio, 3)})
    benchmark.pedantic(profile, rounds=2)


@pytest.mark.parametrize(("n", "p", "genes"), BY_NODES)
def test_profiles_by_nodes(n, p, genes, benchmark):
    """2 or 4 design rows, means from 0.4 to 1,000: a quarter of the genes is clamped in part."""
    runs = kernels.a_profile(n, p, genes)
    spent = least(in_turn(runs, ROUNDS))
    ratios = {name: round(spent[kernels.SAMPLES] / value, 2) for name, value in spent.items()}
    print(f"\nn = {n}, p = {p}: {ratios[kernels.BY_NODES]:.1f}x by nodes; weights a {ratios[kernels.WEIGHTS]:.0f}th")
    benchmark.extra_info.update(ratios)
    benchmark.pedantic(runs[kernels.BY_NODES], rounds=2)
