"""A question costs a site a bounded amount of memory; messages that only announce much cost nothing."""

import json
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from secirls.algorithms.query import LARGEST_ARRAY, LARGEST_CANDIDATES, QueryError, query_from_bytes
from secirls.algorithms.regression.catch import LikelihoodQuery

MIB = 1 << 20

ONE_SITE = """
import sys, tracemalloc
import numpy as np
from pathlib import Path
from protocols import fixed_point
from secirls.algorithms.regression import catch, quasi_newton
from secirls.algorithms import query
from secirls.inputs.simulate import simulate
from secirls.numerics.regression import kernels

if sys.argv[1] == "unbounded":
    for room in (query, quasi_newton, catch):
        room.LARGEST_CANDIDATES = room.LARGEST_ARRAY = room.LARGEST_ANSWER = 1 << 40

def answer(data, samples):
    asked = query.query_from_bytes(data)
    asked.check(samples.n_genes, samples.n_params)
    kept = asked.apply(samples)
    asked.layout(3).encode(asked.summands(kept.take(asked.genes), 3))

kernels.choose("numpy")
fixed_point.warm_up()
small, large = (Path(path).read_bytes() for path in sys.argv[2:])
samples = simulate(2000, 4, seed=1).samples
answer(small, samples)
tracemalloc.start()
answer(large, samples)
print(tracemalloc.get_traced_memory()[1])
"""


def question(candidates):
    return LikelihoodQuery(np.ones(2000, dtype=bool), np.zeros((2000, candidates, 2)), 0.5).to_bytes()


def grown(folder, tried, how):
    """What a fresh process holds at the most while one question is read, answered and encoded."""
    files = [folder / "small", folder / "large"]
    for file, candidates in zip(files, (3, tried), strict=True):
        file.write_bytes(question(candidates))
    shown = [sys.executable, "-c", ONE_SITE, how, *map(str, files)]
    told = subprocess.run(shown, capture_output=True, text=True, check=False)
    if told.returncode:
        raise QueryError(told.stderr.splitlines()[-1])
    print(f"\n2,000 genes at {tried} candidates: {int(told.stdout) / MIB:.0f} MiB at the peak")
    return int(told.stdout)


def test_the_largest_question_of_candidates_costs_a_site_little(tmp_path):
    assert grown(tmp_path, LARGEST_CANDIDATES // 2000, "bounded") < 64 * MIB
    with pytest.raises(QueryError, match="candidates for all genes together"):
        query_from_bytes(question(LARGEST_CANDIDATES // 2000 + 1)).check(2000, 2)


def test_without_the_bound_a_question_costs_more_with_every_candidate(tmp_path):
    assert grown(tmp_path, 1024, "unbounded") > 96 * MIB


def announced(**arrays):
    told = {
        "beta": {"dtype": "float64", "shape": [0, 2]},
        "expand": {"dtype": "float64", "shape": [0]},
        "fraction_bits": 64,
        "genes": {"dtype": "bool", "shape": [0]},
        "kind": "irls",
        "min_mu": 0.5,
        "steps": {"dtype": "float64", "shape": [0]},
        "with_xtwx": {"dtype": "bool", "shape": [0]},
    } | arrays
    head = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    return struct.pack("<I", len(head)) + head


@pytest.mark.parametrize(
    "data",
    [
        announced(genes={"dtype": "bool", "shape": [LARGEST_ARRAY]}),
        announced(beta={"dtype": "float64", "shape": [LARGEST_ARRAY]}),
        announced(beta={"dtype": "float64", "shape": [1 << 31, 1 << 31]}),
        announced(beta={"dtype": "float64", "shape": [0, 1 << 31, 1 << 31]}),
        struct.pack("<I", (1 << 32) - 1) + bytes(100),
        struct.pack("<I", 1 << 20) + b"[" * (1 << 20),
    ],
    ids=lambda data: repr(data[:60]),
)
def test_a_small_message_that_announces_much_costs_nothing(data):
    assert query_from_bytes(announced()).min_mu == 0.5
    tracemalloc.start()
    with pytest.raises(QueryError):
        query_from_bytes(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB


def test_reading_holds_one_copy_of_an_array_beside_the_message():
    shape = [LARGEST_ARRAY // 8]
    data = announced(beta={"dtype": "float64", "shape": shape}) + np.zeros(shape).tobytes()
    tracemalloc.start()
    query_from_bytes(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.3 * len(data)
