"""What the published NTU RGB+D 60 and 120 are: names, classes, missing skeletons, splits and their sizes."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from skelcl.data.recording import DatasetInfo
from skelcl.data.store import SkeletonStore
from skelcl.skeleton import NTU25

Release = Literal["ntu60", "ntu120"]

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
"""Setup, camera, performer, replication and action, all counted from 1."""
TRAIN_PERFORMERS = (
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38,
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
)  # fmt: skip
"""Training part of ``xsub``; the first twenty are those of NTU-60."""
PUBLISHED: dict[str, dict[str, tuple[int, int]]] = {
    "ntu60": {"xsub": (40091, 16487), "xview": (37646, 18932)},
    "ntu120": {"xsub": (63026, 50919), "xset": (54468, 59477)},
}
"""Training and test clips of each protocol when everything but the listed missing skeletons is there."""
NOVEL_ACTIONS = tuple(range(1, 121, 6))
"""Actions of NTU-120's one-shot protocol that training must not see."""


@cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(files("skelcl.data").joinpath("resources", "ntu_rgbd.json").read_text("utf-8"))
    return facts


@cache
def missing_skeletons() -> frozenset[str]:
    """Names that the data set's authors list as missing or incomplete: 535, of which 302 belong to NTU-60."""
    return frozenset(f"{group}A{action:03d}" for group, actions in _facts()["missing"].items() for action in actions)


@cache
def info(release: Release) -> DatasetInfo:
    """Description of the store of NTU-60 or NTU-120."""
    return DatasetInfo(
        name=release,
        skeleton=NTU25,
        classes=tuple(_facts()["classes"][: 60 if release == "ntu60" else 120]),
        reader=1,
        axes="Kinect v2 camera: y up, z away from the camera",
        fps=30.0,
    )


def fields(name: str) -> tuple[int, int, int, int, int] | None:
    """Setup, camera, performer, replication and action of a name such as ``S001C002P003R002A013``; None for others."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    setup, camera, performer, replication, action = map(int, match.groups())
    return setup, camera, performer, replication, action


def belongs(name: str, release: Release) -> bool:
    """Whether a name lies in the ranges of a release: setups 1–17 show actions 1–60, setups 18–32 actions 61–120."""
    numbers = fields(name)
    if numbers is None:
        return False
    setup, camera, performer, replication, action = numbers
    first = 1 <= setup <= 17 and 1 <= action <= 60 and performer <= 40
    second = release == "ntu120" and 18 <= setup <= 32 and 61 <= action <= 120 and performer <= 106
    return (first or second) and performer >= 1 and 1 <= camera <= 3 and 1 <= replication <= 2


def official_ids(release: Release, usable: bool = True) -> list[str]:
    """Names of the published clips, from which every split follows.

    Each performer of a setup did each of its 60 actions twice before three cameras. The 318 pairs of setup and
    performer, of which 158 belong to NTU-60, thus give 114,480 and 56,880 clips; no other pair was recorded.

    Args:
        release: ``ntu60`` or ``ntu120``.
        usable: Without those of :func:`missing_skeletons`, which leaves 113,945 and 56,578.

    Returns:
        The names in ascending order, hence by setup, camera, performer, replication and action.
    """
    skip = missing_skeletons() if usable else frozenset()
    names = [
        f"S{setup:03d}C{camera:03d}P{performer:03d}R{replication:03d}A{action:03d}"
        for setup in range(1, 18 if release == "ntu60" else 33)
        for camera in (1, 2, 3)
        for performer in _facts()["performers"][str(setup)]
        for replication in (1, 2)
        for action in (range(1, 61) if setup <= 17 else range(61, 121))
    ]
    return [name for name in names if name not in skip]


def splits(release: Release, index: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Training parts of the official protocols.

    Args:
        release: ``ntu60`` or ``ntu120``.
        index: Columns of the store, each (N,).

    Returns:
        Name of the protocol → (N,) bool; all other clips are its test part.
    """
    xsub = np.isin(index["subject"], TRAIN_PERFORMERS)
    if release == "ntu60":
        return {"xsub": xsub, "xview": np.asarray(index["camera"] != 1)}
    return {"xsub": xsub, "xset": np.asarray(index["setup"] % 2 == 0)}


def one_shot(index: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """NTU-120's one-shot protocol: which clips show novel actions, and which of these are the exemplars.

    Args:
        index: Columns of the store, each (N,).

    Returns:
        (N,) bool twice; the novel clips that are no exemplars are the queries.
    """
    novel = np.isin(index["label"], np.array(NOVEL_ACTIONS) - 1)
    names = [f"S{1 if action <= 55 else 18:03d}C003P008R001A{action:03d}" for action in NOVEL_ACTIONS]
    return novel, np.isin(index["id"], names)


def difference(release: Release, index: dict[str, np.ndarray]) -> str:
    """What sets a store apart from the published data set.

    Args:
        release: ``ntu60`` or ``ntu120``.
        index: Columns of the store, each (N,).

    Returns:
        Splits of other sizes, clips that are missing and clips beyond the published ones; empty when there are none.
    """
    parts = []
    for name, train in splits(release, index).items():
        found = int(train.sum()), int((~train).sum())
        if found != PUBLISHED[release][name]:
            published = PUBLISHED[release][name]
            parts.append(f"{name} train {found[0]} of {published[0]}, test {found[1]} of {published[1]}")
    official, ids = set(official_ids(release)), set(index["id"].tolist())
    for what, names in (("missing", official - ids), ("beyond it", ids - official)):
        if names:
            parts.append(f"clips {what}: {len(names)}, the first is {min(names)}")
    return "; ".join(parts)


def summary(store: SkeletonStore) -> str:
    """Sizes of the splits, and a warning when the clips are not the published ones.

    Args:
        store: The converted data set.

    Returns:
        A line for each split, perhaps one more.
    """
    release: Release = store.meta["dataset"]
    lines = []
    for name, train in splits(release, store.index).items():
        found = int(train.sum()), int((~train).sum())
        same = ", as published" if found == PUBLISHED[release][name] else ""
        lines.append(f"{name}: train {found[0]} / test {found[1]}{same}")
    if missing := difference(release, store.index):
        lines.append(f"warning: not the complete published data set: {missing}")
    return "\n".join(lines)
