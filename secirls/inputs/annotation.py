"""obs and var: the names of samples or genes, and those of their columns that a fit needs.

Promises: a column is read from a file as anndata reads it, without anndata and pandas, which take longer to load than
to read with; what is encoded in another way than anndata writes today is left to them. Refuses to know: what columns
mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from secirls.inputs.declared_sizes import declared
from secirls.numerics.arrays import Floats, Mask

if TYPE_CHECKING:
    import pandas as pd

_TABLE = ("dataframe", "0.2.0")


class Columns(Protocol):
    """Columns by name, an `Annotation` or a pandas DataFrame."""

    def __getitem__(self, name: str, /) -> Any: ...

    def __len__(self) -> int:
        """How many samples or genes."""


@dataclass(frozen=True)
class Column:
    """One column, ``(samples,)`` or ``(genes,)``: iterated, its values as Python has them."""

    cells: NDArray[Any] = field(repr=False)
    """Anything stands where a value is missing."""
    missing: Mask = field(repr=False)
    numeric: bool
    """Whether it holds numbers, and not true and false."""
    categories: tuple[object, ...] | None = field(repr=False, default=None)
    """All of a categorical column, in the file's order."""

    @classmethod
    def of(cls, series: pd.Series[Any]) -> Column:
        """A column of pandas's."""
        import pandas as pd

        kinds, values = pd.api.types, np.empty(len(series), dtype=object)
        values[:] = list(series)
        numeric = kinds.is_numeric_dtype(series) and not (kinds.is_bool_dtype(series) or kinds.is_complex_dtype(series))
        categorical = isinstance(series.dtype, pd.CategoricalDtype)
        categories = tuple(series.cat.categories.tolist()) if categorical else None
        return cls(values, series.isna().to_numpy(dtype=np.bool_), numeric, categories)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.cells.tolist())

    def __len__(self) -> int:
        return len(self.cells)

    def present(self) -> list[Any]:
        """The values that are not missing, in order."""
        present: list[Any] = self.cells[~self.missing].tolist()
        return present

    def to_numpy(self, dtype: type[np.float64] = np.float64) -> Floats:
        """As numbers, not a number where one is missing. `TypeError`, `ValueError` where it holds something else."""
        numbers = np.full(len(self), np.nan, dtype=dtype)
        numbers[~self.missing] = np.asarray(self.cells[~self.missing], dtype=dtype)
        return numbers


@dataclass(frozen=True)
class Annotation:
    """obs or var, with those of its columns that were asked for and are there once."""

    index: tuple[str, ...] = field(repr=False)
    """Names of samples or genes."""
    columns: tuple[str, ...]
    """Names of all columns."""
    held: dict[str, Column] = field(repr=False)

    @classmethod
    def of(cls, frame: pd.DataFrame, wanted: Iterable[str]) -> Annotation:
        """Of an AnnData in memory, or read by anndata."""
        columns = tuple(frame.columns)
        held = {name: Column.of(frame[name]) for name in _once(wanted, columns)}
        return cls(tuple(map(str, frame.index)), columns, held)

    @classmethod
    def read(cls, stored: Any, wanted: Iterable[str], otherwise: Callable[[Any], Any], most: int) -> Annotation:
        """From an open file; ``otherwise`` reads a whole data frame that is encoded in a way not known here.

        Raises `ValueError`, before they are read, of more than ``most`` names or categories, or of more values than
        there are names.
        """
        if (known := _read(stored, wanted, most)) is not None:
            return known
        _check_number(declared(stored).values, most)
        return cls.of(otherwise(stored), wanted)

    def __getitem__(self, name: str) -> Column:
        return self.held[name]

    def __len__(self) -> int:
        return len(self.index)

    def only(self, names: Sequence[str]) -> Annotation:
        """The same with no other columns than these, of which values are held."""
        columns = tuple(name for name in names if name in self.columns)
        return Annotation(self.index, columns, {name: self.held[name] for name in names})


def _once(wanted: Iterable[str], columns: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(wanted) if columns.count(name) == 1]


def _read(stored: Any, wanted: Iterable[str], most: int) -> Annotation | None:
    """A data frame of an h5ad file; nothing where its encoding, or that of a column, is not known."""
    import h5py

    if not isinstance(stored, h5py.Group) or _encoding(stored) != _TABLE:
        return None
    columns = tuple(stored.attrs["column-order"])
    names = _column(stored[stored.attrs["_index"]], most, most)
    if names is None:
        return None
    index = tuple(names)
    held = {name: _column(stored[name], len(index), most) for name in _once(wanted, columns)}
    if not all(issubclass(kind, str) for kind in {*map(type, index), *map(type, columns)}):
        return None
    known = {name: column for name, column in held.items() if column is not None and len(column) == len(index)}
    return Annotation(index, columns, known) if len(known) == len(held) else None


def _encoding(stored: Any) -> tuple[Any, Any]:
    return stored.attrs.get("encoding-type"), stored.attrs.get("encoding-version")


def _check_number(values: int, most: int) -> None:
    if values > most:
        raise ValueError("there are more values than names of samples or genes, or than the file has room for")


def _column(stored: Any, length: int, most: int) -> Column | None:
    """A column as anndata has written it since 0.8; nothing where it is none of these, or contradicts itself.

    Raises `ValueError` where it has more values than its ``length``, or more than ``most`` categories.
    """
    match _encoding(stored):
        case ("array", "0.2.0"):
            _check_number(stored.size, length)
            values = stored[()]
            if values.ndim != 1 or values.dtype.kind not in "iufb":
                return None
            return Column(values, np.isnan(values), values.dtype.kind != "b")
        case ("string-array", "0.2.0"):
            _check_number(stored.size, length)
            values = stored.asstr()[()]
            return Column(values, np.zeros(values.shape, np.bool_), numeric=False) if values.ndim == 1 else None
        case ("categorical", "0.2.0"):
            return _categorical(stored, length, most)
        case ("nullable-integer", "0.1.0"):
            return _masked(stored, "iu", length)
        case ("nullable-boolean", "0.1.0"):
            return _masked(stored, "b", length)
        case ("nullable-string-array", "0.1.0"):
            return _masked(stored, "O", length)
    return None


def _masked(stored: Any, kinds: str, length: int) -> Column | None:
    """Values of such a `dtype.kind`, and which of them are missing."""
    cells, mask = (_column(stored[part], length, 0) for part in ("values", "mask"))
    if cells is None or mask is None or len(cells) != len(mask):
        return None
    if cells.cells.dtype.kind not in kinds or mask.cells.dtype.kind != "b":
        return None
    return Column(cells.cells, mask.cells, cells.numeric)


def _categorical(stored: Any, length: int, most: int) -> Column | None:
    """Codes of categories, all of them different; a missing value has the code -1."""
    codes, told = _column(stored["codes"], length, 0), _column(stored["categories"], most, 0)
    if codes is None or told is None or codes.cells.dtype.kind not in "iu" or "ordered" not in stored.attrs:
        return None
    categories, places = tuple(told), codes.cells.astype(np.intp)
    valid = not places.size or (places.min() >= -1 and places.max() < len(categories))
    if not valid or told.missing.any() or len(set(categories)) < len(categories):
        return None
    values = np.empty(len(categories) + 1, dtype=object)
    values[: len(categories)] = categories
    return Column(values[places], places == -1, numeric=False, categories=categories)
