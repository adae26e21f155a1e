"""The one error a user's mistake ends in: a sentence that names file, site and field."""

from __future__ import annotations


class InputError(ValueError):
    """What was given can't be used. The message is one sentence for the user and holds no counts."""


def complain(problem: str, *, site: str = "", file: str = "", field: str = "") -> InputError:
    """An `InputError` that says where, then what: ``site 'a', file 'a.h5ad', obs column 'x': is missing``."""
    where = [
        f"{label}{text}"
        for label, text in (("site ", repr(site)), ("file ", repr(file)), ("", field))
        if text not in ("", "''")
    ]
    return InputError(f"{', '.join(where)}: {problem}" if where else problem)
