"""The sums of one IRLS round inside a site: X'WX, X'Wz and the negative log-likelihood, gene by gene.

Promises: a gene's sums are the same bits whichever genes are beside it, in whatever block, on however
many threads; nothing overflows for any finite beta. Two kernels compute the same formulas: ``fused`` (compiled,
the default) and ``numpy`` (plain blocked arrays, the reference the other is held to).
Refuses to know: queries, rounds, who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from joblib import Parallel, delayed

from secirls import likelihood
from secirls.likelihood import LARGEST_LOG_MU, SMALLEST_LOG_MU
from secirls.samples import Counts, Floats, Samples

KernelName: TypeAlias = Literal["fused", "numpy"]
RightSide: TypeAlias = Literal["xtwz", "score"]

LARGEST_PLAIN_COUNT = 1 << 17
"""Genes with a larger count have their likelihood summed by `likelihood.nll`, which does not cancel."""
LARGEST_PLAIN_ETA = 40.0
"""The same for genes with a linear predictor of larger magnitude."""

_BLOCK_VALUES = 1 << 15
"""Counts whose intermediate arrays fit into the processor's cache: a block of the plain kernel."""
_CALL_VALUES = 1 << 20
"""Counts of one call of the fused kernel, which has no intermediate arrays: enough to forget the call."""


class Sums(NamedTuple):
    """One site's sums, by gene."""

    xtwx: Floats
    """Upper triangles of X'WX, ``(genes, params (params + 1) / 2)``."""
    right: Floats
    """X'Wz, or the score of the clamped likelihood, ``(genes, params)``."""
    nll: Floats
    """Negative log-likelihood, ``(genes,)``."""


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


_chosen = Choice()


def chosen() -> Choice:
    """The kernel of this process."""
    return _chosen


def choose(kernel: KernelName = "fused", n_jobs: int = 1) -> None:
    """Choose the kernel of this process. Raises `ValueError` for one that is not there."""
    global _chosen  # noqa: PLW0603 - a property of the process, like the number of BLAS threads
    _chosen = Choice(kernel, n_jobs)


@contextmanager
def using(kernel: KernelName = "fused", n_jobs: int = 1) -> Iterator[None]:
    """Choose a kernel for the length of a ``with`` block."""
    before = _chosen
    choose(kernel, n_jobs)
    try:
        yield
    finally:
        choose(before.kernel, before.n_jobs)


def warm_up() -> None:
    """Compile the fused kernels, or load them from the cache: seconds the first time on a machine, then instant."""
    samples = Samples(
        design=np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.5]]),
        counts=np.array([[1], [2], [3], [4]], dtype=np.int32),
        size_factors=np.ones(4),
        dispersions=np.ones(1),
    )
    for rows in (samples, replace(samples, design=samples.design.round())):
        summands(rows, np.zeros((1, 2)), 0.5, choice=Choice("fused"))


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
        The kernel; the process's own if not given.
    """
    if samples.size_factors is None or samples.dispersions is None:
        raise ValueError("sums need size factors and dispersions: ask for them first")
    if beta.shape != (samples.n_genes, samples.n_params):
        raise ValueError(f"beta {beta.shape} does not fit {samples.n_genes} genes and {samples.n_params} params")
    choice = _chosen if choice is None else choice
    constants = nll_constants(samples, choice=choice) if samples.nll_constants is None else samples.nll_constants
    task = Task.of(samples, beta, min_mu, score=right == "score")
    if choice.kernel == "fused":
        from secirls import fused_kernel

        sums, extreme = _in_blocks(fused_kernel.prepare(task), task, choice.n_jobs, _CALL_VALUES)
    else:
        sums, extreme = _in_blocks(_numpy_block, task, choice.n_jobs, _BLOCK_VALUES)
    nll = sums.nll + constants
    if extreme.any():
        nll[extreme] = _careful_nll(task.take(extreme))
    return sums._replace(nll=nll)


def nll_constants(samples: Samples, *, choice: Choice | None = None) -> Floats:
    """The part of each gene's negative log-likelihood that depends on counts and dispersions alone, ``(genes,)``.

    NaN for genes without a dispersion.
    """
    if samples.dispersions is None:
        raise ValueError("the likelihood needs dispersions: ask for them first")
    known = samples.dispersions > 0
    alpha = np.where(known, samples.dispersions, 1.0)
    counts = np.ascontiguousarray(samples.counts.T)
    if (choice or _chosen).kernel == "fused":
        from secirls import fused_kernel

        sums = fused_kernel.nll_constants(counts, alpha)
    else:
        sums = np.empty(counts.shape[0])
        for block in _blocks(*counts.shape):
            sums[block] = likelihood.constants(counts[block].astype(np.float64), alpha[block, None]).sum(axis=1)
    return np.where(known, sums, np.nan)


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


@dataclass(frozen=True)
class Task:
    """What a kernel works on: plain contiguous arrays, genes first."""

    counts: Counts
    """y, ``(genes, samples)``."""
    beta: Floats
    """``(genes, params)``."""
    alpha: Floats
    """``(genes,)``."""
    design: Floats
    """X, ``(samples, params)``."""
    log_s: Floats
    """``(samples,)``."""
    log_min_mu: float
    """Log means are clamped below at this."""
    score: bool
    """Whether the right-hand side is the score."""

    @classmethod
    def of(cls, samples: Samples, beta: Floats, min_mu: float, *, score: bool) -> Task:
        """The task of one call of `summands`."""
        log_s = np.log(np.ascontiguousarray(samples.size_factors, dtype=np.float64))
        log_min_mu = max(float(np.log(min_mu)), SMALLEST_LOG_MU) if min_mu > 0 else SMALLEST_LOG_MU
        return cls(
            counts=np.ascontiguousarray(samples.counts.T),
            beta=np.ascontiguousarray(beta, dtype=np.float64),
            alpha=np.ascontiguousarray(samples.dispersions, dtype=np.float64),
            design=np.ascontiguousarray(samples.design, dtype=np.float64),
            log_s=log_s,
            log_min_mu=log_min_mu,
            score=score,
        )

    def take(self, genes: slice | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Task:
        """The same task for some of its genes."""
        return replace(self, counts=self.counts[genes], beta=self.beta[genes], alpha=self.alpha[genes])


Extreme: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
Kernel: TypeAlias = Callable[[Task], tuple[Sums, Extreme]]


def _blocks(genes: int, samples: int, values: int = _BLOCK_VALUES) -> Iterator[slice]:
    """Slices over genes, each of about so many counts."""
    size = max(1, values // max(samples, 1))
    for start in range(0, genes, size):
        yield slice(start, min(start + size, genes))


def _in_blocks(kernel: Kernel, task: Task, n_jobs: int, values: int) -> tuple[Sums, Extreme]:
    """Run a kernel over blocks of genes, on threads if asked, and put the answers into one piece."""
    genes, params = task.beta.shape
    sums = Sums(np.empty((genes, params * (params + 1) // 2)), np.empty((genes, params)), np.empty(genes))
    extreme = np.zeros(genes, dtype=bool)

    def run(block: slice) -> None:
        part, extreme[block] = kernel(task.take(block))
        for whole, piece in zip(sums, part, strict=True):
            whole[block] = piece

    samples = task.counts.shape[1]
    blocks = list(_blocks(genes, samples, values))
    if n_jobs == 1 or len(blocks) == 1:
        for block in blocks:
            run(block)
    else:
        Parallel(n_jobs=n_jobs, backend="threading")(delayed(run)(block) for block in blocks)
    return sums, extreme


def _numpy_block(task: Task) -> tuple[Sums, Extreme]:
    """The reference kernel: the formulas of `summands`, line by line.

    The products with the design are one matrix product per gene, so that a gene's bits do not
    depend on how many others are in its block.
    """
    y = task.counts.astype(np.float64)
    alpha = task.alpha[:, None]
    eta = _per_gene_product(task.beta, np.ascontiguousarray(task.design.T))
    low = task.log_min_mu - task.log_s
    z = np.maximum(eta, low)  # log(mu / s): eta itself, unless clamped
    log_mu = z + task.log_s
    mu = np.exp(np.minimum(log_mu, LARGEST_LOG_MU))
    alpha_mu = alpha * mu
    growth = 1.0 + alpha_mu
    w = mu / growth
    pull = (y - mu) / growth
    right = np.where(eta > low, pull, 0.0) if task.score else w * z + pull
    # log1p(alpha mu) from np.log, which is vectorised as np.log1p is not, and what 1 + alpha mu rounded away
    log_growth = np.log(growth) + (alpha_mu - (growth - 1.0)) / growth
    nll = (y + 1.0 / alpha) * log_growth - y * log_mu
    extreme = (task.counts.max(axis=1, initial=0) > LARGEST_PLAIN_COUNT) | (
        np.abs(eta).max(axis=1, initial=0.0) > LARGEST_PLAIN_ETA
    )
    xtwx = _per_gene_product(w, upper_products(task.design))
    return Sums(xtwx, _per_gene_product(right, task.design), nll.sum(axis=1)), extreme


def _per_gene_product(rows: Floats, matrix: Floats) -> Floats:
    """``rows @ matrix``, each row by itself."""
    product: Floats = np.matmul(rows[:, None, :], matrix)[:, 0, :]
    return product


def _careful_nll(task: Task) -> Floats:
    """Negative log-likelihood of the few genes whose plain sum would cancel."""
    nll = np.empty(task.alpha.size)
    for block in _blocks(*task.counts.shape):
        part = task.take(block)
        nll[block] = likelihood.nll(part.counts.astype(np.float64), _log_mu(part), part.alpha[:, None]).sum(axis=1)
    return nll


def _log_mu(task: Task) -> Floats:
    """Clamped log means, ``(genes, samples)``."""
    eta = _per_gene_product(task.beta, np.ascontiguousarray(task.design.T))
    log_mu: Floats = np.maximum(eta, task.log_min_mu - task.log_s) + task.log_s
    return log_mu
