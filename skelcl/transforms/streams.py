"""Input streams that are derived from joint coordinates."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from skelcl.skeleton import Skeleton
from skelcl.transforms.resample import present
from skelcl.transforms.step import Step, joint_index

Kind = Literal["joint", "bone", "motion", "bone_motion"]


class Stream(Step):
    """Joints, bones, or the motion of either.

    Args:
        kind: ``joint`` leaves x as it is; ``bone`` is child − parent, zero at the root; ``motion`` is
            x[t + 1] − x[t], zero in the last frame;
            ``bone_motion`` is the motion of the bones.
        trajectory: Show joints relative to the root joint of their frame, and the path of the root itself in its own
            place, which bones leave empty; motion comes afterwards (Hyperformer, arXiv 2211.09590).
        masked_motion: Motion is zero where a body is missing in either frame, a deviation: False lets it jump from zero
            to where the body appears, and back, as the released programs of all encoders and methods do. A jump is as
            large as the distance from the origin and tells no movement, only when a sensor found or lost somebody.

    Raises:
        ValueError: If ``kind`` is none of these.
    """

    def __init__(self, kind: Kind = "joint", trajectory: bool = False, masked_motion: bool = True) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"Stream: kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        self.kind = kind
        self.trajectory = trajectory
        self.masked_motion = masked_motion

    def forward(self, x: Tensor, skeleton: Skeleton, generator: Generator | None = None) -> Tensor:
        """The stream of x (N, C, T, V, M), in the same shape."""
        moves = self.kind.endswith("motion")
        seen = present(x) if moves and self.masked_motion else None
        root = x[:, :, :, skeleton.root : skeleton.root + 1]
        if self.kind.startswith("bone"):
            x = bone(x, skeleton)
        elif self.trajectory:
            x = x - root
        if self.trajectory:
            x[:, :, :, skeleton.root : skeleton.root + 1] = root
        return motion(x, seen) if moves else x


def bone(x: Tensor, skeleton: Skeleton) -> Tensor:
    """Joint minus parent joint of x (N, C, T, V, M); the root becomes zero."""
    return x - x[:, :, :, joint_index(skeleton.parents, x.device)]


def motion(x: Tensor, seen: Tensor | None = None) -> Tensor:
    """x[t + 1] − x[t] of x (N, C, T, V, M); zero in the last frame and where ``seen`` (N, T, M) fails in either."""
    moved = torch.zeros_like(x)
    moved[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    if seen is not None:
        moved[:, :, :-1] *= (seen[:, 1:] & seen[:, :-1])[:, None, :, None]
    return moved
