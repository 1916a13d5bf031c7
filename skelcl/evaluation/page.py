"""Reports to look at: tables, curves, confusions and a map of clips that move, in one HTML file that needs no network.

Python checks and packs the data as JSON; the scripts in ``resources/`` draw it. Names reach the page as text only, and
the page forbids itself to load anything or to run any script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelcl.errors import InputError
from skelcl.files import atomic_write, one_line
from skelcl.skeleton import Skeleton

SCRIPTS = ("page.js", "table.js", "curves.js", "confusion.js", "player.js", "stage.js", "map.js", "main.js")
"""Read in this order, as one script."""
ABSENT = -(2**15)
"""What stands for a coordinate that was not seen."""
WORST = 20
"""Confusions that are listed beside a matrix."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows that a click on a column sorts.

    Args:
        title: Heading.
        columns: Names of the columns; the first one heads the names of the rows.
        rows: One value for each column. Strings stay as they are; numbers are given the digits of their column.
        note: Text below.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Curves:
    """Lines over a common axis.

    Args:
        title: Heading.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        series: Name of each line and its x and y; a line has a gap where y is not finite.
        note: Text below.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Confusion matrix as a heat map, with a list of its worst confusions.

    Args:
        title: Heading.
        matrix: Counts, (K, K); rows are true classes, columns predicted ones.
        class_names: The K names.
        note: Text below.
    """

    title: str
    matrix: NDArray[Any]
    class_names: Sequence[str]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Map:
    """Clips as points in the plane; the one that is pointed at moves beside it.

    Args:
        title: Heading.
        place: Where the clips lie, (N, 2).
        label: True classes, (N,).
        predicted: Predicted classes, (N,).
        ids: Names of the clips.
        class_names: Names of the classes.
        clips: Coordinates of each clip, (M, T, V, C) with C of 2 or 3 and y upwards; zeros or NaN where nobody was
            seen. About 30 frames are enough: the page moves smoothly from frame to frame.
        skeleton: Layout of the V joints.
        note: Text below.
    """

    title: str
    place: NDArray[Any]
    label: NDArray[Any]
    predicted: NDArray[Any]
    ids: Sequence[str]
    class_names: Sequence[str]
    clips: Sequence[NDArray[Any]]
    skeleton: Skeleton
    note: str = ""


@dataclass(frozen=True, eq=False)
class Page:
    """A report.

    Args:
        title: Heading of the page.
        facts: What was evaluated and how, a name to its value.
        parts: What the page shows, from top to bottom.
    """

    title: str
    facts: Mapping[str, str]
    parts: Sequence[Table | Curves | Confusion | Map]


def write_page(page: Page, path: Path) -> None:
    """Write a report as one HTML file: the whole file or none of it.

    Args:
        page: What to show.
        path: File to write; its folder is made.

    Raises:
        InputError: If the path is a folder.
        ValueError: If the shapes of a part do not fit together.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the HTML file to write")
    text = _html(page)
    with atomic_write(path) as part:
        part.write_bytes(text.encode(errors="replace"))  # names of files may hold what is no character


def _html(page: Page) -> str:
    parts = [_PACK[type(part)](part) for part in page.parts]
    facts = [(name, one_line(value, 1000)) for name, value in page.facts.items()]
    data = {"facts": facts, "parts": parts}
    script = "(() => {\n" + "\n".join(resource(name) for name in SCRIPTS) + "})();\n"
    style = resource("page.css")
    fields = {
        "title": html.escape(one_line(page.title, 400)),
        "data": _json(data),
        "script": script,
        "style": style,
        "script_digest": _digest(script),
        "style_digest": _digest(style),
    }
    # In one pass, for a title may look like a field.
    return re.sub(r"\{\{(\w+)\}\}", lambda field: fields[field[1]], resource("page.html"))


def resource(name: str) -> str:
    """A script, style or page of ``resources/``."""
    return files("skelcl.evaluation").joinpath("resources", name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Any) -> str:
    """JSON in ASCII in which nothing can end or open a tag or a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _table(table: Table) -> dict[str, Any]:
    wrong = next((i for i, row in enumerate(table.rows) if len(row) != len(table.columns)), None)
    if wrong is not None:
        width = len(table.rows[wrong])
        raise ValueError(f"table {table.title!r}: row {wrong} has {width} values for {len(table.columns)} columns")
    rows = [[one_line(value) if isinstance(value, str) else _number(value) for value in row] for row in table.rows]
    return {
        "kind": "table",
        "title": table.title,
        "columns": [one_line(name) for name in table.columns],
        "rows": rows,
        "note": table.note,
    }


def _curves(curves: Curves) -> dict[str, Any]:
    series = []
    for name, (x, y) in curves.series.items():
        if len(x) != len(y):
            raise ValueError(f"curves {curves.title!r}: {name!r} has {len(x)} x and {len(y)} y")
        if not np.isfinite(np.asarray(x, dtype=float)).all():
            raise ValueError(f"curves {curves.title!r}: an x of {name!r} is not finite")
        series.append(
            {"name": one_line(name), "x": [_number(value) for value in x], "y": [_number(value) for value in y]}
        )
    return {
        "kind": "curves",
        "title": curves.title,
        "x_label": curves.x_label,
        "y_label": curves.y_label,
        "series": series,
        "note": curves.note,
    }


def _confusion(confusion: Confusion) -> dict[str, Any]:
    k = len(confusion.class_names)
    given = np.asarray(confusion.matrix)
    if given.shape != (k, k):
        raise ValueError(f"confusion {confusion.title!r}: {k} class names need a ({k}, {k}) matrix, not {given.shape}")
    matrix = given.astype(np.int64)
    if (matrix != given).any() or (matrix < 0).any():
        raise ValueError(f"confusion {confusion.title!r}: the matrix must hold counts")
    return {
        "kind": "confusion",
        "title": confusion.title,
        "matrix": matrix.tolist(),
        "class_names": [one_line(name) for name in confusion.class_names],
        "worst": _worst(matrix),
        "note": confusion.note,
    }


def _worst(matrix: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(true, predicted) of the wrong cells with most clips; among equals, the larger share of its class first."""
    true, predicted = np.nonzero(matrix * (1 - np.eye(len(matrix), dtype=np.int64)))
    count = matrix[true, predicted]
    order = np.lexsort((predicted, true, -count / matrix.sum(1)[true], -count))[:WORST]
    return list(zip(true[order].tolist(), predicted[order].tolist(), strict=True))


def _map(chart: Map) -> dict[str, Any]:
    where = f"map {chart.title!r}:"
    n, k, skeleton = len(chart.ids), len(chart.class_names), chart.skeleton
    place = np.asarray(chart.place, dtype=float)
    if place.shape != (n, 2) or len(chart.clips) != n:
        raise ValueError(
            f"{where} {n} ids need ({n}, 2) places and {n} clips, not {place.shape} and {len(chart.clips)}"
        )
    if not np.isfinite(place).all():
        raise ValueError(f"{where} a place is not finite")
    classes = {name: np.asarray(getattr(chart, name)) for name in ("label", "predicted")}
    for name, given in classes.items():
        if given.shape != (n,) or not np.isin(given, np.arange(k)).all():
            raise ValueError(f"{where} {name} must be a class in 0…{k - 1} for each of the {n} clips")
    part = {joint: number for number, joints in enumerate(skeleton.parts.values()) for joint in joints}
    return {
        "kind": "map",
        "title": chart.title,
        "place": [[_number(value) for value in row] for row in place],
        **{name: given.astype(np.int64).tolist() for name, given in classes.items()},
        "ids": [one_line(str(name)) for name in chart.ids],
        "class_names": [one_line(name) for name in chart.class_names],
        "clips": [
            _clip(clip, skeleton, f"{where} clip {name!r}") for clip, name in zip(chart.clips, chart.ids, strict=True)
        ],
        "bones": [list(bone) for bone in skeleton.bones],
        "parts": [part[joint] for joint in range(skeleton.num_joints)],
        "part_names": list(skeleton.parts),
        "note": chart.note,
    }


def _clip(clip: NDArray[Any], skeleton: Skeleton, where: str) -> dict[str, Any]:
    """Coordinates as int16, about ``centre`` in steps of ``unit``, bodies that are never seen left out."""
    x = np.asarray(clip, dtype=float)
    v = skeleton.num_joints
    if x.ndim != 4 or x.shape[1] == 0 or x.shape[2] != v or x.shape[3] not in (2, 3):
        raise ValueError(f"{where} must be (M, T, {v}, C) with C of 2 or 3, not {x.shape}")
    seen = np.isfinite(x).all(3) & (np.nan_to_num(x) != 0).any((2, 3))[..., None]
    kept = seen.any((1, 2))
    x, seen = x[kept], seen[kept]
    points = x[seen]
    low, high = (points.min(0), points.max(0)) if len(points) else (np.zeros(x.shape[3]), np.zeros(x.shape[3]))
    centre, unit = (low + high) / 2, max(float((high - low).max()) / 2, 1e-9) / (2**15 - 1)
    steps = np.full(x.shape, ABSENT, dtype="<i2")
    steps[seen] = np.rint((points - centre) / unit)
    return {
        "shape": list(x.shape),
        "centre": [_number(value) for value in centre],
        "unit": unit,
        "joints": base64.b64encode(steps.tobytes()).decode(),
    }


def _number(value: float) -> int | float | None:
    """A number for JSON with the seven digits that a float32 has; None where there is none."""
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else float(f"{number:.7g}")


_PACK: dict[type, Any] = {Table: _table, Curves: _curves, Confusion: _confusion, Map: _map}
