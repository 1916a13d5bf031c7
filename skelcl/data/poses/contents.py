"""A clip of poses as a file holds it, and what the readers of all formats check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.recording import ReadError

MOST_BODIES = 16
"""Persons that are kept of a clip, those seen in most frames: an estimator that loses track finds hundreds."""


@dataclass(frozen=True, eq=False)
class Poses:
    """One clip as a file holds it.

    Args:
        joints: Coordinates, (M, T, V, C) float32, NaN where nothing was seen.
        confidence: (M, T, V) float32, None when the file has none.
        label: Name of the class; None, as the next four, when the file does not say.
        id: Name of the clip.
        fps: Frames per second.
        layout: Name of the layout.
        subject: Performer.
        camera: Camera.
        others: Persons that were left out because they were seen less often than the others.
    """

    joints: np.ndarray
    confidence: np.ndarray | None = None
    label: str | None = None
    id: str | None = None
    fps: float | None = None
    layout: str | None = None
    subject: int = -1
    camera: int = -1
    others: int = 0

    def window(self, start: int, stop: int) -> Poses:
        """Some frames of the clip, without what the file says of all."""
        sure = None if self.confidence is None else self.confidence[:, start:stop]
        return Poses(self.joints[:, start:stop], sure, layout=self.layout, others=self.others)


def positions(numbers: Sequence[int], place: Path) -> list[int]:
    """Frame numbers counted from the first; frames that are not named are frames in which nobody was seen.

    Args:
        numbers: Numbers of the frames that a file names, in any order.
        place: File or folder in error messages.

    Returns:
        The place of each in the clip.

    Raises:
        ReadError: Most frames between the first and the last are missing.
    """
    first, count = min(numbers), len(set(numbers))
    if max(numbers) - first >= 10 * count + 100:
        raise ReadError(
            "frames", f"{place}: {count} frames are numbered {first} to {max(numbers)}: too many are missing"
        )
    return [number - first for number in numbers]


def as_numbers(values: Any, place: Path | str, what: str) -> np.ndarray:
    """Whatever a file holds as a regular array.

    Args:
        values: Numbers, nested or not; None for NaN.
        place: File, and perhaps the place in it, in error messages.
        what: What it is, in error messages.

    Returns:
        float32 of the same shape; what that cannot hold is infinite.

    Raises:
        ReadError: They are ragged, or no numbers.
    """
    try:
        wide = np.asarray(values)
        if wide.dtype.kind in "OiufUb":
            if wide.dtype.kind in "Ub":
                raise ValueError("text or truth values")
            with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is infinite, hence missing
                return np.asarray(values, np.float64).astype(np.float32)
        raise ValueError(f"{wide.dtype}")
    except (ValueError, TypeError, OverflowError) as error:
        raise ReadError("numbers", f"{place}: {what} is no regular array of numbers ({str(error)[:80]})") from error
