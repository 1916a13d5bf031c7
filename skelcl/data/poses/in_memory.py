"""Recordings as clips without a store: what a clip of your own goes through before a network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from skelcl.clips import Clips
from skelcl.data.cleaning import clean
from skelcl.data.recording import Notice, Recording
from skelcl.data.schema import Flag
from skelcl.data.store import fill_joints
from skelcl.skeleton import Skeleton


class CleanedClip(NamedTuple):
    """One clip as a store would give it.

    Args:
        joints: Coordinates, (M, T, V, C) float32, NaN in frames in which a body was not seen.
        first: First frame in which body 0 was seen.
        label: Class, −1 when unknown.
        gaps: Whether any frame is NaN.
        notices: What was repaired, lost or odd.
    """

    joints: np.ndarray
    first: int
    label: int
    gaps: bool
    notices: list[Notice]


def clean_clip(recording: Recording, skeleton: Skeleton, channels: int, num_persons: int) -> CleanedClip:
    """Cleans a recording and fills in single missing joints, as on the way into a store and out of it.

    Args:
        recording: In the layout of ``skeleton``.
        skeleton: Layout of the joints.
        channels: C, the coordinates per joint.
        num_persons: Bodies to keep.

    Raises:
        ReadError: The recording has another shape, or shows no body that can be used.
    """
    row, joints, notices = clean(recording, skeleton, channels)
    flags = Flag(row["flags"])
    shown = joints[:num_persons]
    if Flag.REPAIRED in flags:
        fill_joints(shown)  # of memory that cleaning made
    return CleanedClip(shown, row["first"], row["label"], Flag.GAP in flags, notices)


def batch_clips(cleaned: Sequence[CleanedClip], skeleton: Skeleton, num_persons: int, recipe: str = "none") -> Clips:
    """Cleaned clips as a batch, their ``index`` counted from 0.

    Args:
        cleaned: N clips in the layout of ``skeleton``.
        skeleton: Layout of the joints.
        num_persons: Bodies that a view shows.
        recipe: Normalisation that the coordinates already went through.

    Returns:
        N clips in main memory.
    """
    bodies = torch.tensor([len(one.joints) for one in cleaned])
    frames = torch.tensor([one.joints.shape[1] for one in cleaned])
    sizes = bodies * frames
    rows = [one.joints.reshape(-1, *one.joints.shape[2:]) for one in cleaned]
    return Clips(
        joints=torch.from_numpy(np.concatenate(rows)),
        offsets=sizes.cumsum(0) - sizes,
        frames=frames,
        bodies=bodies,
        first=torch.tensor([one.first for one in cleaned]),
        label=torch.tensor([one.label for one in cleaned]),
        index=torch.arange(len(cleaned)),
        skeleton=skeleton,
        num_persons=num_persons,
        gaps=any(one.gaps for one in cleaned),
        recipe=recipe,
    )
