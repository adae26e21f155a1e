"""One site's samples on a fit's scale, made at home: normalised counts, and their variance-stabilising transform.

Promises: size factors are those that the site had in the fit, to the last bit; samples that were not in it are put on
the same scale; nothing is sent. Refuses to know: other sites.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from secirls.agreement.order import GROUND
from secirls.algorithms.groundwork.sizing import Sizing
from secirls.input_error import InputError, complain
from secirls.inputs.files.site_file import Reading, read_site, read_whole, with_layers
from secirls.numerics.arrays import Floats
from secirls.numerics.held.samples import Samples
from secirls.numerics.trend.local_trend import LocalTrend
from secirls.numerics.trend.stabilised import NoTransformError, stabilised
from secirls.numerics.trend.trend import Trend
from secirls.outputs.free_folder import KEPT
from secirls.outputs.tables.kept_fit import KeptFit
from secirls.site.grounds.ground import data_of

if TYPE_CHECKING:
    from secirls.inputs.files.site_file import AnnData

SIZE_FACTOR, NORMALISED, VST = "size_factor", "normalised", "vst"


@dataclass(frozen=True)
class Transform:
    """What a fit's folder tells a site, to transform its samples by."""

    kept: KeptFit
    trend: Trend

    @classmethod
    def of(cls, kept: KeptFit, told: Mapping[str, Any] | None) -> Transform:
        """From a kept fit and what its report says of the ``trend``.

        Raises `InputError` where there is none, or no size factors.
        """
        if kept.config.size_factors is None and not np.isfinite(kept.log_means).any():
            raise InputError("the fit came to no size factors, so there is nothing to normalise by")
        if told is None:
            raise InputError(
                "the fit has no trend, so it has no variance-stabilising transform: its dispersions were brought, or "
                "not drawn towards a trend"
            )
        if told.get("flat"):
            raise InputError(
                "every gene-wise dispersion of the fit is at its floor, so it has no variance-stabilising transform"
            )
        made = cls(kept, _trend(told, kept.local_trend))
        try:
            usable = np.isfinite(made.stabilised(np.ones(1))).all()
        except NoTransformError as error:
            raise InputError(f"the fit has no variance-stabilising transform: {error}") from None
        if not usable:
            raise _no_trend()
        return made

    def stabilised(self, normalised: Floats) -> Floats:
        """The transform of normalised counts of any shape."""
        return stabilised(normalised, self.trend, self.kept.base_means, float(self.kept.sizing[2]))

    def __call__(self, source: str | os.PathLike[str] | AnnData, layer: str | None = None) -> AnnData:
        """A site's samples over the fit's genes: raw counts, layers `NORMALISED` and `VST`, obs `SIZE_FACTOR`.

        The source may be the site's own file, ``site.toml``, which names its data. ``layer`` is the one with raw
        counts; the fit's if not given. Raises `InputError`.
        """
        source = own_data(source) if isinstance(source, str | os.PathLike) else source
        config, genes = self.kept.config, self.kept.genes
        whole, file = read_whole(source)
        reading = Reading((), config.layer if layer is None else layer, config.size_factors)
        table = read_site("", whole, reading, shown=file)
        position = {gene: i for i, gene in enumerate(table.genes)}
        lacking = [gene for gene in genes if gene not in position]
        if lacking:
            raise complain(
                f"lacks {len(lacking):,} of the fit's {len(genes):,} genes, {lacking[0]!r} the first", file=file
            )
        order = np.array([position[gene] for gene in genes], dtype=np.intp)
        counts = table.counts.T[order].T
        samples = Samples(np.zeros((len(table.obs), 0)), counts, table.size_factors)
        s = self._size_factors(samples, list(map(str, whole.obs_names)), file)
        normalised, transformed = np.empty(counts.shape), np.empty(counts.shape)
        for i, factor in enumerate(s):
            normalised[i] = counts[i] / factor
            transformed[i] = self.stabilised(normalised[i])
        layers = {NORMALISED: normalised, VST: transformed}
        return with_layers(whole, genes, counts, {SIZE_FACTOR: s}, **layers)

    def _size_factors(self, samples: Samples, names: list[str], file: str) -> Floats:
        """Those of the site's samples, ``(samples,)``. Raises `InputError` naming the file."""
        kept = self.kept
        s = Sizing(kept.log_means, *map(float, kept.sizing)).size_factors(samples, kept.config.size_factor_type)
        without = np.flatnonzero(np.isnan(s))
        if without.size:
            raise complain(
                "has a sample without a count in any gene that size factors are estimated from",
                file=file,
                detail=f"sample {names[without[0]]!r}",
            )
        return s


def own_data(source: str | os.PathLike[str]) -> Path:
    """A site's data file, given by its path or by that of its ``site.toml``. Raises `InputError`."""
    path = Path(source)
    return data_of(path) if path.suffix == GROUND else path


def _trend(told: Mapping[str, Any], local: Floats) -> Trend:
    """The trend that a report tells, a local one from its curve ``(3, points)``. Raises `InputError`."""
    asymptotic, extra_poisson, mean = (_above_zero(told.get(name)) for name in ("asymptotic", "extra_poisson", "mean"))
    kind = told.get("kind")
    if kind == "parametric" and asymptotic and extra_poisson:
        return Trend(kind, asymptotic, extra_poisson)
    if kind == "mean" and mean:
        return Trend(kind, mean=mean)
    if kind == "local" and local.size:
        return Trend(kind, local=LocalTrend(*local))
    raise _no_trend()


def _no_trend() -> InputError:
    return InputError(f"the fit's report and {KEPT} tell no trend of dispersions that can be used")


def _above_zero(number: object) -> float | None:
    """A finite number above zero, or nothing."""
    return number if isinstance(number, float) and 0.0 < number < np.inf else None
