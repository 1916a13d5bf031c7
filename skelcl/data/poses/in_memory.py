"""Recordings as clips without a store: what a clip of your own goes through before a network sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from skelcl.clips import Clips
from skelcl.data.cleaning import clean
from skelcl.data.recording import Notice, Recording
from skelcl.data.schema import Flag
from skelcl.data.store import fill_joints
from skelcl.skeleton import Skeleton


def clips_in_memory(
    recordings: Sequence[Recording], skeleton: Skeleton, channels: int, num_persons: int, recipe: str = "none"
) -> tuple[Clips, list[Notice]]:
    """The clips that a store made of these recordings would give: cleaned and filled in the same way.

    Args:
        recordings: N recordings in the layout of ``skeleton``.
        skeleton: Layout of the joints.
        channels: C, the coordinates per joint.
        num_persons: Bodies to keep of each clip.
        recipe: Normalisation that the coordinates already went through.

    Returns:
        N clips in main memory, their ``index`` counted from 0, and what was repaired, lost or odd.

    Raises:
        ReadError: A recording has another shape, or shows no body that can be used.
    """
    cleaned = [clean(recording, skeleton, channels) for recording in recordings]
    tracks = []
    for row, joints, _ in cleaned:
        shown = joints[:num_persons].copy()
        if row["flags"] & Flag.REPAIRED:
            fill_joints(shown)
        tracks.append(shown)
    bodies = np.array([len(shown) for shown in tracks], np.int64)
    frames = np.array([shown.shape[1] for shown in tracks], np.int64)
    sizes = bodies * frames
    rows = [shown.reshape(-1, skeleton.num_joints, channels) for shown in tracks]
    clips = Clips(
        joints=torch.from_numpy(np.concatenate(rows)),
        offsets=torch.from_numpy(np.cumsum(sizes) - sizes),
        frames=torch.from_numpy(frames),
        bodies=torch.from_numpy(bodies),
        first=torch.tensor([row["first"] for row, _, _ in cleaned]),
        label=torch.tensor([row["label"] for row, _, _ in cleaned]),
        index=torch.arange(len(cleaned)),
        skeleton=skeleton,
        num_persons=num_persons,
        gaps=any(row["flags"] & Flag.GAP for row, _, _ in cleaned),
        recipe=recipe,
    )
    return clips, [notice for _, _, notices in cleaned for notice in notices]
