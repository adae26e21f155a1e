"""Federated negative-binomial regression under secure sums.

`fit` runs one regression per gene over several sites and opens only the sums over them.
Importing this package starts nothing and imports neither ray nor anndata.
"""

from importlib.metadata import version as _version

from secirls.config import Config
from secirls.fitting import fit
from secirls.input_error import InputError
from secirls.outputs.results import Result

__version__ = _version("secirls")
__all__ = ["Config", "InputError", "Result", "fit"]
