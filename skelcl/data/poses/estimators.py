"""What pose estimators write in images: OpenPose, COCO's keypoints and AlphaPose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.formats.containers import read_json, short_repr
from skelcl.data.poses.contents import Poses, Wanted, as_numbers
from skelcl.data.poses.frames import of_images
from skelcl.data.poses.people import assemble, whole
from skelcl.data.recording import ReadError
from skelcl.skeleton import HAND21

OPENPOSE = re.compile(r".*[0-9].*_keypoints\.json")
"""Name of a file of OpenPose: that of the image, whose numbers tell the frame."""


def openpose(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads OpenPose's keypoints: a file per frame.

    Args:
        files: The frames of one clip, in any order.
        wanted: Channels to read, 2 or 3; None takes what there is. With a layout of 21 joints the hands of people are
            read, each a body: the left and the right one of the first person, then of the next.

    Raises:
        ReadError: A file is damaged, frames are of several clips, or nobody was found.
    """
    files, folder = sorted(files), files[0].parent
    frames, note = of_images([file.name.removesuffix("_keypoints.json") for file in files], folder, ordered=False)
    people: list[list[np.ndarray]] = [[] for _ in range(max(frames) + 1)]
    numbers: list[list[int]] = [[] for _ in people]
    channels = wanted.channels
    hands = wanted.layout is not None and wanted.layout.num_joints == HAND21.num_joints
    parts = ("hand_left", "hand_right") if hands else ("pose",)
    for t, file in zip(frames, files, strict=True):
        content = read_json(file)
        persons = content.get("people") if isinstance(content, dict) else None
        if not isinstance(persons, list) or not all(isinstance(person, dict) for person in persons):
            raise ReadError("keys", f"{file}: the key 'people' is missing or no list of people")
        for person in persons:
            channels = channels or (3 if person.get(f"{parts[0]}_keypoints_3d") else 2)
            number = whole(person.get("person_id"))
            for side, part in enumerate(parts):
                key = f"{part}_keypoints_{channels}d"
                if hands and not person.get(key):
                    continue
                people[t].append(_flat(person.get(key), channels + 1, f"{file}: {key}"))
                if hands and number < 0 and len(persons) == 1:
                    number = 0  # whose hands they are needs no telling
                numbers[t].append(2 * number + side if hands and number >= 0 else number)
    return assemble(people, folder, numbers=numbers, notes=_noted(folder, note))


def coco(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads the keypoints of COCO, whose persons rarely have a ``track_id``; see :func:`person_list`."""
    return person_list(files[0], wanted, "track_id")


def alphapose(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads the keypoints of AlphaPose, whose persons have the number ``idx``; see :func:`person_list`."""
    return person_list(files[0], wanted, "idx")


def person_list(file: Path, wanted: Wanted, number: str) -> Poses:
    """Reads the keypoints of COCO or AlphaPose: a list of persons, each with the image that shows it.

    Args:
        file: JSON file of a clip.
        wanted: Channels to read; these keypoints are flat, so 2 or None.
        number: Key of the number by which the file knows a person.

    Raises:
        ReadError: The file is damaged, or nobody was found.
    """
    found = read_json(file)
    if not isinstance(found, list) or not all(isinstance(person, dict) for person in found):
        raise ReadError("keys", f"{file}: holds no list of persons")
    if not found:
        raise ReadError("no_skeleton", f"{file}: nobody was found")
    if wanted.channels == 3:
        raise ReadError(
            "shape", f"{file}: these keypoints are flat, 3D ones are wanted; an import takes them with --channels 2"
        )
    frames, note = of_images([str(person.get("image_id", "")) for person in found], file)
    people: list[list[np.ndarray]] = [[] for _ in range(max(frames) + 1)]
    numbers: list[list[int]] = [[] for _ in people]
    for n, (t, person) in enumerate(zip(frames, found, strict=True)):
        people[t].append(_flat(person.get("keypoints"), 3, f"{file}: keypoints of person {n}"))
        numbers[t].append(whole(person.get(number)))
    return assemble(people, file, numbers=numbers, notes=_noted(file, note))


def _noted(place: Path, note: str) -> dict[str, str]:
    return {"frames": f"{place}: {note}"} if note else {}


def _flat(values: Any, width: int, place: str) -> np.ndarray:
    """(V, width) of a flat list."""
    if not isinstance(values, list) or not values or len(values) % width:
        found = f"{len(values)} numbers" if isinstance(values, list) else short_repr(values)
        raise ReadError("keypoints", f"{place}: holds {found}, not a multiple of {width}")
    return as_numbers(values, place, "keypoints").reshape(-1, width)
