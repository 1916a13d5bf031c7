"""TRC files of OpenSim, Pose2Sim, OpenCap and others: labelled points as a table with tabs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skelcl.data.formats.containers import bounded, decode, read_bytes, short_repr
from skelcl.data.mocap.points import as_poses
from skelcl.data.poses.contents import Poses, Wanted
from skelcl.data.recording import ReadError


def read(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads a clip; empty cells and NaN are points that were not seen.

    Args:
        files: One TRC file.
        wanted: Layout whose joints are looked for by label, unit and axis where they are known.

    Raises:
        ReadError: The file is damaged, or its points are those of no layout.
    """
    (file,) = files
    lines = [line.rstrip("\r") for line in decode(read_bytes(file), file).split("\n")]
    if len(lines) < 5 or not lines[0].startswith("PathFileType"):
        raise ReadError("header", f"{file}: does not begin with the five lines of a TRC file, PathFileType first", 1)
    facts = dict(zip(_cells(lines[1].lower()), _cells(lines[2]), strict=False))
    labels = [label for label in _cells(lines[3])[2::3] if label]
    if not labels or _cells(lines[3])[0].lower() != "frame#":
        raise ReadError("header", f"{file}: names no points after Frame# and Time", 4)
    rows = [(number, _cells(line)) for number, line in enumerate(lines[5:], 6) if line.strip()]
    if not rows:
        raise ReadError("empty", f"{file}: has no frames", 6)
    width = 3 * len(labels)
    bounded(8 * len(rows) * width, file)
    places = np.full((len(rows), width), np.nan)
    for t, (line, cells) in enumerate(rows):
        found, more = cells[2 : 2 + width], cells[2 + width :]
        if len(cells) < 3 or any(more):
            raise ReadError("csv", f"{file}: a row has {len(cells) - 2} coordinates for {len(labels)} points", line)
        try:
            places[t, : len(found)] = [float(cell) if cell else np.nan for cell in found]
        except ValueError as error:
            raise ReadError("number", f"{file}: {str(error).rpartition(': ')[2][:60]} is no number", line) from error
    declared = facts.get("numframes", "")
    if declared.isdecimal() and len(declared) < 10 and int(declared) != len(rows):
        raise ReadError("frames", f"{file}: {declared} frames are announced, and {len(rows)} follow", 3)
    places[~np.isfinite(places)] = np.nan
    fps = _rate(facts.get("datarate", ""), file)
    return as_poses(labels, places.reshape(len(rows), -1, 3), file, wanted, facts.get("units", ""), fps)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")]


def _rate(text: str, file: Path) -> float | None:
    try:
        rate = float(text or "nan")
    except ValueError:
        rate = 0.0
    if rate <= 0 or rate > 1e5:
        raise ReadError("header", f"{file}: DataRate is {short_repr(text)}, not frames per second", 3)
    return None if np.isnan(rate) else rate
