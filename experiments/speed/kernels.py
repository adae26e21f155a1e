"""A site's sums over its samples: the kernels, their nodes, and the systems that are solved of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import gammaln

from experiments.groundwork.record import Row
from experiments.speed.turns import Candidates, beside, in_turn
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import pack, solve, unpack
from secirls.numerics.arrays import Floats
from secirls.numerics.dispersion.nodes import nodes_for
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.kernels import Choice, level_moments, nll_constants, summands, warm_up

PUBLISHED, FUSED, NUMPY, NODES = "published form", "fused kernel", "numpy kernel", "fused kernel, by nodes"
LARGE = 1 << 20
"""A count above 131,072, whose plain likelihood would cancel."""


def published_form(samples: Samples, beta: Floats, min_mu: float) -> tuple[Floats, Floats, Floats]:
    """One round of the FedIRLS formulas in batches of 100 genes, every term of the likelihood anew."""
    X, s = samples.design, samples.size_factors
    if s is None or samples.dispersions is None:
        raise ValueError("the published form needs size factors and dispersions")
    xtwx, xtwz, nll = [], [], []
    for start in range(0, samples.n_genes, 100):
        batch = slice(start, start + 100)
        y, alpha = np.asarray(samples.counts)[:, batch].astype(np.float64), samples.dispersions[batch]
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


def counted(genes: int, n: int, p: int, *, levels: bool) -> tuple[Samples, Floats]:
    """So many genes of ``n`` samples, of two levels a column or of rows that all differ, and where a round asks."""
    rng = np.random.default_rng(n + p)
    X = np.ones((n, p))
    X[:, 1:] = rng.integers(0, 2, (n, p - 1)) if levels else rng.normal(size=(n, p - 1))
    s = np.exp(0.3 * rng.normal(size=n))
    beta = np.column_stack([rng.uniform(0, 8, genes), 0.3 * rng.normal(size=(genes, p - 1))])
    alpha = rng.uniform(0.01, 1.0, genes)
    counts = np.empty((genes, n), dtype=np.int32)
    for start in range(0, genes, 1000):
        rows = slice(start, start + 1000)
        mu = np.exp(beta[rows] @ X.T) * s
        counts[rows] = rng.poisson(np.minimum(mu * rng.gamma(1 / alpha[rows, None], alpha[rows, None], mu.shape), 1e8))
    samples = Samples(X, counts.T, s, alpha)
    return replace(samples, nll_constants=nll_constants(samples)), beta + 0.01


def a_round(samples: Samples, beta: Floats) -> Candidates:
    """One round of IRLS by every form; by nodes where they pay."""
    warm_up()
    few = replace(samples, moments=level_moments(samples))
    fused = Choice("fused")
    forms: Candidates = {
        PUBLISHED: lambda: published_form(samples, beta, 0.5),
        NUMPY: lambda: summands(samples, beta, 0.5, choice=Choice("numpy")),
        FUSED: lambda: summands(samples, beta, 0.5, choice=fused),
    }
    by_nodes: Candidates = {NODES: lambda: summands(few, beta, 0.5, choice=fused)}
    return forms if few.moments is None else {**forms, **by_nodes}


def of_a_round(sizes: Any, params: int, repeats: int) -> Iterator[Row]:
    """Against the published form, with all design rows distinct, and with few distinct ones."""
    for levels, kinds in (
        (False, {FUSED: "distinct rows", NUMPY: "distinct rows, NumPy"}),
        (True, {FUSED: "few rows", NODES: "few rows, nodes"}),
    ):
        spent = in_turn(a_round(*counted(sizes["genes"], sizes["samples"], params, levels=levels)), repeats)
        for form, line in kinds.items():
            if form in spent:
                yield from beside(line, params, spent[form], spent[PUBLISHED])


SAMPLES, BY_NODES, WEIGHTS = "over samples", "over nodes", "their weights, once"


def by_nodes(n: int, genes: int) -> tuple[Candidates, Samples]:
    """Two groups, no mean clamped: a round, and what nodes cost once; and the samples with their nodes."""
    warm_up()
    rng = np.random.default_rng(n)
    X, s = np.column_stack([np.ones(n), np.arange(n) % 2.0]), np.exp(0.3 * rng.normal(size=n))
    beta = np.column_stack([rng.uniform(3.0, 8.0, genes), 0.3 * rng.normal(size=genes)])
    counts = rng.poisson(np.exp(beta @ X.T) * s * rng.gamma(2.0, 0.5, (genes, n))).astype(np.int32)
    samples = Samples(X, counts.T, s, rng.uniform(0.01, 1.0, genes))
    samples = replace(samples, nll_constants=nll_constants(samples))
    few = replace(samples, moments=level_moments(samples))
    return {
        SAMPLES: lambda: summands(samples, beta, 0.5),
        BY_NODES: lambda: summands(few, beta, 0.5),
        WEIGHTS: lambda: level_moments(samples),
        "constants, once": lambda: nll_constants(samples),
    }, few


def of_nodes(n: int, genes: int, repeats: int) -> Iterator[Row]:
    """A round over nodes beside one over samples, and their weights in such rounds."""
    spent = in_turn(by_nodes(n, genes)[0], repeats)
    yield from beside("nodes", f"{n:,}", spent[BY_NODES], spent[SAMPLES])
    yield from beside("weights of nodes", f"{n:,}", spent[WEIGHTS], spent[SAMPLES])


def profiled(n: int, p: int, genes: int) -> tuple[Samples, Floats]:
    """Means from 0.4 to 1,000: of few design rows, a quarter of the genes is clamped in part."""
    rng = np.random.default_rng(n + p)
    X = np.ones((n, p))
    X[:, 1:] = rng.integers(0, 2, (n, p - 1))
    s = np.exp(0.3 * rng.normal(size=n))
    b = np.column_stack([rng.uniform(-1, 7, genes), 0.3 * rng.normal(size=(genes, p - 1))])
    alpha = rng.uniform(0.01, 1.0, genes)[:, None]
    mu = np.exp(b @ X.T) * s
    counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(np.int32)
    return Samples(X, counts.T, s), b


def places_of(samples: Samples) -> Any:
    """The dispersions that a first profile asks about."""
    z = np.asarray(samples.counts).T / np.asarray(samples.size_factors)
    n = samples.n_samples
    return nodes_for(z.mean(axis=1), z.var(axis=1, ddof=1), n, max(10.0, n))


def a_profile(n: int, p: int, genes: int) -> Candidates:
    """A profile over samples and over nodes, and the nodes' weights."""
    samples, b = profiled(n, p, genes)
    few = replace(samples, moments=level_moments(samples))
    places, products = places_of(samples), Products.full(p)

    def asked(held: Samples) -> Any:
        return lambda: profile_sums(held, b, places, products, linear=False, min_mu=0.5)

    return {
        SAMPLES: asked(samples),
        BY_NODES: asked(few),
        WEIGHTS: lambda: level_moments(samples),
    }


def of_a_profile(n: int, genes: int, repeats: int) -> Iterator[Row]:
    """Two design rows."""
    spent = in_turn(a_profile(n, 2, genes), repeats)
    yield from beside("profile by nodes", f"{n:,}", spent[BY_NODES], spent[SAMPLES])


def with_large_counts(genes: int, n: int = 300) -> Candidates:
    """A round over genes with and without one large count, by both kernels."""
    warm_up()
    rng = np.random.default_rng(0)
    s, base = np.exp(0.3 * rng.normal(size=n)), rng.uniform(7.0, 8.0, genes)
    counts = rng.poisson(np.exp(base)[:, None] * s * rng.gamma(2.0, 0.5, (genes, n))).astype(np.int32)
    plain = Samples(np.ones((n, 1)), counts.T, s, rng.uniform(0.01, 1.0, genes))
    large = replace(plain, counts=np.where(np.arange(n)[:, None] == 0, LARGE, counts.T))
    plain, large = (replace(one, nll_constants=nll_constants(one)) for one in (plain, large))

    def over(samples: Samples, kernel: str = "fused") -> Any:
        return lambda: summands(samples, base[:, None], 0.5, choice=Choice(kernel))  # type: ignore[arg-type]

    return {
        "plain": over(plain),
        "large": over(large),
        "plain, numpy": over(plain, "numpy"),
        "large, numpy": over(large, "numpy"),
    }


def of_large_counts(genes: int, repeats: int) -> Iterator[Row]:
    """One column, 300 samples."""
    spent = in_turn(with_large_counts(genes), repeats)
    yield from beside("large counts", "", spent["large"], spent["plain"])


STACKED, ELIMINATION = "np.linalg.solve, stacked", "vectorised elimination"


def solving(genes: int, p: int) -> Candidates:
    """A round's systems, as a round leaves them: upper halves, packed."""
    rng = np.random.default_rng(p)
    root = rng.normal(size=(genes, p, 2 * p))
    full = root @ root.swapaxes(1, 2)
    right = rng.normal(size=(genes, p))
    upper, ridge = pack(full), 1e-6 * np.eye(p)
    return {
        STACKED: lambda: np.linalg.solve(unpack(upper) + ridge, right[..., None])[..., 0],
        "the same, matrices unpacked": lambda: np.linalg.solve(full + ridge, right[..., None])[..., 0],
        ELIMINATION: lambda: solve(upper, right, 1e-6),
    }


def of_solving(genes: int, params: int, repeats: int) -> Iterator[Row]:
    """All genes of a round."""
    spent = in_turn(solving(genes, params), repeats, calls=3)
    yield from beside("solving", params, spent[ELIMINATION], spent[STACKED])


def on_threads(samples: Samples, beta: Floats, kernel: str) -> Candidates:
    """A round on one thread and on two."""

    def on(n_jobs: int) -> Any:
        return lambda: summands(samples, beta, 0.5, choice=Choice(kernel, n_jobs))  # type: ignore[arg-type]

    return {"one thread": on(1), "two threads": on(2)}


def of_threads(sizes: Any, repeats: int) -> Iterator[Row]:
    """By the clock on the wall, where a gain needs a core that is free."""
    warm_up()
    spent = in_turn(
        on_threads(*counted(sizes["genes"], sizes["samples"], 2, levels=False), "fused"), repeats, time.perf_counter
    )
    yield from beside("threads", "", spent["two threads"], spent["one thread"])
