"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skelcl.plotting.style import INK, MUTED, label_text, set_title, with_script_fonts


@with_script_fonts
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
    class_names = [label_text(name) for name in class_names]
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
    set_title(axes, f"top-1 {accuracy:.1f} % of {int(matrix.sum())} clips")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, format="%d %%")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=MUTED)
    return figure
