"""Whether a folder may take results, and whether there is one: asked before anything is started."""

from __future__ import annotations

from pathlib import Path

from secirls.input_error import InputError

FILES = ("results.csv", "coefficients.csv", "rounds.csv", "report.json")
"""By which results are known."""


def holds_results(out: Path) -> bool:
    """Whether a folder has results of a fit."""
    return any((out / name).exists() for name in FILES)


def check_there(folder: Path) -> None:
    """Raise `InputError` where there is no folder to read results from."""
    if not folder.is_dir():
        raise InputError(f"folder {str(folder)!r}: {'is a file' if folder.exists() else 'is missing'}")


def check_free(out: Path, *, overwrite: bool) -> None:
    """Raise `InputError` if results can't be written to a folder."""
    if out.is_symlink() and not out.exists():
        raise InputError(f"folder {str(out)!r}: is a link to nothing")
    if out.exists() and not out.is_dir():
        raise InputError(f"folder {str(out)!r}: is a file")
    if not overwrite and holds_results(out):
        raise InputError(f"folder {str(out)!r}: holds the results of a fit already; name another or give --overwrite")
