"""The JSON files of NW-UCLA: reader, writer and conversion to a store.

They are apart from the data module so that preparing data does not import Lightning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from skelcl.data.convert import convert
from skelcl.data.formats import archives
from skelcl.data.formats.archives import find_members
from skelcl.data.formats.containers import decode, parse_json, short_repr
from skelcl.data.recording import DatasetInfo, Notice, ReadError, Recording, Source
from skelcl.data.store import SkeletonStore, StoreError, train_duplicates
from skelcl.skeleton import KINECT20

ACTIONS = {
    1: "pick up with one hand",
    2: "pick up with two hands",
    3: "drop trash",
    4: "walk around",
    5: "sit down",
    6: "stand up",
    8: "donning",
    9: "doffing",
    11: "throw",
    12: "carry",
}
"""Action number in the file name → class name; the data set has no actions 7 and 10."""

INFO = DatasetInfo(
    name="nw-ucla",
    skeleton=KINECT20,
    classes=tuple(ACTIONS.values()),
    reader=1,
    axes="Kinect v1 camera: y up, z away from the camera",
)
MAX_BYTES = 1 << 24
"""Larger sequences are refused unread; the longest of the data set has 0.2 MB."""
PUBLISHED = {1: 516, 2: 504, 3: 464}
"""Sequences of each view in the complete data set."""

_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})")
_LABELS = {action: label for label, action in enumerate(ACTIONS)}
# What C and Microsoft runtimes print for numbers that are none; JSON knows none of these spellings.
_NOT_A_NUMBER = re.compile(
    r"(?<=[\[,\s])[-+]?(1\.#(QNAN|SNAN|IND|INF)\d*|nan(\((ind|snan)\))?|inf(inity)?)(?=[\],\s])", re.IGNORECASE
)


def prepare(
    raw: Sequence[str | Path],
    root: str | Path = "data",
    *,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> SkeletonStore:
    """Converts the JSON files to the store ``<root>/nw-ucla`` and prints the size of its splits.

    Args:
        raw: ``all_sqe.zip``, or folders that hold it or its unpacked files at any depth.
        root: Folder of the stores.
        overwrite: Replace a complete store that was made from other files.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail; above it no store is written.
        jobs: Processes that read; default 1, which takes seconds.

    Returns:
        The store.

    Raises:
        StoreError: There are no such files, too many of them are damaged, or two of one name differ.
    """
    sources, kind, notices = find([Path(path) for path in raw])
    store = convert(
        root,
        INFO,
        sources,
        read,
        kind=kind,
        notices=notices,
        jobs=jobs,
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
    )
    print(summary(store))
    return store


def splits(index: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Training parts of the data set's protocols.

    Args:
        index: Columns of the store, each (N,).

    Returns:
        Name of the protocol → (N,) bool; all other clips are its test part.
    """
    return {f"test_view {view}": np.asarray(index["camera"] != view) for view in PUBLISHED}


def summary(store: SkeletonStore) -> str:
    """Sizes of the split of each test view, and how many test clips are copies of training clips.

    Args:
        store: The converted data set.

    Returns:
        A line for each split, and a warning when the counts are not the published ones.
    """
    cameras = store.index["camera"]
    counts = {view: int((cameras == view).sum()) for view in PUBLISHED}
    published = ", as published" if counts == PUBLISHED else ""
    lines = []
    for name, train in splits(store.index).items():
        test, copies = int((~train).sum()), int(train_duplicates(store.index["content"], train).sum())
        lines.append(
            f"{name}: train {int(train.sum())} / test {test}{published}; {copies} test sequences are copies of "
            f"training sequences (test_clean: {test - copies})"
        )
    if not published:
        found = ", ".join(f"{counts[view]} of {PUBLISHED[view]} in view {view}" for view in PUBLISHED)
        lines.append(f"warning: not the complete published data set, sequences found: {found}")
    return "\n".join(lines)


def find(raw: Sequence[Path]) -> tuple[list[Source], str, list[Notice]]:
    """Finds the sequences in zip files and folders.

    Args:
        raw: Zip files or folders; folders are searched at any depth, zip files in them as well.

    Returns:
        The sources; ``zip``, ``folder`` or ``folder+zip``; notices on files of other names and on identical copies.

    Raises:
        StoreError: A path is missing, a zip file is damaged, nothing was found, or two files of one name differ.
    """
    sources, kind, notices = find_members(
        raw,
        ".json",
        lambda name: name.endswith(".json") and _NAME.fullmatch(name.removesuffix(".json")) is not None,
        "all_sqe.zip or the folder of its files",
    )
    if not sources:
        places = ", ".join(map(str, raw))
        raise StoreError(f"no NW-UCLA sequences (a01_s01_e00_v01.json, …) in {places}: name all_sqe.zip or its folder")
    return sources, kind, notices


def read(where: archives.Member) -> list[Recording]:
    """Reads one sequence; any deviation from the format is an error, nothing is guessed.

    Args:
        where: File or (zip file, member).

    Returns:
        One recording.

    Raises:
        ReadError: The file is empty, damaged or not in the format.
    """
    return [parse(archives.read(where, MAX_BYTES), Path(where[2] or where[0]).stem, archives.show(where))]


def parse(data: bytes, stem: str, place: str) -> Recording:
    """Turns the bytes of one JSON file into a recording.

    Args:
        data: Content of the file; a UTF-8 byte order mark is allowed.
        stem: Name of the file without ``.json``.
        place: Name of the file in error messages.

    Returns:
        The recording, joints (1, T, 20, 3).

    Raises:
        ReadError: The content is not in the format.
    """
    action, subject, episode, view = (int(number) for number in _NAME.fullmatch(stem).groups())  # type: ignore[union-attr]
    if action not in _LABELS or view not in PUBLISHED:
        raise ReadError("name", f"{place}: the data set has no action {action} in view {view}")
    joints, content = skeletons(data, place)
    label = _LABELS[action]
    found = short_repr(content["label"])
    if type(content["label"]) is not int or content["label"] != label + 1:
        raise ReadError("label", f"{place}: label is {found}, but action a{action:02d} has {label + 1}")
    warnings = []
    if content["file_name"] != stem:
        warnings.append(f"file_name says {short_repr(content['file_name'])}; the name of the file is trusted")
    return Recording(
        stem, joints, label, subject, camera=view, replication=episode, label_original=action - 1, warnings=warnings
    )


def skeletons(data: bytes, place: str) -> tuple[np.ndarray, dict[str, object]]:
    """Coordinates (1, T, 20, 3) of the bytes of one JSON file, and what else it holds.

    Raises:
        ReadError: The content is not in the format.
    """
    if not data.strip():
        raise ReadError("empty", f"{place}: the file is empty")
    content = _decode(data, place)
    if not isinstance(content, dict) or set(content) != {"file_name", "label", "skeletons"}:
        found = short_repr(sorted(content)) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ReadError("keys", f"{place}: expected the keys file_name, label and skeletons, found {found}")
    return _coordinates(content["skeletons"], place), content


def _decode(data: bytes, place: str) -> object:
    text = decode(data, place)
    try:
        return parse_json(text, place)
    except ReadError:
        # Same width, so that the position of a further error stays true.
        return parse_json(_NOT_A_NUMBER.sub(lambda match: "NaN".ljust(len(match[0])), text), place)


def _coordinates(frames: object, place: str) -> np.ndarray:
    """Nested lists → (1, T, 20, 3) float32, each length and type checked."""
    if not isinstance(frames, list):
        raise ReadError("skeletons", f"{place}: skeletons is a {type(frames).__name__}, not a list of frames")
    if not frames:
        raise ReadError("no_skeleton", f"{place}: no frames")
    num_joints = KINECT20.num_joints
    for t, frame in enumerate(frames):
        if not isinstance(frame, list) or len(frame) != num_joints:
            found = len(frame) if isinstance(frame, list) else f"a {type(frame).__name__}"
            raise ReadError("joints", f"{place}: frame {t} has {found} instead of {num_joints} joints")
    joints = list(chain.from_iterable(frames))
    for n, joint in enumerate(joints):
        if not isinstance(joint, list) or len(joint) != 3:
            t, v = divmod(n, num_joints)
            raise ReadError("coordinates", f"{place}: frame {t} joint {v} is {short_repr(joint)}, not three numbers")
    numbers = list(chain.from_iterable(joints))
    if not set(map(type, numbers)) <= {int, float}:
        n = next(n for n, number in enumerate(numbers) if type(number) not in (int, float))
        t, v = divmod(n // 3, num_joints)
        raise ReadError(
            "coordinates", f"{place}: frame {t} joint {v} holds {short_repr(numbers[n])}, which is no number"
        )
    try:
        wide = np.array(numbers, np.float64)
    except OverflowError as error:
        raise ReadError("coordinates", f"{place}: holds a number beyond float64") from error
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite, hence missing
        return wide.astype(np.float32).reshape(1, len(frames), num_joints, 3)


def sequence_id(label: int, subject: int, episode: int, view: int) -> str:
    """Name of a sequence: ``sequence_id(0, 1, 0, 3)`` is ``a01_s01_e00_v03``; labels count from 0."""
    return f"a{list(ACTIONS)[label]:02d}_s{subject:02d}_e{episode:02d}_v{view:02d}"


def write_json(folder: str | Path, recording: Recording) -> Path:
    """Writes a recording as the data set does: six significant digits, missing joints as zeros.

    Args:
        folder: Existing folder.
        recording: One body of 20 joints; its id must be the :func:`sequence_id` of its other fields.

    Returns:
        The file.

    Raises:
        ValueError: The recording does not fit the format.
    """
    expected = sequence_id(recording.label, recording.subject, recording.replication, recording.camera)
    if recording.id != expected:
        raise ValueError(f"recording {recording.id!r} must be called {expected!r} after its label, subject and view")
    joints = np.nan_to_num(np.asarray(recording.joints, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if joints.shape[:1] != (1,) or joints.shape[2:] != (KINECT20.num_joints, 3):
        raise ValueError(f"recording {recording.id!r} has joints {joints.shape}, not (1, T, {KINECT20.num_joints}, 3)")
    frame = "[" + ", ".join(["[%.6g, %.6g, %.6g]"] * KINECT20.num_joints) + "]"
    skeletons = ", ".join([frame] * joints.shape[1]) % tuple(joints.ravel().tolist())
    file = Path(folder) / f"{recording.id}.json"
    file.write_text(
        f'{{"file_name": "{recording.id}", "skeletons": [{skeletons}], "label": {recording.label + 1}}}', "utf-8"
    )
    return file
