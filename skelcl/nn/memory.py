"""Memory of the backward pass."""

from __future__ import annotations

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
