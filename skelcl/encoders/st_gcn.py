"""ST-GCN: graph convolutions whose neighbours are told apart by their distance from the centre of the body."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelcl.bounds import PartialShare, PositiveInt, bounded
from skelcl.encoders.base import BodyEncoder
from skelcl.nn.graph import graph_blocks
from skelcl.nn.temporal import TemporalConv
from skelcl.skeleton import NTU25, Skeleton


@bounded
class STGCN(BodyEncoder):
    """Spatial temporal graph convolutional network, ten blocks deep.

    Source: Yan et al., AAAI 2018, arXiv 1801.07455, with spatial configuration partitioning and a learned importance of
    every edge. SkeletonCLR, CrosSCLR and AimCLR take a quarter of the width, ``widths`` (16, 16, 16, 16, 32, 32, 32,
    64, 64, 256): ``experiments/encoders/st_gcn.yaml``.

    Args:
        skeleton: Layout of the V joints.
        num_persons: M, the bodies per clip.
        channels: C, the coordinates per joint.
        widths: Channels of each block; the last one is the width of the features.
        strides: Temporal stride of each block; the map has T' = ⌈…⌈T / stride⌉…⌉ frames and all V joints.
        dropout: Probability of dropout at the end of the temporal part of all blocks but the first.

    Raises:
        InputError: Widths and strides do not fit together.
    """

    def __init__(
        self,
        skeleton: Skeleton = NTU25,
        num_persons: PositiveInt = 2,
        channels: PositiveInt = 3,
        widths: Sequence[PositiveInt] = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256),
        strides: Sequence[PositiveInt] = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1),
        dropout: PartialShare = 0.5,
    ) -> None:
        super().__init__(skeleton, channels, num_persons, shared_norm=True)

        def temporal(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
            return nn.Sequential(TemporalConv(channels_in, channels_out, stride), nn.Dropout(dropout))

        self.blocks = graph_blocks(channels, widths, strides, partial(PartitionConv, skeleton), temporal)
        for part in self.blocks[0].modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        self.dim = widths[-1]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Convolutions N(0, 0.02²), scales of the batch norms N(1, 0.02²), zero biases, every edge of importance 1."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, _BatchNorm):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def classifier(self, num_classes: int) -> nn.Linear:
        """Weights N(0, 0.02²), zero biases."""
        layer = nn.Linear(self.dim, num_classes)
        nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
        return layer

    def body_map(self, bodies: Tensor) -> Tensor:
        """Map (B, C', T', V) of normalised bodies (B, C, T, V)."""
        return self.blocks(bodies)


def partitioned_graph(skeleton: Skeleton) -> Tensor:
    """The mean over a joint and its neighbours in three parts, (3, V, V) float32: ``[s, v, w]`` weighs v in joint w.

    The parts are the joint itself, its neighbours farther from the centre of the body, and those nearer to it. Columns
    sum to one over all three.
    """
    near = torch.eye(skeleton.num_joints) + skeleton.adjacency()
    distance = skeleton.hops()[skeleton.center]
    # Neighbours in a tree are never equally far from anywhere, so the joint itself is the only one of its distance.
    sign = (distance[:, None] - distance).sign()
    return torch.stack([near * (sign == side) for side in (0, 1, -1)]) / near.sum(0)


class PartitionConv(nn.Module):
    """``y = Σ_s W_s x · (A_s ⊙ importance_s)`` over the parts of the neighbourhood, batch norm and ReLU.

    Args:
        skeleton: Layout of the V joints; A is its partitioned graph, not learned.
        channels_in: C of the input.
        channels_out: C' of the output.
    """

    graph: Tensor

    def __init__(self, skeleton: Skeleton, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.register_buffer("graph", partitioned_graph(skeleton), persistent=False)
        self.importance = nn.Parameter(torch.empty_like(self.graph))
        self.value = nn.Conv2d(channels_in, 3 * channels_out, 1)
        self.bn = nn.BatchNorm2d(channels_out)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Importance 1; the rest is drawn by the layers."""
        nn.init.ones_(self.importance)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T, V)."""
        value = self.value(x).unflatten(1, (3, -1))
        return self.bn(torch.einsum("nsctv,svw->nctw", value, self.graph * self.importance)).relu()
