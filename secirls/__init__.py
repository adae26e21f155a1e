"""Federated negative-binomial regression under secure sums.

`fit` runs one regression per gene over several sites and opens only the sums over them.
Importing this package starts nothing and loads nothing: each name is fetched when it is first used.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from secirls.config import Config
    from secirls.fitting import fit
    from secirls.input_error import InputError
    from secirls.outputs.results import Result

__all__ = ["Config", "InputError", "Result", "fit"]

_ROOMS = {
    "Config": "secirls.config",
    "InputError": "secirls.input_error",
    "Result": "secirls.outputs.results",
    "fit": "secirls.fitting",
}


def __getattr__(name: str) -> _Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("secirls")
    if name not in _ROOMS:
        raise AttributeError(f"module 'secirls' has no attribute {name!r}")
    return getattr(_import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
