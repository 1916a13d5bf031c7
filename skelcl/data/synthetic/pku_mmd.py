"""Synthetic people in the raw files of PKU-MMD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelcl.data.formats import pku_release, pku_text
from skelcl.data.formats.folders import write_folder
from skelcl.data.synthetic.motion import Draw
from skelcl.data.synthetic.performance import record
from skelcl.errors import InputError
from skelcl.skeleton import NTU25

PKU_MMD_ACTIONS = {
    "pickup": "pick up with one hand",
    "drop": "drop trash",
    "sitting down": "sit down",
    "standing up": "stand up",
    "wear jacket": "donning",
    "take off jacket": "doffing",
    "throw": "throw",
    "hand waving": "wave",
    "drink water": "drink",
    "make a phone call/answer phone": "phone call",
    "clapping": "clap",
    "kicking something": "kick",
    "handshaking": "handshake",
    "hugging other person": "hug",
    "pushing other person": "push",
    "kicking other person": "kick other",
    "point finger at the other person": "point at other",
}
"""Class of PKU-MMD → action of ours; part 2 has none of the last five."""
_FOLDERS = {1: ("PKU_Skeleton_Renew", "Train_Label_PKU_final"), 2: ("skeleton", "label")}
_SPLITS = {1: ("cross-subject.txt", "cross-view.txt"), 2: ("cross_subject_v2.txt", "cross_view_v2.txt")}


def untrimmed(
    actions: list[tuple[int, NDArray[np.float32]]], part: pku_release.Part, passer_by: NDArray[np.float32], draw: Draw
) -> tuple[NDArray[np.float32], list[pku_text.Interval]]:
    """Strings clips together as one camera's video, with pauses between and labels beside.

    In the pauses people drift from one pose to the next. In part 2 the pauses are a few frames, the labels reach into
    them and may overlap, and rows are not always sorted. Now and then somebody walks past, the actor is in the second
    place, or nobody is seen during an action.

    Args:
        actions: Label, counted from 0, and coordinates (M, T, 25, 3), M ≤ 2, of each action.
        part: Part of PKU-MMD.
        passer_by: Somebody who may walk past, (1, T', 25, 3).
        draw: Source of randomness.

    Returns:
        Coordinates (2, F, 25, 3), NaN where nothing was seen, and the labels; start inclusive, end exclusive.
    """
    scenes = []
    for _, joints in actions:
        scene = np.full((2, *joints.shape[1:]), np.nan, np.float32)
        scene[: len(joints)] = joints
        if len(joints) == 1 and draw.bernoulli(0.2):
            length = min(scene.shape[1], passer_by.shape[1])
            scene[1, :length] = passer_by[0, :length] + np.array([1.0, 0.0, 1.0], np.float32)
        if draw.bernoulli(0.06):
            scene = scene[::-1]
        elif draw.bernoulli(0.03):
            scene = np.full_like(scene, np.nan)
        scenes.append(scene)
    pieces: list[NDArray[np.float32]] = []
    spans: list[tuple[int, int]] = []
    total = 0
    for scene, following in zip(scenes, [*scenes[1:], scenes[-1]], strict=True):
        pause = 10 + draw.integers(40) if part == 1 else draw.integers(5)
        weight = np.linspace(0.0, 1.0, pause, dtype=np.float32)[None, :, None, None]
        drift = (1 - weight) * scene[:, -1:] + weight * (following[:, :1] if following is not scene else scene[:, -1:])
        pieces += [scene, drift]
        spans.append((total, total + scene.shape[1]))
        total += scene.shape[1] + pause
    margin = 0 if part == 1 else 3
    intervals = [
        pku_text.Interval(label, max(start - margin, 0), min(end + margin, total), 0)
        for (label, _), (start, end) in zip(actions, spans, strict=True)
    ]
    if part == 2 and draw.bernoulli(0.3):
        intervals.reverse()
    return np.concatenate(pieces, 1), intervals


def write_pku_mmd(
    output: str | Path, part: pku_release.Part = 1, recordings: int = 12, actions: int = 8, seed: int = 0
) -> int:
    """Writes folders of skeleton, label and split files as PKU-MMD is distributed.

    A third of the recordings lie in the test part of the cross-subject split. Videos that the data set lacks are
    lacking here too.

    Args:
        output: Folder to write; it must not hold anything but the files of an equal run.
        part: Part of PKU-MMD; part 2 has short pauses, overlapping labels and no actions of two people.
        recordings: Number of recordings, 3–99; three videos (views) each.
        actions: Actions in each of them, 1–99.
        seed: Seed; equal arguments give equal bytes.

    Returns:
        Number of videos.

    Raises:
        InputError: An argument lies outside its range, or the folder holds something else.
    """
    if not 3 <= recordings <= 99 or not 1 <= actions <= 99 or seed < 0:
        raise InputError("recordings must lie in 3–99, actions in 1–99 and seed must not be negative")
    classes = [name for name in PKU_MMD_ACTIONS if pku_release.ACTIONS.index(name) in pku_release.PRESENT[part]]
    existing = set(pku_release.videos(part))
    stems: dict[tuple[int, str], str] = {}
    for number in range(recordings):
        group, place = divmod(number, 3)
        if part == 1:
            name = f"{(2 + 2 * group, 3 + 2 * group, 291 + group)[place]:04d}"
        else:
            name = f"A{1 + group // 2:02d}N{((1, 4, 2), (5, 6, 3))[group % 2][place]:02d}"
        stems |= {(number, view): f"{name}-{view}" for view in pku_release.VIEWS if f"{name}-{view}" in existing}
    skeletons, labels = _FOLDERS[part]

    def write(work: Path) -> None:
        (work / skeletons).mkdir()
        (work / labels).mkdir()
        for number in range(recordings):
            # In part 1 everybody comes once; in part 2 the names tell who acts.
            actor = number + 1 if part == 1 else int(stems[number, "L"][4:6])
            views = []
            for place in range(actions):
                name = classes[(number * actions + place) % len(classes)]
                filmed = record(
                    PKU_MMD_ACTIONS[name], actor, skeleton=NTU25, seed=seed, setup=1 + number, replication=place
                )
                views.append((pku_release.ACTIONS.index(name), filmed))
            passing = record("walk around", 500 + number, skeleton=NTU25, seed=seed, setup=1 + number)
            for view, camera in pku_release.VIEWS.items():
                if (number, view) not in stems:
                    continue
                draw = Draw(seed, 7, part, number, camera)
                clips = [(label, filmed[camera]) for label, filmed in views]
                joints, intervals = untrimmed(clips, part, passing[camera], draw)
                file = f"{stems[number, view]}.txt"
                pku_text.write_skeleton(work / skeletons / file, joints)
                pku_text.write_labels(work / labels / file, intervals)
        for split, file in zip(pku_release.SPLITS, _SPLITS[part], strict=True):
            test = [stem for stem in stems.values() if pku_release.is_test(stem, part, split)]
            pku_text.write_split(work / file, [stem for stem in stems.values() if stem not in test], test)

    files = {f"{folder}/{stem}.txt" for folder in (skeletons, labels) for stem in stems.values()}
    write_folder(Path(output), files | set(_SPLITS[part]), write)
    return len(stems)
