"""What every picture is drawn on: colours, style, files. The one door to matplotlib.

Promises: colours are told apart by the colour-blind (Okabe and Ito 2008), the same picture gives the same bytes in
every kind of file, nothing global is changed and no window opens. Refuses to know: what is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes as Axes  # noqa: PLC0414 - for those who type against it
from matplotlib.figure import Figure as Figure  # noqa: PLC0414 - the same
from matplotlib.lines import Line2D as Line2D  # noqa: PLC0414 - the same
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox as Bbox  # noqa: PLC0414 - the same
from numpy.typing import NDArray

from secirls.input_error import InputError
from secirls.outputs.free_folder import PICTURE_KINDS
from secirls.whole_file import write_whole

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip
BROWN: Final = "#8C6D46"
COLOURS: Final = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK, YELLOW)
"""Okabe and Ito's, darkest contrasts first."""

KINDS: Final = PICTURE_KINDS
"""Files that a picture can be."""
_SCREEN_DOTS: Final = 150
_PRINT_DOTS: Final = 220
_NO_DATE: Final[dict[str, Any]] = {
    "png": {"Software": ""},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_STYLE: Final[Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "legend.fontsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "svg.hashsalt": "secirls",
    "pdf.fonttype": 42,
}


class Picture(Figure):
    """A matplotlib figure that a notebook shows by itself."""

    def _repr_png_(self) -> bytes:
        return png(self)


def panels(rows: int, columns: int, *, width: float, height: float, **options: Any) -> tuple[Picture, NDArray[Any]]:
    """A picture in the house style and its axes ``(rows, columns)``; width and height in inches."""
    with rc_context(_STYLE):
        figure = Picture(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def packed(figure: Figure, kind: str, *, dots: int | None = None) -> bytes:
    """The picture as a file of one of `KINDS`, without a date.

    ``dots`` to the inch are 150 where all is made of them, and 220 where points within vectors are.
    """
    buffer = io.BytesIO()
    with rc_context(_STYLE):
        usual = _SCREEN_DOTS if kind == "png" else _PRINT_DOTS
        figure.savefig(buffer, format=kind, dpi=dots or usual, metadata=_NO_DATE[kind])
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The picture as PNG, at 150 dots to the inch."""
    return packed(figure, "png")


def save(figure: Figure, path: Path, *, like: Path | None = None) -> None:
    """Write the picture whole or not at all, as its suffix says, for whoever may read what it is ``like``.

    Raises `InputError` where it is none of `KINDS`.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise InputError(f"file {str(path)!r}: a picture is one of {', '.join(KINDS)}, not {kind!r}")
    write_whole(path, packed(figure, kind), like=like)


def titled(axes: Axes, title: str, **labels: Any) -> None:
    """Set a title that may hold dollar signs, and what `Axes.set` takes beside it."""
    axes.set(title=title, **labels)
    _as_written([axes.title, axes.xaxis.label, axes.yaxis.label])


def name_bars(axes: Axes, places: NDArray[Any], names: Sequence[str]) -> None:
    """Names at the left of lying bars."""
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    _as_written(axes.get_yticklabels())


def _as_written(texts: Iterable[Text]) -> None:
    """Texts may have dollar signs, which are no formulas."""
    for text in texts:
        text.set_parse_math(False)


def legend(axes: Axes, **options: Any) -> None:
    """A legend in the house style."""
    with rc_context(_STYLE):
        _as_written(axes.legend(**options).get_texts())


def legend_below(figure: Figure, handles: Sequence[Line2D | Patch], *, columns: int = 2) -> None:
    """One legend below all axes, where it covers no point."""
    with rc_context(_STYLE):
        _as_written(figure.legend(handles=list(handles), loc="outside lower center", ncols=columns).get_texts())


def marker(colour: str, label: str, *, shape: str = "o", hollow: bool = False, size: float = 5.5) -> Line2D:
    """A legend's entry for points."""
    face = "none" if hollow else colour
    return Line2D([], [], linestyle="", marker=shape, color=colour, markerfacecolor=face, markersize=size, label=label)


def stroke(colour: str, label: str, *, dashes: Literal["-", "--", ":"] = "-", width: float = 1.5) -> Line2D:
    """A legend's entry for a line."""
    return Line2D([], [], color=colour, linestyle=dashes, linewidth=width, label=label)


def patch(colour: str, label: str) -> Patch:
    """A legend's entry for bars."""
    return Patch(facecolor=colour, label=label)


def halo() -> list[Any]:
    """Path effects that keep a text readable above points."""
    return [withStroke(linewidth=2.2, foreground="white", alpha=0.85)]


def whole_numbers(axes: Axes, *, vertical: bool = False) -> None:
    """Ticks at whole numbers alone."""
    (axes.yaxis if vertical else axes.xaxis).set_major_locator(MaxNLocator(integer=True))


def nothing_to_draw(axes: Axes, sentence: str) -> None:
    """Say in the middle of empty axes why they are."""
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", color="#555555", wrap=True)
    axes.set(xticks=[], yticks=[])


def finite(values: Any) -> NDArray[np.float64]:
    """As floats, infinite ones as missing."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)
