"""Text files as people's editors leave them: with a byte order mark or without, read the same.

Promises: UTF-8 is read, and whatever is not is refused in one sentence that says so. Refuses to know: what it says.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secirls.input_error import complain
from secirls.inputs.files.kinds_of_file import kind_of
from secirls.inputs.files.unreadable import unread_home

_PATH = re.compile(r'"(?:[A-Za-z]:\\|\\\\)[^\\]')
"""A path as Windows writes it, in quotes within which a backslash means something else."""

_TURNED = re.compile(r"(?:[A-Za-z]:|\\)[^\\/]*[\x00-\x1f]")
"""What such a path is read as where TOML knows all of its escapes: ``\\t`` of ``C:\\temp`` is a tab."""

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, *, site: str = "") -> str:
    """What a text file says, without its byte order mark. Raises `InputError` that names the file."""
    where = {"site": site, "file": str(path)}
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise complain("is missing", **where, detail=unread_home(path)) from None
    except IsADirectoryError:
        raise complain("is a folder, and a file is wanted", **where) from None
    except OSError as error:
        raise complain(f"can't be read ({error.strerror or type(error).__name__})", **where) from None
    except ValueError:  # of a name with a null byte in it
        raise complain("can't be the name of a file", **where) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if data.startswith(_UTF_16):
            raise complain("is saved as UTF-16: save it as UTF-8", **where) from None
        raise complain("is not UTF-8 text", **where) from None


def _may_have_no_end(path: Path) -> bool:
    """Whether a pipe or a device lies there; what is not there, and a folder, `read_text` complains of."""
    try:
        return kind_of(path) == "other"
    except (OSError, ValueError):
        return False


def read_toml(path: Path, *, site: str = "") -> dict[str, Any]:
    """What a TOML file says. Raises `InputError` that names the file; for a ``site``, also for one that has no end.

    Which file a site stands on is named by whoever starts it, who could name a device or a pipe.
    """
    if site and _may_have_no_end(path):
        raise complain("is not a regular file", site=site, file=str(path))
    text = read_text(path, site=site)
    hint = "a path with backslashes stands in single quotes" if _PATH.search(text) else ""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:  # the second of brackets within brackets
        told = f"is not TOML: {error}" + (f"; {hint}" if hint else "")
        raise complain(told, site=site, file=str(path)) from None
    if hint and (turned := next((value for value in _texts(table) if _TURNED.match(value)), None)):
        raise complain(f"{hint}: {turned!r} is what is read of one", site=site, file=str(path))
    return table


def _texts(value: object) -> Iterator[str]:
    """All texts within what a TOML file says."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
