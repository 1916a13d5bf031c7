"""SkeletonStore: one data set on disk as a flat, memory-mapped array and a small index."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch

from skelcl.clips import Clips
from skelcl.data.formats.containers import read_json, read_npz
from skelcl.data.orientation import REVERSED, is_reversed
from skelcl.data.schema import COLUMNS, Flag, check_index, checked_meta
from skelcl.errors import InputError

_PREPARED = re.compile(r"nw-ucla|ntu60|ntu120|(pku-mmd|bandai-namco)-[12]")
"""Stores that ``skelcl data prepare`` makes."""
_LARGEST_COLUMN = 1 << 30
"""Bytes of a column of the index; those of the names of 114,000 clips have 9 MB."""
_SAMPLE = 256
"""Clips that tell whether the recipe of a store was applied the right way round."""


class StoreError(InputError):
    """A store is missing, damaged, foreign or cannot be made; the message is one line that says what to do."""


class MissingStore(StoreError):
    """There is no store in a folder.

    Args:
        message: The line.
        path: The folder.
    """

    def __init__(self, message: str, path: Path = Path()) -> None:
        super().__init__(message)
        self.path = path


class SkeletonStore:
    """One converted data set: ``joints.npy``, ``index.npz``, ``report.json`` and ``meta.json`` in a folder.

    ``joints.npy`` is (R, V, C) float32 with C = 3, or 2 for flat poses; a clip owns ``n_bodies · n_frames`` rows from
    ``row`` on, body after body, frame after frame. The array is mapped lazily, once in each process, so a store may
    be sent to forked and spawned workers.

    Args:
        path: Folder of the store.
        in_memory: Read the whole array into memory instead of mapping it; for slow disks.

    Raises:
        StoreError: The folder is missing, foreign, incomplete or truncated, or its clips went through the recipe
            ``agcn`` the wrong way round. Checksums are left to :meth:`damage`.
    """

    changes: Sequence[str] = ()
    """What is done to the clips on their way into a batch, one text each."""

    def __init__(self, path: str | Path, in_memory: bool = False) -> None:
        self.path = Path(path)
        self.in_memory = in_memory
        self._joints: np.ndarray | None = None
        if not self.path.is_dir():
            raise MissingStore(f"no store at {self.path}: {self.rebuild_hint}", self.path)
        file = self.path / "meta.json"
        if not file.is_file():
            raise StoreError(f"{self.path} is not a skelcl store (it has no meta.json): {self.rebuild_hint}")
        try:
            self.meta, self.skeleton = checked_meta(read_json(file))
        except ValueError as error:
            raise StoreError(
                f"{file} is not the description of a skelcl store ({error}): {self.rebuild_hint}"
            ) from error
        self._check_joints()
        self.index = self._read_index()
        self._row = self.index["row"].astype(np.int64)
        self._frames = self.index["n_frames"].astype(np.int64)
        self._bodies = self.index["n_bodies"].astype(np.int64)
        self._check_turns()
        self.check_unchanged()

    @property
    def rebuild_hint(self) -> str:
        """What to do when the store is missing or damaged: the command that makes it anew."""
        return how_to_make(self.path, getattr(self, "meta", None))

    def _check_joints(self) -> None:
        """Compares size and header of the array with ``meta.json``."""
        file, rows = self.path / "joints.npy", self.meta["counts"]["rows"]
        header = npy_header(rows, self.skeleton.num_joints, self.channels)
        expected = len(header) + rows * self.skeleton.num_joints * self.channels * 4
        actual = file.stat().st_size if file.is_file() else -1
        if actual != expected:
            found = "is missing" if actual < 0 else f"has {actual} bytes instead of {expected}"
            raise StoreError(f"{file} {found}: {self.rebuild_hint}")
        try:
            with file.open("rb") as stream:
                begin = stream.read(len(header))
        except OSError as error:
            raise StoreError(f"{file} cannot be read ({error.strerror}): {self.rebuild_hint}") from error
        if begin != header:
            raise StoreError(f"{file} is not the array that meta.json describes: {self.rebuild_hint}")

    def _read_index(self) -> dict[str, np.ndarray]:
        file, counts = self.path / "index.npz", self.meta["counts"]
        try:
            index = read_npz(file, dict.fromkeys(COLUMNS, _LARGEST_COLUMN))
        except InputError as error:
            raise StoreError(f"{file} is missing or damaged ({error}): {self.rebuild_hint}") from error
        try:
            check_index(index, len(self.meta["classes"]), counts["sequences"], counts["rows"])
        except ValueError as error:
            raise StoreError(f"{file} {error}: {self.rebuild_hint}") from error
        return index

    def _check_turns(self) -> None:
        """Looks at where the shoulders lie that went through the recipe ``agcn``."""
        some = np.unique(np.linspace(0, len(self) - 1, _SAMPLE).astype(int))
        if self.recipe == "agcn" and is_reversed(self.joints[(self._row + self.index["first"])[some]], self.skeleton):
            raise StoreError(
                f"{self.path}: {REVERSED}: export them anew (`skelcl data export`) from a store in camera space, then "
                + self.rebuild_hint
            )

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
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the clips, by the checksums of index and coordinates in ``meta.json``."""
        checksums = "".join(f"{name} {self.meta['sha256'].get(name)}\n" for name in ("index.npz", "joints.npy"))
        return hashlib.sha256(checksums.encode()).hexdigest()

    def check_unchanged(self) -> None:
        """Refuses to mix this store with another one that took its place while it was open.

        Raises:
            StoreError: The folder now holds another store, or none.
        """
        file = self.path / "meta.json"
        try:
            now = read_json(file)
        except (OSError, ValueError):
            now = None  # between the two renames that replace a store
        if not isinstance(now, dict) or now.get("sha256") != self.meta["sha256"]:
            raise StoreError(f"{self.path} has changed since it was opened: start again")

    @property
    def joints(self) -> np.ndarray:
        """The whole array, (R, V, C) float32, read-only unless in memory."""
        if self._joints is None:
            file = self.path / "joints.npy"
            try:
                array = np.load(file, mmap_mode=None if self.in_memory else "r", allow_pickle=False)
            except (FileNotFoundError, ValueError):
                self.check_unchanged()
                raise
            self.check_unchanged()  # after opening: what is open now stays as it is
            self._joints = array.view(np.ndarray)  # slicing an np.memmap costs several times a plain view
        return self._joints

    @property
    def ids(self) -> np.ndarray:
        """Names of the clips by position, (N,) str."""
        return self.index["id"]

    @property
    def report(self) -> dict[str, Any]:
        """What the conversion skipped, repaired and warned about: ``files``, ``summary`` and ``notices``.

        Raises:
            StoreError: It is missing or damaged.
        """
        try:
            report = read_json(self.path / "report.json")
        except InputError as error:
            raise StoreError(f"{error}: {self.rebuild_hint}") from error
        if not isinstance(report, dict) or not isinstance(report.get("summary"), list):
            raise StoreError(f"{self.path / 'report.json'} is not the report of a conversion: {self.rebuild_hint}")
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
        clips = Clips(
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
        return self._complete(clips, np.flatnonzero(flags & Flag.REPAIRED))

    def _complete(self, clips: Clips, repaired: np.ndarray) -> Clips:
        """Fills in, in place, what is missing in some of the clips as they are stored."""
        for n in repaired:
            fill_joints(bodies_of(clips, n))
        return clips

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


def how_to_make(path: Path, meta: Mapping[str, Any] | None, there: bool = True) -> str:
    """The command that makes a store.

    Args:
        path: Folder of the store.
        meta: ``parameters`` and ``source`` of its ``meta.json``; None where they are not known.
        there: Whether something is there that the command has to replace, where its ``meta`` is known.
    """
    known = meta or {}
    parameters = known.get("parameters", {})
    if known.get("source") == "generated":
        return "the next run with Synthetic makes it anew"
    own = parameters.get("format")  # imported, not prepared
    where = f"--name {quote(path.name)} --root {quote(str(path.parent))}"
    replace = " --overwrite true" if there and meta is not None else ""
    if "arrays" in parameters:
        return f"run `skelcl data import arrays --input <files> {where}{replace}`"
    if own is not None or not _PREPARED.fullmatch(path.name):
        names = ("min_confidence", "max_bodies", "y_down", "fill_unseen", "zero_missing", "unit", "up")
        options = "".join(f" --{key} {_word(parameters[key])}" for key in names if key in parameters)
        options += " --layout <layout>" * (own == "csv")
        format = _word(own or "FORMAT")
        return f"run `skelcl data import poses --format {format} --input <files> {where}{options}{replace}`"
    name = re.sub(r"-([12])$", r" --part \1", path.name)
    # Without its options the command would make another store.
    given = {key: "<list>" if len(str(value)) == 64 else _word(value) for key, value in parameters.items()}
    name += "".join(f" --{_word(key)} {value}" for key, value in given.items() if value != "false")
    return f"run `skelcl data prepare {name} --raw <files> --root {quote(str(path.parent))}{replace}`"


def bodies_of(clips: Clips, n: int) -> np.ndarray:
    """The coordinates of one clip of a batch in main memory, (M, T, V, C); a view, not a copy."""
    first, bodies, frames = (int(numbers[n]) for numbers in (clips.offsets, clips.bodies, clips.frames))
    rows: np.ndarray = clips.joints[first : first + bodies * frames].numpy()
    return rows.reshape(bodies, frames, *rows.shape[1:])


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


def train_duplicates(content: np.ndarray, train: np.ndarray) -> np.ndarray:
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


def _word(value: Any) -> str:
    """A value of ``meta.json`` as a word of a command: somebody else may have chosen it."""
    text = " ".join(str(value).split())
    return quote(text.lower() if isinstance(value, bool) else text[:80])


def npy_header(rows: int, num_joints: int, channels: int = 3) -> bytes:
    """The first bytes of joints.npy: fixed here so that they depend on no library version (NPY format 1.0)."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {num_joints}, {channels}), }}"
    padding = -(len(b"\x93NUMPY\x01\x00") + 2 + len(text) + 1) % 64
    body = (text + " " * padding + "\n").encode("latin-1")
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body
