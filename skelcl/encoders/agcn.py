"""2s-AGCN: the graph of the skeleton plus a learned one plus one that the clip decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelcl.bounds import PositiveInt, bounded
from skelcl.encoders.base import BodyEncoder
from skelcl.errors import InputError
from skelcl.nn.attention import aggregate, joint_attention
from skelcl.nn.graph import directed_graph, graph_blocks
from skelcl.nn.memory import channels_last, recompute
from skelcl.nn.temporal import TemporalConv, kaiming_, shortcut
from skelcl.skeleton import NTU25, Skeleton


@bounded
class AGCN(BodyEncoder):
    """One stream of the two-stream adaptive graph convolutional network, ten blocks deep.

    Source: Shi et al. 2019, CVPR. Same function as the authors' code; the three subsets are computed together.

    Args:
        skeleton: Layout of the V joints.
        num_persons: M, the bodies per clip.
        channels: C, the coordinates per joint.
        widths: Channels of each block, multiples of 4; the last one is the width of the features.
        strides: Temporal stride of each block; the map has T' = ⌈…⌈T / stride⌉…⌉ frames and all V joints.

    Raises:
        InputError: Widths and strides do not fit together, or a width is no multiple of 4.
    """

    def __init__(
        self,
        skeleton: Skeleton = NTU25,
        num_persons: PositiveInt = 2,
        channels: PositiveInt = 3,
        widths: Sequence[PositiveInt] = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256),
        strides: Sequence[PositiveInt] = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1),
    ) -> None:
        super().__init__(skeleton, channels, num_persons)
        self.blocks = graph_blocks(channels, widths, strides, partial(AdaptiveGraphConv, skeleton), TemporalConv)
        self.dim = widths[-1]

    def body_map(self, bodies: Tensor) -> Tensor:
        """Map (B, C', T', V) of normalised bodies (B, C, T, V)."""
        return self.blocks(channels_last(bodies))


class AdaptiveGraphConv(nn.Module):
    """Graph convolution along the skeleton, a learned graph and an attended one (equation 3 of the paper).

    ``y = Σ_s W_s (x · (A_s + graph_s + C_s))`` with the joint attention C of
    :func:`skelcl.nn.attention.joint_attention`, then batch norm, a shortcut and ReLU. The scale of the batch norm
    starts at 10⁻⁶, so the unit starts almost as its shortcut.

    Args:
        skeleton: Layout of the V joints; A is its graph, not learned.
        channels_in: C of the input.
        channels_out: C' of the output, a multiple of 4.

    Raises:
        InputError: ``channels_out`` is no multiple of 4.
    """

    mixes = "joints"
    skeleton_graph: Tensor

    def __init__(self, skeleton: Skeleton, channels_in: int, channels_out: int) -> None:
        super().__init__()
        if channels_out % 4:
            raise InputError(f"the attention takes a quarter of {channels_out} channels: use a multiple of 4")
        self.register_buffer("skeleton_graph", directed_graph(skeleton), persistent=False)
        self.graph = nn.Parameter(torch.empty_like(self.skeleton_graph))
        self.embed = nn.Conv2d(channels_in, 2 * 3 * (channels_out // 4), 1)
        self.value = nn.Conv2d(3 * channels_in, channels_out, 1, bias=False)
        # The sum of the three is all that counts; they are kept apart because the reference learns and saves them so.
        self.value_bias = nn.Parameter(torch.empty(3, channels_out))
        self.bn = nn.BatchNorm2d(channels_out)
        self.shortcut = shortcut(channels_in, channels_out)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Kaiming-normal with the fan-out of a single subset, N(0, 2 / (3·C·C')) for W, zero biases, graph 10⁻⁶."""
        self.graph.fill_(1e-6)
        kaiming_(self.embed, pieces=6)
        nn.init.normal_(self.value.weight, std=math.sqrt(2 / self.value.weight.numel()))
        self.value_bias.zero_()
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T, V)."""
        y = recompute(self._aggregate, x, self._graph(x))
        return (self.bn(y) + self.shortcut(x)).relu()

    def mixing(self, x: Tensor) -> Tensor:
        """Sum of the three graphs of each subset, (N, 3, V, V), transposed: column w of a graph weighs joint w."""
        return self._graph(x).mT

    def _graph(self, x: Tensor) -> Tensor:
        query, key = self.embed(x).unflatten(1, (2, 3, -1)).unbind(1)
        return self.skeleton_graph + self.graph + joint_attention(query, key)

    def _aggregate(self, x: Tensor, graph: Tensor) -> Tensor:
        # Joints are mixed before channels: C ≤ C' in every block of the paper. The mixture is three times as large.
        return F.conv2d(aggregate(x, graph), self.value.weight, self.value_bias.sum(0))
