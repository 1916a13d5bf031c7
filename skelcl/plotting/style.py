"""How all pictures look: ink, colours that colour-blind readers tell apart, and quiet axes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.font_manager import findfont as find_font
from numpy.typing import NDArray

from skelcl.files import one_line

Drawing = TypeVar("Drawing", bound=Callable[..., Any])

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#3e4c59")
"""Okabe and Ito 2008, without the yellow that vanishes on white."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""One more for each time that the colours repeat."""
DISTINCT = len(COLOURS) * len(MARKERS)
"""How many things colours and markers tell apart."""
OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB",
    "Malgun Gothic", "Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Thai",
)  # fmt: skip
"""Fonts of scripts that matplotlib's own one lacks, in the order in which they are asked."""
GAIN, LOSS = COLOURS[0], COLOURS[3]


def colour_and_marker(number: int) -> tuple[str, str]:
    """Colour and marker of the n-th of several things."""
    return COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]


def colour_wheel(count: int) -> NDArray[np.float64]:
    """(count, 4) RGBA, a wheel of hues for more things than colours and markers tell apart."""
    return np.asarray(colormaps["turbo"](np.linspace(0.03, 0.97, count)))


def style_axes(axes: Axes, grid: str = "y") -> None:
    """Take away what carries no data, and leave a light grid along one axis (``x``, ``y``) or both."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5, colors=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=MUTED, fontsize=9)


def set_title(axes: Axes, text: str) -> None:
    """The title of a chart."""
    axes.set_title(text, loc="left", fontsize=11, color=INK)


def label_text(name: str, width: int = 60) -> str:
    r"""A name as a picture can show it: one line, no formula; signs that no font of the machine has as ``\u4e2d``."""
    return "".join(
        sign if ord(sign) in _glyphs() else sign.encode("ascii", "backslashreplace").decode()
        for sign in one_line(name, width)
    ).replace("$", r"\$")


def with_script_fonts(draw: Drawing) -> Drawing:
    """Decorates a function that draws: its names may be of any script for which there is a font."""

    @functools.wraps(draw)
    def with_fonts(*args: Any, **kwargs: Any) -> Any:
        with rc_context({"font.family": list(_families())}):
            return draw(*args, **kwargs)

    return cast(Drawing, with_fonts)


@functools.cache
def _families() -> tuple[str, ...]:
    there = {font.name for font in fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in there))


@functools.cache
def _glyphs() -> frozenset[int]:
    """Signs that the fonts have."""
    files = [find_font(FontProperties(family=[name])) for name in _families()]
    return frozenset().union(*(get_font(file).get_charmap() for file in files))
