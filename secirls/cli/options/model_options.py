"""Options that say what is fitted: counts, levels, size factors, dispersions, outliers, and what is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Test: TypeAlias = Annotated[
    str | None,
    typer.Option("--test", help="Of p-values: wald, or lrt, which compares with the design --reduced. Default: wald."),
]
Reduced: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--reduced", metavar="FORMULA", help="The smaller design of a likelihood-ratio test, such as '~ batch'."
    ),
]
Levels: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--levels",
        metavar="FACTOR=REFERENCE,LEVEL,...",
        help="Levels of a factor in order, reference first. Default: the files' order, else sorted.",
    ),
]
Layer: TypeAlias = Annotated[
    str | None,
    typer.Option("--layer", help="AnnData layer with raw counts; raw:X for that of AnnData.raw. Default: X."),
]
RoundCounts: TypeAlias = Annotated[
    bool | None,
    typer.Option("--round-counts/--no-round-counts", help="Round estimated counts (salmon, RSEM). Default: no."),
]
SizeFactors: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--size-factors", metavar="OBS_COLUMN", help="Size factors. Default: median of ratios by secure sums."
    ),
]
Dispersions: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dispersions",
        metavar="VAR_COLUMN",
        help="Dispersions, the same at every site. Default: estimated by secure sums.",
    ),
]
SizeFactorType: TypeAlias = Annotated[
    str | None, typer.Option("--size-factor-type", help="Size factors over genes: ratio, or poscounts. Default: ratio.")
]
ControlGenes: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--control-genes", metavar="FILE", help="Genes that size factors are estimated from, one name per line."
    ),
]
DispersionFit: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dispersion-fit", help="Dispersions: deseq2 (as R's path ends), optimum, grid or moments. Default: deseq2."
    ),
]
Trend: TypeAlias = Annotated[
    str | None,
    typer.Option("--trend", help="Of dispersions over means: parametric, local or mean. Default: parametric."),
]
Cooks: TypeAlias = Annotated[
    bool | None,
    typer.Option("--cooks/--no-cooks", help="Look for outliers by Cook's distances. Default: yes."),
]
MinReplicates: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--min-replicates", help="Samples in a cell of the design from which outliers are replaced. Default: 7."
    ),
]
MinKept: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--min-kept", help="Values of a trimmed cell that must stay to look for its outliers; 1 is R. Default: 3."
    ),
]
MinTotalCount: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--min-total-count", help="Leave out genes whose counts over size factors add up to less. Default: 0, none."
    ),
]
DropEmpty: TypeAlias = Annotated[
    bool | None,
    typer.Option("--drop-empty/--refuse-empty", help="Leave out design columns without samples. Default: refuse."),
]
OwnColumns: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--own-columns", help="Design columns of one site: kept there ('own'), or 'shared' as R has them. Default: own."
    ),
]
