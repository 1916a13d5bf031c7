"""Pictures: confusion matrix, map of features, moving skeletons. Needs matplotlib (``pip install skelcl[plot]``).

Every function returns its figure or animation and shows nothing; no state of pyplot is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib import colormaps, patheffects
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skelcl.skeleton import Skeleton

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
PARTS = ("#3e4c59", "#e8590c", "#1c7ed6", "#f2a33a", "#3bc9db", "#9c36b5", "#37b24d", "#d6336c")
YAW = np.deg2rad(20.0)


def confusion_matrix(matrix: NDArray[Any], class_names: Sequence[str]) -> Figure:
    """Confusion matrix, each row scaled to percent of its class.

    Args:
        matrix: Counts, (K, K); rows are true classes, columns predicted ones.
        class_names: The K names.

    Raises:
        ValueError: If the matrix is not K × K.
    """
    k = len(class_names)
    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (k, k):
        raise ValueError(f"{k} class names need a ({k}, {k}) matrix, not {matrix.shape}")
    support = matrix.sum(1, keepdims=True)
    percent = 100 * np.divide(matrix, support, out=np.zeros_like(matrix), where=support > 0)
    few = k <= 24
    side = 2.2 + (0.46 if few else 0.16) * k
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    size = 8.5 if few else 5.5
    axes.set_xticks(range(k), class_names, rotation=45 if few else 90, ha="right" if few else "center", fontsize=size)
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_yticks(range(k), class_names, fontsize=size)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2 if few else 0.4)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel("true", color=MUTED)
    if few:
        for row, column in zip(*np.nonzero(percent >= 0.5), strict=True):
            value = percent[row, column]
            ink = "white" if value > 55 else INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=ink)
    accuracy = 100 * np.trace(matrix) / max(matrix.sum(), 1)
    axes.set_title(f"top-1 {accuracy:.1f} % of {int(matrix.sum())} clips", loc="left", fontsize=11, color=INK)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, format="%d %%")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=MUTED)
    return figure


def embedding(
    features: NDArray[np.floating[Any]],
    label: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    method: Literal["pca", "tsne"] = "pca",
) -> Figure:
    """Map of L2-normalised features in the plane, one colour per class.

    Args:
        features: Feature vectors, (N, D).
        label: Their classes, (N,).
        class_names: Names of the classes.
        method: ``pca``, or ``tsne``, which needs scikit-learn.

    Raises:
        ValueError: If the labels do not fit the clips or the names.
    """
    unit = torch.nn.functional.normalize(torch.as_tensor(np.asarray(features)).float(), dim=1).numpy()
    place, axis_names = _pca(unit) if method == "pca" else _tsne(unit)
    label = np.asarray(label)
    if len(label) != len(place) or not set(label.tolist()) <= set(range(len(class_names))):
        raise ValueError(f"each of the {len(place)} clips needs a label in 0…{len(class_names) - 1}")
    colours = _class_colours(len(class_names))
    legend = len(class_names) <= 40
    figure = Figure(figsize=(8.6 if legend else 7.0, 6.2), layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(9000 / max(len(place), 1), 3, 26))
    # Drawn in a shuffled order, or the last class would cover all others.
    order = np.random.default_rng(0).permutation(len(place))
    axes.scatter(place[order, 0], place[order, 1], s=size, c=colours[label[order]], alpha=0.75, linewidths=0)
    for c in np.unique(label):
        if legend:
            axes.scatter([], [], s=30, color=colours[c], label=class_names[c])
        else:
            middle = np.median(place[label == c], axis=0)
            name = axes.text(
                middle[0], middle[1], str(c), fontsize=7, ha="center", va="center", color=INK, weight="bold"
            )
            name.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
    if legend:
        columns = 1 + len(class_names) // 21
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8.5, ncols=columns)
    axes.set_xlabel(axis_names[0], color=MUTED)
    axes.set_ylabel(axis_names[1], color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(GRID)
    axes.margins(0.04)
    axes.set_title(f"features of {len(place)} clips", loc="left", fontsize=11, color=INK)
    return figure


def _pca(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[str, str]]:
    centred = torch.from_numpy(x - x.mean(0))
    left, strength, right = torch.linalg.svd(centred, full_matrices=False)
    place = (left * strength)[:, :2].numpy()
    place = place * np.where(right[:2].sum(1).numpy() < 0, -1, 1)  # a sign that does not depend on the solver
    share = (strength.square() / strength.square().sum().clamp(min=1e-12))[:2].tolist()
    return place, (f"component 1 ({share[0]:.0%} of variance)", f"component 2 ({share[1]:.0%})")


def _tsne(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[str, str]]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(x) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(x), ("t-SNE 1", "t-SNE 2")


def _class_colours(count: int) -> NDArray[np.float64]:
    """(count, 4) RGBA: the ten and twenty of Tableau as far as they reach, then a wheel of hues."""
    if count <= 20:
        return np.asarray(colormaps["tab10" if count <= 10 else "tab20"](range(count)))
    return np.asarray(colormaps["turbo"](np.linspace(0.03, 0.97, count)))


def animate_skeleton(
    clips: Sequence[NDArray[np.floating[Any]]],
    skeleton: Skeleton,
    titles: Sequence[str] | None = None,
    fps: float = 20.0,
) -> FuncAnimation:
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
    seen = [_project(np.asarray(clip, dtype=float), skeleton) for clip in clips]
    length = max(clip.shape[1] for clip in seen)
    figure = Figure(figsize=(3.4 * len(clips), 4.0), dpi=90)
    panels = figure.subplots(1, len(clips), squeeze=False)[0]
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.04, top=0.88, wspace=0.06)
    people = [_Panel(axes, clip, skeleton, title) for axes, clip, title in zip(panels, seen, titles, strict=True)]

    def draw(frame: int) -> list[Any]:
        return [artist for panel in people for artist in panel.show(frame)]

    return FuncAnimation(figure, draw, frames=length, init_func=lambda: draw(0), interval=1000 / fps)


class _Panel:
    """One clip (M, T, V, 2) in its axes."""

    def __init__(self, axes: Axes, clip: NDArray[np.float64], skeleton: Skeleton, title: str) -> None:
        self.clip = clip
        self.bones = np.asarray(skeleton.bones)
        part = {j: PARTS[p % len(PARTS)] for p, joints in enumerate(skeleton.parts.values()) for j in joints}
        axes.set_title(title, fontsize=11, color=INK, pad=8)
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
            joints = [to_rgba(part[j], strength) for j in range(skeleton.num_joints)]
            lines = LineCollection([], colors=bones, linewidths=2.6, capstyle="round", zorder=2 - body)
            axes.add_collection(lines, autolim=False)
            unseen = np.full(len(joints), np.nan)
            self.lines.append(lines)
            self.dots.append(axes.scatter(unseen, unseen, s=9, c=joints, linewidths=0, zorder=2.5 - body))
        self.clock = axes.text(0.97, 0.02, "", transform=axes.transAxes, ha="right", fontsize=8, color=MUTED)

    def show(self, frame: int) -> list[Any]:
        """Move to a frame; the last one stays."""
        last = self.clip.shape[1] - 1
        frame = min(frame, last)
        for body, lines, dots in zip(self.clip[:, frame], self.lines, self.dots, strict=True):
            lines.set_segments(list(body[self.bones]))
            dots.set_offsets(body)
        self.clock.set_text(f"{frame + 1} / {last + 1}")
        return [*self.lines, *self.dots, self.clock]


def _project(clip: NDArray[np.float64], skeleton: Skeleton) -> NDArray[np.float64]:
    """(M, T, V, 2) as the camera sees it, NaN where there is nothing to draw."""
    clip = clip[None] if clip.ndim == 3 else clip
    if clip.ndim != 4 or clip.shape[2] != skeleton.num_joints or clip.shape[3] not in (2, 3):
        v = skeleton.num_joints
        raise ValueError(f"a clip must be (T, {v}, C) or (M, T, {v}, C) with C of 2 or 3, not {clip.shape}")
    absent = (np.nan_to_num(clip) == 0).all((2, 3))
    across = clip[..., 0] if clip.shape[3] == 2 else np.cos(YAW) * clip[..., 0] + np.sin(YAW) * clip[..., 2]
    seen = np.stack([across, clip[..., 1]], axis=-1)
    seen[absent] = np.nan
    return seen


def _fix_limits(axes: Axes, clip: NDArray[np.float64]) -> None:
    places = clip.reshape(-1, 2)
    places = places[np.isfinite(places).all(1)]
    if not len(places):
        return
    low, high = places.min(0), places.max(0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-6) * 1.1
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)


def parameter_scatter(
    columns: Mapping[str, Sequence[float | str]],
    objective: Sequence[float],
    complete: Sequence[bool],
    best: int | None,
    objective_name: str,
    logarithmic: Collection[str] = (),
) -> Figure:
    """An objective over the values of each parameter of a search, a panel each.

    Args:
        columns: Name of each parameter and its N values; a parameter of nothing but numbers gets an axis of numbers.
        objective: The N values of the objective.
        complete: Which of the N were trained to their end; the others are drawn hollow.
        best: Position of the best, drawn larger.
        objective_name: Its label.
        logarithmic: Parameters whose axis is logarithmic.
    """
    across = min(len(columns), 3)
    down = -(-len(columns) // across)
    figure = Figure(figsize=(3.6 * across + 0.8, 3.2 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes in panels[len(columns) :]:
        axes.set_visible(False)
    for axes, (name, values) in zip(panels, columns.items(), strict=False):
        places: Sequence[float]
        if all(not isinstance(value, str) for value in values):
            places = [float(value) for value in values]
            if name in logarithmic:
                axes.set_xscale("log")
        else:
            kinds = list(dict.fromkeys(map(str, values)))
            places = [kinds.index(str(value)) for value in values]
            labels = [kind if len(kind) <= 24 else f"{kind[:23]}…" for kind in kinds]
            axes.set_xticks(range(len(kinds)), labels, rotation=20, ha="right")
            axes.set_xlim(-0.5, len(kinds) - 0.5)
        for position, (x, y) in enumerate(zip(places, objective, strict=True)):
            colour, size = (PARTS[1], 80) if position == best else (PARTS[2], 32)
            axes.scatter([x], [y], s=size, facecolors=colour if complete[position] else "none", edgecolors=colour)
        axes.set_xlabel(name, color=MUTED, fontsize=9)
        axes.tick_params(colors=INK, labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    for axes in panels[::across]:
        axes.set_ylabel(objective_name, color=MUTED, fontsize=9)
    return figure


def save_animation(animation: FuncAnimation, path: str | Path) -> None:
    """Write an animation as GIF at its own speed. Needs Pillow, which comes with matplotlib."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    animation.save(path, writer="pillow")
