"""The option ``--plots``: which kinds of files pictures are written as."""

from __future__ import annotations

from typing import Annotated

import typer

from secirls.input_error import InputError

Plots = Annotated[
    str | None,
    typer.Option(
        "--plots", metavar="KINDS", help="Also write pictures: of png, svg and pdf, with commas between. Default: none."
    ),
]


def kinds_of(text: str | None) -> tuple[str, ...]:
    """The kinds asked for, each once; none where the option is not given. Raises `InputError`."""
    if text is None:
        return ()
    from secirls.outputs.pictures.album import check_kinds, kinds_in

    kinds = kinds_in(text)
    try:
        check_kinds(kinds)
    except InputError as error:
        raise InputError(f"--plots {text!r}: {error}") from None
    return kinds
