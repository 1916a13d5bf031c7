"""Units and axes of motion capture, which most files do not tell: taken from the size and the way up of a body."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from skelcl.data.poses.contents import Axis, Poses, Unit, Wanted
from skelcl.data.recording import ReadError
from skelcl.skeleton import Skeleton

METRES: Mapping[Unit, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "cmu": 0.0254 / 0.45}
"""Metres of a unit; ``cmu``: the inches times 0.45 of the files that come from CMU's database."""
_HEIGHTS: Mapping[Unit, tuple[float, float]] = {
    "m": (1.0, 2.6),
    "cmu": (18.0, 39.0),
    "in": (39.0, 100.0),
    "cm": (100.0, 260.0),
    "mm": (1000.0, 2600.0),
}
"""Unit → heights of which it is guessed; those of people in inches and in centimetres lie close together."""
_UPWARDS: Mapping[Axis, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "x": ((1, 0, 2), (-1, 1, 1)),
    "-x": ((1, 0, 2), (1, -1, 1)),
    "y": ((0, 1, 2), (1, 1, 1)),
    "-y": ((0, 1, 2), (1, -1, -1)),
    "z": ((0, 2, 1), (1, 1, -1)),
    "-z": ((0, 2, 1), (1, -1, 1)),
}
"""Axis that points up → which of the axes become x, y and z, and their signs: turns, never a mirror image."""


def in_metres(
    joints: np.ndarray,
    skeleton: Skeleton,
    place: Path,
    wanted: Wanted,
    whole: np.ndarray,
    *,
    unit: Unit | None = None,
    fps: float | None = None,
    notes: Mapping[str, str] | None = None,
) -> Poses:
    """A clip in metres with y upwards.

    Args:
        joints: Coordinates as the file has them, (M, T, V, 3), NaN where nothing was seen.
        skeleton: Layout of the V joints.
        place: Name of the file in messages.
        wanted: Unit and axis, where they are known; they win over the file.
        whole: All that the file has of the first body, (T, n, 3): its height tells the unit.
        unit: What the file says.
        fps: Frames per second.
        notes: What had to be concluded before.

    Raises:
        ReadError: Nothing is seen, or no unit explains the size of the body.
    """
    if not np.isfinite(joints[0]).all(-1).any():
        raise ReadError("no_skeleton", f"{place}: no frame shows a body")
    joints, whole = (np.where(np.isfinite(one), one, np.nan).astype(np.float64) for one in (joints, whole))
    notes, told = dict(notes or {}), []
    up = wanted.up
    if up is None:
        up = guess_up(joints[0], skeleton)
        told.append(f"{up} points up")
    order, signs = _UPWARDS[up]
    turned: np.ndarray = joints[..., order] * signs
    unit = wanted.unit or unit
    if unit is None:
        height = body_height(whole[..., order] * signs)
        found = [name for name, (low, high) in _HEIGHTS.items() if low <= height < high]
        if not found:
            raise ReadError("units", f"{place}: a body that is {height:.3g} high has no unit that is known: say --unit")
        unit = found[0]
        told.append(f"a body is {height:.3g} high, so the unit is {unit}")
    if told:
        notes["space"] = f"{place}: {'; '.join(told)}, unless --unit and --up say otherwise"
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, hence missing
        metres = (turned * METRES[unit]).astype(np.float32)[..., : wanted.channels]
    # Zero is a place like any other here: what is missing is NaN.
    sure = np.asarray(np.isfinite(metres).all(-1), np.float32)
    return Poses(metres, sure, fps=fps, skeleton=skeleton, unit=unit, up=up, notes=notes)


def guess_up(body: np.ndarray, skeleton: Skeleton) -> Axis:
    """The axis along which the upper end of the trunk lies farthest from the lower one in the mean.

    Args:
        body: Coordinates, (T, V, 3), NaN where nothing was seen.
        skeleton: Layout of the V joints.
    """
    lower, upper = skeleton.up
    trunk = body[:, upper] - body[:, lower]
    seen = np.isfinite(trunk).all(-1)
    mean = trunk[seen].mean(0) if seen.any() else np.array([0.0, 1.0, 0.0])
    axis = int(np.abs(mean).argmax())
    names: tuple[Axis, ...] = ("x", "y", "z", "-x", "-y", "-z")
    return names[axis + 3 * bool(mean[axis] < 0)]


def body_height(body: np.ndarray) -> float:
    """Extent along y that 95 % of the frames do not exceed; people stand in some.

    Args:
        body: Coordinates, (T, V, 3), NaN where nothing was seen; at least one joint is seen.
    """
    y = body[..., 1]
    y = y[np.isfinite(y).any(1)]
    return float(np.quantile(np.nanmax(y, 1) - np.nanmin(y, 1), 0.95))
