"""Reading and writing AnnData: the one door to anndata.

Promises: what is read is validated whole, and a refusal is one sentence with site, file and field
that quotes no count, and names nothing but what was asked for: what else is in the file stands in its detail.
Refuses to know: designs, queries and protocols.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from secirls.input_error import complain
from secirls.inputs.design import Variable
from secirls.inputs.formula import Factor
from secirls.inputs.labels import MISSING, labels, numbered
from secirls.inputs.var_columns import Unfit, texts
from secirls.numerics.samples import LARGEST_COUNT, Counts, Floats

if TYPE_CHECKING:
    from anndata import AnnData as AnnData  # noqa: PLC0414 - for those who type against it

_ZARR_MARKS = (".zgroup", ".zattrs", "zarr.json")
"""Files of which one lies at the top of every zarr store."""

RAW = "raw:X"
"""The layer that stands for the matrix of ``AnnData.raw``."""
_FRACTIONAL = "has a fractional count: raw counts are needed (round_counts rounds estimated ones)"
BLOCK_GENES = 2048
"""Sparse and float counts are checked and converted this many genes at a time."""


@dataclass(frozen=True)
class Reading:
    """Which parts of a site's AnnData a fit needs."""

    variables: tuple[str, ...]
    layer: str | None = None
    size_factors: str | None = None
    dispersions: str | None = None
    refit_layer: str | None = None
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Levels of the variables that are read as text even where the column holds numbers; none where all are taken."""
    functions: tuple[Factor, ...] = ()
    """Of numeric variables, which must be finite."""
    var_columns: tuple[str, ...] = ()
    """Of text about the genes."""
    round_counts: bool = False
    """Whether estimated counts are rounded to whole numbers, half to even; else they are refused."""


@dataclass(frozen=True)
class SiteTable:
    """One site's validated AnnData content. Never leaves the site's process; repr shows nothing of it."""

    genes: tuple[str, ...] = field(repr=False)
    counts: Counts = field(repr=False)
    """Raw counts ``(samples, genes)``, gene-major in memory."""
    obs: pd.DataFrame = field(repr=False)
    """The formula's variables, one row per sample."""
    variables: Mapping[str, Variable]
    size_factors: Floats | None = field(repr=False, default=None)
    dispersions: Floats | None = field(repr=False, default=None)
    replacement: Counts | None = field(repr=False, default=None)
    """Counts of the refit layer, as `counts`."""
    var_columns: Mapping[str, tuple[str, ...] | Unfit] = field(repr=False, default_factory=dict)
    """What genes are called, in their order; or why a column says nothing of it."""

    def digest(self) -> bytes:
        """SHA-256 of everything that a fit is made from; names of samples, and whatever no fit reads, are not in it."""
        told = hashlib.sha256(repr((self.counts.shape, self.genes)).encode())
        for name, variable in self.variables.items():
            column = self.obs[name]
            values = column.to_numpy(dtype=np.float64).tolist() if variable.numeric else labels(column)
            told.update(repr((name, variable.numeric, values)).encode())
        for counts in (self.counts, self.replacement):
            told.update(b"" if counts is None else hashlib.sha256(counts.T.data).digest())
        for array in (self.size_factors, self.dispersions):
            told.update(b"none" if array is None else hashlib.sha256(array.data).digest())
        return told.digest()


def read_site(
    name: str, source: str | os.PathLike[str] | AnnData, reading: Reading, *, shown: str | None = None
) -> SiteTable:
    """Open and validate one site's AnnData (an h5ad path, or an object), by the name that is ``shown`` for the file.

    Raises `InputError`.
    """
    if isinstance(source, str | os.PathLike):
        where = {"site": name, "file": shown or str(source)}
        adata = _open(Path(source), where)
    else:
        where = {"site": name, "file": shown or "AnnData in memory"}
        if not hasattr(source, "obs_names"):
            raise complain("is neither a path nor an AnnData", site=name)
        adata = in_memory(name, source)
    table = _annotation(adata, reading, where)
    genes, samples = tuple(map(str, table.index)), tuple(map(str, adata.obs_names))
    if not samples:
        raise complain("has no samples", **where)
    if not genes:
        raise complain("has no genes", **where)
    _check_unique(genes, "var_names", "gene", where)
    _check_unique(samples, "obs_names", "sample", where, quote=False)
    counts = _counts(_matrix(adata, reading.layer, where), genes, reading.layer, where, rounded=reading.round_counts)
    replacement = None
    if reading.refit_layer is not None:
        again = _matrix(adata, reading.refit_layer, where)
        replacement = _counts(again, genes, reading.refit_layer, where, rounded=reading.round_counts)
    variables = {column: _variable(adata.obs, column, reading, where) for column in reading.variables}
    return SiteTable(
        genes,
        counts,
        pd.DataFrame({column: adata.obs[column] for column in reading.variables}, index=adata.obs.index),
        variables,
        _positive(adata.obs, "obs", reading.size_factors, where),
        _dispersions(table, reading.dispersions, counts, replacement, where),
        replacement,
        {column: texts(table, column) for column in reading.var_columns},
    )


def read_whole(source: str | os.PathLike[str] | AnnData) -> tuple[AnnData, str]:
    """Everything that is in a file, or in an AnnData, and the name that messages have for it. Raises `InputError`."""
    if isinstance(source, str | os.PathLike):
        return _open(Path(source), {"file": str(source)}), str(source)
    if not hasattr(source, "obs_names"):
        raise complain("is neither a path nor an AnnData", field="the site's data")
    return in_memory("", source), "AnnData in memory"


def in_memory(name: str, source: AnnData) -> AnnData:
    """An AnnData whose matrices are read: one that was opened ``backed`` stays on the disk until here.

    Raises `InputError` where its file can't be read any more.
    """
    if not getattr(source, "isbacked", False):
        return source
    try:
        return source.to_memory()
    except Exception as error:  # noqa: BLE001 - a file may be closed, gone or damaged by now
        raise complain(_unreadable(error), site=name, file=str(source.filename)) from None


def write_site(path: Path, counts: NDArray[Any], obs: pd.DataFrame, genes: Sequence[str], **var: Floats) -> None:
    """Write counts ``(samples, genes)`` with their obs and optional var columns as one h5ad file."""
    import anndata

    table = pd.DataFrame(dict(var), index=pd.Index(list(genes)))
    path.parent.mkdir(parents=True, exist_ok=True)
    anndata.AnnData(np.ascontiguousarray(counts, dtype=np.int32), obs=obs, var=table).write_h5ad(path)


def with_layers(
    source: AnnData, genes: Sequence[str], counts: Counts, obs: Mapping[str, Floats], **layers: Floats
) -> AnnData:
    """An AnnData's samples over some of its genes: counts ``(samples, genes)``, layers like them, more of obs."""
    import anndata

    made = anndata.AnnData(np.ascontiguousarray(counts), obs=source.obs.assign(**obs), var=source.var.loc[list(genes)])
    for name, values in layers.items():
        made.layers[name] = values
    return made


def write_h5ad(path: Path, adata: AnnData) -> None:
    """Write an AnnData. Raises `OSError` saying what the system said."""
    try:
        adata.write_h5ad(path)
    except (OSError, RuntimeError) as error:  # HDF5 tells in a long text, under either, what the system said
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def write_results(path: Path, table: pd.DataFrame, coefficients: pd.DataFrame, report: str) -> None:
    """Write a fit's public results as an AnnData without samples: ``var``, ``varm``, ``uns``. Raises `OSError`."""
    import anndata

    results = anndata.AnnData(
        np.zeros((0, len(table)), dtype=np.float32), var=pd.DataFrame(index=pd.Index(table["gene"], dtype=object))
    )
    for column in table.columns.drop("gene"):
        results.var[column] = table[column].to_numpy()
    values = coefficients.drop(columns="gene")
    results.varm["coefficients"] = values.to_numpy(dtype=np.float64)
    results.uns["coefficient_names"] = list(values.columns)
    results.uns["secirls_report"] = report
    write_h5ad(path, results)


def _open(path: Path, where: Mapping[str, str]) -> AnnData:
    kind = check_place(path, where)
    import anndata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return anndata.read_zarr(path) if kind == "zarr" else anndata.read_h5ad(path)
    except Exception as error:  # noqa: BLE001 - anndata and h5py raise many kinds for files that are not h5ad
        raise complain(_unreadable(error, kind), **where) from None


def check_place(path: Path, where: Mapping[str, str]) -> str:
    """Which of the two forms of AnnData lies there: ``h5ad``, a file, or ``zarr``, a folder. Raises `InputError`."""
    try:
        if stat.S_ISREG(mode := path.stat().st_mode):
            return "h5ad"
        if stat.S_ISDIR(mode) and any((path / mark).is_file() for mark in _ZARR_MARKS):
            return "zarr"
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise complain("is missing", **where) from None
        raise complain(f"can't be read ({error.strerror})", **where) from None
    what = "a folder without a zarr store" if stat.S_ISDIR(mode) else "not a regular file"
    raise complain(f"is {what}, and an h5ad file is wanted", **where)


def _unreadable(error: Exception, kind: str = "h5ad") -> str:
    """Why an AnnData can't be read, without a word of what it holds."""
    if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
        return "is locked: another process has it open for writing"
    if isinstance(error, PermissionError):
        return "can't be read (Permission denied)"
    return f"can't be read as {kind} ({type(error).__name__})"


def _layer_name(layer: str | None) -> str:
    return "X" if layer is None else f"layer {layer!r}"


def _there_are(what: str, names: Iterable[object]) -> str:
    """What a file holds in the place of what was asked for."""
    shown = ", ".join(repr(str(name)) for name in names)
    return f"there are the {what} {shown}" if shown else f"there are no {what}"


def _annotation(adata: AnnData, reading: Reading, where: Mapping[str, str]) -> pd.DataFrame:
    """The genes of the matrix that is read, with what is noted of them: ``raw`` has its own."""
    if not _of_raw(adata, reading.layer):
        return pd.DataFrame(adata.var)
    if reading.refit_layer is not None:
        raise complain("has other genes than raw: a refit needs both layers of one", **where, field="refit_layer")
    if adata.raw is None:
        raise complain("is missing", **where, field=_layer_name(reading.layer))
    return pd.DataFrame(adata.raw.var)


def _of_raw(adata: AnnData, layer: str | None) -> bool:
    """Whether a layer is ``raw``'s matrix, and none that is called so."""
    return layer == RAW and RAW not in adata.layers


def _matrix(adata: AnnData, layer: str | None, where: Mapping[str, str]) -> Any:
    if _of_raw(adata, layer):
        return adata.raw.X
    if layer is not None:
        if layer not in adata.layers:
            names = [name for name in adata.layers if name is not None]  # newer anndata lists X as None
            raise complain("is missing", **where, field=_layer_name(layer), detail=_there_are("layers", names))
        return adata.layers[layer]
    if adata.X is None:
        raise complain("is empty", **where, field="X")
    return adata.X


def _counts(
    matrix: Any, genes: tuple[str, ...], layer: str | None, where: Mapping[str, str], *, rounded: bool
) -> Counts:
    """Dense or sparse, int or integer-valued float counts to gene-major int32, block by block; others ``rounded``."""
    field_name = _layer_name(layer)
    if getattr(matrix, "dtype", np.dtype(object)).kind not in "iufb":
        raise complain("does not hold numbers", **where, field=field_name)
    matrix = matrix.to_memory() if hasattr(matrix, "to_memory") else matrix
    sparse = hasattr(matrix, "tocsc")
    columns = matrix.tocsc() if sparse else matrix
    out = np.empty(matrix.shape, dtype=np.int32, order="F")
    for start in range(0, matrix.shape[1], BLOCK_GENES):
        block = columns[:, start : start + BLOCK_GENES]
        dense = np.asarray(block.toarray() if sparse else block)
        dense = np.rint(dense) if rounded and dense.dtype.kind == "f" and not (dense < 0).any() else dense
        for problem, wrong in _problems(dense):
            if wrong.any():
                gene = genes[start + int(np.flatnonzero(wrong.any(axis=0))[0])]
                raise complain(problem, **where, field=field_name, detail=f"gene {gene!r}")
        out[:, start : start + BLOCK_GENES] = dense
    return out


def _problems(dense: NDArray[Any]) -> list[tuple[str, NDArray[np.bool_]]]:
    with np.errstate(invalid="ignore"):
        return [  # the last in powers of two: as float32, the largest count itself rounds up to the first beyond it
            ("has a count that is not a number", ~np.isfinite(dense)),
            ("has a negative count", dense < 0),
            (_FRACTIONAL, dense != np.floor(dense)),
            (f"has a count above {LARGEST_COUNT}", dense >= LARGEST_COUNT + 1),
        ]


def _check_unique(
    names: Sequence[str], field_name: str, what: str, where: Mapping[str, str], *, quote: bool = True
) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            detail = f"{what} {name!r}" if quote else ""
            raise complain(f"has the same {what} twice", **where, field=field_name, detail=detail)
        seen.add(name)


def _variable(obs: pd.DataFrame, column: str, reading: Reading, where: Mapping[str, str]) -> Variable:
    field_name = f"obs column {column!r}"
    if column not in obs.columns:
        detail = _there_are("columns", obs.columns)
        raise complain("is missing, and the design needs it", **where, field=field_name, detail=detail)
    values = obs[column]
    if values.isna().any():
        raise complain("has a missing value", **where, field=field_name)
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and column not in reading.declared:
        if not np.isfinite(values.to_numpy(dtype=np.float64)).all():
            raise complain("has a value that is not finite", **where, field=field_name)
        for factor in reading.functions:
            if factor.variable == column and not np.isfinite(factor.values(values.to_numpy())).all():
                raise complain(f"has a value at which {factor.expr} is not finite", **where, field=field_name)
        return Variable(numeric=True, numbered=numbered(values.to_numpy(dtype=np.float64)))
    levels = set(labels(values.unique()))
    missing = sorted((levels & MISSING) - set(labels(reading.declared.get(column, ()))))
    if missing:
        raise complain(
            f"has the text {missing[0]!r}, which stands for a missing value: leave those samples out, "
            "or declare it as a level (levels) if it is one",
            **where,
            field=field_name,
        )
    return Variable(numeric=False, levels=_in_order(values, levels))


def _in_order(values: pd.Series[Any], held: set[str]) -> tuple[str, ...]:
    """The levels that samples hold, in the order of the file's categories; numbers by size, texts sorted.

    Categories without samples are left out: they are nobody's business.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        ordered = labels(values.cat.categories)
    elif pd.api.types.is_numeric_dtype(values):
        ordered = labels(np.sort(values.unique()))
    else:
        ordered = sorted(held)
    return tuple(level for level in dict.fromkeys(ordered) if level in held)


def _dispersions(
    var: pd.DataFrame, column: str | None, counts: Counts, replacement: Counts | None, where: Mapping[str, str]
) -> Floats | None:
    """Brought dispersions. A gene without counts needs none: PyDESeq2 and DESeq2 leave it missing, here it gets 1."""
    if column is None:
        return None
    idle: NDArray[np.bool_] = counts.max(axis=0) == 0
    if replacement is not None:
        idle &= replacement.max(axis=0) == 0
    return _positive(var, "var", column, where, fill=idle)


def _positive(
    table: pd.DataFrame,
    axis: str,
    column: str | None,
    where: Mapping[str, str],
    *,
    fill: NDArray[np.bool_] | None = None,
) -> Floats | None:
    """A column of numbers above zero; where ``fill`` says so, one that is missing counts as 1."""
    if column is None:
        return None
    field_name = f"{axis} column {column!r}"
    if column not in table.columns:
        raise complain("is missing", **where, field=field_name, detail=_there_are("columns", table.columns))
    try:
        values = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise complain("does not hold numbers", **where, field=field_name) from None
    if fill is not None:
        values = np.where(fill & np.isnan(values), 1.0, values)
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        detail = f"gene {table.index[int(np.flatnonzero(wrong)[0])]!r}" if axis == "var" else ""
        raise complain("has a missing value or one that is not above zero", **where, field=field_name, detail=detail)
    return np.ascontiguousarray(values)
