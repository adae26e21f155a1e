"""Options of the commands that make a fit again: which it is, and where it takes place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Folder: TypeAlias = Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of 'secirls fit'.")]
Federation: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FEDERATION.TOML", help="Where the fit had keys, policies or a cluster: what it was made from."
    ),
]
Keys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="NAME=FILE.key", help="A site's private key, opened by the site; repeat."),
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")]
