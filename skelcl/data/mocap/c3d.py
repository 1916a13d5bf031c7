"""C3D files: labelled points in binary; needs the package c3d (``pip install skelcl[mocap]``)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skelcl.data.formats.containers import bounded, read_bytes, reading
from skelcl.data.mocap.points import as_poses
from skelcl.data.poses.contents import Poses, Wanted
from skelcl.data.recording import ReadError
from skelcl.errors import InputError

_SMALLEST = 8
"""Bytes of a point in a frame: four words of 16 bits."""


def read(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads a clip; points with a negative residual, or at zero, were not seen.

    Args:
        files: One C3D file.
        wanted: Layout whose joints are looked for by label, unit and axis where they are known.

    Raises:
        ReadError: The file is damaged, or its points are those of no layout.
        InputError: The package is not installed.
    """
    (file,) = files
    try:
        import c3d
    except ImportError as error:
        raise InputError(f"{file}: C3D needs the package c3d: pip install 'skelcl[mocap]'") from error
    data = read_bytes(file)
    if len(data) < 1024 or data[1] != 0x50:
        raise ReadError("header", f"{file}: is no C3D file")
    with reading(file, "a C3D file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that have points alone
        reader = c3d.Reader(io.BytesIO(data))
        points, frames = int(reader.point_used), int(reader.last_frame) - int(reader.first_frame) + 1
        if points < 1 or frames < 1:
            raise ReadError("empty", f"{file}: has {max(points, 0)} points in {max(frames, 0)} frames")
        if points * frames * _SMALLEST > len(data):
            raise ReadError("truncated", f"{file}: {points} points in {frames} frames are more than it has bytes")
        bounded(20 * points * frames, file)
        labels = _labels(reader, points)
        unit, rate = reader.get("POINT:UNITS"), float(reader.point_rate)
        name = "" if unit is None else str(unit.string_value)
        rows = [found[:, :4] for _, found, _ in reader.read_frames(analog_transform=False)]
    if len(rows) != frames:
        raise ReadError("truncated", f"{file}: {frames} frames are announced, and {len(rows)} follow")
    values = np.stack(rows).astype(np.float64)
    places = values[..., :3]
    places[(values[..., 3] < 0) | (places == 0).all(-1) | ~np.isfinite(places).all(-1)] = np.nan
    return as_poses(labels, places, file, wanted, name.strip("\0 "), round(rate, 2) if 0 < rate < 1e5 else None)


def _labels(reader: object, points: int) -> list[str]:
    """Labels of the points; beyond 255 they go on in LABELS2, LABELS3, …; those without one have their number."""
    labels: list[str] = []
    for block in range(1, 2 + points // 255):
        found = reader.get(f"POINT:LABELS{block if block > 1 else ''}")  # type: ignore[attr-defined] # c3d is not typed
        labels += [] if found is None else [str(one).strip("\0 ") for one in found.string_array]
    labels = labels[:points] + [""] * (points - len(labels))
    return [label or f"point {n}" for n, label in enumerate(labels)]
