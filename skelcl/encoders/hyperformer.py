"""The transformer encoder Hyperformer: joints attend to joints and to the groups of joints that these belong to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Tensor, nn

from skelcl.bounds import PositiveInt, bounded
from skelcl.encoders.base import BodyEncoder
from skelcl.errors import InputError
from skelcl.nn.attention import hyperedge_attention, hyperedge_weights
from skelcl.nn.graph import GraphBlock
from skelcl.nn.memory import channels_last, is_channels_last
from skelcl.nn.temporal import MultiScaleTemporal, shortcut
from skelcl.skeleton import KINECT20, NTU25, Skeleton

Partition = Literal["joint", "bone", "parts"]

_NTU = (0, 4, 2, 2, 2, 2, 1, 1, 2, 2, 1, 1, 2, 3, 3, 3, 2, 3, 3, 3, 1, 0, 1, 0, 1)
PARTITIONS: dict[tuple[Skeleton, Partition], tuple[int, ...]] = {
    (NTU25, "joint"): _NTU,
    (NTU25, "bone"): _NTU,
    (KINECT20, "joint"): (0,) * 4 + (1,) * 8 + (2,) * 8,
    (KINECT20, "bone"): (0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 2, 2, 2, 0, 2, 2, 2),
}
"""The published partitions: the hyperedge of each joint. That of NTU RGB+D was found by trial, hence its odd look."""

PROJECTIONS = 6
"""Groups of the output projection; it does not mix channels of different groups."""


@bounded
class Hyperformer(BodyEncoder):
    """Hypergraph transformer (Zhou et al. 2022, arXiv 2211.09590).

    Ten blocks of constant width: attention between the joints of a frame, then temporal convolutions, with a residual
    around both; no class token, no feed-forward layers. The attention also sees how many bones two joints are apart
    and what hyperedge (group of joints) they belong to, see :func:`skelcl.nn.attention.hyperedge_attention`.

    Map and features are (N, M, width, ⌈⌈T/2⌉/2⌉, V) and (N, width).

    Options that depart from the reference, off by default: ``hyperedges`` as ``parts`` or as a list.

    Args:
        skeleton: Layout of the V joints.
        num_persons: M, the bodies per clip.
        channels: C, the coordinates per joint.
        hyperedges: Which joints form a group: the partition published for ``joint`` streams or for ``bone`` streams
            (motion included; NTU RGB+D has one for both, NW-UCLA two), or the ``parts`` of the skeleton, which also
            stand in where nothing was published for the layout; or the group of each joint, V numbers from 0.
        width: Channels of all blocks, a multiple of the heads, of 4 (temporal branches) and of 6 (groups of the
            output projection).
        heads: H, the attention heads.
        strides: Temporal stride of each block.

    Raises:
        InputError: ``width`` does not fit, or ``hyperedges`` are not V numbers from 0 without gaps.
    """

    def __init__(
        self,
        skeleton: Skeleton = NTU25,
        num_persons: PositiveInt = 2,
        channels: PositiveInt = 3,
        hyperedges: Partition | list[int] = "joint",
        width: PositiveInt = 216,
        heads: PositiveInt = 9,
        strides: Sequence[PositiveInt] = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1),
    ) -> None:
        super().__init__(skeleton, channels, num_persons)
        if width % heads or width % PROJECTIONS:
            raise InputError(
                f"Hyperformer: width must be a multiple of heads={heads} and of {PROJECTIONS}, the groups of the "
                f"output projection; got {width}"
            )
        self.dim = width
        groups, hops = partition(skeleton, hyperedges), tree(skeleton).hops()
        self.blocks = nn.Sequential()
        for before, stride in zip((channels, *(width for _ in strides)), strides, strict=False):
            spatial = HyperSelfAttention(before, width, heads, groups, hops)
            temporal = MultiScaleTemporal(width, width, stride)
            self.blocks.append(GraphBlock(spatial, temporal, shortcut(before, width, stride)))

    def body_map(self, bodies: Tensor) -> Tensor:
        """Map (B, width, T', V) of normalised bodies (B, C, T, V)."""
        return self.blocks(channels_last(bodies))


class HyperSelfAttention(nn.Module):
    """The spatial unit of Hyperformer: x + projection(attention(LayerNorm(x))) within each frame.

    The features of the hyperedges are linear in the means of x, not of its LayerNorm, over their joints. Relative
    keys, ``edge_query`` and ``alpha`` start at zero and ``outer`` at the identity: a fresh unit lets each joint see
    itself alone.

    Args:
        channels_in: C of the input; the skip connection is linear where it differs from the output.
        channels_out: C' of the output, a multiple of ``heads`` and of 6.
        heads: H.
        hyperedges: Group of each joint.
        hops: Bones between two joints, (V, V) int64.
    """

    mixes = "joints"
    hops: Tensor
    hyperedges: Tensor
    members: Tensor

    def __init__(
        self, channels_in: int, channels_out: int, heads: int, hyperedges: Sequence[int], hops: Tensor
    ) -> None:
        super().__init__()
        width = channels_out // heads
        groups = torch.tensor(hyperedges)
        members = (groups == torch.arange(int(groups.max()) + 1)[:, None]).float()
        self.register_buffer("hops", hops, persistent=False)
        self.register_buffer("hyperedges", groups, persistent=False)
        self.register_buffer("members", members / members.sum(1, keepdim=True), persistent=False)
        self.norm = nn.LayerNorm(channels_in)
        self.qkv = nn.Linear(channels_in, 3 * channels_out, bias=False)
        self.edges = nn.Linear(channels_in, channels_out, bias=False)
        self.relative = nn.Parameter(torch.empty(int(hops.max()) + 1, heads, width))
        self.edge_query = nn.Parameter(torch.empty(heads, width))
        self.outer = nn.Parameter(torch.empty(heads, *hops.shape))
        self.alpha = nn.Parameter(torch.empty(1))
        self.projection = nn.Conv2d(channels_out, channels_out, 1, groups=PROJECTIONS)
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Linear(channels_in, channels_out, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Relative keys, edge query and alpha become zero, outer the identity; the layers have their own."""
        with torch.no_grad():
            for parameter in (self.relative, self.edge_query, self.alpha):
                parameter.zero_()
            self.outer.copy_(torch.eye(self.outer.shape[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T, V)."""
        last, x = is_channels_last(x), rearrange(x, "n c t v -> n t v c")
        q, k, v, edges = self._projected(x)
        y = hyperedge_attention(
            q,
            k,
            v,
            edges,
            relative=self.relative,
            edge_query=self.edge_query,
            outer=self.outer,
            alpha=self.alpha,
            hops=self.hops,
            hyperedges=self.hyperedges,
        )
        # Copied once, into the order of x.
        y = rearrange(y.flatten(3), "n t v c -> n c t v") if last else rearrange(y, "n t v h c -> n (h c) t v")
        return self.projection(y) + rearrange(self.skip(x), "n t v c -> n c t v")

    def mixing(self, x: Tensor) -> Tensor:
        """Attention of each head and frame, with the part that does not depend on the input, (N, H, T, V, V)."""
        q, k, _, edges = self._projected(rearrange(x, "n c t v -> n t v c"))
        weights = hyperedge_weights(
            q,
            k,
            edges,
            relative=self.relative,
            edge_query=self.edge_query,
            hops=self.hops,
            hyperedges=self.hyperedges,
        )
        return rearrange(self.alpha * weights + self.outer, "n t h i j -> n h t i j")

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values (N, T, V, H, C) and features of the hyperedges (N, T, E, H, C) of (N, T, V, C)."""
        q, k, v = rearrange(self.qkv(self.norm(x)), "n t v (three h c) -> three n t v h c", three=3, h=len(self.outer))
        # The means commute with the linear map, which then runs on E groups instead of V joints.
        edges = self.edges(torch.einsum("ntvc,ev->ntec", x, self.members))
        return q, k, v, rearrange(edges, "n t e (h c) -> n t e h c", h=len(self.outer))


def tree(skeleton: Skeleton) -> Skeleton:
    """The layout whose bones Hyperformer counts: hand tips hang on the hands, not on the thumbs."""
    joints, parents = skeleton.joints, list(skeleton.parents)
    for side in ("left", "right"):
        if f"{side} hand tip" in joints and f"{side} hand" in joints:
            parents[joints.index(f"{side} hand tip")] = joints.index(f"{side} hand")
    return dataclasses.replace(skeleton, parents=tuple(parents))


def partition(skeleton: Skeleton, hyperedges: Partition | Sequence[int]) -> tuple[int, ...]:
    """The hyperedge of each joint.

    Args:
        skeleton: Layout of the V joints.
        hyperedges: As :class:`Hyperformer` takes them.

    Raises:
        InputError: They are neither a known name nor V numbers from 0 without gaps.
    """
    if not isinstance(hyperedges, str):
        groups = tuple(hyperedges)
        if len(groups) != skeleton.num_joints or set(groups) != set(range(len(set(groups)))):
            raise InputError(
                f"Hyperformer: hyperedges must be the group of each of the {skeleton.num_joints} joints of "
                f"{skeleton.name}, numbered from 0 without gaps; got {list(groups)}"
            )
        return groups
    if hyperedges not in get_args(Partition):
        raise InputError(f"Hyperformer: hyperedges must be joint, bone, parts or a list; got {hyperedges!r}")
    if published := PARTITIONS.get((skeleton, hyperedges)):
        return published
    part = {joint: number for number, joints in enumerate(skeleton.parts.values()) for joint in joints}
    return tuple(part[joint] for joint in range(skeleton.num_joints))
