"""R DESeq2's stages, frozen, and the counts they belong to; algorithms driven over sites with plain float sums."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from secirls.algorithms.query import Total, query_from_bytes
from secirls.inputs.datasets import AIRWAY_LEVELS, airway_counts, airway_obs
from secirls.inputs.designs.design import Design, Variable
from secirls.numerics.held.samples import Samples

STAGES = Path(__file__).parent / "deseq2_stages"
FORMULAS = {"condition": "~ condition", "site": "~ site + condition"}


@dataclass(frozen=True)
class Frozen:
    """One data set and design: what R says, and the samples it says it of."""

    name: str
    design: Design
    everything: pd.DataFrame
    """A row for every gene with a count."""
    some: pd.DataFrame
    """A few genes with more columns; ``row`` says which."""
    genes: list[str]
    samples: Samples
    """Of all sites, with R's size factors and dispersions."""
    sites: np.ndarray
    threshold: float
    zeros: int
    """Genes without any count, which R adjusts p-values over, too."""

    @property
    def split(self) -> list[Samples]:
        """The samples of each natural site."""
        whole = self.samples
        return [
            Samples(whole.design[rows], whole.counts[rows], whole.size_factors[rows], whole.dispersions)
            for rows in (np.flatnonzero(self.sites == site) for site in np.unique(self.sites))
        ]


def read(file):
    return pd.read_csv(STAGES / file, float_precision="round_trip")


@cache
def _frozen(name, design, data):
    if name == "airway":
        counts, obs = airway_counts(), airway_obs()
        obs = obs.loc[counts.index]
        levels = {**AIRWAY_LEVELS, "site": tuple(sorted(set(obs["site"])))}
        counts, genes = counts.to_numpy(), list(counts.columns)
    else:
        import anndata

        adata = anndata.read_h5ad(data / name / f"{name}.h5ad")
        some = np.asarray(adata.X).any(axis=0)
        counts, genes = np.asarray(adata.X)[:, some], list(adata.var_names[some])
        levels = {factor: tuple(adata.obs[factor].cat.categories) for factor in ("condition", "site")}
        obs = adata.obs[["site", "condition"]].astype(str)
    levels = {factor: values for factor, values in levels.items() if factor in FORMULAS[design]}
    said = {"all": {factor: Variable(numeric=False, levels=values) for factor, values in levels.items()}}
    agreed = Design.agree(FORMULAS[design], levels, said)
    factors = read(f"{name}-samples.csv")
    assert list(factors["sample"]) == list(obs.index)
    everything, filters = read(f"{name}-{design}.csv.gz"), json.loads((STAGES / "filters.json").read_text())
    about = filters[f"{name}-{design}"]
    samples = Samples(
        agreed.matrix(obs),
        counts.astype(np.int32),
        factors["sizeFactor"].to_numpy(),
        everything["dispersion"].to_numpy(),
    )
    return Frozen(
        name,
        agreed,
        everything,
        read(f"{name}-{design}-some.csv.gz"),
        genes,
        samples,
        obs["site"].to_numpy(),
        about["threshold"],
        about["genes"] - len(genes),
    )


@pytest.fixture
def frozen_file():
    """``frozen_file(name)``: a table of `STAGES` with all its digits."""
    return read


@pytest.fixture
def frozen(request):
    """``frozen(name, design)``: what R says about a data set, and its samples."""

    def get(name, design):
        return _frozen(name, design, None if name == "airway" else request.getfixturevalue("shared_data"))

    return get


@pytest.fixture
def drive():
    """``drive(algorithm, sites)``: its result, and the questions it asked."""

    def run(algorithm, sites):
        sites, total, asked = list(sites), None, []
        names = tuple(f"site{i}" for i in range(len(sites)))
        while True:
            try:
                query = algorithm.send(total)
            except StopIteration as end:
                return end.value, asked
            query = query_from_bytes(query.to_bytes())
            query.check(sites[0].n_genes, sites[0].n_params)
            asked.append(query)
            sites = [query.apply(site) for site in sites]
            parts = [query.summands(site.take(query.genes), len(sites)) for site in sites]
            for part in parts:
                query.layout(len(sites)).encode(part)  # refuses what a real site could not send
            total = Total({key: sum(part[key] for part in parts) for key in parts[0]}, names, names)

    return run
