"""The pickles of PYSKL and MMAction2: a list of clips of any length, in 3D or flat with scores, beside their splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skelcl.data.formats import pickles
from skelcl.data.formats.arrays import (
    CAMERA,
    TEST,
    TRAIN,
    OpenedDataset,
    as_float32,
    check_names,
    class_names,
    id_prefixes,
    is_ntu,
    recording,
    whole_labels,
)
from skelcl.data.formats.folders import crc32
from skelcl.data.formats.pickles import described
from skelcl.data.poses.contents import MOST_BODIES
from skelcl.data.poses.tracking import in_own_places
from skelcl.data.recording import Notice, Recording, Source
from skelcl.data.store import SkeletonStore, fill_joints
from skelcl.errors import InputError
from skelcl.files import one_line
from skelcl.skeleton import COCO17, KINECT20, NTU25, OPENPOSE18, Skeleton

LAYOUTS = {(25, 3): NTU25, (20, 3): KINECT20, (17, 2): COCO17, (18, 2): OPENPOSE18}
"""Joints and coordinates per joint → layout."""
_MOST_FRAMES = 1_000_000
IMAGE = "image, turned so that y points up"
"""Axes of flat poses: half a turn about the optical axis, as for poses of your own."""


class _Clip(NamedTuple):
    id: str
    label: int | None
    keypoint: np.ndarray
    score: np.ndarray | None


def _read(clip: _Clip, origins: tuple[int, ...] = ()) -> list[Recording]:
    joints = as_float32(clip.keypoint)
    if clip.score is not None:
        joints[~(clip.score > 0)] = np.nan
    else:
        zero = (joints == 0).all(-1)
        zero[..., origins] = zero.all(-1, keepdims=True)
        joints[zero] = np.nan
    notes = {}
    if joints.shape[3] == 2:
        joints, changed = in_own_places(joints)
        if changed:
            notes["tracking"] = f"{clip.id}: people stood in the order of a detector; put in places that follow them"
        np.negative(joints, out=joints)
    made = recording(clip.id, joints, -1 if clip.label is None else clip.label, zeros=False)
    made.notes = notes
    return [made]


def _origins(clips: Iterable[_Clip]) -> tuple[int, ...]:
    """Joints at zero in every clip and frame that shows anybody: what coordinates are relative to."""
    always: np.ndarray | None = None
    for clip in clips:
        zero = (clip.keypoint == 0).all(-1)
        zero = zero[~zero.all(-1)].all(0)
        always = zero if always is None else always & zero
        if not always.any():
            return ()
    return tuple(np.flatnonzero(always).tolist()) if always is not None and not always.all() else ()


# --- in ---------------------------------------------------------------------------------------------------------------


def open_pyskl(path: Path, split: str | None = None, layout: Skeleton | None = None) -> OpenedDataset | None:
    """Opens a pickle, which is loaded whole, as PYSKL does: it takes about its size in memory.

    A joint at zero was not seen, unless it is at zero in every frame of the file that shows anybody; where there are
    scores, one of score 0 was not. People of flat poses stand in the order of a detector and are followed. Names of NTU
    RGB+D tell the part of a clip; other ids begin with ``train/`` or ``test/`` as the split says, and clips outside of
    it are left out. A list of annotations alone, and a single one, are such pickles without splits; annotations may
    lack their label, or hold the persons of all frames one after another beside ``frame_inds``.

    Args:
        path: The file.
        split: Split that tells the parts; by default the first of the file.
        layout: Layout of the joints; by default what their number tells.

    Returns:
        The data set; None when the file is no such pickle.

    Raises:
        InputError: It is one, but damaged, names what is no array, or contradicts itself.
    """
    if not path.is_file() or pickles.holds(path) is None:
        return None
    content = pickles.load(path)
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, dict) and "keypoint" in first:
        content = {"annotations": content if isinstance(content, list) else [content]}
    if not isinstance(content, dict) or "annotations" not in content:
        return None
    listed = content["annotations"]
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path}: annotations are {described(listed)}, not a list of clips")
    listed = [_unpacked(item, f"{path}: annotation {n}") for n, item in enumerate(listed)]
    shape = _first_shape(listed[0], f"{path}: annotation 0", layout)
    skeleton, (joints, channels) = layout or LAYOUTS[shape], shape
    clips = [_clip(item, shape, f"{path}: annotation {n}") for n, item in enumerate(listed)]
    pickles.unshared(path, (clip.keypoint.nbytes for clip in clips))
    names = [clip.id for clip in clips]
    labelled = np.array([clip.label is not None for clip in clips])
    labels = np.full(len(clips), -1, np.int64)
    given = [clip.label for clip in clips if clip.label is not None]
    labels[labelled] = whole_labels(given, f"{path}: annotations")
    check_names(names, labels, str(path))
    splits = _splits(content.get("split"), path)
    if split is not None and split not in splits:
        raise InputError(f"--split {split!r}: the splits of {path} are {', '.join(splits) or 'none'}")
    classes, known = class_names(names, labels), is_ntu(names)
    notices: list[Notice] = []
    parameters: dict[str, Any] = {"tracks": "by distance"} if channels == 2 else {}
    ids = {name: name for name in names}
    if splits and not known:
        chosen = split or next(iter(splits))
        parameters["split"] = chosen
        begins, notices = id_prefixes(set(splits[chosen].values()), named=False)
        ids = {name: begins[part] + name for name, part in splits[chosen].items() if part in begins}
        notices += _split_notices(
            [name for name in names if splits[chosen].get(name) != "val" or name in ids], ids, chosen
        )
    sizes = {_size(item) for item in listed} if channels == 2 else set()
    if len(sizes) == 1 and None not in sizes:
        parameters["img_shape"] = list(*sizes)
    fingerprint = crc32(path)
    sources = [
        Source(ids[clip.id], clip._replace(id=ids[clip.id], label=int(label)), f"{fingerprint}:{label}")
        for clip, label in zip(clips, labels, strict=True)
        if clip.id in ids
    ]
    if not sources:
        raise InputError(f"{path}: the split {parameters['split']!r} names none of the {len(clips)} clips")
    return OpenedDataset(
        f"PYSKL pickle: {len(clips):,} clips, {len(classes)} classes, {joints} joints in {channels}D, "
        f"splits {', '.join(splits) or 'none'}, recipe none",
        "pyskl",
        sources,
        partial(_read, origins=_origins(clips)),
        classes,
        skeleton=skeleton,
        channels=channels,
        fps=30.0 if known else None,
        axes=IMAGE if channels == 2 else CAMERA if known else "as given",
        units="px" if channels == 2 else "m",
        parameters=parameters,
        notices=notices,
    )


def _unpacked(item: Any, place: str) -> Any:
    """The annotation with its keypoints as (M, T, V, C), where it lists them person by person beside their frames."""
    if not isinstance(item, dict) or item.get("frame_inds") is None:
        return item
    keypoint = _array(item, "keypoint", place)
    if keypoint.ndim != 3:
        return item
    where = _array(item, "frame_inds", place)
    length = item.get("total_frames")
    if (
        where.shape != keypoint.shape[:1]
        or where.dtype.kind not in "iu"
        or type(length) is not int
        or not 0 < length <= _MOST_FRAMES
        or (len(where) and not 0 <= where.min() <= where.max() < length)
    ):
        found = f"{described(where)} for keypoint {keypoint.shape} and {described(length)} total_frames"
        raise InputError(f"{place}: frame_inds are {found}")
    order = np.argsort(where, kind="stable")
    frame = where[order].astype(np.int64)
    rank = np.arange(len(frame)) - np.searchsorted(frame, frame)  # of a person within the frame
    kept = rank < MOST_BODIES
    persons = int(rank[kept].max(initial=0)) + 1
    out = np.zeros((persons, length, *keypoint.shape[1:]), keypoint.dtype)
    out[rank[kept], frame[kept]] = keypoint[order][kept]
    if keypoint.shape[2] == 3:  # x, y and how sure they are
        return item | {"keypoint": out[..., :2], "keypoint_score": out[..., 2]}
    return item | {"keypoint": out}


def _first_shape(item: Any, place: str, layout: Skeleton | None) -> tuple[int, int]:
    shape = _array(item, "keypoint", place).shape
    if layout is not None:
        if len(shape) != 4 or shape[2] != layout.num_joints or shape[3] not in (2, 3):
            raise InputError(f"{place}: keypoint is {shape}, not (M, T, {layout.num_joints}, 2 or 3) of {layout.name}")
        return shape[2], shape[3]
    if len(shape) != 4 or shape[2:] not in LAYOUTS:
        known = ", ".join(f"{joints} × {channels}D" for joints, channels in LAYOUTS)
        raise InputError(
            f"{place}: keypoint is {shape}, not (M, T, V, C) with joints that are known: {known}; --layout names others"
        )
    return shape[2], shape[3]


def _clip(item: Any, joints: tuple[int, int], place: str) -> _Clip:
    keypoint = _array(item, "keypoint", place)
    name, label, length = item.get("frame_dir"), item.get("label"), item.get("total_frames")
    if type(name) is not str:
        raise InputError(f"{place}: frame_dir is {described(name)}, not a name")
    place = f"{place} ({one_line(name)})"
    if label is not None and (not isinstance(label, int | float) or isinstance(label, bool)):
        raise InputError(f"{place}: label is {described(label)}, not a class counted from 0")
    if len(keypoint.shape) != 4 or keypoint.shape[2:] != joints:
        raise InputError(f"{place}: keypoint is {keypoint.shape}, not (M, T, {joints[0]}, {joints[1]})")
    if length is not None and (type(length) is not int or length != keypoint.shape[1]):
        raise InputError(f"{place}: total_frames is {described(length)}, but keypoint is {keypoint.shape}")
    score = None if item.get("keypoint_score") is None else _array(item, "keypoint_score", place)
    if score is not None and score.shape != keypoint.shape[:3]:
        raise InputError(f"{place}: keypoint_score is {score.shape}, not {keypoint.shape[:3]}")
    return _Clip(name, label, keypoint, score)  # type: ignore[arg-type]  # labels are made whole together


def _array(item: Any, key: str, place: str) -> np.ndarray:
    if not isinstance(item, dict):
        raise InputError(f"{place}: {described(item)} instead of a dict")
    if key not in item:
        raise InputError(f"{place}: the key {key!r} is missing in {described(item)}")
    value = item[key]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise InputError(f"{place}: {key} is {described(value)}, not an array of numbers")
    return value


def _size(item: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of the image in pixels."""
    size = item.get("img_shape")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(length) is int for length in size):
        return None
    return size[0], size[1]


def _splits(given: Any, path: Path) -> dict[str, dict[str, str]]:
    """Name of each split → name of a clip → ``train``, ``val`` or ``test``."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InputError(f"{path}: split is {described(given)}, not a dict of lists of names")
    out: dict[str, dict[str, str]] = {}
    for key, names in given.items():
        if type(key) is not str:
            raise InputError(f"{path}: a split is called {described(key)}")
        match = re.fullmatch(r"(?:(.+)_)?(train|val|test)_?(\w*)", key)
        if not isinstance(names, list | tuple) or not all(type(name) is str for name in names):
            raise InputError(f"{path}: the split {key[:40]!r} is {described(names)}, not a list of names")
        if match is None:
            raise InputError(f"{path}: the split {key[:40]!r} is no train, val or test part")
        split = "_".join(part for part in (match[1], match[3]) if part) or "default"
        part, known = match[2], out.setdefault(split, {})
        for name in names:
            if (other := known.setdefault(name, part)) != part:
                raise InputError(f"{path}: the split {split!r} has {name!r} in both parts, {other} and {part}")
    return out


def _split_notices(names: list[str], ids: dict[str, str], split: str) -> Iterator[Notice]:
    for reason, what, some in (
        ("no_part", "clips are in no part of", sorted(set(names) - ids.keys())),
        ("no_clip", "names have no clip in", sorted(ids.keys() - set(names))),
    ):
        if some:
            message = f"{len(some)} {what} the split {split!r}, for example {some[0]!r}"
            yield Notice(id="", outcome="skipped", reason=reason, message=message, line=None)


# --- out --------------------------------------------------------------------------------------------------------------


def write_pyskl(store: SkeletonStore, folder: Path, splits: dict[str, np.ndarray]) -> list[str]:
    """Writes ``<data set>_3danno.pkl``, or ``_2danno.pkl`` for flat poses.

    Coordinates are float16 as in the published files. Joints that were not seen are interpolated in 3D and have the
    score 0 in 2D; bodies that were not seen are zeros. Absent bodies are not written.

    Args:
        store: The store, in camera space or image coordinates.
        folder: Where to write.
        splits: Training part of each protocol, (N,) bool.

    Returns:
        What was written and what is lost, line by line.

    Raises:
        InputError: The store has a layout that PYSKL's files do not have.
    """
    shape = (store.skeleton.num_joints, store.channels)
    if shape not in LAYOUTS:
        raise InputError(f"{store.path}: no PYSKL file has {shape[0]} joints with {shape[1]} coordinates")
    names = [id.removeprefix(TRAIN).removeprefix(TEST) for id in store.ids.tolist()]
    if len(set(names)) < len(names):
        names = store.ids.tolist()
    parts: dict[str, list[str]] = {}
    for split, train in splits.items():
        prefix = "" if split in ("imported", "all") else f"{split}_"
        for part, mask in (("train", train), ("val", ~train)):
            parts[f"{prefix}{part}"] = [names[n] for n in np.flatnonzero(mask)]
    annotations, whole = zip(*(_annotation(store, n, name) for n, name in enumerate(names)), strict=True)
    gaps = len(names) - sum(whole)
    file = folder / f"{store.meta['dataset']}_{store.channels}danno.pkl"
    with file.open("wb") as stream:
        pickles.dump({"split": parts, "annotations": list(annotations)}, stream)
    lines = [f"{file.name}: {len(names)} clips, splits {', '.join(parts)}, recipe none"]
    if store.channels == 3:
        lines.append("lost: float16 keeps 2 mm at a distance of 2 to 4 m")
        what = "frames were written as zeros, joints interpolated"
    else:
        lines.append("lost: float16 keeps 1 px up to 2048 px")
        what = "their scores are 0, all others 1"
    return lines + ([f"lost: {gaps} clips have missing frames or joints: {what}"] if gaps else [])


def _annotation(store: SkeletonStore, position: int, name: str) -> tuple[dict[str, Any], bool]:
    """The entry of a clip, and whether every body was seen in every frame."""
    joints = store.recording(position).copy()
    missing = np.isnan(joints).any(-1)
    whole = not missing.any()
    item: dict[str, Any] = {
        "frame_dir": name,
        "label": int(store.index["label"][position]),
        "total_frames": joints.shape[1],
    }
    if store.channels == 2:
        item["keypoint_score"] = (~missing).astype(np.float16)
        if size := store.meta["parameters"].get("img_shape"):
            item["img_shape"] = item["original_shape"] = tuple(size)
        joints *= -1 if store.meta["axes"] == IMAGE else 1
    else:
        fill_joints(joints)
    item["keypoint"] = np.nan_to_num(joints, nan=0.0).astype(np.float16)
    return item, whole
