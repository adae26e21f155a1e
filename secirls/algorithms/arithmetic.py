"""Whether two machines compute alike: one fit of a problem that is written here, and a digest of all it asks.

Promises: machines with one digest come to the same questions from the same totals, as far as one whole fit with
outliers and lost genes shows, and X'WX as fits of more genes have it. Refuses to know: anybody's data.

The totals are rounded to 24 bits before the algorithm hears them: how a site adds up its own counts may differ in last
bits without harm, for it is told the opened sum of all, and so must not show here.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from protocols.secure_sum import sha256
from secirls.algorithms.query import Total
from secirls.algorithms.whole_fit import agreed_fit
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.designs.design import Design, Variable
from secirls.numerics.arrays import Counts
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import kernels
from secirls.numerics.regression.information import Information
from secirls.numerics.regression.stieltjes import Transforms, spread, transforms

_SITES = ("a", "b", "c")
_GENES = 16
_SAMPLES = 8
"""At each site."""


def arithmetic_of(config: Config) -> bytes:
    """How this machine computes, as far as a fit of this configuration needs to know: where sites follow it."""
    return arithmetic_digest() if config.lock_step else b""


@cache
def arithmetic_digest() -> bytes:
    """SHA-256 over every question of the fit, in order; computed once in a process."""
    config = Config(design="~ condition", protocol="plain", kernel="numpy", max_iter=12)
    said = {site: {"condition": Variable(numeric=False, levels=("x", "y"))} for site in _SITES}
    design = Design.agree(config.design, {}, said)
    rows = np.column_stack([np.ones(_SAMPLES), np.arange(_SAMPLES) % 2.0])
    halves = np.full(2, _SAMPLES / 2)
    sites = [Samples(rows, _counts(number), group_sizes=halves) for number in range(len(_SITES))]
    algorithm = agreed_fit(config, design, tuple(f"gene{i}" for i in range(_GENES)))
    asked: list[bytes] = [_information()]
    total = None
    while True:
        try:
            query = next(algorithm) if total is None else algorithm.send(total)
        except (StopIteration, InputError):
            return sha256(b"secirls arithmetic v1", *asked)
        asked.append(query.to_bytes())
        with kernels.using("numpy", 1):
            sites = [query.apply(site) for site in sites]
            parts = [query.summands(site.take(query.genes), len(sites)) for site in sites]
        sums = {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
        arrays = {name: array.astype(np.float32).astype(np.float64) for name, array in sums.items()}
        total = Total(arrays, _SITES, _SITES)


def _information() -> bytes:
    """X'WX from size factors, which fits of so few genes ask for; means from one on, dispersions from 1e-8 to 10."""
    rows, sample = np.array([[1.0, 0.0], [1.0, 1.0]]), np.arange(_SAMPLES)
    s, cell, gene = 1.0 + sample / 8.0, sample % 2, np.arange(_GENES)
    sums = (kind(s, cell, 2).astype(np.float32).astype(np.float64) for kind in (transforms, spread))
    b, alphas = np.column_stack([0.75 * gene, 0.125 * gene]), np.ldexp(np.full(_GENES, 1e-8), 2 * gene)
    one, of = np.ones(_GENES, dtype=np.intp), Information(rows, rows, Transforms.of(*sums), _SITES)
    return of.at(b, alphas, one, linear=False, min_mu=0.5)[0].tobytes()


def _counts(site: int) -> Counts:
    """Counts ``(samples, genes)`` of one site: means from 2 to 50,000, an effect here and there, and some outliers."""
    sample, gene = np.meshgrid(np.arange(_SAMPLES), np.arange(_GENES), indexing="ij")
    mixed = (sample + 8 * site + 1) * 2654435761 + (gene + 1) * 40503 * 2246822519
    mixed = (mixed ^ (mixed >> 15)) * 3266489917 % (1 << 32)
    wave = (mixed >> 8) % 1000
    mean = 2 + gene**4 * (1 + (gene % 3 == 0) * (sample % 2))
    counts: Counts = (mean * (200 + wave) // 700).astype(np.int32)
    counts[0, 5::4] *= 40 if site == 0 else 1
    counts[0::2, 3] *= 0  # a group without counts
    return counts
