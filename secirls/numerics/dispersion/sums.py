"""A site's part of the profile likelihoods: blocks, threads and the choice of kernel around `kernel` and `reference`.

Promises: what is summed does not depend on blocks or threads. Refuses to know: queries, the other sites.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.primitives.compiling import is_kept
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arithmetic import portable
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.dispersion import kernel, reference
from secirls.numerics.dispersion.node_profile import profile_by_nodes
from secirls.numerics.dispersion.nodes import Nodes, node_dispersions, offsets
from secirls.numerics.dispersion.points import places
from secirls.numerics.held.level_nodes import LevelMoments
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import kernels
from secirls.numerics.regression.kernels import Choice
from secirls.numerics.regression.levels import numbered

_CALL_VALUES = 1 << 22
"""Counts times nodes of one call of the fused kernel."""


class ProfileSums(NamedTuple):
    """One site's sums, gene after gene."""

    loglik: Floats
    """Complete log-likelihood at every node, ``(sum of nodes,)``."""
    xwx: Floats
    """The distinct products of (1 + alpha) X'WX at every node of the determinant, ``(sum of det_nodes, q)``.

    W itself falls to 1 / alpha, and few fraction bits would be left of it; (1 + alpha) W lies between 1 and mu.
    """
    constant: Floats
    """Sum of y log mu - log y!, what R leaves out of the log-likelihood, ``(genes,)``."""


def warm_up() -> None:
    """Compile the fused kernel, or load it from the cache: seconds the first time on a machine, then instant."""
    design = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    samples = Samples(design, np.array([[1], [20], [3]], dtype=np.int32), np.ones(3))
    few = np.full(1, 8, dtype=np.intp)
    nodes = Nodes(np.full(1, 100.0), np.full(1, 5.0), few, few)
    every = Products.full(2)
    profile_sums(samples, np.ones((1, 2)), nodes, every, linear=True, min_mu=0.5, choice=Choice("fused"))


def warm_up_nodes() -> None:
    """Compile what larger sites run in its place, whose samples share design rows; small ones never load it."""
    alike = Samples(np.ones((200, 1)), np.ones((200, 1), dtype=np.int32), np.linspace(0.5, 2.0, 200))
    samples = replace(alike, moments=kernels.level_moments(alike, choice=Choice("fused")))
    few = np.full(1, 8, dtype=np.intp)
    nodes = Nodes(np.full(1, 100.0), np.full(1, 5.0), few, few)
    profile_sums(samples, np.ones((1, 1)), nodes, Products.full(1), linear=True, min_mu=0.5, choice=Choice("fused"))


def are_kept() -> bool:
    """Whether the fused kernel was compiled before, and need only be loaded."""
    return is_kept(kernel.profile)


def profile_sums(
    samples: Samples,
    coefficients: Floats,
    nodes: Nodes,
    products: Products,
    *,
    linear: bool,
    min_mu: float,
    choice: Choice | None = None,
) -> ProfileSums:
    """The sums of one site over its samples.

    With mu = max(s X b, min_mu) or max(s exp(X b), min_mu), W = mu / (1 + alpha mu), and at each node's alpha the
    negative-binomial log-likelihood of Love, Huber and Anders (2014, eq. 1) with all its constants.

    Parameters
    ----------
    samples
        With size factors; genes in the order of `coefficients`.
    coefficients
        b, ``(genes, params)``: of y / s itself where `linear`, else natural-log.
    nodes
        Of the same genes.
    products
        Which products of design columns are summed.
    linear
        Whether means are linear in the design.
    min_mu
        Means are clamped below at this, above zero.
    choice
        The kernel; the process's own if not given.
    """
    if samples.size_factors is None:
        raise ValueError("profiles need size factors: ask for them first")
    if coefficients.shape != (samples.n_genes, samples.n_params) or nodes.scale.size != samples.n_genes:
        raise ValueError(f"coefficients {coefficients.shape} or nodes do not fit {samples.n_genes} genes")
    choice = kernels.chosen() if choice is None else choice
    moments = samples.moments
    if choice.kernel == "fused" and moments is not None and moments.nodes.fit(samples.design, samples.size_factors):
        sums, left = _by_nodes(
            samples, moments, coefficients, nodes, products, linear=linear, min_mu=min_mu, choice=choice
        )
        if left.any():
            some = replace(samples.take(left), moments=None)
            rest = profile_sums(
                some, coefficients[left], nodes.take(left), products, linear=linear, min_mu=min_mu, choice=choice
            )
            sums.loglik[np.repeat(left, nodes.nodes)] = rest.loglik
            sums.xwx[np.repeat(left, nodes.det_nodes)] = rest.xwx
            sums.constant[left] = rest.constant
        return sums
    fill = kernel.profile if choice.kernel == "fused" else reference.profile
    alphas = node_dispersions(nodes.scale, nodes.reach, nodes.nodes)
    det_alphas = nodes.det_dispersions
    starts, det_starts = offsets(nodes.nodes), offsets(nodes.det_nodes)
    row, firsts = numbered(samples.design)
    levels, level_of_row = np.unique(products.of(samples.design[firsts]), axis=0, return_inverse=True)
    level = level_of_row.reshape(-1)[row]
    order = np.argsort(level, kind="stable")  # samples of one level together, else as they are
    level = level[order]
    design = np.ascontiguousarray(samples.design[order], dtype=np.float64)
    s = np.ascontiguousarray(samples.size_factors[order], dtype=np.float64)
    counts, b = samples.counts.T, np.ascontiguousarray(coefficients, dtype=np.float64)
    sums = ProfileSums(np.empty(starts[-1]), np.empty((det_starts[-1], levels.shape[1])), np.empty(samples.n_genes))

    def run(block: slice) -> None:
        (inner, at), (det_inner, det_at) = _part(starts, block), _part(det_starts, block)
        fill(
            np.ascontiguousarray(counts[block][:, order]),
            b[block],
            design,
            levels,
            level,
            s,
            min_mu,
            linear,
            alphas[inner],
            at,
            det_alphas[det_inner],
            det_at,
            sums.loglik[inner],
            sums.xwx[det_inner],
            sums.constant[block],
        )

    _in_blocks(run, samples, nodes, choice)
    return sums


def _by_nodes(
    samples: Samples,
    moments: LevelMoments,
    coefficients: Floats,
    nodes: Nodes,
    products: Products,
    *,
    linear: bool,
    min_mu: float,
    choice: Choice,
) -> tuple[ProfileSums, Mask]:
    """The sums over nodes in place of samples, and which genes are left."""
    alphas = node_dispersions(nodes.scale, nodes.reach, nodes.nodes)
    det_alphas = nodes.det_dispersions
    starts, det_starts = offsets(nodes.nodes), offsets(nodes.det_nodes)
    few = moments.nodes
    rows = few.rows(np.asarray(samples.design, dtype=np.float64))
    levels = products.of(rows)
    reach = portable.exps(np.stack([few.lowest, few.highest], axis=1).ravel()).reshape(-1, 2)
    t = portable.logs(few.size_factors)[few.order]
    counts, b = samples.counts.T, np.ascontiguousarray(coefficients, dtype=np.float64)
    sums = ProfileSums(np.empty(starts[-1]), np.empty((det_starts[-1], levels.shape[1])), np.empty(samples.n_genes))
    left = np.zeros(samples.n_genes, dtype=np.bool_)

    def run(block: slice) -> None:
        (inner, at), (det_inner, det_at) = _part(starts, block), _part(det_starts, block)
        profile_by_nodes(
            np.ascontiguousarray(counts[block]),
            few.order,
            t,
            few.starts,
            few.basis,
            few.integrals,
            np.ascontiguousarray(moments.counts[:, block].T),
            np.ascontiguousarray(moments.slopes[:, block].T),
            np.ascontiguousarray(moments.totals[:, block].T),
            np.ascontiguousarray(moments.shifts[:, block].T),
            few.numbers,
            few.slopes,
            few.node_starts,
            few.log_s,
            few.centres,
            reach,
            b[block],
            rows,
            levels,
            min_mu,
            linear,
            *places(),
            alphas[inner],
            at,
            det_alphas[det_inner],
            det_at,
            sums.loglik[inner],
            sums.xwx[det_inner],
            sums.constant[block],
            left[block],
        )

    _in_blocks(run, samples, nodes, choice)
    return sums, left


def _part(starts: NDArray[np.intp], block: slice) -> tuple[slice, NDArray[np.intp]]:
    """Where the nodes of a block of genes stand among all, and where each of its genes begins among these."""
    here = starts[block.start : block.stop + 1]
    return slice(here[0], here[-1]), here - here[0]


def _in_blocks(run: Callable[[slice], None], samples: Samples, nodes: Nodes, choice: Choice) -> None:
    """Over blocks of genes, on threads if asked."""
    most = int(nodes.nodes.max(initial=1)) * max(samples.n_samples, 1)
    size = max(1, _CALL_VALUES // most)
    blocks = [slice(first, min(first + size, samples.n_genes)) for first in range(0, samples.n_genes, size)]
    if choice.n_jobs == 1 or len(blocks) == 1:
        for block in blocks:
            run(block)
    else:
        with ThreadPoolExecutor(choice.n_jobs) as pool:
            for _ in pool.map(run, blocks):
                pass
