"""Temporal convolutions of the graph networks; joints and bodies are processed alike. Tensors are (N, C, T, V)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from skelcl.bounds import PositiveInt, bounded
from skelcl.errors import InputError
from skelcl.nn.memory import chunk, concatenate


def kaiming_(conv: nn.Conv1d | nn.Conv2d, pieces: int = 1) -> None:
    """Kaiming-normal weights with fan-out and zero bias, in place.

    Args:
        conv: Without groups.
        pieces: How many convolutions of equal width are stacked in its output; the fan is that of one of them.
    """
    for weight in conv.weight.chunk(pieces):
        nn.init.kaiming_normal_(weight, mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


@bounded
class TemporalConv(nn.Module):
    """A k×1 convolution and batch norm, without activation (2s-AGCN; k = 1 is the residual of all graph networks).

    Args:
        channels_in: C of the input.
        channels_out: C of the output.
        stride: Of the frames; T becomes ⌈T / stride⌉.
        kernel: k, odd.
    """

    def __init__(
        self, channels_in: PositiveInt, channels_out: PositiveInt, stride: PositiveInt = 1, kernel: PositiveInt = 9
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, (kernel, 1), (stride, 1), (kernel // 2, 0))
        self.bn = nn.BatchNorm2d(channels_out)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming-normal with fan-out, zero bias."""
        kaiming_(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T', V)."""
        return self.bn(self.conv(x))


def shortcut(channels_in: int, channels_out: int, stride: int = 1) -> nn.Module:
    """The residual of a block: the input itself if the shape is kept, else a pointwise convolution and batch norm."""
    if channels_in == channels_out and stride == 1:
        return nn.Identity()
    return TemporalConv(channels_in, channels_out, stride, kernel=1)


def frame_maximum(x: Tensor, stride: int = 1) -> Tensor:
    """The largest of every frame and its two neighbours, (N, C, T, V) to (N, C, ⌈T / stride⌉, V).

    Equal to ``nn.MaxPool2d((3, 1), (stride, 1), (1, 0))`` in values and, the first of equal values taking it all, in
    gradients. On a CPU, for (32, 54, 64, 25), forwards and backwards take 15 ms instead of the 50 ms of the pooling,
    which also keeps the place of every result in eight bytes.
    """
    if not torch.is_grad_enabled():  # plain operations, which exporters know
        return _largest(*_windows(_padded(x), stride))
    maximum: Tensor = FrameMaximum.apply(x, stride)  # type: ignore[no-untyped-call]
    return maximum


class FrameMaximum(torch.autograd.Function):
    """:func:`frame_maximum`, whose backward pass needs the input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        """The maxima."""
        ctx.save_for_backward(x)
        ctx.stride = stride
        return _largest(*_windows(_padded(x), stride))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Hands the gradient of each maximum to where it was found."""
        (x,) = ctx.saved_tensors
        padded = _padded(x)
        before, here, after = _windows(padded, ctx.stride)
        # Comparisons in place give 0 and 1 as numbers: products with truth values take twice as long.
        first = gradient * torch.maximum(here, after).le_(before)
        rest = gradient - first
        second = rest * here.clone().ge_(after)
        total = torch.zeros_like(padded)
        for part, share in zip(_windows(total, ctx.stride), (first, second, rest - second), strict=True):
            part.add_(share)
        return total[:, :, 1:-1], None


def _padded(x: Tensor) -> Tensor:
    """A frame of −∞ at both ends of x (N, C, T, V)."""
    return F.pad(x, (0, 0, 1, 1), value=-torch.inf)


def _windows(padded: Tensor, stride: int) -> list[Tensor]:
    """The frames before, at and after every ``stride``-th frame: views of a padded (N, C, T + 2, V)."""
    frames = padded.shape[2] - 2
    return [padded[:, :, k : k + frames : stride] for k in range(3)]


def _largest(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    return torch.maximum(torch.maximum(before, here), after)


@bounded
class MultiScaleTemporal(nn.Module):
    """Four temporal branches side by side (CTR-GCN, Chen et al. 2021; also Hyperformer and SCD-Net).

    Branches of C'/4 channels each, in the order of the output: 5×1 convolutions with dilation 1 and 2, a 3×1 maximum,
    each after a pointwise convolution, batch norm and ReLU; and a pointwise convolution alone. A batch norm ends every
    branch. Since batch norm treats channels apart, the first three and the last four are one each: two instead of
    seven, with the same output and the same running statistics. The fourth branch drops frames before its convolution
    for the same reason.

    Args:
        channels_in: C of the input.
        channels_out: C' of the output, a multiple of 4.
        stride: Of the frames; T becomes ⌈T / stride⌉.

    Raises:
        InputError: ``channels_out`` is no multiple of 4.
    """

    def __init__(self, channels_in: PositiveInt, channels_out: PositiveInt, stride: PositiveInt = 1) -> None:
        super().__init__()
        if channels_out % 4:
            raise InputError(f"the four temporal branches cannot share {channels_out} channels: use a multiple of 4")
        width, self.stride = channels_out // 4, stride
        self.reduce = nn.Conv2d(channels_in, 3 * width, 1)
        self.reduce_bn = nn.BatchNorm2d(3 * width)
        self.near = nn.Conv2d(width, width, (5, 1), (stride, 1), (2, 0))
        self.far = nn.Conv2d(width, width, (5, 1), (stride, 1), (4, 0), dilation=(2, 1))
        self.point = nn.Conv2d(channels_in, width, 1)
        self.bn = nn.BatchNorm2d(channels_out)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming-normal with the fan-out of the single branches, zero bias; scales of the batch norms N(1, 0.02²)."""
        kaiming_(self.reduce, pieces=3)
        for conv in (self.near, self.far, self.point):
            kaiming_(conv)
        for bn in (self.reduce_bn, self.bn):
            nn.init.normal_(bn.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T', V)."""
        near, far, high = chunk(self.reduce_bn(self.reduce(x)).relu(), 3)
        point = self.point(x[:, :, :: self.stride])
        branches = [self.near(near), self.far(far), frame_maximum(high, self.stride), point]
        return self.bn(concatenate(branches))
