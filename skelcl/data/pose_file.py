"""One file of poses, to be looked at without making a store of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from skelcl.data.formats.poses import Format, load
from skelcl.data.import_poses import IMAGE_FORMATS, PoseReader, find, guess_layout
from skelcl.data.layouts import find_layout
from skelcl.data.recording import ReadError
from skelcl.data.store import StoreError
from skelcl.errors import InputError
from skelcl.skeleton import Skeleton

_BY_SUFFIX: dict[str, Format] = {".csv": "csv", ".json": "json", ".npy": "npy", ".npz": "npz"}


@dataclass(frozen=True, eq=False)
class ReadClip:
    """One clip, ready to be looked at.

    Args:
        joints: Coordinates, (M, T, V, C) float32, NaN where nothing was seen.
        skeleton: Layout of the V joints.
        fps: Frames per second; None when the file does not say.
    """

    joints: np.ndarray
    skeleton: Skeleton
    fps: float | None


def read_clip(
    input: Path,
    format: Format | None = None,
    *,
    layout: str | None = None,
    y_down: bool | None = None,
    max_bodies: int = 2,
) -> ReadClip:
    """Reads one clip without making a store of it.

    Args:
        input: File, or the folder of an OpenPose clip.
        format: What it is; by default what its suffix says, and OpenPose for a folder.
        layout: Layout of its joints, by name or file; needed where neither format nor file tells.
        y_down: Whether y points down; by default so for pose estimators.
        max_bodies: Bodies to keep: those that are seen in most frames.

    Raises:
        StoreError: There is no such clip, there are several, or the layout is unknown.
        InputError: The clip or the layout is wrong.
    """
    hint = ""
    if format is None:
        format = "openpose" if input.is_dir() else _BY_SUFFIX.get(input.suffix.lower())
        if format is None:
            raise InputError(f"{input}: --format is missing; it is one of {', '.join(get_args(Format))}")
        hint = "; if a pose estimator wrote it, say which: --format mediapipe" if format == "json" else ""
    clips, _ = find(input, format)
    if len(clips) > 1:
        raise StoreError(f"{input} holds {len(clips)} clips; name one of them, for example {clips[0].place}")
    source = None if layout is None else find_layout(layout)
    if format == "csv" and source is None:
        raise StoreError("--layout is missing: a table has names of joints, but not their order and tree")
    try:
        poses = load(format, clips[0].files, None, source)
        source = source or guess_layout(poses, format)
        reader = PoseReader(
            format=format,
            layout=source,
            change=None,
            channels=poses.joints.shape[-1],
            fps=None,
            classes=() if clips[0].label is None else (clips[0].label,),
            min_confidence=0.0,
            max_bodies=max_bodies,
            y_down=format in IMAGE_FORMATS if y_down is None else y_down,
            fill_unseen=False,
            zero_missing=True,
        )
        (recording,) = reader(clips[0])
    except ReadError as error:
        raise InputError(f"{error}{hint}") from error
    return ReadClip(recording.joints, source, poses.fps)
