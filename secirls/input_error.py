"""The one error a user's mistake ends in: a sentence that names file, site and field."""

from __future__ import annotations


class InputError(ValueError):
    """What was given can't be used. The message is one sentence for the user and holds no counts."""

    detail: str = ""
    """What helps whoever has the file, and is in it: shown where the file lies, never carried to another process."""

    def __reduce__(self) -> tuple[type[InputError], tuple[object, ...]]:
        return type(self), self.args

    @property
    def in_full(self) -> str:
        """The sentence with its detail, for the terminal of whoever has the file."""
        return f"{self} ({self.detail})" if self.detail else str(self)


def complain(problem: str, *, site: str = "", file: str = "", field: str = "", detail: str = "") -> InputError:
    """An `InputError` that says where, then what: ``site 'a', file 'a.h5ad', obs column 'x': is missing``."""
    where = [
        f"{label}{text}"
        for label, text in (("site ", repr(site)), ("file ", repr(file)), ("", field))
        if text not in ("", "''")
    ]
    error = InputError(f"{', '.join(where)}: {problem}" if where else problem)
    error.detail = detail
    return error
