"""Clips: the ragged batch that every loader yields and every view starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from skelcl.skeleton import Skeleton

ONCE = torch.tensor(0)


@dataclass(frozen=True, eq=False)
class Clips:
    """N skeleton sequences of different lengths and body counts, without padding.

    Clip ``n`` owns ``bodies[n] * frames[n]`` rows of ``joints`` from ``offsets[n]`` on: body after body, frame after
    frame. ``joints`` may hold rows of other clips too (a whole store on the device), so choosing clips never copies
    coordinates. A frame in which a stored body was not seen is a row of NaN.

    Args:
        joints: Coordinates, (R, V, C) float32, in the units of the store.
        offsets: First row of each clip, (N,) int64.
        frames: True number of frames of each clip, (N,) int64.
        bodies: Stored bodies of each clip, at least one, (N,) int64.
        first: First frame in which body 0 was seen, (N,) int64; normalisation takes its reference there.
        label: Class of each clip, −1 when unknown, (N,) int64.
        index: Position of each clip in its store, (N,) int64.
        skeleton: Layout of the V joints.
        num_persons: M, the bodies that a view shows; further ones are left out, absent ones are zeros.
        gaps: Whether any row may be NaN. False lets views skip all masking.
        recipe: Normalisation that the coordinates went through before they reached the store; ``none``: camera space.
        repeat: How many times the epoch's list held each clip before this one, (N,) int64, where an epoch shows the
            clips several times; a scalar counts for all of them.
    """

    joints: Tensor
    offsets: Tensor
    frames: Tensor
    bodies: Tensor
    first: Tensor
    label: Tensor
    index: Tensor
    skeleton: Skeleton
    num_persons: int = 1
    gaps: bool = False
    recipe: str = "none"
    repeat: Tensor = ONCE

    def __post_init__(self) -> None:
        if not self.repeat.ndim:
            object.__setattr__(self, "repeat", self.repeat.to(self.index).expand_as(self.index).contiguous())

    def __len__(self) -> int:
        return self.offsets.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Clips:
        """The same clips on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Clips:
        """The same clips in page-locked memory; the DataLoader calls this."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, function: Callable[[Tensor], Tensor]) -> Clips:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: function(t) for name, t in values.items() if isinstance(t, Tensor)}
        return replace(self, **moved)

    def __getitem__(self, which: Tensor) -> Clips:
        """The clips at positions ``which`` (int64 or bool), sharing ``joints``."""
        per_clip = ("offsets", "frames", "bodies", "first", "label", "index", "repeat")
        return replace(self, **{name: getattr(self, name)[which] for name in per_clip})

    @property
    def reference(self) -> Tensor:
        """Body 0 in the first frame in which it was seen, (N, V, C)."""
        return self.joints[self.offsets + self.first]

    def at(self, frame: Tensor) -> Tensor:
        """Chosen frames of the first ``num_persons`` bodies.

        Args:
            frame: Frame numbers, (N, T) int64, each within its clip.

        Returns:
            (N, M, T, V, C): zeros for absent bodies, NaN where a stored body was not seen.
        """
        body = torch.arange(self.num_persons, device=frame.device)
        present = body < self.bodies[:, None]
        start = self.offsets[:, None] + torch.where(present, body * self.frames[:, None], 0)
        rows = start[:, :, None] + frame[:, None, :]
        x = self.joints.index_select(0, rows.flatten()).view(*rows.shape, *self.joints.shape[1:])
        if self.num_persons == 1:
            return x
        return x.masked_fill_(~present[:, :, None, None, None], 0.0)
