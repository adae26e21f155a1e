"""A finished fit asked once more, with a stage at its end: what is ordered, and whether the rest is the same.

Promises: the folder of a fit names what to ask and whom, and nothing else of it is used; each site holds the question
against its own file, rules and memory. Refuses to know: sites.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from secirls.agreement.manifest import Manifest
from secirls.cli.federation_file import asked_at, read_table
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.designs.contrasts import reported
from secirls.inputs.files.text_file import read_text
from secirls.outputs.tables.annotation import Annotation
from secirls.outputs.tables.kept_fit import KeptFit
from secirls.outputs.tables.results_table import compare

if TYPE_CHECKING:
    from secirls.inputs.designs.design import Design
    from secirls.outputs.results import Result

SAME = ("baseMean", "log2FoldChange", "lfcSE", "dispersion")
"""What the fit with a further stage has in common with the fit before."""

COMPUTE = ("secirls", "numpy", "numba")
"""What numbers come from, as the report calls it."""


def again(folder: Path, further: Mapping[str, Any], federation: Path | None, keys: Mapping[str, str]) -> Manifest:
    """The manifest of a folder's fit with ``further`` fields of its configuration. Raises `InputError`.

    Places are those of the report, or of a ``federation`` file, which knows of keys, policies and clusters too; what is
    computed is what the report says.
    """
    report = _report(folder)
    where = f"folder {str(folder)!r}"
    configuration = {**report["configuration"], **further}
    if federation is not None:
        table: dict[str, Any] = {**read_table(federation), "out": None}
        if sorted(table["sites"]) != sorted(report["sites"]):
            raise InputError(f"file {str(federation)!r}: its sites are not those of the fit in {str(folder)!r}")
    elif report["engine"] == "hub":
        raise InputError(f"{where}: its sites call a hub, and of which says the file it was made from: --federation")
    else:
        table = {"sites": report["sites"], "engine": report["engine"]}
        for name, file in report["sites"].items():
            if not file:
                raise InputError(
                    f"{where}: site {name!r} was given as an AnnData in memory, so it can't be asked again from here: "
                    f"fit once more with {next(iter(further))}"
                )
    coefficient, columns = further.get("shrink"), report["design_columns"]
    if coefficient is not None and coefficient not in columns:
        raise InputError(
            f"{where}: --coefficient {coefficient!r} is none of its fit, which has {', '.join(map(repr, columns))}"
        )
    if coefficient is not None and _is_of_another(configuration, coefficient, KeptFit.read(folder).design):
        configuration |= {"contrast": None, "coefficients": (), "minus": (), "contrast_vector": ()}
    table |= {"fit": configuration, "keys": {**table.get("keys", {}), **keys}}
    return Manifest.read(asked_at(where, further), **table)


def _is_of_another(configuration: Mapping[str, Any], coefficient: str, design: Design) -> bool:
    """Whether a contrast was asked for that is not the coefficient: the table is then of the coefficient."""
    try:
        reported(Config(**configuration).asked_contrast, coefficient, design)
    except InputError:
        return True
    return False


def _report(folder: Path) -> dict[str, Any]:
    file = folder / "report.json"
    if not file.exists():
        raise InputError(f"folder {str(folder)!r}: holds no results of a fit")
    try:
        report = json.loads(read_text(file))
        lacking = [name for name in ("configuration", "sites", "engine", "design_columns") if name not in report]
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"file {str(file)!r}: is no report of a fit") from None
    if lacking:
        raise InputError(f"file {str(file)!r}: says nothing of {lacking[0]!r}")
    return dict(report)


def named_then(folder: Path) -> Annotation | None:
    """Columns about the genes that the folder's fit had from its user's file; those from the sites are asked again."""
    kept = KeptFit.read(folder)
    columns = tuple(name for name in kept.annotation if name not in kept.config.annotation)
    if not columns:
        return None
    rows = zip(*(kept.annotation[name] for name in columns), strict=True)
    return Annotation(str(folder), columns, dict(zip(kept.genes, rows, strict=True)))


def compared(folder: Path, result: Result, beside: str) -> str:
    """One sentence: whether what was fitted before, ``beside`` the further stage, is the same to the last bit."""
    kept = KeptFit.read(folder)
    before = compare(kept, result.asked).table
    if before["gene"].tolist() != result.table["gene"].tolist():
        return f"The genes are not those of {folder}: its sites' files have changed since."
    differ = np.zeros(len(before), dtype=bool)
    for name in SAME:
        old, new = before[name].to_numpy(float), result.table[name].to_numpy(float)
        differ |= ~((old == new) | (np.isnan(old) & np.isnan(new)))
    if not differ.any():
        return f"Everything {beside} is that of {folder}, to the last bit."
    first, now, then = before["gene"].iloc[differ.argmax()], result.report["versions"], _report(folder).get("versions")
    told = {} if not isinstance(then, dict) else {name: then[name] for name in COMPUTE if name in then}
    other = ", ".join(f"{name} {release}" for name, release in told.items() if release != now[name])
    return (
        f"{int(differ.sum()):,} of {len(before):,} genes differ from those of {folder}, {first!r} the first: the "
        "sites' files, those who answer or the release of secirls are not those of then"
        f"{f' ({other})' if other else ''}."
    )
