"""Names beside points, none of them on another.

Promises: names lie within the axes and cover neither each other, nor a point that has a name, nor a line to one; who
finds no room goes without. Refuses to know: which points deserve one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secirls.numerics.arrays import Floats
from secirls.outputs.pictures.canvas import BLACK, Axes, Bbox, Figure, halo

NAMED: Final = "_named"
"""Label of the rings around named points; matplotlib leaves labels with an underscore out of legends."""
_GAPS: Final = (4.5, 12.0, 22.0)
"""Points of 1/72 inch between a dot and its name, nearest first; from the second on a line leads there."""
_AIR: Final = 2.0
"""The same, around a name."""
_DOT: Final = 3.0
"""The same, from the middle of a named dot to its ring."""


@dataclass(frozen=True)
class Spot:
    """A place for a name: its middle, and where the line from its dot ends, in points of 1/72 inch from the dot."""

    right: float
    up: float
    end: tuple[float, float]
    led: bool
    """Whether a line leads there."""


def name_points(axes: Axes, x: Floats, y: Floats, names: Sequence[str]) -> list[str]:
    """Write names beside points, most important first, and ring those; gives the names that found room.

    To be called last: it settles the layout.
    """
    figure = axes.figure
    if not isinstance(figure, Figure) or not len(names):
        return []
    figure.draw_without_rendering()
    scale = figure.dpi / 72.0
    dots = axes.transData.transform(np.column_stack([x, y]))
    taken = [_box(dot, _DOT * scale, _DOT * scale) for dot in dots]
    placed: list[int] = []
    for own, (dot, name) in enumerate(zip(dots, names, strict=True)):
        text = axes.annotate(
            name,
            (x[own], y[own]),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8.5,
            parse_math=False,  # a name may have a dollar sign
            path_effects=halo(),
        )
        text.set_in_layout(False)
        extent = text.get_window_extent()
        wide, high = extent.width / 2, extent.height / 2
        others = taken[:own] + taken[own + 1 :]
        for spot in _spots(wide / scale, high / scale, right_first=dot[0] > axes.bbox.x0 + axes.bbox.width / 2):
            middle = dot + np.array([spot.right, spot.up]) * scale
            box = _box(middle, wide + _AIR * scale, high + _AIR * scale)
            line = _along(dot, dot + np.array(spot.end) * scale) if spot.led else []
            if _within(box, axes.bbox) and not any(one.overlaps(other) for one in (box, *line) for other in others):
                break
        else:
            text.remove()
            continue
        text.set_position((spot.right, spot.up))
        taken += [box, *line]
        placed.append(own)
        if spot.led:
            leader = axes.annotate(
                "",
                (x[own], y[own]),
                xytext=spot.end,
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": "#555555", "linewidth": 0.6, "shrinkA": 0, "shrinkB": _DOT},
            )
            leader.set_in_layout(False)
    rings: dict[str, Any] = {
        "facecolors": "none",
        "edgecolors": BLACK,
        "linewidths": 0.7,
        "zorder": 4,
        "clip_on": False,
    }
    axes.scatter(x[placed], y[placed], s=(2 * _DOT) ** 2, label=NAMED, **rings)
    return [names[own] for own in placed]


def _spots(wide: float, high: float, *, right_first: bool) -> Iterator[Spot]:
    """Where the middle of a name of this half width and height may stand, best first."""
    first = 1 if right_first else -1
    for gap in _GAPS:
        for right, up in ((first, 0), (-first, 0), (first, 1), (first, -1), (0, 1), (0, -1), (-first, 1), (-first, -1)):
            end = (right * gap, up * gap)
            yield Spot(right * (wide + gap), up * (high + gap), end, led=gap > _GAPS[0])


def _along(begin: NDArray[np.float64], end: NDArray[np.float64]) -> list[Bbox]:
    """Small boxes along a line, from a little after its beginning."""
    return [_box(begin + share * (end - begin), 0.5, 0.5) for share in np.linspace(0.3, 0.95, 8)]


def _box(middle: NDArray[np.float64], wide: float, high: float) -> Bbox:
    x, y = middle
    return Bbox.from_extents(x - wide, y - high, x + wide, y + high)


def _within(box: Bbox, room: Bbox) -> bool:
    return bool(box.x0 >= room.x0 and box.x1 <= room.x1 and box.y0 >= room.y0 and box.y1 <= room.y1)
