"""Points within limits, and triangles at the edge for those beyond.

Promises: every point with two numbers is drawn: as a dot where it lies, or as a triangle at the edge that it lies
beyond. Refuses to know: what the axes mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from secirls.numerics.arrays import Floats
from secirls.outputs.pictures.canvas import Axes, Line2D, marker

CUT: Final = "_beyond"
"""How the label of a cloud of triangles begins; matplotlib leaves labels with an underscore out of legends."""
_USUAL: Final = 0.99
_MANY: Final = 1000
"""Dots of a cloud below which they are drawn larger."""
_TRIANGLES: Final = {"left": "<", "right": ">", "bottom": "v", "top": "^"}


@dataclass(frozen=True)
class Window:
    """What axes show: two limits in each direction; infinite where nothing is cut."""

    left: float = -np.inf
    right: float = np.inf
    bottom: float = -np.inf
    top: float = np.inf

    def side(self, x: Floats, y: Floats) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
        """The edge that each point lies beyond, or an empty text; left and right before bottom and top."""
        beyond = [x < self.left, x > self.right, y < self.bottom, y > self.top]
        return np.select(beyond, list(_TRIANGLES), "")


def usual_size(values: Floats) -> float:
    """A symmetric limit for values around zero: all of them, unless a few lie far out.

    1.3 times the 99 % quantile of magnitudes, where the largest is more than half as much again; else the largest
    with a margin of 5 %. One where there are no values.
    """
    size = np.abs(values[np.isfinite(values)])
    largest = float(size.max(initial=0.0))
    if largest == 0.0:
        return 1.0
    usual = 1.3 * float(np.quantile(size, _USUAL))
    return usual if 0 < 1.5 * usual < largest else 1.05 * largest


def cloud(
    axes: Axes,
    x: Floats,
    y: Floats,
    window: Window,
    *,
    colour: str,
    label: str,
    size: float = 6.0,
    opacity: float = 0.5,
) -> int:
    """Draw points, each as a dot or as a triangle at an edge; gives how many are triangles.

    Dots are one picture within vector formats, so that 20,000 of them stay small and quick.
    """
    side = window.side(x, y)
    inside = side == ""
    size *= float(np.clip(_MANY / max(x.size, 1), 1.0, 4.0))
    axes.scatter(x[inside], y[inside], s=size, color=colour, alpha=opacity, linewidths=0, label=label, rasterized=True)
    at_x, at_y = np.clip(x, window.left, window.right), np.clip(y, window.bottom, window.top)
    for edge, shape in _TRIANGLES.items():
        if (there := side == edge).any():
            axes.scatter(
                at_x[there], at_y[there], s=22, marker=shape, color=colour, alpha=0.75, linewidths=0,
                label=f"{CUT} {edge}: {label}", clip_on=False, zorder=3, rasterized=True,
            )  # fmt: skip
    return int((~inside).sum())


def cut_entry(cut: int, *, where: str = "beyond", what: str = "") -> list[Line2D]:
    """A legend's entry that says how many points the limits cut, where they cut any."""
    shape = _TRIANGLES["bottom" if where == "below" else "top"]
    return [marker("#555555", f"{where} the axis{what} ({cut:,})", shape=shape)] if cut else []
