"""What a search over parameters found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from matplotlib.figure import Figure

from skelcl.plotting.style import COLOURS, label_text, style_axes, with_script_fonts


@with_script_fonts
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
            labels = [label_text(kind, 24) for kind in kinds]
            axes.set_xticks(range(len(kinds)), labels, rotation=20, ha="right")
            axes.set_xlim(-0.5, len(kinds) - 0.5)
        for position, (x, y) in enumerate(zip(places, objective, strict=True)):
            colour, size = (COLOURS[3], 80) if position == best else (COLOURS[0], 32)
            axes.scatter([x], [y], s=size, facecolors=colour if complete[position] else "none", edgecolors=colour)
        axes.set_xlabel(label_text(name))
        style_axes(axes, "both")
    for axes in panels[::across]:
        axes.set_ylabel(label_text(objective_name))
    return figure
