"""The npz archives of CTR-GCN and MAMP: padded clips without names, in the order of the performers of a protocol."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from skelcl.data.formats import ntu_release as ntu
from skelcl.data.formats.arrays import (
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
from skelcl.data.formats.containers import ZIP
from skelcl.data.formats.mapped import Archive, Array, starts_with
from skelcl.data.recording import Notice, Recording, Source
from skelcl.errors import InputError
from skelcl.skeleton import NTU25

FRAMES = 300
"""Frames to which the published files are padded."""
BODIES = 2
PROTOCOLS: dict[ntu.Release, tuple[str, ...]] = {"ntu60": ("xsub", "xview"), "ntu120": ("xsub", "xset")}
FILES = {
    ("ntu60", "xsub"): "NTU60_CS",
    ("ntu60", "xview"): "NTU60_CV",
    ("ntu120", "xsub"): "NTU120_CSub",
    ("ntu120", "xset"): "NTU120_CSet",
}
"""Release and protocol → name of the published file."""
_ROW = 3 * NTU25.num_joints
_SAMPLE = 256


class _Clip(NamedTuple):
    array: Array
    row: int
    id: str
    label: int


@dataclass(frozen=True)
class _Reader:
    recipe: str

    def __call__(self, clip: _Clip) -> list[Recording]:
        bodies = clip.array.shape[2] // _ROW
        joints = as_float32(clip.array.values[clip.row]).reshape(-1, bodies, NTU25.num_joints, 3)
        zeros = self.recipe == "none"
        tracks = trimmed(joints.swapaxes(0, 1), zeros)
        if len(tracks) > 1 and np.array_equal(tracks[0], tracks[1], equal_nan=True):
            tracks = tracks[:1]  # the NTU-120 files repeat a single body
        return [recording(clip.id, tracks, clip.label, zeros=zeros)]


# --- in ---------------------------------------------------------------------------------------------------------------


def open_ctr_gcn(path: Path, scratch: Path, names: Sequence[str] | None = None) -> OpenedDataset | None:
    """Opens an archive.

    Ids come from ``names``, else from the order of the complete data set that CTR-GCN's scripts leave behind, else they
    count: ``train/000001``. An archive whose first body stands at the origin in its first frame went through ``sgn``.

    Args:
        path: The archive.
        scratch: Folder for members that have to be unpacked.
        names: Names of the clips, the training part first, or the names of all clips in any order when the archive has
            the order of CTR-GCN.

    Returns:
        The data set; None when the file is no such archive.

    Raises:
        InputError: It is one, but damaged, of a wrong shape, or its labels or names contradict it.
    """
    if not path.is_file() or not starts_with(path, *ZIP):
        return None
    archive = Archive(path)
    parts = list(id_prefixes([part for part in PARTS if f"x_{part}" in archive.names], False)[0])
    if not parts:
        return None
    arrays: dict[str, Array] = {}
    labels: dict[str, np.ndarray] = {}
    counts: set[int] = set()
    for part in parts:
        if f"y_{part}" not in archive.names:
            raise InputError(f"{path}: has x_{part}, but no labels y_{part}; it holds {archive.describe()}")
        labels[part], count = _labels(archive.read(f"y_{part}"), f"{path}: y_{part}")
        arrays[part] = _checked(archive.open(f"x_{part}", scratch), len(labels[part]))
        counts |= set() if count is None else {count}
    if len(counts) > 1:
        raise InputError(f"{path}: the labels of its parts have {' and '.join(map(str, sorted(counts)))} classes")
    every = np.concatenate([labels[part] for part in parts])
    sizes = [len(labels[part]) for part in parts]
    total = next(iter(counts), None)
    ids, said = _ids(path, names, parts, sizes, every, total)
    classes = class_names(ids if is_ntu(ids) else (), every, total)
    notices = id_prefixes([part for part in PARTS if f"x_{part}" in archive.names], is_ntu(ids))[1]
    share = _at_origin(arrays.values())
    recipe = "sgn" if share == 1 else "none"
    notices += [] if said is None else [Notice(id="", outcome="warning", reason="names", message=said, line=None)]
    if 0 < share < 1:
        message = f"only {share:.1%} of the clips begin at the origin, so no normalisation is assumed"
        notices.append(Notice(id="", outcome="warning", reason="recipe", message=message, line=None))
    rows = [_Clip(arrays[part], row, "", 0) for part, size in zip(parts, sizes, strict=True) for row in range(size)]
    sources = [
        Source(name, clip._replace(id=name, label=int(label)), f"{clip.array.fingerprint}:{clip.row}:{label}")
        for clip, name, label in zip(rows, ids, every, strict=True)
    ]
    summary = " + ".join(f"{size:,} {part}" for part, size in zip(parts, sizes, strict=True))
    summary = f"CTR-GCN/MAMP npz: {summary} clips, {len(classes)} classes, recipe {recipe}"
    return OpenedDataset(summary, "ctr-gcn", sources, _Reader(recipe), classes, recipe=recipe, notices=notices)


def _checked(array: Array, labels: int) -> Array:
    if len(array.shape) != 3 or array.shape[2] not in (_ROW, BODIES * _ROW):
        expected = f"(N, T, {BODIES * _ROW}): {BODIES} bodies × {NTU25.num_joints} joints × 3"
        raise InputError(f"{array.place}: {array.described} instead of {expected}")
    if np.dtype(array.dtype).kind != "f":
        raise InputError(f"{array.place}: {array.described}: coordinates must be floating-point numbers")
    if not array.shape[1]:
        raise InputError(f"{array.place}: {array.described}: holds no frames")
    if array.shape[0] != labels or not labels:
        raise InputError(f"{array.place}: {array.shape[0]} clips, but {labels} labels")
    return array


def _labels(array: np.ndarray, place: str) -> tuple[np.ndarray, int | None]:
    """Labels (N,) from one-hot rows (N, K), and K; from whole numbers (N,), and None."""
    if array.ndim == 1:
        return whole_labels(array, place), None
    if array.ndim != 2 or array.dtype.kind not in "fiub" or not array.shape[1]:
        raise InputError(f"{place}: {array.shape} {array.dtype} instead of one-hot rows (N, classes)")
    wrong = ~np.isin(array, (0, 1)).all(1) | ((array == 1).sum(1) != 1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        with np.errstate(over="ignore", invalid="ignore"):
            total = array[row].sum(dtype=np.float64)
        raise InputError(f"{place}: row {row} is no one-hot vector: its sum is {total:g}, not 1 of 0 and 1")
    return array.argmax(1), array.shape[1]


def _at_origin(arrays: Iterable[Array]) -> float:
    """Share of sampled clips whose origin joint of body 0 is exactly 0 in the first frame that shows it."""
    there = []
    for array in arrays:
        for row in np.unique(np.linspace(0, array.shape[0] - 1, _SAMPLE).astype(int)):
            body = array.values[row].reshape(array.shape[1], -1, NTU25.num_joints, 3)[:, 0]
            seen = np.flatnonzero((np.nan_to_num(body) != 0).any((1, 2)))
            if len(seen):
                there.append(not body[seen[0], NTU25.origin].any())
    return sum(there) / max(len(there), 1)


# --- names ------------------------------------------------------------------------------------------------------------


def replay(release: ntu.Release, protocol: str, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The order in which CTR-GCN's scripts write clips: performer by performer, camera by camera, setup by setup.

    Args:
        release: ``ntu60`` or ``ntu120``.
        protocol: ``xsub``, ``xview`` or ``xset``.
        names: Names of the clips, in any order.

    Returns:
        The training names and the test names.
    """
    column, ahead = {
        "xsub": (2, list(ntu.TRAIN_PERFORMERS if release == "ntu120" else ntu.TRAIN_PERFORMERS[:20])),
        "xview": (1, [2, 3]),
        "xset": (0, list(range(2, 33, 2))),
    }[protocol]
    rank = {number: place for place, number in enumerate(ahead)}
    train: list[tuple[int, str]] = []
    test: list[tuple[int, str]] = []
    for name in sorted(names):
        number = ntu.fields(name)[column]  # type: ignore[index]
        (train if number in rank else test).append((rank.get(number, number), name))
    return [name for _, name in sorted(train)], [name for _, name in sorted(test)]


def _ids(
    path: Path,
    names: Sequence[str] | None,
    parts: Sequence[str],
    sizes: list[int],
    labels: np.ndarray,
    count: int | None,
) -> tuple[list[str], str | None]:
    """Ids of the clips, and what has to be said of them."""
    if names is not None:
        return _given(path, list(names), parts, sizes, labels), None
    for release, protocols in PROTOCOLS.items():
        for protocol in protocols:
            if tuple(sizes) == ntu.PUBLISHED[release][protocol]:
                train, test = replay(release, protocol, ntu.official_ids(release, usable=True))
                ids = [*train, *test]
                if len(ids) == len(labels) and _fit(ids, labels):
                    return ids, None
    ids = [f"{PARTS[part]}{n + 1:06d}" for part, size in zip(parts, sizes, strict=True) for n in range(size)]
    message = "the file has no names and is no complete NTU RGB+D: its clips are numbered; --names FILE gives names"
    return ids, message if count in (60, 120) else "the file has no names: its clips are numbered; see --names"


def _given(path: Path, names: list[str], parts: Sequence[str], sizes: list[int], labels: np.ndarray) -> list[str]:
    if len(names) != len(labels):
        raise InputError(f"--names: {len(names)} names for {len(labels)} clips of {path}")
    if not is_ntu(names):
        check_names(names, labels, "--names")
        begins = [PARTS[part] for part, size in zip(parts, sizes, strict=True) for _ in range(size)]
        return [name if name.startswith(begin) else begin + name for begin, name in zip(begins, names, strict=True)]
    # Actions follow each other in the same way in many orders, so the parts have to fit as well as the labels.
    orders = [replay(release, protocol, names) for release, protocols in PROTOCOLS.items() for protocol in protocols]
    orders = [parts for parts in orders if [*map(len, parts)] == sizes]
    if not any(set(names[: sizes[0]]) == set(train) for train, _ in orders):
        for train, test in orders:
            if _fit([*train, *test], labels):
                return [*train, *test]
    check_names(names, labels, "--names")
    return names


def _fit(names: Sequence[str], labels: np.ndarray) -> bool:
    numbers = map(ntu.fields, names)
    return all(
        found is not None and found[4] == label + 1 for found, label in zip(numbers, labels.tolist(), strict=True)
    )


# --- out --------------------------------------------------------------------------------------------------------------


def write_npz(
    file: Path,
    parts: dict[str, tuple[np.ndarray, Callable[[], Iterable[np.ndarray]]]],
    num_classes: int,
) -> None:
    """Writes an archive in blocks, its members stored as they are.

    Args:
        file: The archive.
        parts: ``train`` or ``test`` → labels (N,) and what yields blocks (B, 3, 300, 25, 2) of its clips.
        num_classes: K, the length of the one-hot rows.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for part, (labels, blocks) in parts.items():
            with archive.open(_member(f"x_{part}"), "w", force_zip64=True) as stream:
                header(stream, (len(labels), FRAMES, BODIES * _ROW), "<f4")
                for block in blocks():  # n c t v m → n t (m v c)
                    stream.write(block.transpose(0, 2, 4, 3, 1).astype("<f4").tobytes())
            with archive.open(_member(f"y_{part}"), "w", force_zip64=True) as stream:
                header(stream, (len(labels), num_classes), "<f8")
                stream.write(np.eye(num_classes)[labels].tobytes())


def header(stream: IO[bytes], shape: tuple[int, ...], dtype: str) -> None:
    """The first bytes of an npy file in C order."""
    described: dict[str, Any] = {"descr": dtype, "fortran_order": False, "shape": shape}
    partial(np.lib.format.write_array_header_1_0, stream)(described)


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))  # a date of its own would change the bytes
