"""Poses of your own: tables, arrays and the output of pose estimators, each read into one kind of clip.

A format is an entry of :data:`FORMATS`: what writes it, what it holds, and the function that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from skelcl.data.mocap import bvh
from skelcl.data.poses import estimators, keypoint_arrays, landmarks, tables
from skelcl.data.poses.aspect import in_heights
from skelcl.data.poses.contents import Axis, Poses, Unit, Wanted
from skelcl.errors import OptionError
from skelcl.skeleton import Skeleton

Format = Literal["csv", "json", "npy", "npz", "mediapipe", "openpose", "coco", "alphapose", "bvh"]


@dataclass(frozen=True)
class PoseFormat:
    """What readers, and people, have to know of a format.

    Args:
        tools: What writes it.
        clip: What one clip is.
        content: What is in it.
        ending: How the names of its files end.
        read: Reads the files of a clip.
        y_down: Whether y points down, as in images; stores have it upwards.
        confidence: Where it says how sure a joint is.
        lost: What it has and a store does not keep.
        motion_capture: Whether its reader makes metres of the coordinates, and turns them so that y points up.
        recognised: Whether the content of a JSON file is of this format; None where the ending says it.
    """

    tools: str
    clip: str
    content: str
    ending: str
    read: Callable[[Sequence[Path], Wanted], Poses]
    y_down: bool
    confidence: str
    lost: str
    motion_capture: bool = False
    recognised: Callable[[Any], bool] | None = None


def _first_keys(content: Any) -> set[str]:
    """Keys of the first of a list of objects."""
    first = content[0] if isinstance(content, list) and content else None
    return set(first) if isinstance(first, dict) else set()


FORMATS: Mapping[Format, PoseFormat] = {
    "csv": PoseFormat(
        tools="spreadsheets, pandas",
        clip="a file",
        content="long: columns `frame`, `joint` (name or place), `x`, `y` and, where known, `z`, `confidence`, "
        "`person`; wide: `frame`, `person` and `<joint>_x`, `<joint>_y`, `<joint>_z`, `<joint>_confidence`",
        ending=".csv",
        read=tables.read,
        y_down=False,
        confidence="`confidence`",
        lost="other columns",
    ),
    "npy": PoseFormat(
        tools="numpy",
        clip="a file",
        content="(T, V, C) or (M, T, V, C); other orders of the axes are told by their sizes, or by `--axes`",
        ending=".npy",
        read=partial(keypoint_arrays.read, format="npy"),
        y_down=False,
        confidence="a column more",
        lost="nothing",
    ),
    "npz": PoseFormat(
        tools="numpy",
        clip="a file",
        content="`keypoints` (T, V, C) or (M, T, V, C) and, where known, `confidence` (M, T, V), `label`, `id`, `fps`, "
        "`layout`, `subject`, `camera`, `aspect`",
        ending=".npz",
        read=partial(keypoint_arrays.read, format="npz"),
        y_down=False,
        confidence="`confidence`, or a column more",
        lost="nothing",
    ),
    "json": PoseFormat(
        tools="scripts of your own",
        clip="a file",
        content="as `npz`, in nested lists",
        ending=".json",
        read=partial(keypoint_arrays.read, format="json"),
        y_down=False,
        confidence="`confidence`, or a column more",
        lost="nothing",
        recognised=lambda content: isinstance(content, dict) and "keypoints" in content,
    ),
    "alphapose": PoseFormat(
        tools="AlphaPose",
        clip="a file, a list of persons",
        content="`image_id`, `keypoints` of x, y, confidence, and `idx`, which tells persons apart",
        ending=".json",
        read=estimators.alphapose,
        y_down=True,
        confidence="every third number",
        lost="boxes, scores of persons",
        recognised=lambda content: {"image_id", "keypoints", "idx"} <= _first_keys(content),
    ),
    "coco": PoseFormat(
        tools="COCO's evaluation, Detectron2, MMPose",
        clip="a file, a list of persons",
        content="`image_id`, `keypoints` of x, y, confidence",
        ending=".json",
        read=estimators.coco,
        y_down=True,
        confidence="every third number",
        lost="boxes, scores of persons",
        recognised=lambda content: {"image_id", "keypoints"} <= _first_keys(content),
    ),
    "openpose": PoseFormat(
        tools="OpenPose",
        clip="a folder of `*_keypoints.json`, a file per frame",
        content="`people` with `pose_keypoints_2d` or `pose_keypoints_3d`",
        ending="_keypoints.json",
        read=estimators.openpose,
        y_down=True,
        confidence="the last of three or four numbers",
        lost="hands and faces",
    ),
    "mediapipe": PoseFormat(
        tools="MediaPipe in Python and JavaScript",
        clip="a file, a list of frames",
        content="`world_landmarks`, `landmarks` or both, with or without `pose_` before it or in camel case, each with "
        "x, y, z, visibility, of one person or a list of persons",
        ending=".json",
        read=landmarks.read,
        y_down=True,
        confidence="`visibility`, or `presence` where that is null",
        lost="landmarks in the image where there are world landmarks; hands and faces",
        recognised=lambda content: True,
    ),
    "bvh": PoseFormat(
        tools="Blender, MotionBuilder, Mixamo, Rokoko, Xsens, CMU's database",
        clip="a file",
        content="`HIERARCHY` with the names of joints or segments, and `MOTION`; positions replace `OFFSET`, or are "
        "added to it where they lie around zero",
        ending=".bvh",
        read=bvh.read,
        y_down=False,
        confidence="none",
        lost="rotations, joints above the hips, ends",
        motion_capture=True,
    ),
}
"""Format → its facts; a JSON file is of the first of them that recognises its content."""


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        OptionError: There is none.
    """
    for format in FORMATS:
        if format == name:
            return format
    raise OptionError(f"--format must be one of {', '.join(FORMATS)}, not {name!r}")


def load(
    format: Format,
    files: Sequence[Path],
    channels: int | None = None,
    layout: Skeleton | None = None,
    axes: str | None = None,
    aspect: float | None = None,
    unit: Unit | None = None,
    up: Axis | None = None,
) -> Poses:
    """Reads one clip.

    Args:
        format: What the files are.
        files: The file, or the frames of an OpenPose clip.
        channels: Coordinates per joint, 2 or 3; None takes what there is.
        layout: Layout of the joints; tables need it, and it tells which axis of an array is which.
        axes: Order of the axes of an array, for example ``TMVC``; None leaves that to sizes and numbers.
        aspect: Width by height of the picture, where coordinates are fractions of them; None leaves that to the file.
        unit: Unit of motion capture; None lets its reader tell.
        up: Axis of motion capture that points up; None lets its reader tell.

    Raises:
        ReadError: The clip is damaged or not in the format.
    """
    poses = FORMATS[format].read(files, Wanted(channels, layout, axes, unit, up))
    return in_heights(poses, aspect, files[0] if len(files) == 1 else files[0].parent)


def table() -> str:
    """The facts of all formats as a table of Markdown, as in ``experiments/guides/your-data.md``."""
    rows = [("written by", "`--format`", "a clip", "content", "how sure a joint is", "y", "lost")]
    rows += [
        (
            facts.tools,
            f"`{name}`",
            facts.clip,
            facts.content,
            facts.confidence,
            "down" if facts.y_down else "up",
            facts.lost,
        )
        for name, facts in FORMATS.items()
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
