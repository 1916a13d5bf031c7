"""Memory: of the backward pass, and of a process that trains on a CPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import torch
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


def keep_freed_memory() -> None:
    """Lets a process keep the memory that a step on a CPU frees for the next step.

    The C library of Linux hands large blocks back to the system, which zeroes their pages before it gives them out
    again. For tensors above 32 MB that takes longer than most operations on them: a block of CTR-GCN with 256 channels
    (32 bodies, 16 frames, in bfloat16, forwards and backwards on one core) 330 ms instead of 210. What was freed counts
    as used by the process until it ends. Other C libraries stay as they are.
    """
    trim_threshold, mmap_threshold = -1, -3  # names of glibc's malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)
