"""Whether a folder may take results, and whether there is one: asked before anything is started."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from secirls.input_error import InputError
from secirls.whole_file import remove

FILES = ("results.csv", "coefficients.csv", "rounds.csv", "report.json")
"""By which results are known."""
KEPT, LOADINGS, PAGE = "fit.npz", "loadings.csv", "report.html"
RANKED, RANKED_BY_SYMBOL = "ranked.rnk", "ranked.symbols.rnk"
PLAIN = "plain"
"""Folder below a fit's own, where the same fit in the clear lies if it was made."""
OF_A_FIT = (*FILES, "dispersions.csv", "results.h5ad", KEPT, LOADINGS, PAGE, RANKED, RANKED_BY_SYMBOL)
"""All that a fit and its page write, but for pictures."""
PICTURES = ("ma", "volcano", "pvalues", "dispersions", "outliers", "convergence", "overhead", "cost_by_round")
"""Pictures of a fit, by name."""
PICTURE_KINDS = ("png", "svg", "pdf")
"""Kinds of files that pictures are written as."""


def holds_results(out: Path) -> bool:
    """Whether a folder has results of a fit."""
    return any((out / name).exists() for name in FILES)


def clear_others(out: Path, written: Sequence[str]) -> None:
    """Take away what the results that were there before have, and those ``written`` in their place have not.

    It would pass for theirs: a page, pictures, dispersions of another fit.
    """
    for name in {*OF_A_FIT, *(f"{picture}.{kind}" for picture in PICTURES for kind in PICTURE_KINDS)}.difference(
        written
    ):
        remove(out / name)


def check_there(folder: Path, names: Sequence[str]) -> None:
    """Raise `InputError` where there is no folder to read these files of results from: where a fit can go on, so."""
    from secirls.aggregator.checkpoint import holds_a_fit

    where = f"folder {str(folder)!r}"
    if not folder.is_dir():
        raise InputError(f"{where}: {'is a file' if folder.exists() else 'is missing'}")
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking and holds_a_fit(folder):
        raise InputError(
            f"{where}: holds an unfinished fit: 'secirls resume {shlex.quote(str(folder))}' goes on with it"
        )
    if lacking == [KEPT] and holds_results(folder):
        raise InputError(f"{where}: has results and no {KEPT}, as of a release that kept none; make the fit again")
    if lacking:
        raise InputError(f"{where}: has no {lacking[0]}, so it is not the output of 'secirls fit'")


def check_free_file(file: Path, *, overwrite: bool, fit: Path | None = None) -> None:
    """Raise `InputError` unless a file may be written there: new, or in the place of a regular one if ``overwrite``.

    Never in the place of one of the ``fit`` that is asked, or of another. A link is refused, not followed: what it
    leads to may be somebody else's.
    """
    where = f"file {str(file)!r}"
    if file.is_symlink():
        raise InputError(f"{where}: is a link; name the file itself, or another")
    place = file.resolve()
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise InputError(f"{where}: is no regular file; name another")
    folders = [place.parent] if (place.parent / KEPT).exists() else []
    folders += [] if fit is None else [fit]
    if any(place == (folder / name).resolve() for folder in folders for name in OF_A_FIT):
        raise InputError(f"{where}: is one of a fit's own files; name another")
    if file.exists() and (file.is_dir() or not overwrite):
        raise InputError(f"{where}: is there already; name another{'' if overwrite else ' or give --overwrite'}")


def check_free(out: Path, *, overwrite: bool) -> None:
    """Raise `InputError` if results can't be written to a folder."""
    if out.is_symlink() and not out.exists():
        raise InputError(f"folder {str(out)!r}: is a link to nothing")
    if out.exists() and not out.is_dir():
        raise InputError(f"folder {str(out)!r}: is a file")
    if not overwrite and holds_results(out):
        raise InputError(f"folder {str(out)!r}: holds the results of a fit already; name another or give --overwrite")
