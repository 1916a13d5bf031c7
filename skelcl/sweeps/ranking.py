"""What a sweep leaves behind for people: a table, and a picture of the objective over each parameter."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from skelcl.files import atomic_write, cell, markdown_table, one_line
from skelcl.sweeps.definition import Sweep
from skelcl.sweeps.local import Result


def write_tables(folder: Path, sweep: Sweep, results: Sequence[Result]) -> None:
    """Write ``table.csv`` and ``table.md``: a row for each trial, in the order of ``results``, the best marked.

    Args:
        folder: Where to.
        sweep: Whose trials they are.
        results: Trials, the best first.
    """
    keys = [one.key for one in sweep.parameters]
    with atomic_write(folder / "table.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["trial", "state", "best", sweep.metric, "measured", *keys, "folder"])
        for place, one in enumerate(results):
            value = "" if one.objective is None else one.objective
            values = [one.values.get(key, "") for key in keys]
            row = [one.number, one.state, int(is_best(place, one)), value, one.measured, *values, str(one.folder)]
            table.writerow([cell(text) if isinstance(text, str) else text for text in row])
    with atomic_write(folder / "table.md") as part:
        part.write_text(table_text(sweep, results), encoding="utf-8")


def table_text(sweep: Sweep, results: Sequence[Result]) -> str:
    """The table in Markdown."""
    keys = [one.key for one in sweep.parameters]
    rows = [["trial", sweep.metric, "measured", *keys, "state"]]
    for place, one in enumerate(results):
        value = "" if one.objective is None else f"{one.objective:.4g}"
        values = [_short(one.values.get(key, "")) for key in keys]
        number, value = (f"**{text}**" if is_best(place, one) else text for text in (str(one.number), value))
        rows.append([number, value, str(one.measured), *values, one.state])
    goal = "higher" if sweep.maximize else "lower"
    head = f"{sweep.path.name}: {sweep.method} search, {goal} is better, last value of each trial"
    return "\n".join([one_line(head), "", *markdown_table(rows)]) + "\n"


def is_best(place: int, result: Result) -> bool:
    """Whether a row is that of the best trial."""
    return place == 0 and result.state == "complete"


def draw(folder: Path, sweep: Sweep, results: Sequence[Result]) -> Path | None:
    """Draw ``sweep.png``, the objective over each parameter that has more than one value; None without matplotlib."""
    varied = [one for one in sweep.parameters if one.distribution != "constant"]
    shown = [one for one in results if one.objective is not None and all(p.key in one.values for p in varied)]
    if importlib.util.find_spec("matplotlib") is None or not shown or not varied:
        return None
    from skelcl.plotting import parameter_scatter

    columns = {one.key: [_plain(result.values[one.key]) for result in shown] for one in varied}
    figure = parameter_scatter(
        columns,
        [result.objective or 0.0 for result in shown],
        [result.state == "complete" for result in shown],
        results.index(shown[0]) if is_best(0, results[0]) else None,
        sweep.metric,
        {one.key for one in varied if one.logarithmic},
    )
    with atomic_write(folder / "sweep.png") as part:
        figure.savefig(part, dpi=150)
    return folder / "sweep.png"


def _plain(value: object) -> float | str:
    """A number where it is one, so that the axis has its scale."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else _short(value)


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return one_line(text, 60)
