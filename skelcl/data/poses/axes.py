"""Which axis of an array is which, and what its last column is: by what was said, else by sizes and numbers."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np

from skelcl.data.poses.contents import MOST_BODIES, Wanted
from skelcl.data.recording import ReadError
from skelcl.errors import OptionError
from skelcl.skeleton import LAYOUTS

_LETTERS = "MTVC"
"""Bodies, frames, joints, coordinates: the order of a clip."""
_SURE = (-0.1, 2.0)
"""Where confidences lie: 0 to 1, and what networks give in excess of it."""
_WIDE = 20.0
"""No body is so wide in m that its third coordinate fits into 0 to 1."""


def check_axes(axes: str | None) -> str | None:
    """The order of axes of ``--axes``, in capitals.

    Raises:
        OptionError: It does not name each axis once.
    """
    letters = None if axes is None else axes.upper().replace(" ", "")
    if letters is not None and sorted(letters) not in (sorted(_LETTERS), sorted(_LETTERS[1:])):
        raise OptionError(
            f"--axes {axes}: must name each axis once: M bodies, T frames, V joints, C coordinates, for example TMVC"
        )
    return letters


def arrange(
    values: np.ndarray, confidence: np.ndarray | None, wanted: Wanted, file: Path
) -> tuple[np.ndarray, np.ndarray | None, str | None]:
    """Puts the axes of a clip in order.

    Args:
        values: (M, T, V, C) or (T, V, C), in any order of the axes.
        confidence: The same without C, where it is known.
        wanted: The order, where it is known, and the layout.
        file: File in error messages.

    Returns:
        Coordinates (M, T, V, C), confidence (M, T, V), and the order that sizes and numbers told; None where it was
        that of a clip, or known.

    Raises:
        ReadError: There are more or fewer axes, or several orders are possible.
    """
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise ReadError("shape", f"{file}: keypoints are {values.shape}, not (M, T, V, C) or (T, V, C)")
    letters = _LETTERS[-values.ndim :]
    given = wanted.axes if wanted.axes is None or values.ndim == 4 else wanted.axes.replace("M", "")
    if given is not None and len(given) != values.ndim:
        raise ReadError("axes", f"{file}: keypoints are {values.shape}, which --axes {given} does not describe")
    found = given or _order(values, None if wanted.layout is None else wanted.layout.num_joints, file)
    if found != letters:
        values = values.transpose([found.index(letter) for letter in letters])
        if confidence is not None and confidence.ndim == len(found) - 1:
            others = found.replace("C", "")
            confidence = confidence.transpose([others.index(letter) for letter in letters[:-1]])
    if values.ndim == 3:
        values = values[None]
        confidence = confidence[None] if confidence is not None and confidence.ndim == 2 else confidence
    return np.ascontiguousarray(values), confidence, None if given or found == letters else found


def _order(values: np.ndarray, joints: int | None, file: Path) -> str:
    """The order of axes by their sizes; where both fit, frames are what moves least from one to the next."""
    letters = _LETTERS[-values.ndim :]
    known = {layout.num_joints for layout in LAYOUTS.values()} if joints is None else {joints}

    def fits(order: str, joints: set[int] | None) -> bool:
        size = dict(zip(order, values.shape, strict=True))
        bodies = size.get("M", 1)
        return size["C"] in (2, 3, 4) and bodies <= MOST_BODIES and (joints is None or size["V"] in joints)

    if fits(letters, None if joints is None else known) and (values.ndim == 3 or values.shape[0] <= values.shape[1]):
        return letters
    orders = [order for order in map("".join, permutations(letters)) if fits(order, known)]
    # Joints and coordinates stand last in most files.
    likely = [order for order in orders if order.endswith("VC")] or orders
    if not likely:
        return letters
    if sorted(likely) == ["MTVC", "TMVC"]:
        first, second = (_way(np.moveaxis(values, axis, 0)) for axis in (0, 1))
        likely = ["TMVC"] if 2 * first < second else ["MTVC"] if 2 * second < first else likely
    if len(likely) > 1:
        possible = " or ".join(likely[:3])
        raise ReadError("axes", f"{file}: keypoints are {values.shape}: {possible}? --axes {likely[-1]} says which")
    return likely[0]


def _way(values: np.ndarray) -> float:
    """How far joints move on average along the first axis; infinite where there is nothing to move to."""
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.linalg.norm(np.diff(values, axis=0), axis=-1)
    apart = apart[np.isfinite(apart)]
    return float(apart.mean()) if apart.size else np.inf


def split_confidence(
    values: np.ndarray, channels: int | None, file: Path
) -> tuple[np.ndarray, np.ndarray | None, str | None]:
    """Tells coordinates from a column of confidences behind them.

    Args:
        values: (M, T, V, C).
        channels: Coordinates that are wanted, 2 or 3; None leaves that to the numbers.
        file: File in error messages.

    Returns:
        Coordinates, confidence (M, T, V) where there is such a column, and what had to be concluded.

    Raises:
        ReadError: There are other columns, or three that can be either.
    """
    width = values.shape[-1]
    note = None
    if width == 3 and channels != 2:
        count = 3
        kind = _third_column(values)
        if kind == "either" and channels is None:
            raise ReadError(
                "axes",
                f"{file}: x, y and a third column all lie in 0…1: "
                "--channels 3 if that is z, --channels 2 if it is the confidence",
            )
        if kind == "confidence":
            count = channels or 2
            far = f"x and y reach {np.nanmax(np.abs(values[..., :2])):.4g} beside a third column in 0…1"
            remedy = "--channels 3 reads three coordinates" if channels is None else "--channels 2 takes it for that"
            note = f"{file}: {far}, which looks like pixels and a confidence; {remedy}"
    else:
        count = channels or min(width, 3)
    if width not in (count, count + 1) or count not in (2, 3):
        raise ReadError("shape", f"{file}: keypoints have {width} coordinates, not {channels or '2 or 3'}")
    if width == count:
        return values, None, note
    sure = values[..., count]
    low, high = np.nanmin(sure, initial=0.0), np.nanmax(sure, initial=0.0)
    if low < _SURE[0] or high > _SURE[1]:
        column = f"column {width} lies in {low:.4g}…{high:.4g}, so it is no confidence"
        raise ReadError("axes", f"{file}: {column}" + "; --channels 3 takes it for z" * (count == 2))
    return values[..., :count], sure, note


def _third_column(values: np.ndarray) -> str:
    """What the third column of (M, T, V, 3) looks like: ``z``, ``confidence`` or ``either``."""
    low, high = values[..., 2].min(), values[..., 2].max()
    if np.isfinite([low, high]).all() and (low < _SURE[0] or high > _SURE[1]):  # as of most, told at a glance
        return "z"
    seen = values[np.isfinite(values).all(-1) & (values != 0).any(-1)]
    third, plane = seen[:, 2], seen[:, :2]
    if not third.any() or third.min() < _SURE[0] or third.max() > _SURE[1]:
        return "z"
    if np.ptp(plane, axis=0).max() > _WIDE:
        return "confidence"
    return "either" if plane.min() >= 0 and plane.max() <= 1 and third.min() >= 0 and third.max() <= 1 else "z"
