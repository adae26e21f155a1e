"""Text files as people's editors leave them: with a byte order mark or without, read the same.

Promises: UTF-8 is read, and whatever is not is refused in one sentence that says so. Refuses to know: what it says.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from secirls.input_error import complain

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, *, site: str = "") -> str:
    """What a text file says, without its byte order mark. Raises `InputError` that names the file."""
    where = {"site": site, "file": str(path)}
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise complain("is missing", **where) from None
    except IsADirectoryError:
        raise complain("is a folder, and a file is wanted", **where) from None
    except OSError as error:
        raise complain(f"can't be read ({error.strerror or type(error).__name__})", **where) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if data.startswith(_UTF_16):
            raise complain("is saved as UTF-16: save it as UTF-8", **where) from None
        raise complain("is not UTF-8 text", **where) from None
