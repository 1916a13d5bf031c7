"""Labelled points, of C3D and TRC files, as the joints of bodies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skelcl.data.formats.containers import short_repr
from skelcl.data.mocap.naming import of_points
from skelcl.data.mocap.space import in_metres
from skelcl.data.poses.contents import MOST_BODIES, Poses, Unit, Wanted
from skelcl.data.recording import ReadError
from skelcl.skeleton import Skeleton

_UNITS: dict[str, Unit] = {
    "m": "m", "meter": "m", "meters": "m", "metre": "m", "metres": "m",
    "cm": "cm", "centimeter": "cm", "centimeters": "cm", "centimetre": "cm", "centimetres": "cm",
    "mm": "mm", "millimeter": "mm", "millimeters": "mm", "millimetre": "mm", "millimetres": "mm",
    "in": "in", "inch": "in", "inches": "in",
}  # fmt: skip


def as_poses(
    labels: Sequence[str], places: np.ndarray, file: Path, wanted: Wanted, unit: str, fps: float | None
) -> Poses:
    """The bodies of a file of labelled points.

    Points of several people have the name of theirs before a colon; each group that has all joints is a body.

    Args:
        labels: N labels.
        places: Coordinates, (T, N, 3), NaN where nothing was seen.
        file: Name of the file in messages.
        wanted: Layout whose joints are looked for, unit and axis where they are known.
        unit: What the file says; empty where it says nothing.
        fps: Frames per second.

    Raises:
        ReadError: The labels are those of no layout, or unit or axis cannot be told.
    """
    known = _UNITS.get(unit.strip().lower())
    if unit.strip() and known is None and wanted.unit is None:
        raise ReadError("units", f"{file}: has the unit {short_repr(unit)}, which is not known: say --unit")
    groups: dict[str, list[int]] = {}
    for n, label in enumerate(labels):
        groups.setdefault(label.rpartition(":")[0], []).append(n)
    bodies: list[tuple[Skeleton, list[int], list[int]]] = []
    problem: ReadError | None = None
    for group in groups.values():
        try:
            layout, chosen = of_points([labels[n] for n in group], wanted.layout, file)
            bodies.append((layout, [group[n] for n in chosen], group))
        except ReadError as error:  # markers of a box, or a camera
            problem = problem or error
    if not bodies:
        raise problem or ReadError("layout", f"{file}: has no points")
    skeleton, _, group = bodies[0]
    kept = [chosen for layout, chosen, _ in bodies if layout.joints == skeleton.joints][:MOST_BODIES]
    left = len(labels) - sum(map(len, kept))
    notes = {"points": f"{file}: {left} of {len(labels)} points are no joints of {skeleton.name}"} if left else {}
    joints = np.stack([places[:, chosen] for chosen in kept])
    return in_metres(joints, skeleton, file, wanted, places[:, group], unit=known, fps=fps, notes=notes)
