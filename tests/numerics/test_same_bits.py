"""What follows from opened sums has the same bits on another processor: one without wide vectors and fused operations.

A second Python is told that the machine is the plainest of its kind, for the compiler and for NumPy, and repeats
everything from the sites' sums to final dispersions.
"""

import os
import subprocess
import sys

PROGRAM = """
import hashlib
import numpy as np
from secirls.algorithms.dispersion.shrunken_dispersions import trend_and_prior
from secirls.numerics import kernels
from secirls.numerics.dispersion.interpolant import interpolate
from secirls.numerics.dispersion.local_trend import local_trend
from secirls.numerics.dispersion.nodes import nodes_for
from secirls.numerics.dispersion.optimum import maximise
from secirls.numerics.dispersion.path import outliers, walk_gene_wise, walk_map
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.distinct_products import Products
from secirls.numerics.samples import Samples

n, genes = 9, 300
i, g = np.arange(n), np.arange(genes)
X = np.column_stack([np.ones(n), i % 2, i % 3 == 0])
s = 1.0 + (i % 4) / 8.0
counts = ((7919 * (i[:, None] + 1) * (g + 1)) % (3 + (g * g) % 997)).astype(np.int32)
z = counts / s[:, None]
mean = np.array([sum(z[:, k].tolist()) / n for k in g])
variance = np.array([sum(((z[:, k] - mean[k]) ** 2).tolist()) / (n - 1) for k in g])
b = np.column_stack([mean + 0.25, 0.125 * mean, -0.0625 * mean])
places, products = nodes_for(mean, variance, n, 10.0), Products.full(3)
sums = profile_sums(Samples(X, counts, s), b, places, products, linear=True, min_mu=0.5)
profiles = interpolate(*sums, places, products)
start = np.clip((variance - mean) / (mean * mean + 1e-3), 1e-8, 10.0)
walked = walk_gene_wise(profiles, start, 10.0)
parts = [*sums, profiles.coefficients, walked.dispersions, walked.iterations.astype(float), maximise(profiles, 10.0)]
for degrees in (3, 9):
    towards = trend_and_prior(mean + 0.01, walked.dispersions, 3 + degrees, 3)
    trend = towards.trend.at(mean + 0.01)
    last = walk_map(profiles, walked.dispersions, trend, towards.prior_variance, 10.0)
    parts += [trend, [towards.log_variance, towards.prior_variance], last.dispersions]
    parts.append(outliers(walked.dispersions, trend, towards.log_variance).astype(float))
some = walked.dispersions > 1e-6
parts.append(local_trend(mean[some], walked.dispersions[some]).at(mean + 0.01))
site = Samples(X, counts, s, np.full(genes, 0.25))
parts.append(kernels.summands(site, np.log1p(mean)[:, None] * np.array([1.0, 0.1, -0.1]), 0.5).nll)
print(*(hashlib.sha256(np.asarray(part, dtype="<f8").tobytes()).hexdigest()[:12] for part in parts))
"""


def told(**settings):
    """What the program prints under these settings of the environment."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env={**os.environ, **settings}
    )
    return run.stdout.split()


def test_a_plainer_processor_gives_the_same_bits():
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    wide = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    *here, fused_here = told()
    *plain, fused_plain = told(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="", NPY_DISABLE_CPU_FEATURES=wide)
    assert len(here) == 16
    assert here == plain
    if __cpu_features__.get("FMA3"):  # the test sees fused operations where there are any: IRLS sums inside a site
        assert fused_here != fused_plain
