"""Principal components as people use them: loadings as a table, their report, and a site's own scores.

Promises: loadings and what the report says are public; scores are made of a site's own file at that site, and nothing
is sent. Refuses to know: other sites.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from secirls.algorithms.components.principal_components import Components, Ending, Plan
from secirls.config import Config
from secirls.input_error import InputError, complain
from secirls.inputs.files.site_columns import there_are
from secirls.outputs.free_folder import LOADINGS
from secirls.outputs.transform import SIZE_FACTOR, VST, Transform, own_data

if TYPE_CHECKING:
    from secirls.inputs.files.site_file import AnnData


def loadings_of(components: Components | None, genes: tuple[str, ...]) -> pd.DataFrame | None:
    """Gene and PC1, PC2 ..., in the order of the agreed genes; ``None`` where there are no loadings."""
    if components is None or not components.loadings.size:
        return None
    table = pd.DataFrame({"gene": [genes[i] for i in components.genes]})
    for k, column in enumerate(components.loadings.T, 1):
        table[f"PC{k}"] = column
    return table


def read_loadings(folder: Path) -> pd.DataFrame:
    """The table as a fit's folder has it. Raises `ValueError`, `KeyError` or `OSError` where it is another."""
    table = pd.read_csv(folder / LOADINGS, float_precision="round_trip", dtype={"gene": str}, keep_default_na=False)
    names = ["gene", *(f"PC{k}" for k in range(1, table.shape[1]))]
    if list(table.columns) != names or not np.isfinite(table[names[1:]].to_numpy(dtype=np.float64)).all():
        raise ValueError(f"{LOADINGS} holds no loadings")
    return table


def check_samples(where: str, samples: object, sites: int, config: Config) -> None:
    """Raise `InputError` where a fit of so many samples has too few for its components, before it is made again."""
    plan = Plan(config.components, directions_per_sample=config.directions_per_sample)
    if isinstance(samples, int) and plan.limit(samples - sites) < plan.least:
        raise InputError(
            f"{where}: its {samples:,} samples at {sites:,} sites are too few for --components {plan.components}, "
            f"which takes {plan.least_degrees + sites:,} or more at {plan.directions_per_sample:g} directions a sample"
        )


def told_of_components(components: Components | None, asked: int) -> dict[str, Any] | None:
    """What the report says of them."""
    if components is None:
        return None
    known = bool(components.loadings.size)
    return {
        "asked": asked,
        "found": components.loadings.shape[1],
        "genes": int(components.genes.size),
        "genes_left_out": components.dominated,
        "variances": [float(variance) for variance in components.variances],
        "explained": [float(variance / components.total) for variance in components.variances],
        "total_variance": components.total if known else None,
        "angle": components.angle if np.isfinite(components.angle) else None,
        "converged": components.ending in (Ending.CONVERGED, Ending.EXHAUSTED),
        "ending": components.why,
        "directions": components.directions,
        "samples_less_sites": components.degrees,
    }


def scores(
    transform: Transform,
    loadings: pd.DataFrame,
    data: str | os.PathLike[str] | AnnData,
    layer: str | None = None,
    by: str | None = None,
) -> pd.DataFrame:
    """A site's samples along the components: sample, PC1, PC2 ..., and the obs columns of the design, and ``by``.

    Values are the file's, less their means over all its samples: those of the fit where they are the same. Raises
    `InputError` where the file can't be used, or has no such column.
    """
    home = transform(data, layer)
    place = {gene: i for i, gene in enumerate(home.var_names)}
    lacking = [gene for gene in loadings["gene"] if gene not in place]
    if lacking:
        raise InputError(f"{LOADINGS} has genes that are not in the fit, {lacking[0]!r} the first")
    values = np.asarray(home.layers[VST])[:, [place[gene] for gene in loadings["gene"]]]
    along = (values - values.mean(axis=0)) @ loadings.iloc[:, 1:].to_numpy()
    table = pd.DataFrame({"sample": list(map(str, home.obs_names))})
    for k, column in enumerate(along.T, 1):
        table[f"PC{k}"] = column
    for name in transform.kept.design.names:
        if name in home.obs:
            table[name] = home.obs[name].to_numpy()
    if by is not None and (by not in transform.kept.design.names or by not in home.obs):
        _check_column(by, home.obs, table, str(own_data(data)) if isinstance(data, str | os.PathLike) else "")
        table[by] = home.obs[by].array
    return table


def _check_column(name: str, obs: pd.DataFrame, table: pd.DataFrame, file: str) -> None:
    """Raise `InputError` unless there is one obs column of that name, and none of the scores has it."""
    where, there = {"file": file, "field": f"obs column {name!r}"}, list(obs.columns).count(name)
    if not there:
        raise complain("is missing", **where, detail=there_are("columns", obs.columns.drop(SIZE_FACTOR), name))
    if there > 1:
        raise complain("is there twice", **where)
    if name in table:
        raise complain("is called as a column of the scores is: give it another name", **where)


def axis_titles(told: Mapping[str, Any]) -> list[str]:
    """What each axis of a picture of scores is called, from the report's words on the components."""
    shares = enumerate(told["explained"], 1)
    return [f"PC{k}: {100 * share:.1f} % of the variance within sites" for k, share in shares]
