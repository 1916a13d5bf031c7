"""DSTA: tanh attention between the joints of a body over a whole clip, and temporal convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from skelcl.bounds import PositiveInt, bounded
from skelcl.encoders.base import BodyEncoder, MapEncoder
from skelcl.errors import InputError
from skelcl.nn.attention import SIIA, aggregate, attention_map
from skelcl.nn.memory import channels_last, recompute
from skelcl.nn.temporal import TemporalConv
from skelcl.skeleton import NTU25, Skeleton

PersonPool = Literal["mean", "masked"]

BLOCKS = ((64, 16, 1), (64, 16, 1), (128, 32, 2), (128, 32, 1), (256, 64, 2), (256, 64, 1), (256, 64, 1), (256, 64, 1))
"""The blocks of SDS-CL, as :class:`DSTA` takes them."""


@bounded
class DSTA(BodyEncoder):
    """The encoder of SDS-CL (Xu et al. 2023, arXiv 2302.02316), a DSTA-Net (Shi et al. 2020, arXiv 2007.03263).

    Eight blocks that see one body at a time: attention between joints, one map for a head and clip, then a 7×1
    convolution over frames. Where DSTA-Net has attention between frames as well, SDS-CL has that convolution; see
    ``temporal_attention``. Bodies are averaged with equal weight, present or not, as in the released code.

    Clips may have any number of frames. Map and features are (N, M, C', T', V), where a stride s makes T' = ⌈T/s⌉,
    and (N, C').

    Options that depart from the reference, off by default: ``activation``, ``temporal_attention``, ``person_pool``.

    Args:
        skeleton: Layout of the V joints.
        num_persons: M, the bodies per clip.
        channels: C, the coordinates per joint.
        blocks: For each block its output channels, the width of a query and key of one head, and the temporal stride.
            The coordinates are lifted to the channels of the first; all channels are even.
        heads: S, the attention maps of a block.
        activation: What bounds the attention, ``softmax`` instead of tanh.
        temporal_attention: Attention between frames in the place of the 7×1 convolutions, as in DSTA-Net but without
            its learned map of frame pairs, which would fix T.
        person_pool: ``masked`` leaves bodies that are zero throughout the clip out of the features.

    Raises:
        InputError: The output channels of a block are odd.
    """

    def __init__(
        self,
        skeleton: Skeleton = NTU25,
        num_persons: PositiveInt = 2,
        channels: PositiveInt = 3,
        blocks: Sequence[tuple[PositiveInt, PositiveInt, PositiveInt]] = BLOCKS,
        heads: PositiveInt = 4,
        activation: Literal["tanh", "softmax"] = "tanh",
        temporal_attention: bool = False,
        person_pool: PersonPool = "mean",
    ) -> None:
        super().__init__(skeleton, channels, num_persons)
        widths = [width for width, _, _ in blocks]
        if any(width % 2 for width in widths):
            raise InputError(f"DSTA: positions are encoded in pairs of channels, so all must be even; got {widths}")
        self.data_bn = nn.Identity()  # type: ignore[assignment]  # coordinates come as they are
        self.dim = widths[-1]
        self.person_pool = person_pool
        self.lift = TemporalConv(channels, widths[0], kernel=1)
        # In place, here and below: its input is a fresh sum that no backward pass needs.
        self.activate = nn.LeakyReLU(0.1, inplace=True)
        self.blocks = nn.Sequential()
        for before, (width, inner, stride) in zip((widths[0], *widths), blocks, strict=False):
            block = DSTABlock(skeleton.num_joints, before, width, inner, stride, heads, activation, temporal_attention)
            self.blocks.append(block)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming-normal weights with fan-out, biases as PyTorch draws them; attention as said there."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def classifier(self, num_classes: int) -> nn.Linear:
        """Weights Xavier-normal, biases zero."""
        layer = nn.Linear(self.dim, num_classes)
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    def body_map(self, bodies: Tensor) -> Tensor:
        """Map (B, C', T', V) of bodies (B, C, T, V)."""
        return self.blocks(self.activate(self.lift(channels_last(bodies))))

    def pool(self, feature_map: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean over bodies, frames and joints: (N, M, C', T', V) to (N, C').

        Args:
            feature_map: (N, M, C', T', V).
            weights: Of the bodies, (N, M) with rows that sum to one; None weighs all alike.
        """
        return pool_bodies(feature_map.mean((3, 4)), weights)

    def with_map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, M, C', T', V) and features (N, C') of clips ``x`` (N, C, T, V, M), in one pass."""
        feature_map = self.feature_map(x)
        return feature_map, self.pool(feature_map, presence(x) if self.person_pool == "masked" else None)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C') of clips ``x`` (N, C, T, V, M)."""
        return self.with_map(x)[1]


class DSTABlock(nn.Module):
    """Attention between joints, a pointwise layer and a temporal convolution, with a residual around each.

    The first two residuals come from the input of the block.

    Args:
        joints: V.
        channels_in: C of the input, even.
        channels_out: C' of the output.
        inner: Width of a query and a key of one head.
        stride: Of the frames; T' = ⌈T / stride⌉.
        heads: S.
        activation: What bounds the attention.
        temporal_attention: Attention between frames and a pointwise convolution instead of the 7×1 convolution.
    """

    encoding: Tensor

    def __init__(
        self,
        joints: int,
        channels_in: int,
        channels_out: int,
        inner: int,
        stride: int,
        heads: int,
        activation: Literal["tanh", "softmax"],
        temporal_attention: bool,
    ) -> None:
        super().__init__()
        self.register_buffer("encoding", positional_encoding(joints, channels_in), persistent=False)
        self.joints = ClipAttention(channels_in, channels_out, inner, heads, activation, joints)
        self.point = TemporalConv(channels_out, channels_out, kernel=1)
        self.frames = None
        if temporal_attention:
            self.frames = ClipAttention(channels_out, channels_out, inner, heads, activation)
        self.temporal = TemporalConv(channels_out, channels_out, stride, kernel=1 if temporal_attention else 7)
        # A stride makes all residuals convolutions, also those that come before it.
        kept = channels_in == channels_out and stride == 1
        self.around_joints, self.around_point, self.around_temporal = (
            nn.Identity() if kept else TemporalConv(before, channels_out, step, kernel=1)
            for before, step in ((channels_in, 1), (channels_in, 1), (channels_out, stride))
        )
        self.activate = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T', V)."""
        y = self.activate(self.around_joints(x) + self.joints(x, self.encoding))
        y = self.activate(self.around_point(x) + self.point(y))
        z = y
        if self.frames is not None:
            encoding = positional_encoding(y.shape[2], y.shape[1], y.device).to(y.dtype)
            z = self.activate(y + self.frames(y.mT, encoding).mT)
        return self.activate(self.around_temporal(y) + self.temporal(z))


class ClipAttention(nn.Module):
    """Attention with one map for each head and clip, then a pointwise convolution and batch norm.

    ``y[s, v] = Σ_u (α_s · A[s, u, v] + graph[s, u, v]) · x[u]`` with A of :func:`skelcl.nn.attention.attention_map`:
    the sum runs over the queries, and what it sums is the input itself, without projection and position.

    Args:
        channels_in: C of the input.
        channels_out: C' of the output.
        inner: Width of a query and a key of one head.
        heads: S.
        activation: What bounds the map.
        joints: V, for a learned map that does not depend on the clip; None for none.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        inner: int,
        heads: int,
        activation: Literal["tanh", "softmax"],
        joints: int | None = None,
    ) -> None:
        super().__init__()
        self.mixes = "frames" if joints is None else "joints"
        self.activation: Literal["tanh", "softmax"] = activation
        self.relate = nn.Conv2d(channels_in, 2 * heads * inner, 1)
        self.alpha = nn.Parameter(torch.empty(heads, 1, 1))
        self.graph = None if joints is None else nn.Parameter(torch.empty(heads, joints, joints))
        self.merge = TemporalConv(heads * channels_in, channels_out, kernel=1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """α becomes one and the learned map uniform; the layers have their own."""
        self.alpha.fill_(1)
        if self.graph is not None:
            self.graph.fill_(1 / self.graph.shape[-1])

    def forward(self, x: Tensor, encoding: Tensor) -> Tensor:
        """(N, C, T, V) with encoded positions (C, V), which only queries and keys see, to (N, C', T, V)."""
        return self.merge.bn(recompute(self._aggregate, x, self._attention(x, encoding)))

    def mixing(self, x: Tensor, encoding: Tensor) -> Tensor:
        """The whole map of each head, (N, S, V, V), transposed: the sum runs over the queries."""
        return self._attention(x, encoding).mT

    def _attention(self, x: Tensor, encoding: Tensor) -> Tensor:
        related = self.relate(x + encoding[:, None])
        query, key = rearrange(related, "n (two s c) t v -> two n s c t v", two=2, s=len(self.alpha))
        attention = self.alpha * attention_map(query, key, self.activation, dim=-2)
        return attention if self.graph is None else attention + self.graph

    def _aggregate(self, x: Tensor, attention: Tensor) -> Tensor:
        merged: Tensor = self.merge.conv(aggregate(x, attention))
        return merged


class Squeezed(NamedTuple):
    """What SDS-CL contrasts and classifies. First axis: joint, motion; second: intra, inter.

    Attributes:
        joints: One token for each joint, the mean over frames behind temporal attention, (2, 2, N, V, C).
        frames: One token for each frame of the map, the mean over joints behind spatial attention, (2, 2, N, T', C).
        clips: Means of the maps of all four ways, (2, N, 4·C).
        features: Means of the maps of the encoder, (2, N, C).
    """

    joints: Tensor
    frames: Tensor
    clips: Tensor
    features: Tensor


class SDSCLNetwork(nn.Module):
    """An encoder for both streams and the attention between them: what SDS-CL trains, without projection heads.

    The streams pass the encoder as one batch, so they share its batch statistics.

    Args:
        encoder: Clips to maps of one stream.
        siia: For the channels of its maps.
        person_pool: How bodies are averaged, see :class:`DSTA`; who is there is told by the joint stream.
    """

    def __init__(self, encoder: MapEncoder, siia: SIIA, person_pool: PersonPool = "mean") -> None:
        super().__init__()
        self.encoder = encoder
        self.siia = siia
        self.person_pool = person_pool

    def forward(self, joint: Tensor, motion: Tensor) -> Squeezed:
        """Tokens and features of clips (N, C, T, V, M) of joint coordinates and of their motion."""
        n = len(joint)
        weights = presence(joint) if self.person_pool == "masked" else None
        streams = rearrange(self.encoder.feature_map(torch.cat([joint, motion])), "(z n) ... -> z n ...", n=n)
        refined = self.siia(*rearrange(streams, "z n m c t v -> z (n m) c t v"))
        # Averaging over bodies last, on few numbers: the means commute.
        joints = [reduce(y[:, 0::2], "(n m) w c t v -> n m w v c", "mean", n=n) for y in refined]
        frames = [reduce(y[:, 1::2], "(n m) w c t v -> n m w t c", "mean", n=n) for y in refined]
        u, w, y = (
            torch.stack([pool_bodies(z, weights) for z in tokens])
            for tokens in (joints, frames, streams.mean((4, 5)).unbind())
        )
        clips = rearrange([u.mean(3), w.mean(3)], "both z n w c -> z n (w both c)")
        return Squeezed(rearrange(u, "z n w v c -> z w n v c"), rearrange(w, "z n w t c -> z w n t c"), clips, y)


def presence(x: Tensor) -> Tensor:
    """Weights of the bodies (N, M) of clips ``x`` (N, C, T, V, M): zero for absent ones, equal for the others, sum one.

    A body that is zero throughout the clip is nobody; in a clip without anybody all weigh the same.
    """
    present = x.flatten(1, 3).any(1)
    present = present | ~present.any(1, keepdim=True)
    return present / present.sum(1, keepdim=True)


def pool_bodies(x: Tensor, weights: Tensor | None) -> Tensor:
    """Mean (N, …) over the bodies of ``x`` (N, M, …), weighted by (N, M) unless these are None."""
    return x.mean(1) if weights is None else torch.einsum("nm...,nm->n...", x, weights.to(x.dtype))


def positional_encoding(positions: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of the position in turns (C, P) float32, of wavelengths from 2π to 10000·2π.

    Args:
        positions: P.
        channels: C, even.
        device: Where the result lies.
    """
    # In this order, in single precision: the original's roundings are part of what its weights have learned.
    rate = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32, device=device) * (-math.log(10000) / channels))
    angle = rate[:, None] * torch.arange(positions, dtype=torch.float32, device=device)
    return rearrange([angle.sin(), angle.cos()], "two c p -> (c two) p")
