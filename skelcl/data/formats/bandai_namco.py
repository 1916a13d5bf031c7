"""The BVH files of Bandai-Namco's motion data sets: names, classes, reader, splits and conversion to a store.

Facts of the files: positions replace OFFSET, 30 frames per second, centimetres, y up; a body that faces +z has its left
at +x. The joint above the hips travels in some files, and is left out after its motion was applied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from skelcl.data.convert import convert
from skelcl.data.formats import archives
from skelcl.data.formats.containers import bounded
from skelcl.data.mocap import bvh
from skelcl.data.mocap.kinematics import forward_kinematics
from skelcl.data.mocap.naming import of_segments
from skelcl.data.recording import DatasetInfo, ReadError, Recording
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.errors import OptionError
from skelcl.skeleton import BANDAI21

Part = Literal[1, 2]
Label = Literal["content", "style"]

CONTENTS: Mapping[int, tuple[str, ...]] = {
    1: (
        "walk", "run", "dash", "walk-back", "walk-left", "walk-right", "bow", "bye", "guide", "byebye", "respond",
        "call", "punch", "kick", "slash", "dance-long", "dance-short",
    ),
    2: (
        "walk", "walk-turn-left", "walk-turn-right", "run", "wave-both-hands", "wave-left-hand", "wave-right-hand",
        "raise-up-both-hands", "raise-up-left-hand", "raise-up-right-hand",
    ),
}  # fmt: skip
"""Part → what is done, in the order of the data set's own numbers."""
STYLES: Mapping[int, tuple[str, ...]] = {
    1: (
        "normal", "happy", "sad", "angry", "proud", "not-confident", "masculinity", "feminine", "childish", "old",
        "tired", "active", "musical", "giant", "chimpira",
    ),
    2: ("active", "elderly", "exhausted", "feminine", "masculine", "normal", "youthful"),
}  # fmt: skip
"""Part → how it is done."""
GROUPS: Mapping[int, tuple[tuple[str, ...], ...]] = {
    1: (
        ("active", "childish", "chimpira", "giant", "masculinity", "old", "tired"),
        ("angry", "feminine", "happy", "musical", "not-confident", "proud", "sad"),
    ),
    2: (("active", "elderly", "exhausted"), ("feminine", "youthful"), ("masculine", "normal")),
}
"""Part → styles whose files agree in what was left behind in OFFSET: probably recordings of one actor each. The
files do not name the three actors, and those of style normal of part 1 agree with none."""
HELD_OUT: Mapping[tuple[int, Label], tuple[str, ...]] = {
    (1, "content"): ("angry", "happy", "musical", "proud", "sad"),
    (1, "style"): ("walk-back", "walk-left", "walk-right"),
    (2, "content"): ("feminine", "youthful"),
    (2, "style"): ("walk-turn-left", "walk-turn-right"),
}
"""Part and label → styles, or contents, that are the test part."""
PUBLISHED = {1: 175, 2: 2_902}
"""Clips of each part."""
MAX_BYTES = 1 << 26
"""Larger files are refused unread; the longest has 2 MB in 1,901 frames."""
_OTHER_WAY = {
    *(f"dataset-2_walk-turn-left_{clip}" for clip in ("masculine_006", "masculine_007", "normal_031", "normal_032",
                                                      "normal_033")),
    *(f"dataset-2_walk-turn-right_{clip}" for clip in ("masculine_006", "masculine_007", "normal_004", "normal_032",
                                                       "normal_033")),
}  # fmt: skip
"""Clips that turn, or begin to turn, otherwise than their name says; the published label is kept."""
_NAME = re.compile(r"dataset-([12])_([a-z-]+)_([a-z-]+)_(\d{3})")

INFO: Mapping[int, DatasetInfo] = {
    part: DatasetInfo(
        name=f"bandai-namco-{part}",
        skeleton=BANDAI21,
        classes=CONTENTS[part],
        reader=1,
        axes="y up; a body that faces +z has its left at +x",
        fps=30.0,
    )
    for part in (1, 2)
}


def prepare(
    raw: Sequence[str | Path],
    root: str | Path = "data",
    part: Part = 2,
    *,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> SkeletonStore:
    """Converts the BVH files of a part to the store ``<root>/bandai-namco-<part>`` and prints the size of its splits.

    Args:
        raw: Zip archives, or folders that hold them or their unpacked files at any depth.
        root: Folder of the stores.
        part: Part of the data set; files of the other one are ignored.
        overwrite: Replace a complete store that was made from other files.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail; above it no store is written.
        jobs: Processes that read; default 1.

    Returns:
        The store.

    Raises:
        StoreError: There are no such files, too many of them are damaged, or two of one name differ.
    """
    paths = [Path(path) for path in raw]

    def wanted(name: str) -> bool | None:
        match = _NAME.fullmatch(name.rpartition(".")[0])
        if match is None or not name.endswith(".bvh"):
            return None if name.endswith((".json", ".txt", ".md")) or name == "LICENSE" else False
        return True if int(match[1]) == part else None

    sources, kind, notices = archives.find_members(paths, ".bvh", wanted, "the archives or the folder of its files")
    if not sources:
        places = ", ".join(map(str, raw))
        raise StoreError(f"no files of part {part} (dataset-{part}_walk_normal_001.bvh, …) in {places}")
    store = convert(
        root,
        INFO[part],
        sources,
        read,
        kind=kind,
        notices=notices,
        jobs=jobs,
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
    )
    print(summary(store, part))
    return store


def read(where: archives.Member) -> list[Recording]:
    """Reads one clip.

    Args:
        where: A file whose name is one of the data set's.

    Returns:
        One recording, joints (1, T, 21, 3) in metres. Its label is the content; the setup is the number of the style,
        the subject that of the group of styles that were probably recorded with one actor, the replication the id.

    Raises:
        ReadError: The file is damaged, or has other joints.
    """
    name = Path(where[2] or where[0]).stem
    return [parse(archives.read(where, MAX_BYTES), name, archives.show(where))]


def parse(data: bytes, name: str, place: str) -> Recording:
    """Turns the bytes of a file into a recording, as :func:`read` does.

    Args:
        data: Content of the file.
        name: Its name without ``.bvh``.
        place: Its name in messages.

    Raises:
        ReadError: The content is damaged, or has other joints.
    """
    match = _NAME.fullmatch(name)
    assert match is not None, "only files of such names are looked for"
    part, content, style, number = int(match[1]), match[2], match[3], int(match[4])
    if content not in CONTENTS[part] or style not in STYLES[part]:
        raise ReadError("name", f"{place}: part {part} has no content {content!r} in style {style!r}")
    file = bvh.parse(data, place)
    layout, chosen = of_segments(file.hierarchy, file.hierarchy.trees()[0], BANDAI21, Path(place))
    if layout != BANDAI21:
        raise ReadError("joints", f"{place}: its joints are not those of the data set")
    bounded(4 * 3 * len(file.values) * len(file.hierarchy.joints), place)
    joints = forward_kinematics(file.hierarchy, file.values)[None, :, chosen] * np.float32(0.01)
    group = next((n for n, styles in enumerate(GROUPS[part], 1) if style in styles), -1)
    notes = {"turn": "turns, or begins to turn, the other way than its label says"} if name in _OTHER_WAY else {}
    return Recording(
        name,
        joints,
        CONTENTS[part].index(content),
        group,
        setup=STYLES[part].index(style),
        replication=number if number < 128 else -1,
        notes=notes,
        zeros=False,
    )


def train_part(index: Mapping[str, np.ndarray], part: Part, label: Label, held_out: Sequence[str]) -> np.ndarray:
    """The training part of a split.

    Args:
        index: Columns of the store, each (N,).
        part: Part of the data set.
        label: ``content`` holds out styles, ``style`` contents.
        held_out: Their names.

    Returns:
        (N,) bool; all other clips are the test part.

    Raises:
        OptionError: There is no such style or content.
    """
    names = STYLES[part] if label == "content" else CONTENTS[part]
    if wrong := [name for name in held_out if name not in names]:
        raise OptionError(f"part {part} has no {wrong[0]!r} to hold out; there are {', '.join(names)}")
    column = index["setup"] if label == "content" else index["label_original"]
    return ~np.isin(column, [names.index(name) for name in held_out])


def splits(index: Mapping[str, np.ndarray], part: Part) -> dict[str, np.ndarray]:
    """Training parts of the splits that are offered: name → (N,) bool."""
    rules: list[tuple[Label, tuple[str, ...]]] = [(label, HELD_OUT[part, label]) for label in ("content", "style")]
    if part == 2:
        rules[1:1] = [("content", group) for group in GROUPS[2] if group != HELD_OUT[2, "content"]]
    return {f"{label}, test {' '.join(out)}": train_part(index, part, label, out) for label, out in rules}


def summary(store: SkeletonStore, part: Part) -> str:
    """Sizes of the splits, and a warning when the clips are not all that were published."""
    lines = [
        f"{name}: train {int(train.sum())} / test {int((~train).sum())}"
        for name, train in splits(store.index, part).items()
    ]
    if len(store) != PUBLISHED[part]:
        lines.append(f"warning: not the complete published data set, {len(store)} of {PUBLISHED[part]:,} clips")
    return "\n".join(lines)
