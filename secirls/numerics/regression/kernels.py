"""The sums of one IRLS round inside a site: X'WX, X'Wz and the negative log-likelihood, gene by gene.

Promises: a gene's sums are the same bits whichever genes are beside it, in whatever block, on however
many threads; nothing overflows for any finite beta. Two kernels compute the same formulas: ``fused`` (compiled,
the default) and ``numpy`` (plain blocked arrays, the reference the other is held to).
Refuses to know: queries, rounds, who asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal, TypeAlias

import numpy as np

from secirls.numerics.arrays import Floats
from secirls.numerics.held.held_counts import in_blocks
from secirls.numerics.held.level_nodes import LevelMoments, LevelNodes
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood
from secirls.numerics.regression.kernel_task import LARGEST_PLAIN_COUNT, LARGEST_PLAIN_ETA, Extreme, Kernel, Sums, Task
from secirls.numerics.regression.likelihood import LARGEST_LOG_MU

KernelName: TypeAlias = Literal["fused", "numpy"]
RightSide: TypeAlias = Literal["xtwz", "score"]

_SMALLEST_PLAIN_GROWTH = 1 / 16
"""Genes whose alpha mu is smaller at some sample have their log(1 + alpha mu) corrected for its rounding."""

_BLOCK_VALUES = 1 << 16
"""Counts whose intermediate arrays fit into the processor's cache: a block of the plain kernel."""
_TILE = 16
"""Genes of one matrix product of the plain kernel."""
_LONGEST_TILE = 1 << 12
"""Samples beyond which filling up a tile would cost more than it gains."""
_CALL_VALUES = 1 << 20
"""Counts of one call of the fused kernel, which has no intermediate arrays: enough to forget the call."""


@dataclass(frozen=True)
class Choice:
    """Which kernel a site uses, on how many threads. It changes speed alone."""

    kernel: KernelName = "fused"
    n_jobs: int = 1

    def __post_init__(self) -> None:
        if self.kernel not in ("fused", "numpy"):
            raise ValueError(f"a kernel is 'fused' or 'numpy', not {self.kernel!r}")
        if self.n_jobs < 1:
            raise ValueError(f"n_jobs is 1 or more, not {self.n_jobs}")


_chosen: ContextVar[Choice] = ContextVar("chosen", default=Choice())  # noqa: B039 - it is frozen


def chosen() -> Choice:
    """The kernel of this thread."""
    return _chosen.get()


def choose(kernel: KernelName = "fused", n_jobs: int = 1) -> None:
    """Choose the kernel of this thread. Raises `ValueError` for one that is not there."""
    _chosen.set(Choice(kernel, n_jobs))


@contextmanager
def using(kernel: KernelName = "fused", n_jobs: int = 1) -> Iterator[None]:
    """Choose a kernel for the length of a ``with`` block."""
    before = chosen()
    choose(kernel, n_jobs)
    try:
        yield
    finally:
        _chosen.set(before)


@cache
def warm_up() -> None:
    """Compile the fused kernels, or load them from the cache: seconds the first time on a machine, then instant."""
    samples = Samples(
        design=np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]),
        counts=np.array([[1], [2], [3], [4]], dtype=np.int32),
        size_factors=np.ones(4),
        dispersions=np.ones(1),
    )
    many = Samples(np.ones((16, 2)), np.ones((16, 1), dtype=np.int32), np.ones(16), np.ones(1))
    by_nodes = replace(many, moments=level_moments(many, choice=Choice("fused")))
    large = replace(samples, counts=np.full((4, 1), LARGEST_PLAIN_COUNT + 1, dtype=np.int32))
    for rows in (samples, many, by_nodes, large):  # rows distinct, all one, nodes for samples, whole likelihoods
        summands(rows, np.zeros((1, 2)), 0.5, choice=Choice("fused"))


def are_kept() -> bool:
    """Whether the fused kernels were compiled before, and need only be loaded."""
    from protocols.primitives.compiling import is_kept
    from secirls.numerics.regression import nodes_kernel

    return is_kept(nodes_kernel.by_nodes)


def summands(
    samples: Samples, beta: Floats, min_mu: float, *, right: RightSide = "xtwz", choice: Choice | None = None
) -> Sums:
    """The sums of one site over its samples, at the given coefficients.

    With eta = X beta, log mu = max(eta + log s, log min_mu), w = mu / (1 + alpha mu):
    xtwx = X'WX; xtwz = X'Wz with z = log(mu / s) + (y - mu) / mu (Love, Huber and Anders 2014, IRLS);
    score = sum of x (y - mu) / (1 + alpha mu) over the samples whose mean is not clamped.

    Parameters
    ----------
    samples
        With size factors and dispersions; genes in the order of `beta`.
    beta
        Natural-log coefficients, ``(genes, params)``.
    min_mu
        Means are clamped below at this; 0 for none.
    right
        Which right-hand side to sum.
    choice
        The kernel; the thread's own if not given.
    """
    if samples.size_factors is None or samples.dispersions is None:
        raise ValueError("sums need size factors and dispersions: ask for them first")
    if beta.shape != (samples.n_genes, samples.n_params):
        raise ValueError(f"beta {beta.shape} does not fit {samples.n_genes} genes and {samples.n_params} params")
    choice = _chosen.get() if choice is None else choice
    constants = nll_constants(samples, choice=choice) if samples.nll_constants is None else samples.nll_constants
    task = Task.of(samples, beta, min_mu, score=right == "score")
    if choice.kernel == "fused":
        from secirls.numerics.regression import fused_kernel

        sums, extreme = _in_blocks(fused_kernel.prepare(task), task, choice.n_jobs, _CALL_VALUES)
    else:
        task = replace(task, moments=None)
        sums, extreme = _in_blocks(_plain(task), task, choice.n_jobs, _BLOCK_VALUES)
    nll = sums.nll + constants
    if extreme.any():
        nll[extreme] = _careful_nll(task.take(extreme), choice.kernel)
    return sums._replace(nll=nll)


def nll_constants(samples: Samples, *, choice: Choice | None = None) -> Floats:
    """The part of each gene's negative log-likelihood that depends on counts and dispersions alone, ``(genes,)``.

    NaN for genes without a dispersion.
    """
    if samples.dispersions is None:
        raise ValueError("the likelihood needs dispersions: ask for them first")
    known = samples.dispersions > 0
    alpha = np.where(known, samples.dispersions, 1.0)
    fused, sums = (choice or chosen()).kernel == "fused", np.empty(samples.n_genes)
    for block, counts in in_blocks(samples.counts, _CALL_VALUES if fused else _BLOCK_VALUES):
        if fused:
            from secirls.numerics.regression import likelihood_kernel

            sums[block] = likelihood_kernel.nll_constants(counts, alpha[block])
        else:
            sums[block] = likelihood.constants(counts.astype(np.float64), alpha[block, None]).sum(axis=1)
    return np.where(known, sums, np.nan)


def level_moments(samples: Samples, *, choice: Choice | None = None) -> LevelMoments | None:
    """What stands for the counts where many samples share a design row; none where that saves the kernel no time."""
    if samples.size_factors is None or (choice or chosen()).kernel != "fused":
        return None
    nodes = LevelNodes.of(samples.joint.design, samples.size_factors)
    return None if nodes is None else LevelMoments.of(samples.counts, nodes)


def clamped_log_mu(samples: Samples, beta: Floats, min_mu: float) -> Floats:
    """Log mu of every count as the fit sees it, ``(genes, samples)``."""
    task = Task.of(samples, beta, min_mu, score=False)
    return _log_mu(task)


def log_moments(samples: Samples) -> Floats:
    """X' log(y / s + 0.1) of each gene, ``(genes, params)``; each gene by itself."""
    if samples.size_factors is None:
        raise ValueError("log counts need size factors: ask for them first")
    counts = samples.counts.T
    design = np.ascontiguousarray(samples.design)
    sums = np.empty((counts.shape[0], samples.n_params))
    for block in _blocks(*counts.shape):
        sums[block] = _per_gene_product(np.log(counts[block] / samples.size_factors + 0.1), design)
    return sums


def upper_products(design: Floats) -> Floats:
    """Products of design columns i <= j, row by row of the upper triangle: ``(samples, params (params + 1) / 2)``."""
    rows, columns = np.triu_indices(design.shape[1])
    return np.ascontiguousarray(design[:, rows] * design[:, columns])


def _blocks(genes: int, samples: int, values: int = _BLOCK_VALUES) -> Iterator[slice]:
    """Slices over genes, each of about so many counts."""
    size = max(1, values // max(samples, 1))
    size -= size % _TILE if size > _TILE else 0
    for start in range(0, genes, size):
        yield slice(start, min(start + size, genes))


def _in_blocks(kernel: Kernel, task: Task, n_jobs: int, values: int) -> tuple[Sums, Extreme]:
    """Run a kernel over blocks of genes, on threads if asked, and put the answers into one piece."""
    genes = task.alpha.size
    per_gene = task.points if n_jobs == 1 else task.rows.shape[1]  # genes left by nodes are to be shared by threads
    blocks = list(_blocks(genes, per_gene, values))
    if len(blocks) == 1:
        return kernel(task)
    sums = Sums.empty(*task.beta.shape)
    extreme = np.zeros(genes, dtype=bool)

    def run(block: slice) -> None:
        part, extreme[block] = kernel(task.take(block))
        for whole, piece in zip(sums, part, strict=True):
            whole[block] = piece

    if n_jobs == 1:
        for block in blocks:
            run(block)
    else:
        with ThreadPoolExecutor(n_jobs) as pool:  # joblib looks for results every 10 ms, a quarter of a round
            for _ in pool.map(run, blocks):
                pass
    return sums, extreme


def _plain(whole: Task) -> Kernel:
    """The reference kernel for one site's design."""
    columns, products = np.ascontiguousarray(whole.design.T), upper_products(whole.design)
    return partial(_plain_sums, columns=columns, products=products)


def _plain_sums(task: Task, columns: Floats, products: Floats) -> tuple[Sums, Extreme]:
    """The reference kernel: the formulas of `summands`, line by line.

    An array that is not needed any more takes the next value, so that a block stays in the cache.
    """
    y = task.counts.astype(np.float64)
    alpha = task.alpha[:, None]
    eta = _per_gene_product(task.beta, columns)
    extreme = (task.counts.max(axis=1, initial=0) > LARGEST_PLAIN_COUNT) | (
        np.maximum(eta.max(axis=1, initial=0.0), -eta.min(axis=1, initial=0.0)) > LARGEST_PLAIN_ETA
    )
    low = task.log_min_mu - task.log_s
    clamped = eta <= low if task.score else None
    z = np.maximum(eta, low, out=eta)  # log(mu / s): eta itself, unless clamped
    log_mu = z + task.log_s
    mu = np.minimum(log_mu, LARGEST_LOG_MU)
    np.exp(mu, out=mu)
    alpha_mu = alpha * mu
    small = np.flatnonzero(alpha_mu.min(axis=1, initial=1.0) < _SMALLEST_PLAIN_GROWTH)
    rounded = alpha_mu[small]
    growth = np.add(alpha_mu, 1.0, out=alpha_mu)
    over = 1.0 / growth
    # log1p(alpha mu) from np.log, which is vectorised as np.log1p is not, and what 1 + alpha mu rounded away
    rounded -= growth[small] - 1.0
    log_growth = np.log(growth, out=growth)
    log_growth[small] += rounded * over[small]
    nll = log_growth.sum(axis=1) / task.alpha + np.vecdot(y, np.subtract(log_growth, log_mu, out=log_mu))
    y -= mu
    pull = np.multiply(y, over, out=y)
    w = np.multiply(mu, over, out=mu)
    if clamped is None:
        z *= w
        pull += z
    else:
        pull[clamped] = 0.0
    return Sums(_per_gene_product(w, products), _per_gene_product(pull, task.design), nll), extreme


def _per_gene_product(rows: Floats, matrix: Floats) -> Floats:
    """``rows @ matrix``, with bits of a row that do not depend on how many others there are.

    A matrix product of another shape may add in another order. So all have one shape, tiles of `_TILE` rows, the last
    of them filled up; and where a library treats the rows of a tile differently, each row goes by itself.
    """
    genes, inner = rows.shape
    outer = matrix.shape[1]
    if inner > _LONGEST_TILE or not _rows_are_alike(inner, outer):
        alone: Floats = np.matmul(rows[:, None, :], matrix)[:, 0, :]
        return alone
    tiles = -(-genes // _TILE)
    if tiles * _TILE != genes:
        rows = np.concatenate([rows, np.zeros((tiles * _TILE - genes, inner))])
    product: Floats = np.matmul(rows.reshape(tiles, _TILE, inner), matrix).reshape(tiles * _TILE, outer)
    return product[:genes]


@cache
def _rows_are_alike(inner: int, outer: int) -> bool:
    """Whether this machine's matrix product of a tile gives the same row the same bits wherever it stands."""
    random = np.random.default_rng(0)
    tile, matrix = np.tile(random.normal(size=inner), (_TILE, 1)), random.normal(size=(inner, outer))
    product = tile @ matrix
    return bool((product == product[0]).all())


def _careful_nll(task: Task, kernel: KernelName) -> Floats:
    """Negative log-likelihood of the few genes whose plain sum would cancel."""
    nll = np.empty(task.alpha.size)
    for block in _blocks(*task.rows.shape):
        part = task.take(block)
        counts, log_mu = part.counts, _log_mu(part)
        calm = np.zeros(part.alpha.size, dtype=np.bool_)
        if kernel == "fused":
            from secirls.numerics.regression import likelihood_kernel

            calm = np.abs(log_mu).max(axis=1, initial=0.0) <= likelihood_kernel.LARGEST_CALM_LOG_MU
            nll[block][calm] = likelihood_kernel.whole_nll(counts[calm], log_mu[calm], part.alpha[calm])
        wild = ~calm
        y = counts[wild].astype(np.float64)
        nll[block][wild] = likelihood.nll(y, log_mu[wild], part.alpha[wild, None]).sum(axis=1)
    return nll


def _log_mu(task: Task) -> Floats:
    """Clamped log means, ``(genes, samples)``."""
    eta = _per_gene_product(task.beta, np.ascontiguousarray(task.design.T))
    log_mu: Floats = np.maximum(eta, task.log_min_mu - task.log_s) + task.log_s
    return log_mu
