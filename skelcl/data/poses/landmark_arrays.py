"""MediaPipe's landmarks in arrays of numpy, a clip or a frame each, and in tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from skelcl.data.formats.containers import bounded, npy_header, read_npy, reading
from skelcl.data.poses import tables
from skelcl.data.poses.contents import Poses, Wanted, as_numbers
from skelcl.data.poses.frames import positions
from skelcl.data.recording import ReadError
from skelcl.skeleton import HAND21, MEDIAPIPE33, Skeleton

_POSE, _HAND = MEDIAPIPE33.num_joints, HAND21.num_joints
_FACE = 468
_ROWS = {
    4 * _POSE: (4, None),
    3 * _POSE: (3, None),
    4 * _POSE + 3 * (_FACE + 2 * _HAND): (4, 4 * _POSE + 3 * _FACE),
    4 * _POSE + 3 * (_FACE + 10 + 2 * _HAND): (4, 4 * _POSE + 3 * (_FACE + 10)),
    4 * _POSE + 6 * _HAND: (4, 4 * _POSE),
}
"""Numbers of a frame in one row → numbers per landmark of the pose that it begins with, and where its hands begin.

1,662 and 258 are those of Holistic with and without a face: pose, face, left hand, right hand; 1,692 has irises.
"""
_AT_HIPS = 0.03
"""As for JSON: metres from the origin within which the hips of world landmarks lie in the middle."""


def is_frame(file: Path) -> bool:
    """Whether a file is one frame of a clip whose frames are numbered: an array of a row of landmarks, or (33, C)."""
    if file.suffix.lower() != ".npy" or not re.fullmatch(r"\D*\d+", file.stem):
        return False
    try:
        with reading(file), file.open("rb") as stream:
            return _is_frame(npy_header(stream, file).shape)
    except ReadError:
        return False


def _is_frame(shape: tuple[int, ...]) -> bool:
    if len(shape) == 1:
        return shape[0] in _ROWS
    return len(shape) == 2 and shape[0] in (_POSE, _HAND) and shape[1] in (3, 4)


def is_shape(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape holds landmarks."""
    rows = len(shape) == 2 and shape[1] in _ROWS
    return rows or _is_frame(shape) or (len(shape) == 3 and shape[1] == _POSE and shape[2] in (3, 4))


def arrays(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads (T, 33, C), (T, 33 · C) or Holistic's (T, 1662), or files of one frame each, numbered from the first.

    Args:
        files: The clip, or its frames.
        wanted: Channels, as for JSON; a layout of a hand takes the hands of Holistic, the left one first.

    Raises:
        ReadError: The array has another shape.
    """
    place = files[0] if len(files) == 1 else files[0].parent
    values = []
    for file in files:
        with reading(file), file.open("rb") as stream:
            values.append(as_numbers(read_npy(stream, file), file, "landmarks"))
    if len(files) == 1 and not (_is_frame(values[0].shape)):
        clip, note = values[0], ""
    else:
        if len({one.shape for one in values}) > 1:
            raise ReadError("shape", f"{place}: the shapes of its frames differ")
        numbers = [int(re.findall(r"\d{1,15}", file.stem)[-1]) for file in files]
        frames, note = positions(numbers, place)
        bounded(4 * (max(frames) + 1) * values[0].size, place)
        clip = np.full((max(frames) + 1, *values[0].shape), np.nan, np.float32)
        clip[frames] = np.stack(values)
    notes = {"frames": f"{place}: frames are {note}"} if note else {}
    hands = wanted.layout is not None and wanted.layout.num_joints == _HAND
    landmarks = _landmarks(clip, hands, place)
    missing = (landmarks == 0).all(-1)
    sure = np.where(missing, 0, landmarks[..., 3] if landmarks.shape[-1] == 4 else 1).astype(np.float32)
    poses = _in_space_or_image(landmarks[..., :3], wanted.channels, place, hands)
    return replace(poses, confidence=sure, notes={**notes, **poses.notes})


def _landmarks(clip: np.ndarray, hands: bool, place: Path) -> np.ndarray:
    """Landmarks (M, T, V, 3 or 4) of frames."""
    if clip.ndim == 2 and clip.shape[1] in _ROWS:
        width, start = _ROWS[clip.shape[1]]
        if hands:
            if start is None:
                raise ReadError("shape", f"{place}: landmarks are {clip.shape}, a pose without hands")
            return clip[:, start : start + 6 * _HAND].reshape(len(clip), 2, _HAND, 3).transpose(1, 0, 2, 3)
        return clip[:, : width * _POSE].reshape(1, len(clip), _POSE, width)
    joints = _HAND if hands else _POSE
    if clip.ndim == 2 and clip.shape[1] == 3 * joints:
        return clip.reshape(1, len(clip), joints, 3)
    clip = clip[None] if clip.ndim == 3 else clip
    if clip.ndim != 4 or clip.shape[2] != joints or clip.shape[3] not in (3, 4) or 0 in clip.shape:
        sizes = ", ".join(f"(T, {size})" for size in _ROWS)
        raise ReadError("shape", f"{place}: landmarks are {clip.shape}, not (T, {joints}, 3 or 4) or {sizes}")
    return clip


def _in_space_or_image(joints: np.ndarray, channels: int | None, place: Path, hands: bool = False) -> Poses:
    """Landmarks (M, T, V, 3) in space where the origin lies between the hips, else flat ones in the image."""
    with np.errstate(invalid="ignore", over="ignore"):
        middle = np.abs(joints[..., 23, :] + joints[..., 24, :]).max(-1) / 2 if not hands else np.full(1, np.inf)
        shown = middle[np.isfinite(middle) & (joints != 0).any((-1, -2))] if not hands else middle
    space = bool(len(shown)) and float(np.median(np.minimum(shown, 1))) < _AT_HIPS
    if channels == 3 and not space:
        remedy = "the 3D poses that are wanted; an import takes flat ones with --channels 2"
        raise ReadError(
            "no_skeleton", f"{place}: holds landmarks in the image (the origin is not at the hips), not {remedy}"
        )
    count = channels or (3 if space else 2)
    what = (
        "in space, since the origin lies between the hips" if space else "in the image: the origin is not at the hips"
    )
    note = f"{place}: does not say what its landmarks are; taken as those {what}"
    return Poses(np.ascontiguousarray(joints[..., :count]), notes={"landmarks": note})


def table(file: Path, wanted: Wanted) -> Poses:
    """Reads a table of landmarks, long or wide, by their names, their places, or columns such as ``x1``, ``v1``.

    Raises:
        ReadError: It is none; see :func:`skelcl.data.poses.tables.read`.
    """
    layout: Skeleton = wanted.layout or MEDIAPIPE33
    poses = tables.read([file], Wanted(None, layout))
    if layout.num_joints != _POSE or poses.joints.shape[-1] == 2:
        return poses
    found = _in_space_or_image(poses.joints, wanted.channels, file)
    return replace(poses, joints=found.joints, notes={**poses.notes, **found.notes})


def is_table(header: str) -> bool:
    """Whether the first row of a text is that of such a table: names of landmarks, or columns of 33 of them."""
    names = {tables.plain(name) for name in header.split(",")}
    if {"x1", "y1", "x12"} <= names:  # more joints than a hand's fingers have, and a header may end early
        return True
    if any(name.startswith("landmark") for name in names) and names & set(tables.FRAME):
        return True
    wide = {re.sub(r" (x|y|z|v|visibility|confidence)$", "", name) for name in names}
    return len(wide & {tables.plain(joint) for joint in MEDIAPIPE33.joints if " " in joint}) > _POSE // 2
