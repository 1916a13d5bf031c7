"""A clip of poses as a file holds it, and what the readers of all formats check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skelcl.data.recording import ReadError
from skelcl.skeleton import Skeleton

Unit = Literal["m", "cm", "mm", "in", "cmu"]
"""Unit of coordinates; ``cmu``: the inches times 0.45 of the files that come from CMU's database."""
Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
"""Axis that points up, or down where there is a minus."""
MOST_BODIES = 16
"""Persons that are kept of a clip, those seen in most frames: an estimator that loses track finds hundreds."""


@dataclass(frozen=True)
class Wanted:
    """What is known of a clip before it is read.

    Args:
        channels: Coordinates per joint, 2 or 3; None takes what there is.
        layout: Layout of the joints.
        axes: Order of the axes of an array, for example ``TMVC``.
        unit: Unit of motion capture; None lets its reader tell.
        up: Axis of motion capture that points up; None lets its reader tell.
        span: Numbers of the first and the last frame, of a file that holds several clips.
    """

    channels: int | None = None
    layout: Skeleton | None = None
    axes: str | None = None
    unit: Unit | None = None
    up: Axis | None = None
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Part:
    """A clip of a file that holds several.

    Args:
        name: What it is called in the file.
        label: Its class.
        span: Numbers of its first and last frame.
    """

    name: str
    label: str
    span: tuple[int, int]


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
        axes: Order of the axes of its array, where sizes and numbers told it.
        aspect: Width by height of the picture, where the file says it.
        looks: The same, where it can be guessed at best.
        notes: What the reader had to conclude from the numbers, one line each, by a short name of what it is about.
        tracks: What the file, or who followed them through it, calls the M persons; empty where nobody says.
        skeleton: Layout of the joints as the file itself describes it, by name or not.
        unit: Unit that the file had; its reader made metres of it.
        up: Axis of the file that points up; its reader made it y.
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
    axes: str | None = None
    aspect: float | None = None
    looks: float | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    tracks: tuple[str, ...] = ()
    skeleton: Skeleton | None = None
    unit: Unit | None = None
    up: Axis | None = None

    def window(self, start: int, stop: int) -> Poses:
        """Some frames of the clip, without what the file says of all."""
        sure = None if self.confidence is None else self.confidence[:, start:stop]
        return Poses(self.joints[:, start:stop], sure, layout=self.layout, others=self.others, skeleton=self.skeleton)


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
