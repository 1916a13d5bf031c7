"""What pose estimators write: MediaPipe, OpenPose, COCO's keypoints and AlphaPose."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.formats.containers import bounded, read_json, short_repr
from skelcl.data.poses.contents import MOST_BODIES, Poses, as_numbers, positions
from skelcl.data.poses.tracking import track
from skelcl.data.recording import ReadError

OPENPOSE = re.compile(r"(.*?)_?(\d+)_keypoints\.json")
"""Name of a file of OpenPose: clip, frame number."""
_MOST_IN_FRAME = 256
"""Persons of one frame: following them takes time that grows with the square of their number."""


def mediapipe(file: Path, channels: int | None) -> Poses:
    """Reads MediaPipe's landmarks: a list of frames, each with those of one person or of a list of persons.

    Args:
        file: JSON file of a clip.
        channels: 3 for world landmarks, 2 for those in the image; None takes what there is.

    Raises:
        ReadError: The file is damaged, or no frame has such landmarks.
    """
    frames = read_json(file)
    if isinstance(frames, dict) and set(frames) >= {"frames"}:
        frames = frames["frames"]
    if not isinstance(frames, list) or not frames:
        raise ReadError("frames", f"{file}: holds no list of frames")
    found: list[dict[str, Any]] = []
    for t, frame in enumerate(frames):
        if frame is not None and not isinstance(frame, dict):
            raise ReadError("frames", f"{file}: frame {t} is a {type(frame).__name__}, not an object with landmarks")
        found.append(frame or {})

    def listed(frame: dict[str, Any], key: str) -> list[Any]:
        persons = frame.get(f"pose_{key}") or frame.get(key) or []
        return [persons] if persons and isinstance(persons, list) and isinstance(persons[0], dict) else persons

    wanted = channels or (3 if any(listed(frame, "world_landmarks") for frame in found) else 2)
    key = "world_landmarks" if wanted == 3 else "landmarks"
    if not any(listed(frame, key) for frame in found):
        other = ", the 3D poses that are wanted; an import takes flat ones with --channels 2" if wanted == 3 else ""
        raise ReadError("no_skeleton", f"{file}: no frame has {key}{other}")
    people: list[list[np.ndarray]] = []
    for t, frame in enumerate(found):
        persons = listed(frame, key)
        if not isinstance(persons, list):
            raise ReadError("landmarks", f"{file}: {key} of frame {t} is no list")
        people.append([_landmarks(person, wanted, f"{file}: frame {t}") for person in persons])
    if len({len(person) for persons in people for person in persons}) > 1:
        raise ReadError("landmarks", f"{file}: the number of landmarks changes")
    # World landmarks are relative to the hips, so they cannot tell people apart: their order must.
    return _assembled(people, [list(range(len(persons))) for persons in people], file)


def _landmarks(person: Any, channels: int, place: str) -> np.ndarray:
    """(V, C + 1): coordinates and visibility of one person."""
    out = []
    for landmark in person if isinstance(person, list) else [None]:
        if not isinstance(landmark, dict) or not set("xyz"[:channels]) <= landmark.keys():
            raise ReadError("landmarks", f"{place}: a landmark is {short_repr(landmark)}, not x, y, z, visibility")
        out.append([*(landmark[axis] for axis in "xyz"[:channels]), landmark.get("visibility", 1.0)])
    return as_numbers(out, place, "landmarks")


def openpose(files: Sequence[Path], channels: int | None) -> Poses:
    """Reads OpenPose's keypoints: a file per frame.

    Args:
        files: The frames of one clip, in any order.
        channels: Coordinates per joint, 2 or 3; None takes what there is.

    Raises:
        ReadError: A file is damaged, two have one frame number, or nobody was found.
    """
    numbered = []
    for file in files:
        match = OPENPOSE.fullmatch(file.name)
        numbered.append((int(match[2]) if match else 0, file))
    numbered.sort()
    folder = files[0].parent
    if len({number for number, _ in numbered}) != len(numbered):
        raise ReadError("frames", f"{folder}: two files have the same frame number; one folder per clip")
    frame = positions([number for number, _ in numbered], folder)
    people: list[list[np.ndarray]] = [[] for _ in range(max(frame) + 1)]
    names: list[list[int]] = [[] for _ in people]
    wanted = channels
    for t, (_, file) in zip(frame, numbered, strict=True):
        content = read_json(file)
        persons = content.get("people") if isinstance(content, dict) else None
        if not isinstance(persons, list) or not all(isinstance(person, dict) for person in persons):
            raise ReadError("keys", f"{file}: the key 'people' is missing or no list of people")
        for person in persons:
            wanted = wanted or (3 if person.get("pose_keypoints_3d") else 2)
            key = f"pose_keypoints_{wanted}d"
            people[t].append(_flat(person.get(key), wanted + 1, f"{file}: {key}"))
            own = person.get("person_id")
            own = own[0] if isinstance(own, list) and len(own) == 1 else own
            names[t].append(own if type(own) is int else -1)
    tracked = all(name >= 0 for listed in names for name in listed)
    return _assembled(people, names if tracked else None, folder)


def person_list(file: Path, channels: int | None, tracked: bool) -> Poses:
    """Reads the keypoints of COCO or AlphaPose: a list of persons, each with the image that shows it.

    Args:
        file: JSON file of a clip.
        channels: Coordinates per joint; these are flat, so 2 or None.
        tracked: Whether ``idx`` tells persons apart, as AlphaPose writes it.

    Raises:
        ReadError: The file is damaged, or nobody was found.
    """
    found = read_json(file)
    if not isinstance(found, list) or not all(isinstance(person, dict) for person in found):
        raise ReadError("keys", f"{file}: holds no list of persons")
    if not found:
        raise ReadError("no_skeleton", f"{file}: nobody was found")
    if channels == 3:
        raise ReadError(
            "shape", f"{file}: these keypoints are flat, 3D ones are wanted; an import takes them with --channels 2"
        )
    numbers = []
    for n, person in enumerate(found):
        digits = re.findall(r"\d+", str(person.get("image_id", "")))
        if not digits:
            raise ReadError(
                "keys", f"{file}: image_id of person {n} is {short_repr(person.get('image_id'))}, which has no number"
            )
        numbers.append(int(digits[-1]))
    frame = positions(numbers, file)
    people: list[list[np.ndarray]] = [[] for _ in range(max(frame) + 1)]
    names: list[list[int]] = [[] for _ in people]
    for n, (t, person) in enumerate(zip(frame, found, strict=True)):
        people[t].append(_flat(person.get("keypoints"), 3, f"{file}: keypoints of person {n}"))
        own = person.get("idx") if tracked else None
        while isinstance(own, list) and len(own) == 1:
            own = own[0]
        names[t].append(int(own) if isinstance(own, int | float) and math.isfinite(own) and own == int(own) else -1)
    known = tracked and all(name >= 0 for listed in names for name in listed)
    return _assembled(people, names if known else None, file)


def _flat(values: Any, width: int, place: str) -> np.ndarray:
    """(V, width) of a flat list."""
    if not isinstance(values, list) or not values or len(values) % width:
        found = f"{len(values)} numbers" if isinstance(values, list) else short_repr(values)
        raise ReadError("keypoints", f"{place}: holds {found}, not a multiple of {width}")
    return as_numbers(values, place, "keypoints").reshape(-1, width)


def _assembled(people: Sequence[Sequence[np.ndarray]], names: Sequence[Sequence[int]] | None, place: Path) -> Poses:
    """Persons (V, C + 1) of each frame as bodies (M, T, V, C) with their confidence."""
    sizes = {person.shape for persons in people for person in persons}
    if len(sizes) != 1:
        raise ReadError("joints", f"{place}: {'persons differ in their joints' if sizes else 'nobody was found'}")
    if (most := max(map(len, people))) > _MOST_IN_FRAME:
        raise ReadError("people", f"{place}: a frame has {most} persons, of which {_MOST_IN_FRAME} are accepted")
    if names is None:
        names = track(people)
    count = Counter(name for listed in names for name in listed)
    known = sorted(name for name, _ in count.most_common(MOST_BODIES))
    shape = (len(known), len(people), *sizes.pop())
    bounded(4 * math.prod(shape), place)
    out = np.full(shape, np.nan, np.float32)
    for t, (persons, listed) in enumerate(zip(people, names, strict=True)):
        if len(set(listed)) != len(listed):
            raise ReadError("twice", f"{place}: frame {t} has person {max(listed, key=listed.count)} twice")
        for person, name in zip(persons, listed, strict=True):
            if name in known:
                out[known.index(name), t] = person
    return Poses(out[..., :-1], out[..., -1], others=len(count) - len(known))
