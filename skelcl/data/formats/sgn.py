"""The ``raw_skes_data.pkl`` that the first step of SGN's scripts writes: every body track of every NTU RGB+D clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skelcl.data.bodies import BodyFrames, select
from skelcl.data.formats import ntu_release as ntu
from skelcl.data.formats import pickles
from skelcl.data.formats.arrays import OpenedDataset, as_float32, check_names, class_names, is_ntu, recording
from skelcl.data.formats.containers import bounded
from skelcl.data.formats.folders import crc32
from skelcl.data.formats.pickles import described
from skelcl.data.recording import Notice, ReadError, Recording, Source
from skelcl.data.store import SkeletonStore, fill_joints
from skelcl.errors import InputError
from skelcl.skeleton import NTU25

_KEYS = {"name", "num_frames", "data"}
CHOSEN = "selected"
"""Key that files of ours have beside SGN's own: the bodies were chosen, in this order."""


MAX_FRAMES = 100_000


class _Clip(NamedTuple):
    id: str
    num_frames: Any
    data: Any
    chosen: bool


# --- in ---------------------------------------------------------------------------------------------------------------


def open_sgn(path: Path) -> OpenedDataset | None:
    """Opens a pickle, which is loaded whole, as SGN does: it takes about its size in memory.

    Bodies are chosen with ``sgn`` as by ``skelcl data prepare``.

    Args:
        path: The file.

    Returns:
        The data set; None when the file is no such pickle.

    Raises:
        InputError: It is one, but damaged, names what is no array, or has names of other clips.
    """
    if not path.is_file() or pickles.holds(path) != "list":
        return None
    content = pickles.load(path)
    if not isinstance(content, list) or not content or not _fits(content[0]):
        return None
    pickles.unshared(path, (array.nbytes for item in content for array in _arrays(item)))
    names = []
    for n, item in enumerate(content):
        if not _fits(item):
            raise InputError(f"{path}: clip {n} is {described(item)}, not a dict with name, num_frames and data")
        if type(item["name"]) is not str:
            raise InputError(f"{path}: the name of clip {n} is {described(item['name'])}, not a text")
        names.append(item["name"].removesuffix(".skeleton"))
        if not is_ntu(names[-1:]):
            raise InputError(f"{path}: clip {n} is called {names[-1][:60]!r}, which is no clip of NTU RGB+D")
    labels = np.array([ntu_label(name) for name in names])
    check_names(names, labels, str(path))
    listed, notices = without_missing(names)
    fingerprint = crc32(path)
    sources = [
        Source(name, _Clip(name, item["num_frames"], item["data"], item.get(CHOSEN) is True), fingerprint)
        for name, item in zip(names, content, strict=True)
        if name not in listed
    ]
    classes = class_names(names, labels)
    summary = f"SGN raw_skes_data: {len(names):,} clips with all body tracks, {len(classes)} classes, recipe none"
    return OpenedDataset(summary, "sgn", sources, _read, classes, parameters={"bodies": "sgn"}, notices=notices)


def _arrays(item: Any) -> Iterator[np.ndarray]:
    """Coordinates of the bodies of a clip."""
    bodies = item["data"] if _fits(item) else None
    for body in bodies.values() if isinstance(bodies, dict) else ():
        if isinstance(body, dict) and isinstance(body.get("joints"), np.ndarray):
            yield body["joints"]


def _fits(item: Any) -> bool:
    return isinstance(item, dict) and item.keys() >= _KEYS


def ntu_label(name: str) -> int:
    """Class of a clip of NTU RGB+D, counted from 0."""
    return int(name[-3:]) - 1


def without_missing(names: list[str]) -> tuple[frozenset[str], list[Notice]]:
    """Names among those that the data set's authors list as missing skeletons, and a notice on each."""
    listed = ntu.missing_skeletons() & set(names)
    message = "listed among the missing skeletons"
    return listed, [
        Notice(id=name, outcome="skipped", reason="missing_list", message=message, line=None) for name in sorted(listed)
    ]


def _read(clip: _Clip) -> list[Recording]:
    label = ntu_label(clip.id)
    if type(clip.num_frames) is not int or not 0 <= clip.num_frames <= MAX_FRAMES:
        raise ReadError("frames", f"{clip.id}: num_frames is {described(clip.num_frames)}, not 0 to {MAX_FRAMES}")
    if not isinstance(clip.data, dict):
        raise ReadError("tracks", f"{clip.id}: data are {described(clip.data)}, not a dict of bodies")
    tracks = [_track(clip, described(key), body) for key, body in clip.data.items()]
    if not tracks:
        raise ReadError("no_skeleton", f"{clip.id}: has no body")
    bounded(4 * len(tracks) * clip.num_frames * NTU25.num_joints * 3, clip.id)
    if clip.chosen:
        joints = np.full((len(tracks), clip.num_frames, NTU25.num_joints, 3), np.nan, np.float32)
        for body, (at, track) in zip(joints, tracks, strict=True):
            body[at] = track
        return [recording(clip.id, joints, label)]
    tracks.sort(key=lambda track: int(track[0][0]))  # Python 2 did not keep the order of first appearance
    joints, remarks = select(body_frames(tracks, clip.num_frames), "sgn")
    if not len(joints):
        raise ReadError("no_skeleton", f"{clip.id}: no frame shows a body")
    return [recording(clip.id, joints, label, warnings=remarks)]


def _track(clip: _Clip, name: str, body: Any) -> tuple[np.ndarray, np.ndarray]:
    """Frames (n,) and coordinates (n, 25, 3) of a body."""
    place = f"{clip.id}: body {name}"
    if not isinstance(body, dict) or not body.keys() >= {"joints", "interval"}:
        raise ReadError("tracks", f"{place} is {described(body)}, not a dict with joints and interval")
    interval, joints = body["interval"], body["joints"]
    if isinstance(interval, np.ndarray) and interval.dtype.kind in "iu":
        interval = interval.ravel().tolist()
    if not isinstance(interval, list) or not interval or not all(type(frame) is int for frame in interval):
        raise ReadError("tracks", f"{place}: interval is {described(interval)}, not a list of frames")
    fits = len(interval) <= clip.num_frames and all(0 <= frame < clip.num_frames for frame in interval)
    at = np.array(interval if fits else [1, 0], np.int64)
    if (np.diff(at) < 1).any():
        raise ReadError("tracks", f"{place}: interval must ascend within {clip.num_frames} frames")
    expected = (len(at) * NTU25.num_joints, 3)
    if not isinstance(joints, np.ndarray) or joints.dtype.kind != "f" or joints.shape != expected:
        raise ReadError("tracks", f"{place}: joints are {described(joints)}, not {expected} for {len(at)} frames")
    return at, as_float32(joints).reshape(-1, NTU25.num_joints, 3)


def body_frames(tracks: list[tuple[np.ndarray, np.ndarray]], num_frames: int) -> BodyFrames:
    """Tracks in the order of their first frames as bodies of frames.

    Args:
        tracks: Frames (n,), ascending, and coordinates (n, V, 3) of each.
        num_frames: T.
    """
    frame = np.concatenate([at for at, _ in tracks])
    track = np.repeat(np.arange(len(tracks)), [len(at) for at, _ in tracks])
    order = np.lexsort((track, frame))
    frame = frame[order]
    slot = np.arange(len(frame)) - np.searchsorted(frame, frame)
    joints = np.concatenate([track for _, track in tracks])[order]
    return BodyFrames(joints, frame, slot, track[order], num_frames)


# --- out --------------------------------------------------------------------------------------------------------------


def write_sgn(store: SkeletonStore, folder: Path, splits: dict[str, np.ndarray]) -> list[str]:
    """Writes ``raw_skes_data.pkl``. The bodies of the store are its tracks.

    Frames without a body are cut out as SGN does, joints that were not seen are interpolated, pixels are NaN.

    Args:
        store: The store of NTU RGB+D, in camera space.
        folder: Where to write.
        splits: Not needed: names tell the parts.

    Returns:
        What was written and what is lost, line by line.

    Raises:
        InputError: The clips have no names of NTU RGB+D.
    """
    need_ntu(store, "sgn")
    cut, clips = 0, []
    for position, name in enumerate(store.ids.tolist()):
        joints = store.recording(position).copy()
        fill_joints(joints)
        seen = ~np.isnan(joints).all((2, 3))
        there = seen.any(0)
        cut += not there.all()
        joints, seen = joints[:, there], seen[:, there]
        bodies = {str(_FIRST_ID + m): _body(joints[m, seen[m]], seen[m], len(joints)) for m in range(len(joints))}
        clips.append({"name": name, "num_frames": int(there.sum()), "data": bodies, CHOSEN: True})
    with (folder / "raw_skes_data.pkl").open("wb") as stream:
        pickles.dump(clips, stream)
    lines = [f"raw_skes_data.pkl: {len(store)} clips, recipe none", "lost: places of the joints in the image are NaN"]
    return lines + ([f"lost: {cut} clips have frames without a body, which were cut out"] if cut else [])


_FIRST_ID = 72057594037900000


def _body(joints: np.ndarray, seen: np.ndarray, bodies: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "joints": joints.reshape(-1, 3),
        "colors": np.full((len(joints), NTU25.num_joints, 2), np.nan, np.float32),
        "interval": np.flatnonzero(seen).tolist(),
    }
    if bodies > 1:
        body["motion"] = np.array(joints.reshape(-1, 3).astype(np.float64).var(0).sum(), np.float32)
    return body


def need_ntu(store: SkeletonStore, format: str) -> None:
    """Refuses stores whose clips or joints the formats of NTU RGB+D cannot name.

    Raises:
        InputError: It is one.
    """
    if store.skeleton.num_joints != NTU25.num_joints or store.channels != 3 or not is_ntu(store.ids.tolist()):
        raise InputError(f"{store.path}: {format} files hold clips of NTU RGB+D alone: 25 joints, names like S001C001…")
