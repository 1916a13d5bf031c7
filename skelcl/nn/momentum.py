"""The two parts of momentum contrast: a slow twin and a queue of its keys (He et al. 2020, arXiv 1911.05722)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, distributed, nn


def gather(x: Tensor) -> Tensor:
    """Rows of all ranks in rank order, without gradient; ``x`` itself in one process. Shapes must agree."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, x.contiguous())
    return torch.cat(parts)


class Ema(nn.Module):
    """A frozen twin whose weights follow another module as an exponential moving average.

    Buffers are the twin's own: its batch norms see its own batches.

    Args:
        module: Source of the initial weights, copied bit for bit.
        momentum: m in θ_twin ← m·θ_twin + (1 − m)·θ.
    """

    def __init__(self, module: nn.Module, momentum: float = 0.999) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.momentum = momentum

    def forward(self, x: Tensor) -> Tensor:
        """Output of the twin, without gradient."""
        with torch.no_grad():
            return self.module(x)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """One step towards the weights of ``module``, in place."""
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - self.momentum)


class Queue(nn.Module):
    """The last K keys of all ranks, first in, first out. Any batch size fits; everything is in the checkpoint.

    Rows start uniform in ±√(3/dim), so that their expected squared length is 1. Push only after the backward pass:
    the logits of the step still refer to the rows that it overwrites.

    Args:
        size: K, the number of keys.
        dim: Width of a key.
    """

    keys: Tensor
    index: Tensor
    pushed: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        bound = math.sqrt(3 / dim)
        self.register_buffer("keys", torch.empty(size, dim).uniform_(-bound, bound))
        self.register_buffer("index", torch.full((size,), -1))
        self.register_buffer("pushed", torch.tensor(0))

    def __len__(self) -> int:
        return self.keys.shape[0]

    @property
    def pointer(self) -> Tensor:
        """Row that the next key overwrites, int64 scalar."""
        return self.pushed % len(self)

    @torch.no_grad()
    def push(self, keys: Tensor, index: Tensor) -> None:
        """Overwrite the oldest rows, with the keys of every rank in rank order.

        Args:
            keys: (N, dim); of more than K keys the last K stay.
            index: (N,) int64, the clip that each key shows.
        """
        keys, index = gather(keys.to(self.keys.dtype)), gather(index)
        kept = min(len(keys), len(self))
        self.pushed += len(keys)
        rows = (self.pushed - kept + torch.arange(kept, device=self.keys.device)) % len(self)
        self.keys.index_copy_(0, rows, keys[-kept:])
        self.index.index_copy_(0, rows, index[-kept:])
