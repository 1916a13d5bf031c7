"""Poses of your own: tables, arrays and the output of pose estimators, each read into one kind of clip.

A format is an entry of :data:`FORMATS`: what writes it, what it holds, and the function that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from skelcl.data.mocap import bvh, c3d, trc
from skelcl.data.poses import (
    estimators,
    file_names,
    keypoint_arrays,
    kinect,
    landmark_arrays,
    landmarks,
    matlab,
    person_lists,
    recordings,
    tables,
)
from skelcl.data.poses.aspect import in_heights
from skelcl.data.poses.contents import Axis, Part, Poses, Unit, Wanted
from skelcl.data.poses.file_names import FileNames
from skelcl.errors import OptionError
from skelcl.skeleton import Skeleton

Format = Literal[
    "csv", "json", "npy", "npz", "mediapipe", "openpose", "coco", "alphapose", "bvh", "c3d", "trc",
    "kinect-json", "azure-kinect", "msr-action3d", "utkinect", "msrc-12", "utd-mhad", "hands",
    "mmpose", "coco-annotations", "openpifpaf", "ultralytics", "ntu", "nw-ucla", "pku-mmd",
]  # fmt: skip
MinConfidence = float | Literal["ignore"]
"""Joints of a smaller confidence, and those of confidence 0, are missing; ``ignore``: all are taken."""


@dataclass(frozen=True)
class PoseFormat:
    """What readers, and people, have to know of a format.

    Args:
        tools: What writes it.
        clip: What one clip is.
        content: What is in it.
        endings: How the names of its files end, in small letters; of several, those of the first that is there.
        read: Reads the files of a clip.
        y_down: Whether y points down, as in images; stores have it upwards.
        confidence: Where it says how sure a joint is.
        lost: What it has and a store does not keep.
        motion_capture: Whether its reader makes metres of the coordinates, and turns them so that y points up.
        recognised: Whether content is of this format: JSON, the shape of an array, or the first row of a text; None
            where the ending says it.
        layout: Layout of its joints, by name; None where the number of joints or the file tells it.
        units: Unit of its coordinates in space; None where nobody knows it.
        fps: Frames per second, where they are always the same.
        min_confidence: What ``--min_confidence`` is where nothing else is said.
        names: What the names of its files tell.
        parts: The clips of each file, where a file holds several.
        frame: Whether a file is one frame of the clip that its folder is; None where files are clips.
    """

    tools: str
    clip: str
    content: str
    endings: tuple[str, ...]
    read: Callable[[Sequence[Path], Wanted], Poses]
    y_down: bool
    confidence: str
    lost: str
    motion_capture: bool = False
    recognised: Callable[[Any], bool] | None = None
    layout: str | None = None
    units: str | None = None
    fps: float | None = None
    min_confidence: MinConfidence = 0.0
    names: FileNames | None = None
    parts: Callable[[Sequence[Path]], Mapping[Path, Sequence[Part]]] | None = None
    frame: Callable[[Path], bool] | None = None


def _first_keys(content: Any) -> set[str]:
    """Keys of the first of a list of objects."""
    first = content[0] if isinstance(content, list) and content else None
    return set(first) if isinstance(first, dict) else set()


def _is_mediapipe(content: Any) -> bool:
    """Whether a shape or the first row of a table is MediaPipe's; JSON that nobody else recognises is taken for it."""
    if isinstance(content, tuple):
        return landmark_arrays.is_shape(content)
    return landmark_arrays.is_table(content) if isinstance(content, str) else True


def _numbers(row: Any) -> int:
    """Numbers in the first row of a text; 0 when it holds anything else."""
    cells = row.split() if isinstance(row, str) else []
    return len(cells) if all(re.fullmatch(r"[-+]?[\d.]+([eE][-+]?\d+)?|nan", cell, re.I) for cell in cells) else 0


FORMATS: Mapping[Format, PoseFormat] = {
    "msrc-12": PoseFormat(
        tools="MSRC-12",
        clip="a file, `PG_I_A_pSS.csv`",
        content="rows of a time and 20 joints x y z 1, without a header",
        endings=(".csv",),
        read=kinect.msrc12,
        y_down=False,
        confidence="the fourth number: 0 where nobody was tracked",
        lost="times; the moments of the gestures in `.tagstream` files",
        recognised=lambda content: _numbers(content) == 81,
        layout="kinect20",
        units="m",
        fps=30.0,
        names=file_names.MSRC12,
    ),
    "csv": PoseFormat(
        tools="spreadsheets, pandas",
        clip="a file",
        content="long: columns `frame`, `joint` (name or place), `x`, `y` and, where known, `z`, `confidence`, "
        "`person`; wide: `frame`, `person` and `<joint>_x`, `<joint>_y`, `<joint>_z`, `<joint>_confidence`; other "
        "usual names (`frame_idx`, `track`, `landmark`, `likelihood`, `Hips.x`) are known",
        endings=(".csv",),
        read=tables.read,
        y_down=False,
        confidence="`confidence`",
        lost="other columns, which are named",
        recognised=lambda content: not landmark_arrays.is_table(content),
    ),
    "npy": PoseFormat(
        tools="numpy",
        clip="a file",
        content="(T, V, C) or (M, T, V, C); other orders of the axes are told by their sizes, or by `--axes`",
        endings=(".npy",),
        read=partial(keypoint_arrays.read, format="npy"),
        recognised=lambda content: not landmark_arrays.is_shape(content),
        y_down=False,
        confidence="a column more",
        lost="nothing",
    ),
    "npz": PoseFormat(
        tools="numpy",
        clip="a file",
        content="`keypoints` (T, V, C) or (M, T, V, C) and, where known, `confidence` (M, T, V), `label`, `id`, `fps`, "
        "`layout`, `subject`, `camera`, `aspect`",
        endings=(".npz",),
        read=partial(keypoint_arrays.read, format="npz"),
        y_down=False,
        confidence="`confidence`, or a column more",
        lost="nothing",
    ),
    "json": PoseFormat(
        tools="scripts of your own",
        clip="a file",
        content="as `npz`, in nested lists",
        endings=(".json",),
        read=partial(keypoint_arrays.read, format="json"),
        y_down=False,
        confidence="`confidence`, or a column more",
        lost="nothing",
        recognised=lambda content: isinstance(content, dict) and "keypoints" in content,
    ),
    "azure-kinect": PoseFormat(
        tools="Azure Kinect's body tracking SDK",
        clip="a file",
        content="`frames` with `bodies` of 32 `joint_positions` in millimetres and `body_id`",
        endings=(".json",),
        read=kinect.azure,
        y_down=True,
        confidence="none",
        lost="orientations; time stamps give the frames per second",
        recognised=kinect.is_azure,
        layout="kinect32",
        units="m",
    ),
    "kinect-json": PoseFormat(
        tools="recorders of Kinect v1 and v2, such as those of G3D",
        clip="a file, `PERSON/ACTION/N.json`",
        content="a list of frames of 20 or 25 joints `x`, `y`, `z`, numbers or texts",
        endings=(".json",),
        read=kinect.joint_lists,
        y_down=False,
        confidence="none",
        lost="nothing",
        recognised=kinect.is_joint_lists,
        units="m",
        fps=30.0,
        names=file_names.PERSON_AND_ACTION,
    ),
    "mmpose": PoseFormat(
        tools="MMPose 1.x",
        clip="a file",
        content="`instance_info`, a list of frames with `frame_id` and `instances` of `keypoints`, `keypoint_scores`; "
        "the names in `meta_info` tell the layout",
        endings=(".json",),
        read=person_lists.mmpose,
        y_down=True,
        confidence="`keypoint_scores`",
        lost="boxes",
        recognised=lambda content: isinstance(content, dict) and "instance_info" in content,
    ),
    "coco-annotations": PoseFormat(
        tools="COCO, PoseTrack, annotation tools",
        clip="a file with the images of one clip",
        content="`images`, `annotations` with `image_id`, `keypoints` and, where known, `track_id`, and `categories`, "
        "whose names of keypoints tell the layout",
        endings=(".json",),
        read=person_lists.coco_annotations,
        y_down=True,
        confidence="every third number: 0 where a joint was not placed",
        lost="boxes, segments; whether a joint was hidden; joints that the layout lacks",
        recognised=lambda content: isinstance(content, dict) and {"images", "annotations"} <= content.keys(),
    ),
    "openpifpaf": PoseFormat(
        tools="OpenPifPaf",
        clip="a file `*.openpifpaf.json`, or a folder of `*.predictions.json`, a file per image",
        content="a line per frame with `frame` and `predictions`, or a list of predictions, of `keypoints` x, y, "
        "confidence",
        endings=(".openpifpaf.json", ".predictions.json"),
        read=person_lists.openpifpaf,
        y_down=True,
        confidence="every third number",
        lost="boxes, scores of persons",
        frame=person_lists.is_pifpaf_image,
    ),
    "ultralytics": PoseFormat(
        tools="Ultralytics YOLO-pose",
        clip="a file, a list of frames, or a folder of numbered files of one frame each",
        content="what `to_json` gives: persons with `keypoints` of `x`, `y`, `visible` and, where known, `track_id`",
        endings=(".json",),
        read=person_lists.ultralytics,
        y_down=True,
        confidence="`visible`",
        lost="boxes, scores of persons",
        recognised=person_lists.is_yolo,
        frame=person_lists.is_yolo_frame,
    ),
    "nw-ucla": PoseFormat(
        tools="NW-UCLA",
        clip="a file, `aAA_sSS_eEE_vVV.json`",
        content="`skeletons` (T, 20, 3); the whole data set is `skelcl data prepare nw-ucla`",
        endings=(".json",),
        read=recordings.nw_ucla_json,
        y_down=False,
        confidence="none",
        lost="nothing",
        recognised=lambda content: isinstance(content, dict) and "skeletons" in content,
        layout="kinect20",
        units="m",
        names=file_names.NW_UCLA,
    ),
    "ntu": PoseFormat(
        tools="NTU RGB+D",
        clip="a file, `*.skeleton`",
        content="two bodies chosen by track; the whole data set is `skelcl data prepare ntu60` or `ntu120`",
        endings=(".skeleton",),
        read=recordings.ntu_skeletons,
        y_down=False,
        confidence="none",
        lost="orientations, positions in images, states of hands",
        layout="ntu25",
        units="m",
        fps=30.0,
        names=file_names.NTU,
    ),
    "pku-mmd": PoseFormat(
        tools="PKU-MMD",
        clip="a file, a whole recording",
        content="rows of 150 numbers, two bodies; cut into actions by `skelcl data prepare pku-mmd`",
        endings=(".txt",),
        read=recordings.pku_mmd_text,
        y_down=False,
        confidence="none",
        lost="nothing",
        recognised=lambda content: _numbers(content) == 150,
        layout="ntu25",
        units="m",
        fps=30.0,
    ),
    "alphapose": PoseFormat(
        tools="AlphaPose",
        clip="a file, a list of persons",
        content="`image_id`, `keypoints` of x, y, confidence, and `idx`, which tells persons apart",
        endings=(".json",),
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
        endings=(".json",),
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
        endings=("_keypoints.json",),
        read=estimators.openpose,
        y_down=True,
        confidence="the last of three or four numbers",
        lost="faces; hands, without `--layout hand21`",
        recognised=lambda content: isinstance(content, dict) and "people" in content,
        frame=lambda file: estimators.OPENPOSE.fullmatch(file.name) is not None,
    ),
    "mediapipe": PoseFormat(
        tools="MediaPipe in Python and JavaScript",
        clip="a file, or a folder of `.npy` files of one frame each, numbered (`MP_Data/CLASS/CLIP/FRAME.npy`)",
        content="JSON: `world_landmarks`, `landmarks` or both, or `keypoints`, with or without `pose_` before it or in "
        "camel case, of one person or a list of persons; or lists of lists; or landmarks by name or place. Arrays: "
        "(T, 33, 4), (T, 132), (T, 1662) of Holistic. Tables: long with `Landmark`, wide with `NOSE_x` or `x1`",
        endings=(".json", ".npy", ".csv"),
        read=landmarks.read,
        y_down=True,
        confidence="`visibility`, or `presence` where that is null",
        lost="landmarks in the image where there are world landmarks; faces; hands, without `--layout hand21`",
        recognised=_is_mediapipe,
        layout="mediapipe33",
        units="m",
        frame=landmark_arrays.is_frame,
    ),
    "msr-action3d": PoseFormat(
        tools="MSR Action3D",
        clip="a file, `aAA_sSS_eEE_skeleton3D.txt`",
        content="20 rows `x y z confidence` a frame; their order becomes that of Kinect v1",
        endings=("_skeleton3d.txt",),
        read=kinect.msr_action3d,
        y_down=False,
        confidence="the fourth number; 0 marks joints that were inferred, which are taken all the same",
        lost="nothing",
        recognised=lambda content: _numbers(content) == 4,
        layout="kinect20",
        units="m",
        fps=15.0,
        min_confidence="ignore",
        names=file_names.MSR_ACTION3D,
    ),
    "hands": PoseFormat(
        tools="DHG-14/28, SHREC'17",
        clip="a file, `gesture_G/finger_F/subject_S/essai_E/skeleton[s]_world.txt`",
        content="rows of 22 joints x y z",
        endings=("_world.txt",),
        read=kinect.hand22,
        y_down=False,
        confidence="none",
        lost="the number of fingers, skeletons in the image",
        recognised=lambda content: _numbers(content) == 66,
        layout="hand22",
        units="m",
        fps=30.0,
        names=file_names.HANDS,
    ),
    "utkinect": PoseFormat(
        tools="UTKinect-Action3D",
        clip="an action of a file `joints_sSS_eEE.txt`, as `actionLabel.txt` beside it lists them",
        content="rows of a frame number and 20 joints x y z",
        endings=(".txt",),
        read=kinect.utkinect,
        y_down=False,
        confidence="none",
        lost="frames outside of actions, a person's second skeleton in a frame",
        recognised=lambda content: _numbers(content) == 61,
        layout="kinect20",
        units="m",
        fps=15.0,
        names=file_names.UTKINECT,
        parts=kinect.utkinect_parts,
    ),
    "utd-mhad": PoseFormat(
        tools="UTD-MHAD",
        clip="a file, `aA_sS_tT_skeleton.mat`",
        content="`d_skel` (20, 3, T); its order becomes that of Kinect v1; needs scipy",
        endings=("_skeleton.mat",),
        read=matlab.utd_mhad,
        y_down=False,
        confidence="none",
        lost="nothing",
        layout="kinect20",
        units="m",
        fps=30.0,
        names=file_names.UTD_MHAD,
    ),
    "bvh": PoseFormat(
        tools="Blender, MotionBuilder, Mixamo, Rokoko, Xsens, CMU's database",
        clip="a file",
        content="`HIERARCHY` with the names of joints or segments, and `MOTION`; positions replace `OFFSET`, or are "
        "added to it where they lie around zero",
        endings=(".bvh",),
        read=bvh.read,
        y_down=False,
        confidence="none",
        lost="rotations, joints above the hips, ends",
        motion_capture=True,
    ),
    "c3d": PoseFormat(
        tools="Vicon, Qualisys, OptiTrack, Theia",
        clip="a file",
        content="points labelled as the joints of a layout, or as those of a `--layout` file; needs `skelcl[mocap]`",
        endings=(".c3d",),
        read=c3d.read,
        y_down=False,
        confidence="none; a negative residual is a point that was not seen",
        lost="points that are no joints, analog channels",
        motion_capture=True,
    ),
    "trc": PoseFormat(
        tools="OpenSim, Pose2Sim, OpenCap",
        clip="a file",
        content="points labelled as the joints of a layout, or as those of a `--layout` file",
        endings=(".trc",),
        read=trc.read,
        y_down=False,
        confidence="none; an empty cell is a point that was not seen",
        lost="points that are no joints",
        motion_capture=True,
    ),
}
"""Format → its facts; of those of one ending a file is of the first that recognises its content."""


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
    span: tuple[int, int] | None = None,
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
        span: Numbers of the first and the last frame, of a file that holds several clips.

    Raises:
        ReadError: The clip is damaged or not in the format.
    """
    facts = FORMATS[format]
    poses = facts.read(files, Wanted(channels, layout, axes, unit, up, span))
    poses = poses if poses.fps is not None else replace(poses, fps=facts.fps)
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
