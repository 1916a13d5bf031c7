"""Frame numbers: from the numbers that a file gives, and from the names of images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skelcl.data.formats.containers import short_repr
from skelcl.data.recording import ReadError


def positions(numbers: Sequence[float], place: Path) -> tuple[list[int], str]:
    """Frame numbers counted from the first.

    Where most of them are a fixed step apart and all others multiples of it, those between them are frames in which
    nobody was seen; the step is 1 in most files. Others, such as times, are successive frames.

    Args:
        numbers: Numbers of the frames that a file names, in any order.
        place: File or folder in error messages.

    Returns:
        The place of each in the clip, and what had to be concluded, or nothing.

    Raises:
        ReadError: Most frames between the first and the last are missing.
    """
    values, ranks = np.unique(np.asarray(numbers), return_inverse=True)
    if len(values) < 2:
        return [0] * len(ranks), ""
    steps, counts = np.unique(np.diff(values), return_counts=True)
    step = steps[counts.argmax()]
    if 2 * counts.max() < len(values) - 1 or (steps % step).any():
        return (
            ranks.tolist(),
            f"numbered {values[0]:.15g} to {values[-1]:.15g} in uneven steps, taken as successive frames",
        )
    frames = np.round((values - values[0]) / step).astype(np.int64)
    if frames[-1] >= 10 * len(values) + 100:
        missing = f"{len(values)} frames are numbered {values[0]:.15g} to {values[-1]:.15g}: too many are missing"
        raise ReadError("frames", f"{place}: {missing}")
    return frames[ranks].tolist(), "" if step == 1 else f"numbered in steps of {step:.15g}, each taken as a frame"


def of_images(names: Sequence[str], place: Path, ordered: bool = True) -> tuple[list[int], str]:
    """Frame numbers from the names of images, counted from the first.

    The frame is the number that alone differs from name to name, else one that counts from each name to the next in the
    order of the file. Where there is none, as in times of day, names are sorted as a whole; where they are not alike,
    the order of the file is that of the frames.

    Args:
        names: An image for each person, in the order of the file.
        place: File or folder in error messages.
        ordered: Whether that order says anything; else names must be alike.

    Returns:
        The place of each in the clip, and what had to be concluded, or nothing.

    Raises:
        ReadError: A name has no number, most frames are missing, or these are several clips.
    """
    images = list(dict.fromkeys(names))
    split = [re.split(r"([0-9]{1,18})", name) for name in images]
    for name, parts in zip(images, split, strict=True):
        if len(parts) == 1:
            raise ReadError("keys", f"{place}: the image {short_repr(name)} has no number")
    example = f"images such as {short_repr(images[-1])}"
    if len({(len(parts), *parts[::2]) for parts in split}) == 1:
        numbers = np.array([[int(number) for number in parts[1::2]] for parts in split], np.int64)
        frames, note = _frames(numbers, images, place)
        note = note and f"{example} {note}"
    elif ordered:
        frames, note = list(range(len(images))), f"{example} are not named alike: frames in the order of the file"
    else:
        raise ReadError("frames", f"{place}: {example} and {short_repr(images[0])} are not named alike: one clip each")
    of = dict(zip(images, frames, strict=True))
    return [of[name] for name in names], note


def _frames(numbers: np.ndarray, images: Sequence[str], place: Path) -> tuple[list[int], str]:
    """Frames of images by the numbers in their names, (n, numbers)."""
    columns = numbers[:, (numbers != numbers[0]).any(0)]
    if columns.shape[1] <= 1:
        if len(images) == 1:
            return [0], ""
        if len(np.unique(columns)) == len(images):
            frames, note = positions(columns[:, 0].tolist(), place)
            return frames, note and f"are {note}"
    steps = np.diff(columns, axis=0)
    counting = (steps > 0).all(0) & (2 * (steps == 1).sum(0) >= len(steps))
    if columns.shape[1] > 1 and counting.any():
        column = columns[:, int(np.argmax(counting))]
        frames, _ = positions(column.tolist(), place)
        return frames, f"have several numbers: the one that is {column[-1]} counts the frames"
    if _several_clips(columns):
        raise ReadError(
            "frames", f"{place}: images such as {short_repr(images[-1])} are of several clips: one file each"
        )
    order = np.lexsort(numbers.T[::-1])
    if list(images) == sorted(images):  # the digits after a point need not be as many in each
        order = np.arange(len(images))
    return np.argsort(
        order
    ).tolist(), "have several numbers, none of which counts: frames are the names, sorted as a whole"


def _several_clips(columns: np.ndarray) -> bool:
    """Whether the last number counts by one from the same start for each of the others, (n, numbers)."""
    starts = []
    for key, count in Counter(map(tuple, columns[:, :-1].tolist())).items():
        counted = np.sort(columns[(columns[:, :-1] == key).all(1), -1])
        if count < 2 or (np.diff(counted) != 1).any():
            return False
        starts.append(counted[0])
    return len(starts) > 1 and len(set(starts)) == 1
