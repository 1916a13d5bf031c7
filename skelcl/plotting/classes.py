"""Which classes one run knows better than another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skelcl.plotting.style import GAIN, INK, LOSS, MUTED, label_text, set_title, style_axes, with_script_fonts


@with_script_fonts
def class_change(
    class_names: Sequence[str],
    before: NDArray[np.floating[Any]],
    after: NDArray[np.floating[Any]],
    runs: tuple[str, str] = ("before", "after"),
) -> Figure:
    """Change of the accuracy of each class from one run to another, the largest gain on top.

    Args:
        class_names: The K names.
        before: Accuracies (0…1) of the first run, (K,), NaN for classes without clips; these are left out.
        after: Those of the second.
        runs: What the two are called.

    Raises:
        ValueError: If the sizes do not agree, or no class has two accuracies.
    """
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if not len(class_names) == len(before) == len(after):
        raise ValueError(f"{len(class_names)} class names for {len(before)} and {len(after)} accuracies")
    change = 100 * (after - before)
    known = np.flatnonzero(np.isfinite(change))
    if not len(known):
        raise ValueError("no class has an accuracy in both runs")
    order = known[np.argsort(change[known], kind="stable")]
    size = 8.5 if len(order) <= 40 else 6.5
    figure = Figure(figsize=(7.0, 1.5 + (0.26 if len(order) <= 40 else 0.16) * len(order)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(range(len(order)), change[order], color=[GAIN if c >= 0 else LOSS for c in change[order]])
    axes.bar_label(bars, [_signed(c) for c in change[order]], padding=3, fontsize=size - 1.5, color=MUTED)
    style_axes(axes, "x")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(order)), [label_text(class_names[c]) for c in order], fontsize=size)
    axes.margins(x=0.12)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlabel("change of accuracy in percentage points")
    gained, lost = int((change[order] > 0).sum()), int((change[order] < 0).sum())
    summary = f"{_signed(change[order].mean())} in the mean; {gained} classes gain, {lost} lose"
    set_title(axes, f"{label_text(runs[0])} → {label_text(runs[1])}\n{summary}")
    return figure


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−") if round(points, 1) else "0"
