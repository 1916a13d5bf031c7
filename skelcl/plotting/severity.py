"""Accuracy under corruptions of growing severity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skelcl.plotting.style import MUTED, colour_and_marker, label_text, set_title, style_axes, with_script_fonts

Curve = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]


@with_script_fonts
def severity_curves(
    curves: Mapping[str, Mapping[str, Curve]], metric: str = "accuracy", units: Mapping[str, str] | None = None
) -> Figure:
    """One chart for each corruption, one line for each run; all charts share the scale of accuracy.

    Args:
        curves: Name of the corruption, name of the run, and there severities (n,) and accuracies (n,) of 0…1. A run has
            the same look in all charts.
        metric: What kind of accuracy it is.
        units: Name of a corruption → what its severity counts.

    Raises:
        ValueError: If there is no curve, or one has not as many severities as accuracies.
    """
    units = {} if units is None else units
    lines = [curve for runs in curves.values() for curve in runs.values()]
    if not lines or any(len(severity) != len(accuracy) for severity, accuracy in lines):
        raise ValueError("severity curves need at least one, with as many severities as accuracies")
    runs = list(dict.fromkeys(run for by_run in curves.values() for run in by_run))
    rows = -(-len(curves) // 4)
    columns = -(-len(curves) // rows)
    figure = Figure(figsize=(1.2 + 2.5 * columns, 1.0 + 2.3 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes, (corruption, by_run) in zip(panels, curves.items(), strict=False):
        for run, (severity, accuracy) in by_run.items():
            colour, marker = colour_and_marker(runs.index(run))
            order = np.argsort(severity)
            x, y = np.asarray(severity)[order], 100 * np.asarray(accuracy)[order]
            axes.plot(x, y, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label_text(run))
        style_axes(axes)
        set_title(axes, label_text(corruption))
        axes.set_xlabel(units.get(corruption, "severity"), fontsize=8.5, color=MUTED)
    # Limits once all is drawn: they end the scaling of every panel, as these share them.
    panels[0].set_ylim(0, None)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    if any(0 in severity for severity, _ in lines):
        figure.supxlabel("0: as recorded", fontsize=9, color=MUTED)
    figure.supylabel(f"{metric} in %", fontsize=9, color=MUTED)
    if len(runs) > 1:
        found = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(
            [found[run] for run in runs], runs, loc="outside upper left", frameon=False, fontsize=8.5, ncols=columns
        )
    return figure
