"""What contrast remembers: a slow twin and a queue of its keys (He et al. 2020, arXiv 1911.05722), and a bank."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from skelcl.bounds import PositiveInt, Share, bounded


def gather(x: Tensor) -> Tensor:
    """Rows of all ranks in rank order, without gradient; ``x`` itself in one process. Shapes must agree."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return x
    x = x.contiguous()  # the parts too: backends differ in what they do with other orders
    parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, x)
    return torch.cat(parts)


def gather_with_gradient(x: Tensor) -> Tensor:
    """Rows of all ranks in rank order; ``x`` itself in one process. Shapes must agree.

    The gradient of a row is the sum of what all ranks have for it. So if every rank has the loss of the whole batch,
    the mean over ranks that data-parallel training takes is the gradient of one process with that batch.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return x
    return _Gather.apply(x)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return gather(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total[ctx.rows * distributed.get_rank() :][: ctx.rows]


@bounded
class Ema(nn.Module):
    """A frozen copy of a module whose weights are an exponential moving average of the module's.

    Buffers are the twin's own: its batch norms see its own batches.

    Args:
        module: Source of the initial weights, copied bit for bit.
        momentum: m in θ_twin ← m·θ_twin + (1 − m)·θ.
    """

    def __init__(self, module: nn.Module, momentum: Share = 0.999) -> None:
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


@bounded
class Queue(nn.Module):
    """The last K keys of all ranks, first in, first out. Any batch size fits; everything is in the checkpoint.

    Rows start uniform in ±√(3/dim), so that their expected squared length is 1. Push only after the backward pass:
    the logits of the step still refer to the rows that it overwrites.

    Args:
        size: K, the number of keys.
        dim: Width of a key.
        unit: Start with uniform directions of length 1 instead.
    """

    keys: Tensor
    index: Tensor
    pushed: Tensor

    def __init__(self, size: PositiveInt, dim: PositiveInt, unit: bool = False) -> None:
        super().__init__()
        bound = math.sqrt(3 / dim)
        start = functional.normalize(torch.randn(size, dim)) if unit else torch.empty(size, dim).uniform_(-bound, bound)
        self.register_buffer("keys", start)
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


@bounded
class Bank(nn.Module):
    """One labelled unit vector for each training item, the last that was seen of it; the checkpoint holds them.

    Slots start as zeros and count as empty until they are written.

    Args:
        label: Class of each of the S slots, (S,) int64, none negative.
        dim: Width of a feature.
    """

    features: Tensor
    label: Tensor
    filled: Tensor
    members: Tensor
    """Slots of each class, (C, L) int64, padded with −1 at the end."""

    def __init__(self, label: Tensor, dim: PositiveInt) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(len(label), dim))
        self.register_buffer("label", label.clone())
        self.register_buffer("filled", torch.zeros(len(label), dtype=torch.bool))
        self._list_members()
        self.register_load_state_dict_post_hook(Bank._list_members)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return self.features.shape[0]

    def _list_members(self, *_: object) -> None:
        slots = torch.split(self.label.argsort(stable=True), self.label.bincount().tolist())
        self.register_buffer("members", pad_sequence(list(slots), batch_first=True, padding_value=-1), persistent=False)

    def candidates(self, order: Tensor, start: Tensor, negatives: int) -> Tensor:
        """For each anchor different slots in random order, ``negatives`` of them of other classes if the bank has them.

        One shuffle of the slots serves all anchors: each reads on from a place of its own, round the filled slots. So
        the negatives of each are drawn uniformly without replacement, for N + S random numbers instead of N · S. Two
        anchors share as many on average as with draws of their own, but in runs: many if their places are close.

        Args:
            order: All slots in random order, (S,) int64.
            start: Uniform in [0, 1), (N,).
            negatives: K.

        Returns:
            (N, min(S, K + L)) int64, where L is the size of the largest class; empty slots come last.
        """
        order = order[self.filled[order].argsort(descending=True, stable=True)]
        step = torch.arange(min(len(self), negatives + self.members.shape[1]), device=order.device)
        filled = self.filled.sum()
        round_filled = ((start * filled).long()[:, None] + step) % filled.clamp(min=1)
        return order[torch.where(step < filled, round_filled, step)]

    def serves(self, positives: int, negatives: int) -> bool:
        """Whether each class finds so many filled slots of its own and of other classes; waits for the device."""
        there = self.label.bincount()
        filled = self.label[self.filled].bincount(minlength=len(there))
        enough = (filled >= positives) & (filled.sum() - filled >= negatives)
        return bool((enough | (there == 0)).all())

    @torch.no_grad()
    def write(self, features: Tensor, slots: Tensor) -> None:
        """Overwrite slots with the directions of the features of every rank, so that the banks of all ranks are equal.

        Args:
            features: (N, dim) of any length.
            slots: (N,) int64; of features for the same slot the first stays, lower ranks first.
        """
        features = gather(functional.normalize(features.to(self.features.dtype), dim=1))
        slots = gather(slots)
        # Writing the same slot twice has no defined order on a GPU; writing the same value twice needs none.
        first = (slots[:, None] == slots).int().argmax(1)
        self.features.index_copy_(0, slots, features[first])
        self.filled.index_fill_(0, slots, True)
