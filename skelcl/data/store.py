"""SkeletonStore: one data set on disk as a flat, memory-mapped array and a small index."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from enum import IntFlag
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch

from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.skeleton import Skeleton

SCHEMA = 1

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

_PREPARED = re.compile(r"nw-ucla|ntu60|ntu120|pku-mmd-[12]")
"""Stores that ``skelcl data prepare`` makes."""
_KEYS = {"dataset", "skeleton", "classes", "counts", "sha256", "sources"}

FILES = ("joints.npy", "index.npz", "report.json", "meta.json")


class StoreError(InputError):
    """A store is missing, damaged, foreign or cannot be made; the message is one line that says what to do."""


class Flag(IntFlag):
    """Bits of the index column ``flags``."""

    REPAIRED = 1
    """Single joints are missing (NaN); they are interpolated when the clip is loaded."""
    GAP = 2
    """A stored body is missing in whole frames (rows of NaN)."""
    SINGLE_FRAME = 4
    """The clip has one frame."""


class SkeletonStore:
    """One converted data set: ``joints.npy``, ``index.npz``, ``report.json`` and ``meta.json`` in a folder.

    ``joints.npy`` is (R, V, C) float32 with C = 3, or 2 for flat poses; a clip owns ``n_bodies · n_frames`` rows from
    ``row`` on, body after body, frame after frame. The array is mapped lazily, once in each process, so a store may
    be sent to forked and spawned workers.

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
    def again(self) -> str:
        """What to do when the store is missing or damaged: the command that makes it anew."""
        parameters = getattr(self, "meta", {}).get("parameters", {})
        if getattr(self, "meta", {}).get("source") == "generated":
            return "the next run with Synthetic makes it anew"
        own = parameters.get("format")  # imported, not prepared
        where = f"--name {quote(self.path.name)} --root {quote(str(self.path.parent))}"
        if "arrays" in parameters:
            return f"run `skelcl data import arrays --input <files> {where} --overwrite true`"
        replace = " --overwrite true" if hasattr(self, "meta") else ""
        if own is not None or not _PREPARED.fullmatch(self.path.name):
            names = ("min_confidence", "max_bodies", "y_down", "fill_unseen", "zero_missing")
            options = "".join(f" --{key} {str(parameters[key]).lower()}" for key in names if key in parameters)
            options += " --layout <layout>" * (own == "csv")
            return (
                f"run `skelcl data import poses --format {own or 'FORMAT'} --input <files> {where}{options}{replace}`"
            )
        name = re.sub(r"-([12])$", r" --part \1", self.path.name)
        # Without its options the command would make another store.
        given = {key: "<list>" if len(str(value)) == 64 else str(value).lower() for key, value in parameters.items()}
        name += "".join(f" --{key} {value}" for key, value in given.items() if value != "false")
        return f"run `skelcl data prepare {name} --raw <files> --root {quote(str(self.path.parent))}{replace}`"

    def _read_meta(self) -> dict[str, Any]:
        if not self.path.is_dir():
            raise StoreError(f"no store at {self.path}: {self.again}")
        file = self.path / "meta.json"
        if not file.is_file():
            raise StoreError(f"{self.path} is not a skelcl store (it has no meta.json): {self.again}")
        try:
            meta = json.loads(file.read_text("utf-8"))
            schema = meta["schema"]
            complete = schema != SCHEMA or set(meta) >= _KEYS
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise StoreError(f"{file} is not the description of a skelcl store: {self.again}")
        if schema != SCHEMA:
            raise StoreError(f"{self.path} has store format {schema!r}, this version reads {SCHEMA}: {self.again}")
        return dict(meta)

    def _read_index(self) -> dict[str, np.ndarray]:
        file = self.path / "index.npz"
        try:
            # numpy leaves a file open when it is no archive, hence the stream of our own
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as columns:
                index = {name: columns[name] for name in COLUMNS}
        except Exception as error:  # whatever a damaged zip makes numpy raise
            raise StoreError(f"{file} is missing or damaged ({type(error).__name__}): {self.again}") from error
        return index

    def _verify(self) -> None:
        counts = self.meta["counts"]
        if {len(column) for column in self.index.values()} != {counts["sequences"]}:
            raise StoreError(f"{self.path}: index.npz and meta.json disagree on the number of clips: {self.again}")
        self._row = self.index["row"].astype(np.int64)
        self._frames = self.index["n_frames"].astype(np.int64)
        self._bodies = self.index["n_bodies"].astype(np.int64)
        sizes = self._frames * self._bodies
        consistent = np.array_equal(self._row, np.cumsum(sizes) - sizes) and sizes.sum() == counts["rows"]
        if not consistent or (sizes < 1).any():
            raise StoreError(f"{self.path}: index.npz does not describe {counts['rows']} rows of joints: {self.again}")
        file = self.path / "joints.npy"
        header = npy_header(counts["rows"], self.skeleton.num_joints, self.channels)
        expected = len(header) + counts["rows"] * self.skeleton.num_joints * self.channels * 4
        actual = file.stat().st_size if file.is_file() else -1
        if actual != expected:
            found = "is missing" if actual < 0 else f"has {actual} bytes instead of {expected}"
            raise StoreError(f"{file} {found}: {self.again}")
        with file.open("rb") as stream:
            if stream.read(len(header)) != header:
                raise StoreError(f"{file} is not the array that meta.json describes: {self.again}")

    def __len__(self) -> int:
        return len(self._row)

    def __getstate__(self) -> dict[str, Any]:
        # A map cannot be pickled and must not be shared by file position: each process opens its own.
        return {**self.__dict__, "_joints": None}

    @property
    def channels(self) -> int:
        """C, the coordinates per joint: 3, unless ``meta.json`` says 2."""
        return int(self.meta.get("channels", 3))

    @property
    def recipe(self) -> str:
        """Normalisation that the coordinates went through before they were imported; ``none``: camera space."""
        return str(self.meta.get("recipe", "none"))

    @property
    def joints(self) -> np.ndarray:
        """The whole array, (R, V, C) float32, read-only unless in memory."""
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

    def position(self, clip: str) -> int:
        """Where the clip of an id is.

        Raises:
            StoreError: There is none.
        """
        (found,) = np.nonzero(self.ids == clip)
        if not len(found):
            raise StoreError(f"{self.path} holds no clip {clip!r}; its ids look like {str(self.ids[0])!r}")
        return int(found[0])

    def recording(self, position: int) -> np.ndarray:
        """The coordinates of one clip as stored, (M, T, V, C) float32, NaN where nothing was seen."""
        row, bodies, frames = self._row[position], self._bodies[position], self._frames[position]
        return self.joints[row : row + bodies * frames].reshape(bodies, frames, -1, self.channels)

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
            recipe=self.recipe,
        )

    def preload(self, num_persons: int = 1) -> Clips:
        """Every clip of the store in main memory; clip n is position n."""
        return self.clips(np.arange(len(self)), num_persons)

    def damage(self) -> list[str]:
        """Compares the SHA-256 of each file with ``meta.json``; returns what differs, one line each."""
        return [
            f"{self.path / name}: the checksum differs from the one in meta.json"
            for name, expected in self.meta["sha256"].items()
            if not (self.path / name).is_file() or sha256(self.path / name) != expected
        ]


def fill_joints(joints: np.ndarray) -> None:
    """Interpolates single missing joints linearly in time, in place; at the ends the nearest value is repeated.

    Bodies are independent. Frames in which a whole body is missing stay missing and lend nothing.

    Args:
        joints: Coordinates, (M, T, V, C), NaN where missing.
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


def leaked(content: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Test clips whose coordinates equal those of a training clip.

    Args:
        content: Digests of the clips, (N,) str.
        train: Training part, (N,) bool; the others are the test part.

    Returns:
        (N,) bool, False in the training part.
    """
    return np.asarray(np.isin(content, content[train]) & ~train)


def sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def npy_header(rows: int, num_joints: int, channels: int = 3) -> bytes:
    """The first bytes of joints.npy: fixed here so that they depend on no library version (NPY format 1.0)."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {num_joints}, {channels}), }}"
    padding = -(len(b"\x93NUMPY\x01\x00") + 2 + len(text) + 1) % 64
    body = (text + " " * padding + "\n").encode("latin-1")
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body
