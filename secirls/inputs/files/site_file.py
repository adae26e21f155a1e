"""Reading and writing AnnData: the one door to anndata.

Promises: what is read is validated whole, and a refusal is one sentence with site, file and field
that quotes no count, and names nothing but what was asked for: what else is in the file stands in its detail.
Refuses to know: designs, queries and protocols.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secirls.input_error import complain
from secirls.inputs.annotation import Annotation
from secirls.inputs.declared_sizes import NAMES, check_declared, size_of
from secirls.inputs.designs.design import Variable
from secirls.inputs.files import site_columns
from secirls.inputs.files.count_matrix import entries_inside, read_counts
from secirls.inputs.files.kinds_of_file import kind_of
from secirls.inputs.files.one_file import check_one_file, open_store
from secirls.inputs.files.stored_sparse import FORMATS, StoredSparse
from secirls.inputs.files.unreadable import check_tables, unread_home, unreadable
from secirls.inputs.files.unreadable import reading as read
from secirls.inputs.files.var_columns import Unfit, texts
from secirls.inputs.formulas.formula import Factor
from secirls.inputs.formulas.labels import labels
from secirls.numerics.arrays import Counts, Floats
from secirls.numerics.held.held_counts import HeldCounts, in_blocks

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData as AnnData  # noqa: PLC0414 - for those who type against it

_ZARR_MARKS = (".zgroup", ".zattrs", "zarr.json")
"""Files of which one lies at the top of every zarr store."""

RAW = "raw:X"
"""The layer that stands for the matrix of ``AnnData.raw``."""


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
    counts: Counts | HeldCounts = field(repr=False)
    """Raw counts ``(samples, genes)``, gene-major in memory; many of them are no array."""
    obs: Annotation = field(repr=False)
    """The formula's variables, one row per sample."""
    variables: Mapping[str, Variable]
    size_factors: Floats | None = field(repr=False, default=None)
    dispersions: Floats | None = field(repr=False, default=None)
    replacement: Counts | HeldCounts | None = field(repr=False, default=None)
    """Counts of the refit layer, as `counts`."""
    var_columns: Mapping[str, tuple[str, ...] | Unfit] = field(repr=False, default_factory=dict)
    """What genes are called, in their order; or why a column says nothing of it."""
    samples: tuple[str, ...] = field(repr=False, default=())
    """Names of the samples, in order; for the site's own memory."""

    def digest(self) -> bytes:
        """SHA-256 of everything that a fit is made from; names of samples, and whatever no fit reads, are not in it."""
        told = hashlib.sha256(repr((self.counts.shape, self.genes)).encode())
        for name, kind in self.variables.items():
            column = self.obs[name]
            values = column.to_numpy().tolist() if kind.numeric else labels(column)
            told.update(repr((name, kind.numeric, values)).encode())
        for counts in (self.counts, self.replacement):
            told.update(b"" if counts is None else _digest(counts))
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
        with _opened(Path(source), where) as (stored, kind):
            return _table(stored, reading, where, partial(read, kind, where))
    where = {"site": name, "file": shown or "AnnData in memory"}
    if not hasattr(source, "obs_names"):
        raise complain("is neither a path nor an AnnData", site=name)
    return _table(in_memory(name, source), reading, where, nullcontext)


def _table(
    adata: AnnData | Stored,
    asked: Reading,
    where: Mapping[str, str],
    reading: Callable[[], AbstractContextManager[None]],
) -> SiteTable:
    """What is asked for of an AnnData; ``reading`` is entered while it is read. Raises `InputError`."""
    with reading():
        obs = _columns(adata, "obs", (*asked.variables, asked.size_factors))
        table = _columns(_with_genes(adata, asked, where), "var", (*asked.var_columns, asked.dispersions))
        matrices = [_matrix(adata, layer, {**where, "field": _layer_name(layer)}) for layer in _layers(asked)]
        shapes = [_shape(matrix) for matrix in matrices]
    obs = site_columns.stood_in(obs, asked.variables, where["site"])
    genes, samples = table.index, obs.index
    if not samples:
        raise complain("has no samples", **where)
    if not genes:
        raise complain("has no genes", **where)
    site_columns.check_unique(genes, "var_names", "gene", where)
    site_columns.check_unique(samples, "obs_names", "sample", where, quote=False)
    held = []
    for layer, matrix, shape in zip(_layers(asked), matrices, shapes, strict=True):
        there = {**where, "field": _layer_name(layer)}
        if shape != (len(samples), len(genes)):
            raise complain("has other numbers of samples or genes than obs and var", **there)
        told = "" if asked.layer or not (names := _names(adata)) else site_columns.there_are("layers", names)
        held.append(read_counts(matrix, genes, there, rounded=asked.round_counts, reading=reading, beside=told))
    counts, replacement = held[0], held[1] if len(held) > 1 else None
    kind = partial(site_columns.variable, obs, where=where, functions=asked.functions, var=table.columns)
    variables = {name: kind(name, declared=asked.declared.get(name)) for name in asked.variables}
    return SiteTable(
        genes,
        counts,
        obs.only(asked.variables),
        variables,
        site_columns.positive(obs, "obs", asked.size_factors, where),
        site_columns.brought_dispersions(table, asked.dispersions, counts, replacement, where),
        replacement,
        {column: texts(table, column) for column in asked.var_columns},
        samples,
    )


def _layers(asked: Reading) -> tuple[str | None, ...]:
    """Where counts are read from: for the fit, and for genes that are fitted again."""
    return (asked.layer,) if asked.refit_layer is None else (asked.layer, asked.refit_layer)


def _shape(matrix: Any) -> tuple[int, ...] | None:
    """What a matrix says of itself, if it is one; what is missing of a sparse one on the disk is found out here."""
    return tuple(matrix.shape) if hasattr(matrix, "shape") and matrix.dtype is not None else None


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
        raise complain(unreadable(error), site=name, file=str(source.filename)) from None


def write_site(path: Path, counts: NDArray[Any], obs: pd.DataFrame, genes: Sequence[str], **var: Floats) -> None:
    """Write counts ``(samples, genes)`` with their obs and optional var columns as one h5ad file."""
    import anndata
    import pandas as pd

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
    import pandas as pd

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
    """All of a file."""
    kind = check_place(path, where)
    import anndata

    with read(kind, where, path), _group(path, kind, where), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anndata.read_zarr(path) if kind == "zarr" else anndata.read_h5ad(path)


@contextmanager
def _opened(path: Path, where: Mapping[str, str]) -> Iterator[tuple[AnnData | Stored, str]]:
    """A file whose parts are read when they are asked for, and which form it has; an old one is read whole."""
    kind = check_place(path, where)
    with ExitStack() as stack:
        with read(kind, where, path):
            group = stack.enter_context(_group(path, kind, where))
            whole = group.attrs.get("encoding-type") != "anndata"
        yield (_open(path, where) if whole else Stored(group, NAMES * size_of(path))), kind


@contextmanager
def _group(path: Path, kind: str, where: Mapping[str, str]) -> Iterator[Any]:
    """The open group of a file that holds all of itself. Raises `InputError`."""
    import h5py

    with nullcontext(open_store(path, where)) if kind == "zarr" else h5py.File(path, "r") as group:
        if kind != "zarr":
            check_one_file(group, where)
        check_declared(group, size_of(path), where)
        check_tables(group, kind, where)
        yield group


class Stored:
    """An AnnData on the disk: its annotation, and matrices that are read a part at a time."""

    def __init__(self, group: Any, most: int) -> None:
        """Take the open group of the file, or of its ``raw``, and how many names it may have. Nothing is read yet."""
        self._group, self._most = group, most
        self.layers = Layers(group.get("layers", {}))

    def columns(self, axis: str, wanted: Sequence[str]) -> Annotation:
        """The samples' annotation (``obs``) or the genes' (``var``), with some of its columns."""
        return Annotation.read(self._group[axis], wanted, _element, self._most)

    @property
    def X(self) -> Any:  # noqa: N802 - as AnnData has it
        """The matrix itself, or nothing."""
        return _stored_matrix(self._group["X"]) if "X" in self._group else None

    @property
    def raw(self) -> Stored | None:
        """What ``raw`` holds, or nothing."""
        there = "raw" in self._group and self._group["raw"].attrs.get("encoding-type") != "null"
        return Stored(self._group["raw"], self._most) if there else None


class Layers(Mapping[str, Any]):
    """The layers of an AnnData on the disk."""

    def __init__(self, group: Any) -> None:
        """Take their open group."""
        self._group = group

    def __getitem__(self, name: str) -> Any:
        if name not in list(self._group):  # a path would lead out of the layers
            raise KeyError(name)
        return _stored_matrix(self._group[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __len__(self) -> int:
        return len(self._group)


def _element(stored: Any) -> Any:
    import anndata.io

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anndata.io.read_elem(stored)


def _stored_matrix(stored: Any) -> Any:
    """A matrix whose parts are read when they are sliced; of any other form, all of it."""
    form = stored.attrs.get("encoding-type")
    if form in FORMATS:
        return StoredSparse(stored)
    return stored if form == "array" else _element(stored)


def check_place(path: Path, where: Mapping[str, str]) -> str:
    """Which of the two forms of AnnData lies there: ``h5ad``, a file, or ``zarr``, a folder. Raises `InputError`."""
    try:
        if (kind := kind_of(path)) == "file":
            return "h5ad"
        if kind == "folder" and any((path / mark).is_file() for mark in _ZARR_MARKS):
            return "zarr"
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise complain("is missing", **where, detail=unread_home(path)) from None
        raise complain(f"can't be read ({error.strerror})", **where) from None
    except ValueError:  # of a name with a null byte in it
        raise complain("can't be the name of a file", **where) from None
    what = "a folder without a zarr store" if kind == "folder" else "not a regular file"
    raise complain(f"is {what}, and an h5ad file is wanted", **where)


def _layer_name(layer: str | None) -> str:
    return "X" if layer is None else f"layer {layer!r}"


def _digest(counts: Counts | HeldCounts) -> bytes:
    told = hashlib.sha256()
    for _, block in in_blocks(counts):
        told.update(block.data)
    return told.digest()


def _columns(adata: AnnData | Stored, axis: str, wanted: Sequence[str | None]) -> Annotation:
    names = [name for name in wanted if name is not None]
    return adata.columns(axis, names) if isinstance(adata, Stored) else Annotation.of(getattr(adata, axis), names)


def _with_genes(adata: AnnData | Stored, reading: Reading, where: Mapping[str, str]) -> AnnData | Stored:
    """What has the genes of the matrix that is read, with what is noted of them: ``raw`` has its own."""
    if not _of_raw(adata, reading.layer):
        return adata
    if reading.refit_layer is not None:
        raise complain("has other genes than raw: a refit needs both layers of one", **where, field="refit_layer")
    if adata.raw is None:
        raise complain("is missing", **where, field=_layer_name(reading.layer))
    return adata.raw


def _names(adata: AnnData | Stored) -> list[str]:
    """The layers beside X."""
    names = [name for name in adata.layers if name is not None]  # newer anndata lists X as None
    return names + [RAW] * (adata.raw is not None)


def _of_raw(adata: AnnData | Stored, layer: str | None) -> bool:
    """Whether a layer is ``raw``'s matrix, and none that is called so."""
    return layer == RAW and RAW not in adata.layers


def _matrix(adata: AnnData | Stored, layer: str | None, there: Mapping[str, str]) -> Any:
    with entries_inside(there):
        if _of_raw(adata, layer):
            return None if adata.raw is None else adata.raw.X
        if layer is not None:
            if layer not in adata.layers:
                raise complain("is missing", **there, detail=site_columns.there_are("layers", _names(adata)))
            return adata.layers[layer]
        if (matrix := adata.X) is None:
            raise complain("is empty", **there)
        return matrix
