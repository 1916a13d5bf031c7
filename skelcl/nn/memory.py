"""What lies in memory, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recompute(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """``function(*tensors)`` whose intermediate results are computed again in the backward pass instead of kept.

    Same values and gradients. Nothing behind the last kept tensor is computed again: where the function ends in a
    convolution or a product, that one is not. For cheap steps with large results; they must neither draw random
    numbers nor change buffers.

    Args:
        function: Of tensors; parameters that it reaches otherwise get their gradients too.
        tensors: Kept for the backward pass.
    """
    if not torch.is_grad_enabled():
        return function(*tensors)
    result: Tensor = checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return result


def channels_last(x: Tensor) -> Tensor:
    """``x`` (N, C, T, V), under autocast with its channels last in memory: what convolutions read fastest there.

    They hand the order on to what follows. In bfloat16 on a CPU it saves 5 to 40 % of a convolution, and it is the
    order of tensor cores. Without autocast ``x`` stays as it is: PyTorch's batch norm on a CPU sums maps in this order
    two digits less exactly, which bfloat16 does not notice.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return x
    return x.contiguous(memory_format=torch.channels_last)


def is_channels_last(x: Tensor) -> bool:
    """Whether ``x`` (N, C, T, V) lies in memory with its channels last, see :func:`channels_last`."""
    return x.is_contiguous(memory_format=torch.channels_last)


def concatenate(maps: Sequence[Tensor]) -> Tensor:
    """Maps (N, C_i, T, V) side by side, (N, Σ C_i, T, V), channels last in memory if those of the first are.

    The same as ``torch.cat``, which takes five times as long for channels that lie last (16 bodies, 4·54 channels, 64
    frames, 25 joints, bfloat16 on a CPU) as for the last axis of a tensor, which they are here.
    """
    if not is_channels_last(maps[0]):
        return torch.cat(list(maps), 1)
    return rearrange(torch.cat([rearrange(x, "n c t v -> n t v c") for x in maps], -1), "n t v c -> n c t v")


def chunk(x: Tensor, pieces: int) -> list[Tensor]:
    """``x.chunk(pieces, 1)`` of x (N, C, T, V), whose gradients come together as in :func:`concatenate`."""
    if not is_channels_last(x):
        return list(x.chunk(pieces, 1))
    return [rearrange(piece, "n t v c -> n c t v") for piece in rearrange(x, "n c t v -> n t v c").chunk(pieces, -1)]
