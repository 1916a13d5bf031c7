"""The npy files of NTU RGB+D's own Python tool: one for each clip, with the bodies of a frame by their places."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from skelcl.data.bodies import BodyFrames, select
from skelcl.data.formats import pickles
from skelcl.data.formats.arrays import OpenedDataset, class_names, is_ntu, recording
from skelcl.data.formats.containers import bounded, reading
from skelcl.data.formats.folders import files_below, fingerprint
from skelcl.data.formats.pickles import described
from skelcl.data.formats.sgn import need_ntu, ntu_label, without_missing
from skelcl.data.poses.tracking import track
from skelcl.data.recording import Notice, ReadError, Recording, Source
from skelcl.data.store import SkeletonStore, fill_joints
from skelcl.errors import InputError
from skelcl.skeleton import NTU25

PLACES = 4
"""Bodies of a frame that the tool keeps."""
MAX_BYTES = 1 << 26
TRACKS = "tracks"
"""Key that files of ours have beside the tool's own: for each frame the body in each place, so that none is guessed."""


# --- in ---------------------------------------------------------------------------------------------------------------


def open_ntu_npy(path: Path) -> OpenedDataset | None:
    """Opens a folder of such files, at any depth, or a single one.

    The files do not tell which bodies of two frames are one person. They are found again by distance, and then chosen
    with ``sgn`` as by ``skelcl data prepare``.

    Args:
        path: The folder, or a file.

    Returns:
        The data set; None when the first sound npy file is none of these.

    Raises:
        InputError: It is, but it names what is no array, or two clips of one name differ.
    """
    files = [file for file in files_below(path) if file.suffix == ".npy" or file == path]
    first = next((file for file in files if _header(file) is not None), None)
    if first is None or _header(first) != ((), "O"):
        return None
    content = _content(first)
    if not isinstance(content, dict) or not content.keys() >= {"nbodys", "njoints"}:
        return None
    found: dict[str, list[Path]] = {}
    others = []
    for file in files:
        name = file.name.split(".")[0]
        found.setdefault(name, []).append(file) if is_ntu([name]) else others.append(file)
    if not found:
        raise InputError(f"{path}: no file is called after a clip of NTU RGB+D (S001C001P001R001A001.skeleton.npy, …)")
    listed, notices = without_missing(list(found))
    if others:
        message = f"{len(others)} files of other names were ignored, for example {others[0]}"
        notices.append(Notice(id="", outcome="skipped", reason="other_name", message=message, line=None))
    names = [name for name in found if name not in listed]
    sources = _sources({name: found[name] for name in names}, notices)
    classes = class_names(names, np.array([ntu_label(name) for name in names]))
    summary = f"npy files of NTU RGB+D's Python tool: {len(names):,} clips, {len(classes)} classes, recipe none"
    parameters = {"bodies": "sgn", "tracks": "by distance"}
    return OpenedDataset(summary, "ntu-npy", sources, read, classes, parameters=parameters, notices=notices)


def _header(file: Path) -> tuple[tuple[int, ...], str] | None:
    """Shape and kind of an npy file; None when it is none."""
    try:
        return pickles.npy_header(file)[:2]
    except InputError:
        return None


def _content(file: Path) -> Any:
    array = pickles.load_npy(file)
    return array.item() if array.shape == () else None


def _sources(found: dict[str, list[Path]], notices: list[Notice]) -> list[Source]:
    paths = [file for files in found.values() for file in files]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        bar = tqdm(pool.map(fingerprint, paths), "checksums", len(paths), disable=None, unit="file")
        checksums = iter(list(bar))
    sources = []
    for name, (first, *copies) in found.items():
        checksum = next(checksums)
        sources.append(Source(name, str(first), checksum))
        for copy in copies:
            if next(checksums) != checksum:
                raise InputError(f"{name} occurs twice with different content: {first} and {copy}")
            message = f"{copy} is an identical copy"
            notices.append(Notice(id=name, outcome="skipped", reason="copy", message=message, line=None))
    return sources


def read(where: str) -> list[Recording]:
    """Reads one file and chooses its bodies.

    Args:
        where: The file; its name tells everything but the coordinates.

    Returns:
        One recording.

    Raises:
        ReadError: The file is damaged, not in the format, names what is no array, or shows nobody.
    """
    file = Path(where)
    name = file.name.split(".")[0]
    with reading(file):
        bounded(file.stat().st_size, file, MAX_BYTES)
    try:
        content = _content(file)
        if not isinstance(content, dict):
            raise ReadError("keys", f"{where}: holds {described(content)}, not a dict")
        places, counts = _places(content, where)
    except ReadError:
        raise
    except InputError as error:
        raise ReadError("damaged", str(error)) from error
    warnings = []
    own = content.get("file_name")
    if own is not None and (type(own) is not str or own != name):
        warnings.append(f"calls itself {described(own)}; the name of the file is trusted")
    label = ntu_label(name)
    if TRACKS in content:
        joints = _by_track(places, counts, content[TRACKS], where)
    else:
        joints, remarks = select(_linked(places, counts), "sgn")
        warnings += remarks
    if not len(joints):
        raise ReadError("no_skeleton", f"{where}: no frame shows a body")
    return [recording(name, joints, label, warnings=warnings)]


def _places(content: dict[Any, Any], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Bodies by place, (P, T, 25, 3) float32, and the number of bodies of each frame, (T,)."""
    joints = content.get("njoints")
    if type(joints) is not int or joints != NTU25.num_joints:
        raise ReadError("joints", f"{where}: njoints is {described(joints)}, not {NTU25.num_joints}")
    counts = content.get("nbodys")
    if isinstance(counts, np.ndarray) and counts.dtype.kind in "iu":
        counts = counts.ravel().tolist()
    if not isinstance(counts, list) or not counts or not all(type(count) is int for count in counts):
        raise ReadError("nbodys", f"{where}: nbodys is {described(counts)}, not a list of numbers of bodies")
    most = max(counts)
    if min(counts) < 0 or most > PLACES:
        raise ReadError("nbodys", f"{where}: nbodys holds {described(most)}, not 0 to {PLACES} bodies")
    shape = (len(counts), NTU25.num_joints, 3)
    out = np.zeros((most, *shape), np.float32)
    for place in range(most):
        body = content.get(f"skel_body{place}")
        if not isinstance(body, np.ndarray) or body.dtype.kind != "f" or body.shape != shape:
            raise ReadError("shape", f"{where}: skel_body{place} is {described(body)}, not an array {shape}")
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite, hence missing
            out[place] = body
    return out, np.array(counts)


def _linked(places: np.ndarray, counts: np.ndarray) -> BodyFrames:
    """Bodies whose tracks are found by distance."""
    frame = np.repeat(np.arange(len(counts)), counts)
    slot = np.arange(len(frame)) - np.searchsorted(frame, frame)
    joints = places[slot, frame]
    number = np.zeros(len(frame), np.int64)
    if counts.max(initial=0) > 1:
        seen = np.isfinite(joints).all(-1, keepdims=True) & (joints != 0).any(-1, keepdims=True)
        rows = np.concatenate([np.nan_to_num(joints), seen], -1)
        people = [list(frame) for frame in np.split(rows, np.cumsum(counts)[:-1])]
        number = np.array([n for listed in track(people) for n in listed], np.int64)
    return BodyFrames(joints, frame, slot, number, len(counts))


def _by_track(places: np.ndarray, counts: np.ndarray, tracks: Any, where: str) -> np.ndarray:
    """Bodies whose tracks the file tells, (M, T, 25, 3)."""
    wrong = ReadError("tracks", f"{where}: {TRACKS} is {described(tracks)}, not the bodies of {len(counts)} frames")
    if not isinstance(tracks, list) or len(tracks) != len(counts):
        raise wrong
    out = np.full((PLACES, *places.shape[1:]), np.nan, np.float32)
    for t, (listed, count) in enumerate(zip(tracks, counts.tolist(), strict=True)):
        if not isinstance(listed, list) or len(listed) != count or not set(_few(listed)) <= set(range(PLACES)):
            raise wrong
        out[listed, t] = places[:count, t]
    return out[~np.isnan(out).all((1, 2, 3))]


def _few(numbers: Sequence[Any]) -> list[int]:
    return [number if type(number) is int else -1 for number in numbers]


# --- out --------------------------------------------------------------------------------------------------------------


def write_ntu_npy(store: SkeletonStore, folder: Path, splits: dict[str, np.ndarray]) -> list[str]:
    """Writes ``<id>.skeleton.npy`` for each clip, without the places of the joints in the images.

    Joints that were not seen are interpolated.

    Args:
        store: The store of NTU RGB+D, in camera space.
        folder: Where to write.
        splits: Not needed: names tell the parts.

    Returns:
        What was written and what is lost, line by line.

    Raises:
        InputError: The clips have no names of NTU RGB+D.
    """
    need_ntu(store, "ntu-npy")
    more = 0
    for position, name in enumerate(tqdm(store.ids.tolist(), "ntu-npy", disable=None, unit="file")):
        joints = store.recording(position).copy()
        more += len(joints) > PLACES
        joints = joints[:PLACES]
        fill_joints(joints)
        with (folder / f"{name}.skeleton.npy").open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
            pickles.dump(_boxed(_content_of(name, joints)), stream)
    lines = [f"{len(store)} files, recipe none"]
    return lines + (
        [f"lost: {more} clips have more than {PLACES} bodies, of which {PLACES} were written"] if more else []
    )


def _content_of(name: str, joints: np.ndarray) -> dict[str, Any]:
    seen = ~np.isnan(joints).all((2, 3))
    tracks = [np.flatnonzero(there).tolist() for there in seen.T]
    counts = [len(listed) for listed in tracks]
    places = np.zeros((max(counts), *joints.shape[1:]))
    for t, listed in enumerate(tracks):
        places[: len(listed), t] = joints[listed, t]
    bodies = {f"skel_body{place}": body for place, body in enumerate(places)}
    return {"file_name": name, "nbodys": counts, "njoints": NTU25.num_joints, **bodies, TRACKS: tracks}


def _boxed(content: dict[str, Any]) -> np.ndarray:
    box = np.empty((), object)
    box[()] = content
    return box
