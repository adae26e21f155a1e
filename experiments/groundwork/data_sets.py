"""Real and simulated counts as experiments take them: whole, and split by site.

Promises: every set has obs columns ``site`` and ``condition`` with the reference level first; what is not on this
machine is a `SkippedError` that says where it is looked for. Refuses to know: what is done with the counts.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import anndata
import numpy as np
import pandas as pd

from experiments.groundwork.record import SkippedError
from secirls.inputs.airway import AIRWAY_LEVELS
from secirls.inputs.datasets import airway_counts, airway_obs
from secirls.inputs.simulate import simulate
from secirls.numerics.held import held_counts
from secirls.numerics.held.samples import Samples

AnnData: TypeAlias = anndata.AnnData
BESIDE_THE_CHECKOUT = Path(__file__).parents[3] / "shared" / "data"


@dataclass(frozen=True)
class DataSet:
    """Counts of several sites."""

    name: str
    whole: AnnData
    levels: tuple[str, str]
    """Of ``condition``, reference first."""

    def sites(self) -> dict[str, AnnData]:
        """Every site's samples."""
        return dealt(self.whole, self.whole.obs["site"].astype(str))

    def parties(self) -> dict[str, AnnData]:
        """Who holds which samples: the sites; where they are two, fewer than a sum needs, the larger as two parties."""
        site = self.whole.obs["site"].astype(str).to_numpy().astype(object)
        if len(set(site)) == 2:
            larger = max(sorted(set(site)), key=lambda name: (site == name).sum())
            rows = np.flatnonzero(site == larger)
            site[rows] = [f"{larger}-{number % 2 + 1}" for number in range(rows.size)]
        return dealt(self.whole, site)

    def options(self) -> dict[str, Any]:
        """What `secirls.fit` needs to know about this set: IRLS alone is measured, dispersions given or by moments."""
        given: dict[str, Any] = {"design": "~ condition", "levels": {"condition": self.levels}, "preset": "irls"}
        if "dispersion" in self.whole.var:
            given["dispersions"] = "dispersion"
        if "size_factor" in self.whole.obs:
            given["size_factors"] = "size_factor"
        return given

    def design(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Intercept and treatment, ``(samples, 2)``."""
        treated = (self.whole.obs["condition"].astype(str) == self.levels[1]).to_numpy()
        return np.column_stack([np.ones(treated.size), treated.astype(np.float64)])

    def counts(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Counts ``(samples, genes)``."""
        matrix: Any = self.whole.X
        dense = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
        return dense.astype(np.int32)

    def samples(self) -> dict[str, Samples]:
        """Every site's arrays, with size factors by median of ratios and dispersions by moments, of the whole."""
        counts, design = self.counts(), self.design()
        factors = size_factors(counts)
        normed = counts / factors[:, None]
        mean, variance = normed.mean(axis=0), normed.var(axis=0, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            alpha = (variance - mean * np.mean(1.0 / factors)) / mean**2
        alpha = np.clip(np.nan_to_num(alpha, nan=1.0), 1e-8, 10.0)
        site = self.whole.obs["site"].astype(str).to_numpy()
        return {
            name: Samples(design[site == name], counts[site == name], factors[site == name], alpha)
            for name in sorted(set(site))
        }

    def genes(self, chosen: Any) -> DataSet:
        """The same samples over some of the genes."""
        return DataSet(self.name, self.whole[:, chosen].copy(), self.levels)

    def with_empty_genes(self, count: int) -> DataSet:
        """The same with so many genes more, without any count."""
        names = self.whole.var_names.append(pd.Index([f"empty{number}" for number in range(count)]))
        counts = np.pad(self.counts(), ((0, 0), (0, count)))
        whole = anndata.AnnData(counts, obs=self.whole.obs.copy(), var=pd.DataFrame(index=names))
        return DataSet(self.name, whole, self.levels)


def dealt(whole: AnnData, to: Any) -> dict[str, AnnData]:
    """The samples that go to each name; ``to`` has one per sample."""
    names = np.asarray(to)
    return {name: whole[names == name].copy() for name in sorted(set(names))}


def size_factors(counts: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Median of ratios (Anders and Huber 2010) over genes without a zero, ``(samples,)``."""
    full = (counts > 0).all(axis=0)
    logs = np.log(counts[:, full])
    factors: np.ndarray[Any, np.dtype[np.float64]] = np.exp(np.median(logs - logs.mean(axis=0), axis=1))
    return factors


@lru_cache(maxsize=2)
def open_set(name: str, seed: int = 0) -> DataSet:
    """A set by name: ``airway``, ``simulated-GENESxSAMPLESxSITES``, or a folder of the multi-site data.

    Raises `SkippedError` where it is not on this machine.
    """
    if name == "airway":
        return _airway()
    if name.startswith("simulated-"):
        genes, samples, sites = map(int, name.removeprefix("simulated-").split("x"))
        return simulated(genes, samples, sites, seed)
    return _multi_site(name)


def _airway() -> DataSet:
    counts, obs = airway_counts(), airway_obs()
    whole = anndata.AnnData(
        counts.to_numpy(dtype=np.int32), obs=obs.loc[counts.index], var=pd.DataFrame(index=counts.columns)
    )
    first, second = AIRWAY_LEVELS["condition"]
    return DataSet("airway", whole, (first, second))


def simulated(genes: int, samples: int, sites: int, seed: int) -> DataSet:
    """Two groups; samples are dealt to sites in pairs, so that every site has both."""
    made = simulate(genes, samples, seed=seed)
    obs = pd.DataFrame(
        {
            "site": [f"site{(i // 2) % sites + 1:03d}" for i in range(samples)],
            "condition": np.where(made.samples.design[:, 1] > 0, "treated", "control"),
        },
        index=pd.Index([f"sample{i}" for i in range(samples)]),
    )
    var = pd.DataFrame({"dispersion": made.samples.dispersions}, index=pd.Index([f"gene{i:05d}" for i in range(genes)]))
    name = f"simulated-{genes}x{samples}x{sites}"
    counts = np.array(held_counts.whole(made.samples.counts), order="C")
    return DataSet(name, anndata.AnnData(counts, obs=obs, var=var), ("control", "treated"))


def _multi_site(name: str) -> DataSet:
    named = os.environ.get("SECIRLS_DATA")
    path = (Path(named) if named else BESIDE_THE_CHECKOUT) / name / f"{name}.h5ad"
    if not path.is_file():
        raise SkippedError(f"{name}.h5ad is neither in ../shared/data nor in the folder that SECIRLS_DATA names")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = anndata.read_h5ad(path)
    condition = whole.obs["condition"].astype("category")
    first, second = map(str, condition.cat.categories[:2])
    legal: Mapping[str, str] = {
        old: "".join(c if c.isalnum() else "-" for c in old) for old in set(whole.obs["site"].astype(str))
    }
    obs = pd.DataFrame(
        {"site": whole.obs["site"].astype(str).map(legal), "condition": condition.astype(str)}, index=whole.obs_names
    )
    return DataSet(
        name, anndata.AnnData(whole.X, obs=obs, var=pd.DataFrame(index=whole.var_names.astype(str))), (first, second)
    )
