"""Whole fits: under masks beside the clear, with nodes beside without, and beside other packages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

import secirls
from experiments.costs.cost_fits import WAYS, Cohort, cohort
from experiments.groundwork.data_sets import open_set
from experiments.groundwork.record import Row
from experiments.speed.turns import alone, beside, in_turn
from secirls.config import Config
from secirls.fitting import fit_config
from secirls.inputs.files.site_file import write_site
from secirls.inputs.simulate import rows, simulate
from secirls.numerics.regression import kernels

PLAIN = "plain"
MASKED: Mapping[str, Mapping[str, Any]] = {
    "pairwise": {"protocol": "pairwise"},
    "pairwise, one trip less": {"protocol": "pairwise", "consistency": False},
    "pairwise-lean": {"protocol": "pairwise-lean"},
}
"""Of the second, parties release shares without first agreeing on who is present, as none did at first."""
DESIGNS: Mapping[int, str] = {2: "~ condition", 5: "~ batch + condition"}
"""By number of design columns."""
CHOICES: Mapping[str, Mapping[str, str]] = {
    "irls": {"preset": "irls", "dispersions": "dispersion", "size_factors": "true_size_factor"},
    "deseq2": {},
}
"""IRLS with dispersions and size factors given, and the whole DESeq2."""


def written(folder: Path, genes: int, samples: int, sites: int) -> dict[str, str]:
    """Files of simulated sites with two conditions and four batches, dispersions and size factors: paths by name."""
    made, paths = simulate(genes, samples, seed=1), {}
    names = [f"gene{number:05d}" for number in range(genes)]
    for number, chosen in enumerate(np.array_split(np.arange(samples), sites)):
        part, name = rows(made.samples, chosen), f"site{number + 1}"
        obs = pd.DataFrame(
            {
                "condition": np.where(part.design[:, 1] > 0, "treated", "control"),
                "batch": np.array(list("abcd"))[np.arange(part.n_samples) // 2 % 4],
                "true_size_factor": part.size_factors,
            },
            index=pd.Index([f"{name}_{sample}" for sample in range(part.n_samples)]),
        )
        paths[name] = str(folder / f"{name}.h5ad")
        write_site(Path(paths[name]), np.asarray(part.counts), obs, names, dispersion=np.asarray(part.dispersions))
    return paths


def a_fit(paths: Mapping[str, str], design: str, **options: Any) -> secirls.Result:
    """In this process; aggregators are trusted with the questions unless options say otherwise."""
    config = Config(**{"design": design, "trust_aggregator": True, **options})
    return fit_config(config, dict(paths), engine="local")


def of_a_fit(preset: str, params: int, sizes: Any) -> Iterator[Row]:
    """Each protocol of masks beside the clear."""
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), sizes["genes"], sizes["samples"], sizes["sites"])
        spent = in_turn(
            {
                name: partial(a_fit, paths, DESIGNS[params], **options, **CHOICES[preset])
                for name, options in {PLAIN: {"protocol": PLAIN}, **MASKED}.items()
            },
            sizes["repeats"][preset],
        )
    for name in MASKED:
        yield from beside(f"{preset}, {name}", params, spent[name], spent[PLAIN])


def of_nodes_in_a_fit(sizes: Any) -> Iterator[Row]:
    """A whole DESeq2 in the clear at three sites of many samples, six rows, beside the same over samples."""
    data = cohort(f"simulated-{sizes['genes']}x{sizes['samples']}x3", 3, 0)
    fit: Callable[[], object] = partial(_whole, data)

    def over_samples() -> None:
        with patch.object(kernels, "level_moments", return_value=None):
            fit()

    spent = in_turn({"nodes": fit, "samples": over_samples}, sizes["repeats"])
    yield from beside("whole fit by nodes", "", spent["nodes"], spent["samples"])


def _whole(data: Cohort) -> object:
    return secirls.fit(data.sites(), design=data.formula, levels=data.levels, protocol=PLAIN, engine="local")


def of_a_rival(way: str, name: str, params: int, seed: int) -> Iterator[Row]:
    """Another package's whole DESeq2 once, with ours before and after it. Raises `SkippedError` where it can't run."""
    data = cohort(name, params, seed)
    ours, rival, again = (WAYS[one](data) for one in ("secirls", way, "secirls"))
    both = [ours["cpu_seconds"], again["cpu_seconds"]]
    yield from beside(f"{way}, CPU", params, both, [rival["cpu_seconds"]] * 2)
    if rival.get("bytes_up"):
        yield from alone(f"{way}, bytes", params, ours["bytes_up"], rival["bytes_up"])


def of_rounds(name: str, designs: list[str], few: float) -> Iterator[Row]:
    """How many rounds a whole DESeq2 takes; beside them, how many ask about fewer than so large a part of the genes."""
    data = open_set(name)
    for design in designs:
        fit = secirls.fit(
            data.parties(), design=design, levels={"condition": data.levels}, protocol=PLAIN, engine="local"
        )
        rounds = fit.report["rounds"]
        yield from alone("rounds", f"{name} {design}", len(rounds), len(tail(rounds, few)))


def tail(rounds: list[dict[str, Any]], few: float) -> list[dict[str, Any]]:
    """Rounds in which IRLS or Newton asks about less than so large a part of the genes."""
    most = max(entry["active_genes"] for entry in rounds[1:])
    return [entry for entry in rounds if entry["query"] in {"irls", "unclamped"} and entry["active_genes"] < few * most]
