"""A site's part of profiles of dispersions where it has columns of its own: their determinant stays at home.

Promises: with S and D as in `elimination`, ``log det X'WX`` over all sites is ``log det`` of the sum of S plus the sum
of ``log det D``, so a site takes half of its own from its log-likelihood and sends S alone. Refuses to know: queries.
"""

from __future__ import annotations

import numpy as np

from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.solve import pack, packed_size, unpack
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.dispersion.curvature import CurvatureSums, curvature_sums
from secirls.numerics.dispersion.nodes import Nodes, offsets
from secirls.numerics.dispersion.sums import ProfileSums, profile_sums
from secirls.numerics.held.samples import Samples
from secirls.numerics.own.coefficients import finite, joint_coefficients, linear_coefficients
from secirls.numerics.own.elimination import eliminate

_BLOCK_VALUES = 1 << 20
"""Entries of matrices at nodes that a block of genes has."""


def own_profile_sums(
    samples: Samples, coefficients: Floats, nodes: Nodes, steps: Floats, *, linear: bool, min_mu: float
) -> ProfileSums:
    """As `profile_sums` over `Samples.joint`, with own columns taken out; every product of the table's columns.

    ``steps`` are those of `own_at`, ``(genes,)``, where means are not linear. NaN for genes without own coefficients.
    """
    shared, k = samples.n_params, samples.own_size
    joint, (at, known) = samples.joint, _means_at(samples, coefficients, steps, linear=linear)
    starts, det_starts = offsets(nodes.nodes), offsets(nodes.det_nodes)
    products = Products.among(np.unique(joint.design, axis=0))
    found = ProfileSums(
        np.empty(starts[-1]), np.empty((det_starts[-1], packed_size(shared))), np.empty(samples.n_genes)
    )
    most = int(nodes.det_nodes.max(initial=1)) * packed_size(shared + k)
    size = max(1, _BLOCK_VALUES // most)
    for first in range(0, samples.n_genes, size):
        genes = np.arange(first, min(first + size, samples.n_genes))
        here = nodes.take(genes)
        loglik, xwx, constant = profile_sums(joint.at(genes), at[genes], here, products, linear=linear, min_mu=min_mu)
        left = eliminate(products.packed(xwx), np.zeros((xwx.shape[0], shared + k)), k)
        alpha = here.det_dispersions
        log_det = left.log_det - k * np.log1p(alpha)
        loglik = loglik - 0.5 * _at_nodes(log_det, here)
        loglik[np.repeat(~known[genes], here.nodes)] = np.nan
        found.loglik[starts[first] : starts[genes[-1] + 1]] = loglik
        found.xwx[det_starts[first] : det_starts[genes[-1] + 1]] = left.upper
        found.constant[genes] = constant
    return found


def own_curvature_sums(
    samples: Samples, coefficients: Floats, alpha: Floats, steps: Floats, *, linear: bool, min_mu: float
) -> CurvatureSums:
    """As `curvature_sums` over `Samples.joint`, with own columns taken out; every product of the table's columns.

    With M = X'WX and its derivatives M', M'' in log alpha: S' and S'' are those of ``A - B' inv(D) B``, and what
    log det D adds to the adjusted likelihood is added here.
    """
    shared, k = samples.n_params, samples.own_size
    joint, (at, known) = samples.joint, _means_at(samples, coefficients, steps, linear=linear)
    products = Products.among(np.unique(joint.design, axis=0))
    derivatives, powers = curvature_sums(joint, at, alpha, products, linear=linear, min_mu=min_mu)
    derivatives = np.where(known[:, None], derivatives, np.nan)
    out = np.empty((alpha.size, 3, packed_size(shared)))
    size = max(1, _BLOCK_VALUES // packed_size(shared + k))
    for start in range(0, alpha.size, size):
        block = slice(start, start + size)
        whole, squares, cubes = (unpack(products.packed(powers[block, power])) for power in range(3))
        first, second = -squares, -squares + 2.0 * cubes  # M' and M'', as `adjusted_derivatives` has them
        d, b, a = (slice(0, k), slice(0, k)), (slice(0, k), slice(k, None)), (slice(k, None), slice(k, None))
        u1, u2 = (np.linalg.solve(whole[:, *d], m[:, *d]) for m in (first, second))
        v, v1, v2 = (np.linalg.solve(whole[:, *d], m[:, *b]) for m in (whole, first, second))
        # S = A - B'v; d(inv(D)B) = v1 - u1 v, and once more
        turn = v1 - u1 @ v
        bend = v2 - u2 @ v - 2.0 * u1 @ turn
        left = whole[:, *a] - _t(whole[:, *b]) @ v
        left1 = first[:, *a] - _t(first[:, *b]) @ v - _t(whole[:, *b]) @ turn
        left2 = second[:, *a] - _t(second[:, *b]) @ v - 2.0 * _t(first[:, *b]) @ turn - _t(whole[:, *b]) @ bend
        out[block, 0], out[block, 1] = pack(left), pack(-left1)
        out[block, 2] = pack(0.5 * (left2 - left1))
        traces = np.trace(u1, axis1=1, axis2=2)
        derivatives[block, 0] -= 0.5 * traces
        derivatives[block, 1] -= 0.5 * (np.trace(u2, axis1=1, axis2=2) - (u1 * u1.swapaxes(1, 2)).sum(axis=(1, 2)))
    return CurvatureSums(derivatives, out)


def _means_at(samples: Samples, coefficients: Floats, steps: Floats, *, linear: bool) -> tuple[Floats, Mask]:
    """The coefficients that means follow from, for `Samples.joint`, and which genes have them."""
    return finite(
        linear_coefficients(samples, coefficients) if linear else joint_coefficients(samples, coefficients, steps)
    )


def _at_nodes(log_det: Floats, nodes: Nodes) -> Floats:
    """Log determinants at the nodes of the likelihood, from those at their own: by the series through them."""
    counts, det_counts = nodes.nodes, nodes.det_nodes
    starts, det_starts = offsets(counts), offsets(det_counts)
    out = np.empty(starts[-1])
    for n, m in np.unique(np.stack([counts, det_counts]), axis=1).T:
        degrees = np.arange(m)
        transform = np.cos(np.pi / m * np.outer(degrees + 0.5, degrees)) * np.where(degrees == 0, 1.0, 2.0) / m
        values = np.cos(np.pi / n * np.outer(degrees, np.arange(n) + 0.5))
        matrix = transform @ values
        for gene in np.flatnonzero((counts == n) & (det_counts == m)):
            out[starts[gene] : starts[gene + 1]] = log_det[det_starts[gene] : det_starts[gene + 1]] @ matrix
    return out


def _t(matrices: Floats) -> Floats:
    turned: Floats = matrices.swapaxes(1, 2)
    return turned
