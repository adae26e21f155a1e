"""The command `transform`: a site's own samples on the scale of a finished fit.

Promises: what is written stays on this machine, whole or not at all; nothing is sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secirls.cli.console import say
from secirls.cli.options import home_options
from secirls.input_error import InputError

if TYPE_CHECKING:
    from secirls.inputs.files.site_file import AnnData

KINDS = (".h5ad", ".csv")


def transform(
    data: home_options.Data,
    fit: Annotated[Path, typer.Option("--fit", metavar="DIR", help="The output folder of 'secirls fit'.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An h5ad file; or FILE.csv, for a table each of VST, normalised counts and size factors. "
            "Default: FILE.transformed.h5ad beside the data.",
        ),
    ] = None,
    layer: home_options.Layer = None,
    overwrite: home_options.Overwrite = False,
) -> None:
    """Write this site's normalised counts and their variance-stabilising transform, from a fit's public folder.

    Nothing is sent, and no other site is needed. The files hold this site's samples one by one: they stay at home.
    """
    from secirls.inputs.files.site_file import write_h5ad
    from secirls.outputs.free_folder import check_free_file
    from secirls.outputs.results import Result
    from secirls.outputs.transform import Transform, own_data
    from secirls.whole_file import whole_folder

    data = own_data(data)
    out = data.with_name(f"{data.stem}.transformed.h5ad") if out is None else out
    if out.suffix not in KINDS:
        raise InputError(f"file {str(out)!r}: --out ends in {' or '.join(KINDS)}")
    files = [out] if out.suffix == ".h5ad" else [out.with_suffix(f".{name}.csv") for name in TABLES]
    for file in files:
        if file.resolve() == data.resolve():
            raise InputError(f"file {str(file)!r}: is the data itself; name another")
        check_free_file(file, overwrite=overwrite, fit=fit)
    result = Result.read(fit)
    try:
        home = Transform.of(result.kept, result.report["trend"])
    except InputError as error:
        raise InputError(f"folder {str(fit)!r}: {error}") from None
    made = home(data, layer)
    with whole_folder(out.parent, like=data) as draft:
        if out.suffix == ".h5ad":
            write_h5ad(draft / out.name, made)
        else:
            for file, name in zip(files, TABLES, strict=True):
                (draft / file.name).write_bytes(table(made, name))
    say(
        f"{made.n_obs:,} samples and {made.n_vars:,} genes on the scale of the fit in {fit}; nothing was sent",
        wrap=True,
    )
    for file in files:
        say(f"  {file}")


TABLES = ("vst", "normalised", "size_factor")
"""Names of the tables, in the order that they are written in."""


def table(made: AnnData, name: str) -> bytes:
    """A table of a transformed AnnData: genes by samples, or the size factor of each sample."""
    import pandas as pd

    from secirls.outputs.tables.gene_tables import csv_of
    from secirls.outputs.transform import SIZE_FACTOR

    if name == SIZE_FACTOR:
        return csv_of(pd.DataFrame({"sample": made.obs_names, name: made.obs[name].to_numpy()}))
    values = pd.DataFrame(made.layers[name].T, columns=made.obs_names)
    return csv_of(pd.concat([pd.DataFrame({"gene": made.var_names}), values], axis=1))
