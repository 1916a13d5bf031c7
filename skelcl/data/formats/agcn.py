"""The npy arrays of 2s-AGCN, ST-GCN, HCN and AimCLR with labels and names beside them: (N, C, T, V, M)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skelcl.data.formats import pickles
from skelcl.data.formats.arrays import (
    CAMERA,
    PARTS,
    OpenedDataset,
    as_float32,
    check_names,
    class_names,
    id_prefixes,
    is_ntu,
    recording,
    trimmed,
    whole_labels,
)
from skelcl.data.formats.containers import NPY
from skelcl.data.formats.ctr_gcn import header
from skelcl.data.formats.mapped import Array, is_object, open_npy, starts_with
from skelcl.data.orientation import REVERSED, is_reversed
from skelcl.data.recording import Notice, ReadError, Recording, Source
from skelcl.errors import InputError
from skelcl.skeleton import NTU25

_SUFFIX = re.compile(r"(_data)?(_joint|_position)?$")
"""What the name of an array has behind the part; the names of its labels have ``_label`` there."""
_DERIVED = re.compile(r"(bone|motion|velocity)", re.IGNORECASE)
_BESIDE = re.compile(r"(label|num_frame)", re.IGNORECASE)
_PART = re.compile(r"(train|val|test)", re.IGNORECASE)
_SAMPLE = 256
_KINDS = {
    "agcn": ("2s-AGCN npy", "agcn", "z up, x towards the right shoulder"),
    "aimclr": ("AimCLR npy", "stgcn50", "y up, x towards the right shoulder"),
    "stgcn": ("ST-GCN/HCN npy", "none", CAMERA),
}
"""Kind → what people call it, the recipe that it went through, its axes."""


class _Clip(NamedTuple):
    array: Array
    row: int
    id: str
    label: int
    frames: int | None


@dataclass(frozen=True)
class _Reader:
    kind: str

    def __call__(self, clip: _Clip) -> list[Recording]:
        joints = as_float32(clip.array.values[clip.row]).transpose(3, 1, 2, 0)
        zeros, frames, warnings = self.kind == "stgcn", joints.shape[1], []
        if clip.frames is not None:
            if clip.frames > frames:
                warnings.append(f"has {clip.frames} frames, of which the file holds {frames}")
            joints = joints[:, : clip.frames]
        elif self.kind == "agcn":
            joints = joints[:, : true_length(joints)]
        tracks = trimmed(joints, zeros)
        if not tracks.size:
            raise ReadError("no_skeleton", f"{clip.id}: no frame shows a body")
        return [recording(clip.id, tracks, clip.label, zeros=zeros, warnings=warnings)]


def true_length(joints: np.ndarray) -> int:
    """Frames of a clip before its frames were repeated to fill the array.

    2s-AGCN fills body by body, before it moves all bodies along with body 0: the smallest period of all bodies counts,
    or that of body 0 where there is none.

    Args:
        joints: Coordinates, (M, T, V, C).

    Returns:
        The smallest period, T when nothing repeats.
    """
    frames = joints.shape[1]
    whole = _period(joints)
    return whole if whole < frames or not joints[:1].any() else _period(joints[:1])


def _period(joints: np.ndarray) -> int:
    rows = joints.swapaxes(0, 1).reshape(joints.shape[1], -1)
    for period in np.flatnonzero((rows == rows[0]).all(1))[1:].tolist():
        if np.array_equal(rows[period:], rows[:-period]):
            return int(period)
    return len(rows)


# --- in ---------------------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """One array and what lies beside it."""

    name: str
    """``train``, ``val``, ``test``, or nothing when the file does not say."""
    array: Array
    names: list[str] | None
    labels: np.ndarray
    frames: np.ndarray | None


def open_agcn(path: Path, names: Sequence[str] | None = None) -> OpenedDataset | None:
    """Opens the arrays of a protocol.

    What they are is read from them: ``aimclr`` when the centre joint of every body is zero in every frame, ``agcn``
    when the origin joint of body 0 is, else ``stgcn``.

    Args:
        path: An array, whose labels lie beside it as ``train_label.pkl`` or ``train_label.npy``, or the folder of the
            training and the test array.
        names: Names of the clips where no pickle tells them, the training part first.

    Returns:
        The data set; None when there is no array of numpy.

    Raises:
        InputError: It is damaged, of a wrong shape, or labels or names do not belong to it.
    """
    files = _files(path)
    if not files:
        return None
    every = [_part(file) for file in files]
    kept = id_prefixes([part.name for part in every], False)[0]
    parts = [part for part in every if part.name in kept or not part.name]
    kinds = {part.array.place: _kind(part.array) for part in parts}
    if len(set(kinds.values())) > 1:
        summary = ", ".join(f"{Path(place).name}: {_KINDS[kind][0]}" for place, kind in kinds.items())
        raise InputError(f"{path}: its arrays went through different recipes ({summary}): import them one by one")
    (kind,) = set(kinds.values())
    ids, said = _ids(parts, names)
    labels = np.concatenate([part.labels for part in parts])
    check_names(ids, labels, "--names" if names is not None else str(path))
    classes = class_names(ids if is_ntu(ids) else (), labels)
    title, recipe, axes = _KINDS[kind]
    clips = [
        _Clip(part.array, row, "", int(label), None if part.frames is None else int(part.frames[row]))
        for part in parts
        for row, label in enumerate(part.labels)
    ]
    sources = [
        Source(name, clip._replace(id=name), f"{clip.array.fingerprint}:{clip.row}:{clip.label}:{clip.frames}")
        for name, clip in zip(ids, clips, strict=True)
    ]
    summary = " + ".join(f"{len(part.labels):,} {part.name or 'unnamed'}" for part in parts)
    lengths = {
        "agcn": "true lengths from num_frame" if all(part.frames is not None for part in parts) else "lengths by period"
    }
    summary = f"{title}: {summary} clips, {len(classes)} classes, recipe {recipe}"
    summary += f", {lengths[kind]}" if kind in lengths else ""
    notices = id_prefixes([part.name for part in every], is_ntu(ids))[1]
    notices += [] if said is None else [Notice(id="", outcome="warning", reason="names", message=said, line=None)]
    return OpenedDataset(summary, kind, sources, _Reader(kind), classes, recipe=recipe, axes=axes, notices=notices)


def _files(path: Path) -> list[Path]:
    """The arrays of a folder, at most one of each part; an array itself."""
    if path.is_file():
        if not starts_with(path, NPY) or is_object(path):
            return []
        if match := _DERIVED.search(path.stem):
            raise InputError(
                f"{path}: is the {match[1]} stream, which is derived from joints: pass the array of joints"
            )
        return [path]
    arrays = [
        file for file in sorted(path.glob("*.npy")) if not (_BESIDE.search(file.stem) or _DERIVED.search(file.stem))
    ]
    by_part: dict[str, list[Path]] = {}
    for file in arrays:
        match = _PART.match(file.stem)
        if match is None:
            return []  # such as a folder with a file for each clip
        by_part.setdefault(match[1].lower(), []).append(file)
    for part, files in by_part.items():
        if len(files) > 1:
            raise InputError(f"{path}: holds several {part} arrays ({', '.join(f.name for f in files)}): pass one file")
    return [by_part[part][0] for part in PARTS if part in by_part]


def _part(file: Path) -> _Part:
    array = open_npy(file)
    if (
        len(array.shape) != 5
        or (array.shape[1], array.shape[3]) != (3, NTU25.num_joints)
        or array.shape[4] not in (1, 2)
    ):
        expected = f"(N, 3, T, {NTU25.num_joints}, 2): clips, coordinates, frames, joints, bodies"
        raise InputError(f"{file}: {array.described} instead of {expected}")
    if not array.shape[2]:
        raise InputError(f"{file}: {array.described}: holds no frames")
    if np.dtype(array.dtype).kind != "f":
        raise InputError(f"{file}: {array.described}: coordinates must be floating-point numbers")
    match = _PART.match(file.stem)
    stem = _SUFFIX.sub("", file.stem)
    names, labels = _labels(file, stem, array.shape[0])
    frames = None
    beside = file.with_name(f"{stem}_num_frame.npy")
    if beside.is_file():
        values = open_npy(beside, fingerprint=False).values
        if values.size != array.shape[0]:
            raise InputError(f"{beside}: {values.size} lengths for {array.shape[0]} clips of {file.name}")
        frames = whole_labels(values.ravel(), str(beside))
        if (frames < 1).any():
            raise InputError(f"{beside}: clip {np.flatnonzero(frames < 1)[0]} has no frame")
    return _Part(match[1].lower() if match else "", array, names, labels, frames)


def _labels(file: Path, stem: str, count: int) -> tuple[list[str] | None, np.ndarray]:
    """Names, where there are some, and labels of an array, from the files beside it."""
    table, array = file.with_name(f"{stem}_label.pkl"), file.with_name(f"{stem}_label.npy")
    names, labels = None, None
    if table.is_file():
        content = pickles.load(table)
        if not isinstance(content, (tuple, list)) or len(content) != 2:
            raise InputError(f"{table}: {pickles.described(content)} instead of a pair: names and labels")
        first, second = content
        if not isinstance(first, (tuple, list)) or not all(isinstance(name, str) for name in first):
            raise InputError(f"{table}: the first of its two lists must be names of clips")
        names, labels = [name.removesuffix(".skeleton") for name in first], whole_labels(second, str(table))
        if len(names) != len(labels):
            raise InputError(f"{table}: {len(names)} names for {len(labels)} labels")
        if len(labels) != count:
            raise InputError(f"{table}: {len(labels)} labels for {count} clips: it does not belong to {file.name}")
    if array.is_file():
        values = open_npy(array, fingerprint=False).values
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        again = whole_labels(values, str(array))
        if len(again) != count:
            raise InputError(f"{array}: {len(again)} labels for {count} clips: it does not belong to {file.name}")
        if labels is not None and not np.array_equal(labels, again):
            clip = int(np.flatnonzero(labels != again)[0])
            raise InputError(f"{array}: label {clip} is {again[clip]}, in {table.name} it is {labels[clip]}")
        labels = again
    if labels is None:
        raise InputError(f"{file}: its labels are missing: {table.name} or {array.name} beside it")
    if not count:
        raise InputError(f"{file}: holds no clips")
    return names, labels


def _kind(array: Array) -> str:
    """What sampled clips are relative to: the centre of every body, the origin of body 0, or the camera.

    Streams of bones have zeros in the centre too, so clips of full length never count as AimCLR's.

    Raises:
        InputError: It is the stream of bones, or of the recipe of 2s-AGCN with its bodies turned the other way round.
    """
    centred = original = True
    bodies = []
    for row in np.unique(np.linspace(0, array.shape[0] - 1, _SAMPLE).astype(int)):
        clip = np.nan_to_num(array.values[row])
        centred &= not clip[:, :, NTU25.center].any()
        original &= not clip[:, :, NTU25.origin, 0].any()
        bodies.append(clip[:, clip[..., 0].any((0, 2)).argmax(), :, 0].T)
    if original and not centred and is_reversed(np.stack(bodies), NTU25):
        raise InputError(
            f"{array.place}: {REVERSED}: export them anew (`skelcl data export`) from a store in camera space"
        )
    if centred and array.shape[2] >= 300:
        raise InputError(
            f"{array.place}: its centre joint is zero in every frame, as in the stream of bones: pass joints"
        )
    return "aimclr" if centred else "agcn" if original else "stgcn"


def _ids(parts: Sequence[_Part], names: Sequence[str] | None) -> tuple[list[str], str | None]:
    sizes = [len(part.labels) for part in parts]
    own = [part.names for part in parts]
    if names is not None:
        if len(names) != sum(sizes):
            raise InputError(f"--names: {len(names)} names for {sum(sizes)} clips")
        rest = iter(names)
        own = [[next(rest) for _ in range(size)] for size in sizes]
    every = [name for part in own if part is not None for name in part]
    if is_ntu(every) and None not in own:
        return every, None
    ids: list[str] = []
    for part, listed, size in zip(parts, own, sizes, strict=True):
        begin = PARTS.get(part.name, "")
        listed = [f"{n + 1:06d}" for n in range(size)] if listed is None else listed
        ids += [name if name.startswith(begin) else begin + name for name in listed]
    numbered = "there are no names beside the arrays: clips are numbered; --names FILE gives names"
    return ids, numbered if None in own else None


# --- out --------------------------------------------------------------------------------------------------------------


def write_array(file: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    """Writes an array in blocks of clips, (B, …) each, float32 in C order."""
    with file.open("wb") as stream:
        header(stream, shape, "<f4")
        for block in blocks:
            stream.write(np.ascontiguousarray(block, "<f4").tobytes())


def write_names(file: Path, names: Sequence[str], labels: Sequence[int]) -> None:
    """Writes names and labels as 2s-AGCN does: names of NTU RGB+D with their ``.skeleton``."""
    listed = [f"{name}.skeleton" if is_ntu([name]) else name for name in names]
    with file.open("wb") as stream:
        pickles.dump((listed, [int(label) for label in labels]), stream)
