"""Poses in arrays: npy, npz and JSON files of keypoints, with what they say of themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skelcl.data.formats.containers import LARGEST, ZIP, npz_names, read_json, read_npy, read_npz, reading, short_repr
from skelcl.data.poses.contents import Poses, Wanted, as_numbers
from skelcl.data.recording import ReadError

Container = Literal["json", "npy", "npz"]

_KEYS = ("keypoints", "confidence", "label", "id", "fps", "layout", "subject", "camera")
_SCALAR = 1 << 16
"""Bytes of a name or a number of a file."""
_LARGE, _LARGE_NAME = 1e15, 1000


def peek(file: Path, format: Container) -> tuple[str | None, str | None]:
    """Id and label of a container, without its coordinates.

    Raises:
        ReadError: It cannot be read.
    """
    known = _members(file, format, ("id", "label"))
    return _scalar(known, "id", str, file), _scalar(known, "label", str, file)


def read(files: Sequence[Path], wanted: Wanted, format: Container) -> Poses:
    """Reads a clip.

    Args:
        files: Array of keypoints (T, V, C) or (M, T, V, C), or a container of it.
        wanted: Channels to read, 2 or 3; None takes what there is.
        format: What the file is.

    Raises:
        ReadError: It is damaged, or its parts do not fit together.
    """
    (file,), channels = files, wanted.channels
    known = _members(file, format, _KEYS)
    if "keypoints" not in known:
        raise ReadError("keys", f"{file}: the key 'keypoints' is missing")
    joints = as_numbers(known["keypoints"], file, "keypoints")
    confidence = None if known.get("confidence") is None else as_numbers(known["confidence"], file, "confidence")
    if joints.ndim == 3:
        joints = joints[None]
        confidence = confidence[None] if confidence is not None and confidence.ndim == 2 else confidence
    if joints.ndim != 4 or 0 in joints.shape:
        raise ReadError("shape", f"{file}: keypoints are {joints.shape}, not (M, T, V, C) or (T, V, C)")
    width = joints.shape[3]
    count = channels or min(width, 3)
    if confidence is None and width == count + 1:
        joints, confidence = joints[..., :count], joints[..., count]
    if joints.shape[3] != count or count not in (2, 3):
        raise ReadError("shape", f"{file}: keypoints have {width} coordinates, not {channels or '2 or 3'}")
    if confidence is not None and confidence.shape != joints.shape[:3]:
        raise ReadError("shape", f"{file}: confidence is {confidence.shape}, not {joints.shape[:3]}")
    fps = _scalar(known, "fps", float, file)
    if fps is not None and not 0 < fps < math.inf:
        raise ReadError("keys", f"{file}: fps is {fps:g}, not a positive number")
    return Poses(
        joints,
        confidence,
        label=_scalar(known, "label", str, file),
        id=_scalar(known, "id", str, file),
        fps=fps,
        layout=_scalar(known, "layout", str, file),
        subject=_small(known, "subject", 999, file),
        camera=_small(known, "camera", 127, file),
    )


def _members(file: Path, format: Container, keys: Sequence[str]) -> dict[str, Any]:
    """Some entries of a container; a bare array counts as its keypoints."""
    if format == "json":
        content = read_json(file)
        if isinstance(content, list):
            content = {"keypoints": content}
        if not isinstance(content, dict):
            raise ReadError("keys", f"{file}: holds a {type(content).__name__}, not keypoints")
        _check_keys(content, file)
        return {key: content[key] for key in keys if key in content}
    with reading(file), file.open("rb") as stream:
        if not stream.read(4).startswith(ZIP):
            stream.seek(0)
            return {"keypoints": read_npy(stream, file)} if "keypoints" in keys else {}
    _check_keys(npz_names(file), file)
    return read_npz(file, {key: LARGEST if key in ("keypoints", "confidence") else _SCALAR for key in keys})


def _check_keys(names: Iterable[str], file: Path) -> None:
    if unknown := sorted(set(names) - set(_KEYS)):
        raise ReadError("keys", f"{file}: unknown key {short_repr(unknown[0])}; the keys are {', '.join(_KEYS)}")


def _scalar(known: dict[str, Any], key: str, kind: type[str] | type[float], file: Path) -> Any:
    value = known.get(key)
    if isinstance(value, np.ndarray) and value.shape == ():
        with reading(file):
            value = value.item()
    if value is None:
        return None
    if type(value) not in (int, float, kind):
        name = "number" if kind is float else "name"
        raise ReadError("keys", f"{file}: {key} holds {short_repr(value)}, not one {name}")
    if kind is float:
        return float(value) if abs(value) < _LARGE else math.inf
    if not str(value).isprintable() or len(str(value)) > _LARGE_NAME:  # lists of clips have a line for each
        raise ReadError("keys", f"{file}: {key} {short_repr(value)} is not one short line of text")
    return str(value)


def _small(known: dict[str, Any], key: str, largest: int, file: Path) -> int:
    value = _scalar(known, key, float, file)
    if value is None:
        return -1
    if not 0 <= value <= largest or value != int(value):  # in this order: NaN has no integer
        raise ReadError("keys", f"{file}: {key} {value:g} is no whole number of 0–{largest}")
    return int(value)
