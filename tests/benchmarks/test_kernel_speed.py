"""Speed of a site's sums, as ratios to the published form, measured in turns in one process on one thread.

Run with ``pytest tests/benchmarks --benchmark-only``; the table of ratios is printed at the end of each test
(``-s``) and kept in the benchmark's ``extra_info``. Seconds depend on the machine, ratios hardly do,
and no test here fails for being slow.
"""

from __future__ import annotations

import resource
import time
import tracemalloc

import pytest

from experiments.speed import kernels
from experiments.speed.turns import in_turn, least
from secirls.numerics.regression.kernels import Choice, summands, warm_up

GENES = 20_000
ROUNDS = 7
CASES = [(1000, 2, False), (1000, 2, True), (1000, 5, False), (1000, 5, True), (100, 2, False)]


def report(title: str, seconds: dict[str, float], benchmark: object, unit: str = "ms CPU") -> None:
    baseline = next(iter(seconds))
    ratios = {name: seconds[baseline] / value for name, value in seconds.items()}
    print(f"\n{title}")
    for name, ratio in ratios.items():
        print(f"  {name:<28} {1e3 * seconds[name]:9.2f} {unit} {ratio:7.1f}x")
    benchmark.extra_info.update({name: round(ratio, 2) for name, ratio in ratios.items()})


@pytest.mark.parametrize(("n", "p", "levels"), CASES)
def test_one_round_of_sums(n, p, levels, benchmark):
    forms = kernels.a_round(*kernels.counted(GENES, n, p, levels=levels))
    design = "few distinct rows" if levels else "all rows distinct"
    report(f"{GENES} genes, n = {n}, p = {p}, {design}", least(in_turn(forms, ROUNDS)), benchmark)
    benchmark.pedantic(forms[kernels.FUSED], rounds=2)


@pytest.mark.parametrize(("n", "genes"), [(50, 20_000), (100, 20_000), (300, 8000), (1000, 3000), (5000, 4000)])
def test_nodes_in_place_of_samples(n, genes, benchmark):
    """Two groups, no mean clamped: a round, and what nodes cost once."""
    candidates, few = kernels.by_nodes(n, genes)
    nodes = "none" if few.moments is None else few.moments.nodes.size
    report(f"{genes} genes, n = {n}, two rows, {nodes} nodes", least(in_turn(candidates, ROUNDS)), benchmark)
    benchmark.pedantic(candidates[kernels.BY_NODES], rounds=2)


def test_large_counts(benchmark):
    """Genes with a count above 131,072, whose plain likelihood would cancel, against genes without."""
    candidates = kernels.with_large_counts(2000)
    report("a round, n = 300", least(in_turn(candidates, ROUNDS)), benchmark)
    benchmark.pedantic(candidates["large"], rounds=2)


@pytest.mark.parametrize("p", [2, 5, 8])
def test_solve_of_all_genes(p, benchmark):
    candidates = kernels.solving(GENES, p)
    report(f"{GENES} systems of {p} unknowns", least(in_turn(candidates, 30)), benchmark)
    benchmark.pedantic(candidates[kernels.ELIMINATION], rounds=3)


@pytest.mark.parametrize("kernel", ["fused", "numpy"])
def test_threads(kernel, benchmark):
    """By the clock on the wall, where a gain needs a core that is free, and in CPU seconds, which should not grow."""
    warm_up()
    threads = kernels.on_threads(*kernels.counted(GENES, 1000, 2, levels=False), kernel)
    walls = least(in_turn(threads, 15, time.perf_counter))
    report(f"{kernel} kernel, n = 1000, p = 2", walls, benchmark, "ms on the wall")
    report("the same", least(in_turn(threads, 15)), benchmark)
    benchmark.pedantic(threads["two threads"], rounds=3)


@pytest.mark.parametrize("kernel", ["fused", "numpy"])
def test_memory_of_one_round_at_a_large_site(kernel, benchmark):
    samples, beta = kernels.counted(GENES, 2000, 2, levels=False)
    held = samples.counts.nbytes
    tracemalloc.start()
    benchmark.pedantic(summands, (samples, beta, 0.5), {"choice": Choice(kernel)}, rounds=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"\n{kernel}: counts {held / 2**20:.0f} MiB, one round needs {peak / 2**20:.1f} MiB more;", end=" ")
    print(f"the process never held more than {process / 2**20:.0f} MiB")
    benchmark.extra_info.update({"counts MiB": held / 2**20, "more MiB": peak / 2**20, "process MiB": process / 2**20})
