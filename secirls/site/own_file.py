"""What a site keeps for itself of a fit: the coefficients of its own design columns, in a file beside its data.

Promises: written where the site's policy says so, whole or not at all; a place that takes no file costs nobody the fit,
and is told on the site's own terminal. Refuses to know: how coefficients are found.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from secirls.numerics.arrays import Floats
from secirls.whole_file import UnwritableError, write_whole

SUFFIX = ".own.csv"
_terminal = logging.getLogger("secirls.site")


def write_own(data: Path, genes: Sequence[str], columns: Sequence[str], coefficients: Floats) -> None:
    """Write natural-log coefficients ``(genes, own)``, NaN as nothing, beside a data file."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["gene", *columns])
    for gene, row in zip(genes, coefficients, strict=True):
        lines.writerow([gene, *("" if math.isnan(value) else f"{value:.17g}" for value in row)])
    try:
        write_whole(data.with_name(data.name + SUFFIX), text.getvalue().encode("utf-8"), like=data)
    except UnwritableError as error:
        _terminal.warning("%s", error)
