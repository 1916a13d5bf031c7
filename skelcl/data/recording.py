"""What readers and the conversion to a store say to each other: sources in, recordings, remarks and errors out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np

from skelcl.errors import InputError
from skelcl.skeleton import Skeleton


class ReadError(InputError):
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
        joints: Coordinates in camera space, (M, T, V, C) float32; NaN, or zeros, where nothing was seen.
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
        notes: What the reader had to conclude, by the reason under which the report counts it.
        zeros: Whether zeros mean that nothing was seen; False leaves that to NaN.
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
    notes: dict[str, str] = field(default_factory=dict)
    zeros: bool = True


Reader = Callable[[Any], Iterable[Recording | Notice]]
"""Turns ``Source.where`` into the clips of the file and remarks on those that it left out or repaired."""


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
        channels: C, the coordinates per joint: 3, or 2 for flat poses.
        recipe: Normalisation that the coordinates already went through (a recipe of ``Normalize``), so that it is not
            done twice; ``none``: camera space.
    """

    name: str
    skeleton: Skeleton
    classes: tuple[str, ...]
    reader: int
    axes: str
    units: str = "m"
    fps: float | None = None
    channels: int = 3
    recipe: str = "none"
