"""What MediaPipe writes: landmarks of a pose in space and in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.formats.containers import read_json, short_repr
from skelcl.data.poses import landmark_arrays
from skelcl.data.poses.contents import Poses, Wanted, as_numbers
from skelcl.data.poses.landmark_shapes import IMAGE, WORLD, understand
from skelcl.data.poses.people import assemble
from skelcl.data.recording import ReadError

LOOKED_FOR = "world_landmarks, landmarks, keypoints, or landmarks by name or place"


def read(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads MediaPipe's landmarks: JSON in any usual shape, arrays of numpy, or a table.

    Several people are followed by their landmarks in the image where every frame has them. World landmarks are relative
    to the hips and tell people apart by how they hold themselves alone.

    Args:
        files: A clip, or its frames: arrays of one frame each.
        wanted: 3 channels for world landmarks, 2 for those in the image; None takes world landmarks where there are.

    Raises:
        ReadError: The file is damaged, or no frame has such landmarks.
    """
    file = files[0]
    if file.suffix.lower() == ".npy":
        return landmark_arrays.arrays(files, wanted)
    if file.suffix.lower() == ".csv":
        return landmark_arrays.table(file, wanted)
    found, sides, aspect, note, keys = understand(read_json(file), file, wanted.layout)
    channels = wanted.channels or (3 if any(WORLD in frame for frame in found) else 2)
    key, other = (WORLD, IMAGE) if channels == 3 else (IMAGE, WORLD)
    if not any(key in frame for frame in found):
        remedy = ", the 3D poses that are wanted; an import takes flat ones with --channels 2" if channels == 3 else ""
        if any(other in frame for frame in found):
            had = f", but {other}"
        else:
            had = f" (its keys are {', '.join(map(short_repr, keys[:8]))}; looked for {LOOKED_FOR})" if keys else ""
        raise ReadError("no_skeleton", f"{file}: no frame has {key}{had}{remedy}")
    people, presence = _coordinates(found, key, channels, file)
    by, seen = "landmarks in the image", people
    if channels == 3 and max(map(len, people)) > 1:
        if all(len(frame.get(IMAGE, ())) == len(persons) for frame, persons in zip(found, people, strict=True)):
            seen, _ = _coordinates(found, IMAGE, 2, file)
        else:
            by = "world landmarks, which do not tell where anybody stands"
    notes = {"visibility": f"{file}: visibility is null, so presence is the confidence"} if presence else {}
    notes |= {"landmarks": note} if note else {}
    # One person at a time is one person, wherever the next frame shows them.
    numbers = [[0] * len(persons) for persons in people] if max(map(len, people)) == 1 else None
    if sides is not None and all(len(which) == len(persons) for which, persons in zip(sides, people, strict=True)):
        numbers = sides
    poses = assemble(people, file, numbers=numbers, seen=seen, by=by, notes=notes)
    if channels == 3:
        return poses
    return replace(poses, aspect=aspect, looks=_looks(found, people, file) if aspect is None else None)


def _looks(frames: Sequence[dict[str, list[Any]]], people: list[list[np.ndarray]], file: Path) -> float | None:
    """Width by height of the picture, about: where a body is as wide for its height as in space."""
    if not all(len(frame.get(WORLD, ())) == len(persons) for frame, persons in zip(frames, people, strict=True)):
        return None
    world, _ = _coordinates(frames, WORLD, 2, file)
    space, flat = (np.stack([one for persons in each for one in persons]) for each in (world, people))
    if space.shape != flat.shape:
        return None
    seen = flat[..., 2:] > 0.5
    count = np.maximum(seen.sum(1, keepdims=True), 1)
    space, flat = (
        np.where(seen, xy - np.where(seen, xy, 0).sum(1, keepdims=True) / count, 0)
        for xy in (space[..., :2], flat[..., :2])
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = (space * flat).sum(1) / (space**2).sum(1)
        looks = float(np.median(scale[:, 1] / scale[:, 0]))
    return looks if 0.05 <= looks <= 20 else None


def _coordinates(
    frames: Sequence[dict[str, list[Any]]], key: str, channels: int, file: Path
) -> tuple[list[list[np.ndarray]], bool]:
    """For each frame its persons (V, C + 1), visibility last, and whether presence stands in for visibility."""
    axes = "xyz"[:channels]
    persons = [(t, person) for t, frame in enumerate(frames) for person in frame.get(key, ())]
    try:
        try:
            rows = [list(map(itemgetter(*axes, "visibility"), person)) for _, person in persons]
        except KeyError:  # visibility may have another name, or none
            rows = [
                [(*(one[axis] for axis in axes), one.get("visibility", one.get("score", 1.0))) for one in person]
                for _, person in persons
            ]
        values = np.asarray(rows)
        if values.ndim != 3 or values.dtype.kind not in "Oiuf":
            raise ValueError(f"{values.dtype}")
        joints = as_numbers(values, file, "landmarks")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _wrong(persons, axes, file) from None
    present = False
    if (unknown := np.isnan(joints[..., -1])).any():
        given = [[one.get("presence") for one in person] for _, person in persons]
        present = all(isinstance(value, int | float) for person in given for value in person)
        instead = np.asarray(given, np.float32) if present else np.float32(1.0)
        joints[..., -1] = np.where(unknown, instead, joints[..., -1])
    out: list[list[np.ndarray]] = [[] for _ in frames]
    for (t, _), person in zip(persons, joints, strict=True):
        out[t].append(person)
    return out, present


def _wrong(persons: Sequence[tuple[int, Any]], axes: str, file: Path) -> ReadError:
    """What is wrong with landmarks that are no regular array of numbers."""
    sizes = set()
    for t, person in persons:
        for one in person if isinstance(person, list) and person else [None]:
            if not isinstance(one, dict) or not set(axes) <= one.keys():
                what = f"a landmark is {short_repr(one)}, not x, y, z, visibility"
                return ReadError("landmarks", f"{file}: frame {t}: {what}")
            values = [*(one[axis] for axis in axes), one.get("visibility")]
            if odd := [value for value in values if not isinstance(value, int | float | None)]:
                return ReadError("numbers", f"{file}: frame {t}: a landmark holds {short_repr(odd[0])}, no number")
        sizes.add(len(person))
    if len(sizes) > 1:
        return ReadError("landmarks", f"{file}: the number of landmarks changes")
    return ReadError("numbers", f"{file}: landmarks are no regular array of numbers")
