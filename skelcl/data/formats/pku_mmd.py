"""The text files of PKU-MMD: readers of skeletons, labels and splits, writers, and conversion to a store.

Both parts are untrimmed videos of two bodies in 25 joints. Every labelled interval becomes a clip of its own; what lies
between them is left out. The readers take nothing for granted: a row that is not what the format says is an error with
its number.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from skelcl.data.convert import DatasetInfo, Notice, ReadError, Recording, Source, convert
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.skeleton import NTU25

Part = Literal[1, 2]
Split = Literal["xsub", "xview"]
Cut = Literal["half_open", "one_based_inclusive", "zero_based_inclusive"]
Order = Literal["stored", "energy"]

_FACTS = json.loads(files("skelcl.data").joinpath("resources/pku_mmd.json").read_text("utf-8"))
ACTIONS: tuple[str, ...] = tuple(_FACTS["classes"])
"""Class names of both parts; the files number them from 1."""
PRESENT: dict[int, tuple[int, ...]] = {
    1: tuple(range(len(ACTIONS))),
    2: tuple(label for label in range(len(ACTIONS)) if label + 1 not in _FACTS["absent_from_part_2"]),
}
"""Part → the classes that it contains, counted from 0; a dense label is a position in this."""
INFO = {
    part: DatasetInfo(
        name=f"pku-mmd-{part}",
        skeleton=NTU25,
        classes=tuple(ACTIONS[label] for label in present),
        reader=1,
        axes="Kinect v2 camera: y up, z away from the camera",
        fps=30.0,
    )
    for part, present in PRESENT.items()
}
VIEWS = {"L": 1, "M": 2, "R": 3}
"""Letter in the name of a video → camera."""
PARTS: tuple[Part, Part] = (1, 2)
SPLITS: tuple[Split, Split] = ("xsub", "xview")
PUBLISHED = {(1, "xsub"): (18841, 2704), (1, "xview"): (14357, 7188), (2, "xsub"): (5332, 1613)}
"""Part and split → training and test clips as papers report them; conventions of cutting move them by a few."""

_NAMES = {1: re.compile(r"(\d{4})-([LMR])"), 2: re.compile(r"A(\d{2})N(\d{2})-([LMR])")}
_ANY_NAME = re.compile(r"(?<![0-9A-Za-z])(?:\d{4}|A\d{2}N\d{2})-[LMR](?![0-9A-Za-z])")
_EXAMPLES = {1: "0002-L.txt", 2: "A01N01-L.txt"}
_SUFFIXES = (".txt", ".skeleton", ".label")
_NUMBERS = 2 * NTU25.num_joints * 3  # of a row
_MAX_ROWS = 999  # of a label file: ids have three digits, so that they sort like the rows
_BOM = b"\xef\xbb\xbf"
# What C and Microsoft runtimes print for numbers that are none, beyond what Python understands.
_NOT_A_NUMBER = re.compile(rb"[-+]?(1\.#(QNAN|SNAN|IND|INF)\d*|nan\((ind|snan)\))", re.IGNORECASE)
_INTEGER = re.compile(r"[-+]?\d{1,9}")
_LONG = 200_000_000  # bytes of text above which reading takes longer than starting processes


class Interval(NamedTuple):
    """One row of a label file, as written.

    Args:
        label: Class, counted from 0.
        start: First frame.
        end: Last frame, or the one after it; the files do not say.
        line: Line of the file, counted from 1.
    """

    label: int
    start: int
    end: int
    line: int


# --- names and splits -------------------------------------------------------------------------------------------------


def videos(part: Part) -> list[str]:
    """Names of all videos of the complete data set: 1,076 of part 1, 1,009 of part 2."""
    if part == 1:
        names = [f"{n:04d}-{view}" for n in range(2, 365) if not 247 <= n <= 250 for view in VIEWS]
        missing = {"0060-L"}
    else:
        names = [f"A{a:02d}N{n:02d}-{view}" for a in range(1, 27) for n in range(1, 14) for view in VIEWS]
        missing = {"A05N04-M", "A07N12-M", "A08N12-M", "A14N12-M", "A20N01-M"}
    return [name for name in names if name not in missing]


def parse_name(name: str, part: Part) -> tuple[int, int, int]:
    """What the name of a video says.

    Args:
        name: Stem of its files, ``0002-L`` in part 1, ``A01N01-L`` in part 2.
        part: Part of the data set.

    Returns:
        Number of the recording (part 1) or session (part 2), which the store keeps as the setup; performer, −1 in part
        1, whose names do not tell; camera.

    Raises:
        ValueError: It is no name of this part.
    """
    match = _NAMES[part].fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no name of a video of part {part}, such as {_EXAMPLES[part][:-4]}")
    *numbers, view = match.groups()
    return int(numbers[0]), int(numbers[1]) if part == 2 else -1, VIEWS[view]


def is_test(name: str, part: Part, split: Split) -> bool:
    """Whether the official split has a video in its test part; it calls that part validation.

    The rules reproduce the distributed lists name by name. Cross-view holds out the middle view in part 1 and the left
    one in part 2.

    Args:
        name: Stem of the files of the video.
        part: Part of the data set.
        split: ``xsub`` (cross-subject) or ``xview`` (cross-view).

    Returns:
        True for the test part, False for the training part.
    """
    recording, subject, camera = parse_name(name, part)
    if split == "xview":
        return camera == VIEWS["M" if part == 1 else "L"]
    return 291 <= recording <= 334 if part == 1 else subject in (2, 3, 7)


def splits(index: dict[str, np.ndarray], part: Part) -> dict[str, np.ndarray]:
    """Training parts of the two protocols.

    Args:
        index: Columns of the store, each (N,).
        part: Part of the data set.

    Returns:
        Name of the protocol → (N,) bool; all other clips are its test part.
    """
    names, clip = np.unique(index["video"], return_inverse=True)
    return {
        split: np.array([not is_test(name, part, split) for name in names.tolist()], bool)[clip] for split in SPLITS
    }


def parse_split(data: bytes, place: str) -> dict[str, list[str]]:
    """Reads a split file: a heading and a line of names, twice.

    The headings begin with ``Train`` and ``Valid``, whatever follows (the distributed ones are misspelt); names are
    separated by commas or blanks, and lines may end in a comma.

    Args:
        data: Content of the file.
        place: Name of the file in error messages.

    Returns:
        ``train`` and ``test`` → names of videos in the order of the file.

    Raises:
        ReadError: It is no split file, or holds something else than names.
    """
    lists: dict[str, list[str]] = {}
    part: list[str] | None = None
    for number, raw in enumerate(data.removeprefix(_BOM).splitlines(), start=1):
        line = raw.decode("utf-8", "replace").strip()
        heading = re.match(r"(train|valid)", line, re.IGNORECASE)
        if heading:
            key = "train" if heading[1].lower() == "train" else "test"
            if key in lists:
                raise ReadError("split", f"{place}: a second heading {line!r:.40}", number)
            part = lists[key] = []
            continue
        words = [word for word in re.split(r"[,\s]+", line) if word]
        if words and part is None:
            raise ReadError("split", f"{place}: expected the heading 'Training videos:', found {line!r:.40}", number)
        wrong = [word for word in words if not _ANY_NAME.fullmatch(word)]
        if wrong:
            raise ReadError("split", f"{place}: {wrong[0]!r:.40} is no name of a video, such as 0002-L", number)
        if part is not None:
            part += words
    if set(lists) != {"train", "test"} or not all(lists.values()):
        raise ReadError("split", f"{place}: expected names under 'Training videos:' and under 'Validation videos:'")
    return lists


# --- one file ---------------------------------------------------------------------------------------------------------


def parse_skeleton(data: bytes, place: str) -> tuple[np.ndarray, int | None]:
    """Reads a skeleton file: a row per frame, 150 numbers separated by blanks, body 1 then body 2, x y z per joint.

    Args:
        data: Content of the file; CRLF, tabs, a byte order mark and empty lines at the end are harmless.
        place: Name of the file in error messages.

    Returns:
        Coordinates (2, T, 25, 3) float32, zeros or not finite where nothing was seen; then the line of a last row that
        is cut off and was left out, or None.

    Raises:
        ReadError: The file is empty, a row has more or fewer numbers, or something is no number.
    """
    lines = data.removeprefix(_BOM).rstrip().splitlines()
    if not lines:
        raise ReadError("empty", f"{place}: the file is empty")
    unended = data.rstrip(b" \t")[-1:] not in (b"\n", b"\r")
    # No more rows than the bytes can hold, so that a file of short lines reserves nothing.
    rows = np.empty((min(len(lines), len(data) // (2 * _NUMBERS - 1) + 1), _NUMBERS), np.float64)
    truncated = None
    for t, line in enumerate(lines):
        last = t == len(lines) - 1
        words = line.split()
        if len(words) < _NUMBERS and last and t:
            truncated = t + 1
            break
        if len(words) != _NUMBERS:
            raise ReadError("columns", f"{place}: row {t + 1} has {len(words)} instead of {_NUMBERS} numbers", t + 1)
        try:
            rows[t] = list(map(float, words))
            plain = b"_" not in line  # which Python allows between digits
        except ValueError:
            plain = False
        if not plain:
            column = _parse_words(words, rows[t])
            if column == _NUMBERS - 1 and last and unended and t:
                truncated = t + 1
                break
            if column is not None:
                word = words[column].decode("ascii", "backslashreplace")
                raise ReadError(
                    "number", f"{place}: row {t + 1}, column {column + 1}: {word!r:.40} is no number", t + 1
                )
    rows = rows[: len(lines) - (truncated is not None)]
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, hence missing
        joints = rows.astype(np.float32)
    return joints.reshape(len(rows), 2, NTU25.num_joints, 3).swapaxes(0, 1), truncated


def _parse_words(words: Sequence[bytes], row: np.ndarray) -> int | None:
    """Fills a row word by word, NaN for the spellings of none; returns the column of the first that is no number."""
    for column, word in enumerate(words):
        if _NOT_A_NUMBER.fullmatch(word):
            row[column] = np.nan
            continue
        try:
            row[column] = float(word)
        except ValueError:
            return column
        if b"_" in word:
            return column
    return None


def parse_labels(data: bytes, place: str, part: Part) -> list[Interval]:
    """Reads a label file: ``label,start,end,confidence`` per row, in any order, overlapping or not.

    Args:
        data: Content of the file; empty lines and commas at the end of a line are harmless. The confidence may be
            absent and is not used.
        place: Name of the file in error messages.
        part: Part of the data set; it decides which labels there are.

    Returns:
        The rows in the order of the file, as they are written.

    Raises:
        ReadError: The file is empty, a row has another form, or a label is none of this part.
    """
    intervals: list[Interval] = []
    for number, raw in enumerate(data.removeprefix(_BOM).splitlines(), start=1):
        text = raw.decode("utf-8", "backslashreplace").strip()
        if not text:
            continue
        fields = [field.strip() for field in text.rstrip(", \t").split(",")]
        if len(fields) not in (3, 4) or not all(map(_INTEGER.fullmatch, fields)):
            message = f"{place}: expected 'label,start,end,confidence' in whole numbers, found {text!r:.60}"
            raise ReadError("label_row", message, number)
        label, start, end = map(int, fields[:3])
        if not 1 <= label <= len(ACTIONS):
            raise ReadError("label", f"{place}: label {label} is outside 1…{len(ACTIONS)}", number)
        if label - 1 not in PRESENT[part]:
            raise ReadError("label", f"{place}: part {part} has no label {label} ({ACTIONS[label - 1]})", number)
        if len(intervals) == _MAX_ROWS:
            raise ReadError("label_row", f"{place}: more than {_MAX_ROWS} rows", number)
        intervals.append(Interval(label - 1, start, end, number))
    if not intervals:
        raise ReadError("empty", f"{place}: the file is empty")
    return intervals


def frames_of(start: int, end: int, cut: Cut) -> tuple[int, int]:
    """Frames that an interval means, counted from 0: the first one and the one after the last.

    Args:
        start: First number of the label row.
        end: Second number, not smaller.
        cut: ``half_open`` keeps start … end − 1 of frames counted from 0, as most codes do; ``one_based_inclusive``
            start … end of frames counted from 1, a start of 0 taken as 1 (AimCLR and its family);
            ``zero_based_inclusive`` start … end of frames counted from 0.

    Returns:
        A slice, possibly empty or outside the video.
    """
    if cut == "one_based_inclusive":
        return start - (start != 0), end
    return start, end + (cut == "zero_based_inclusive")


def read(
    where: tuple[Path, Path], part: Part, cut: Cut = "half_open", bodies: Order = "stored"
) -> Iterator[Recording | Notice]:
    """Cuts one video into its labelled clips.

    Args:
        where: Skeleton file and label file.
        part: Part of the data set.
        cut: How label rows count frames, see :func:`frames_of`.
        bodies: ``stored`` keeps the order of the file, ``energy`` puts the body whose coordinates spread more first.

    Yields:
        A recording of each row, called after the video and the row, with bodies that are never seen left out; notices
        on rows that were repaired or dropped.

    Raises:
        ReadError: One of the files cannot be used.
    """
    skeleton, label = where
    video = skeleton.stem
    setup, subject, camera = parse_name(video, part)
    joints, truncated = parse_skeleton(_content(skeleton), str(skeleton))
    intervals = parse_labels(_content(label), str(label), part)
    if truncated is not None:
        yield _notice(
            video, "warning", "truncated_row", f"{skeleton}: the last row is cut off, it was left out", truncated
        )
    total = joints.shape[1]
    present = _present(joints)
    for row, interval in enumerate(intervals):
        name = f"{video}_{row:03d}"
        where_from = f"{label}: {interval.start},{interval.end}"
        first, last = sorted((interval.start, interval.end))
        begin, stop = frames_of(first, last, cut)
        start, end = max(begin, 0), min(stop, total)
        if interval.start > interval.end:
            yield _notice(name, "repaired", "swapped", f"{where_from} ends before it starts, swapped", interval.line)
        if start >= end:
            message = f"{where_from} holds none of the {total} frames"
            yield _notice(name, "skipped", "empty_interval", message, interval.line)
            continue
        if (start, end) != (begin, stop):
            yield _notice(
                name, "repaired", "clamped", f"{where_from} leaves the {total} frames, clamped", interval.line
            )
        seen = np.asarray(present[:, start:end].any(1))
        if not seen.any():
            yield _notice(name, "skipped", "no_skeleton", f"{where_from} shows no body", interval.line)
            continue
        if not seen[0]:
            yield _notice(name, "repaired", "body_moved", f"{where_from} shows body 2 only, it became body 1", None)
        clip = joints[:, start:end][seen]
        if bodies == "energy" and len(clip) == 2 and _energy(clip[1]) > _energy(clip[0]):
            clip = clip[::-1]
        yield Recording(
            name,
            clip,
            label=PRESENT[part].index(interval.label),
            label_original=interval.label,
            subject=subject,
            camera=camera,
            setup=setup,
            video=video,
            start=start,
            end=end,
        )


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ReadError("damaged", f"{file}: cannot be read ({error.strerror or error})") from error


def _notice(
    name: str, outcome: Literal["skipped", "repaired", "warning"], reason: str, message: str, line: int | None
) -> Notice:
    return Notice(id=name, outcome=outcome, reason=reason, message=message, line=line)


def _missing(joints: np.ndarray) -> np.ndarray:
    """Joints that were not seen, (…, V) bool of (…, V, 3)."""
    return np.asarray((joints == 0).all(-1) | ~np.isfinite(joints).all(-1))


def _present(joints: np.ndarray) -> np.ndarray:
    """Frames in which at least half of the joints of a body were seen, (M, T) bool."""
    missing = _missing(joints)
    return np.asarray(2 * missing.sum(-1) <= missing.shape[-1])


def _energy(body: np.ndarray) -> float:
    """Standard deviations of x, y and z over all seen joints of (T, V, 3), summed; 2s-AGCN's measure."""
    return float(body[~_missing(body)].std(0, dtype=np.float64).sum())


# --- a data set -------------------------------------------------------------------------------------------------------


def prepare(
    raw: Sequence[str | Path],
    root: str | Path = "data",
    part: Part = 1,
    *,
    cut: Cut = "half_open",
    bodies: Order = "stored",
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> SkeletonStore:
    """Converts the text files to the store ``<root>/pku-mmd-<part>`` and prints the sizes of its splits.

    Args:
        raw: Folders that hold the unpacked skeleton and label files of the part at any depth, whatever else they hold.
        root: Folder of the stores.
        part: Part of the data set.
        cut: How label rows count frames, see :func:`frames_of`.
        bodies: Order of the bodies, see :func:`read`.
        overwrite: Replace a complete store that was made from other files.
        strict: Stop at the first video that cannot be read.
        max_failed: Share of the videos that may fail; above it no store is written.
        jobs: Processes; default 1 for a few videos, else the number of processors.

    Returns:
        The store.

    Raises:
        StoreError: There are no such files, too many of them are damaged, or two of one name differ.
    """
    sources, notices, size = find([Path(path) for path in raw], part)
    store = convert(
        root,
        INFO[part],
        sources,
        partial(read, part=part, cut=cut, bodies=bodies),
        kind="folder",
        parameters={"cut": cut, "bodies": bodies},
        notices=notices,
        jobs=jobs or (1 if size < _LONG else min(os.cpu_count() or 1, 16)),
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
        files_per_shard=8,  # a video of part 1 is minutes long
    )
    print(summary(store, part))
    return store


def summary(store: SkeletonStore, part: Part) -> str:
    """Sizes of the splits beside the published ones.

    Args:
        store: The converted data set.
        part: Its part.

    Returns:
        A line for each split, and a warning when videos are missing or unknown.
    """
    found = np.unique(store.index["video"])
    lines = []
    for split in SPLITS:
        train = splits(store.index, part)[split]
        held = np.array([is_test(name, part, split) for name in found.tolist()])
        line = f"{split}: train {int(train.sum())} / test {int((~train).sum())} clips"
        line += f" of {int((~held).sum())} / {int(held.sum())} videos"
        if (part, split) in PUBLISHED:
            line += " (published: {} / {} clips)".format(*PUBLISHED[part, split])
        lines.append(line)
    complete, present = set(videos(part)), set(found.tolist())
    if missing := sorted(complete - present):
        lines.append(
            f"warning: not the complete data set, {len(complete & present)} of {len(complete)} videos have clips here; "
            f"{len(missing)} are missing, for example {missing[0]}"
        )
    if unknown := sorted(present - complete):
        lines.append(f"warning: {len(unknown)} videos are not part of the data set, for example {unknown[0]}")
    return "\n".join(lines)


class _File(NamedTuple):
    path: Path
    kind: str  # skeleton, label, split, empty or unreadable
    fingerprint: str
    size: int


def find(raw: Sequence[Path], part: Part) -> tuple[list[Source], list[Notice], int]:
    """Finds the videos of a part: pairs of a skeleton and a label file of one stem, told apart by their content.

    Args:
        raw: Folders, searched at any depth.
        part: Part of the data set; files of the other part are left alone.

    Returns:
        The sources; notices on halves without partner, identical copies, files of other names and split files that
        contradict the official rules; the total size of the skeleton files in bytes.

    Raises:
        StoreError: A folder is missing, it holds no videos of this part, or two files of one name differ.
    """
    named: list[Path] = []
    others: list[Path] = []
    candidates: list[Path] = []
    for file in dict.fromkeys(file for path in raw for file in _list(path)):
        text = file.suffix.lower() in _SUFFIXES
        is_split = text and bool(re.search(r"cross.?(sub|view)", file.stem, re.IGNORECASE))
        (named if text and _NAMES[part].fullmatch(file.stem) else candidates if is_split else others).append(file)
    notices: list[Notice] = []
    known: dict[tuple[str, str], _File] = {}
    with ThreadPoolExecutor(4) as pool:
        looked_at = tqdm(pool.map(_inspect, named), desc="checksums", total=len(named), unit="file", disable=None)
        for file in looked_at:
            stem = file.path.stem
            first = known.setdefault((stem, file.kind), file)
            if first is file:
                continue
            if first.fingerprint != file.fingerprint:
                raise StoreError(f"{stem} occurs twice with different content: {first.path} and {file.path}")
            notices.append(_notice(stem, "skipped", "copy", f"{file.path} is an identical copy", None))
    sources: list[Source] = []
    size = 0
    for stem in sorted({stem for stem, _ in known}):
        halves = {
            kind: known[stem, kind] for kind in ("skeleton", "label", "empty", "unreadable") if (stem, kind) in known
        }
        if "skeleton" in halves and "label" in halves:
            pair = halves["skeleton"], halves["label"]
            sources.append(Source(stem, (pair[0].path, pair[1].path), f"{pair[0].fingerprint} {pair[1].fingerprint}"))
            size += pair[0].size
            continue
        path = next(iter(halves.values())).path
        bad = halves.get("empty") or halves.get("unreadable")
        if bad is not None:
            # As a source it counts as a file that failed.
            partner = halves.get("label") or bad
            sources.append(Source(stem, (bad.path, partner.path), f"{bad.fingerprint} {partner.fingerprint}"))
        elif "skeleton" in halves:
            notices.append(_notice(stem, "skipped", "no_label_file", f"{path} has no label file beside it", None))
        else:
            notices.append(_notice(stem, "skipped", "no_skeleton_file", f"{path} has no skeleton file beside it", None))
    for file in candidates:
        notices += _check_split(file, part)
    if others:
        message = f"{len(others)} files of other names were ignored, for example {min(others)}"
        notices.append(_notice("", "skipped", "other_name", message, None))
    if not sources:
        raise StoreError(_nothing_found(raw, part, bool(named), others))
    return sources, notices, size


def _nothing_found(raw: Sequence[Path], part: Part, halves: bool, others: Sequence[Path]) -> str:
    """Why there is nothing to convert, and what to do."""
    places = ", ".join(map(str, raw))
    message = f"no videos of part {part} (skeleton and label file {_EXAMPLES[part]}) in {places}"
    other: Part = 2 if part == 1 else 1
    archives = sorted(file for file in others if file.suffix.lower() in (".7z", ".zip", ".rar"))
    if halves:
        return f"{message}, only halves of pairs: name the folders of the skeletons and of the labels"
    if any(_NAMES[other].fullmatch(file.stem) for file in others):
        return f"{message}, but there are videos of part {other}: pass --part {other}"
    return f"{message}: " + (f"unpack {archives[0]} first" if archives else "name the folders of the unpacked archives")


def _list(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise StoreError(f"{path} does not exist: --raw takes the folders of the unpacked skeleton and label files")
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file


def _inspect(file: Path) -> _File:
    """Kind, size and checksum of a file of a video, in one pass and little memory."""
    size, checksum = 0, 0
    head = b""
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                head = head or block
                size += len(block)
                checksum = zlib.crc32(block, checksum)
    except OSError:
        return _File(file, "unreadable", "", 0)
    kind = file.suffix.lower()[1:]
    if kind == "txt":
        row = next((line for line in head.removeprefix(_BOM).splitlines() if line.strip()), b"")
        # Four numbers with commas or 150 with blanks; a damaged file is still more like one of them.
        if not row:
            return _File(file, "empty", "", size)
        kind = "label" if b"," in row and len(re.split(rb"[,\s]+", row.strip())) <= 10 else "skeleton"
    return _File(file, kind, f"{size}:{checksum:08x}", size)


def _check_split(file: Path, part: Part) -> Iterator[Notice]:
    """Remarks on a split file that does not follow the official rules; files of the other part are left alone."""
    split: Split = "xview" if "view" in file.stem.lower() else "xsub"
    try:
        lists = parse_split(_content(file), str(file))
    except ReadError as error:
        yield _notice("", "warning", "split_file", error.message, error.line)
        return
    own = {key: [name for name in names if _NAMES[part].fullmatch(name)] for key, names in lists.items()}
    wrong = [name for key, names in own.items() for name in names if is_test(name, part, split) != (key == "test")]
    if wrong:
        message = f"{file}: {len(wrong)} videos, for example {wrong[0]}, lie in the other part of the official split"
        yield _notice("", "warning", "split_file", f"{message}, which is what is used", None)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_skeleton(file: str | Path, joints: np.ndarray) -> None:
    """Writes a skeleton file as the data set does: six decimals, all rows but the first with a leading blank.

    Args:
        file: File to write.
        joints: At most two bodies, (M, T, 25, 3); what is not finite, and an absent body, becomes zeros.

    Raises:
        ValueError: The array has another shape, or no frame.
    """
    if joints.ndim != 4 or joints.shape[0] > 2 or not joints.shape[1] or joints.shape[2:] != (NTU25.num_joints, 3):
        raise ValueError(f"joints are {joints.shape}, not (at most 2, T, {NTU25.num_joints}, 3)")
    rows = np.zeros((joints.shape[1], 2, NTU25.num_joints, 3))
    rows[:, : len(joints)] = np.nan_to_num(joints, nan=0.0, posinf=0.0, neginf=0.0).swapaxes(0, 1)
    form = " ".join(["%.6f"] * _NUMBERS)
    text = "\n ".join(form % tuple(row) for row in rows.reshape(len(rows), -1).tolist())
    Path(file).write_text(f"{text}\n", "utf-8", newline="\n")


def write_labels(file: str | Path, intervals: Sequence[Interval]) -> None:
    """Writes a label file: a row per interval in the given order, confidence 1; the line numbers are not used."""
    rows = (f"{interval.label + 1},{interval.start},{interval.end},1\n" for interval in intervals)
    Path(file).write_text("".join(rows), "utf-8", newline="\n")


def write_split(file: str | Path, train: Sequence[str], test: Sequence[str]) -> None:
    """Writes a split file as the data set spells it, trailing commas and misspelt heading included."""
    lists = f"Training videos: \n{', '.join(train)}, \nValidataion videos:\n{', '.join(test)},\n"
    Path(file).write_text(lists, "utf-8", newline="\n")
