"""Small real data that ships with the package.

airway: Himes et al. 2014 (PLoS ONE 9:e99625; GEO GSE52778), RNA-seq of airway smooth muscle cells of four
donors, untreated and with dexamethasone. Counts as in the Bioconductor package *airway*, taken from the
AnnData file in the source distribution of the Python package inmoose 0.9.1 (GPL-3.0-or-later); the
30,633 of 64,102 genes without any count are left out, nothing else was changed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from secirls.input_error import InputError
from secirls.inputs.airway import AIRWAY_LEVELS, AIRWAY_SHA256, DONORS
from secirls.inputs.files.site_file import write_site
from secirls.inputs.simulate import rows, simulate
from secirls.numerics.held.held_counts import whole


def airway_counts() -> pd.DataFrame:
    """Counts of airway, ``(8 samples, 33469 genes)``, checked against their checksum."""
    packed = files("secirls.inputs").joinpath("data/airway.csv.gz").read_bytes()
    text = gzip.decompress(packed)
    if hashlib.sha256(text).hexdigest() != AIRWAY_SHA256:
        raise RuntimeError("the airway counts in this installation are damaged: install secirls again")
    return pd.read_csv(io.BytesIO(text), index_col=0).T


def airway_obs() -> pd.DataFrame:
    """Cell line (``site``) and treatment (``condition``) of every sample of airway."""
    rows = {
        run: {"site": donor, "condition": level}
        for donor, runs in DONORS.items()
        for run, level in zip(runs, AIRWAY_LEVELS["condition"], strict=True)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def write_airway(folder: Path) -> dict[str, Path]:
    """Write airway as four sites, one h5ad per cell line; gives name to path."""
    counts, obs = airway_counts(), airway_obs()
    paths = {}
    for donor in DONORS:
        mine = obs.index[obs["site"] == donor]
        paths[donor] = folder / f"{donor}.h5ad"
        write_site(paths[donor], counts.loc[mine].to_numpy(), obs.loc[mine], list(counts.columns))
    return paths


def write_simulated(folder: Path, *, sites: int, samples: int, genes: int, seed: int) -> dict[str, Path]:
    """Write simulated counts of two groups as so many sites, and ``truth.csv`` beside them; gives name to path.

    Raises `InputError` where there are fewer samples than sites.
    """
    if samples < sites:
        raise InputError(f"{samples} samples can't be dealt to {sites} sites")
    made = simulate(genes, samples, seed=seed)
    names = [f"gene{i:05d}" for i in range(genes)]
    truth = pd.DataFrame({"gene": names, "intercept": made.beta[:, 0], "treated": made.beta[:, 1]})
    paths = {}
    for number, chosen in enumerate(np.array_split(np.arange(samples), sites)):
        part = rows(made.samples, chosen)
        name = f"site{number + 1}"
        condition = np.where(part.design[:, 1] > 0, "treated", "control")
        index = pd.Index([f"{name}_{i}" for i in range(part.n_samples)])
        obs = pd.DataFrame({"condition": condition, "true_size_factor": part.size_factors}, index=index)
        paths[name] = folder / f"{name}.h5ad"
        write_site(paths[name], whole(part.counts), obs, names, dispersion=np.asarray(part.dispersions))
    truth.to_csv(folder / "truth.csv", index=False)
    return paths
