"""Options that say what is compared, the same for a fit and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from secirls.input_error import InputError
from secirls.inputs.files.var_columns import FILES_OF_NAMES
from secirls.numerics.inference.alternatives import ALTERNATIVES


def _three(words: tuple[str, str, str] | None) -> tuple[str, str, str] | None:
    """The words of ``--contrast``, which takes three whatever they are. Raises `InputError` for an option."""
    for word in words or ():
        if word.startswith("--"):
            raise InputError(
                f"--contrast: takes three words, FACTOR LEVEL REFERENCE, and one of them would be {word!r}"
            )
    return words


Levels: TypeAlias = Annotated[
    tuple[str, str, str] | None,
    typer.Option(
        "--contrast",
        callback=_three,
        metavar="FACTOR LEVEL REFERENCE",
        help="The fold change to report. Default: the last term's last level against its reference.",
    ),
]
Coefficients: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--coefficient", metavar="COLUMN", help="Instead: a design column, such as 'condition[T.C]'; several add up."
    ),
]
Minus: TypeAlias = Annotated[
    list[str] | None, typer.Option("--minus", metavar="COLUMN", help="A design column that is taken off; repeat.")
]
Vector: TypeAlias = Annotated[
    str | None,
    typer.Option("--contrast-vector", metavar="N,N,...", help="Instead: a number for each column of coefficients.csv."),
]
Threshold: TypeAlias = Annotated[
    float | None, typer.Option("--lfc-threshold", help="The log2 fold change to test against. Default: 0.")
]
Alternative: TypeAlias = Annotated[
    str | None,
    typer.Option("--alternative", help=f"What is tested for: {', '.join(ALTERNATIVES)}, as in R. Default: greaterAbs."),
]
Filtering: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--independent-filtering/--no-independent-filtering",
        help="Leave genes with a low base mean out of the adjusted p-values. Default: yes; no with irls.",
    ),
]
Alpha: TypeAlias = Annotated[
    float | None,
    typer.Option("--alpha", help="False discovery rate that independent filtering aims at. Default: 0.05."),
]
Ashr: TypeAlias = Annotated[
    bool | None,
    typer.Option("--ashr/--no-ashr", help="Shrunken fold changes of any contrast beside, as ashr. Default: no."),
]
Names: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--annotation", metavar="FILE.csv", help="Columns such as symbols for the tables: gene names first, a header."
    ),
]
NamesOrColumns: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--annotation",
        metavar="FILE.csv|NAME,...",
        help="Columns such as symbols for the tables: a file of yours, gene names first, a header; "
        "or var columns, where all sites have them alike.",
    ),
]


def own_file(path: Path | None) -> Path | None:
    """The file that ``--annotation`` gives where no site is asked. Raises `InputError` for names of var columns."""
    if path is not None and not path.suffix and not path.exists():
        raise InputError(f"--annotation {str(path)!r}: no site is asked here, so give a file; a fit takes var columns")
    return path


def file_or_columns(text: str | None) -> tuple[Path | None, tuple[str, ...] | None]:
    """What ``--annotation`` gives: a file, by how its name ends, or names of var columns. Raises `InputError`."""
    if text is None or text.lower().endswith(FILES_OF_NAMES):
        return None if text is None else Path(text), None
    if "/" in text or Path(text).is_file():
        raise InputError(f"--annotation {text!r}: the name of such a file ends in {', '.join(FILES_OF_NAMES)}")
    return None, tuple(name.strip() for name in text.split(","))
