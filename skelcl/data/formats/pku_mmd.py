"""PKU-MMD: from folders of skeleton and label files to a store.

Both parts are untrimmed videos of two bodies in 25 joints. Every labelled interval becomes a clip of its own; what lies
between them is left out.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from skelcl.data.convert import convert
from skelcl.data.formats.containers import read_bytes
from skelcl.data.formats.folders import files_below
from skelcl.data.formats.pku_release import EXAMPLES, INFO, NAMES, PRESENT, Part, Split, is_test, parse_name, summary
from skelcl.data.formats.pku_text import BOM, parse_labels, parse_skeleton, parse_split
from skelcl.data.recording import Notice, ReadError, Recording, Source
from skelcl.data.store import SkeletonStore, StoreError

Cut = Literal["half_open", "one_based_inclusive", "zero_based_inclusive"]
Order = Literal["stored", "energy"]

_SUFFIXES = (".txt", ".skeleton", ".label")
_LONG = 200_000_000  # bytes of text above which reading takes longer than starting processes


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
    joints, truncated = parse_skeleton(read_bytes(skeleton), str(skeleton))
    intervals = parse_labels(read_bytes(label), str(label), part)
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
        (named if text and NAMES[part].fullmatch(file.stem) else candidates if is_split else others).append(file)
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
    message = f"no videos of part {part} (skeleton and label file {EXAMPLES[part]}) in {places}"
    other: Part = 2 if part == 1 else 1
    archives = sorted(file for file in others if file.suffix.lower() in (".7z", ".zip", ".rar"))
    if halves:
        return f"{message}, only halves of pairs: name the folders of the skeletons and of the labels"
    if any(NAMES[other].fullmatch(file.stem) for file in others):
        return f"{message}, but there are videos of part {other}: pass --part {other}"
    return f"{message}: " + (f"unpack {archives[0]} first" if archives else "name the folders of the unpacked archives")


def _list(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise StoreError(f"{path} does not exist: --raw takes the folders of the unpacked skeleton and label files")
    yield from files_below(path)


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
        row = next((line for line in head.removeprefix(BOM).splitlines() if line.strip()), b"")
        # Four numbers with commas or 150 with blanks; a damaged file is still more like one of them.
        if not row:
            return _File(file, "empty", "", size)
        kind = "label" if b"," in row and len(re.split(rb"[,\s]+", row.strip())) <= 10 else "skeleton"
    return _File(file, kind, f"{size}:{checksum:08x}", size)


def _check_split(file: Path, part: Part) -> Iterator[Notice]:
    """Remarks on a split file that does not follow the official rules; files of the other part are left alone."""
    split: Split = "xview" if "view" in file.stem.lower() else "xsub"
    try:
        lists = parse_split(read_bytes(file), str(file))
    except ReadError as error:
        yield _notice("", "warning", "split_file", error.message, error.line)
        return
    own = {key: [name for name in names if NAMES[part].fullmatch(name)] for key, names in lists.items()}
    wrong = [name for key, names in own.items() for name in names if is_test(name, part, split) != (key == "test")]
    if wrong:
        message = f"{file}: {len(wrong)} videos, for example {wrong[0]}, lie in the other part of the official split"
        yield _notice("", "warning", "split_file", f"{message}, which is what is used", None)
