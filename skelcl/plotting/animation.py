"""Skeletons in motion."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skelcl.plotting.player import page
from skelcl.plotting.style import GRID, INK, MUTED, label_text, with_script_fonts
from skelcl.skeleton import Skeleton

PARTS = ("#3e4c59", "#e8590c", "#1c7ed6", "#f2a33a", "#3bc9db", "#9c36b5", "#37b24d", "#d6336c")
"""Colours of the body parts: warm for one side, cold for the other in the layouts that are known by name."""
YAW = np.deg2rad(20.0)


class SkeletonAnimation:
    """Clips that move side by side. In a notebook it shows itself as a player; ``save_animation`` writes it to a file.

    Args:
        clips: Coordinates of each clip, (M, T, V, C).
        skeleton: Layout of the V joints.
        titles: One line above each clip.
        fps: Frames per second.

    Attributes:
        figure: The picture of one frame.
        frames: Length of the longest clip.
        fps: Frames per second.
    """

    def __init__(
        self, clips: Sequence[NDArray[np.float64]], skeleton: Skeleton, titles: Sequence[str], fps: float
    ) -> None:
        self.clips, self.skeleton, self.titles, self.fps = clips, skeleton, titles, fps
        self.frames = max(clip.shape[1] for clip in clips)
        self.figure = Figure(figsize=(3.4 * len(clips), 4.0), dpi=90)
        panels = self.figure.subplots(1, len(clips), squeeze=False)[0]
        self.figure.subplots_adjust(left=0.02, right=0.98, bottom=0.04, top=0.88, wspace=0.06)
        self._panels = [
            _Panel(axes, _project(clip), skeleton, title)
            for axes, clip, title in zip(panels, clips, titles, strict=True)
        ]
        self.draw(0)

    def draw(self, frame: int) -> None:
        """Move the figure to a frame."""
        for panel in self._panels:
            panel.show(frame)

    def html(self) -> str:
        """A page that plays the clips and needs no other file; clips in 3D can be turned with the mouse."""
        return page(self.clips, self.skeleton.bones, part_colours(self.skeleton), self.titles, self.fps, float(YAW))

    def _repr_html_(self) -> str:
        # A frame keeps the player's script and style from the notebook's.
        inside = html.escape(self.html(), quote=True)
        width = min(340 * len(self.clips), 1020)
        return f'<iframe srcdoc="{inside}" width="{width}" height="440" frameborder="0"></iframe>'


@with_script_fonts
def animate_skeleton(
    clips: Sequence[NDArray[np.floating[Any]]],
    skeleton: Skeleton,
    titles: Sequence[str] | None = None,
    fps: float = 20.0,
) -> SkeletonAnimation:
    """Clips side by side, for example one before and after augmentation.

    The camera looks along z from slightly aside: x to the right, y upwards. Axes stay still and each clip has its own
    scale. A shorter clip waits in its last frame. Bodies or frames of zeros or NaN are not drawn.

    Args:
        clips: Coordinates of each clip, (T, V, C) or (M, T, V, C) with C of 2 or 3.
        skeleton: Layout of the V joints.
        titles: One line above each clip.
        fps: Frames per second.

    Raises:
        ValueError: If a clip has another shape, or there are no clips or not as many titles.
    """
    titles = [""] * len(clips) if titles is None else titles
    if not clips or len(titles) != len(clips):
        raise ValueError(f"{len(clips)} clips and {len(titles)} titles: at least one clip, and a title for each")
    shown = [_shown(np.asarray(clip, dtype=float), skeleton) for clip in clips]
    return SkeletonAnimation(shown, skeleton, titles, fps)


def part_colours(skeleton: Skeleton) -> list[str]:
    """The colour of each joint, by its body part."""
    part = {j: PARTS[p % len(PARTS)] for p, joints in enumerate(skeleton.parts.values()) for j in joints}
    return [part[j] for j in range(skeleton.num_joints)]


class _Panel:
    """One clip (M, T, V, 2) in its axes."""

    def __init__(self, axes: Axes, clip: NDArray[np.float64], skeleton: Skeleton, title: str) -> None:
        self.clip = clip
        self.bones = np.asarray(skeleton.bones)
        part = part_colours(skeleton)
        axes.set_title(label_text(title, 38), fontsize=11, color=INK, pad=8)
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_facecolor("#fbfcfd")
        axes.spines[:].set_color(GRID)
        _fix_limits(axes, clip)
        self.lines: list[LineCollection] = []
        self.dots: list[PathCollection] = []
        for body in range(len(clip)):
            strength = 1.0 if body == 0 else 0.55
            bones = [to_rgba(part[int(child)], strength) for child, _ in self.bones]
            joints = [to_rgba(colour, strength) for colour in part]
            lines = LineCollection([], colors=bones, linewidths=2.6, capstyle="round", zorder=2 - body)
            axes.add_collection(lines, autolim=False)
            unseen = np.full(len(joints), np.nan)
            self.lines.append(lines)
            self.dots.append(axes.scatter(unseen, unseen, s=9, c=joints, linewidths=0, zorder=2.5 - body))
        self.clock = axes.text(0.97, 0.02, "", transform=axes.transAxes, ha="right", fontsize=8, color=MUTED)

    def show(self, frame: int) -> None:
        """Move to a frame; the last one stays."""
        last = self.clip.shape[1] - 1
        frame = min(frame, last)
        for body, lines, dots in zip(self.clip[:, frame], self.lines, self.dots, strict=True):
            lines.set_segments(list(body[self.bones]))
            dots.set_offsets(body)
        self.clock.set_text(f"{frame + 1} / {last + 1}")


def _shown(clip: NDArray[np.float64], skeleton: Skeleton) -> NDArray[np.float64]:
    """(M, T, V, C), NaN where there is nothing to draw."""
    clip = clip[None] if clip.ndim == 3 else clip
    if clip.ndim != 4 or clip.shape[2] != skeleton.num_joints or clip.shape[3] not in (2, 3):
        v = skeleton.num_joints
        raise ValueError(f"a clip must be (T, {v}, C) or (M, T, {v}, C) with C of 2 or 3, not {clip.shape}")
    absent = (np.nan_to_num(clip) == 0).all((2, 3), keepdims=True)
    return np.where(absent, np.nan, clip)


def _project(clip: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, T, V, 2) as the camera sees it."""
    across = clip[..., 0] if clip.shape[3] == 2 else np.cos(YAW) * clip[..., 0] + np.sin(YAW) * clip[..., 2]
    return np.stack([across, clip[..., 1]], axis=-1)


def _fix_limits(axes: Axes, clip: NDArray[np.float64]) -> None:
    places = clip.reshape(-1, 2)
    places = places[np.isfinite(places).all(1)]
    if not len(places):
        return
    low, high = places.min(0), places.max(0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-6) * 1.1
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
