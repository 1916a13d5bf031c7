"""What the steps of a view have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from skelcl.skeleton import Skeleton


class Step(nn.Module, ABC):
    """One operation on x (N, C, T, V, M): a stream or an augmentation.

    Attributes:
        planar: What it does to clips of two coordinates where that is not what it does to those of three; else empty.
    """

    planar: ClassVar[str] = ""

    @abstractmethod
    def forward(self, x: Tensor, skeleton: Skeleton, generator: Generator | None = None) -> Tensor:
        """The transformed x; absent bodies and missing frames stay exact zeros.

        Args:
            x: Coordinates, (N, C, T, V, M).
            skeleton: Layout of the V joints.
            generator: Source of randomness on the device of x; None is torch's own.
        """


class Mask(Step):
    """A step that hides joints by zeros, in all channels and bodies of a clip alike and whatever they hold.

    Hence masks can be laid on each other before they touch any coordinate: a view hands ones (N, 1, T, V, 1) to masks
    that follow each other, and multiplies by what these leave.
    """


@lru_cache(maxsize=64)
def joint_index(joints: tuple[int, ...], device: torch.device) -> Tensor:
    """Joints of a layout to choose with, (V,) int64: copied to the device once."""
    return torch.tensor(joints, device=device)
