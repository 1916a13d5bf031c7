"""One file of poses, to be looked at without making a store of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelcl.data.formats.containers import read_json
from skelcl.data.poses.estimators import OPENPOSE
from skelcl.data.poses.formats import ENDINGS, Format, load
from skelcl.data.poses.importing import find
from skelcl.data.poses.layouts import find_layout
from skelcl.data.poses.reader import IMAGE_FORMATS, PoseReader, guess_layout
from skelcl.data.recording import ReadError
from skelcl.data.store import StoreError
from skelcl.errors import InputError
from skelcl.skeleton import Skeleton


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
        format: What it is; by default what it looks like.
        layout: Layout of its joints, by name or file; needed where neither format nor file tells.
        y_down: Whether y points down; by default so for pose estimators.
        max_bodies: Bodies to keep: those that are seen in most frames.

    Raises:
        StoreError: There is no such clip, there are several, or the layout is unknown.
        InputError: The clip or the layout is wrong.
    """
    format = format or guess_format(input)
    clips, _ = find(input, format)
    if len(clips) > 1:
        raise StoreError(f"{input} holds {len(clips)} clips; name one of them, for example {clips[0].place}")
    source = None if layout is None else find_layout(layout)
    if format == "csv" and source is None:
        raise StoreError("--layout is missing: a table has names of joints, but not their order and tree")
    try:
        poses = load(format, clips[0].files, None, source)
        source = source or guess_layout(poses, format)
        flat = format in IMAGE_FORMATS if y_down is None else y_down
        reader = PoseReader(source, None, poses.joints.shape[-1], max_bodies=max_bodies, y_down=flat)
        joints, _ = reader(poses, clips[0].place)
    except ReadError as error:
        raise InputError(str(error)) from error
    return ReadClip(joints, source, poses.fps)


def guess_format(input: Path) -> Format:
    """What a clip, or the first clip of a folder, looks like.

    Raises:
        InputError: There is no such file or folder, or it looks like nothing that is known.
    """
    if not input.exists():
        raise InputError(f"{input} does not exist: --input takes a clip or a folder of clips")
    files = sorted(file for file in input.rglob("*") if file.is_file()) if input.is_dir() else [input]
    top = input if input.is_dir() else input.parent
    for file in files:
        if any(part[0] == "." for part in file.relative_to(top).parts):
            continue
        if OPENPOSE.fullmatch(file.name):
            return "openpose"
        fits = [format for format, ending in ENDINGS.items() if ending == file.suffix.lower()]
        if len(fits) == 1 and file.name != "labels.csv":
            return fits[0]
        if file.suffix.lower() == ".json":
            content = read_json(file)
            first = content[0] if isinstance(content, list) and content else content
            keys = set(first) if isinstance(first, dict) else set()
            if isinstance(content, dict) and "keypoints" in keys:
                return "json"
            if {"image_id", "keypoints"} <= keys:
                return "alphapose" if "idx" in keys else "coco"
            return "mediapipe"
    raise InputError(f"{input}: looks like no clip; say what it is with --format")
