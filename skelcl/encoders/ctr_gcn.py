"""CTR-GCN: every channel refines the graph of the skeleton for itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from skelcl.bounds import PositiveInt, bounded
from skelcl.encoders.base import BodyEncoder
from skelcl.nn.attention import channel_aggregate, channel_graph
from skelcl.nn.graph import directed_graph, graph_blocks
from skelcl.nn.memory import recompute
from skelcl.nn.temporal import MultiScaleTemporal, kaiming_, shortcut
from skelcl.skeleton import NTU25, Skeleton


@bounded
class CTRGCN(BodyEncoder):
    """Channel-wise topology refinement graph convolutions, ten blocks deep.

    Source: Chen et al. 2021, ICCV. Same function as the authors' code, with a third of its kernels: the three subsets
    are computed together, frames are averaged before the query and the key are projected, and the seven batch norms of
    the temporal part are two.

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
        self.blocks = graph_blocks(channels, widths, strides, partial(ChannelGraphConv, skeleton), MultiScaleTemporal)
        self.dim = widths[-1]

    def body_map(self, bodies: Tensor) -> Tensor:
        """Map (B, C', T', V) of normalised bodies (B, C, T, V)."""
        return self.blocks(bodies)


class ChannelGraphConv(nn.Module):
    """Graph convolution whose three graphs are refined for every clip and channel (equation 8 of the paper).

    ``y[c, t, u] = Σ_{s,v} (α · R_s[c, u, v] + graph_s[u, v]) · value_s(x)[c, t, v]``, then batch norm, a shortcut and
    ReLU. α starts at zero and the scale of the batch norm at 10⁻⁶, so the unit starts as its shortcut.

    Args:
        skeleton: Layout of the V joints; its graph is where the learned graphs start.
        channels_in: C of the input.
        channels_out: C' of the output.
    """

    mixes = "joints"
    initial_graph: Tensor

    def __init__(self, skeleton: Skeleton, channels_in: int, channels_out: int) -> None:
        super().__init__()
        # Raw coordinates are too few to be divided by eight.
        relation = 8 if channels_in <= 9 else channels_in // 8
        self.register_buffer("initial_graph", directed_graph(skeleton), persistent=False)
        self.graph = nn.Parameter(torch.empty_like(self.initial_graph))
        self.alpha = nn.Parameter(torch.empty(()))
        self.relate = nn.Conv2d(channels_in, 2 * 3 * relation, 1)
        self.lift_weight = nn.Parameter(torch.empty(3, channels_out, relation))
        self.lift_bias = nn.Parameter(torch.empty(3, channels_out))
        self.value = nn.Conv2d(channels_in, 3 * channels_out, 1)
        self.widens = channels_in < channels_out
        self.bn = nn.BatchNorm2d(channels_out)
        self.shortcut = shortcut(channels_in, channels_out)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Kaiming-normal with the fan-out of a single subset, zero biases; graphs, α and batch norm as said above."""
        self.graph.copy_(self.initial_graph)
        self.alpha.zero_()
        kaiming_(self.relate, pieces=6)
        for weight in self.lift_weight:
            nn.init.kaiming_normal_(weight, mode="fan_out")
        self.lift_bias.zero_()
        kaiming_(self.value, pieces=3)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T, V)."""
        query, key = self._query_key(x)
        # From few channels the values, three times the output, are cheaper to compute again than to keep.
        y = recompute(self._aggregate, x if self.widens else self.value(x), query, key)
        return (self.bn(y) + self.shortcut(x)).relu()

    def mixing(self, x: Tensor) -> Tensor:
        """The refined graphs, (N, 3, C', V, V)."""
        return self._refined_graph(*self._query_key(x))

    def _query_key(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # A pointwise convolution commutes with the mean over frames; averaging first is T times less work.
        query, key = self.relate(x.mean(2, keepdim=True)).squeeze(2).unflatten(1, (2, 3, -1)).unbind(1)
        return query, key

    def _refined_graph(self, query: Tensor, key: Tensor) -> Tensor:
        # α commutes with the refinement: it scales few weights instead of a graph for each clip and channel.
        graph = self.graph[:, None] + self.alpha * self.lift_bias[:, :, None, None]
        return channel_graph(query, key, self.alpha * self.lift_weight, graph)

    def _aggregate(self, x: Tensor, query: Tensor, key: Tensor) -> Tensor:
        value = self.value(x) if self.widens else x
        return channel_aggregate(value.unflatten(1, (3, -1)), self._refined_graph(query, key))
