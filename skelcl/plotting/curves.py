"""Learning curves of several runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from skelcl.plotting.style import colour_and_marker, label_text, set_title, style_axes, with_script_fonts


@with_script_fonts
def learning_curves(
    runs: Mapping[str, tuple[NDArray[np.number[Any]], NDArray[np.floating[Any]]]], metric: str, x: str = "epoch"
) -> Figure:
    """A metric of several runs over the course of training.

    Args:
        runs: Name of each run, and where (n,) and what (n,) was measured.
        metric: Name of the metric.
        x: What the course is counted in.

    Raises:
        ValueError: If there are no runs, or a run has not as many places as values.
    """
    if not runs or any(len(places) != len(values) for places, values in runs.values()):
        raise ValueError("learning curves need at least one run, with as many places as values")
    figure = Figure(figsize=(7.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    longest = max(len(places) for places, _ in runs.values())
    for number, (name, (places, values)) in enumerate(runs.items()):
        colour, marker = colour_and_marker(number)
        # Points where they can be told apart, and a few of them to tell runs of the same colour apart.
        every = 1 if longest <= 30 else max(1, len(places) // 12)
        axes.plot(
            places,
            values,
            color=colour,
            marker=marker,
            markevery=every,
            markersize=4,
            linewidth=1.6,
            label=label_text(name),
        )
    style_axes(axes)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(x)
    axes.set_ylabel(label_text(metric))
    if len(runs) > 1:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)
    else:
        set_title(axes, label_text(next(iter(runs))))
    return figure
