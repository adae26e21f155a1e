"""How much memory a whole fit needs where the data lie, and that blocks change no bit of any sum."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import secirls
from experiments.speed.sizes import alone_in_a_process, grown
from secirls.algorithms.dispersion.dispersions import ResidualsQuery
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import LogCountsQuery, NormalisedQuery
from secirls.input_error import InputError
from secirls.inputs.files import count_matrix, held_matrix
from secirls.inputs.files.held_matrix import Tile
from secirls.inputs.files.site_file import Reading, read_site
from secirls.inputs.simulate import simulate
from secirls.numerics.held import held_counts
from secirls.numerics.held import samples as samples_module
from secirls.numerics.held.held_counts import HeldCounts

ROOT = Path(__file__).parents[2]
MIB = 1 << 20

FIT = """
import json, os, sys
from pathlib import Path
import secirls

def highest(told=None):
    # The high-water mark of the largest of the sites' own processes, which descend from this one.
    parents, marks = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            title = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        pid = int(status.parent.name)
        parents[pid] = int(lines["PPid"])
        if title.startswith(b"ray::PartyActor"):
            marks[pid] = 1024 * int(lines["VmHWM"].split()[0])
    def ours(pid):
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))
    peaks.append(max((mark for pid, mark in marks.items() if ours(pid)), default=0))

folder, peaks = Path(sys.argv[1]), []
result = secirls.fit(
    {name: folder / f"{name}.h5ad" for name in ("large", "small", "tiny")},
    design="~ condition", protocol="pairwise", engine="ray", on_round=highest,
)
print(json.dumps({"peak": max(peaks), "status": result.report["status_counts"]}))
"""


def alone(code, *arguments):
    """Run a program in a process of its own; gives its standard output."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT, env=env).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "most"),
    [pytest.param(0.1, 0.75, id="sparse"), pytest.param(1.0, 1.2, id="dense")],
)
def test_a_site_needs_little_beside_what_it_holds(share, most, tmp_path):
    """What a process grows by over a fit of 6,000 genes x 4,000 samples, in int32 matrices of them."""
    alone_in_a_process("make", tmp_path, 6000, 4000, share)
    held, whole = (more / (4 * 6000 * 4000) for more in grown(tmp_path))
    print(f"\n{share:.0%} above zero: {held:.2f} int32 matrices; held whole, {whole:.2f}")
    assert held < most
    assert whole > 1.8


FEWER = 4_500
"""Genes of a matrix that is just too large to be held as an array."""


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("genes", "samples", "share", "most"),
    [(20_000, 2_000, 0.1, 580), (20_000, 2_000, 1.0, 580), (60_000, 5_000, 0.1, 572), (60_000, 5_000, 1.0, 780)],
    ids=["sparse", "dense", "largest sparse", "largest dense"],
)
def test_the_process_of_a_large_site_over_a_whole_fit(genes, samples, share, most, tmp_path):
    """In MiB, libraries and all, and messages of the protocol: 153 are these counts as int32, and 1,144 the largest.

    A fit before has compiled all kernels, for processes that compile take more. The largest sparse matrix has half of
    itself, some 80 more than runs show (docs/speed.md); the others' bounds are as far above what theirs do.
    """
    for size in ((FEWER, 2_000), (genes, samples)):
        alone_in_a_process("make", tmp_path, *size, share)
        said = alone(FIT, tmp_path)
    told = json.loads(said.splitlines()[-1])
    print(f"\n{share:.0%} above zero: {told['peak'] / MIB:.0f} MiB at the peak, {told['status']}")
    assert sum(told["status"].values()) == genes
    assert 200 * MIB < told["peak"] < most * MIB


def queries(samples, genes):
    """Every query of the rounds before IRLS, about some genes."""
    rng = np.random.default_rng(1)
    g, p = int(genes.sum()), samples.n_params
    means, slopes = rng.uniform(1, 50, samples.n_genes), rng.normal(size=(samples.n_genes, p))
    none = np.zeros(0)
    return [
        CensusQuery(genes, p),
        LogCountsQuery(genes),
        NormalisedQuery(genes, none, none.astype(bool), p),
        ResidualsQuery(genes, means[genes], np.ascontiguousarray(slopes[genes])),
    ], g


def sums(samples, genes):
    asked, _ = queries(samples, genes)
    return {f"{q.kind} {name}": array for q in asked for name, array in q.summands(samples.take(genes), 3).items()}


def test_a_block_and_the_genes_beside_a_gene_change_no_bit(monkeypatch):
    made = simulate(700, 37, seed=2).samples
    everything = np.ones(700, dtype=bool)
    whole = sums(made, everything)
    for block in (1, 37 * 5, 1 << 30):
        monkeypatch.setattr(samples_module, "BLOCK_VALUES", block)
        for name, array in sums(made, everything).items():
            assert np.array_equal(array, whole[name]), name
    some = np.random.default_rng(3).random(700) < 0.3
    for name, array in sums(made, some).items():
        same = whole[name][some] if array.shape[0] == some.sum() else whole[name]
        assert np.array_equal(array, same), name


def test_threads_change_no_bit(tmp_path):
    code = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_site_memory import sums
from secirls.inputs.simulate import simulate
made = simulate(3000, 150, seed=2).samples
digest = hashlib.sha256()
for name, array in sorted(sums(made, np.ones(3000, dtype=bool)).items()):
    digest.update(np.ascontiguousarray(array).tobytes())
print(digest.hexdigest())
"""
    found = set()
    for threads in ("1", "2"):
        os.environ["OPENBLAS_NUM_THREADS"] = threads
        try:
            found.add(alone(code, Path(__file__).parent))
        finally:
            del os.environ["OPENBLAS_NUM_THREADS"]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("dtype", "make"),
    [
        pytest.param(
            dtype, make, marks=[] if (dtype == np.float32) == (make is not sparse.csr_matrix) else [pytest.mark.slow]
        )
        for dtype in (np.int32, np.int64, np.float32, np.float64)
        for make in (np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array)
    ],
)
def test_dense_and_sparse_counts_read_the_same(make, dtype, monkeypatch, tmp_path):
    import anndata
    import pandas as pd

    counts = np.random.default_rng(0).poisson(1.0, size=(9, 50)).astype(dtype)
    counts[:, 10:20] += 70_000
    few = counts * (counts > 2)
    obs = pd.DataFrame({"condition": ["c", "t", "c"] * 3}, index=[f"s{i}" for i in range(9)])
    data = anndata.AnnData(make(counts), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(50)]))
    data.layers["few"] = make(few)
    data.write_h5ad(tmp_path / "a.h5ad", compression="gzip" if dtype == np.int64 else None)
    if dtype == np.float32:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version that will be written by default
            data.write_zarr(tmp_path / "a.zarr")
    monkeypatch.setattr(count_matrix, "TILE_VALUES", 70)
    monkeypatch.setattr(held_matrix, "PIECE", 4)
    digests = set()
    for source in (data, *tmp_path.iterdir()):
        for plain in (0, 1 << 20):
            monkeypatch.setattr(count_matrix, "PLAIN_VALUES", plain)
            table = read_site("a", source, Reading(("condition",), refit_layer="few"))
            for found, truth in ((table.counts, counts), (table.replacement, few)):
                assert isinstance(found, HeldCounts) == (not plain)
                assert found.T[:].dtype == np.int32
                assert found.T[:].flags.c_contiguous
                assert np.array_equal(found.T[:].T, truth)
            digests.add(table.digest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("share", "mean", "kind"), [(0.1, 30, "entries"), (0.1, 900, "entries"), (1.0, 30, np.uint8), (1.0, 900, np.uint16)]
)
def test_counts_are_held_as_small_as_they_go(share, mean, kind):
    """Each form where it is the smallest, from tiles of genes as from tiles of samples."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(mean, size=(700, 40)) * (rng.random((700, 40)) < share)
    counts[5, 7], counts[:, 9] = 1 << 20, 0
    across = [Tile(slice(i, min(i + 90, 700)), slice(0, 40), counts[i : i + 90]) for i in range(0, 700, 90)]
    down = [Tile(slice(0, 700), slice(i, i + 8), counts[:, i : i + 8].astype(float)) for i in range(0, 40, 8)]
    for tiles in (across, down):
        rows = held_matrix.hold(lambda tiles=tiles: iter(tiles), (700, 40), {}).T
        assert np.array_equal(rows[:], counts.T)
        assert np.array_equal(rows[np.array([9, 7, 3]), 250:520], counts[250:520, [9, 7, 3]].T)
        if kind == "entries":
            assert rows.under.value.itemsize == rows.under.sample.itemsize == 1
            assert rows.under.value.size + rows.value.size == np.count_nonzero(counts)
        else:
            assert rows.under.dtype == kind
            assert rows.value.size == np.count_nonzero(counts > np.iinfo(kind).max)


@pytest.mark.parametrize(("mean", "change"), [(30, 0), (30, 400), (900, 0), (900, 40)])
def test_a_matrix_that_changes_while_it_is_read_is_refused(mean, change):
    first = np.random.default_rng(0).poisson(mean, size=(30, 40)) * (np.arange(30) % 10 == 0)[:, None]
    second = np.where(first == first[10, 3], change, first)
    read = iter([[Tile(slice(0, 30), slice(0, 40), counts)] for counts in (first, second)])
    with pytest.raises(InputError, match="was changed while it was read"):
        held_matrix.hold(lambda: iter(next(read)), (30, 40), {"file": "a.h5ad"})


@pytest.mark.parametrize("dense", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_fit_is_the_same_bits_however_counts_are_held(dense, monkeypatch):
    """Two bytes a count and the larger ones by place where most are above zero, else only those that are."""
    import anndata
    import pandas as pd

    made, rng = simulate(60, 48, seed=4).samples, np.random.default_rng(5)
    counts = np.array(made.counts)
    counts[::9, ::5] *= 40  # outliers, which are replaced
    counts[:, 7] *= 100  # beyond two bytes
    if not dense:
        counts[rng.random(counts.shape) < 0.7] = 0
        counts[:, 30:] += 1
    genes = [f"g{i}" for i in range(60)]
    sites = {}
    for number, name in enumerate("abc"):
        mine, order = counts[number::3], rng.permutation(60) if name == "b" else np.arange(60)
        obs = pd.DataFrame(
            {"condition": np.where(np.arange(16) % 2, "t", "c")}, index=[f"{name}{i}" for i in range(16)]
        )
        var = pd.DataFrame(index=[genes[i] for i in order])
        sites[name] = anndata.AnnData(sparse.csr_matrix(mine[:, order]), obs=obs, var=var)
    tables = []
    for plain in (True, False):
        if not plain:
            monkeypatch.setattr(count_matrix, "PLAIN_VALUES", 0)
            monkeypatch.setattr(held_counts, "FEW_VALUES", 0)
            monkeypatch.setattr(samples_module, "PART_VALUES", 100)
        result = secirls.fit(sites, design="~ condition", protocol="plain", engine="local", genes="intersection")
        tables.append(result.table)
        assert result.report["outliers"]["replaced"] > 0, result.report["outliers"]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
