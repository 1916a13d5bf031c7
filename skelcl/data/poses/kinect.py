"""Texts and JSON of Kinect sensors: MSR Action3D, UTKinect, MSRC-12, DHG and SHREC, lists of joints, Azure Kinect.

All give metres; x grows to the right of the person who faces the sensor, y upwards, z away from the sensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.formats.containers import decode, read_bytes, read_json, short_repr
from skelcl.data.poses.contents import Part, Poses, Wanted, as_numbers
from skelcl.data.poses.frames import positions
from skelcl.data.poses.people import assemble, whole
from skelcl.data.recording import ReadError

_MSR = (6, 3, 2, 19, 0, 7, 9, 11, 1, 8, 10, 12, 4, 13, 15, 17, 5, 14, 16, 18)
"""Joints of Kinect v1 in the rows of MSR Action3D.

By its bone lengths, and by the arm that moves in one-handed actions, which the data set says is the right one.
"""
_SAME_PERSON = 0.1
"""Two skeletons of a frame that lie closer than these metres, on average over their joints, are one person."""
_MM = 1e-3


def msr_action3d(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads MSR Action3D: 20 rows ``x y z confidence`` for each frame; joints are put in the order of Kinect v1.

    Args:
        files: ``aAA_sSS_eEE_skeleton3D.txt``.
        wanted: Not looked at: these poses have 3 coordinates.

    Raises:
        ReadError: A row is no four numbers, or the last frame is cut off.
    """
    (file,) = files
    rows = _rows(file, 4)
    if len(rows) % 20:
        raise ReadError("frames", f"{file}: has {len(rows)} rows, not 20 for each frame")
    joints = rows.reshape(1, -1, 20, 4)[:, :, _MSR]
    return Poses(joints[..., :3], joints[..., 3])


def utkinect(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads an action of UTKinect: rows of a frame number and 20 joints; a frame may hold several people.

    Numbers jump where nobody was tracked. A person that a frame holds twice is taken once.

    Args:
        files: ``joints_sSS_eEE.txt``, a recording of several actions.
        wanted: The first and the last frame of the action.

    Raises:
        ReadError: A row of the action is damaged, or there is none.
    """
    (file,) = files
    rows = _rows(file, 61, wanted.span)
    if wanted.span is not None and not len(rows):
        raise ReadError("frames", f"{file}: has no frames numbered {wanted.span[0]} to {wanted.span[1]}")
    frames, note = positions(rows[:, 0].tolist(), file)
    people: list[list[np.ndarray]] = [[] for _ in range(max(frames) + 1)]
    for t, joints in zip(frames, _sure(rows[:, 1:].reshape(-1, 20, 3)), strict=True):
        apart = (np.linalg.norm(other[:, :3] - joints[:, :3], axis=-1).mean() for other in people[t])
        if not any(distance < _SAME_PERSON for distance in apart):
            people[t].append(joints)
    return assemble(people, file, notes={"frames": f"{file}: frames are {note}"} if note else {})


def utkinect_parts(files: Sequence[Path]) -> Mapping[Path, Sequence[Part]]:
    """Actions of the recordings of UTKinect, from ``actionLabel.txt`` beside them; a single one may lack that.

    Raises:
        ReadError: That file is missing, or a line of it is neither a recording nor an action.
    """
    out: dict[Path, Sequence[Part]] = {}
    tables: dict[Path, dict[str, list[Part]]] = {}
    for file in files:
        table = file.with_name("actionLabel.txt")
        if len(files) == 1 and not table.is_file():
            continue  # a recording to look at, as a whole
        if (name := re.fullmatch(r"joints_(s\d+_e\d+)\.txt", file.name)) is None:
            out[file] = ()  # of the two tables of actions
            continue
        if table not in tables:
            tables[table] = _actions(table)
        out[file] = tables[table].get(name[1], ())
    return out


def _actions(file: Path) -> dict[str, list[Part]]:
    """Recording → its actions."""
    if not file.is_file():
        raise ReadError("labels", f"{file}: is missing: it tells the actions of the recordings beside it")
    out: dict[str, list[Part]] = {}
    recording: list[Part] = []
    for line, text in enumerate(decode(read_bytes(file), file).splitlines(), 1):
        if re.fullmatch(r"\s*s\d+_e\d+\s*", text):
            recording = out.setdefault(text.strip(), [])
        elif action := re.fullmatch(r"\s*(\w+)\s*:\s*(\d{1,9})\s+(\d{1,9})\s*", text):
            recording.append(Part(action[1], action[1], (int(action[2]), int(action[3]))))
        elif text.strip() and not re.fullmatch(r"\s*\w+\s*:\s*NaN\s+NaN\s*", text):  # an action that was not recorded
            raise ReadError("labels", f"{file}: {short_repr(text)} is no action with its first and last frame", line)
    return out


def msrc12(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads MSRC-12: rows of a time and 20 joints ``x y z 1``, all zero where nobody was tracked.

    Args:
        files: ``PG_I_A_pSS.csv``, a person who repeats a gesture.
        wanted: Not looked at.

    Raises:
        ReadError: A row is no 81 numbers.
    """
    (file,) = files
    joints = _rows(file, 81)[:, 1:].reshape(1, -1, 20, 4)
    return Poses(joints[..., :3], joints[..., 3])


def hand22(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads a hand of DHG-14/28 or SHREC'17: rows of 22 joints ``x y z``.

    Args:
        files: ``skeleton_world.txt`` or ``skeletons_world.txt``.
        wanted: Not looked at.

    Raises:
        ReadError: A row is no 66 numbers.
    """
    (file,) = files
    return Poses(_rows(file, 66).reshape(1, -1, 22, 3))


def joint_lists(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads a list of frames, each a list of the 20 or 25 joints of a Kinect with ``x``, ``y``, ``z``.

    Args:
        files: JSON file; its numbers may be texts.
        wanted: Not looked at.

    Raises:
        ReadError: It holds anything else.
    """
    (file,) = files
    frames = read_json(file)
    if not isinstance(frames, list) or not frames:
        raise ReadError("no_skeleton", f"{file}: holds no frames")
    try:
        values = np.array([[[float(joint[axis]) for axis in "xyz"] for joint in frame] for frame in frames])
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        wrong = f"{type(error).__name__} {short_repr(error.args[0] if error.args else '')}"
        raise ReadError("joints", f"{file}: is no list of frames of joints with x, y, z ({wrong})") from None
    if values.ndim != 3 or values.shape[1] not in _LISTED:
        found = f"{values.shape[1]} joints" if values.ndim == 3 else "none"
        raise ReadError("joints", f"{file}: a frame has {found}, not 20 of Kinect v1 or 25 of Kinect v2")
    return Poses(as_numbers(values, file, "joints")[None], layout=_LISTED[values.shape[1]])


_LISTED = {20: "kinect20", 25: "ntu25"}


def is_joint_lists(content: Any) -> bool:
    """Whether JSON is such a list: joints have neither a visibility nor a name, and are 20 or 25."""
    frame = content[0] if isinstance(content, list) and content else None
    if not isinstance(frame, list) or len(frame) not in _LISTED:
        return False
    return all(isinstance(joint, dict) and joint.keys() == {"x", "y", "z"} for joint in frame)


def azure(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads Azure Kinect: ``frames`` with ``bodies`` of 32 ``joint_positions`` in millimetres, y downwards.

    Args:
        files: JSON file of the body tracking SDK's offline processor.
        wanted: Not looked at.

    Raises:
        ReadError: It holds anything else, or nobody was tracked.
    """
    (file,) = files
    content = read_json(file)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ReadError("keys", f"{file}: the key 'frames' is missing or no list of frames{_keys(content)}")
    people: list[list[np.ndarray]] = [[] for _ in frames]
    ids: list[list[int]] = [[] for _ in frames]
    for t, frame in enumerate(frames):
        bodies = frame.get("bodies")
        if not isinstance(bodies, list) or not all(isinstance(body, dict) for body in bodies):
            raise ReadError("keys", f"{file}: frame {t}: the key 'bodies' is missing or no list{_keys(frame)}")
        for body in bodies:
            joints = as_numbers(body.get("joint_positions", []), f"{file}: frame {t}", "joint_positions")
            if joints.shape != (32, 3):
                raise ReadError("joints", f"{file}: frame {t}: joint_positions are {joints.shape}, not (32, 3)")
            people[t].append(_sure(joints * _MM))
            ids[t].append(whole(body.get("body_id")))
    return replace(assemble(people, file, numbers=ids), fps=_rate(frames))


def is_azure(content: Any) -> bool:
    """Whether JSON is of the offline processor."""
    frames = content.get("frames") if isinstance(content, dict) else None
    return isinstance(frames, list) and bool(frames) and isinstance(frames[0], dict) and "bodies" in frames[0]


def _rate(frames: Sequence[dict[str, Any]]) -> float | None:
    """Frames per second by the middle step of the time stamps; a lost frame or two does not change it."""
    times = [frame.get("timestamp_usec") for frame in frames]
    if len(times) < 2 or not all(isinstance(time, int | float) and abs(time) < 1e15 for time in times):
        return None
    step = float(np.median(np.diff(np.array(times, np.float64))))
    return round(1e6 / step) or None if step > 0 else None


def _keys(content: Any) -> str:
    return f"; the keys are {', '.join(map(short_repr, list(content)[:8]))}" if isinstance(content, dict) else ""


def _sure(joints: np.ndarray) -> np.ndarray:
    """Joints with a confidence of 1 behind the coordinates."""
    return np.concatenate([joints, np.ones((*joints.shape[:-1], 1), np.float32)], -1)


def _rows(file: Path, width: int, span: tuple[int, int] | None = None) -> np.ndarray:
    """Rows of numbers, (n, width) float32; with a span those whose first number lies in it.

    Raises:
        ReadError: A row has another width, or holds no number.
    """
    kept = []
    for line, text in enumerate(decode(read_bytes(file), file).splitlines(), 1):
        cells = text.split()
        if not cells or (span is not None and not span[0] <= _number(cells[0], file, line) <= span[1]):
            continue
        if len(cells) != width:
            raise ReadError("row", f"{file}: a row has {len(cells)} numbers, not {width}", line)
        kept.append([_number(cell, file, line) for cell in cells])
    if not kept and span is None:
        raise ReadError("empty", f"{file}: holds no rows")
    return as_numbers(np.array(kept).reshape(-1, width), file, "rows")


def _number(cell: str, file: Path, line: int) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ReadError("number", f"{file}: {short_repr(cell)} is no number", line) from None
