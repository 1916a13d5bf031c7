"""SkeletonStore: one data set on disk as a flat, memory-mapped array and a small index."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from enum import IntFlag
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from tqdm import tqdm

from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.skeleton import Skeleton

SCHEMA = 1
FILES_PER_SHARD = 128
COLUMNS: dict[str, type] = {
    "id": np.str_,
    "row": np.int64,
    "n_bodies": np.int8,
    "n_frames": np.int32,
    "n_frames_declared": np.int32,
    "first": np.int32,
    "label": np.int16,
    "label_original": np.int16,
    "subject": np.int16,
    "camera": np.int8,
    "setup": np.int16,
    "replication": np.int8,
    "video": np.str_,
    "start": np.int32,
    "end": np.int32,
    "flags": np.int32,
    "content": np.str_,
}
"""Columns of ``index.npz``, one entry per clip, sorted by ``id``."""

_KEYS = {"dataset", "skeleton", "classes", "counts", "sha256", "sources"}
_FILES = ("joints.npy", "index.npz", "report.json", "meta.json")


class StoreError(InputError):
    """A store is missing, damaged, foreign or cannot be made; the message is one line that says what to do."""


class ReadError(ValueError):
    """A raw file cannot be used.

    Args:
        reason: Short name under which the report counts it, for example ``empty`` or ``json``.
        message: What is wrong, for people.
        line: Line of the file, counted from 1, where known.
        expected: Whether the data set's authors list the file as unusable; such files do not count as failures.
    """

    def __init__(self, reason: str, message: str, line: int | None = None, expected: bool = False) -> None:
        super().__init__(reason, message, line, expected)
        self.reason, self.message, self.line, self.expected = reason, message, line, expected

    def __str__(self) -> str:
        return self.message + ("" if self.line is None else f", line {self.line}")


class Flag(IntFlag):
    """Bits of the index column ``flags``."""

    REPAIRED = 1
    """Single joints are missing (NaN); they are interpolated when the clip is loaded."""
    GAP = 2
    """A stored body is missing in whole frames (rows of NaN)."""
    SINGLE_FRAME = 4
    """The clip has one frame."""


class Notice(TypedDict):
    """One line of ``report.json``."""

    id: str
    outcome: Literal["failed", "skipped", "repaired", "warning"]
    reason: str
    message: str
    line: int | None


@dataclass
class Recording:
    """What a reader returns for one clip.

    Args:
        id: Name, unique in the data set; the store is sorted by it.
        joints: Coordinates in camera space, (M, T, V, 3) float32; NaN, or zeros, where nothing was seen.
        label: Class, counted from 0; −1 when unknown.
        subject: Performer; −1 when unknown, as for the next three.
        camera: Camera or view.
        setup: Camera setup.
        replication: Repetition or episode.
        label_original: Class in the data set's own numbering, counted from 0; default ``label``.
        video: Name of the recording that the clip was cut from.
        start: First frame of the clip in ``video``.
        end: Frame after the last one.
        n_frames_declared: Frames that the file claims; default T.
        warnings: Oddities that were accepted.
    """

    id: str
    joints: np.ndarray
    label: int = -1
    subject: int = -1
    camera: int = -1
    setup: int = -1
    replication: int = -1
    label_original: int | None = None
    video: str = ""
    start: int = -1
    end: int = -1
    n_frames_declared: int | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """One raw file to convert.

    Args:
        name: Unique name; sources are read in its order.
        where: What the reader gets; picklable, for example a path.
        fingerprint: Changes when the file changes, for example size and checksum.
    """

    name: str
    where: Any
    fingerprint: str


@dataclass(frozen=True)
class DatasetInfo:
    """What ``meta.json`` says about a data set.

    Args:
        name: Folder of the store below its root, as on the command line.
        skeleton: Layout of the joints.
        classes: Class names in the order of the labels.
        reader: Version of the reader; raise it when its output changes, and stores are converted anew.
        axes: Directions of x, y and z.
        units: Unit of the coordinates.
        fps: Frames per second; None when the data set does not say.
    """

    name: str
    skeleton: Skeleton
    classes: tuple[str, ...]
    reader: int
    axes: str
    units: str = "m"
    fps: float | None = None


class SkeletonStore:
    """One converted data set: ``joints.npy``, ``index.npz``, ``report.json`` and ``meta.json`` in a folder.

    ``joints.npy`` is (R, V, 3) float32; a clip owns ``n_bodies · n_frames`` rows from ``row`` on, body after body,
    frame after frame. The array is mapped lazily, once in each process, so a store may be sent to forked and spawned
    workers.

    Args:
        path: Folder of the store.
        in_memory: Read the whole array into memory instead of mapping it; for slow disks.

    Raises:
        StoreError: The folder is missing, foreign, incomplete or truncated. Checksums are left to :meth:`damage`.
    """

    def __init__(self, path: str | Path, in_memory: bool = False) -> None:
        self.path = Path(path)
        self.in_memory = in_memory
        self._joints: np.ndarray | None = None
        self.meta = self._read_meta()
        self.skeleton = Skeleton.from_dict(self.meta["skeleton"])
        self.index = self._read_index()
        self._verify()

    @property
    def _again(self) -> str:
        return f"run `skelcl data prepare {self.path.name} --raw <files> --root {self.path.parent}`"

    def _read_meta(self) -> dict[str, Any]:
        if not self.path.is_dir():
            raise StoreError(f"no store at {self.path}: {self._again}")
        file = self.path / "meta.json"
        if not file.is_file():
            raise StoreError(f"{self.path} is not a skelcl store (it has no meta.json): {self._again}")
        try:
            meta = json.loads(file.read_text("utf-8"))
            schema = meta["schema"]
            complete = schema != SCHEMA or set(meta) >= _KEYS
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise StoreError(f"{file} is not the description of a skelcl store: {self._again}")
        if schema != SCHEMA:
            raise StoreError(f"{self.path} has store format {schema!r}, this version reads {SCHEMA}: {self._again}")
        return dict(meta)

    def _read_index(self) -> dict[str, np.ndarray]:
        file = self.path / "index.npz"
        try:
            # numpy leaves a file open when it is no archive, hence the stream of our own
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as columns:
                index = {name: columns[name] for name in COLUMNS}
        except Exception as error:  # whatever a damaged zip makes numpy raise
            raise StoreError(f"{file} is missing or damaged ({type(error).__name__}): {self._again}") from error
        return index

    def _verify(self) -> None:
        counts = self.meta["counts"]
        if {len(column) for column in self.index.values()} != {counts["sequences"]}:
            raise StoreError(f"{self.path}: index.npz and meta.json disagree on the number of clips: {self._again}")
        self._row = self.index["row"].astype(np.int64)
        self._frames = self.index["n_frames"].astype(np.int64)
        self._bodies = self.index["n_bodies"].astype(np.int64)
        sizes = self._frames * self._bodies
        consistent = np.array_equal(self._row, np.cumsum(sizes) - sizes) and sizes.sum() == counts["rows"]
        if not consistent or (sizes < 1).any():
            raise StoreError(f"{self.path}: index.npz does not describe {counts['rows']} rows of joints: {self._again}")
        file = self.path / "joints.npy"
        header = _npy_header(counts["rows"], self.skeleton.num_joints)
        expected = len(header) + counts["rows"] * self.skeleton.num_joints * 3 * 4
        actual = file.stat().st_size if file.is_file() else -1
        if actual != expected:
            found = "is missing" if actual < 0 else f"has {actual} bytes instead of {expected}"
            raise StoreError(f"{file} {found}: {self._again}")
        with file.open("rb") as stream:
            if stream.read(len(header)) != header:
                raise StoreError(f"{file} is not the array that meta.json describes: {self._again}")

    def __len__(self) -> int:
        return len(self._row)

    def __getstate__(self) -> dict[str, Any]:
        # A map cannot be pickled and must not be shared by file position: each process opens its own.
        return {**self.__dict__, "_joints": None}

    @property
    def joints(self) -> np.ndarray:
        """The whole array, (R, V, 3) float32, read-only unless in memory."""
        if self._joints is None:
            array = np.load(self.path / "joints.npy", mmap_mode=None if self.in_memory else "r", allow_pickle=False)
            self._joints = array.view(np.ndarray)  # slicing an np.memmap costs several times a plain view
        return self._joints

    @property
    def ids(self) -> np.ndarray:
        """Names of the clips by position, (N,) str."""
        return self.index["id"]

    @property
    def report(self) -> dict[str, Any]:
        """What the conversion skipped, repaired and warned about: ``files``, ``summary`` and ``notices``."""
        report: dict[str, Any] = json.loads((self.path / "report.json").read_text("utf-8"))
        return report

    def recording(self, position: int) -> np.ndarray:
        """The coordinates of one clip as stored, (M, T, V, 3) float32, NaN where nothing was seen."""
        row, bodies, frames = self._row[position], self._bodies[position], self._frames[position]
        return self.joints[row : row + bodies * frames].reshape(bodies, frames, -1, 3)

    def clips(self, positions: Sequence[int] | np.ndarray, num_persons: int = 1) -> Clips:
        """Copies clips out of the store.

        Single missing joints are interpolated in time within their body; frames without a body stay rows of NaN.

        Args:
            positions: Places in the index, (N,).
            num_persons: Bodies to keep of each clip.

        Returns:
            N clips in main memory.
        """
        where = np.atleast_1d(np.asarray(positions, np.int64))
        frames = self._frames[where]
        bodies = np.minimum(self._bodies[where], num_persons)
        rows, sizes = self._row[where], frames * bodies
        offsets = np.cumsum(sizes) - sizes
        source = self.joints
        joints = np.empty((int(sizes.sum()), *source.shape[1:]), np.float32)
        np.concatenate(
            [source[first : first + size] for first, size in zip(rows.tolist(), sizes.tolist(), strict=True)]
            or [joints],
            out=joints,
        )
        flags = self.index["flags"][where]
        for n in np.flatnonzero(flags & Flag.REPAIRED):
            tracks = joints[offsets[n] : offsets[n] + sizes[n]]
            fill_joints(tracks.reshape(bodies[n], frames[n], *tracks.shape[1:]))
        return Clips(
            joints=torch.from_numpy(joints),
            offsets=torch.from_numpy(offsets),
            frames=torch.from_numpy(frames),
            bodies=torch.from_numpy(bodies),
            first=torch.from_numpy(self.index["first"][where].astype(np.int64)),
            label=torch.from_numpy(self.index["label"][where].astype(np.int64)),
            index=torch.from_numpy(where.copy()),
            skeleton=self.skeleton,
            num_persons=num_persons,
            gaps=bool((flags & Flag.GAP).any()),
        )

    def preload(self, num_persons: int = 1) -> Clips:
        """Every clip of the store in main memory; clip n is position n."""
        return self.clips(np.arange(len(self)), num_persons)

    def damage(self) -> list[str]:
        """Compares the SHA-256 of each file with ``meta.json``; returns what differs, one line each."""
        return [
            f"{self.path / name}: the checksum differs from the one in meta.json"
            for name, expected in self.meta["sha256"].items()
            if not (self.path / name).is_file() or _sha256(self.path / name) != expected
        ]


def fill_joints(joints: np.ndarray) -> None:
    """Interpolates single missing joints linearly in time, in place; at the ends the nearest value is repeated.

    Bodies are independent. Frames in which a whole body is missing stay missing and lend nothing.

    Args:
        joints: Coordinates, (M, T, V, 3), NaN where missing.
    """
    missing = np.isnan(joints[..., 0])
    holes = missing & ~missing.all(-1, keepdims=True)
    if not holes.any():
        return
    frames = missing.shape[1]
    time = np.arange(frames)[None, :, None]
    before = np.maximum.accumulate(np.where(missing, -1, time), axis=1)
    after = np.minimum.accumulate(np.where(missing, frames, time)[:, ::-1], axis=1)[:, ::-1]
    body, frame, joint = np.nonzero(holes)
    low, high = before[body, frame, joint], after[body, frame, joint]
    low, high = np.where(low < 0, high, low), np.where(high == frames, low, high)
    weight = ((frame - low) / np.maximum(high - low, 1))[:, None]
    joints[body, frame, joint] = (1 - weight) * joints[body, low, joint] + weight * joints[body, high, joint]


def convert(
    root: str | Path,
    info: DatasetInfo,
    sources: Sequence[Source],
    read: Callable[[Any], Sequence[Recording]],
    *,
    kind: str,
    parameters: Mapping[str, Any] | None = None,
    notices: Sequence[Notice] = (),
    jobs: int | None = None,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
) -> SkeletonStore:
    """Converts raw files into the store ``<root>/<info.name>``.

    The files are read in shards that are kept in ``<root>/.<info.name>.partial`` until the store is complete, so a run
    that was interrupted continues where it stopped and ends in the same bytes. The finished folder appears by renaming;
    an older store stays whole until then.

    Args:
        root: Folder that holds the stores.
        info: Description of the data set.
        sources: The raw files.
        read: Turns ``Source.where`` into recordings or raises :class:`ReadError`; picklable when ``jobs`` > 1.
        kind: What the sources are, for example ``zip``; kept in ``meta.json``.
        parameters: Options of the reader that change its output; kept in ``meta.json``.
        notices: Lines for ``report.json`` on files that are not among the sources.
        jobs: Processes; default 1 for small data sets, else the number of processors.
        overwrite: Replace a complete store that was made from other files.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail; above it no store is written.

    Returns:
        The store; an existing one that was made from the same files in the same way is left as it is.

    Raises:
        StoreError: Too many files failed, an id occurs twice, or the target holds something else.
    """
    root = Path(root)
    target, work, old = root / info.name, root / f".{info.name}.partial", root / f".{info.name}.old"
    header = {
        "schema": SCHEMA,
        "dataset": info.name,
        "reader": info.reader,
        "skeleton": info.skeleton.to_dict(),
        "classes": list(info.classes),
        "units": info.units,
        "axes": info.axes,
        "fps": info.fps,
        "recipe": "none",
        "parameters": dict(parameters or {}),
    }
    sources = sorted(sources, key=lambda source: source.name)
    identity = _digest(header, sources)
    if old.exists():  # an earlier run was stopped between its two last renames, or just after them
        shutil.rmtree(old) if target.exists() else os.rename(old, target)
    existing = _existing(target)
    if existing is not None and existing.meta["sources"] == identity and not overwrite:
        shutil.rmtree(work, ignore_errors=True)
        print(f"{target} was already made from these files (--overwrite true makes it anew)")
        return existing
    if existing is not None and not overwrite:
        raise StoreError(f"{target} already holds a store made from other files: pass --overwrite true to replace it")
    work.mkdir(parents=True, exist_ok=True)
    shards = [sources[i : i + FILES_PER_SHARD] for i in range(0, len(sources), FILES_PER_SHARD)]
    files = [work / f"{_digest(header, shard)[:32]}.npz" for shard in shards]
    found = list(notices)
    columns: dict[Path, dict[str, np.ndarray]] = {}
    for file in _read_shards(shards, files, read, info, jobs):
        with np.load(file) as shard:
            columns[file] = {name: shard[name] for name in COLUMNS if name != "row"}
            news: list[Notice] = json.loads(shard["notices"].tobytes())
        failed = [notice for notice in news if notice["outcome"] == "failed"]
        if strict and failed:
            raise StoreError(_describe(failed[0]))
        found += news
    found.sort(key=lambda notice: (notice["id"], notice["reason"], notice["message"]))
    report = _report(found, len(sources))
    failed = [notice for notice in found if notice["outcome"] == "failed"]
    if len(failed) > max_failed * len(sources) or not any(len(part["id"]) for part in columns.values()):
        _write_json(work / "report.json", report)
        example = f", the first: {_describe(failed[0])}" if failed else ""
        raise StoreError(
            f"{len(failed)} of {len(sources)} files could not be used{example}; no store was written, "
            f"all of them are listed in {work / 'report.json'} (--max_failed sets the share that is accepted)"
        )
    staged = work / "store"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    _lay_out(staged, files, columns, info.skeleton.num_joints, {**header, "source": kind, "sources": identity}, report)
    if target.exists():
        os.rename(target, old)
    os.rename(staged, target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(work)
    return SkeletonStore(target)


def _existing(target: Path) -> SkeletonStore | None:
    """The complete store at the target; None when there is none or a damaged one that may be replaced."""
    if not target.exists():
        return None
    foreign = (
        []
        if not target.is_dir()
        else [file.name for file in target.iterdir() if file.name not in _FILES and file.name[0] != "."]
    )
    if foreign or not target.is_dir():
        what = f"holds {sorted(foreign)[0]!r}" if foreign else "is a file"
        raise StoreError(f"{target} is no skelcl store ({what}): move it away or choose another --root")
    try:
        return SkeletonStore(target)
    except StoreError:
        return None


def _read_shards(
    shards: Sequence[Sequence[Source]],
    files: Sequence[Path],
    read: Callable[[Any], Sequence[Recording]],
    info: DatasetInfo,
    jobs: int | None,
) -> Iterator[Path]:
    """Reads the shards that are not there yet; yields the file of each shard once it is."""
    total = sum(map(len, shards))
    done = {file for file in files if _complete(file)}
    todo = [(list(shard), file) for shard, file in zip(shards, files, strict=True) if file not in done]
    jobs = jobs or (1 if total < 5000 else min(os.cpu_count() or 1, 16))
    initial = total - sum(len(shard) for shard, _ in todo)
    seconds = 0.1 if sys.stderr.isatty() else 30  # a log file needs few lines
    with tqdm(desc=info.name, total=total, initial=initial, unit="file", mininterval=seconds) as bar:
        yield from done
        if jobs == 1 or len(todo) <= 1:
            for shard, file in todo:
                _write_shard(shard, file, read, info.skeleton)
                bar.update(len(shard))
                yield file
            return
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            tasks = {pool.submit(_write_shard, shard, file, read, info.skeleton): (shard, file) for shard, file in todo}
            try:
                for task in as_completed(tasks):
                    task.result()
                    shard, file = tasks[task]
                    bar.update(len(shard))
                    yield file
            finally:
                pool.shutdown(cancel_futures=True)


def _complete(file: Path) -> bool:
    """Whether a shard of an earlier run can be used; a power cut may leave one whose content never reached the disk."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as shard:
            return {*COLUMNS, "joints", "notices"} - {"row"} <= set(shard.files) and bool(shard["notices"].size)
    except Exception:
        return False


def _write_shard(
    sources: Sequence[Source], file: Path, read: Callable[[Any], Sequence[Recording]], skeleton: Skeleton
) -> None:
    rows: list[dict[str, Any]] = []
    joints: list[np.ndarray] = [np.empty((0, skeleton.num_joints, 3), np.float32)]
    notices: list[Notice] = []
    for source in sources:
        try:
            for recording in read(source.where):
                row, tracks, news = _clean(recording, skeleton)
                rows.append(row)
                joints.append(tracks.reshape(-1, skeleton.num_joints, 3))
                notices += news
        except ReadError as error:
            outcome: Literal["skipped", "failed"] = "skipped" if error.expected else "failed"
            notices.append(
                Notice(id=source.name, outcome=outcome, reason=error.reason, message=error.message, line=error.line)
            )
    columns: dict[str, np.ndarray] = {}
    for name, kind in COLUMNS.items():
        if name != "row":
            columns[name] = np.array([row[name] for row in rows], kind)
    text = np.frombuffer(json.dumps(notices).encode(), np.uint8)
    temporary = file.with_suffix(".tmp.npz")
    np.savez(temporary, allow_pickle=False, joints=np.concatenate(joints), notices=text, **columns)
    os.replace(temporary, file)


def _clean(recording: Recording, skeleton: Skeleton) -> tuple[dict[str, Any], np.ndarray, list[Notice]]:
    """Marks what is missing with NaN, drops bodies that were never seen and fills in the row of the index."""
    joints = np.array(recording.joints, np.float32)
    if joints.ndim != 4 or joints.shape[2:] != (skeleton.num_joints, 3):
        raise ReadError("shape", f"{recording.id}: joints are {joints.shape}, not (M, T, {skeleton.num_joints}, 3)")
    zero = (joints == 0).all(-1)
    missing = zero | ~np.isfinite(joints).all(-1)
    absent = 2 * missing.sum(-1) > skeleton.num_joints
    missing |= absent[..., None]
    joints[missing] = np.nan
    seen = ~absent.all(1)
    if not seen.any():
        raise ReadError("no_skeleton", f"{recording.id}: no frame shows a body")
    never = missing.all(1) & seen[:, None]
    usable = seen & ~never.any(1)
    if not usable.any():
        joint = skeleton.joints[int(np.nonzero(never)[1][0])]
        raise ReadError("joint_never_seen", f"{recording.id}: joint {joint!r} is missing in every frame")
    notices: list[Notice] = []

    def note(outcome: Literal["repaired", "warning"], reason: str, message: str) -> None:
        notices.append(Notice(id=recording.id, outcome=outcome, reason=reason, message=message, line=None))

    for message in recording.warnings:
        note("warning", "reader", message)
    if (~usable & seen).any():
        note("warning", "body_dropped", f"{int((~usable & seen).sum())} bodies of which a joint was never seen")
    joints, missing, absent = joints[usable], missing[usable], absent[usable]
    holes = missing & ~absent[..., None]
    flags = Flag(0)
    if holes.any():
        flags |= Flag.REPAIRED
        frames = np.flatnonzero(holes.any((0, 2)))
        message = f"{int(holes.sum())} joints in {len(frames)} frames, first in frame {frames[0]}"
        note("repaired", "missing_joint", message)
    if absent.any():
        flags |= Flag.GAP
        frames = np.flatnonzero(absent.any(0))
        note("warning", "missing_frame", f"a body is missing in {len(frames)} frames, first in frame {frames[0]}")
    if joints.shape[1] == 1:
        flags |= Flag.SINGLE_FRAME
    row = {name: getattr(recording, name, None) for name in COLUMNS}
    row |= {
        "n_bodies": joints.shape[0],
        "n_frames": joints.shape[1],
        "n_frames_declared": joints.shape[1] if recording.n_frames_declared is None else recording.n_frames_declared,
        "first": int(np.argmin(absent[0])),
        "label_original": recording.label if recording.label_original is None else recording.label_original,
        "flags": int(flags),
        "content": content_digest(joints),
    }
    return row, joints, notices


def content_digest(joints: np.ndarray) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a clip's coordinates, (M, T, V, 3) float32, and their shape."""
    data = np.ascontiguousarray(joints, "<f4")
    return hashlib.sha256(f"{data.shape}".encode() + data.tobytes()).hexdigest()[:16]


def leaked(content: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Test clips whose coordinates equal those of a training clip.

    Args:
        content: Digests of the clips, (N,) str.
        train: Training part, (N,) bool; the others are the test part.

    Returns:
        (N,) bool, False in the training part.
    """
    return np.asarray(np.isin(content, content[train]) & ~train)


def _lay_out(
    folder: Path,
    files: Sequence[Path],
    columns: Mapping[Path, Mapping[str, np.ndarray]],
    num_joints: int,
    header: dict[str, Any],
    report: dict[str, Any],
) -> None:
    """Writes the four files of a store from its shards, clips in the order of their ids."""
    index = {name: np.concatenate([columns[file][name] for file in files]) for name in COLUMNS if name != "row"}
    order = np.argsort(index["id"], kind="stable")
    ids = index["id"][order]
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise StoreError(f"two different recordings are called {str(twice[0])!r}")
    sizes = index["n_frames"].astype(np.int64) * index["n_bodies"]
    row = np.empty_like(sizes)
    row[order] = np.cumsum(sizes[order]) - sizes[order]
    rows = int(sizes.sum())
    start = _npy_header(rows, num_joints)
    bytes_per_row = num_joints * 3 * 4
    clip = 0
    with (folder / "joints.npy").open("wb") as stream:
        stream.write(start)
        for file in files:
            with np.load(file) as shard:
                joints = shard["joints"]
            first = 0
            for _ in columns[file]["id"]:
                stream.seek(len(start) + int(row[clip]) * bytes_per_row)
                stream.write(joints[first : first + int(sizes[clip])].tobytes())
                first += int(sizes[clip])
                clip += 1
    index["row"] = row
    np.savez(folder / "index.npz", allow_pickle=False, **{name: index[name][order] for name in COLUMNS})
    _write_json(folder / "report.json", report)
    counts = {"sequences": len(ids), "rows": rows, "frames": int(index["n_frames"].sum()), "files": report["files"]}
    sha256 = {name: _sha256(folder / name) for name in ("joints.npy", "index.npz", "report.json")}
    _write_json(folder / "meta.json", {**header, "counts": counts, "sha256": sha256})


def _report(notices: Sequence[Notice], files: int) -> dict[str, Any]:
    counts = Counter((notice["outcome"], notice["reason"]) for notice in notices)
    summary = [{"outcome": outcome, "reason": reason, "count": n} for (outcome, reason), n in sorted(counts.items())]
    return {"files": files, "summary": summary, "notices": list(notices)}


def _describe(notice: Notice) -> str:
    return notice["message"] + ("" if notice["line"] is None else f", line {notice['line']}")


def _digest(header: Mapping[str, Any], sources: Sequence[Source]) -> str:
    described = [header, [[source.name, source.fingerprint] for source in sources]]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _npy_header(rows: int, num_joints: int) -> bytes:
    """The first bytes of joints.npy: fixed here so that they depend on no library version (NPY format 1.0)."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {num_joints}, 3), }}"
    padding = -(len(b"\x93NUMPY\x01\x00") + 2 + len(text) + 1) % 64
    body = (text + " " * padding + "\n").encode("latin-1")
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body
