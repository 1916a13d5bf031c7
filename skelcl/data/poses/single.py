"""One file of poses, to be looked at without making a store of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.formats.containers import decode, npy_header, read_bytes, read_json, reading
from skelcl.data.poses.aspect import parse_aspect
from skelcl.data.poses.axes import check_axes
from skelcl.data.poses.estimators import OPENPOSE
from skelcl.data.poses.formats import FORMATS, Format, find_format, load
from skelcl.data.poses.importing import find
from skelcl.data.poses.layouts import find_layout
from skelcl.data.poses.reader import PoseReader, guess_layout
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
        notes: What was concluded from the numbers, one line each.
    """

    joints: np.ndarray
    skeleton: Skeleton
    fps: float | None
    notes: tuple[str, ...]


def read_clip(
    input: Path,
    format: str | None = None,
    *,
    layout: str | None = None,
    axes: str | None = None,
    aspect: str | None = None,
    y_down: bool | None = None,
    max_bodies: int = 2,
) -> ReadClip:
    """Reads one clip without making a store of it.

    Args:
        input: File, or the folder of an OpenPose clip.
        format: What it is; by default what it looks like.
        layout: Layout of its joints, by name or file; needed where neither format nor file tells.
        axes: Order of the axes of an array; by default as its sizes and numbers tell.
        aspect: Width by height of the picture, where flat coordinates are fractions of them.
        y_down: Whether y points down; by default so for pose estimators.
        max_bodies: Bodies to keep: those that are seen in most frames.

    Raises:
        StoreError: There is no such clip, there are several, or the layout is unknown.
        InputError: The clip or the layout is wrong.
        OptionError: There is no such format, order of axes or shape.
    """
    known = guess_format(input) if format is None else find_format(format)
    clips, _ = find(input, known)
    if len(clips) > 1:
        raise StoreError(f"{input} holds {len(clips)} clips; name one of them, for example {clips[0].place}")
    source = None if layout is None else find_layout(layout)
    if known == "csv" and source is None:
        raise StoreError("--layout is missing: a table has names of joints, but not their order and tree")
    order, shape = check_axes(axes), parse_aspect(aspect)
    try:
        poses = load(known, clips[0].files, None, source, order, shape, span=clips[0].span)
        source = source or guess_layout(poses, known)
        flat = FORMATS[known].y_down if y_down is None else y_down
        reader = PoseReader(
            source,
            None,
            poses.joints.shape[-1],
            FORMATS[known].min_confidence,
            max_bodies=max_bodies,
            y_down=flat,
        )
        joints, _ = reader(poses, clips[0].place)
    except ReadError as error:
        raise InputError(str(error)) from error
    return ReadClip(joints, source, poses.fps, tuple(poses.notes.values()))


def guess_format(input: Path) -> Format:
    """What a clip, or the first clip of a folder that can be read, looks like.

    Raises:
        InputError: There is no such file or folder, or it looks like nothing that is known.
    """
    if not input.exists():
        raise InputError(f"{input} does not exist: --input takes a clip or a folder of clips")
    files = sorted(file for file in input.rglob("*") if file.is_file()) if input.is_dir() else [input]
    top = input if input.is_dir() else input.parent
    damaged: list[Format] = []
    for file in files:
        if any(part[0] == "." for part in file.relative_to(top).parts):
            continue
        if OPENPOSE.fullmatch(file.name):
            return "openpose"
        if file.name == "labels.csv":
            continue
        fits = [format for format, facts in FORMATS.items() if file.name.lower().endswith(facts.endings)]
        for format in fits:  # some endings are of one format alone
            if FORMATS[format].recognised is None:
                return format
        try:
            content = _beginning(file) if fits else None
        except ReadError:
            if len(files) == 1:
                raise
            damaged += fits
            continue
        for format in fits:
            recognised = FORMATS[format].recognised
            if recognised is not None and recognised(content):
                return format
    if damaged:  # whatever reads the first of them says what is wrong with it
        return damaged[0]
    raise InputError(f"{input}: looks like no clip; say what it is with --format")


def _beginning(file: Path) -> Any:
    """What formats of the same ending are told apart by: JSON as a whole, an array's shape, the first row of a text."""
    if file.suffix.lower() == ".json":
        return read_json(file)
    if file.suffix.lower() == ".npy":
        with reading(file), file.open("rb") as stream:
            return npy_header(stream, file).shape
    return next((row for row in decode(read_bytes(file), file).splitlines() if row.strip()), "")
