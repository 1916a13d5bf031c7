"""What the published PKU-MMD is: names of videos, classes, cameras, splits and their sizes."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Literal

import numpy as np

from skelcl.data.recording import DatasetInfo
from skelcl.data.store import SkeletonStore
from skelcl.skeleton import NTU25

Part = Literal[1, 2]
Split = Literal["xsub", "xview"]

_FACTS = json.loads(files("skelcl.data").joinpath("resources/pku_mmd.json").read_text("utf-8"))
ACTIONS: tuple[str, ...] = tuple(_FACTS["classes"])
"""Class names of both parts; the files number them from 1."""
PRESENT: dict[int, tuple[int, ...]] = {
    1: tuple(range(len(ACTIONS))),
    2: tuple(label for label in range(len(ACTIONS)) if label + 1 not in _FACTS["absent_from_part_2"]),
}
"""Part → the classes that it contains, counted from 0; a dense label is a position in this."""
INFO = {
    part: DatasetInfo(
        name=f"pku-mmd-{part}",
        skeleton=NTU25,
        classes=tuple(ACTIONS[label] for label in present),
        reader=1,
        axes="Kinect v2 camera: y up, z away from the camera",
        fps=30.0,
    )
    for part, present in PRESENT.items()
}
VIEWS = {"L": 1, "M": 2, "R": 3}
"""Letter in the name of a video → camera."""
PARTS: tuple[Part, Part] = (1, 2)
SPLITS: tuple[Split, Split] = ("xsub", "xview")
PUBLISHED = {(1, "xsub"): (18841, 2704), (1, "xview"): (14357, 7188), (2, "xsub"): (5332, 1613)}
"""Part and split → training and test clips as papers report them; conventions of cutting move them by a few."""

NAMES = {1: re.compile(r"(\d{4})-([LMR])"), 2: re.compile(r"A(\d{2})N(\d{2})-([LMR])")}
"""Part → name of a video, which is the stem of its files."""
EXAMPLES = {1: "0002-L.txt", 2: "A01N01-L.txt"}
"""Part → a name for messages."""


def videos(part: Part) -> list[str]:
    """Names of all videos of the complete data set: 1,076 of part 1, 1,009 of part 2."""
    if part == 1:
        names = [f"{n:04d}-{view}" for n in range(2, 365) if not 247 <= n <= 250 for view in VIEWS]
        missing = {"0060-L"}
    else:
        names = [f"A{a:02d}N{n:02d}-{view}" for a in range(1, 27) for n in range(1, 14) for view in VIEWS]
        missing = {"A05N04-M", "A07N12-M", "A08N12-M", "A14N12-M", "A20N01-M"}
    return [name for name in names if name not in missing]


def parse_name(name: str, part: Part) -> tuple[int, int, int]:
    """What the name of a video says.

    Args:
        name: Stem of its files, ``0002-L`` in part 1, ``A01N01-L`` in part 2.
        part: Part of the data set.

    Returns:
        Number of the recording (part 1) or session (part 2), which the store keeps as the setup; performer, −1 in part
        1, whose names do not tell; camera.

    Raises:
        ValueError: It is no name of this part.
    """
    match = NAMES[part].fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no name of a video of part {part}, such as {EXAMPLES[part][:-4]}")
    *numbers, view = match.groups()
    return int(numbers[0]), int(numbers[1]) if part == 2 else -1, VIEWS[view]


def is_test(name: str, part: Part, split: Split) -> bool:
    """Whether the official split has a video in its test part; it calls that part validation.

    The rules reproduce the distributed lists name by name. Cross-view holds out the middle view in part 1 and the left
    one in part 2.

    Args:
        name: Stem of the files of the video.
        part: Part of the data set.
        split: ``xsub`` (cross-subject) or ``xview`` (cross-view).

    Returns:
        True for the test part, False for the training part.
    """
    recording, subject, camera = parse_name(name, part)
    if split == "xview":
        return camera == VIEWS["M" if part == 1 else "L"]
    return 291 <= recording <= 334 if part == 1 else subject in (2, 3, 7)


def splits(index: dict[str, np.ndarray], part: Part) -> dict[str, np.ndarray]:
    """Training parts of the two protocols.

    Args:
        index: Columns of the store, each (N,).
        part: Part of the data set.

    Returns:
        Name of the protocol → (N,) bool; all other clips are its test part.
    """
    names, clip = np.unique(index["video"], return_inverse=True)
    return {
        split: np.array([not is_test(name, part, split) for name in names.tolist()], bool)[clip] for split in SPLITS
    }


def summary(store: SkeletonStore, part: Part) -> str:
    """Sizes of the splits beside the published ones.

    Args:
        store: The converted data set.
        part: Its part.

    Returns:
        A line for each split, and a warning when videos are missing or unknown.
    """
    found = np.unique(store.index["video"])
    lines = []
    for split in SPLITS:
        train = splits(store.index, part)[split]
        held = np.array([is_test(name, part, split) for name in found.tolist()])
        line = f"{split}: train {int(train.sum())} / test {int((~train).sum())} clips"
        line += f" of {int((~held).sum())} / {int(held.sum())} videos"
        if (part, split) in PUBLISHED:
            line += " (published: {} / {} clips)".format(*PUBLISHED[part, split])
        lines.append(line)
    complete, present = set(videos(part)), set(found.tolist())
    if missing := sorted(complete - present):
        lines.append(
            f"warning: not the complete data set, {len(complete & present)} of {len(complete)} videos have clips here; "
            f"{len(missing)} are missing, for example {missing[0]}"
        )
    if unknown := sorted(present - complete):
        lines.append(f"warning: {len(unknown)} videos are not part of the data set, for example {unknown[0]}")
    return "\n".join(lines)
