"""The ``.skeleton`` files of NTU RGB+D 60 and 120: reader, writer and conversion to a store."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from skelcl.data.bodies import BodyFrames, Selection, select
from skelcl.data.convert import DatasetInfo, Notice, ReadError, Recording, Source, convert
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.skeleton import NTU25

Release = Literal["ntu60", "ntu120"]

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
"""Setup, camera, performer, replication and action, all counted from 1."""
TRAIN_PERFORMERS = (
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38,
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
)  # fmt: skip
"""Training part of ``xsub``; the first twenty are those of NTU-60."""
PUBLISHED: dict[str, dict[str, tuple[int, int]]] = {
    "ntu60": {"xsub": (40091, 16487), "xview": (37646, 18932)},
    "ntu120": {"xsub": (63026, 50919), "xset": (54468, 59477)},
}
"""Training and test clips of each protocol when everything but the listed missing skeletons is there."""
NOVEL_ACTIONS = tuple(range(1, 121, 6))
"""Actions of NTU-120's one-shot protocol that training must not see."""
MAX_COUNT = 100_000
MAX_BYTES = 1 << 26
"""Larger files are refused unread; 300 frames of two bodies have 1.5 MB."""

_LINES = 2 + NTU25.num_joints
"""Lines of a body: header, number of joints, joints."""
_PLAIN = b"0123456789+-.eE \n"
# What C and Microsoft runtimes print for numbers that are none.
_NOT_A_NUMBER = re.compile(
    rb"[-+]?(1\.#(QNAN|SNAN|IND|INF)\d*|nan(\((ind|snan)\))?|inf(inity)?)", re.IGNORECASE
)  # fmt: skip


@cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(files("skelcl.data").joinpath("resources", "ntu_rgbd.json").read_text("utf-8"))
    return facts


def missing_skeletons() -> frozenset[str]:
    """Names that the data set's authors list as missing or incomplete: 535, of which 302 belong to NTU-60."""
    return frozenset(f"{group}A{action:03d}" for group, actions in _facts()["missing"].items() for action in actions)


@cache
def info(release: Release) -> DatasetInfo:
    """Description of the store of NTU-60 or NTU-120."""
    return DatasetInfo(
        name=release,
        skeleton=NTU25,
        classes=tuple(_facts()["classes"][: 60 if release == "ntu60" else 120]),
        reader=1,
        axes="Kinect v2 camera: y up, z away from the camera",
        fps=30.0,
    )


def fields(name: str) -> tuple[int, int, int, int, int] | None:
    """Setup, camera, performer, replication and action of a name such as ``S001C002P003R002A013``; None for others."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    setup, camera, performer, replication, action = map(int, match.groups())
    return setup, camera, performer, replication, action


def belongs(name: str, release: Release) -> bool:
    """Whether a name lies in the ranges of a release: setups 1–17 show actions 1–60, setups 18–32 actions 61–120."""
    numbers = fields(name)
    if numbers is None:
        return False
    setup, camera, performer, replication, action = numbers
    first = 1 <= setup <= 17 and 1 <= action <= 60 and performer <= 40
    second = release == "ntu120" and 18 <= setup <= 32 and 61 <= action <= 120 and performer <= 106
    return (first or second) and performer >= 1 and 1 <= camera <= 3 and 1 <= replication <= 2


# --- splits -----------------------------------------------------------------------------------------------------------


def splits(release: Release, index: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Training parts of the official protocols.

    Args:
        release: ``ntu60`` or ``ntu120``.
        index: Columns of the store, each (N,).

    Returns:
        Name of the protocol → (N,) bool; all other clips are its test part.
    """
    xsub = np.isin(index["subject"], TRAIN_PERFORMERS)
    if release == "ntu60":
        return {"xsub": xsub, "xview": np.asarray(index["camera"] != 1)}
    return {"xsub": xsub, "xset": np.asarray(index["setup"] % 2 == 0)}


def one_shot(index: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """NTU-120's one-shot protocol: which clips show novel actions, and which of these are the exemplars.

    Args:
        index: Columns of the store, each (N,).

    Returns:
        (N,) bool twice; the novel clips that are no exemplars are the queries.
    """
    novel = np.isin(index["label"], np.array(NOVEL_ACTIONS) - 1)
    names = [f"S{1 if action <= 55 else 18:03d}C003P008R001A{action:03d}" for action in NOVEL_ACTIONS]
    return novel, np.isin(index["id"], names)


def difference(release: Release, index: dict[str, np.ndarray]) -> str:
    """What sets a store apart from the complete data set; empty when its splits have the published sizes."""
    parts = []
    for name, train in splits(release, index).items():
        found = int(train.sum()), int((~train).sum())
        if found != PUBLISHED[release][name]:
            published = PUBLISHED[release][name]
            parts.append(f"{name} train {found[0]} of {published[0]}, test {found[1]} of {published[1]}")
    return "; ".join(parts)


def summary(store: SkeletonStore) -> str:
    """Sizes of the splits, and a warning when they are not the published ones.

    Args:
        store: The converted data set.

    Returns:
        A line for each split, perhaps one more.
    """
    release: Release = store.meta["dataset"]
    lines = []
    for name, train in splits(release, store.index).items():
        found = int(train.sum()), int((~train).sum())
        same = ", as published" if found == PUBLISHED[release][name] else ""
        lines.append(f"{name}: train {found[0]} / test {found[1]}{same}")
    if missing := difference(release, store.index):
        lines.append(f"warning: not the complete published data set: {missing}")
    return "\n".join(lines)


# --- conversion -------------------------------------------------------------------------------------------------------


def prepare(
    raw: Sequence[str | Path],
    root: str | Path = "data",
    release: Release = "ntu60",
    *,
    bodies: Selection = "sgn",
    compact_gaps: bool = False,
    missing: str = "default",
    salvage: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> SkeletonStore:
    """Converts ``.skeleton`` files to the store ``<root>/ntu60`` or ``<root>/ntu120`` and prints its splits.

    Args:
        raw: Folders that hold the files at any depth.
        root: Folder of the stores.
        release: ``ntu60`` takes setups 1–17 alone, ``ntu120`` all.
        bodies: Which two bodies are kept, see :func:`skelcl.data.bodies.select`.
        compact_gaps: Whether ``sgn`` closes gaps in time, as published.
        missing: Files to leave out: ``default`` for the list of the data set's authors, ``none``, or a file of names.
        salvage: Keep the complete frames of files that end too early.
        overwrite: Replace a complete store that was made from other files or with other options.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail; above it no store is written.
        jobs: Processes that read; by default all processors when there are many files.

    Returns:
        The store.

    Raises:
        StoreError: There are no such files, too many of them are damaged, or two of one name differ.
    """
    skip, described = _listed(missing)
    sources, notices = find([Path(path) for path in raw], release, skip)
    store = convert(
        root,
        info(release),
        sources,
        partial(read, bodies=bodies, compact_gaps=compact_gaps, salvage=salvage),
        kind="folder",
        parameters={"bodies": bodies, "compact_gaps": compact_gaps, "missing": described, "salvage": salvage},
        notices=notices,
        jobs=jobs,
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
    )
    print(summary(store))
    return store


def _listed(missing: str) -> tuple[frozenset[str], str]:
    """Names to leave out and how ``meta.json`` describes them."""
    if missing in ("default", "none"):
        return missing_skeletons() if missing == "default" else frozenset(), missing
    try:
        text = Path(missing).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{missing}: not a list of names; --missing takes default, none or a text file") from error
    # The official lists begin with prose, copies of them do not.
    names = frozenset(line.strip().removesuffix(".skeleton") for line in text.splitlines())
    names = frozenset(name for name in names if NAME.fullmatch(name))
    if not names:
        raise StoreError(f"{missing}: holds no name like S001C002P003R002A013, one per line")
    return names, hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def find(raw: Sequence[Path], release: Release, skip: frozenset[str]) -> tuple[list[Source], list[Notice]]:
    """Finds the files of a release below some folders.

    Args:
        raw: Folders, searched at any depth, or single files.
        release: ``ntu60`` or ``ntu120``.
        skip: Names to leave out.

    Returns:
        The sources; notices on files that were skipped, on other names, and on identical copies.

    Raises:
        StoreError: A folder is missing, nothing was found, or two files of one name differ.
    """
    found: dict[str, list[Path]] = {}
    others: list[str] = []
    outside: list[str] = []
    for place in raw:
        if not place.exists():
            raise StoreError(f"{place} does not exist: --raw takes the folders with the unpacked .skeleton files")
        for file in _below(place):
            if file.suffix != ".skeleton" or not NAME.fullmatch(file.stem):
                others.append(str(file))
            elif not belongs(file.stem, release):
                outside.append(str(file))
            else:
                found.setdefault(file.stem, []).append(file)
    notices = [
        Notice(id="", outcome="skipped", reason=reason, message=f"{len(paths)} {what} {min(paths)}", line=None)
        for reason, what, paths in (
            ("other_name", "files of other names were ignored, for example", others),
            ("other_release", f"files are no part of {release} and were ignored, for example", outside),
        )
        if paths
    ]
    for name in sorted(skip & found.keys()):
        del found[name]
        message = "listed among the missing skeletons"
        notices.append(Notice(id=name, outcome="skipped", reason="missing_list", message=message, line=None))
    if not found:
        places = ", ".join(map(str, raw))
        hint = "; unpack the archives first" if any(name.endswith(".zip") for name in others) else ""
        raise StoreError(f"no {release} files (S001C001P001R001A001.skeleton, …) to read in {places}{hint}")
    paths = [file for places in found.values() for file in places]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # Tens of gigabytes are read here, so a person at a terminal is shown how far it is.
        bar = tqdm(pool.map(_checksum, paths), f"{release} checksums", len(paths), disable=None, unit="file")
        checksums = iter(list(bar))
    sources = []
    for name, (first, *copies) in found.items():
        fingerprint = next(checksums)
        sources.append(Source(name, str(first), fingerprint))
        for copy in copies:
            if next(checksums) != fingerprint:
                raise StoreError(f"{name} occurs twice with different content: {first} and {copy}")
            if not os.path.samefile(first, copy):
                message = f"{copy} is an identical copy"
                notices.append(Notice(id=name, outcome="skipped", reason="copy", message=message, line=None))
    return sources, notices


def _below(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    return sorted(Path(folder) / name for folder, _, names in os.walk(place) for name in names)


def _checksum(file: Path) -> str:
    checksum = size = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
    return f"{size}:{checksum:08x}"


def read(where: str, bodies: Selection = "sgn", compact_gaps: bool = False, salvage: bool = False) -> list[Recording]:
    """Reads one file and chooses its bodies.

    Args:
        where: The file; its name is trusted for everything but the coordinates.
        bodies: See :func:`skelcl.data.bodies.select`.
        compact_gaps: See :func:`skelcl.data.bodies.sgn`.
        salvage: Keep the complete frames of a file that ends too early.

    Returns:
        One recording.

    Raises:
        ReadError: The file is empty, damaged, not in the format, or shows nobody.
    """
    path = Path(where)
    setup, camera, performer, replication, action = fields(path.stem)  # type: ignore[misc]
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ReadError("size", f"{where}: has {path.stat().st_size} bytes, which no NTU file has")
        data = path.read_bytes()
    except OSError as error:
        raise ReadError("damaged", f"{where}: cannot be read ({error.strerror})") from error
    content = parse(data, where, salvage)
    joints, remarks = select(content.bodies, bodies, compact_gaps)
    if not len(joints):
        raise ReadError("no_skeleton", f"{where}: no frame shows a body")
    return [
        Recording(
            path.stem,
            joints,
            action - 1,
            performer,
            camera,
            setup,
            replication,
            n_frames_declared=content.n_frames_declared,
            warnings=content.warnings + remarks,
        )
    ]


# --- the text ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SkeletonFile:
    """What a ``.skeleton`` file holds.

    Args:
        bodies: All bodies of all frames; slots and frames are those of the file.
        ids: Body id of each track; two tracks have one id when a frame names it twice.
        n_frames_declared: Frames that the first line claims.
        warnings: Oddities that were accepted.
    """

    bodies: BodyFrames
    ids: tuple[int, ...]
    n_frames_declared: int
    warnings: list[str]


def parse(data: bytes, place: str, salvage: bool = False) -> SkeletonFile:
    """Turns the bytes of one file into body tracks; any deviation from the format is an error, nothing is guessed.

    Only x, y and z are kept; the other nine values of a joint, and of a header all but the id, are counted. Ids remain
    integers: they lie above 2^56, where neighbouring float64 are 16 apart and people would merge. Values that are not
    finite are NaN. CRLF, tabs, repeated and trailing blanks and a UTF-8 byte order mark are allowed.

    Args:
        data: Content of the file.
        place: Name of the file in error messages.
        salvage: Keep the complete frames of a file that ends too early.

    Returns:
        The tracks.

    Raises:
        ReadError: The content is not in the format.
    """
    text = _Text(data, place)
    declared = num_frames = text.count(0, "number of frames")
    line = 1
    heads: list[int] = []  # per body of a frame, as the three lists below
    frames: list[int] = []
    slots: list[int] = []
    keys: list[tuple[int, int]] = []  # id, and how often the frame had it before
    warnings: list[str] = []
    whole = frame = 0
    try:
        for frame in range(declared):
            whole = len(heads)
            named: dict[int, int] = {}
            size = text.count(line, "number of bodies")
            line += 1
            for slot in range(size):
                body = text.body(line)
                heads.append(line)
                frames.append(frame)
                slots.append(slot)
                keys.append((body, named.get(body, 0)))
                named[body] = keys[-1][1] + 1
                line += _LINES
    except ReadError as error:
        if not salvage or error.reason != "truncated" or frame == 0:
            raise
        for values in (heads, frames, slots, keys):
            del values[whole:]
        num_frames = frame
        warnings.append(f"the file ends in line {error.line}: {frame} of {declared} frames were kept")
    else:
        if line < len(text):
            raise text.error("leftover", line, f"{text.shown(line)} follows the last of {declared} frames")
    joints = text.joints(heads)
    tracks: dict[tuple[int, int], int] = {}
    track = [tracks.setdefault(key, len(tracks)) for key in keys]
    for body in sorted({body for body, before in tracks if before}):
        warnings.append(f"body id {body} occurs several times in one frame: they became tracks of their own")
    bodies = BodyFrames(
        joints, np.array(frames, np.int64), np.array(slots, np.int64), np.array(track, np.int64), num_frames
    )
    return SkeletonFile(bodies, tuple(body for body, _ in tracks), declared, warnings)


class _Text:
    """Lines and words of a file as places in its bytes; words are found and converted for the whole file at once."""

    def __init__(self, data: bytes, place: str) -> None:
        self.place = place
        # Dropping every CR takes a fifth of the time of replacing CRLF; one inside a line can only make it illegal.
        data = data.removeprefix(b"\xef\xbb\xbf").translate(None, b"\r")
        if not data.strip():
            raise ReadError("empty", f"{place}: the file is empty")
        # Whoever cuts a file rarely hits the end of a line: a broken last line without one is a sign of that.
        self.unfinished = not data.rstrip(b" \t").endswith(b"\n")
        data = data.rstrip() + b"\n"
        if data.translate(None, _PLAIN):
            data = self._spelled(data)
        self._split(data)
        if (self.end == self.start).any():
            self._split(b"\n".join(b" ".join(row.split()) for row in data.split(b"\n")))

    def _split(self, data: bytes) -> None:
        self.data = data
        self.bytes = np.frombuffer(data, np.uint8)
        self.end = np.flatnonzero(self.bytes <= 32)
        self.start = np.concatenate([[0], self.end[:-1] + 1])
        last = np.flatnonzero(self.bytes[self.end] == 10)
        self.first = np.concatenate([[0], last[:-1] + 1])
        self.widths = (last + 1 - self.first).tolist()  # words of each line
        self.starts, self.ends = self.start[self.first].tolist(), self.end[last].tolist()

    def _spelled(self, data: bytes) -> bytes:
        """The same lines with single blanks and one spelling for what is no number."""
        rows = []
        for number, row in enumerate(data.split(b"\n")):
            words = row.split()
            if row.translate(None, _PLAIN):
                for n, word in enumerate(words):
                    if not word.translate(None, _PLAIN):
                        continue
                    if not _NOT_A_NUMBER.fullmatch(word):
                        why = "has a decimal comma" if b"," in word else "is no number"
                        raise ReadError("number", f"{self.place}: {_quoted(word)} {why}", number + 1)
                    words[n] = b"nan"
            rows.append(b" ".join(words))
        return b"\n".join(rows)

    def __len__(self) -> int:
        return len(self.widths)

    def shown(self, line: int) -> str:
        return _quoted(self.data[self.starts[line] : self.ends[line]])

    def error(self, reason: str, line: int, message: str) -> ReadError:
        if self.unfinished and line >= len(self) - 1:
            reason, message = "truncated", "the file ends within a line"
        return ReadError(reason, f"{self.place}: {message}", line + 1)

    def need(self, line: int) -> None:
        if line >= len(self):
            raise ReadError("truncated", f"{self.place}: the file ends too early", len(self))

    def count(self, line: int, what: str) -> int:
        self.need(line)
        word = self.data[self.starts[line] : self.ends[line]]
        if not word.isdigit() or len(word) > 20 or (number := int(word)) > MAX_COUNT:
            raise self.error("count", line, f"{self.shown(line)} is not a {what}, 0 to {MAX_COUNT}")
        return number

    def body(self, line: int) -> int:
        """Checks the lines of a body and returns its id."""
        self.need(line)
        if self.widths[line] != 10:
            raise self.error("header", line, f"not an NTU file, {self.shown(line)} is not a body header of 10 values")
        word = self.data[self.starts[line] : self.end[self.first[line]]]
        if not word.isdigit() or len(word) > 20:
            raise self.error("header", line, f"body id {_quoted(word)} is not a whole number")
        if (joints := self.count(line + 1, "number of joints")) != NTU25.num_joints:
            raise self.error("joint_count", line + 1, f"not an NTU file, {joints} joints instead of 25")
        if self.widths[line + 2 : line + _LINES] != _JOINT_WIDTHS:
            for n in range(line + 2, line + _LINES):
                self.need(n)
                if self.widths[n] != 12:
                    raise self.error("joint", n, f"not an NTU file, {self.shown(n)} is not a joint of 12 values")
        return int(word)

    def joints(self, heads: Sequence[int]) -> np.ndarray:
        """Coordinates of the bodies whose headers are in these lines, (K, 25, 3) float32."""
        lines = np.array(heads, np.int64)[:, None] + np.arange(2, _LINES)
        words = (self.first[lines][..., None] + np.arange(3)).ravel()
        values, exact = decimals(self.bytes, self.start[words], self.end[words])
        for n in np.flatnonzero(~exact).tolist():
            word = self.data[self.start[words[n]] : self.end[words[n]]]
            try:
                values[n] = float(word)
            except ValueError:
                line = int(lines.flat[n // 3])
                raise self.error("number", line, f"{_quoted(word)} is no number") from None
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, hence missing
            joints = values.astype(np.float32).reshape(-1, NTU25.num_joints, 3)
        joints[~np.isfinite(joints)] = np.nan
        return joints


_JOINT_WIDTHS = [12] * NTU25.num_joints


def decimals(text: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts plain decimal numbers such as ``-0.2181153``, all at once.

    Up to 2^53 the digits are a float64 without error, and so are powers of ten up to 10^22; their quotient is then
    the nearest float64, as from ``float`` (Clinger, PLDI 1990).

    Args:
        text: Bytes, (L,) uint8.
        start: Place of the first character of each number, (n,).
        end: Place after its last one, (n,).

    Returns:
        The values, (n,) float64, and whether each could be converted, (n,) bool; others (exponents, many digits, NaN)
        are left to ``float``.
    """
    length = end - start
    width = min(int(length.max(initial=1)), 18)
    padded = np.concatenate([text, np.zeros(width, np.uint8)])
    characters = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, width)[start].T)
    characters *= np.arange(width)[:, None] < length
    digit = characters - np.uint8(ord("0"))  # wraps around below "0"
    number, point = digit < 10, characters == ord(".")
    digit *= number
    factor = 1 + 9 * number.astype(np.uint8)
    value = np.zeros(len(start), np.int64)
    decimal_places, after_point = np.zeros(len(start), np.uint8), np.zeros(len(start), bool)
    for n in range(width):
        value *= factor[n]
        value += digit[n]
        after_point |= point[n]
        decimal_places += number[n] & after_point
    negative = text[start] == ord("-")
    digits, points = number.sum(0, np.uint8), point.sum(0, np.uint8)
    exact = (digits > 0) & (points <= 1) & (digits + points + negative == length) & (value <= 1 << 53)
    values = value / (10.0 ** np.arange(width + 1))[decimal_places]
    return np.where(negative, -values, values), exact


def _quoted(text: bytes) -> str:
    shown = text.decode("ascii", "replace")
    return repr(shown if len(shown) <= 60 else f"{shown[:57]}...")


# --- writing ----------------------------------------------------------------------------------------------------------


def write_skeleton(file: str | Path, bodies: BodyFrames, ids: Sequence[int], newline: str = "\r\n") -> Path:
    """Writes a recording as the data set does; float32 coordinates come back bit by bit.

    Pixels are those of ideal cameras, orientations turn +y to the bone; neither is ever read.

    Args:
        file: The file, named like ``S001C002P003R002A013.skeleton``.
        bodies: All bodies of all frames, in the order of frames and slots.
        ids: Body id of each track.
        newline: End of a line, CRLF as in the original distribution.

    Returns:
        The file.
    """
    joints = np.asarray(bodies.joints, np.float64)
    away = np.where(joints[..., 2:] > 0.1, joints[..., 2:], np.nan)  # nothing behind the camera has a pixel
    plane = joints[..., :2] / away * [1.0, -1.0]
    bone = joints - joints[:, list(NTU25.parents)]
    length = np.sqrt((bone * bone).sum(-1, keepdims=True))
    x, y, z = np.moveaxis(bone / np.where(length > 0, length, 1.0), -1, 0)
    turn = np.stack([1.0 + y, z, np.zeros_like(x), -x], -1)
    norm = np.sqrt((turn * turn).sum(-1, keepdims=True))
    turn /= np.where(norm > 0, norm, 1.0)
    turn[:, _LEAVES] = 0.0
    tracked = np.full((*joints.shape[:2], 1), 2.0)
    rows = np.concatenate([joints, 365.0 * plane + [256, 212], 1081.0 * plane + [960, 540], turn, tracked], -1)
    row = " ".join(["%.9g"] * 3 + ["%.7g"] * 8 + ["%d"])
    pattern = newline.join([str(NTU25.num_joints), *[row] * NTU25.num_joints])
    per_frame = np.bincount(bodies.frame, minlength=bodies.num_frames).tolist()
    out, k = [str(bodies.num_frames)], 0
    for size in per_frame:
        out.append(str(size))
        for _ in range(size):
            out.append(f"{ids[int(bodies.track[k])]} 0 1 1 1 1 0 0.01119184 -0.256052 2")
            out.append(pattern % tuple(rows[k].ravel().tolist()))
            k += 1
    path = Path(file)
    path.write_bytes((newline.join(out) + newline).encode("ascii"))
    return path


_LEAVES = [3, 15, 19, 21, 22, 23, 24]
