"""How all pictures look: ink, colours that colour-blind readers tell apart, and quiet axes."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#3e4c59")
"""Okabe and Ito 2008, without the yellow that vanishes on white."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""One more for each time that the colours repeat."""
DISTINCT = len(COLOURS) * len(MARKERS)
"""How many things colours and markers tell apart."""
GAIN, LOSS = COLOURS[0], COLOURS[3]


def look(number: int) -> tuple[str, str]:
    """Colour and marker of the n-th of several things."""
    return COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]


def hues(count: int) -> NDArray[np.float64]:
    """(count, 4) RGBA, a wheel of hues for more things than colours and markers tell apart."""
    return np.asarray(colormaps["turbo"](np.linspace(0.03, 0.97, count)))


def quiet(axes: Axes, grid: str = "y") -> None:
    """Take away what carries no data, and leave a light grid along one axis (``x``, ``y``) or both."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5, colors=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=MUTED, fontsize=9)


def head(axes: Axes, text: str) -> None:
    """The title of a chart."""
    axes.set_title(text, loc="left", fontsize=11, color=INK)
