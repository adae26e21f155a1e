"""What a fit leaves for later questions: public sums and flags of every gene, in one file, ``fit.npz``.

Promises: what is read is what was written, to the last bit; nothing in the file is executed; a file that is not one is
refused in a sentence. Refuses to know: samples, sites' sums, and what will be asked.

The file is a NumPy archive without pickled objects (`numpy.load` opens it, and so does any reader of zip and npy):

========================  ==========================================================================================
``header``                bytes of a JSON object in UTF-8: ``format`` (``secirls fit``), ``version`` (1), ``release``,
                          ``config``, ``design`` (formula, levels ...), ``asked`` (what the table beside it compares),
                          ``columns``, ``genes``, ``annotation``
``beta``                  float64 ``(genes, params)``, natural log, params in the order of ``columns``, as is
                          ``information``: of numeric columns centred and scaled, where there are any
``to_user``               float64 ``(params, params)``: T, such that T beta are coefficients of the user's columns;
                          ``(0, 0)`` for the identity
``information``           float64 ``(genes, params (params + 1) / 2)``: upper triangles of X'WX, row by row
``status``, ``reason``    int8 ``(genes,)``: `Status` and `Reason`
``iterations``            int32 ``(genes,)``
``base_means``            float64 ``(genes,)``
``dispersions``           float64 ``(genes,)``; NaN where the sites brought theirs
``replaced``, ``emptied``, ``outlier``  bool ``(genes,)``: fitted again without outlying counts; without a count left
                          after that; without a p-value because of an outlier
``start``                 float64 ``(genes, params)``: least-squares coefficients of log(y / s + 0.1), scaled as beta
``xtx``                   float64 ``(params, params)``: X'X, scaled so too; ``(0, 0)`` where not all sums are over the
                          same sites
``ratio``                 float64 ``(genes,)``: statistics of the likelihood-ratio test; ``(0,)`` where there was none
``without_ratio``         int8, as long as ``ratio``: `Reason` of fitted genes that have none
``shrunken``, ``posterior_deviation``  float64 ``(genes,)``, natural log: the coefficient that was shrunken and its
                          standard deviation; ``(0,)`` where none was
``not_shrunken``          int8, as long as ``shrunken``: `Reason` of genes that were to be, and were not
``log_means``             float64 ``(genes,)``: mean log counts that size factors follow from, NaN for genes that do not
                          count; ``(0,)`` where sites brought size factors
``sizing``                float64 ``(3,)``: what brought size factors are divided by, mean log size factor of positive
                          counts, mean of 1 / s over all samples; see `Sizing`
``local_trend``           float64 ``(3, points)``: of a local trend, log means, log dispersions and slopes there;
                          ``(3, 0)`` where there is none
========================  ==========================================================================================
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from secirls.aggregator.aggregator import Outcome
from secirls.agreement.agreement import release
from secirls.algorithms.fitted import Fitted
from secirls.algorithms.groundwork.normalisation import LARGEST_LOG_SIZE
from secirls.algorithms.groundwork.sizing import Sizing
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.designs.design import Design, variables
from secirls.inputs.designs.own_columns import OwnColumns
from secirls.numerics.algebra.solve import packed_size
from secirls.numerics.arrays import Floats, Mask
from secirls.numerics.held.covariates import of_scaled, to_user
from secirls.numerics.status import Reason, Status, sentences
from secirls.outputs.free_folder import KEPT, check_there
from secirls.outputs.tables.comparison import Comparison
from secirls.whole_file import stored

FORMAT, VERSION = "secirls fit", 1
_KINDS = {
    "status": "int8",
    "reason": "int8",
    "iterations": "int32",
    "replaced": "bool",
    "emptied": "bool",
    "outlier": "bool",
    "without_ratio": "int8",
    "not_shrunken": "int8",
}
"""Of the arrays that are not of float64."""


@dataclass(frozen=True)
class KeptFit:
    """A fit as its folder keeps it; arrays as in the file."""

    config: Config
    design: Design
    asked: Comparison
    """What the table beside it compares."""
    genes: tuple[str, ...] = field(repr=False)
    beta: Floats = field(repr=False)
    to_user: Floats = field(repr=False)
    information: Floats = field(repr=False)
    status: NDArray[np.int8] = field(repr=False)
    reason: NDArray[np.int8] = field(repr=False)
    iterations: NDArray[np.int32] = field(repr=False)
    base_means: Floats = field(repr=False)
    dispersions: Floats = field(repr=False)
    replaced: Mask = field(repr=False)
    emptied: Mask = field(repr=False)
    outlier: Mask = field(repr=False)
    start: Floats = field(repr=False)
    xtx: Floats = field(repr=False)
    ratio: Floats = field(repr=False)
    without_ratio: NDArray[np.int8] = field(repr=False)
    shrunken: Floats = field(repr=False)
    posterior_deviation: Floats = field(repr=False)
    not_shrunken: NDArray[np.int8] = field(repr=False)
    log_means: Floats = field(repr=False)
    sizing: Floats = field(repr=False)
    local_trend: Floats = field(repr=False)
    annotation: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """Columns about the genes that the user named, in order."""

    @classmethod
    def of(cls, config: Config, outcome: Outcome) -> KeptFit:
        """What is worth keeping of a fit's outcome."""
        fitted, state, treatment = outcome.fitted, outcome.fitted.state, outcome.fitted.treatment
        genes = len(outcome.genes)
        none = np.zeros(genes, dtype=bool)
        ratio, shrunken, no_codes = fitted.ratio, fitted.shrinkage, np.zeros(0, dtype=np.int8)
        whole = len({tuple(sorted(told.parties)) for told in outcome.rounds}) == 1
        return cls(
            config,
            replace(outcome.design, own=OwnColumns(outcome.design.own.of)),
            Comparison.of(config, outcome.design),
            outcome.genes,
            state.beta,
            np.zeros((0, 0)) if fitted.scaled is None else fitted.scaled.to_user,
            fitted.information,
            state.status.astype(np.int8),
            state.reason.astype(np.int8),
            state.iterations.astype(np.int32),
            fitted.base_means,
            np.full(genes, np.nan) if fitted.dispersions is None else fitted.dispersions,
            none if treatment is None else treatment.replaced,
            none if treatment is None else treatment.emptied,
            none if treatment is None else treatment.missing,
            state.start,
            fitted.xtx if whole else np.zeros((0, 0)),
            np.zeros(0) if ratio is None else ratio.statistics,
            no_codes if ratio is None else ratio.reason.astype(np.int8),
            np.zeros(0) if shrunken is None else shrunken.estimate,
            np.zeros(0) if shrunken is None else shrunken.deviation,
            no_codes if shrunken is None else shrunken.reason.astype(np.int8),
            *_for_transforms(config, fitted, genes),
            annotation=outcome.annotation.columns,
        )

    @property
    def fitted(self) -> Mask:
        """Genes whose coefficients are an answer, ``(genes,)``."""
        return np.isin(self.status, (Status.CONVERGED, Status.CAUGHT))

    def scaled(self, contrast: Floats) -> Floats:
        """The contrast of coefficients as they are kept that one of the user's columns ``(params,)`` is."""
        return of_scaled(contrast, self.to_user) if self.to_user.size else contrast

    @property
    def coefficients(self) -> Floats:
        """Those of the user's columns, ``(genes, params)``."""
        return to_user(self.beta, self.to_user) if self.to_user.size else self.beta

    def reasons(self) -> dict[int, str]:
        """A sentence for every gene that did not simply converge, by index."""
        return sentences(self.reason)

    def write(self, path: Path) -> None:
        """Write the file; whoever asks sees to it that it is there whole."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "release": release(),
            "config": self.config.model_dump(mode="json"),
            "design": _DESIGN.dump_python(self.design, mode="json"),
            "asked": _ASKED.dump_python(self.asked, mode="json"),
            "columns": self.design.columns,
            "genes": self.genes,
            "annotation": dict(self.annotation),
        }
        arrays = {name: getattr(self, name) for name in _arrays()}
        np.savez(path, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)

    @classmethod
    def read(cls, folder: Path) -> KeptFit:
        """What the folder of a fit keeps. Raises `InputError`."""
        path = folder / KEPT
        where = f"file {str(path)!r}"
        check_there(folder, (KEPT,))
        try:
            with np.load(io.BytesIO(stored(path.read_bytes())), allow_pickle=False) as archive:
                header = json.loads(bytes(archive["header"]).decode())
                _check_version(where, header)
                arrays = {name: archive[name] for name in _arrays()}
            kept = cls(
                Config.model_validate(header["config"]),
                _design(header["design"]),
                _ASKED.validate_python(header["asked"]),
                tuple(header["genes"]),
                **arrays,
                annotation={str(name): tuple(map(str, told)) for name, told in header["annotation"].items()},
            )
            kept.check(header["columns"])
        except InputError:
            raise
        except (
            ValidationError,
            zipfile.BadZipFile,
            EOFError,
            KeyError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
        ):
            raise InputError(f"{where}: is damaged, or no kept fit") from None
        return kept

    def check(self, columns: list[str]) -> None:
        """Raise `ValueError` unless arrays, genes and design fit each other."""
        genes, params = len(self.genes), len(self.design.columns)
        shapes: dict[str, tuple[int, ...]] = {
            "beta": (genes, params),
            "start": (genes, params),
            "information": (genes, packed_size(params)),
        }
        shapes |= {"sizing": (3,), "local_trend": (3, self.local_trend.size // 3)}
        absent = set() if self.config.test == "lrt" else {"ratio", "without_ratio"}
        absent |= {"log_means"} if self.config.size_factors else set()
        absent |= set() if self.config.shrink else {"shrunken", "posterior_deviation", "not_shrunken"}
        for name in _arrays():
            array = getattr(self, name)
            shape = (
                array.shape if name in {"xtx", "to_user"} else (0,) if name in absent else shapes.get(name, (genes,))
            )
            if array.dtype != np.dtype(_KINDS.get(name, "float64")) or array.shape != shape:
                raise ValueError(name)
        if tuple(columns) != self.design.columns or self.xtx.shape not in {(0, 0), (params, params)}:
            raise ValueError("columns")
        if self.to_user.shape != ((params, params) if self.design.features else (0, 0)):
            raise ValueError("to_user")
        if any(len(told) != genes for told in self.annotation.values()):
            raise ValueError("annotation")
        codes = np.concatenate([self.reason, self.without_ratio, self.not_shrunken])
        if not np.isin(codes, list(Reason)).all() or not np.isin(self.status, list(Status)).all():
            raise ValueError("status")
        points = self.local_trend
        if not (0 < self.sizing[0] < np.inf and abs(self.sizing[1]) <= LARGEST_LOG_SIZE):
            raise ValueError("sizing")
        if not (np.isfinite(points).all() and (np.diff(points[0]) > 0).all()):
            raise ValueError("local_trend")


def _for_transforms(config: Config, fitted: Fitted, genes: int) -> tuple[Floats, Floats, Floats]:
    """``log_means``, ``sizing`` and ``local_trend`` as the file has them."""
    sizing, local = fitted.sizing, None if fitted.towards is None else fitted.towards.trend.local
    if sizing is None:
        sizing = Sizing(np.full(0 if config.size_factors else genes, np.nan), 1.0, 0.0, np.nan)
    return (
        sizing.log_means,
        np.array([sizing.scale, sizing.log_scale, sizing.mean_inverse]),
        np.zeros((3, 0)) if local is None else np.stack([local.log_means, local.values, local.slopes]),
    )


_DESIGN, _ASKED = TypeAdapter(Design), TypeAdapter(Comparison)


def _design(told: Any) -> Design:
    """The design of a header. Raises `ValueError`, before its formula is used if that has an expression to evaluate."""
    design = _DESIGN.validate_python(told)
    if variables(design.formula) != design.names or {*design.levels, *design.numeric} != set(design.names):
        raise ValueError(design.formula)
    away = [*design.dropped, *(column for columns in design.own.of.values() for column in columns)]
    if not all(0 <= column < design.size for column in away):
        raise ValueError("columns")
    return design


def _arrays() -> list[str]:
    """Names of the arrays of a kept fit."""
    return [
        each.name for each in fields(KeptFit) if each.name not in {"config", "design", "asked", "genes", "annotation"}
    ]


def _check_version(where: str, header: dict[str, Any]) -> None:
    if header["format"] != FORMAT:
        raise ValueError(header["format"])
    if header["version"] != VERSION:
        raise InputError(f"{where}: is of version {header['version']}, and this release reads version {VERSION}")
