"""What follows from opened sums has the same bits on another processor: one without wide vectors and fused operations.

A second Python is told that the machine is the plainest of its kind, for the compiler and for NumPy, and repeats
everything from the sites' sums to final dispersions, and Cook's distances.
"""

import os
import subprocess
import sys

import pytest

TREND = """
import hashlib
import numpy as np
from secirls.numerics.regression import kernels
from secirls.numerics.trend.local_trend import local_trend
from secirls.numerics.held.samples import Samples

n, genes = 9, 300
i, g = np.arange(n), np.arange(genes)
X = np.column_stack([np.ones(n), i % 2, i % 3 == 0])
mean = 1.0 + (7919 * (g + 1)) % (3 + (g * g) % 997)
counts = ((7919 * (i[:, None] + 1) * (g + 1)) % (3 + (g * g) % 997)).astype(np.int32)
site = Samples(X, counts, 1.0 + (i % 4) / 8.0, np.full(genes, 0.25))
trend = local_trend(mean, 0.0625 + 2.0 / mean + (g % 7) / 64.0).at(mean + 0.01)
own = kernels.nll_constants(site)
print(*(hashlib.sha256(np.asarray(part, dtype="<f8").tobytes()).hexdigest()[:12] for part in (trend, own)))
"""

PROGRAM = """
import hashlib
import numpy as np
from secirls.algorithms.dispersion.shrunken_dispersions import trend_and_prior
from secirls.numerics.regression import kernels
from secirls.numerics.dispersion.interpolant import interpolate
from secirls.numerics.trend.local_trend import local_trend
from secirls.numerics.dispersion.nodes import nodes_for
from secirls.numerics.dispersion.optimum import maximise
from secirls.numerics.dispersion.path import outliers, walk_gene_wise, walk_map
from secirls.numerics.dispersion.sums import profile_sums
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.arithmetic.portable import logs
from secirls.numerics.held.samples import Samples
from secirls.numerics.outliers.cooks import Fit, cooks_distances
from secirls.numerics.regression.information import Information
from secirls.numerics.regression.stieltjes import Transforms, spread, transforms

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
parts = [*sums, *profiles.lots, walked.dispersions, walked.iterations.astype(float), maximise(profiles, 10.0)]
cell = np.arange(4)[X[:, 1].astype(int) + 2 * X[:, 2].astype(int)]
rows = np.array([[1.0, 0, 0], [1.0, 1, 0], [1.0, 0, 1], [1.0, 1, 1]])
of_cells = Transforms.of(transforms(s, cell, 4), spread(s, cell, 4))
alphas, three = np.repeat(walked.dispersions, 3) * np.tile([1.0, 3.0, 1e4], genes), np.full(genes, 3)
known, _ = Information(rows, Products.full(3).of(rows), of_cells, ()).at(b, alphas, three, linear=True, min_mu=0.5)
parts += [of_cells.series, known]
for degrees in (3, 9):
    towards = trend_and_prior(mean + 0.01, walked.dispersions, 3 + degrees, 3)
    trend = towards.trend.at(mean + 0.01)
    last = walk_map(profiles, walked.dispersions, trend, towards.prior_variance, 10.0)
    parts += [trend, [towards.log_variance, towards.prior_variance], last.dispersions]
    parts.append(outliers(walked.dispersions, trend, towards.log_variance).astype(float))
some = walked.dispersions > 1e-6
parts.append(local_trend(mean[some], walked.dispersions[some]).at(mean + 0.01))
site = Samples(X, counts, s, np.full(genes, 0.25))
beta = logs(mean + 1.0)[:, None] * np.array([1.0, 0.125, -0.125])
fit = Fit(beta, 0.875 * beta, np.tile([9.0, 4.0, 3.0, 4.0, 1.5, 3.0], (genes, 1)), 1e-6, 0.5)
parts.append(cooks_distances(site, fit, 0.0625 + 1.0 / mean))
parts.append(kernels.summands(site, np.log1p(mean)[:, None] * np.array([1.0, 0.1, -0.1]), 0.5).nll)
print(*(hashlib.sha256(np.asarray(part, dtype="<f8").tobytes()).hexdigest()[:12] for part in parts))
"""


def told(program, **settings):
    """What the program prints under these settings of the environment."""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, **settings}
    )
    return run.stdout.split()


@pytest.mark.parametrize(
    ("program", "parts"),
    [
        pytest.param(TREND, 2, id="local trend"),
        pytest.param(PROGRAM, 20, id="dispersions and distances", marks=pytest.mark.slow),
    ],
)
def test_a_plainer_processor_gives_the_same_bits(program, parts):
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    wide = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    *here, fused_here = told(program)
    *plain, fused_plain = told(program, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="", NPY_DISABLE_CPU_FEATURES=wide)
    assert len(here) == parts - 1
    assert here == plain
    if __cpu_features__.get("FMA3"):  # the test sees fused operations where there are any: in a site's own likelihoods
        assert fused_here != fused_plain


WHOLE_FIT = """
import hashlib
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from secirls.aggregator.annotating import Annotation
from secirls.algorithms.regression import irls
from secirls.algorithms.query import Total
from secirls.algorithms.whole_fit import fit
from secirls.config import Config
from secirls.inputs.designs.design import Design, Variable
from secirls.numerics.arithmetic import portable
from secirls.numerics.algebra import solve
from secirls.numerics.held.samples import Samples
from secirls.outputs.tables import gene_tables
from secirls.outputs.tables.kept_fit import KeptFit
from secirls.outputs.tables.comparison import Comparison
from secirls.outputs.tables.results_table import compare

preset, twin, file = sys.argv[1], sys.argv[2], Path(sys.argv[3])
if twin == "lapack":
    def by_lapack(upper, right, ridge=0.0):
        full = solve.unpack(upper) + ridge * np.eye(right.shape[1])
        return np.linalg.solve(full, right[..., None])[..., 0], np.zeros(len(right), dtype=bool)
    irls.solve = by_lapack
if twin == "log":
    portable.logs, portable.exps = np.log, np.exp

n, genes = 24, 60
i, g = np.arange(n), np.arange(genes)
levels = {"batch": ("a", "b", "c"), "condition": ("no", "yes")}
said = {"all": {name: Variable(numeric=False, levels=values) for name, values in levels.items()}}
design = Design.agree("~ batch + condition", levels, said)
X = np.column_stack([np.ones(n), i % 3 == 1, i % 3 == 2, i // 3 % 2 == 1]).astype(float)
counts = ((7919 * (i[:, None] + 1) * (g + 1)) % (3 + 11 * (1 + g % 29))).astype(np.int32)
counts[5, 10:14] = 9000
counts[X[:, 3] > 0, 20:24] = 0
counts[X[:, 1] > 0, 22] = 0
counts[:, 50] = [4 * (k == 12) + (k == 17) + 7 * (k == 23) for k in i]  # and a few that don't settle
counts[[1, 3, 5, 9, 13], 51] = 147, 38, 95, 16, 93
counts[[0, 2, 4, 6, 7, 8], 51] = 0
counts[[*range(10, 13), *range(14, 24)], 51] = 0
counts[:, 52:54] = 0
counts[[0, 1, 9], 52] = 122, 37, 89
counts[[0, 2, 9], 53] = 167, 108, 62
brought = 3e6 * (1.0 + (i % 5) / 8.0) if preset == "irls" else None  # library sizes: divided by their geometric mean
sites = [Samples(X[j::3], counts[j::3], None if brought is None else brought[j::3]) for j in range(3)]
config = Config(
    design="~ batch + condition",
    levels=levels,
    preset=preset,
    min_kept=1,
    min_replicates=3,
    min_contributors=1,
    protocol="plain",
    size_factors=None if brought is None else "s",
    shrink="condition[T.yes]",
)
names = tuple("abc")
recorded = pickle.loads(file.read_bytes()) if file.exists() else None
totals, asked, algorithm, total = [], hashlib.sha256(), fit(config, design, genes), None
while True:
    try:
        query = algorithm.send(total)
    except StopIteration as end:
        fitted = end.value
        break
    asked.update(query.to_bytes())
    if recorded is None:
        sites = [query.apply(site) for site in sites]
        parts = [query.summands(site.take(query.genes), 3) for site in sites]
        totals.append({key: sum(part[key] for part in parts) for key in parts[0]})
    elif len(totals) == len(recorded):
        break
    else:
        totals.append(recorded[len(totals)])
    total = Total(totals[-1], names, names)
if recorded is None:
    file.write_bytes(pickle.dumps(totals))
print(asked.hexdigest())
if recorded is None or len(totals) == len(recorded):
    rounds, called = [SimpleNamespace(parties=names)], Annotation()
    outcome = SimpleNamespace(
        fitted=fitted, genes=tuple(map(str, g)), design=design, rounds=rounds, annotation=called
    )
    table = compare(KeptFit.of(config, outcome), Comparison.of(config, outcome.design)).table
    dispersions = gene_tables.dispersions(outcome)
    for csv in (table, dispersions):
        print("" if csv is None else hashlib.sha256(csv.to_csv(index=False).encode()).hexdigest())
    print(sorted({stage.name for stage in fitted.stages}), sorted(set(table["status"])), int(table["replaced"].sum()))
"""


def plainest():
    """Settings that make the compiler, NumPy, its linear algebra and the C library take the plainest processor."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name)),
        "OPENBLAS_CORETYPE": "Prescott",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX",
    }


def whole_fit(preset, twin, file, **settings):
    """Digests of all questions and of both tables of a small fit; from recorded totals if there is a file of them."""
    words = [sys.executable, "-c", WHOLE_FIT, preset, twin, str(file)]
    run = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **settings})
    return run.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["deseq2", "pydeseq2", "fedpydeseq2", "irls"])
def test_who_repeats_a_whole_fit_from_its_totals_asks_and_finds_the_same(preset, tmp_path):
    """Questions, results.csv and dispersions.csv to the byte, whatever the processor."""
    here = whole_fit(preset, "none", tmp_path / "totals")
    assert here == whole_fit(preset, "none", tmp_path / "totals", **plainest())
    stages = here[-1]
    assert "caught" in stages
    assert "shrinkage" in stages
    if preset != "irls":
        assert all(name in stages for name in ("profile", "outliers", "refit"))


@pytest.mark.slow
@pytest.mark.parametrize("twin", ["lapack", "log"])
def test_a_step_through_a_library_would_be_seen(twin, tmp_path):
    """LAPACK's solver in IRLS, or NumPy's logarithm between rounds: on this processor and on the plainest."""
    from numpy._core._multiarray_umath import __cpu_features__

    if not __cpu_features__.get("AVX512F"):
        pytest.skip("NumPy and LAPACK have no other way on this processor than on the plainest")
    here = whole_fit("deseq2", twin, tmp_path / "totals")
    assert here == whole_fit("deseq2", twin, tmp_path / "totals")
    assert here != whole_fit("deseq2", twin, tmp_path / "totals", **plainest())
