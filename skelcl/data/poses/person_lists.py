"""Lists of persons of further estimators: MMPose, annotations of COCO, OpenPifPaf and Ultralytics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.formats.containers import decode, parse_json, read_bytes, read_json, short_repr
from skelcl.data.poses.contents import Poses, Wanted, as_numbers
from skelcl.data.poses.frames import of_images, positions
from skelcl.data.poses.people import assemble, whole
from skelcl.data.recording import ReadError
from skelcl.skeleton import LAYOUTS

_COMMON = 0.8
"""Share of the names of a file that a layout must have to be taken for its own."""

Frame = tuple[list[np.ndarray], list[int]]
"""Persons of a frame, (V, C + 1) with the confidence last, and the numbers by which the file knows them."""


def mmpose(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads MMPose 1.x: ``instance_info``, a list of frames with ``instances``, or such a list of instances alone.

    Args:
        files: JSON file of a clip.
        wanted: Channels to read; these keypoints are flat, so 2 or None.

    Raises:
        ReadError: The file is damaged, or nobody was found.
    """
    (file,) = files
    content = read_json(file)
    listed = content.get("instance_info") if isinstance(content, dict) else content
    if not isinstance(listed, list):
        raise ReadError("keys", f"{file}: {_lacks(content, 'instance_info')}")
    frames, numbers = [], []
    for t, frame in enumerate(listed):
        place = f"{file}: frame {t}"
        instances = frame.get("instances") if isinstance(frame, dict) else frame
        if not isinstance(instances, list):
            raise ReadError("keys", f"{place}: {_lacks(frame, 'instances')}")
        numbers.append(frame.get("frame_id") if isinstance(frame, dict) else None)
        persons = []
        for one in _objects(instances, place):
            joints = as_numbers(one.get("keypoints", []), place, "keypoints")
            scores = as_numbers(one.get("keypoint_scores", np.ones(joints.shape[:1])), place, "keypoint_scores")
            persons.append(_joined(joints, scores, place))
        frames.append((persons, [whole(one.get("track_id", one.get("instance_id"))) for one in instances]))
    meta = content.get("meta_info") if isinstance(content, dict) else None
    names = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    listed_names = [names[key] for key in sorted(names, key=_by_length)] if isinstance(names, dict) else None
    return _named(_clip(frames, file, wanted, numbers), listed_names, wanted, file)


def coco_annotations(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads an annotation file of COCO or PoseTrack: ``images`` of one clip and ``annotations`` of persons.

    Args:
        files: JSON file of a clip.
        wanted: Channels to read; these keypoints are flat, so 2 or None.

    Raises:
        ReadError: The file is damaged, nobody is annotated, or its images are of several clips.
    """
    (file,) = files
    content = read_json(file)
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ReadError("keys", f"{file}: {_lacks(content, key)}")
    images = _objects(content["images"], f"{file}: images")
    clips = sorted({str(Path(str(image.get("file_name", ""))).parent) for image in images})
    if len(clips) > 1:
        raise ReadError(
            "frames", f"{file}: its images are of {len(clips)} clips ({', '.join(clips[:3])}): one file each"
        )
    ids = [short_repr(image.get("id")) for image in images]
    if frame_ids := _whole_numbers([image.get("frame_id") for image in images]):
        places, note = positions(frame_ids, file)
    elif all(isinstance(image.get("file_name"), str) for image in images):
        places, note = of_images([image["file_name"] for image in images], file)
    else:
        places, note = list(range(len(images))), "the images have neither frame_id nor file_name: frames in their order"
    of = dict(zip(ids, places, strict=True))
    frames: list[Frame] = [([], []) for _ in range(max(places, default=-1) + 1)]
    for n, one in enumerate(_objects(content["annotations"], f"{file}: annotations")):
        place = f"{file}: annotation {n}"
        if not one.get("keypoints"):
            continue
        if (image := short_repr(one.get("image_id"))) not in of:
            raise ReadError("keys", f"{place}: there is no image {image}")
        person = _flat(one["keypoints"], place)
        person[:, 2] = person[:, 2] > 0  # 1: hidden, 2: seen; both were placed by hand
        frames[of[image]][0].append(person)
        frames[of[image]][1].append(whole(one.get("track_id")))
    kinds = content.get("categories")
    names = next((k.get("keypoints") for k in kinds if isinstance(k, dict)), None) if isinstance(kinds, list) else None
    poses = _clip(frames, file, wanted)
    if note:
        poses = replace(poses, notes={**poses.notes, "frames": f"{file}: {note}"})
    return _named(poses, names if isinstance(names, list) else None, wanted, file)


def openpifpaf(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads OpenPifPaf: a line of JSON per frame of a video, or a file per image.

    Args:
        files: ``*.openpifpaf.json`` of a clip, or its ``*.predictions.json``.
        wanted: Channels to read; these keypoints are flat, so 2 or None.

    Raises:
        ReadError: A file is damaged, or nobody was found.
    """
    frames: list[Frame] = []
    numbers: list[Any] = []
    if is_pifpaf_image(files[0]):
        for file in files:
            frames.append(_pifpaf(read_json(file), str(file)))
        places, note = of_images([file.name for file in files], files[0].parent, ordered=False)
        return _clip(frames, files[0].parent, wanted, places, note)
    (file,) = files
    for line, text in enumerate(decode(read_bytes(file), file).splitlines(), 1):
        if text.strip():
            place = f"{file}, line {line}"
            frame = parse_json(text, place)
            if not isinstance(frame, dict) or "predictions" not in frame:
                raise ReadError("keys", f"{place}: {_lacks(frame, 'predictions')}")
            frames.append(_pifpaf(frame["predictions"], place))
            numbers.append(frame.get("frame"))
    return _clip(frames, file, wanted, numbers)


def is_pifpaf_image(file: Path) -> bool:
    """Whether a file holds the predictions of one image."""
    return file.name.lower().endswith(".predictions.json")


def _pifpaf(persons: Any, place: str) -> Frame:
    known = _objects(persons, place)
    return [_flat(one.get("keypoints"), place) for one in known], [whole(one.get("id_")) for one in known]


def ultralytics(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads YOLO-pose of Ultralytics: a list of frames, each what ``to_json`` gives, or a file per frame.

    Args:
        files: JSON file of a clip, or of each frame.
        wanted: Channels to read; these keypoints are flat, so 2 or None.

    Raises:
        ReadError: A file is damaged, or nobody was found.
    """
    if is_yolo_frame(files[0]):
        places, note = of_images([file.stem for file in files], files[0].parent, ordered=False)
        frames = [_yolo(read_json(file), str(file)) for file in files]
        return _clip(frames, files[0].parent, wanted, places, note)
    (file,) = files
    content = read_json(file)
    if not isinstance(content, list):
        raise ReadError("keys", f"{file}: holds no list of frames")
    return _clip([_yolo(frame, f"{file}: frame {t}") for t, frame in enumerate(content)], file, wanted)


def is_yolo_frame(file: Path) -> bool:
    """Whether a numbered file is what ``to_json`` gives of one frame."""
    if not re.search(r"\d$", file.stem):
        return False
    try:
        content = read_json(file)
    except ReadError:
        return False
    return isinstance(content, list) and (not content or isinstance(content[0], dict))


def is_yolo(content: Any) -> bool:
    """Whether JSON is of Ultralytics: keypoints of a person have x and y apart."""
    first = next((one for one in content if one), None) if isinstance(content, list) else None
    person = first[0] if isinstance(first, list) and first else first
    keypoints = person.get("keypoints") if isinstance(person, dict) else None
    return isinstance(keypoints, dict) and {"x", "y"} <= keypoints.keys()


def _yolo(frame: Any, place: str) -> Frame:
    known = _objects(frame, place)
    persons = []
    for one in known:
        keypoints = one.get("keypoints")
        if not isinstance(keypoints, dict) or not {"x", "y"} <= keypoints.keys():
            raise ReadError("keys", f"{place}: keypoints are {short_repr(keypoints)}, not x, y and visible")
        xy = [as_numbers(keypoints[axis], place, axis) for axis in "xy"]
        sure = as_numbers(keypoints.get("visible", np.ones(xy[0].shape)), place, "visible")
        if xy[0].ndim != 1 or xy[0].shape != xy[1].shape or sure.shape != xy[0].shape:
            raise ReadError("keypoints", f"{place}: x, y and visible are of different lengths")
        persons.append(np.stack([*xy, sure], -1))
    return persons, [whole(one.get("track_id")) for one in known]


# --- what they share --------------------------------------------------------------------------------------------------


def _clip(
    frames: Sequence[Frame], place: Path, wanted: Wanted, numbers: Sequence[Any] | None = None, note: str = ""
) -> Poses:
    if wanted.channels == 3:
        raise ReadError(
            "shape", f"{place}: these keypoints are flat, 3D ones are wanted; an import takes them with --channels 2"
        )
    places, known = list(range(len(frames))), _whole_numbers(numbers or ())
    if known:
        places, told = positions(known, place)
        note = note or (told and f"frames are {told}")
        if len(set(places)) < len(places):
            raise ReadError("frames", f"{place}: a frame occurs twice")
    people: list[list[np.ndarray]] = [[] for _ in range(max(places, default=-1) + 1)]
    ids: list[list[int]] = [[] for _ in people]
    for t, (persons, own) in zip(places, frames, strict=True):
        people[t], ids[t] = persons, own
    return assemble(people, place, numbers=ids, notes={"frames": f"{place}: {note}"} if note else {})


def _named(poses: Poses, names: Sequence[Any] | None, wanted: Wanted, file: Path) -> Poses:
    """Joints in the order of the layout that has most of their names, the others left out and told."""
    if not names or len(names) != poses.joints.shape[2]:
        return poses
    plain = [re.sub(r"[\s_-]+", " ", str(name).lower()) for name in names]
    known = [wanted.layout] if wanted.layout is not None else list(LAYOUTS.values())
    best = max(known, key=lambda layout: (len(set(plain) & set(layout.joints)), -layout.num_joints))
    if plain == list(best.joints) or (wanted.layout is not None and not set(plain) & set(best.joints)):
        return poses if wanted.layout is not None else replace(poses, layout=best.name)
    common = [name for name in plain if name in best.joints]
    if len(common) < _COMMON * len(plain):
        listed = ", ".join(plain[:6])
        raise ReadError(
            "layout", f"{file}: its keypoints are {listed}, …: no layout has these names; --layout names one"
        )
    shape = (*poses.joints.shape[:2], best.num_joints)
    joints = np.full((*shape, poses.joints.shape[-1]), np.nan, np.float32)
    sure = np.zeros(shape, np.float32)
    there = [best.joints.index(name) for name in common]
    places = [plain.index(name) for name in common]
    joints[:, :, there] = poses.joints[:, :, places]
    if poses.confidence is not None:
        sure[:, :, there] = poses.confidence[:, :, places]
    left = ", ".join(name for name in plain if name not in common)
    lacking = ", ".join(name for name in best.joints if name not in common)
    note = f"{file}: taken as {best.name} by the names of its keypoints, without {left or 'none'}; it lacks {lacking}"
    layout = None if wanted.layout is not None else best.name
    return replace(poses, joints=joints, confidence=sure, layout=layout, notes={**poses.notes, "layout": note})


def _joined(joints: np.ndarray, scores: np.ndarray, place: str) -> np.ndarray:
    """Flat joints with their scores behind them."""
    if joints.ndim != 2 or joints.shape[1] != 2 or scores.shape != joints.shape[:1]:
        raise ReadError(
            "keypoints", f"{place}: keypoints are {joints.shape} with scores {scores.shape}, not (V, 2) with (V,)"
        )
    return np.concatenate([joints, scores[:, None]], -1)


def _flat(values: Any, place: str) -> np.ndarray:
    """(V, 3) of a flat list."""
    if not isinstance(values, list) or not values or len(values) % 3:
        found = f"{len(values)} numbers" if isinstance(values, list) else short_repr(values)
        raise ReadError("keypoints", f"{place}: keypoints hold {found}, not a multiple of 3")
    return as_numbers(values, place, "keypoints").reshape(-1, 3)


def _objects(values: Any, place: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
        raise ReadError("keys", f"{place}: holds {short_repr(values)}, no list of objects")
    return values


def _lacks(content: Any, key: str) -> str:
    found: Iterable[Any] = content if isinstance(content, dict) else ()
    had = f"; its keys are {', '.join(map(short_repr, list(found)[:8]))}" if found else ""
    return f"the key {key!r} is missing or no list{had}"


def _whole_numbers(values: Sequence[Any]) -> list[int]:
    """The numbers where all are whole ones, else none."""
    return [*values] if all(type(value) is int and abs(value) < 1e15 for value in values) else []


def _by_length(key: str) -> tuple[int, str]:
    return len(key), key
