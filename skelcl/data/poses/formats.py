"""Poses of your own: tables, arrays and the output of pose estimators, each read into one kind of clip.

=========== ======================================================= ==================================================
format      one clip                                                content
=========== ======================================================= ==================================================
csv         a file                                                  long: columns ``frame``, ``joint`` (name or place),
                                                                    ``x``, ``y`` and, where known, ``z``,
                                                                    ``confidence``, ``person``; wide: ``frame``,
                                                                    ``person`` and ``<joint>_x``, ``<joint>_y``,
                                                                    ``<joint>_z``, ``<joint>_confidence``
npy         a file                                                  (T, V, C) or (M, T, V, C)
npz, json   a file                                                  ``keypoints`` of such a shape and, where known,
                                                                    ``confidence`` (M, T, V), ``label``, ``id``,
                                                                    ``fps``, ``layout``, ``subject``, ``camera``
mediapipe   a file, a list of frames                                ``world_landmarks`` and/or ``landmarks`` with x, y,
                                                                    z, visibility; of one person or a list of persons
openpose    a folder of ``*_keypoints.json``                        ``people`` with ``pose_keypoints_2d`` / ``_3d``
coco        a file, a list of persons                               ``image_id`` (frame number), ``keypoints``
alphapose   a file, a list of persons                               ``image_id``, ``keypoints``, ``idx`` (person)
=========== ======================================================= ==================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from skelcl.data.poses import estimators, keypoint_arrays, tables
from skelcl.data.poses.contents import Poses
from skelcl.skeleton import Skeleton

Format = Literal["csv", "json", "npy", "npz", "mediapipe", "openpose", "coco", "alphapose"]
ENDINGS: dict[Format, str] = {
    "csv": ".csv",
    "json": ".json",
    "npy": ".npy",
    "npz": ".npz",
    "mediapipe": ".json",
    "openpose": "_keypoints.json",
    "coco": ".json",
    "alphapose": ".json",
}
"""How the names of the files of a format end."""


def load(format: Format, files: Sequence[Path], channels: int | None = None, layout: Skeleton | None = None) -> Poses:
    """Reads one clip.

    Args:
        format: What the files are.
        files: The file, or the frames of an OpenPose clip.
        channels: Coordinates per joint, 2 or 3; None takes what there is.
        layout: Layout of the joints; only tables need it.

    Raises:
        ReadError: The clip is damaged or not in the format.
    """
    if format not in get_args(Format):
        raise ValueError(f"format must be one of {', '.join(get_args(Format))}, not {format!r}")
    if format == "openpose":
        return estimators.openpose(files, channels)
    (file,) = files
    if format == "csv":
        if layout is None:
            raise ValueError("a table cannot be read without its layout")
        return tables.read(file, channels, layout)
    if format in ("npy", "npz", "json"):
        return keypoint_arrays.read(file, format, channels)
    if format in ("coco", "alphapose"):
        return estimators.person_list(file, channels, tracked=format == "alphapose")
    return estimators.mediapipe(file, channels)
