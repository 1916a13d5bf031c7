"""Time samplers: from a ragged batch of clips to views of one length."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from skelcl.bounds import PositiveInt, PositiveShare, bounded
from skelcl.clips import Clips
from skelcl.errors import InputError


@bounded
class Sampler(nn.Module, ABC):
    """Chooses T frames of every clip: the first thing a view does.

    Args:
        frames: T, the length of the view.

    Raises:
        ValueError: If ``frames`` is less than one.
    """

    def __init__(self, frames: PositiveInt) -> None:
        super().__init__()
        self.frames = frames

    @abstractmethod
    def plan(self, clips: Clips, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """What every sampled frame is made of.

        Args:
            clips: N clips of any length.
            generator: Source of randomness on the device of the clips; None is torch's own.

        Returns:
            Frames of the clip (N, T, K) int64, K of them for each sampled frame, and their weights (N, T, K), which sum
            to one, or to zero for a frame that shows nobody. K is 1 or 2.
        """

    def forward(self, clips: Clips, generator: Generator | None = None) -> Tensor:
        """The sampled coordinates.

        Args:
            clips: N clips of any length.
            generator: Source of randomness on the device of the clips; None is torch's own.

        Returns:
            x (N, C, T, V, M), exact zeros for absent bodies and missing frames.
        """
        return blend(clips, *self.plan(clips, generator))


class Truncate(Sampler):
    """The first T frames at their own speed, zeros behind shorter clips, as AS-CAL takes them.

    Args:
        frames: T, the length of the view.
    """

    def plan(self, clips: Clips, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The first T frames of every clip; those behind its end weigh nothing."""
        frame = torch.arange(self.frames, device=clips.frames.device)
        inside = frame < clips.frames[:, None]
        source = torch.where(inside, frame, 0)[..., None]
        return source, inside[..., None].to(clips.joints.dtype)


@bounded
class CropResize(Sampler):
    """A random stretch of every clip, resized to T frames by linear interpolation.

    The stretch has min(max(⌊p·L⌋, min_frames), L) of the L true frames, p uniform in ``crop``, at a uniform start:
    the temporal augmentation of CTR-GCN and of most contrastive methods.

    Args:
        frames: T, the length of the view.
        crop: Smallest and largest share p of the clip.
        min_frames: Shortest stretch in true frames; shorter clips are taken whole.

    Raises:
        ValueError: If ``crop`` is not 0 < low ≤ high ≤ 1 or a length is less than one.
    """

    def __init__(
        self, frames: PositiveInt, crop: tuple[PositiveShare, PositiveShare] = (0.5, 1.0), min_frames: PositiveInt = 64
    ) -> None:
        super().__init__(frames)
        low, high = crop
        if low > high:
            raise InputError(f"CropResize: crop must satisfy low <= high, got {low} and {high}")
        self.crop = (low, high)
        self.min_frames = min_frames

    def draw(self, clips: Clips, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Random start and length of the stretch in true frames, two (N,) int64."""
        low, high = self.crop
        share, place = torch.rand(2, len(clips), device=clips.frames.device, generator=generator).unbind()
        length = ((low + (high - low) * share) * clips.frames).long()
        length = length.clamp(min=self.min_frames).minimum(clips.frames)
        room = clips.frames - length
        return (place * (room + 1)).long().minimum(room), length

    def plan(self, clips: Clips, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """A random stretch of every clip, two frames for each of T."""
        return _resize(clips, *self.draw(clips, generator), self.frames)


@bounded
class Resize(Sampler):
    """The middle of every clip, resized to T frames by linear interpolation. Deterministic.

    Args:
        frames: T, the length of the view.
        crop: Share p of the clip that is kept: ⌊(1 − p)·L/2⌋ of the L frames are cut at either end.

    Raises:
        ValueError: If ``crop`` is not in (0, 1].
    """

    def __init__(self, frames: PositiveInt, crop: PositiveShare = 1.0) -> None:
        super().__init__(frames)
        self.crop = crop

    def plan(self, clips: Clips, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The middle of every clip, two frames for each of T."""
        # Double precision, because the published crops round a product such as 0.05·40/2 that is whole only on paper.
        cut = ((1.0 - self.crop) * clips.frames.double() / 2).long()
        return _resize(clips, cut, clips.frames - 2 * cut, self.frames)


@bounded
class ReflectCrop(Resize):
    """The clip resized to T frames, then moved in time: the temporal crop of CrosSCLR and AimCLR.

    Both ends are continued by ⌊T/ratio⌋ reflected frames, the last frame of either end twice; the view is a random
    stretch of T frames of that.

    Args:
        frames: T, the length of the view.
        ratio: T over the frames that each end is continued by; CrosSCLR and AimCLR take 6.
        crop: Share of the clip that is kept, as of :class:`Resize`.

    Raises:
        ValueError: If ``ratio`` is less than one, or ``crop`` is not in (0, 1].
    """

    def __init__(self, frames: PositiveInt, ratio: PositiveInt = 6, crop: PositiveShare = 1.0) -> None:
        super().__init__(frames, crop)
        self.padding = frames // ratio

    def draw(self, clips: Clips, generator: Generator | None = None) -> Tensor:
        """How many frames every clip moves, −padding … padding, (N,) int64."""
        width = (len(clips),)
        return (
            torch.randint(2 * self.padding + 1, width, device=clips.frames.device, generator=generator) - self.padding
        )

    def plan(self, clips: Clips, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The frames of the resized clip in their new places."""
        place = self.draw(clips, generator)[:, None] + torch.arange(self.frames, device=clips.frames.device)
        place = torch.where(place < 0, -1 - place, place)
        place = torch.where(place < self.frames, place, 2 * self.frames - 1 - place)
        source, weight = super().plan(clips)
        place = place[..., None].expand_as(source)
        return source.gather(1, place), weight.gather(1, place)


@bounded
class RandomFrames(Sampler):
    """T frames of every clip at random, in order: a frame may come several times, others not at all.

    They are drawn without replacement from ``copies`` copies of the L true frames, as CTR-GCN does on NW-UCLA with 52
    of 100·L; SDS-CL has no more copies than it needs.

    Args:
        frames: T, the length of the view.
        copies: Copies of each frame that can be drawn; clips of one frame need ``frames`` of them. None is as few as
            will do, ⌈T/L⌉: of clips that are long enough no frame comes twice, and clips of T frames are taken whole.

    Raises:
        ValueError: If not 1 ≤ ``frames`` ≤ ``copies``.
    """

    def __init__(self, frames: PositiveInt, copies: PositiveInt | None = 100) -> None:
        super().__init__(frames)
        if copies is not None and copies < frames:
            raise InputError(f"RandomFrames: copies must be at least frames = {frames}, got {copies}")
        self.copies = copies

    def draw(self, clips: Clips, generator: Generator | None = None) -> Tensor:
        """The source frame of every frame, (N, T) int64, never decreasing."""
        # Floyd's sampling: step i draws from the first P − T + i + 1 of the P things, and takes the last of these
        # instead of one that it already has. All subsets are equally likely, and no step looks at more than T things.
        length = clips.frames[:, None]
        copies = -(-self.frames // length) if self.copies is None else torch.full_like(length, self.copies)
        last = copies * length - self.frames + torch.arange(self.frames, device=length.device)
        share = torch.rand(last.shape, dtype=torch.float64, device=last.device, generator=generator)
        drawn = (share * (last + 1)).long()
        for i in range(1, self.frames):
            taken = (drawn[:, :i] == drawn[:, i : i + 1]).any(1)
            drawn[:, i] = torch.where(taken, last[:, i], drawn[:, i])
        return drawn.sort(1).values // copies

    def plan(self, clips: Clips, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Random frames of every clip, each alone."""
        return _pick(clips, self.draw(clips, generator))


@bounded
class EvenFrames(Sampler):
    """T frames of every clip at equal distances, each rounded down. Deterministic.

    Args:
        frames: T, the length of the view.
        endpoint: Up to the last frame, ⌊linspace(0, L − 1, T)⌋, the test sampling of CTR-GCN on NW-UCLA. False is that
            of SDS-CL: the first of each of T equal stretches, ⌊i·L/T⌋.
    """

    def __init__(self, frames: PositiveInt, endpoint: bool = True) -> None:
        super().__init__(frames)
        self.endpoint = endpoint

    def draw(self, clips: Clips) -> Tensor:
        """The source frame of every frame, (N, T) int64."""
        number = torch.arange(self.frames, device=clips.frames.device)
        if not self.endpoint:
            return number * clips.frames[:, None] // self.frames
        # NumPy's own steps, because rounding moves some products below the whole number that they are on paper.
        last = clips.frames[:, None] - 1
        source = (number.double() * (last.double() / max(self.frames - 1, 1))).long()
        return torch.where((number == self.frames - 1) & (number > 0), last, source)

    def plan(self, clips: Clips, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Evenly spaced frames of every clip, each alone."""
        return _pick(clips, self.draw(clips))


def present(x: Tensor) -> Tensor:
    """Which bodies are seen in which frames: any non-zero coordinate of x (N, C, T, V, M) → (N, T, M) bool."""
    rows = x.permute(0, 4, 2, 3, 1)
    if rows.is_contiguous():  # as samplers leave it: half the time
        return (torch.linalg.vector_norm(rows.flatten(3), dim=3) > 0).mT
    return x.abs().sum((1, 3)) > 0


def planar(x: Tensor) -> Tensor:
    """The same x (N, C, T, V, M), held in memory as (N, M, C, T, V).

    One 3×3 matrix then multiplies a clip in long runs, a time step is one row of joints, and the (N·M, C, T, V) that
    graph convolutions want is a view.
    """
    return x.permute(0, 4, 1, 2, 3).contiguous().permute(0, 2, 3, 4, 1)


def _pick(clips: Clips, source: Tensor) -> tuple[Tensor, Tensor]:
    """The plan of the frames ``source`` (N, T) of every clip."""
    return source[..., None], torch.ones_like(source, dtype=clips.joints.dtype)[..., None]


def _resize(clips: Clips, start: Tensor, length: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """The plan of frames [start, start + length) of every clip, linearly resized to ``frames``; half-pixel convention.

    Output i reads source u = (i + 1/2)·length/frames − 1/2, clamped to the stretch, like
    ``torch.nn.functional.interpolate(mode="linear", align_corners=False)``.
    """
    # u times 2·frames is a whole number: in integers neither the frame nor its weight suffers from rounding.
    unit = 2 * frames
    odd = torch.arange(1, unit, 2, device=length.device)
    u = (odd * length[:, None] - frames).clamp(min=0).minimum(unit * (length[:, None] - 1))
    low = u // unit
    high = (low + 1).minimum(length[:, None] - 1)
    weight = (u - low * unit).to(clips.joints.dtype) / unit
    return start[:, None, None] + torch.stack((low, high), -1), torch.stack((1 - weight, weight), -1)


def blend(clips: Clips, source: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of source frames of the shown bodies, for ``source`` and ``weight`` (N, T, K): x (N, C, T, V, M).

    Missing frames do not bleed: the source frame of the largest weight decides whether the output is present, and a
    present output ignores a missing neighbour (K is 1 or 2). Weights that are all zero give zeros.
    """
    body = torch.arange(clips.num_persons, device=source.device)[:, None, None]
    shown = body < clips.bodies[:, None, None, None]
    rows = (clips.offsets[:, None, None, None] + body * clips.frames[:, None, None, None]) + source[:, None]
    # What is not shown still has to read something finite, to be multiplied by zero.
    anywhere = (clips.offsets + clips.first)[:, None, None, None]
    if clips.gaps:
        rows = torch.where(shown, rows, anywhere)
        seen = ~clips.joints[:, 0, 0][rows].isnan()
        nearest = weight.argmax(-1, keepdim=True)[:, None].expand(-1, clips.num_persons, -1, -1)
        shown = shown & seen.gather(-1, nearest)
        rows = torch.where(seen, rows, rows.flip(-1))
    rows = torch.where(shown, rows, anywhere)
    bags = weight[:, None] * shown
    # A bag of weighted rows is gather, interpolation and masking in one pass over the coordinates.
    x = F.embedding_bag(rows.flatten(0, 2), clips.joints.flatten(1), mode="sum", per_sample_weights=bags.flatten(0, 2))
    return x.view(*rows.shape[:3], *clips.joints.shape[1:]).permute(0, 4, 2, 3, 1)
