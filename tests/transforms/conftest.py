from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from skelcl.clips import Clips
from skelcl.skeleton import KINECT20, NTU25, Skeleton

MakeClips = Callable[..., Clips]


@pytest.fixture
def make_clips() -> MakeClips:
    """Ragged random clips; with ``gaps`` about a fifth of the rows behind the first of each body is NaN."""

    def make(
        frames: tuple[int, ...] = (1, 2, 7, 40, 90),
        bodies: tuple[int, ...] = (1, 2, 2, 1, 3),
        num_persons: int = 2,
        skeleton: Skeleton = NTU25,
        gaps: bool = False,
        channels: int = 3,
        seed: int = 0,
    ) -> Clips:
        rng = np.random.default_rng(seed)
        length, count = torch.tensor(frames), torch.tensor(bodies[: len(frames)])
        rows = length * count
        # Rows that belong to no clip in front: offsets need not start at zero.
        offsets = 3 + rows.cumsum(0) - rows
        joints = rng.normal(0, 1, (3 + int(rows.sum()), skeleton.num_joints, channels)).astype(np.float32)
        if gaps:
            missing = rng.random(len(joints)) < 0.2
            missing[offsets.numpy()] = False
            joints[missing] = np.nan
        number = torch.arange(len(frames))
        return Clips(
            torch.from_numpy(joints), offsets, length, count, torch.zeros_like(number), number, number, skeleton,
            num_persons, gaps,
        )  # fmt: skip

    return make


@pytest.fixture
def still_life() -> Clips:
    """Two clips of 20 Kinect v1 joints, one of them with a body 0 that enters in its third frame."""
    rng = np.random.default_rng(5)
    joints = rng.normal(0, 1, (24, 20, 3)).astype(np.float32)
    joints[8:10] = np.nan
    pair = torch.arange(2)
    return Clips(
        torch.from_numpy(joints), torch.tensor([0, 8]), torch.tensor([8, 8]), torch.tensor([1, 2]),
        torch.tensor([0, 2]), pair, pair, KINECT20, 2, True,
    )  # fmt: skip
