"""The convolutional encoder HCN: co-occurrence features learned by making joints the channels."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from skelcl.bounds import PartialShare, PositiveInt, bounded
from skelcl.encoders.base import MapEncoder
from skelcl.errors import InputError
from skelcl.nn.memory import recompute
from skelcl.skeleton import NTU25, Skeleton

Flavour = Literal["port", "skelact"]
Tap = Literal["conv6", "conv2", "conv4cat"]


@bounded
class HCN(MapEncoder):
    """Hierarchical co-occurrence network (Li et al. 2018, arXiv 1804.06055).

    Positions and their motion go through two branches of equal shape and separate weights, which all bodies share. A
    branch first describes every joint on its own (conv1, conv2), then makes the V joints the channels of a
    (frame, point feature) image (conv3, conv4). The branches are concatenated; conv5 and conv6 follow, then the maximum
    over the bodies and one linear layer (fc7). There is no batch norm. All weights start Xavier-uniform, biases zero.

    The feature map is that of conv6 after the maximum over the bodies: it has one body slot, the pooled frames, and in
    place of the joints the pooled point features.

    Args:
        skeleton: Layout of the V joints.
        num_persons: M, the bodies per clip; nothing depends on it, clips of any M are encoded.
        channels: C, the coordinates per joint.
        num_frames: T, the frames of every clip; at least 16, because four poolings halve them.
        flavour: ``port`` is the PyTorch port that the field compares with: as many point features as frames, 512
            features, channel dropout after conv4, conv5 and conv6. ``skelact`` is the code of the authors'
            laboratory: 32 point features, 256 features, ordinary dropout in the same places.
        tap: The map that :meth:`with_map` gives: ``conv6``, the one the features are made of; ``conv2``, the point
            features of the position branch, which still has joints and frames; or ``conv4cat``, both branches before
            the bodies are merged.
        hidden: Width of fc7 and of the features; by default what the flavour says.
        points: Point features of conv2, at least 16; by default what the flavour says.
        dropout: Probability of dropout after conv4, conv5, conv6 and fc7.

    Raises:
        InputError: ``num_frames`` or ``points`` is below 16.
    """

    def __init__(
        self,
        skeleton: Skeleton = NTU25,
        num_persons: PositiveInt = 2,
        channels: PositiveInt = 3,
        num_frames: PositiveInt = 64,
        flavour: Flavour = "port",
        tap: Tap = "conv6",
        hidden: PositiveInt | None = None,
        points: PositiveInt | None = None,
        dropout: PartialShare = 0.5,
    ) -> None:
        super().__init__()
        points = points or (num_frames if flavour == "port" else 32)
        for name, size in (("num_frames", num_frames), ("points", points)):
            if size < 16:
                raise InputError(f"HCN: {name} must be at least 16, because it is halved four times; got {size}")
        self.num_frames = num_frames
        self.tap = tap
        self.dim = hidden or (512 if flavour == "port" else 256)
        self.position = Branch(skeleton.num_joints, channels, points, dropout, flavour)
        self.motion = Branch(skeleton.num_joints, channels, points, dropout, flavour)
        self.conv5 = nn.Conv2d(128, 128, 3, padding=1)
        self.conv6 = nn.Conv2d(128, 256, 3, padding=1)
        self.fc7 = nn.Linear(256 * (num_frames // 16) * (points // 16), self.dim)
        self.drop_map = _drop_map(dropout, flavour)
        self.drop = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw every weight Xavier-uniform; biases become zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def classifier(self, num_classes: int) -> nn.Linear:
        """The layer fc8: Xavier-uniform, bias zero."""
        layer = nn.Linear(self.dim, num_classes)
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    def feature_map(self, x: Tensor) -> Tensor:
        """Map of conv6, the maximum over the bodies, (N, 1, 256, T/16, P/16), of clips ``x`` (N, C, T, V, M).

        Raises:
            InputError: The clips have not ``num_frames`` frames.
        """
        return self._merge(self._branches(x)[1])

    def pool(self, feature_map: Tensor) -> Tensor:
        """Features (N, dim) of a map of conv6: fc7, ReLU and dropout."""
        return self.drop(self.fc7(rearrange(feature_map, "n 1 c t p -> n (c t p)")).relu())

    def with_map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map named by ``tap`` and the features (N, dim), in one pass.

        The map is (N, 1, 256, T/16, P/16) for ``conv6``, (N, M, P, T, V) for ``conv2`` and (N, M, 128, T/4, P/4) for
        ``conv4cat``, P being the point features.
        """
        points, branches = self._branches(x)
        merged = self._merge(branches)
        taps = {"conv6": merged, "conv2": points, "conv4cat": branches}
        return taps[self.tap], self.pool(merged)

    def _branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Point features (N, M, P, T, V) of the positions, and both branches (N, M, 128, T/4, P/4)."""
        if x.shape[2] != self.num_frames:
            raise InputError(f"HCN: made for num_frames={self.num_frames}, but the clips have {x.shape[2]} frames")
        n, frames = x.shape[0], rearrange(x, "n c t v m -> (n m) c t v")
        points, position = self.position(frames)
        _, motion = self.motion(difference(frames))
        branches = torch.cat([position, motion], 1)
        return rearrange(points, "(n m) p t v -> n m p t v", n=n), rearrange(branches, "(n m) c t p -> n m c t p", n=n)

    def _merge(self, branches: Tensor) -> Tensor:
        """(N, M, 128, T/4, P/4) to (N, 1, 256, T/16, P/16)."""
        y = rearrange(branches, "n m c t p -> (n m) c t p")
        for conv in (self.conv5, self.conv6):
            y = self.drop_map(recompute(_halve, conv(y)).relu())
        return rearrange(y, "(n m) c t p -> n m c t p", n=branches.shape[0]).amax(1, keepdim=True)


class Branch(nn.Module):
    """conv1 to conv4 of HCN, for positions or for motion.

    Args:
        num_joints: V.
        channels: C, the coordinates per joint.
        points: P, the point features.
        dropout: Probability of dropout after conv4.
        flavour: Which dropout, see :class:`HCN`.
    """

    def __init__(self, num_joints: int, channels: int, points: int, dropout: float, flavour: Flavour) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 1)
        self.conv2 = nn.Conv2d(64, points, (3, 1), padding=(1, 0))
        self.conv3 = nn.Conv2d(num_joints, 32, 3, padding=1)
        self.conv4 = nn.Conv2d(32, 64, 3, padding=1)
        self.drop_map = _drop_map(dropout, flavour)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Point features (B, P, T, V) and the branch's output (B, 64, T/4, P/4) of single bodies (B, C, T, V)."""
        # Measured on a CPU: channels last is 2.2 times as fast forwards and 1.4 times in a training step, and two
        # branches are a fifth faster than one with grouped convolutions.
        points = self.conv2(self.conv1(x.contiguous(memory_format=torch.channels_last)).relu())
        image = rearrange(points, "b p t v -> b v t p").contiguous(memory_format=torch.channels_last)
        image = recompute(_halve, self.conv3(image))
        return points, self.drop_map(recompute(_halve, self.conv4(image)))


def difference(x: Tensor) -> Tensor:
    """Motion of x (B, C, T, V) as HCN sees it: the T − 1 forward differences, linearly resized to T frames.

    Out of the sample positions of half-pixel centres, ``s = (t + 1/2)·(T − 1)/T − 1/2``.
    """
    moved = rearrange(x[:, :, 1:] - x[:, :, :-1], "b c t v -> b (c v) t")
    resized = F.interpolate(moved, size=x.shape[2], mode="linear", align_corners=False)
    return rearrange(resized, "b (c v) t -> b c t v", c=x.shape[1])


def _halve(image: Tensor) -> Tensor:
    # Wrapped by recompute: the backward pass would otherwise keep the place of every maximum, in eight bytes.
    return F.max_pool2d(image, 2)


def _drop_map(dropout: float, flavour: Flavour) -> nn.Module:
    # Both flavours pool first, which quarters the work: ReLU and dropout of whole channels commute with the maximum.
    return nn.Dropout2d(dropout) if flavour == "port" else nn.Dropout(dropout)
