"""Poses in arrays: npy, npz and JSON files of keypoints, with what they say of themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skelcl.data.formats.containers import LARGEST, ZIP, read_json, read_npy, read_npz, reading, short_repr
from skelcl.data.poses.axes import arrange, split_confidence
from skelcl.data.poses.contents import Poses, Wanted, as_numbers
from skelcl.data.recording import ReadError
from skelcl.skeleton import LAYOUTS

Container = Literal["json", "npy", "npz"]

_KEYS = ("keypoints", "confidence", "label", "id", "fps", "layout", "subject", "camera", "aspect")
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
        wanted: What is known of it: channels, layout, order of the axes.
        format: What the file is.

    Raises:
        ReadError: It is damaged, its parts do not fit together, or its axes can be several.
    """
    (file,) = files
    known = _members(file, format, _KEYS)
    if "keypoints" not in known:
        raise ReadError("keys", f"{file}: the key 'keypoints' is missing")
    joints = as_numbers(known["keypoints"], file, "keypoints")
    confidence = None if known.get("confidence") is None else as_numbers(known["confidence"], file, "confidence")
    layout = _scalar(known, "layout", str, file)
    if layout in LAYOUTS:
        wanted = replace(wanted, layout=LAYOUTS[layout])
    joints, confidence, axes = arrange(joints, confidence, wanted, file)
    notes = {} if axes is None else {"axes": f"{file}: keypoints are taken as {axes}, by their sizes and numbers"}
    if confidence is None:
        joints, confidence, note = split_confidence(joints, wanted.channels, file)
        notes |= {} if note is None else {"confidence": note}
    elif joints.shape[3] not in ((2, 3) if wanted.channels is None else (wanted.channels,)):
        expected = wanted.channels or "2 or 3"
        raise ReadError("shape", f"{file}: keypoints have {joints.shape[3]} coordinates, not {expected}")
    if confidence is not None and confidence.shape != joints.shape[:3]:
        raise ReadError("shape", f"{file}: confidence is {confidence.shape}, not {joints.shape[:3]}")
    return Poses(
        joints,
        confidence,
        label=_scalar(known, "label", str, file),
        id=_scalar(known, "id", str, file),
        fps=_positive(known, "fps", file),
        layout=layout,
        subject=_small(known, "subject", 999, file),
        camera=_small(known, "camera", 127, file),
        axes=axes,
        aspect=_positive(known, "aspect", file),
        notes=notes,
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
    limits = {key: LARGEST if key in ("keypoints", "confidence") else _SCALAR for key in keys}
    return read_npz(file, limits, lambda names: _check_keys(names, file))


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


def _positive(known: dict[str, Any], key: str, file: Path) -> float | None:
    value: float | None = _scalar(known, key, float, file)
    if value is not None and not 0 < value < math.inf:
        raise ReadError("keys", f"{file}: {key} is {value:g}, not a positive number")
    return value


def _small(known: dict[str, Any], key: str, largest: int, file: Path) -> int:
    value = _scalar(known, key, float, file)
    if value is None:
        return -1
    if not 0 <= value <= largest or value != int(value):  # in this order: NaN has no integer
        raise ReadError("keys", f"{file}: {key} {value:g} is no whole number of 0–{largest}")
    return int(value)
