"""What every encoder promises."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from skelcl.errors import InputError
from skelcl.skeleton import Skeleton


class Encoder(nn.Module, ABC):
    """Maps clips to one feature vector each. Methods and protocols know encoders by this contract alone.

    Attributes:
        dim: Width of the features.
    """

    dim: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Features (N, dim) of clips ``x`` (N, C, T, V, M)."""

    def classifier(self, num_classes: int) -> nn.Module:
        """A new head from the features to ``num_classes`` logits, by default linear, initialised as its paper does."""
        return nn.Linear(self.dim, num_classes)

    @torch.enable_grad()  # else absent bodies share one pass, see BodyEncoder
    def maps(self, x: Tensor, over: Literal["joints", "frames"] = "joints") -> dict[str, Tensor]:
        """Graphs and attention maps of a forward pass: the weights with which joints, or frames, are aggregated.

        Layers that mix joints by a map have an attribute ``mixes`` (``joints`` or ``frames``) and a method ``mixing``,
        which takes what ``forward`` takes and gives the map that ``forward`` uses, (B, S, …, L, L) with S heads or
        subsets: what becomes of item i is the sum over j of ``map[i, j]`` times item j. B counts the bodies of the
        clips one after the other, or the clips themselves where a layer sees all bodies at once.

        Args:
            x: Clips (N, C, T, V, M). The pass is an ordinary one, so the encoder should be in eval mode.
            over: What the maps relate.

        Returns:
            Name of each such layer, in the order of the pass, and its map (N, M, S, …, L, L), or (N, 1, S, …, L, L).
            Further axes are channels or frames with maps of their own. Empty for encoders without such layers.
        """
        found: dict[str, Tensor] = {}

        def note(name: str, layer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            found[name] = layer.mixing(*args, **options).detach().unflatten(0, (len(x), -1))

        layers = [(name, layer) for name, layer in self.named_modules() if getattr(layer, "mixes", None) == over]
        hooks = [layer.register_forward_pre_hook(partial(note, name), with_kwargs=True) for name, layer in layers]
        try:
            self(x)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def layer_numbers(self) -> dict[str, int]:
        """How deep each parameter lies, by its name: what is in front of the first of ``blocks`` is layer 0.

        The blocks are layers 1 to B; what is behind the last, a final norm for example, is layer B + 1, like a
        classifier. Without ``blocks`` all is layer 0.
        """
        depth = len(getattr(self, "blocks", ()))
        numbers: dict[str, int] = {}
        behind = 0
        for name, _ in self.named_parameters():
            first, _, rest = name.partition(".")
            if first == "blocks":
                behind = depth + 1
                numbers[name] = int(rest.partition(".")[0]) + 1
            else:
                numbers[name] = behind
        return numbers

    def reset_parameters(self) -> None:
        """Redraw every weight, as after construction. An encoder with an initialisation of its own overrides this.

        Parts come before what they are part of, so the initialisation of the whole has the last word.
        """

        def reset(module: nn.Module) -> None:
            draw = getattr(module, "reset_parameters", None)
            if module is not self and callable(draw):
                draw()

        self.apply(reset)


class MapEncoder(Encoder):
    """An encoder whose features are pooled from a map over bodies, frames and joints."""

    @abstractmethod
    def feature_map(self, x: Tensor) -> Tensor:
        """Map (N, M, C', T', V') of clips ``x`` (N, C, T, V, M)."""

    @abstractmethod
    def pool(self, feature_map: Tensor) -> Tensor:
        """Features (N, dim) of a map (N, M, C', T', V')."""

    def with_map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, M, C', T', V') and features (N, dim) of clips ``x`` (N, C, T, V, M), in one pass."""
        feature_map = self.feature_map(x)
        return feature_map, self.pool(feature_map)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, dim) of clips ``x`` (N, C, T, V, M)."""
        return self.pool(self.feature_map(x))


class BodyEncoder(MapEncoder):
    """A network that sees one body at a time, after a batch norm of its own for every body slot, joint and coordinate.

    The map is averaged over frames, joints and bodies. A body that is zero throughout the clip (nobody there) passes
    the network like any other, as in the original networks. In eval mode only its slot decides what it becomes, so
    there, without gradients and outside of compiled code, one such body stands for all of its slot. On an accelerator
    this waits once for the data.

    Args:
        skeleton: Layout of the V joints.
        channels: C, the coordinates per joint.
        num_persons: M, the bodies per clip.
        shared_norm: One batch norm for all body slots instead.
    """

    def __init__(self, skeleton: Skeleton, channels: int, num_persons: int, shared_norm: bool = False) -> None:
        super().__init__()
        self.shape = (channels, skeleton.num_joints, num_persons)
        self.slots = 1 if shared_norm else num_persons
        self.data_bn = nn.BatchNorm1d(channels * skeleton.num_joints * self.slots)

    @abstractmethod
    def body_map(self, bodies: Tensor) -> Tensor:
        """Map (B, C', T', V') of normalised bodies (B, C, T, V)."""

    def classifier(self, num_classes: int) -> nn.Linear:
        """Weights N(0, 2 / classes), biases as PyTorch draws them."""
        layer = nn.Linear(self.dim, num_classes)
        nn.init.normal_(layer.weight, std=math.sqrt(2 / num_classes))
        return layer

    def feature_map(self, x: Tensor) -> Tensor:
        """Map (N, M, C', T', V') of clips ``x`` (N, C, T, V, M).

        Raises:
            InputError: C, V or M are not those that the encoder was made for.
        """
        _, c, _, v, m = x.shape
        if (c, v, m) != self.shape:
            raise InputError(
                f"{type(self).__name__} was made for channels, joints and persons {self.shape}, the clips have "
                f"{(c, v, m)}: set skeleton, channels and num_persons accordingly"
            )
        bodies = self.data_bn(rearrange(x, "n c t v (g s) -> (n g) (s v c) t", s=self.slots))
        bodies = rearrange(bodies, "n (s v c) t -> (n s) c t v", s=self.slots, v=v)
        return map_bodies(self.body_map, bodies, x, self.training)

    def pool(self, feature_map: Tensor) -> Tensor:
        """Mean over bodies, frames and joints: (N, M, C', T', V') to (N, C')."""
        return feature_map.mean((1, 3, 4))


def map_bodies(body_map: Callable[[Tensor], Tensor], bodies: Tensor, x: Tensor, training: bool) -> Tensor:
    """Maps (N, M, C', T', V') of the bodies of clips, each seen by itself.

    In eval mode, without gradients and outside of compiled code, one body that is zero throughout its clip stands for
    all such of its slot.

    Args:
        body_map: Maps (B, C', T', V') of bodies (B, C, T, V); of absent ones in one slot, it gives the same.
        bodies: What it is given of clip n and slot m, (N·M, C, T, V).
        x: The clips (N, C, T, V, M), which tell who is there.
        training: The network is in training mode.
    """
    n, _, t, v, m = x.shape
    if training or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return rearrange(body_map(bodies), "(n m) c t v -> n m c t v", m=m)
    absent = ~x.flatten(1, 3).any(1)
    own = torch.arange(n * m, device=x.device).view(n, m)
    first = own.where(absent, n * m).amin(0)
    kept, place = torch.unique(torch.where(absent, first, own), return_inverse=True)
    # On a CPU a few at a time, for the cache: 32 bodies of 64 frames and 25 joints take 1.4 to 1.7 times as long at
    # once.
    few = max(1, 16 * 64 * 25 // (t * v)) if x.device.type == "cpu" else len(kept)
    return torch.cat([body_map(part) for part in torch.split(bodies[kept], few)])[place]
