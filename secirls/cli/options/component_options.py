"""Options about principal components, of `fit` and `components`."""

from __future__ import annotations

from typing import Annotated

import typer

Number = Annotated[
    int | None,
    typer.Option(
        "--components",
        metavar="N",
        help="Principal components of VST values within sites, loadings in public. Default: none.",
    ),
]
Genes = Annotated[
    int | None,
    typer.Option("--component-genes", metavar="N", help="Genes of largest variance that they are of. Default: 500."),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        "--component-tolerance", help="Estimated angle to the pooled data's at which they end. Default: 0.05."
    ),
]
Directions = Annotated[
    float | None,
    typer.Option(
        "--directions-per-sample",
        help="Directions multiplied for them at most, over samples less sites. Default: 0.2.",
    ),
]
Share = Annotated[
    float | None,
    typer.Option("--sample-share", help="Largest part that one sample may have in what is opened. Default: 0.5."),
]
