"""What every format of processed data shares: a data set that was opened but not read, names, parts, labels, arrays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from skelcl.data.formats import ntu_release as ntu
from skelcl.data.recording import Notice, Reader, Recording, Source
from skelcl.errors import InputError
from skelcl.skeleton import NTU25, Skeleton

TRAIN, TEST = "train/", "test/"
"""Beginnings of the ids of clips whose names do not tell their part."""
PARTS = {"train": TRAIN, "val": TEST, "test": TEST}
"""How files, members and splits call the two parts → how the ids begin."""
CAMERA = "Kinect v2 camera: y up, z away from the camera"
"""Axes of coordinates that nobody turned."""
_PKU_CLASSES = 51


@dataclass(frozen=True)
class OpenedDataset:
    """A processed data set that was recognised and checked, but not read.

    Args:
        told: What was recognised, for people.
        kind: ``ctr-gcn``, ``agcn``, ``stgcn``, ``aimclr``, ``pyskl``, ``sgn`` or ``ntu-npy``; kept in ``meta.json``.
        sources: One for each clip, whose name is the id of its recording, or for each file.
        read: Turns ``Source.where`` into recordings; picklable.
        classes: Class names in the order of the labels.
        skeleton: Layout of the joints.
        channels: C, the coordinates per joint.
        recipe: Normalisation that the coordinates went through.
        fps: Frames per second, where known.
        axes: Directions of x, y and z.
        units: Unit of the coordinates.
        parameters: Options that change the recordings; kept in ``meta.json``.
        notices: Lines for ``report.json`` on what was left out.
    """

    summary: str
    kind: str
    sources: list[Source]
    read: Reader
    classes: tuple[str, ...]
    skeleton: Skeleton = NTU25
    channels: int = 3
    recipe: str = "none"
    fps: float | None = 30.0
    axes: str = CAMERA
    units: str = "m"
    parameters: dict[str, Any] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)


# --- names and labels -------------------------------------------------------------------------------------------------


def id_prefixes(parts: Collection[str], named: bool) -> tuple[dict[str, str], list[Notice]]:
    """How the ids of the parts begin that are imported.

    What codes call ``val`` is their test part when there is no other. Beside a test part it is neither: it is left out,
    so that what is reported on test is on test alone.

    Args:
        parts: Which of ``train``, ``val`` and ``test`` there are.
        named: Whether the names of the clips tell their part, so that no id gets a beginning.

    Returns:
        Part → beginning, and what is to be told.
    """
    kept = {part: begin for part, begin in PARTS.items() if part in parts}
    outcome: Literal["skipped", "warning"] = "warning"
    message = f"there is no test part: clips of val are called {TEST}…"
    if {"val", "test"} <= kept.keys():
        del kept["val"]
        outcome, message = "skipped", "the val part is left out, since there is a test part beside it"
    elif "val" not in kept or named:
        return kept, []
    return kept, [Notice(id="", outcome=outcome, reason="val_part", message=message, line=None)]


def is_ntu(names: Sequence[str]) -> bool:
    """Whether all names are those of NTU RGB+D clips, which tell performer, camera and setup, and so the part."""
    return all(ntu.belongs(name, "ntu120") for name in names)


def recording(
    id: str, joints: np.ndarray, label: int, *, zeros: bool = True, warnings: Sequence[str] = ()
) -> Recording:
    """A clip with everything that its name tells.

    Args:
        id: Name; performer, camera, setup and replication are read from one of NTU RGB+D.
        joints: Coordinates, (M, T, V, C) float32.
        label: Class, counted from 0; −1 when unknown.
        zeros: Whether a joint at exactly zero was not seen; False where normalisation puts joints there.
        warnings: Oddities that were accepted.
    """
    setup, camera, performer, replication, _ = ntu.fields(id) or (-1, -1, -1, -1, -1)
    return Recording(
        id, joints, label, performer, camera, setup, replication, warnings=list(warnings), zeros=zeros
    )  # fmt: skip


def check_names(names: Sequence[str], labels: Sequence[int] | np.ndarray, place: str) -> None:
    """Checks that names are names, differ, and that those of NTU RGB+D tell the label that stands beside them.

    Raises:
        InputError: They do not; the message names the first wrong one.
    """
    if len(names) != len(labels):
        raise InputError(f"{place}: {len(names)} names for {len(labels)} labels")
    seen: set[str] = set()
    for name, label in zip(names, labels, strict=True):
        if not name.isprintable() or not name.strip() or "\\" in name:
            raise InputError(f"{place}: {name!r} is no name of a clip")
        if name in seen:
            raise InputError(f"{place}: the name {name!r} occurs twice")
        seen.add(name)
        numbers = ntu.fields(name)
        if numbers is not None and label >= 0 and numbers[4] != label + 1:
            raise InputError(
                f"{place}: {name} shows action A{numbers[4]:03d}, but its label is {label}, counted from 0"
            )


def whole_labels(values: Any, place: str) -> np.ndarray:
    """Labels as int64 (N,), from integers, or floats that are whole.

    Raises:
        InputError: A label is none; the message names it.
    """
    # numpy would follow nested lists, which may hold one another, to their last item
    plain = isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values)
    array = np.asarray(values) if plain or isinstance(values, np.ndarray) else None
    if array is None or array.ndim != 1 or array.dtype.kind not in "iufb":
        raise InputError(f"{place}: labels must be a list of whole numbers")
    numbers = array.astype(np.float64)
    wrong = ~np.isfinite(numbers) | (numbers != np.floor(numbers)) | (numbers < 0) | (numbers > 32766)
    if wrong.any():
        raise InputError(f"{place}: label {np.flatnonzero(wrong)[0]} is {numbers[wrong][0]:g}, no class counted from 0")
    return numbers.astype(np.int64)


def class_names(names: Sequence[str], labels: np.ndarray, count: int | None = None) -> tuple[str, ...]:
    """Names of the classes: those of NTU RGB+D for its clips, of PKU-MMD for 51 classes, else numbers from 0.

    Args:
        names: Names of the clips.
        labels: Their labels, (N,).
        count: Number of classes, where the data set tells it.

    Raises:
        InputError: A label is not less than ``count``.
    """
    highest = int(labels.max(initial=-1))
    if count is not None and highest >= count:
        raise InputError(f"a label is {highest}, but there are {count} classes, counted from 0")
    if (names and is_ntu(names)) or (not names and count in (60, 120)):
        small = highest < 60 and count in (None, 60) and all(ntu.belongs(name, "ntu60") for name in names)
        return ntu.info("ntu60" if small else "ntu120").classes
    if count == _PKU_CLASSES:
        from skelcl.data.formats.pku_release import ACTIONS

        return tuple(ACTIONS)
    return tuple(str(label) for label in range(count or highest + 1))


# --- frames and bodies ------------------------------------------------------------------------------------------------


def as_float32(values: np.ndarray) -> np.ndarray:
    """A copy in float32; what that cannot hold is infinite, hence missing."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(values, np.float32)


def trimmed(joints: np.ndarray, zeros: bool) -> np.ndarray:
    """Cuts padding: empty frames at the end and bodies that were never seen.

    Args:
        joints: Coordinates, (M, T, V, C); zeros or NaN where nothing was seen.
        zeros: Whether zeros mean that nothing was seen. If not, frames that are zero as a whole become NaN, for single
            zeros are coordinates.

    Returns:
        (M', T', V, C) float32; everything is cut when nothing was seen.
    """
    out = as_float32(joints)
    nothing = ~(np.isfinite(out) & (out != 0)).any((2, 3))
    if not zeros:
        out[nothing] = np.nan
    frames = np.flatnonzero(~nothing.all(0))
    return out[~nothing.all(1), : frames[-1] + 1 if len(frames) else 0]
