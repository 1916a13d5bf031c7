"""Views: what a method makes of a batch of clips before it encodes them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from skelcl.clips import Clips
from skelcl.skeleton import Skeleton
from skelcl.transforms.normalize import Normalize
from skelcl.transforms.resample import Sampler, planar


class Step(nn.Module, ABC):
    """One operation on x (N, C, T, V, M): a stream or an augmentation."""

    @abstractmethod
    def forward(self, x: Tensor, skeleton: Skeleton, generator: Generator | None = None) -> Tensor:
        """The transformed x; absent bodies and missing frames stay exact zeros.

        Args:
            x: Coordinates, (N, C, T, V, M).
            skeleton: Layout of the V joints.
            generator: Source of randomness on the device of x; None is torch's own.
        """


class View(nn.Module):
    """Sample in time, normalise, then apply the steps in order: all batched, on the device of the clips.

    Linear interpolation and the recipes that are linear per frame commute, so normalising comes after sampling and
    touches T frames only.

    Args:
        sample: Chooses the T frames of every clip.
        normalize: Makes bodies comparable; None leaves camera space.
        steps: Streams and augmentations in the order of application.
    """

    def __init__(self, sample: Sampler, normalize: Normalize | None = None, steps: list[Step] | None = None) -> None:
        super().__init__()
        self.sample = sample
        self.normalize = normalize
        self.steps = nn.ModuleList(steps or [])

    @property
    def frames(self) -> int:
        """T, the length of the view."""
        return self.sample.frames

    def forward(self, clips: Clips, generator: Generator | None = None) -> Tensor:
        """One view of every clip.

        Args:
            clips: N clips.
            generator: Source of randomness on the device of the clips; None is torch's own.

        Returns:
            x (N, C, T, V, M) float32; in memory (N, M, C, T, V).
        """
        # Coordinates are data: half precision would move joints by millimetres.
        with torch.autocast(clips.joints.device.type, enabled=False):
            x: Tensor = self.sample(clips, generator)
            x = planar(x) if self.normalize is None else self.normalize(x, clips)
            for step in self.steps:
                x = step(x, clips.skeleton, generator)
        return x
