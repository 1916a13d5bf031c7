"""What joints, or frames, collect from each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skelcl.plotting.style import INK, MUTED, label_text, with_script_fonts
from skelcl.skeleton import Skeleton

FEW = 4
"""Maps up to which each is large enough for the names of the joints."""


@with_script_fonts
def mixing_maps(
    maps: Mapping[str, NDArray[np.floating[Any]]], skeleton: Skeleton | None = None, title: str = ""
) -> Figure:
    """Graphs and attention maps of an encoder: for each layer a row of heads or subsets, with its own colour scale.

    A row of a map is what one joint collects. Joints stand in the order of their body parts, one body after the other
    where a map relates several; :func:`by_part` is that order.

    Args:
        maps: Name of each layer and its maps, (S, …, L, L), averaged over what lies between.
        skeleton: Layout of the joints; None for maps of frames.
        title: One line above all.

    Raises:
        ValueError: If there are no maps, or one is not (S, …, L, L).
    """
    if not maps or any(m.ndim < 3 or m.shape[-1] != m.shape[-2] for m in maps.values()):
        shapes = ", ".join(str(m.shape) for m in maps.values()) or "none"
        raise ValueError(f"maps must be (S, …, L, L), at least one; there are {shapes}")
    flat = {name: m.mean(tuple(range(1, m.ndim - 2))) if m.ndim > 3 else m for name, m in maps.items()}
    columns, few = max(map(len, flat.values())), sum(map(len, flat.values())) <= FEW
    # In inches: the side of a map, the gaps beside and below it, and the margins.
    side, beside, below = (3.4, 1.1, 1.2) if few else (1.25, 0.12, 0.12)
    left, right, top, bottom = (1.5 if few else 1.1), 0.75, 0.6, 1.35 if few else 0.9
    width = left + columns * (side + beside) - beside + right
    height = top + len(flat) * (side + below) - below + bottom
    figure = Figure(figsize=(width, height))

    def place(x: float, row: int, wide: float) -> Axes:
        y = bottom + (len(flat) - 1 - row) * (side + below)
        return figure.add_axes((x / width, y / height, wide / width, side / height))

    for row, (name, layer) in enumerate(flat.items()):
        low, high = float(layer.min()), float(layer.max())
        # White is nothing: one hue for what is never negative, two around zero for the rest.
        limit = max(high, -low) or 1.0
        hues, lowest = ("Blues", 0.0) if low >= 0 else ("RdBu_r", -limit)
        x = left
        for column, one in enumerate(layer):
            axes = place(x, row, side)
            order = np.arange(len(one)) if skeleton is None else by_part(skeleton, len(one))
            image = axes.imshow(
                one[np.ix_(order, order)], cmap=hues, vmin=lowest, vmax=limit, interpolation="nearest", aspect="auto"
            )
            axes.spines[:].set(color="#b8c2cc", linewidth=0.6)
            axes.tick_params(length=0, labelsize=6.5, colors=INK)
            _ticks(axes, skeleton, len(one), names=few, rows=few or column == 0, columns=few or row + 1 == len(flat))
            if row == 0:
                axes.set_title(str(column + 1), fontsize=8, color=MUTED, pad=3)
            x += side + beside
        y = (bottom + (len(flat) - 1 - row) * (side + below) + side / 2) / height
        figure.text(0.15 / width, y, label_text(name), fontsize=7.5, color=INK, rotation=90, ha="center", va="center")
        bar = figure.colorbar(image, cax=place(x - beside + 0.1, row, 0.08))
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=6.5, colors=MUTED)
    figure.text(0.1 / width, 1 - 0.2 / height, label_text(title, 200), fontsize=10.5, color=INK, va="center")
    what = "frame" if skeleton is None else "joint"
    caption = f"rows: the {what} that collects; columns: what it collects from"
    figure.text(left / width, 0.16 / height, caption, fontsize=7.5, color=MUTED, va="center")
    return figure


def by_part(skeleton: Skeleton, size: int | None = None) -> NDArray[np.int64]:
    """The order in which maps show joints: part after part, for one body after the other.

    Args:
        skeleton: Layout of the V joints.
        size: Number of things that a map relates, V by default. When this is no multiple of V they are no joints of
            the layout, and stay in order.
    """
    v = skeleton.num_joints
    size = v if size is None else size
    if size % v:
        return np.arange(size)
    joints = np.array([joint for part in skeleton.parts.values() for joint in part])
    return np.concatenate([joints + v * body for body in range(size // v)])


def _ticks(axes: Axes, skeleton: Skeleton | None, size: int, *, names: bool, rows: bool, columns: bool) -> None:
    """Names of joints, or of parts with lines between them; numbers for frames."""
    if skeleton is None or size % skeleton.num_joints:
        places: list[float] = [0, size - 1]
        labels = ["1", str(size)]
    else:
        bodies = size // skeleton.num_joints
        sizes = [len(part) for part in skeleton.parts.values()] * bodies
        ends = np.cumsum(sizes)
        # Two bodies on little room show where one ends, not its parts.
        for end in ends[:-1] if names or bodies == 1 else ends[len(skeleton.parts) - 1 : -1 : len(skeleton.parts)]:
            axes.axhline(end - 0.5, color="#8795a1", linewidth=0.4)
            axes.axvline(end - 0.5, color="#8795a1", linewidth=0.4)
        if names and bodies == 1:
            places, labels = list(range(size)), [skeleton.joints[joint] for joint in by_part(skeleton)]
        elif bodies == 1 or names:
            places = list(ends - np.array(sizes) / 2 - 0.5)
            labels = [name + (f" {n + 1}" if bodies > 1 else "") for n in range(bodies) for name in skeleton.parts]
        else:
            places = [(body + 0.5) * skeleton.num_joints - 0.5 for body in range(bodies)]
            labels = [f"body {body + 1}" for body in range(bodies)]
    labels = [label_text(label) for label in labels]
    axes.set_yticks(places, labels if rows else [""] * len(places))
    axes.set_xticks(places, labels if columns else [""] * len(places), rotation=90)
