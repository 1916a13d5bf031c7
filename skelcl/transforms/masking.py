"""Masks that follow the structure of the data: whole neighbourhoods of joints, whole stretches of time (SCD-Net)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Generator, Tensor

from skelcl.bounds import NonNegativeInt, PositiveInt, Share, bounded
from skelcl.errors import InputError
from skelcl.skeleton import Skeleton
from skelcl.transforms.augment import Augmentation
from skelcl.transforms.step import Mask


@bounded
class StructureMask(Mask):
    """Zeroes joints that lie together, in all frames, channels and bodies (SCD-Net, arXiv 2309.05834).

    Seed joints are drawn with replacement. A joint scores the number of walks of length ``hops`` on the graph of bones
    and self-links, from each of the seeds to it; the highest scores are hidden. Three out of four draws tie at the
    last place, which the released code leaves to an unstable sort, and thereby to one side of the body more often than
    to the other; here chance decides.

    Args:
        seeds: Number of seed joints; None: a fifth of V, which is SCD-Net's 5 of 25.
        hops: Length of the walks.
        joints: Number of hidden joints; None: 8/25 of V, rounded.
        probability: Share of the clips that are masked.

    Raises:
        ValueError: If ``probability`` is not in [0, 1] or a number is negative; ``seeds`` and ``hops`` start at 1.
        InputError: If ``joints`` exceeds V.
    """

    def __init__(
        self,
        seeds: PositiveInt | None = None,
        hops: PositiveInt = 2,
        joints: NonNegativeInt | None = None,
        probability: Share = 0.5,
    ) -> None:
        super().__init__()
        self.seeds = seeds
        self.hops = hops
        self.joints = joints
        self.probability = probability

    def draw(self, x: Tensor, skeleton: Skeleton, generator: Generator | None = None) -> Tensor:
        """The hidden joints of every clip, (N, V) bool."""
        n, v = len(x), skeleton.num_joints
        seeds = max(round(v / 5), 1) if self.seeds is None else self.seeds
        hidden = round(8 * v / 25) if self.joints is None else self.joints
        if hidden > v:
            raise InputError(f"StructureMask: cannot hide {hidden} of {v} joints; lower its argument joints")
        seed = torch.randint(v, (n, seeds), device=x.device, generator=generator)
        score = _walks(skeleton, self.hops, x.device)[seed].sum(1)
        # Scores are whole numbers: half a unit of chance decides between equal ones only.
        score = score + torch.rand(n, v, device=x.device, generator=generator) / 2
        return _highest(score, hidden) & _bernoulli(n, self.probability, x.device, generator)

    def augment(self, x: Tensor, params: Tensor) -> Tensor:
        """Zeroes the joints ``params`` (N, V) of x (N, C, T, V, M)."""
        return x * (~params).to(x.dtype)[:, None, None, :, None]

    def forward(self, x: Tensor, skeleton: Skeleton, generator: Generator | None = None) -> Tensor:
        """Draws joints and zeroes them."""
        return self.augment(x, self.draw(x, skeleton, generator))


@bounded
class CubeMask(Augmentation[Tensor], Mask):
    """Zeroes stretches of time, in all joints, channels and bodies (SCD-Net, arXiv 2309.05834).

    The T frames are cut into stretches of ``size`` frames from the first on, of which ``cubes`` are drawn without
    replacement; a last stretch may be shorter.

    Args:
        cubes: Number of hidden stretches; None: 3/8 of them, rounded, which is SCD-Net's 6 of 16.
        size: Frames of a stretch.
        probability: Share of the clips that are masked.

    Raises:
        ValueError: If ``probability`` is not in [0, 1], ``cubes`` negative or ``size`` less than one.
        InputError: If ``cubes`` exceeds the stretches that T frames have.
    """

    def __init__(self, cubes: NonNegativeInt | None = None, size: PositiveInt = 4, probability: Share = 0.5) -> None:
        super().__init__()
        self.cubes = cubes
        self.size = size
        self.probability = probability

    def draw(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """The hidden frames of every clip, (N, T) bool."""
        n, frames = len(x), x.shape[2]
        stretches = -(-frames // self.size)
        cubes = round(3 * stretches / 8) if self.cubes is None else self.cubes
        if cubes > stretches:
            raise InputError(
                f"CubeMask: cannot hide {cubes} of the {stretches} stretches that {frames} frames have; "
                f"lower its argument cubes"
            )
        hidden = _highest(torch.rand(n, stretches, device=x.device, generator=generator), cubes)
        hidden = hidden & _bernoulli(n, self.probability, x.device, generator)
        return hidden.repeat_interleave(self.size, 1)[:, :frames]

    def augment(self, x: Tensor, params: Tensor) -> Tensor:
        """Zeroes the frames ``params`` (N, T) of x (N, C, T, V, M)."""
        return x * (~params).to(x.dtype)[:, None, :, None, None]


@lru_cache(maxsize=32)
def _walks(skeleton: Skeleton, hops: int, device: torch.device) -> Tensor:
    """Number of walks of ``hops`` steps between two joints, bones and self-links being steps: (V, V) float32."""
    steps = torch.eye(skeleton.num_joints) + skeleton.adjacency()
    return torch.linalg.matrix_power(steps, hops).to(device)


def _highest(score: Tensor, count: int) -> Tensor:
    """The ``count`` largest entries of every row of ``score`` (N, K), as (N, K) bool."""
    best = score.topk(count, sorted=False).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter_(1, best, True)


def _bernoulli(n: int, probability: float, device: torch.device, generator: Generator | None) -> Tensor:
    """(N, 1) bool, true with the given probability."""
    return torch.rand(n, 1, device=device, generator=generator) < probability
