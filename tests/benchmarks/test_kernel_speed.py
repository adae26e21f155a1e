"""Speed of a site's sums, as ratios to the published form, measured in turns in one process on one thread.

Run with ``pytest tests/benchmarks --benchmark-only``; the table of ratios is printed at the end of each test
(``-s``) and kept in the benchmark's ``extra_info``. Seconds depend on the machine, ratios hardly do,
and no test here fails for being slow.
"""

from __future__ import annotations

import resource
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import gammaln

from secirls.numerics.algebra.solve import pack, solve, unpack
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.kernels import Choice, level_moments, nll_constants, summands, warm_up

GENES = 20_000
ROUNDS = 7
CASES = [(1000, 2, False), (1000, 2, True), (1000, 5, False), (1000, 5, True), (100, 2, False)]


def published_form(samples: Samples, beta: np.ndarray, min_mu: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One round of the FedIRLS formulas in batches of 100 genes, every term of the likelihood anew."""
    X, s = samples.design, samples.size_factors
    xtwx, xtwz, nll = [], [], []
    for start in range(0, samples.n_genes, 100):
        batch = slice(start, start + 100)
        y, alpha = samples.counts[:, batch].astype(np.float64), samples.dispersions[batch]
        mu = np.maximum(s[:, None] * np.exp(X @ beta[batch].T), min_mu)
        w = mu / (1.0 + mu * alpha)
        z = np.log(mu / s[:, None]) + (y - mu) / mu
        xtwx.append(X.T @ (w.T[:, :, None] * X))
        xtwz.append((w * z).T @ X)
        size = 1.0 / alpha
        log_binomial = gammaln(y + size) - gammaln(y + 1.0) - gammaln(size)
        per_count = size * np.log(alpha) - log_binomial + (y + size) * np.log(size + mu) - y * np.log(mu)
        nll.append(per_count.sum(axis=0))
    return np.concatenate(xtwx), np.concatenate(xtwz), np.concatenate(nll)


def make(n: int, p: int, *, levels: bool) -> tuple[Samples, np.ndarray]:
    rng = np.random.default_rng(n + p)
    X = np.ones((n, p))
    X[:, 1:] = rng.integers(0, 2, (n, p - 1)) if levels else rng.normal(size=(n, p - 1))
    s = np.exp(0.3 * rng.normal(size=n))
    beta = np.column_stack([rng.uniform(0, 8, GENES), 0.3 * rng.normal(size=(GENES, p - 1))])
    alpha = rng.uniform(0.01, 1.0, GENES)
    counts = np.empty((GENES, n), dtype=np.int32)
    for start in range(0, GENES, 1000):
        rows = slice(start, start + 1000)
        mu = np.exp(beta[rows] @ X.T) * s
        counts[rows] = rng.poisson(np.minimum(mu * rng.gamma(1 / alpha[rows, None], alpha[rows, None], mu.shape), 1e8))
    samples = Samples(X, counts.T, s, alpha)
    samples = Samples(X, counts.T, s, alpha, nll_constants(samples))
    return samples, beta + 0.01


def in_turns(
    candidates: dict[str, Callable[[], object]],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Least seconds of each, of the processor unless another clock is given, interleaved so that all see one machine.

    Each has run once before it is measured: what is compiled, loaded or paged in then is no round's cost.
    """
    best = dict.fromkeys(candidates, np.inf)
    for run in candidates.values():
        run()
    for _ in range(rounds):
        for name, run in candidates.items():
            start = clock()
            run()
            best[name] = min(best[name], clock() - start)
    return best


def report(title: str, seconds: dict[str, float], benchmark: object, unit: str = "ms CPU") -> None:
    baseline = next(iter(seconds))
    ratios = {name: seconds[baseline] / value for name, value in seconds.items()}
    print(f"\n{title}")
    for name, ratio in ratios.items():
        print(f"  {name:<28} {1e3 * seconds[name]:9.2f} {unit} {ratio:7.1f}x")
    benchmark.extra_info.update({name: round(ratio, 2) for name, ratio in ratios.items()})


@pytest.mark.parametrize(("n", "p", "levels"), CASES)
def test_one_round_of_sums(n, p, levels, benchmark):
    warm_up()
    samples, beta = make(n, p, levels=levels)
    fused, plain = Choice("fused"), Choice("numpy")
    few = replace(samples, moments=level_moments(samples))
    candidates = {
        "published form": lambda: published_form(samples, beta, 0.5),
        "numpy kernel": lambda: summands(samples, beta, 0.5, choice=plain),
        "fused kernel": lambda: summands(samples, beta, 0.5, choice=fused),
        "fused kernel, by nodes": lambda: summands(few, beta, 0.5, choice=fused),
    }
    if few.moments is None:
        del candidates["fused kernel, by nodes"]
    seconds = in_turns(candidates)
    design = "few distinct rows" if levels else "all rows distinct"
    report(f"{GENES} genes, n = {n}, p = {p}, {design}", seconds, benchmark)
    benchmark.pedantic(summands, (samples, beta, 0.5), {"choice": fused}, rounds=2)


@pytest.mark.parametrize(("n", "genes"), [(50, 20_000), (100, 20_000), (300, 8000), (1000, 3000), (5000, 4000)])
def test_nodes_in_place_of_samples(n, genes, benchmark):
    """Two groups, no mean clamped: a round, and what nodes cost once."""
    warm_up()
    rng = np.random.default_rng(n)
    X, s = np.column_stack([np.ones(n), np.arange(n) % 2.0]), np.exp(0.3 * rng.normal(size=n))
    beta = np.column_stack([rng.uniform(3.0, 8.0, genes), 0.3 * rng.normal(size=genes)])
    counts = rng.poisson(np.exp(beta @ X.T) * s * rng.gamma(2.0, 0.5, (genes, n))).astype(np.int32)
    samples = Samples(X, counts.T, s, rng.uniform(0.01, 1.0, genes))
    samples = replace(samples, nll_constants=nll_constants(samples))
    few = replace(samples, moments=level_moments(samples))
    candidates = {
        "a round over samples": lambda: summands(samples, beta, 0.5),
        "a round over nodes": lambda: summands(few, beta, 0.5),
        "their weights, once": lambda: level_moments(samples),
        "constants, once": lambda: nll_constants(samples),
    }
    nodes = "none" if few.moments is None else few.moments.nodes.size
    report(f"{genes} genes, n = {n}, two rows, {nodes} nodes", in_turns(candidates), benchmark)
    benchmark.pedantic(summands, (few, beta, 0.5), rounds=2)


def test_large_counts(benchmark):
    """Genes with a count above 131,072, whose plain likelihood would cancel, against genes without."""
    warm_up()
    rng = np.random.default_rng(0)
    n, genes = 300, 2000
    s, base = np.exp(0.3 * rng.normal(size=n)), rng.uniform(7.0, 8.0, genes)
    counts = rng.poisson(np.exp(base)[:, None] * s * rng.gamma(2.0, 0.5, (genes, n))).astype(np.int32)
    plain = Samples(np.ones((n, 1)), counts.T, s, rng.uniform(0.01, 1.0, genes))
    large = replace(plain, counts=np.where(np.arange(n)[:, None] == 0, 1 << 20, plain.counts))
    plain, large = (replace(one, nll_constants=nll_constants(one)) for one in (plain, large))

    def over(samples: Samples, kernel: str = "fused") -> Callable[[], object]:
        return lambda: summands(samples, base[:, None], 0.5, choice=Choice(kernel))

    candidates = {"plain": over(plain), "large": over(large), "plain, numpy": over(plain, "numpy")}
    report("a round, n = 300", in_turns({**candidates, "large, numpy": over(large, "numpy")}), benchmark)
    benchmark.pedantic(over(large), rounds=2)


@pytest.mark.parametrize("p", [2, 5, 8])
def test_solve_of_all_genes(p, benchmark):
    rng = np.random.default_rng(p)
    root = rng.normal(size=(GENES, p, 2 * p))
    full = root @ root.swapaxes(1, 2)
    right = rng.normal(size=(GENES, p))
    upper = pack(full)
    ridge = 1e-6 * np.eye(p)
    seconds = in_turns(
        {
            "np.linalg.solve, stacked": lambda: np.linalg.solve(unpack(upper) + ridge, right[..., None])[..., 0],
            "the same, matrices unpacked": lambda: np.linalg.solve(full + ridge, right[..., None])[..., 0],
            "vectorised elimination": lambda: solve(upper, right, 1e-6),
        },
        rounds=30,
    )
    report(f"{GENES} systems of {p} unknowns", seconds, benchmark)
    benchmark.pedantic(solve, (upper, right, 1e-6), rounds=3)


@pytest.mark.parametrize("kernel", ["fused", "numpy"])
def test_threads(kernel, benchmark):
    """By the clock on the wall, where a gain needs a core that is free, and in CPU seconds, which should not grow."""
    warm_up()
    samples, beta = make(1000, 2, levels=False)

    def on(n_jobs: int) -> Callable[[], object]:
        return lambda: summands(samples, beta, 0.5, choice=Choice(kernel, n_jobs))

    threads = {"one thread": on(1), "two threads": on(2)}
    report(f"{kernel} kernel, n = 1000, p = 2", in_turns(threads, 15, time.perf_counter), benchmark, "ms on the wall")
    report("the same", in_turns(threads, 15), benchmark)
    benchmark.pedantic(on(2), rounds=3)


@pytest.mark.parametrize("kernel", ["fused", "numpy"])
def test_memory_of_one_round_at_a_large_site(kernel, benchmark):
    samples, beta = make(2000, 2, levels=False)
    held = samples.counts.nbytes
    tracemalloc.start()
    benchmark.pedantic(summands, (samples, beta, 0.5), {"choice": Choice(kernel)}, rounds=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"\n{kernel}: counts {held / 2**20:.0f} MiB, one round needs {peak / 2**20:.1f} MiB more;", end=" ")
    print(f"the process never held more than {process / 2**20:.0f} MiB")
    benchmark.extra_info.update({"counts MiB": held / 2**20, "more MiB": peak / 2**20, "process MiB": process / 2**20})
