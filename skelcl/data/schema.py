"""What a store holds: the columns of its index, and whether ``meta.json`` and ``index.npz`` are what they must be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import IntFlag
from typing import Any

import numpy as np

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

CHECKED = ("joints.npy", "index.npz", "report.json")
"""Files whose checksums ``meta.json`` holds."""
FILES = (*CHECKED, "meta.json")

_UNKNOWN = ("label", "label_original", "subject", "camera", "setup", "replication", "start", "end")
"""Columns that hold −1 where nothing is known."""
_MOST_JOINTS, _MOST_CLASSES = 1000, 32_767  # what an int16 label can name


class Flag(IntFlag):
    """Bits of the index column ``flags``."""

    REPAIRED = 1
    """Single joints are missing (NaN); they are interpolated when the clip is loaded."""
    GAP = 2
    """A stored body is missing in whole frames (rows of NaN)."""
    SINGLE_FRAME = 4
    """The clip has one frame."""


# --- meta.json --------------------------------------------------------------------------------------------------------


def is_text(value: Any) -> bool:
    """Whether a value is a text."""
    return type(value) is str


def is_count(value: Any) -> bool:
    """Whether a value is a whole number from 0 on."""
    return type(value) is int and value >= 0


def _is_rate(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 < value < math.inf)


def _are_classes(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MOST_CLASSES and all(map(is_text, value))


def _are_counts(value: Any) -> bool:
    names = ("sequences", "rows", "frames", "files")
    return isinstance(value, dict) and all(is_count(value.get(name)) for name in names) and value["sequences"] > 0


def _are_checksums(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == set(CHECKED)
        and all(is_text(digest) and re.fullmatch(r"[0-9a-f]{64}", digest) for digest in value.values())
    )


Entries = Mapping[str, tuple[Callable[[Any], Any], str]]
"""Name of an entry → whether a value can be it, and what it must be, in words."""

DATA: Entries = {
    "dataset": (is_text, "a name"),
    "skeleton": (lambda value: isinstance(value, dict), "a layout"),
    "classes": (_are_classes, f"a list of at most {_MOST_CLASSES} names"),
    "units": (is_text, "a text"),
    "axes": (is_text, "a text"),
    "fps": (_is_rate, "null or a positive number"),
    "recipe": (is_text, "a name"),
    "parameters": (lambda value: isinstance(value, dict), "an object"),
    "source": (is_text, "a text"),
}
"""What a store says of its clips, and a checkpoint of those that it was trained on."""
_META: Entries = {
    **DATA,
    "reader": (is_count, "a version"),
    "sources": (is_text, "a checksum"),
    "counts": (_are_counts, "numbers of sequences, rows, frames and files"),
    "sha256": (_are_checksums, f"the checksums of {', '.join(CHECKED)}"),
}
"""Entry of ``meta.json`` → what it must be."""


def checked_meta(meta: Any) -> tuple[dict[str, Any], Skeleton]:
    """The content of ``meta.json``, if it is one, and its layout.

    Raises:
        ValueError: It is none; the message says which entry is wrong, and how.
    """
    if not isinstance(meta, dict) or "schema" not in meta:
        raise ValueError("it has no schema")
    if meta["schema"] != SCHEMA or type(meta["schema"]) is not int:
        raise ValueError(f"it has store format {str(meta['schema'])[:20]}, this version reads {SCHEMA}")
    check_entries(meta, _META)
    if type(meta.get("channels", 3)) is not int or meta.get("channels", 3) not in (2, 3):
        raise ValueError("channels is not 2 or 3")
    return meta, checked_skeleton(meta["skeleton"])


def check_entries(values: Mapping[str, Any], entries: Entries) -> None:
    """Checks that every entry is there and what it must be.

    Raises:
        ValueError: One is not; the message says which, and what it must be.
    """
    for key, (fits, what) in entries.items():
        if key not in values:
            raise ValueError(f"{key} is missing")
        if not fits(values[key]):
            raise ValueError(f"{key} is not {what}")


def checked_skeleton(values: Mapping[str, Any]) -> Skeleton:
    """The layout that somebody's plain values describe.

    Raises:
        ValueError: They describe none, or one of more joints than any body has.
    """
    joints = values.get("joints")
    if not isinstance(joints, (list, tuple)) or not 1 <= len(joints) <= _MOST_JOINTS:
        raise ValueError(f"skeleton has no list of 1 to {_MOST_JOINTS} joints")
    return Skeleton.from_dict(values)


# --- index.npz --------------------------------------------------------------------------------------------------------


def check_index(index: Mapping[str, np.ndarray], classes: int, sequences: int, rows: int) -> None:
    """Checks every column of the index for type, length and range.

    Args:
        index: Name of each column → its entries.
        classes: Number of classes.
        sequences: N, the number of clips.
        rows: R, the rows of joints.

    Raises:
        ValueError: One is wrong; the message names column and clip.
    """
    if missing := [name for name in COLUMNS if name not in index]:
        raise ValueError(f"has no column {missing[0]}")
    for name, kind in COLUMNS.items():
        column = index[name]
        if column.dtype.kind != "U" if kind is np.str_ else column.dtype != np.dtype(kind):
            raise ValueError(f"the column {name} holds {column.dtype}, not {np.dtype(kind).name}")
        if column.ndim != 1:
            raise ValueError(f"the column {name} has the shape {column.shape}")
    if {len(index[name]) for name in COLUMNS} != {sequences}:
        raise ValueError("and meta.json disagree on the number of clips")

    def need(right: np.ndarray, message: str) -> None:
        if not right.all():
            raise ValueError(f"{message} (clip {int(np.argmin(right))} of {sequences})")

    for name in ("id", "video", "content"):
        codes = np.ascontiguousarray(index[name]).view(np.uint32).reshape(sequences, -1)
        if codes.max(initial=0) >= 0xD800:  # else there is nothing to look for, in a fraction of the time
            text = (codes < 0xD800) | ((codes > 0xDFFF) & (codes <= 0x10FFFF))
            need(np.asarray(text.all(1)), f"{name} is no text")
    frames, bodies = index["n_frames"].astype(np.int64), index["n_bodies"].astype(np.int64)
    need((frames > 0) & (bodies > 0), f"does not describe {rows} rows of joints: a clip has no frame or no body")
    sizes = frames * bodies
    row = np.cumsum(sizes) - sizes
    if not np.array_equal(index["row"], row) or (row < 0).any() or row[-1] + sizes[-1] != rows:
        raise ValueError(f"does not describe {rows} rows of joints")
    need(np.asarray(index["id"] != ""), "a clip has no id")
    need(np.append(True, index["id"][1:] > index["id"][:-1]), "ids are not sorted, or one occurs twice")
    need((index["first"] >= 0) & (index["first"] < frames), "first lies outside of the clip")
    need(index["label"] < classes, f"label is none of the {classes} classes")
    for name in _UNKNOWN:
        need(index[name] >= -1, f"{name} is below -1")
    need(index["n_frames_declared"] >= 0, "n_frames_declared is negative")
    need(index["end"] >= index["start"], "end lies before start")
    flags = index["flags"]
    need((flags >= 0) & (flags < 2 * max(Flag)), "flags has an unknown bit")
    need((flags & Flag.SINGLE_FRAME > 0) == (frames == 1), "flags contradict the number of frames")
