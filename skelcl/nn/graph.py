"""Graphs of a skeleton and the block that the graph networks repeat. Tensors are (N, C, T, V)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skelcl.errors import InputError
from skelcl.nn.temporal import shortcut
from skelcl.skeleton import Skeleton


def directed_graph(skeleton: Skeleton) -> Tensor:
    """The three subsets of the GCN literature, (3, V, V) float32: the joint itself, inward and outward bones.

    ``[s, j, i]`` is the edge i → j, divided by the number of edges that leave i, so that columns sum to one or zero:
    inward ``[1, parent, child] = 1``, outward ``[2, child, parent] = 1 / number of children``.

    The networks read it in opposite ways. CTR-GCN collects along rows, y_u = Σ_v A[u, v] x_v: subset 1 sums the
    children into the parent. 2s-AGCN collects along columns, y_w = Σ_v x_v A[v, w]: subset 1 copies the parent to its
    children, subset 2 averages the children.
    """
    inward = torch.zeros(skeleton.num_joints, skeleton.num_joints)
    for child, parent in skeleton.bones:
        inward[parent, child] = 1.0
    children = inward.sum(1).clamp(min=1)
    return torch.stack([torch.eye(skeleton.num_joints), inward, inward.T / children])


class GraphBlock(nn.Module):
    """ReLU(temporal(spatial(x)) + residual(x)), the block of all graph networks.

    Args:
        spatial: Mixes joints within a frame.
        temporal: Mixes frames of a joint.
        residual: What is added; None for nothing.
    """

    def __init__(self, spatial: nn.Module, temporal: nn.Module, residual: nn.Module | None) -> None:
        super().__init__()
        self.spatial = spatial
        self.temporal = temporal
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T', V)."""
        y = self.temporal(self.spatial(x))
        return (y if self.residual is None else y + self.residual(x)).relu()


def graph_blocks(
    channels: int,
    widths: Sequence[int],
    strides: Sequence[int],
    spatial: Callable[[int, int], nn.Module],
    temporal: Callable[[int, int, int], nn.Module],
) -> nn.Sequential:
    """The stack of blocks that 2s-AGCN and CTR-GCN share; the first block has no residual.

    Args:
        channels: C of the input.
        widths: C' of each block.
        strides: Temporal stride of each block.
        spatial: Makes the spatial part from (channels in, channels out).
        temporal: Makes the temporal part from (channels in, channels out, stride).

    Raises:
        InputError: There are no blocks, or not as many widths as strides.
    """
    if not widths or len(widths) != len(strides):
        raise InputError(f"each block needs a width and a stride: got {len(widths)} widths and {len(strides)} strides")
    blocks = nn.Sequential()
    for before, after, stride in zip((channels, *widths), widths, strides, strict=False):
        parts = spatial(before, after), temporal(after, after, stride)
        blocks.append(GraphBlock(*parts, shortcut(before, after, stride) if len(blocks) else None))
    return blocks
