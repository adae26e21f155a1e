"""Options of the commands that a site runs at home, on its own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Data: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="This site's own data with raw counts, or its own site.toml, which names it."),
]
Layer: TypeAlias = Annotated[str | None, typer.Option(help="AnnData layer with raw counts. Default: as in the fit.")]
Overwrite: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Replace these files; never a link, a device or a fit's own file.")
]
