"""Features in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skelcl.plotting.style import (
    DISTINCT,
    GRID,
    INK,
    MUTED,
    colour_and_marker,
    colour_wheel,
    label_text,
    set_title,
    with_script_fonts,
)

UNKNOWN = "#b8c2cc"
"""Colour of clips without a class."""


@with_script_fonts
def embedding(
    features: NDArray[np.floating[Any]],
    label: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    method: Literal["pca", "tsne"] = "pca",
) -> Figure:
    """Map of L2-normalised features in the plane; colour and marker tell the class, clips without one are grey.

    Args:
        features: Feature vectors, (N, D), of at least one clip.
        label: Their classes, (N,), −1 where unknown.
        class_names: Names of the classes.
        method: ``pca``, or ``tsne``, which needs scikit-learn.

    Raises:
        ValueError: If the labels do not fit the clips or the names, or there are none, or not finite ones.
        InputError: If ``tsne`` has no scikit-learn or fewer than four clips.
    """
    x, label, k = torch.as_tensor(np.asarray(features)).float(), np.asarray(label), len(class_names)
    if len(label) != len(x) or not set(label.tolist()) <= set(range(-1, k)):
        raise ValueError(f"each of the {len(x)} clips needs a label in 0…{k - 1}, or −1")
    if not len(x) or not x.isfinite().all():
        raise ValueError(f"a map needs finite features; {int(x.isfinite().all(1).sum())} of {len(x)} clips have them")
    from skelcl.evaluation.projection import project  # its room takes Lightning along, which no other picture needs

    place, axis_names = project(x, method)
    legend = k <= DISTINCT
    looks = [colour_and_marker(c) for c in range(k)] if legend else [(to_hex(hue), "o") for hue in colour_wheel(k)]
    looks.append((UNKNOWN, "o"))  # of class −1
    figure = Figure(figsize=(8.6 if legend else 7.0, 6.2), layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(9000 / len(place), 3, 26))
    # Drawn in a shuffled order, or the last class would cover all others.
    order = np.random.default_rng(0).permutation(len(place))
    for marker in dict.fromkeys(looks[c][1] for c in np.unique(label)):
        these = [n for n in order if looks[label[n]][1] == marker]
        colours = [looks[label[n]][0] for n in these]
        axes.scatter(place[these, 0], place[these, 1], s=size, c=colours, marker=marker, alpha=0.75, linewidths=0)
    for c in np.unique(label[label >= 0]):
        if legend:
            axes.scatter([], [], s=30, color=looks[c][0], marker=looks[c][1], label=label_text(class_names[c]))
        else:
            middle = np.median(place[label == c], axis=0)
            number = axes.annotate(str(c), middle, fontsize=7, ha="center", va="center", color=INK, weight="bold")
            number.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
    if legend and (label >= 0).any():
        columns = 1 + k // 21
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8.5, ncols=columns)
    axes.set_xlabel(axis_names[0], color=MUTED)
    axes.set_ylabel(axis_names[1], color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(GRID)
    axes.margins(0.04)
    set_title(axes, f"features of {len(place)} clips")
    return figure
